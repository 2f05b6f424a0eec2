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
# # Chapter 5: Double buffering
#
# Chapter 4's engine is right, and its host does nothing while the device works. In this chapter the host prepares the
# next batch in that time. It needs a second set of IO buffers, a second batch that does not depend on the first, and
# another order of the same three functions. Then the device never waits. You will also see what that costs.
#
# Three parts are swapped, each in a file of its own with one exercise:
#
# - `half_batches.py`: a scheduler that takes half of the requests (5.1)
# - `buffer_ring.py`: IO buffers for two batches, used in turns (5.2)
# - `pipelined_engine.py`: the loop with two batches in flight (5.3)
#
# `build.py` puts them together (given, in `solutions/ch05_double_buffering/`). The executor is that of chapter 4. A
# fourth file, `forecast.py`, says how fast such a loop will run on a given machine (5.4).
#
# About an hour and a quarter: 20 minutes to read, 45 for the four exercises, and a few to run the cells and to look at
# what they show.

# %%
import sys

sys.path.insert(0, "../..")  # the repository root, seen from this notebook
from toolkit.course import open_chapter

open_chapter("ch05")  # whose code runs (COURSE_CODE); switches autoreload on

# %%
import textwrap
from collections import Counter

import torch
from IPython.display import display

from ch02_continuous_batching import Observer, SamplingParams
from ch04_events import EventExecutor
from ch04_events.build import build as build_before
from ch05_double_buffering.build import build
from ch05_double_buffering.forecast import fewest_in_flight, pace
from figures.recorded import recorded
from toolkit.commands.decoding import Load, serve
from toolkit.commands.variants import variant
from toolkit.device import accelerator, is_simulated
from toolkit.in_flight import keep_in_flight, settled, step_ms
from toolkit.machine import Machine
from toolkit.models import load_model
from toolkit.predictions import guess, list_guesses
from toolkit.source_diff import source_diff
from toolkit.timeline import in_turns, owners, plot_timeline

torch.set_num_threads(1)  # the model is tiny: a second thread costs more than it saves
model = load_model("tiny", device="cpu" if is_simulated() else "cuda").model
load = Load(model)  # 8 requests with prompts of 12 tokens, 16 new tokens each
one_batch = serve(build_before, load)

print("this notebook runs on:", accelerator.get_device_name())

# %% [markdown]
# ## 1. What can the host do while it waits?
#
# Prepare the next batch, of course. Two things are in the way.
#
# **The IO buffers are taken.** The batch in flight reads its inputs from them. So there are **two sets**, each with its
# own pinned tensors, device tensors and events. The host writes into one while the device works from the other. That is
# called double buffering.
#
# **The next token is not there yet.** A request that decodes in batch N needs, as its input for batch N + 1, the token
# that batch N is about to compute. It cannot be in both. But *another* request can. So the requests form two groups:
# while the device computes a batch of one group, the host prepares a batch of the other.
#
# ### Exercise 5.1: half of the requests (5 minutes)
#
# In `my/ch05_double_buffering/half_batches.py`, fill `HalfBatchScheduler.rows_limit`: at most half of the requests that
# could run, rounded up, go into one batch. Chapter 2's scheduler passes over those in flight anyway (they have no token
# to compute), so two groups that take turns form by themselves. In a terminal at the repository's root:
#
#     make check CH=5
#     make hint EX=5.1
#
# The next cell draws which request is in which batch. To know that, it adds an observer to your engine. An observer is
# told of each phase of a step, and changes nothing.


