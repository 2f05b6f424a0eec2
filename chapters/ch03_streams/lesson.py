# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Chapter 3: Streams
#
# Chapter 2's engine takes turns with its GPU: while the host schedules and packs, the GPU has nothing to do. To end
# this, copies and computation must go on *while the host does something else*. The tools are streams, pinned memory
# and copies that do not wait. You use all three in this chapter, and the result is an engine that is faster, and wrong.
# On purpose: chapter 4 mends it, and you will know exactly what it mends.
#
# Of chapter 2's parts, one is swapped: the executor. Engine, request book, scheduler and packer stay as they are.
#
# | file | what it knows | exercise |
# |---|---|---|
# | `io_buffers.py` | the tensors through which a batch enters and leaves the device, and three events | 3.1, 3.2 |
# | `buffer_pool.py` | which IO buffers a batch goes through | |
# | `stream_executor.py` | how a batch runs over three streams | 3.3 |
# | `host_prices.py` | what the host's work costs on the virtual clock: an observer | |
# | `build.py` | how the parts are put together | |
#
# The first and the third are your files, in `my/ch03_streams/`; read the others in `solutions/ch03_streams/`.
#
# About an hour: 20 minutes of reading, 30 for the three exercises, 10 for predictions and questions; the cells run in
# less than one. From here on the code is device code. It runs unchanged on an NVIDIA GPU and, where there is none, on a
# **simulated GPU**, which section 1 introduces.

# %%
import sys

sys.path.insert(0, "../..")  # the repository root, seen from this notebook
from toolkit.course import open_chapter

open_chapter("ch03")  # whose code runs (COURSE_CODE); switches autoreload on

# %%
import torch

from ch02_continuous_batching.build import build as build_before
from ch03_streams import BufferSizes, IOBuffers, StreamExecutor, padding
from ch03_streams.build import build
from figures.accelerated import SIMULATED_KERNELS, SIMULATED_LAUNCH_MS, engine_with, one_stream_engine
from figures.ch03.copies import copy_speeds
from figures.ch03.default_stream import default_stream
from figures.ch03.record import host_waits
from figures.recorded import recorded
from toolkit.commands.decoding import Load, serve
from toolkit.device import DEVICE, accelerator, is_simulated, new_stream, new_timeline, sleep
from toolkit.models import load_model
from toolkit.predictions import guess, list_guesses
from toolkit.source_diff import source_diff
from toolkit.timeline import plot_timeline

torch.set_num_threads(1)  # the model is tiny: a second thread costs more than it saves
model = load_model("tiny", device="cpu" if is_simulated() else "cuda").model
load = Load(model)  # 8 requests with prompts of 12 tokens, 16 new tokens each

print("this notebook runs on:", accelerator.get_device_name())

# %% [markdown]
# ## 1. A stream is a queue
#
# A GPU is given work by launching it: the host puts an operation into a queue and goes on. Such a queue is a
# **stream**. Two rules say everything:
#
# - Within one stream, operations run in the order in which they were launched.
# - Between two streams there is *no* order, unless you ask for one.
#
# `with accelerator.stream(s):` chooses the stream that work goes to; without it, work goes to the **default stream**.
# (`accelerator` is `torch.cuda`, or the simulated GPU, which uses the same names.)
#
# Below, three pieces of work go to two streams. Their work is to sleep, which keeps a stream busy and nothing else: 20
# ms on the first stream, 3 ms on the second, and then 3 ms on the first again.
#
# **Predict first.** When does each of the three start? Put your number for C, the last one, in place of the dots below.
# (The dots mean "no guess"; the lesson runs with them as well. A later cell compares.)

# %%
start_of_c = guess("after A has started, C starts after, ms", ...)

# %%
if is_simulated():
    accelerator.reset()  # empty streams, virtual clock at 0
sleep(0.01)  # used once before, for a reason that section 2 explains
accelerator.synchronize()
first, second = new_stream("first"), new_stream("second")
timeline = new_timeline()
for stream, name, ms in ((first, "A", 20), (second, "B", 3), (first, "C", 3)):
    with accelerator.stream(stream), timeline.device(name, lane=f"stream '{stream.name}'"):
        sleep(ms)
