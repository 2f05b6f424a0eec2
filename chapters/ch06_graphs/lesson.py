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
# # Chapter 6: Graphs and memory pools
#
# Since chapter 3 the whole forward has been *one launch*, and you were asked not to look inside. In this chapter
# you do. Inside are CUDA graphs: lists of kernels that the device walks through by itself. You capture them, for
# each set of IO buffers and for a few batch sizes, choose the right one for a batch, and put all of them into one
# memory pool. You will also see the two conditions under which that pool is legal, and what happens to whoever forgets
# one.
#
# - `buckets.py`: which sizes are captured, and which of them a batch uses (exercise 6.1)
# - `graph_forward.py`: the **forward**: capture, launch, one pool (exercises 6.2 to 6.4)
# - `build.py`: chapter 5's parts, with your forward in the place of the given one (nothing to fill in)
#
# The first two are yours, in `my/ch06_graphs/`. The third is given; read it in `solutions/ch06_graphs/`.
#
# About an hour and a half with the four exercises.

# %%
import sys

sys.path.insert(0, "../..")  # the repository root, seen from this notebook
from toolkit.course import open_chapter

open_chapter("ch06")  # whose code runs (COURSE_CODE); switches autoreload on

# %%
from functools import partial

import torch

from ch03_streams import IOBuffers
from ch05_double_buffering.build import build as build_before
from ch06_graphs import GraphForward, bucket_for, bucket_sizes, decode_step
from ch06_graphs.build import build
from ch08_full_engine.museum.build import graph_engine
from figures.ch06.record import eager_engine, forward, large_model_costs, memory
from figures.recorded import recorded
from toolkit.commands.decoding import Load, serve
from toolkit.device import DEVICE, accelerator, is_simulated, new_stream
from toolkit.models import load_model
from toolkit.forward import Sizes
from toolkit.source_diff import source_diff
from toolkit.timeline import plot_timeline

torch.set_num_threads(1)  # the model is tiny: a second thread costs more than it saves
model = load_model("tiny", device="cpu" if is_simulated() else "cuda").model
load = Load(model)  # 8 requests with prompts of 12 tokens, 16 new tokens each


def start_afresh():
    if is_simulated():
        accelerator.reset()


print("this notebook runs on:", accelerator.get_device_name())

# %% [markdown]
# ## 1. What a graph is
#
# A forward is a long list of small operations: more than a thousand kernels for an 8B model. The host launches them one
# by one, each some tens of microseconds of Python and driver. While a kernel takes longer than the launch of the next
# one, that does no harm. In a decode step it is often the other way round: the device is done before the next launch
# arrives.
#
# A **graph** is that list, written down once. *Capturing* runs your code on a stream that records instead of running:
# every operation with all its arguments. *Replaying* hands the list over with one launch.
#
# Below, a graph is captured of `out.copy_(x * 2 + 1)`.
#
# **Predict first.** What does the cell print, three times? Remember: capturing records.

# %%
start_afresh()
x, out = torch.ones(4, device=DEVICE), torch.zeros(4, device=DEVICE)
(x * 2 + 1).sum().item()  # a warm-up: the first call of a kernel loads it, which may be refused in a capture
graph = accelerator.CUDAGraph()
with accelerator.graph(graph):
    out.copy_(x * 2 + 1)
print("after the capture:            ", out.tolist())
graph.replay()
print("after a replay:               ", out.tolist())
x.fill_(10)
graph.replay()
print("after x.fill_(10) and a replay:", out.tolist())

# %% [markdown]
# Nothing ran in the capture: `out` was still zero. The replay used what `x` holds *then*. The graph does not know a
# variable called `x`. It knows an **address**.
#
# **Predict first.** `x = x + 100` instead of `x.fill_(...)`, then a replay. What is in `out`?

# %%
if is_simulated():
    x = x + 100
    try:
        graph.replay()
    except accelerator.CaptureError as error:
        print("CaptureError:", error)

# %% [markdown]
# `x + 100` is a new tensor at a new address, and the old one was given back to the allocator. The simulated GPU says
# so. CUDA says nothing: it reads whatever lies at the old address by now. That is why IO buffers have had static
# tensors since chapter 3, filled by `copy_`.
#
# ## 2. What it saves
#
# **Predict first.** The next cell times a decode forward twice for each batch size: launched operation by operation,
# and as a graph. On the simulated GPU a launch is declared to keep the host for 0.1 ms and each of the tiny model's 135
# kernels to take about 0.06 ms, so that they represent a large model's many more. What will the host's and the
# device's times be?