# %%
class Trace(Observer):
    """Writes down what an engine does.

    Attributes:
        calls: what the engine has called, in order, such as "launch 3".
        batches: the requests of each batch, by number.
        used: for each batch, which of the pool's IO buffers it goes through.
    """

    def __init__(self, engine):
        self.engine = engine
        self.calls, self.batches, self.used = [], [], []
        self.step = 0

    def host(self, phase, *, step):
        self.step = step
        if phase != "wait":
            self.calls.append("prepare nothing" if phase == "prepare" else f"{phase} {step}")
        return super().host(phase, step=step)

    def work(self, phase, *, rows):
        if phase == "prepare":  # it is told of work only if there is any
            self.calls[-1] = f"prepare {self.step}"

    def committed(self, batch):
        self.batches.append({int(row.request.request_id) for row in batch.rows})

    def stepped(self, scheduler, outputs, *, idle):
        for batch, buffers in self.engine.in_flight:
            if batch.step == len(self.used):  # launched in this step
                self.used.append(self.engine.executor.pool.buffers.index(buffers))


def trace(new_tokens):
    """Run your engine with a request for each of these numbers of tokens, and return what it did."""
    if is_simulated():
        accelerator.reset(on_race="collect")
    few = Load(model, len(new_tokens), prompt_len=6, new_tokens=max(new_tokens))
    engine = build(model, **few.limits)
    seen = Trace(engine)
    engine.observers.others += (seen,)
    for number, (prompt, tokens) in enumerate(zip(few.prompts, new_tokens, strict=True)):
        engine.add_request(str(number), prompt, SamplingParams(max_tokens=tokens, ignore_eos=True))
    for _ in range(100):  # more steps than it needs
        if engine.has_work:
            engine.step()
    return seen


def draw(seen):
    """Which request was in which batch."""
    print("batch     " + " ".join(f"{step:2}" for step in range(len(seen.batches))))
    for request in sorted(set().union(*seen.batches)):
        print(f"request {request} " + " ".join(" #" if request in batch else " ." for batch in seen.batches))


draw(trace([4] * 7))

# %% [markdown]
# Each request is in every second batch, and no request is in two batches in a row.
#
# ### Exercise 5.2: buffers that no batch uses (5 minutes)
#
# In `my/ch05_double_buffering/buffer_ring.py`, fill `BufferRing.buffers_for`, one line. It chooses one of
# `self.buffers` for a new batch. At most two batches are in flight, the new one and the one before it.
# `make hint EX=5.2`.

# %%
seen = trace([4] * 7)
print("batch       " + " ".join(f"{step:2}" for step in range(len(seen.used))))
print("IO buffers  " + " ".join(f"{number:2}" for number in seen.used))

# %% [markdown]
# ### Exercise 5.3: launch the next before you commit the last (20 minutes)
#
# In `my/ch05_double_buffering/pipelined_engine.py`, fill `PipelinedEngine.advance`, six lines. The three
# functions stay what they are. Only their order changes:
#
#     one batch in flight:    prepare 0, launch 0, commit 0, prepare 1, launch 1, commit 1, ...
#     two batches in flight:  prepare 0, launch 0, prepare 1, launch 1, commit 0, prepare 2, launch 2, commit 1, ...
#
# There are three situations: the start, where nothing is in flight; the steady state; and the end, where there is
# nothing to prepare and one batch is still to be committed. `make hint EX=5.3`. This is what your engine calls:

# %%
print(*textwrap.wrap(", ".join(trace([4] * 7).calls), 110), sep="\n")

# %% [markdown]
# ### The three together
#
# Each of the three would be wrong or useless without the others. Two batches in flight need two sets of IO buffers, and
# requests that are in one of them only. This is what `build` does differently from chapter 4's:

# %%
print(source_diff(build_before, build))

# %% [markdown]
# Three swaps: the scheduler, the pool of IO buffers, and the engine, which is the loop. What is *not* in the list says
# as much. The executor is chapter 4's, line by line: it launches a batch on three streams and does not ask how many
# others are in flight. Request book and packer have not changed since chapter 2.
#
# ## 2. Overlap
#
# **Predict first.** The next cell prints for which share of the time the device is idle with one batch in flight, and
# how long a step takes. What will they be with two?
#
# Predictions are cells like the one below it. Put a number (or the words that are asked for) in place of the dots and
# run the cell; a later one compares it with what was measured. The lesson also runs with the dots left in place.

# %%
print(f"one in flight: device idle {one_batch.recording.idle_share():.1%}, {one_batch.ms_per_step:.2f} ms per step")