recording = timeline.finish()
starts = {span.name: span.start for span in recording.spans}
start_of_c.compare((starts["C"] - starts["A"]) * 1e3, "ms")
plot_timeline(recording, title="Launched in the order A, B, C")

# %% [markdown]
# <details><summary>What happened</summary>
#
# B overtakes A, which is in another stream. C is behind A in the same stream and has to wait.
#
# </details>
#
# ### The simulated GPU
#
# If the title above says "simulated GPU", you have just used it. It is a PyTorch device written in Python
# (`toolkit/simgpu`). Tensors of device `"sim"` lie in ordinary memory, and ordinary operations on them are *queued*, on
# streams, as on a GPU. Four things make it worth more than a toy:
#
# - **It can be unlucky.** CUDA's rules leave open when queued work runs. Here a *policy* decides it; see below.
# - **It tells you about races.** A **race**: two operations touch the same bytes, at least one of them writes, and
#   nothing says which comes first. The detector follows what is ordered before what, and reports a race even if the
#   numbers came out right.
# - **It knows what time it would be.** A *virtual clock* adds up declared prices: so much for a launch, a copy, a
#   forward. Its pictures are the same on every machine. They show what overlaps with what, never how fast something
#   is, and they always say *simulated*.
# - **It writes down the host's waits**, with file and line. Section 3 uses that.
#
# | policy | queued work runs |
# |---|---|
# | `eager` | at once, when it is launched: a lucky GPU |
# | `lazy` | as late as possible: only when the host waits for it |
# | `random:7` | at any moment that the rules allow; the number fixes the dice |
# | `threads` | in one thread per stream: truly at the same time, and different every time |
#
# What it does not do is listed in the docstring of `toolkit/simgpu/__init__.py`; how far it agrees with CUDA is
# described in `docs/simulator.md`.
#
# **If you have a GPU**, this notebook runs on it, because a process that can use CUDA has no simulated GPU. Policies,
# race reports, counted waits, and the arrows and red lines in pictures are then missing, and a guess about them stays
# "not measured yet". The stored lesson in `chapters/` shows them all, and `CUDA_VISIBLE_DEVICES= make lab` runs them
# on your machine. Checks of exercises always use the simulated GPU. Note also that the model is tiny: a real GPU
# needs less than a millisecond for a step of it, and most of that is the host's work. How fast the engines are with a
# large model is what the recordings say.

# %% [markdown]
# ## 2. What the default stream really does
#
# Many articles say: the default stream waits for all other streams, and all others wait for it. Let us see. One stream
# sleeps for 150 ms; a short kernel goes to another stream, three times in a row. Three combinations, each with a kernel
# that nothing has used before.
#
# **Predict first.** In how many of the three combinations does the third call wait for the sleep, 150 ms?

# %%
waiting = guess("combinations of streams, of three, in which the third call waits for the sleep", ...)

# %%
rows = default_stream()
print(f"{'first call':>62} {'second':>11} {'third':>11}")
for name in dict.fromkeys(row["streams"] for row in rows):
    calls = [f"{row['done_ms']:8.3f} ms" for row in rows if row["streams"] == name]
    print(f"{name:50} {' '.join(calls)}")
print(f"on: {accelerator.get_device_name()}, clock: {rows[0]['clock']}\n")
waiting.compare(sum(row["done_ms"] > row["sleep_ms"] / 2 for row in rows if row["call"] == 2))

# %% [markdown]
# Apart from the first calls on a real GPU, no call takes 150 ms. In PyTorch the default stream waits for no other
# stream, and no other stream waits for it: PyTorch creates its streams so (CUDA calls them *non-blocking*). The
# articles describe streams made in another way.
#
# **The warm-up trap.** And the first calls? Here is the experiment on a real GPU:
#
# ![A short kernel while another stream sleeps](../../figures/ch03_default_stream.png)

# %%
for recording in recorded("ch03_default_stream"):
    print(f"{recording['device']}, torch {recording['torch']}, clock {recording['rows'][0]['clock']}")
    for name, calls in (("first", [0]), ("later", [1, 2])):
        times = [row["done_ms"] for row in recording["rows"] if row["call"] in calls]
        print(f"    {name} calls done after {min(times):7.2f} to {max(times):7.2f} ms")
    launched = [row["launched_ms"] for row in recording["rows"] if row["call"] == 0]
    print(f"    first calls came back to the host after {', '.join(f'{ms:.1f}' for ms in launched)} ms")