# %%
print(f"{'rows':>4}  {'':22} {'host':>9} {'until the device is done':>26}")
for row in forward(load):
    times = f"{row['host_ms']:6.2f} ms {row['device_ms']:23.2f} ms"
    print(f"{row['rows']:4}  {row['forward']:22} {times}   ({row['clock']} clock)")

# %% [markdown]
# Launched one by one, the forward takes as long as its *launches*, and the host has no time for anything else. As a
# graph it takes as long as its *kernels*, and the host is free after one launch.
#
# **Predict first.** Now a real GPU, an 8B shape and 1 to 32 rows. How many times quicker is the graph? And how much
# longer does its forward take for 32 rows than for one?
#
# ![A decode forward, launched operation by operation and as a graph](../../figures/ch06_forward.png)

# %%
for recording in recorded("ch06_forward"):
    rows = {(row["forward"], row["rows"]): row for row in recording["rows"]}
    few, many = min(rows)[1], max(rows)[1]
    one, all_rows = rows["graph", few]["device_ms"], rows["graph", many]["device_ms"]
    print(f"{recording['device']}, clock {recording['rows'][0]['clock']}")
    print(f"    as a graph: {one:.2f} ms for {few} row, {all_rows:.2f} ms for {many} rows ({all_rows / one:.2f} times)")
    slow = [row["device_ms"] for (name, _), row in rows.items() if name != "graph"]
    print(f"    launched one by one: {min(slow):.1f} to {max(slow):.1f} ms")
for recording in recorded("ch03_forward"):  # the same kernels, measured for chapter 3
    slow = next(row for row in recording["rows"] if row["forward"] == "kernel by kernel")
    if slow["clock"] == "cuda":
        print(f"{recording['device']}, on another occasion: {slow['device_ms']:.1f} ms launched one by one")

# %% [markdown]
# Two things to take from the GPU's numbers.
#
# Launched one by one, the same forward takes now this long and now that. It is not the device that differs, and hardly
# the number of rows (section 6 has all lengths with one number of rows). It is the *host* that was measured: how
# quickly Python and the driver launch, on this occasion. The graph's times are those of the device, and never fall. (On
# the simulated GPU the prices are declared, and always the same.)
#
# And they rise very little. A decode forward reads all the weights, for one row as for 32. Remember this for section 6.
#
# ### What is left
#
# A graph takes away the launches. Is the forward now as quick as it can be? There is a **floor**: the weights and the
# keys and values of all rows must be read once, and that takes their bytes over the bandwidth of the memory.
#
# **Predict first.** An 8B model in 16 bits, 3 TB/s: what is the floor without any keys and values? How near is the
# graph?
#
# ![A decode step over its floor](../../figures/roofline_step.png)

# %%
for recording in recorded("roofline_step"):
    forms = list(dict.fromkeys(row["form"] for row in recording["rows"]))
    contexts = sorted({row["context"] for row in recording["rows"]})
    found = {(row["form"], row["context"]): row for row in recording["rows"]}
    print(f"{recording['device']}, {recording['rows'][0]['rows']} rows, ms per step (times the floor)")
    print(f"{'tokens of each row in the cache':>33} " + " ".join(f"{context:>13}" for context in contexts))
    print(f"    {'the floor':28}  " + " ".join(f"{found[forms[0], c]['floor_ms']:6.2f}       " for c in contexts))
    for form in forms:
        cells = [f"{found[form, c]['ms']:6.2f} ({found[form, c]['times_floor']:4.2f})" for c in contexts]
        print(f"    {form:28}  " + " ".join(cells))