# %%
idle_guess = guess("two in flight: share of the time for which the device is idle, %", ...)
step_guess = guess("two in flight: time per step, ms", ...)

# %%
two_batches = serve(build, load)
idle_guess.compare(round(100 * two_batches.recording.idle_share(), 1), "%")
step_guess.compare(two_batches.ms_per_step, "ms")
print(f"wrong tokens: {two_batches.wrong_share(one_batch.outputs):.1%}")
if is_simulated():
    print(f"races: {len(accelerator.races())}")
recording = in_turns(two_batches.recording, 2)  # a GPU's recording does not say which IO buffers a step went through
plot_timeline(recording, title="Two batches in flight", edges=True)

# %% [markdown]
# The colour says through which set of IO buffers a batch goes. Follow one batch. It is prepared and launched while the
# device still works on the batch before; its forward starts the moment that one ends; the host commits the older batch
# in the shade of it. Every prepare and every commit lies *under* a forward. The gap is closed, the tokens are right,
# and nothing is reported.
#
# (On a real GPU the tiny model's forward takes less time than the host's work, so gaps are left here, only shorter
# ones. The recordings below are of larger models.)
#
# **Predict first.** Which batch has which set when? Draw a row for each of the two: when is it copied in, computed
# with, copied out? And for which share of the time does a set belong to no batch?

# %%
free_guess = guess("share of the time in which a set of IO buffers belongs to no batch, %", ...)

# %%
loaded = {span.step: span.start for span in recording.spans if span.name == "copy in"}
left = {span.step: span.end for span in recording.spans if span.name == "copy out"}
pairs = [(left[step], loaded[step], loaded[step + 2]) for step in loaded if step in left and step + 2 in loaded]
free = sum(next_load - end for end, _, next_load in pairs) / sum(next_load - load for _, load, next_load in pairs)
free_guess.compare(round(100 * free, 1), "%")
plot_timeline(owners(recording), title="Which batch has which IO buffers when")

# %% [markdown]
# A set belongs to one batch at a time, from the load (in `launch`, right before the copy in) to the end of the copy
# out. The host loads batch N + 2 into the set of batch N only after that. From copy in to forward a batch waits for
# its turn; from copy out to the next copy in the set is free. (With the tiny model on a real GPU, most of the time.)
#
# Recorded with an 8B shape (random weights) and 32 requests; the title names the device:
#
# ![Two sets of IO buffers, two half batches in turns](../../figures/ch05_steps.png)
#
# ### Who has which tensor when
#
# A set of IO buffers is four kinds of tensors, and each is handed on during a step. The events of chapter 4 mark when:
#
# | tensors of a set | written by | read by | this batch is through with them at |
# |---|---|---|---|
# | inputs, pinned | the host (`load`) | copy in | `h2d_done` |
# | inputs, on the device | copy in | forward | `compute_done` |
# | sampled ids, on the device | forward | copy out | `d2h_done` |
# | sampled ids, pinned | copy out | the host (`read_ids`, in `commit`) | the end of `read_ids` |
#
# So the pinned inputs are free long before the set is. The engine does not use that: it hands on a whole set, when all
# of it is free, and waits for one event a batch. Section 4 shows what happens when there are too few sets.
#
# ### When requests end unevenly
#
# So far all requests have ended together. Now the first four want 3 tokens each and the last four want 9. At the start
# 0 to 3 are one group and 4 to 7 the other. After its third batch, the first group is gone.
#
# **Predict first.** How many batches does the engine launch in all? And in how many steps does it launch nothing,
# though requests are left that want tokens?

# %%
batches_guess = guess("four requests want 3 tokens and four want 9: batches in all", ...)
gaps_guess = guess("steps that launch nothing, though requests are left that want tokens", ...)

# %%
seen = trace([3, 3, 3, 3, 9, 9, 9, 9])
draw(seen)
batches_guess.compare(len(seen.batches))
gaps_guess.compare(seen.calls.count("prepare nothing") - 1)  # not the last one: all is launched by then