# %% [markdown]
# The first call waits for the whole sleep, and a single measurement seems to prove that the articles are right. But
# look at the third row: neither of its streams is the default stream, and its first call waits as well. It is not the
# stream, it is the first time. The first use of a kernel loads its code, and that waits until the whole device is idle.
# (In the third row the launch came back long before the sleep's end, and the kernel waited on the device all the same.)
#
# The explanation can be put to the test. CUDA loads a kernel's code at its first use only to save time and memory at
# the start; the environment variable `CUDA_MODULE_LOADING=EAGER` makes a process load everything before it runs
# anything. If loading is what the first calls wait for, that wait must be gone then:

# %%
for recording in recorded("ch03_module_loading"):
    print(recording["device"])
    for loading in ("LAZY", "EAGER"):
        firsts = [row["done_ms"] for row in recording["rows"] if row["loading"] == loading and row["call"] == 0]
        print(
            f"    CUDA_MODULE_LOADING={loading:5} first calls done after {', '.join(f'{ms:.2f}' for ms in firsts)} ms"
        )

# %% [markdown]
# With everything loaded beforehand no first call waits, in none of the three rows: it was the loading. (What is left,
# less than a millisecond, is the price of other first times.)
#
# The simulated GPU has no code to load, so it has no such trap, and the variable changes nothing there. The other
# measurements of this chapter use everything once before they measure.

# %% [markdown]
# ## 3. What makes the host wait
#
# Launching returns at once. But some calls need a *result* on the host, and wait until the device has got there. The
# device below is busy for 150 ms, and then the host makes one call.
#
# One word first. Ordinary host memory is **pageable**: the operating system may move it to another place, or out to
# disk, at any time. **Pinned** memory stays where it is. That matters because the GPU's **copy engine**, a part of the
# device that does nothing but copy, reads host memory while the host does something else. It cannot read what may move.
# So the driver has a **staging area**, which is pinned, and through it every pageable copy goes, piece by piece:
#
# ![From a pageable tensor the host copies each piece into a pinned staging area, from which the copy engine fetches it;
# from a pinned tensor the copy engine reads all by itself](../../figures/ch03_memory.png)
#
# (Back to the host it is the same in reverse.)
#
# **Predict first.** How many of these eleven calls keep the host for 150 ms? Which?

# %%
rows = host_waits()
print("\n".join(row["call"] for row in rows))

# %%
waiting_calls = guess("calls, of eleven, that keep the host until the device is done", ...)

# %%
for row in rows:
    print(f"{row['call']:45} {row['ms']:9.3f} ms   {'WAITS' if row['ms'] > row['sleep_ms'] / 2 else 'returns'}")
print(f"on: {accelerator.get_device_name()}, clock: {rows[0]['clock']}\n")
waiting_calls.compare(sum(row["ms"] > row["sleep_ms"] / 2 for row in rows))

# %% [markdown]
# ![What makes the host wait](../../figures/ch03_host_waits.png)
#
# `non_blocking=True` alone is a wish. With pageable memory it is not granted, and nothing tells you so. (A pageable
# copy *to* the device of up to 64 KB fits into the staging area as a whole, and the call returns at once. That makes it
# worse: a test with small tensors passes.)
#
# Waiting is one price of pageable memory. The other is speed, since every byte is copied twice.
#
# **Predict first.** On an H100, how many times as long does a copy of 64 MB to the device take from pageable as from
# pinned memory? (The picture holds a hint: two of its bars end later than the 150 ms of work, and one hardly does.)

# %%
times_slower = guess("a copy of 64 MB from pageable memory takes so many times as long as from pinned memory", ...)


# %%
def show_speeds(name, rows):
    print(f"{name}, clock {rows[0]['clock']}: GB/s")
    print(f"{'':12} {'to the device':>22} {'to the host':>22}")
    print(f"{'size':>12} {'pinned':>11} {'pageable':>10} {'pinned':>11} {'pageable':>10}")
    for nbytes in dict.fromkeys(row["bytes"] for row in rows):
        size = f"{nbytes // 2**20} MB" if nbytes >= 2**20 else f"{nbytes // 2**10} KB"
        print(f"{size:>12} " + " ".join(f"{row['gb_per_s']:>11.2f}" for row in rows if row["bytes"] == nbytes))