# %% [markdown]
# Not as near as one could think. The attention is not to blame. By itself, with the Triton kernels that a GPU uses here
# (`toolkit/triton_decode.py`), it reaches its own floor with long contexts. (It may even be a little below it: the
# floor is reckoned with the bandwidth of a copy, and reading alone is a little quicker.) With short contexts it takes
# longer than its floor, but that is hardly anything beside the rest of a layer:
#
# ![One layer's attention over its floor](../../figures/roofline_attention.png)
#
# The rest are some thirty small kernels beside the matrix products of each layer, each of which reads and writes its
# activations, and products of few rows that do not reach the full bandwidth. Two optional steps after loading help.
# *Merging* puts q, k and v into one product, and gate and up (`toolkit/models/merge.py`): by itself it brings little.
# *Compiling* fuses the small kernels (`toolkit/models/compiled.py`): it brings the most, and costs some seconds at the
# first capture. The model's code stays the library's in all forms. Chapter 8's benchmark uses both. They change how
# long a forward takes, and nothing of what this course is about; the floor remains.
#
# (The dotted line goes its own way, whatever there is to read. It is the host again, slower on one occasion and quicker
# on another.)
#
# ## 3. A few sizes for all batches
#
# A graph has one shape for ever. A batch has any number of rows from 1 to `max_rows`, and each captured size costs time
# and memory. So a few sizes are captured, the **buckets**: 1, 2, 4, 8, ... and `max_rows`. A batch uses the smallest
# bucket that holds it. The rows left over are *padding*: they compute nonsense.
#
# Nonsense that must do no harm to any request. A padding row writes keys and values like any other row. Where?
# `IOBuffers.load` has put the answer behind each batch since chapter 3: into the **trash block**, one block more than
# the block manager knows of. And what a padding row samples is never read.
#
# ### Exercise 6.1: a few sizes for all batches (10 minutes)
#
# In `my/ch06_graphs/buckets.py`, fill `bucket_sizes` and `bucket_for`. In a terminal at the repository's root:
#
#     make check CH=6
#     make hint EX=6.1
#
# The next cell draws the batches up to 12 rows in your buckets: `#` is a row of the batch, `.` is padding.

# %%
sizes = bucket_sizes(12)
print("buckets:", sizes)
for rows in range(1, 13):
    bucket = bucket_for(rows, sizes)
    print(f"{rows:3} rows in the bucket of {bucket:2}  " + "#" * rows + "." * (bucket - rows))

# %% [markdown]
# A padding row costs device time, but not as much as it seems: a decode forward mostly reads the weights, and those are
# read once for all rows. (Section 2 has measured it.) By the same token a smaller bucket saves less than it seems.
#
# ## 4. Capture
#
# Three rules:
#
# 1. **Warm up first.** The first call of a kernel loads it, and libraries allocate workspaces. In a capture CUDA may
#    refuse both. So the step is run once before.
# 2. **Not on the default stream.** `with accelerator.graph(graph, pool=..., stream=...)` records what is queued inside
#    the block, on a stream that is not the default one, and so does the warm-up run. The inputs were written on another
#    stream; you know since chapter 4 what that means.
# 3. **Never wait for the device in a capture.** No `.item()`, no `.cpu()`: there is nothing to wait for, and CUDA
#    raises.
#
# What the recorded operations allocate on their way comes from a **pool**: memory that stays reserved for the replays.
#
# ### Exercise 6.2: capture a step (20 minutes)
#
# In `my/ch06_graphs/graph_forward.py`, fill `GraphForward.capture`, seven lines. `self.step(...)` queues one
# forward on the current stream; `self.capturing` is the stream and `self.pool` the pool to use. `make hint EX=6.2`.
#
# The next cell captures a step of a small forward and prints what your code called.


# %%
calls = []


def small_forward(inputs, storage, sizes):
    """Ids that are the inputs plus 100. It writes down when it is called."""
    what = "recorded" if accelerator.is_current_stream_capturing() else "run"
    calls.append(f"{sizes.rows} rows {'greedy' if sizes.greedy else 'sampled'} {what}")
    return inputs["input_ids"][: sizes.samples] + 100


def small_graphs():
    """A GraphForward around small_forward, and the tensors of two sets of IO buffers with 4 rows."""
    start_afresh()
    calls.clear()
    made = GraphForward(small_forward, torch.zeros(1, device=DEVICE))
    inputs = [{"input_ids": torch.arange(4, device=DEVICE) + 10 * number} for number in range(2)]
    outputs = [torch.zeros(4, dtype=torch.int64, device=DEVICE) for _ in range(2)]
    return made, inputs, outputs


full = Sizes(tokens=4, rows=4, samples=4, width=1, num_decode_rows=4, max_query_length=1, greedy=True)
forward, inputs, outputs = small_graphs()
graph = forward.capture(inputs[0], outputs[0], decode_step(full, rows=2, greedy=True))
print("calls of the forward in capture:", calls)
outputs[0].zero_()
calls.clear()
graph.replay()
print("calls of the forward in replay: ", calls)
print("the ids after the replay:       ", outputs[0].tolist())