# %% [markdown]
# <details><summary>What happened</summary>
#
# The groups are not lists. `rows_limit` counts in each step who is left, and allows half of that. When batch 4 was
# committed, four requests were left, all of them in batch 5. So there was nothing to prepare: the step committed batch
# 5, and the device had a gap. After that all four were free, the limit was two, and they form two groups again. That is
# 6 batches with both groups and 12 with the halves of the second.
#
# </details>
#
# A group that becomes smaller, but not empty, leaves no gap. Here three requests of the first group end, and request 3
# is left alone in it:

# %%
seen = trace([3, 3, 3, 9, 9, 9, 9])
draw(seen)

# %% [markdown]
# Four are left, so the limit is two. Request 3 is alone in batch 6, since the other three are in flight. Of these
# three, two go into batch 7, and request 6 sits out. It joins request 3 in batch 8: it has changed groups, at the price
# of one batch's delay. (If requests were waiting, they would be counted, too, and up to three of them would join
# request 3 in batch 6.) And when a single request is left, there is no other group to overlap with, so each of its
# steps has a gap.
#
# ## 3. The price
#
# A step is shorter, and the device idles less, on the simulated GPU not at all. That must be faster.
#
# **Predict first.** How many times the tokens per second of one batch in flight will two half batches make?

# %%
ratio_guess = guess("two half batches in flight: times the tokens per second of one batch", ...)

# %%
print(f"{'':13} {'idle':>6} {'ms/step':>8} {'steps':>6} {'tokens/step':>12} {'tokens/s':>9}")
for name, run in (("one in flight", one_batch), ("two in flight", two_batches)):
    print(
        f"{name:13} {run.recording.idle_share():6.1%} {run.ms_per_step:8.2f} {run.steps:6}"
        f" {run.new_tokens / run.steps:12.1f} {run.tokens_per_second:9.0f}"
    )
ratio = two_batches.tokens_per_second / one_batch.tokens_per_second
ratio_guess.compare(ratio, "times")
print("clock:", two_batches.recording.clock)

# %% [markdown]
# <details><summary>What happened</summary>
#
# It got **slower**, although the device is busy for more of the time. What is it busy with? A decode forward reads all
# weights of the model, and that takes nearly the same time for 4 rows as for 8. With half batches the weights are read
# twice to give every request one token. The idle share has gone down by doing the work twice.
#
# (With the tiny model on a real GPU the loss is small: there the host is the longer part, in both engines.)
#
# </details>
#
# (On the simulated GPU these prices are declared: the forward's in `toolkit/forward.py`, the host's in chapter
# 3's `host_prices.py`. They are round figures in the range of an 8B model.)
#
# So remember: the *idle share* says for how much of the time the device works. It does not say on what. It gives the
# ceiling of the gain only while the work stays the same.
#
# When would it pay? Let a forward for n rows take w + c·n (read the weights once, and something per row), and the
# host's work h in total. One batch at a time needs h + w + c·n for n tokens. Two half batches need two forwards of half
# the rows, if the host is quick enough: 2w + c·n. That is less if
#
#     w < h
#
# in words: if the host takes longer than one reading of the weights. The recordings, chapter 4's engine with one batch
# at a time against this chapter's with two half batches in flight:
#
# ![One batch in flight against two](../../figures/ch05_price.png)

# %%
for recording in recorded("ch05_price"):
    rows = recording["rows"]
    print(f"{recording['device']}, clock {rows[0]['clock']}")
    for one, two in zip(rows[::2], rows[1::2], strict=True):
        case, gain = f"{one['model']:2} {one['requests']:4} requests", two["tokens_per_s"] / one["tokens_per_s"]
        forward = (1 - one["idle_share"]) * one["ms_per_step"]
        step = f"step {one['ms_per_step']:5.2f} ms, forward {forward:5.2f}, idle {one['idle_share']:5.1%}"
        line = f"    {case}: {step}; two in flight: {gain:.2f}x the tokens"
        if one["clock"] == "cuda":  # two forwards, each as long as one for all requests
            line += f" (expected {one['ms_per_step'] / (2 * forward):.2f})"
        print(line)