show_speeds(accelerator.get_device_name(), copy_speeds())
if is_simulated():
    costs = accelerator.Costs()
    print(f"by declaration: {costs.copy_ms} ms for any copy, and {costs.copy_bytes_per_ms / 1e6:.0f} GB/s")

# %%
for recording in (each for each in recorded("ch03_copies") if each["rows"][0]["clock"] == "cuda"):
    show_speeds(recording["device"], recording["rows"])
    to_device = [row for row in recording["rows"] if row["direction"] == "to the device" and row["bytes"] == 64 * 2**20]
    ms = {row["memory"]: row["ms"] for row in to_device}
    print(f"64 MB to the device: pinned {ms['pinned']:.1f} ms, pageable {ms['pageable']:.1f} ms\n")
    times_slower.compare(ms["pageable"] / ms["pinned"])

# %% [markdown]
# A table of the simulated GPU shows nothing but declared prices: these two, and 0.005 ms for the launch. They are the
# same for both kinds of memory (a call that waits costs 0.001 ms more). It knows who waits; it does not know how fast a
# copy is. The H100 does: 4 KB take about as long from either kind, since the call itself costs more than the bytes;
# from 4 MB on, pinned memory is four to eight times as fast.
#
# So an engine that never waits needs all of this: inputs and outputs in pinned memory, `non_blocking=True`, and none of
# `.item()`, `.cpu()`, boolean indices.
#
# ### Exercise 3.1: pinned host tensors, static device tensors (10 minutes)
#
# A batch goes through **IO buffers**: an object that holds every input twice, in pinned memory, where the host writes,
# and on the device, where the forward reads. The sampled ids have two sides as well. All of these tensors are made once
# and used for every batch. In `my/ch03_streams/io_buffers.py`, fill `IOBuffers.allocate_inputs`, three lines.
# Then, in a terminal at the repository's root:
#
#     make check CH=3       # says what is tested, and what is still wrong
#     make hint EX=3.1      # the next hint, three in all
#
# (The object also has three events, `h2d_done`, `compute_done` and `d2h_done`. This chapter makes them and leaves them
# alone; chapter 4 puts them to use.)
#
# As long as an exercise is unsolved, the notebook says so and goes on with the reference. The next cell shows your
# buffers.

# %%
if is_simulated():
    accelerator.reset()
sizes = BufferSizes(tokens=12, rows=4, width=3, trash_block=8, block_size=16)
buffers = IOBuffers(padding(sizes), DEVICE)
print(f"{'input':15} {'shape':>8} {'dtype':>8}   host side   device side")
for name, values in buffers.padding.items():
    host, on_device = buffers.host_inputs.get(name), buffers.device_inputs.get(name)
    pinned = "missing" if host is None else "pinned" if host.is_pinned() else "PAGEABLE"
    where = "missing" if on_device is None else str(on_device.device)
    dtype = str(values.dtype).removeprefix("torch.")
    print(f"{name:15} {tuple(values.shape)!s:>8} {dtype:>8}   {pinned:9}   {where}")

# %% [markdown]
# ### Exercise 3.2: copies that do not wait (10 minutes)
#
# In the same file: `IOBuffers.copy_in` and `IOBuffers.copy_out`, three lines together. `make hint EX=3.2`.
#
# The next cell keeps the device busy for 20 ms and then calls both. It prints how long the host was away, and where it
# waited.

# %%
timeline = new_timeline()
waits_before = len(accelerator.synchronisations()) if is_simulated() else 0
sleep(20)
with timeline.host("copy_in"):
    buffers.copy_in()
with timeline.host("copy_out"):
    buffers.copy_out()
accelerator.synchronize()
for span in timeline.finish().spans:
    print(f"{span.name:9} gave the host back after {(span.end - span.start) * 1e3:6.3f} ms")
if is_simulated():
    hidden = [each for each in accelerator.synchronisations()[waits_before:] if each.hidden]
    print("hidden waits:", len(hidden))
    for place in dict.fromkeys(f"{each.what} at {each.site}" for each in hidden):
        print("   ", place)