# %% [markdown]
# ## 5. The right graph
#
# Two sets of IO buffers, several buckets, greedy or sampled: each combination is a graph of its own. They are kept in a
# dictionary. What belongs into the key? *Everything that a capture fixes and that differs between the graphs.* What is
# forgotten does not raise an error. It replays another batch's graph, quickly and reliably.
#
# ### Exercise 6.3: the right graph for a batch (15 minutes)
#
# In the same file, fill `graph_key` and `GraphForward.launch`. A step with prompts in it has a shape of its own, and is
# launched operation by operation with `self.step`. `make hint EX=6.3`.
#
# ### Exercise 6.4: one pool for all graphs (15 minutes)
#
# In the same file: `GraphForward.__init__` makes the pool and the capturing stream, `GraphForward.capture_all` captures
# every bucket of one set of IO buffers, the largest first. `make hint EX=6.4`. The next cell captures for two sets of
# buffers and looks at the keys.

# %%
forward, inputs, outputs = small_graphs()
for number in range(2):
    forward.capture_all(inputs[number], outputs[number], full)
print("calls of the forward:", *calls, sep="\n    ")
names = {output.data_ptr(): f"buffers {number}" for number, output in enumerate(outputs)}
print("keys:", *([names.get(part, part) for part in key] for key in forward.graphs), sep="\n    ")

# %% [markdown]
# ## 6. The engine
#
# An engine is its parts, and this chapter swaps one of them. `source_diff` prints what one `build` has that another has
# not, docstrings left out. The lines without a sign are there to find your way, and `...` is what both have.
#
# **Predict first.** Which lines of chapter 5's `build` have to change, so that its forwards are graphs?

# %%
print(source_diff(build_before, build))

# %% [markdown]
# The difference of two builds is the chapter's idea, here in two lines. `GraphForward` takes the place of
# `Forward`; it has the same two methods, `capture_all` and `launch`, so the executor that calls them (chapter 4's) is
# the same, and so are buffers, scheduler and loop. And the model has to be on the accelerator: on the simulated GPU it
# is moved there, and the model's own operations are what is captured, each of them by itself, as on CUDA.
#
# **Predict first.** Two runs of the same engine: with forwards launched operation by operation, and with your graphs.
# How large is the device's idle share in either? Which lane will be full?

# %%
eager = serve(eager_engine(), load, costs=large_model_costs())
print(f"one by one: device idle {eager.recording.idle_share():6.1%}, {eager.ms_per_step:6.2f} ms per step")
plot_timeline(eager.recording, title="Two batches in flight, forwards launched one by one")

# %%
graphs = serve(build, load, costs=large_model_costs())
print(f"graphs:     device idle {graphs.recording.idle_share():6.1%}, {graphs.ms_per_step:6.2f} ms per step")
print(f"tokens that differ: {graphs.wrong_share(eager.outputs):.1%}")
if is_simulated():
    print(f"races: {len(accelerator.races())}")
plot_timeline(graphs.recording, title="Two batches in flight, each forward one graph")

# %% [markdown]
# Launched one by one, the *host* lane is full: it launches all the time, and every prepare and commit makes the device
# wait. Double buffering was of no use, since the host had no time to spare. With graphs the host launches and is free.
# That is why the chapters before needed a forward in one launch to show anything.
#
# (Even within the green bars of the first picture the device waits, between any two kernels; a bar goes from the first
# kernel to the last.)
#
# **Predict first.** On a GPU, with the 8B shape and 32 requests in two half batches. Chapter 5's forward had one size,
# so half of its rows were empty. Now a half batch of 16 has a graph of its own. How much quicker are the buckets?

# %%
for recording in recorded("ch06_engines"):
    print(f"{recording['device']}, clock {recording['rows'][0]['clock']}")
    for row in recording["rows"]:
        print(
            f"    {row['engine']:42} {row['ms_per_step']:6.2f} ms per step, host {row['host_ms_per_step']:6.2f} ms,"
            f" idle {row['idle_share']:5.1%}, {row['tokens_per_s']:5.0f} tokens/s"
        )
    slow, quick = recording["rows"][:2]
    print(f"    graphs give {quick['tokens_per_s'] / slow['tokens_per_s']:.1f} times the tokens of single launches")