# %% [markdown]
# The host's work grows with every row, so with very many rows, or a small model, it can take longer than one reading of
# the weights. On the GPU the condition is harder than the formula says. The given forward was captured once, for all
# rows of the IO buffers. A half batch leaves half of them empty, and they take their time all the same: two half
# batches need two *whole* forwards, where one batch needs one and the host's work. That is the "expected" of the table.
# So there two in flight win only if the host takes longer than the forward: an engine that is idle for more than half
# of the time, whose host should be made faster first. (Chapter 6 captures it in several sizes, and shows how little
# that helps.)
#
# A bad bargain for most loads, then. The second set of IO buffers and the order of the calls are worth keeping, and all
# later chapters keep them. What has to go is the rule that a request cannot be in N and N + 1. Chapter 7 removes it.
#
# ## 4. When is a hazard real?
#
# Two batches in flight, two sets of IO buffers. Are two enough? There are two opinions. One says: "batch N + 2 writes
# into the buffers of batch N, so the host needs another wait before it." The other says: "if two are good, one set with
# careful events will do as well."
#
# An engine is made of parts, so all variants can be tried. `variant` (given; read its file only when 5.2 and 5.3 are
# solved) keeps the other parts of your engine and swaps ring and loop, for ones that take any number.
#
# **Predict first.** Batches in flight / sets of IO buffers: which of `"1/1"`, `"2/2"`, `"2/1"`, `"2/3"` race? (The
# simulated GPU reports it. On a real one this section's cells do nothing, and section 6's table is left out: their
# outputs are in the committed notebook, in `chapters/`.)

# %%
racing_guess = guess("batches in flight / sets of IO buffers: which race, of 1/1, 2/2, 2/1, 2/3", ...)

# %%
if is_simulated():
    racing = []
    for in_flight, sets in ((1, 1), (2, 2), (2, 1), (2, 3)):
        served = serve(variant(build, in_flight, sets), load, "lazy")
        wrong = served.wrong_share(one_batch.outputs)
        print(f"in flight {in_flight}, sets {sets}: {len(accelerator.races()):4} races, {wrong:.0%} wrong tokens")
        racing += [f"{in_flight}/{sets}"] * bool(accelerator.races())
    racing_guess.compare(racing)

# %% [markdown]
# A set of IO buffers is needed for each batch in flight, and not one more. Batch N + 2 is launched after batch N was
# committed, and the commit waited for N's `d2h_done`: by then everything that N did in its buffers is over. An extra
# wait would find nothing to wait for, and a third set changes nothing.
#
# **Predict first.** With one set for two batches, batch N + 1 takes tensors that batch N still uses. For the host to
# write into the pinned inputs, which event of batch N is the first that it would be enough to wait for: `"h2d_done"`,
# `"compute_done"` or `"d2h_done"`? And for the copy in to write into the inputs on the device? (The table of section 2
# helps.)

# %%
pinned_guess = guess("enough for the host to write the pinned inputs again: h2d_done, compute_done or d2h_done", ...)
device_guess = guess("enough for the copy in to write the device's inputs again: the same three", ...)

# %%
if is_simulated():
    serve(variant(build, 2, 1), load, "eager")
    found = accelerator.races()
    lanes = Counter((race.first.name, race.first.lane, race.second.name, race.second.lane) for race in found)
    for (first, on_lane, second, on_other), races in lanes.items():
        print(f"{races:3} races: {first} on {on_lane}, then {second} on {on_other}")
    by_second = {race.second.lane: f"{race.first.lane}_done" for race in found}  # the event that is recorded behind it
    pinned_guess.compare(by_second["host"])
    device_guess.compare(by_second["h2d"])
    print("\nThe first report of a write by the host:")
    print(next(race for race in found if race.second.lane == "host"))