# %% [markdown]
# ### Finding a hidden wait
#
# In a program of some thousand lines, the call that waits is hard to see. The simulated GPU writes each one down.
# Below, a colleague wants to log the largest sampled id of each batch, and changes this chapter's executor, which
# section 5 describes. (`engine_with(executor)` is this chapter's `build` with another executor; `serve` runs the engine
# that it builds.)
#
# **Predict first.** What does that cost? How many times as long does a step take with the log? (On the simulated GPU
# a forward of this engine takes 8.2 ms and the host's work on a step 1.9 ms, by declaration. Without the log, the two
# overlap.)

# %%
price_of_a_log = guess("with the log, a step takes so many times as long", ...)


# %%
class LoggingExecutor(StreamExecutor):
    """A colleague's change."""

    def run(self, batch, buffers):
        super().run(batch, buffers)
        self.largest_id = buffers.device_ids.max().item()


step_ms = []
for executor in (StreamExecutor, LoggingExecutor):
    served = serve(engine_with(executor), load)
    step_ms.append(served.ms_per_step)
    print(f"{executor.__name__:15} {served.ms_per_step:6.2f} ms per step, {len(served.hidden_waits)} hidden waits")
print(f"on: {accelerator.get_device_name()}, clock: {served.recording.clock}")
if is_simulated():
    last = served.hidden_waits[-1]
    inside = str(last.site).partition("inside: ")[2]
    print(f"the last one: {last.what} at {inside}, the host lost {last.waited_ms:.2f} ms")
print()
price_of_a_log.compare(step_ms[1] / step_ms[0])

# %% [markdown]
# One line for a log, and host and device take turns again, as in chapter 2. On CUDA the line is found with
# `torch.cuda.set_sync_debug_mode("error")`, which makes it raise. (There the waits are not counted, so the table says
# 0.)
#
# ## 4. The forward in one launch
#
# One thing is in the way. The forward of an 8B model consists of more than a thousand kernels. Launched one by one
# from Python, launching takes longer than computing: the *device* waits for the host, within each forward, and nothing
# that this chapter does would be seen. So from here on the toolkit hands over the whole **forward** as *one launch*
# (`toolkit/forward.py`). On CUDA a decode step is a captured graph, on the simulated GPU every step a single operation.
# Chapter 6 says how; until then do not look inside, but remember what it is worth:
#
# ![One forward, kernel by kernel and as one launch](../../figures/ch03_forward.png)

# %%
for recording in recorded("ch03_forward"):
    print(f"{recording['device']}, clock {recording['rows'][0]['clock']}")
    for row in recording["rows"]:
        print(f"    {row['forward']:17} host {row['host_ms']:8.3f} ms, device {row['device_ms']:8.3f} ms")
print(f"(simulated: {SIMULATED_KERNELS} kernels that keep the host for {SIMULATED_LAUNCH_MS} ms each, by declaration)")

# %% [markdown]
# ## 5. Three streams
#
# Now the executor. Per batch there are three things to queue: copy the inputs in, run the forward, copy the sampled ids
# out. A GPU has separate copy engines, one for each direction, so each of the three gets a stream: `h2d` (host to
# device), `compute`, `d2h` (device to host).
#
# How does an engine with this executor differ from chapter 2's? That can be read off the two `build` functions. The
# next cell prints what differs: lines of chapter 2 with a minus, lines of this chapter with a plus.
#
# **Predict first.** An engine's parts are `entrance`, `scheduler`, `packer`, `executor`, `book` and `observers`. Which
# of them are of another class than in chapter 2? Write names in quotes, such as `["packer", "book"]`.

# %%
changed_parts = guess("parts of the engine that are of another class than in chapter 2", ...)

# %%
print(source_diff(build_before, build))
if is_simulated():
    accelerator.reset()
before, after = build_before(model), build(model)
names = ("entrance", "scheduler", "packer", "executor", "book", "observers")
changed_parts.compare([name for name in names if type(getattr(before, name)) is not type(getattr(after, name))])