# %% [markdown]
# ![Two batches in flight, forwards launched one by one](../../figures/ch06_eager_steps.png)
#
# ![Two batches in flight, each forward one graph](../../figures/ch06_steps.png)
#
# Graphs bring several times the tokens. *Buckets* bring nothing here: 16 rows take almost as long as 32, as
# section 2 has shown. They are for batches that are nearly empty, and for loads whose time goes into the rows and not
# into the weights.
#
# Look also at the idle share of the GPU under single launches. By the green bars the device is hardly ever idle. Yet it
# takes several times as long as with graphs for the same kernels, so it must wait most of the time, *within* the bars.
# The idle share of chapter 0 sees gaps between forwards; it cannot see those between kernels.
#
# ## 7. One pool
#
# A graph keeps the memory of its temporaries as long as it exists, since their addresses are written down in it. With
# 32 rows (six buckets), two sets of IO buffers, greedy and sampled, that is 24 times. Unless they share.
#
# **Predict first.** A pool for each graph, a pool for each set of buffers, one pool for all: how much memory do the
# graphs of 1 and of 2 sets hold, relative to each other?

# %%
print(f"{'IO buffers:':24} {'1 set':>10} {'2 sets':>10}")
rows = memory(load)
for pools in dict.fromkeys(row["pools"] for row in rows):
    held = [row["reserved_mb"] for row in rows if row["pools"] == pools]
    print(f"{pools:24} {held[0]:7.2f} MB {held[1]:7.2f} MB   ({rows[0]['graphs']} and {rows[1]['graphs']} graphs)")

# %% [markdown]
# With one pool a second set of buffers costs hardly more than its own tensors.
#
# **Predict first.** The same on a GPU, for 32 rows of an 8B shape. A part of each graph, its list of kernels, lives in
# the driver, outside torch's accounting. So memory is counted twice: by torch's allocator, and by what the driver says
# is gone (`mem_get_info`). How far apart will the two be?
#
# ![Memory of the graphs](../../figures/ch06_memory.png)

# %%
for recording in recorded("ch06_memory"):
    rows = recording["rows"]
    print(f"{recording['device']}, {rows[0]['max_rows']} rows")
    for pools in dict.fromkeys(row["pools"] for row in rows):
        one, two = (row for row in rows if row["pools"] == pools)
        ratio = two["reserved_mb"] / one["reserved_mb"]
        print(f"    {pools:22} {one['reserved_mb']:9.1f} MB, two sets {two['reserved_mb']:9.1f} MB: {ratio:.2f} times")
    if rows[0]["in_use_mb"] is not None:
        apart = max(abs(row["in_use_mb"] - row["reserved_mb"]) for row in rows)
        print(f"    the driver's count differs from torch's by at most {apart:.1f} MB")

# %% [markdown]
# The graphs of two sets of buffers in the memory of one, on the GPU too: that is what the pool is for. With a pool for
# each set it is twice as much, with a pool for each graph more than that again.
#
# And the graphs' lists? Where the two counts agree, the lists are not to be seen. That does not prove that they take no
# memory. Before anything was counted, an engine had been made and thrown away, so that kernels and workspaces were
# loaded. The driver may have kept what it needed for that engine's lists, and used it again. So whatever they take, it
# is not in these figures.
#
# (The simulated allocator reuses a block for exactly its own size, so there a small bucket cannot use a large one's
# memory within the pool. CUDA's allocator splits blocks, and largest-first pays. The simulated megabytes are those of a
# tiny model, and of an attention in plain torch that gathers each row's whole block table; look at the ratios.)
#
# ## 8. Why that is legal
#
# The graphs write their temporaries over each other, at the same addresses. Two conditions make that harmless, and both
# are needed:
#
# 1. **Two graphs of a pool never run at the same time.** All replays are queued on the one compute stream.
# 2. **No graph reads what another one has left in the pool,** nor does any other reader. What outlives a replay, the
#    sampled ids, was allocated *before* the capture, outside the pool. So were the inputs and the KV cache.
#
# (PyTorch's notes on graphs ask for a third: that they be replayed in the order of their capture. That protects a
# tensor which one graph leaves in the pool for a later one. Condition 2 rules out such tensors, so here any order will
# do.)
#
# Break the first one. Your forward, two sets of buffers, each replayed on a stream of its own. **Predict first:** what
# is reported?

# %%
if is_simulated():
    forward, inputs, outputs = small_graphs()
    for number in range(2):
        forward.capture_all(inputs[number], outputs[number], decode_step(full, rows=1, greedy=True))
    accelerator.synchronize()
    try:
        for number in range(2):
            with accelerator.stream(new_stream(f"compute {number}")):
                forward.launch(inputs[number], outputs[number], decode_step(full, rows=1, greedy=True))
    except accelerator.RaceError as race:
        print(race)