# %% [markdown]
# In the last one the host writes while a copy in may still read, and no wait on the device can help, because the host
# takes no part in it. The host itself would have to wait.
#
# So the rule that later chapters rely on: **IO buffers are written again only after their own `d2h_done` was
# synchronised.** A hazard becomes real when there are more batches in flight than sets of buffers. Adding waits "to be
# safe" has a price of its own:
#
# ## 5. Find the bug
#
# Its tokens are right. The detector reports nothing. Where has the overlap gone? (On a real GPU, look at the picture:
# with the tiny model the idle share says little.)


# %%
class SafeExecutor(EventExecutor):
    """Better safe than sorry."""

    def wait(self, batch, buffers):
        accelerator.synchronize()
        return buffers.read_ids(len(batch.sampling_rows))


def build_safe(*args, **kwargs):
    """Your engine, with this executor."""
    engine = build(*args, **kwargs)
    yours = engine.executor
    engine.executor = SafeExecutor(yours.pool, yours.forward, yours.observers)
    return engine


safe = serve(build_safe, load)
wrong = safe.wrong_share(one_batch.outputs)
print(f"{wrong:.0%} of the tokens wrong, device idle {safe.recording.idle_share():.1%}")
plot_timeline(safe.recording, title="Better safe than sorry")

# %% [markdown]
# <details><summary>Answer</summary>
#
# `synchronize()` waits for *all* streams, so also for the batch that was launched a moment ago, and that is the one
# which should run while the host commits and prepares. `d2h_done` of the oldest batch is what the host needs, and
# nothing else. In chapter 4 this very line cost nothing, since there was no other batch. A test of the tokens cannot
# see it; a test of the *timeline* can, and `make check CH=5` has one.
#
# </details>

# %% [markdown]
# ## 6. A forecast
#
# Two batches in flight were enough here to keep the device busy, and yet they brought a loss. On another machine two
# may be too few, or may pay. Four numbers are enough to tell: the host's work for a batch (prepare and commit), one
# copy (a batch has one in and one out), the forward, and how many batches are in flight.
#
# A batch passes through host work, copy in, forward and copy out, in this order. Four lanes work side by side: the
# host, one engine for each direction of copies, and the compute units. Each lane does its part for one batch after the
# other. And the host waits: with two in flight it works on batch 2 only when batch 0, whose IO buffers it needs, has
# been copied out.
#
# ### Exercise 5.4: forecast the pace of a pipeline (15 minutes)
#
# In `my/ch05_double_buffering/forecast.py`, fill `pace` and `fewest_in_flight`, five lines. How long is a step
# once the loop has settled down, for which share of it is the device idle, and how long does a request wait for its
# next token? And from how many batches in flight on does one more change nothing? The check compares your forecast with
# sums done by hand and with the virtual clock. `make check EX=5.4`, `make hint EX=5.4`.
#
# **Predict first.** A machine with 3 ms of host work, 4 ms a copy and 6 ms a forward. How long is a step with one batch
# in flight, and with two? With two, after how many milliseconds does a request get its next token? How many in flight
# are enough?

# %%
machine = Machine(host_ms=3.0, copy_ms=4.0, forward_ms=6.0)
one_guess = guess("host 3 ms, copy 4 ms, forward 6 ms: a step with one batch in flight, ms", ...)
two_guess = guess("the same with two in flight, ms", ...)
token_guess = guess("the time from one token of a request to its next, with two in flight, ms", ...)
enough_guess = guess("batches in flight that are enough on this machine", ...)

# %%
one_guess.compare(pace(machine, 1).step_ms, "ms")
two_guess.compare(pace(machine, 2).step_ms, "ms")
token_guess.compare(pace(machine, 2).token_ms, "ms")
enough_guess.compare(fewest_in_flight(machine))

# %% [markdown]
# Now your forecast beside the virtual clock, for this machine, for one with quick copies, and for one with a slow host.
# The clock is *simulated*: it shows what overlaps with what, and says nothing about the speed of a GPU.