# %% [markdown]
# The executor alone. One other part has got something more to do: the observers have `HostPrices` among them, which
# tells the virtual clock what the host's work costs. All else belongs to the executor and to what it is made of: a
# `forward` that is one launch (section 4), and a `pool` with one set of IO buffers. The handle that `launch` returns is
# an `IOBuffers` object now, as the return type says. The other parts are the same, and know nothing of streams. **The
# difference of two builds is the chapter's idea**; each of the following chapters shows it.
#
# ### Exercise 3.3: a stream for each direction (10 minutes)
#
# In `my/ch03_streams/stream_executor.py`, fill `StreamExecutor.queue`, six lines. Its own `copy_in`, `run` and
# `copy_out` queue the three pieces of work; you say on which streams. Add no waits. `make check CH=3`,
# `make hint EX=3.3`.
#
# **Predict first.** The host waits for nothing now. When does the copy out of the first batch start? And how far does
# the host get, which batch is the last one that it has begun to prepare when the device is through with the first
# forward?

# %%
host_is_at = guess("when the first forward is done, the host has begun to prepare batch number", ...)

# %%
streams = serve(build, load)
first_step = streams.recording.steps()[0]
end_of_first = next(span.end for span in streams.recording.spans if (span.name, span.step) == ("forward", first_step))
prepared = [s.step for s in streams.recording.spans if s.name == "prepare" and s.start < end_of_first]
host_is_at.compare(max(prepared))
plot_timeline(streams.recording, title="Three streams, nothing orders them", steps=(first_step, first_step + 3))

# %% [markdown]
# <details><summary>What happened</summary>
#
# All three lanes start together: copy in, forward and copy out of the first batch, at the same moment. The copy out
# brings the sampled ids home *before the forward has computed them*. And the host, which waits for nothing, has
# committed several batches while the device still works on the first.
#
# </details>
#
# The same engine, recorded with an 8B shape (random weights) and 32 requests; the title names the device. The host is
# through with all its batches while the device is still at the third. (On a GPU the first launch of a graph takes the
# host longer than all later ones, so there the first copy out comes a little later.)
#
# ![Three streams, nothing orders them](../../figures/ch03_steps.png)
#
# What did it gain? Compare with the same parts on a single stream, with a host that waits at the end of each step:

# %%
one_stream = serve(one_stream_engine(), load)
for name, served in (("one stream", one_stream), ("three streams", streams)):
    idle = served.recording.idle_share()
    print(f"{name:13} {served.ms_per_step:6.2f} ms per step, device idle {idle:6.1%}")
ceiling = 1 / (1 - one_stream.recording.idle_share())
print(f"gain {one_stream.ms_per_step / streams.ms_per_step:.2f}; the ceiling from the idle share was {ceiling:.2f}")
print(f"on: {accelerator.get_device_name()}, clock: {streams.recording.clock}")

# %% [markdown]
# On the simulated GPU that is the whole gain that chapter 0 promised: the device is never idle. The 8B shape on the
# H100 gained all that it could as well: 9.9 ms a step with the device idle for 5.1 % became 9.4 ms with 0.0 %
# (recorded for chapter 4). With the tiny model on a real GPU it is another matter. Its forward is shorter than the
# host's work on a step, so the device waits for the host with three streams too, and so short a run may even come out
# slower.
#
# If only the tokens were right.
#
# ## 6. Right by luck
#
# **Predict first.** The engine has no order between its streams. Is its answer wrong always, sometimes, or only on some
# machines? Say it for the simulated GPU: under which of the policies `"eager"`, `"lazy"`, `"random:0"` and `"random:1"`
# is *every* token right? (Section 1 says what they do. `"none"` is an answer, too.)

# %%
right_under = guess("policies under which every token is right", ...)


# %%
def compare(name, served):
    print(f"{name:24} {served.wrong_share(one_stream.outputs):6.1%} wrong, request 0: {served.outputs[0][:9]} ...")


compare("one stream", one_stream)
if is_simulated():
    right_policies = []
    for policy in ("eager", "lazy", "random:0", "random:1"):
        served = serve(build, load, policy)
        compare(f"three streams, {policy}", served)
        right_policies += [policy] if served.wrong_share(one_stream.outputs) == 0 else []
    right_under.compare(right_policies or ["none"])
else:
    compare("three streams", streams)