# %% [markdown]
# Now the second one. Somebody saves an allocation: the sampled ids of each set of buffers are made *in* a capture. All
# replays are on one stream, and each step's ids are copied out on `d2h`, behind an event, as always. Meanwhile the
# graph of the other buffers runs. **Predict first:** where do the ids of buffers 1 lie?

# %%
if is_simulated():
    forward, inputs, outputs = small_graphs()
    for number in range(2):
        with accelerator.graph(accelerator.CUDAGraph(), pool=forward.pool, stream=forward.capturing):
            outputs[number] = torch.zeros(4, dtype=torch.int64, device=DEVICE)
        forward.capture_all(inputs[number], outputs[number], decode_step(full, rows=4, greedy=True))
    accelerator.synchronize()
    compute, d2h = new_stream("compute"), new_stream("d2h")
    try:
        for number in (0, 1, 0):
            with accelerator.stream(compute):
                forward.launch(inputs[number], outputs[number], decode_step(full, rows=4, greedy=True))
            d2h.wait_stream(compute)
            with accelerator.stream(d2h):
                outputs[number].to("cpu", non_blocking=True)
    except accelerator.RaceError as race:
        print(race)

# %% [markdown]
# When the ids of buffers 1 were allocated, the pool had free memory: the temporaries of the graphs of buffers 0. There
# they lie, and the next replay of buffers 0 writes over them while they are being copied. With a pool for each set of
# buffers it would have gone well, which is how such a bug gets into an engine: it was right until somebody saved
# memory.
#
# ## 9. Find the bug
#
# Somebody finds `IOBuffers.copy_in` clumsy: allocate once and copy at every step, when `.to(...)` does both? Without
# graphs it works. (`graph_engine` is this chapter's `build`, with the buffers as an argument.)


# %%
class TidyBuffers(IOBuffers):
    """One call instead of two."""

    def copy_in(self):
        for name, host in self.host_inputs.items():
            self.device_inputs[name] = self.forward_inputs[name] = host.to(DEVICE, non_blocking=True)


tidy = partial(graph_engine, buffers=TidyBuffers)
if is_simulated():
    try:
        serve(tidy, load)
    except accelerator.CaptureError as error:
        print("CaptureError:", error)
else:
    print(f"wrong tokens: {serve(tidy, load).wrong_share(graphs.outputs):.0%}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# `.to` makes a *new* tensor, and the buffers' dictionaries now hold that one. The graph still reads the old address,
# which belongs to no tensor any more, or to another one. A prefill step is launched eagerly and reads the new tensors,
# so the first token of each request is right. On CUDA all further ones would be computed from whatever lies there,
# without any message. The simulated GPU knows that the memory was freed, and says so.
#
# </details>

# %% [markdown]
# ## 10. What this step cost, and what comes next
#
# - **Time at the start.** Each graph is warmed up and captured, before the first request: two sets of IO buffers, a
#   handful of buckets, greedy and sampled. On a GPU:

# %%
for recording in recorded("ch06_memory"):
    for row in recording["rows"]:
        if row["setup_s"] is not None and row["pools"] == "one pool":
            what = f"{row['sets']} set{'s' * (row['sets'] > 1)} of IO buffers, {row['graphs']} graphs"
            print(f"{recording['device']}, {what}: the engine is ready after {row['setup_s']:.1f} s")

# %% [markdown]
# - **Memory** that is reserved for ever: with one pool about that of the largest graph, and for each graph the list
#   itself.
# - **Fixed shapes.** Padding rows are computed. The block table keeps its full width, so an attention that reads all of
#   it, as the plain one does, works as hard for a short context as for the longest. (That is why `make run` leaves this
#   engine out: on the simulated GPU it would take most of the time. The Triton kernels, on a GPU, read only as far as
#   each row goes.)
# - **Steps with prompts** are still launched one by one, and take several times as long as a decode step, for all
#   requests in them. They can be captured too, by their number of tokens; chapter 8 does it (`step_graphs.py`).
# - **Whatever a Python `if` decided in the capture is decided for ever.** Greedy or sampled had to go into the key for
#   that reason.
#
# The forward holds no secret any more, and small half batches have graphs of their own size. But they are still half
# batches: chapter 7 lets a request be in batch N and in batch N + 1, with a map that is applied *inside* the graph.
# Your graphs come with you: chapter 7's engine runs over them, too (section 6 there).