# %%
if is_simulated():
    for machine in (Machine(3.0, 4.0, 6.0), Machine(3.0, 0.5, 6.0), Machine(9.0, 0.5, 6.0)):
        enough = fewest_in_flight(machine)
        print(f"host {machine.host_ms}, copy {machine.copy_ms}, forward {machine.forward_ms} ms: {enough} are enough")
        for in_flight in (1, 2, 3):
            said, ran = pace(machine, in_flight), settled(keep_in_flight(machine, 30, in_flight), in_flight)
            print(
                f"    {in_flight} in flight: a step takes {said.step_ms:5.2f} ms, idle {said.idle_share:5.1%}; on the "
                f"clock {step_ms(ran):5.2f} ms, idle {ran.idle_share():5.1%}; a token every {said.token_ms:5.2f} ms"
            )
    slow_copies = settled(keep_in_flight(Machine(3.0, 4.0, 6.0), 30, 2), 2)
    display(plot_timeline(slow_copies, title="Copies of 4 ms, two batches in flight: not enough"))

# %% [markdown]
# Look at the last column of the table. More batches in flight make steps shorter, but never the time to a request's
# next token: it is in only one of the groups. The first machine's copies are too long for two sets of IO buffers, and
# the picture shows the gaps. A GPU copies a few kilobytes in microseconds, so this course stays with two. On the last
# machine the host's part is the longest. No number of batches in flight makes a step shorter than that, and the device
# is idle for a third of the time. Chapter 9 is about that.
#
# ## 7. What this step cost, and what comes next
#
# - Two sets of IO buffers instead of one: twice the pinned and the device tensors for inputs and ids. On CUDA also
#   twice the captured graphs, since a graph is bound to addresses. Chapter 6 makes two cost about as much memory as
#   one.
# - A new request waits for one batch more: one is under way, and one is behind it.
# - Half batches: the weights are read twice.
#
# What is gained is the loop in which everything overlaps. Chapter 6 looks inside the forward: CUDA graphs for each set
# of IO buffers, and one memory pool for all of them. Chapter 7 then brings every request back into every batch.
#
# ## 8. Check yourself
#
# <details><summary>Two batches are in flight, each in a set of IO buffers of its own. Why may a request not be in both
# of them, even so?</summary>
#
# Its input for the second batch is the token that the first one is about to compute. The host does not have it when it
# packs the second batch. A set of buffers more does not change that; chapter 7's carry-over does.
#
# </details>
#
# <details><summary>A single request with a short prompt is served, and nothing else. How many batches are in flight at
# most, and how long is the device idle, compared with chapter 4's engine?</summary>
#
# One: while it is in flight, there is nothing else to prepare. Each step after a launch prepares nothing and commits,
# so the device waits for commit, prepare and launch, as in chapter 4.
#
# </details>
#
# <details><summary><code>advance</code> commits nothing, and returns an empty list, in two situations. In
# which?</summary>
#
# In the first step after a pause, which launches a batch and has nothing to commit yet; and when nothing is in flight
# and nothing can run.
#
# </details>
#
# <details><summary>Why does the idle share not say whether two half batches pay?</summary>
#
# It counts the time in which a forward runs, and half batches run more forwards for the same tokens. Compare tokens per
# second, or the time in which every request gets one token.
#
# </details>
#
# <details><summary>The host's work takes 4 ms, the forward 8, copies take no time. How long does a request wait for its
# next token, with one batch in flight and with two?</summary>
#
# With one, 12 ms. With two, a step takes 8 ms, and a request is in every second one: 16 ms.
#
# </details>
#
# **Stretch tasks.** (1) In section 2, four requests of 3 tokens and four of 9 take 18 batches and one step that
# launches nothing. Write a scheduler that knows from `max_tokens` how long each request will run, and forms groups that
# leave no such step, again with 18 batches and the same tokens. (2) On the virtual clock two half batches lose with 64
# requests and win with 128. From which number of requests on do they win? Compute it from the declared prices first
# (1.3 ms of host work and 0.08 for each row, a forward of 8 ms and 0.02 for each token), then find it with `serve`, to
# the request.

# %%
list_guesses()