# %% [markdown]
# <details><summary>What happened</summary>
#
# Under `eager`, the simulated GPU's lucky policy, every token is right. A test on that machine passes. Under the
# others, which are just as legal, nearly every token is wrong. The random ones are wrong in different ways.
#
# </details>
#
# A real GPU is something in between. Copies of a few hundred bytes take microseconds, so the inputs may well be there
# when the forward starts. The sampled ids cannot: they take a whole forward, and nothing waits for that. To see what a
# program *allows*, and not what happens to happen, make one stream late: `sleep` keeps it busy, and nothing else.


# %%
class LateExecutor(StreamExecutor):
    """The copies in come 5 ms later than they could."""

    def copy_in(self, batch, buffers):
        sleep(5)
        super().copy_in(batch, buffers)


for run in range(3):
    compare(f"copies in late, run {run}", serve(engine_with(LateExecutor), load, "threads"))

# %% [markdown]
# On the simulated GPU this ran under `threads`: real threads, sleeping in real time, and no dice. The same experiment
# on a GPU, with the 1B shape and copies that come 20 ms late, five runs of each kind:
#
# ![Wrong tokens, run by run](../../figures/ch03_wrong.png)

# %%
for recording in recorded("ch03_wrong"):
    print(recording["device"])
    for name in dict.fromkeys(row["engine"] for row in recording["rows"]):
        shares = [row["wrong_share"] for row in recording["rows"] if row["engine"] == name]
        print(f"    {name:30} wrong tokens in {sum(share > 0 for share in shares)} of {len(shares)} runs")

# %% [markdown]
# (On the simulated GPU the first two ran under `eager`, the third under five seeds of `random`.)

# %% [markdown]
# ## 7. Read a race report
#
# Numbers are a poor witness: wrong ones say that something is wrong, right ones say nothing. The detector compares
# what is *ordered* instead. Here is what it says about your engine, under the policy that gave the right numbers. (It
# belongs to the simulated GPU. On a real one the cells of this section print nothing, and the picture has no red
# lines; see the stored lesson.)
#
# **Predict first.** A kind of race is a pair of operations that touch the same bytes with nothing to order them: the
# forward reads the inputs that a copy writes, for instance. How many kinds are there, one batch after the other through
# the same IO buffers, the host included?

# %%
kinds = guess("kinds of race", ...)

# %%
if is_simulated():
    served = serve(build, load, "eager")
    compare("three streams, eager", served)
    races = {}
    for race in accelerator.races():
        races.setdefault((race.first.name, race.second.name, race.missing_edge), race)
    print(f"{len(accelerator.races())} races, of {len(races)} kinds. The first one:\n")
    print(f"{accelerator.races()[0]}\n")
    kinds.compare(len(races))

# %% [markdown]
# Line by line:
#
# 1. **RACE on ...**: the memory that both touch, by name, shape, dtype and place: the input ids of the first batch, on
#    the device.
# 2. **1st writes**: what was launched first, on which stream, and the line of *your* code that launched it: the copy to
#    the device, on h2d. (Where your line called something that launched it, that line follows below, after *inside*.)
# 3. **2nd reads**: the other one: the forward, on compute.
# 4. **Missing edge**: what to add. An *edge* is an order between two queues. The words "event", "record" and
#    "wait_event" are those of chapter 4.
#
# The same for one step, drawn. A dashed red line joins two operations that nothing orders; a red arrow is the edge
# that is missing between them, from the end of the first to the start of the second:

# %%
one_step = (first_step, first_step)
plot_timeline(streams.recording, title="Three edges are missing", steps=one_step, edges=True, races=True)

# %% [markdown]
# When a check of chapters 3 to 9 finds a race, `make check` writes this picture of your run, and a page to zoom into,
# and says where they are.
#
# The other kinds of race, one line each:

# %%
if is_simulated():
    for race in races.values():
        print(f"{race.buffer}: {race.first.name} on {race.first.lane} / {race.second.name} on {race.second.lane}")
        print(f"    {race.missing_edge}")

# %% [markdown]
# Three of them you could have drawn: the forward needs the inputs, the copy out needs the ids, the host needs the copy
# out. The other three go from one batch to the next: the IO buffers are filled again while the work of the last batch
# may still use them.
#
# Keep the number in mind. Chapter 4 adds three edges, not six, and all six kinds are gone. Can you say why?
#
# ## 8. Find the bug
#
# A colleague has made the copy of the sampled ids asynchronous. It is as slow as before, and the timeline shows a
# "wait" in the middle of `launch`. Why?
#
# ```python
# self.host_ids = torch.zeros(rows, dtype=torch.int64)
# self.device_ids = torch.zeros(rows, dtype=torch.int64, device="cuda")
# ...
# with torch.cuda.stream(self.d2h):
#     self.host_ids.copy_(self.device_ids, non_blocking=True)
# ```
#
# <details><summary>Answer</summary>
#
# `host_ids` is pageable: `pin_memory=True` is missing. A copy from the device to pageable memory waits, whatever
# `non_blocking` says. It waits for the d2h stream; once that stream waits for compute, the host waits for the forward,
# in `launch`. The numbers are right, so no test of the tokens finds it. `synchronisations()` does, with the line.
#
# </details>

# %%
if is_simulated():
    accelerator.reset()
    device_ids, host_ids = torch.zeros(8, dtype=torch.int64, device=DEVICE), torch.zeros(8, dtype=torch.int64)
    sleep(20)
    host_ids.copy_(device_ids, non_blocking=True)
    print(*(f"{each.what}, {each.waited_ms:.2f} ms lost (simulated)" for each in accelerator.synchronisations()))

# %% [markdown]
# ## 9. What this step cost, and what comes next
#
# - **Memory**: each input exists twice, and pinned memory cannot be swapped out. For the IO buffers of section 3:

# %%
pinned = sum(host.nbytes for host in buffers.host_inputs.values()) + buffers.host_ids.nbytes
on_device = sum(each.nbytes for each in buffers.device_inputs.values()) + buffers.device_ids.nbytes
print(f"{pinned} bytes pinned, {on_device} bytes on the device")

# %% [markdown]
# - **Size limits**: static tensors have a largest size. Batches beyond it cannot run, smaller ones leave padding.
# - **Correctness**: lost. It used to be for free, since one queue keeps everything in order.
#
# Chapter 4 buys it back with events: three edges, and one single place where the host waits. Predict its speed before
# you open it. The order will be right; what will the host do while it waits?
#
# Your predictions of this chapter:

# %%
list_guesses()

# %% [markdown]
# ## Check yourself
#
# <details><summary>Two kernels go to one stream, a third to another. Which of the three may run at the same
# time?</summary>
#
# The third with either of the first two: between streams there is no order. The first two never, since a stream runs
# its operations one after the other.
#
# </details>
#
# <details><summary>A test copies 1,000 numbers to the device with <code>non_blocking=True</code> and finds that the
# host does not wait. What does that say about the copy of a batch?</summary>
#
# Little. 4 KB or 8 KB fit into the staging area, so the call returns at once even from pageable memory. With more than
# 64 KB it waits, unless the memory is pinned. Ask `is_pinned()`, or test with a large tensor.
#
# </details>
#
# <details><summary>Why are the device's tensors allocated once, and not with every batch?</summary>
#
# A forward that is one launch (on CUDA a captured graph) reads and writes fixed addresses. A new tensor has another
# address, and the forward would not see it. Besides, allocating costs time in every step, and pinning memory costs a
# lot.
#
# </details>
#
# <details><summary>The tokens are right under <code>eager</code>, and the detector reports races. Which of the two do
# you believe?</summary>
#
# Both. The tokens *are* right, in this order of events; the report says that another order is allowed, in which they
# need not be. The program is wrong, and has been lucky.
#
# </details>
#
# <details><summary>Someone measures a kernel's first call beside a sleeping stream and concludes that the default
# stream waits for all others. What should they have done?</summary>
#
# Called everything once, waited for the device, and only then measured. The first call pays for loading the code.
#
# </details>
#
# ### Two stretch tasks
#
# - Each input has a copy of its own, and each copy a launch. The cell under exercise 3.2 says how long `copy_in` keeps
#   the host. Get that down to a fifth: one pinned and one device tensor of bytes for all inputs, of which `host_inputs`
#   and `device_inputs` hold views, and a single copy. (Views of another dtype must begin at a multiple of its size.
#   Chapter 8 does it in `packed_buffers.py`.)
# - From which size on does a pinned copy reach half of its best speed? Find it with `copy_speeds` by trying sizes
#   between 256 KB and 4 MB (`figures/ch03/copies.py`, `SIZES`). On the simulated GPU you can work it out from its
#   prices first: how near do you come?
