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
# another order of the same three functions. Then the device never waits. You will also see the bill.
#
# Three parts are swapped, each in a file of its own with one exercise:
#
# - `half_batches.py`: a scheduler that takes half of the requests (5.1)
# - `buffer_ring.py`: IO buffers for two batches, used in turns (5.2)
# - `pipelined_engine.py`: the loop with two batches in flight (5.3)
#
# `build.py` puts them together (given, in `solutions/ch05_double_buffering/`). The executor is that of chapter 4. About
# 50 minutes with the three exercises.

# %%
import sys

sys.path.insert(0, "../..")  # the repository root, seen from this notebook
from toolkit.course import open_chapter

open_chapter("ch05")  # whose code runs (COURSE_CODE); switches autoreload on

# %%
import textwrap

import torch

from ch02_continuous_batching import Observer, Parts, SamplingParams
from ch03_streams import BufferPool, IOBuffers
from ch04_events import EventExecutor
from ch04_events.build import build as build_before
from ch05_double_buffering import PipelinedEngine
from ch05_double_buffering.build import build
from figures.recorded import recorded
from toolkit.commands.decoding import Load, serve
from toolkit.device import DEVICE, accelerator, is_simulated
from toolkit.models import load_model
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
# **The next token is not there yet.** A request that is in batch N needs, as its input for batch N + 1, the token that
# batch N is about to compute. It cannot be in both. But *another* request can. So the requests form two groups: while
# the device computes a batch of the one group, the host prepares a batch of the other.
#
# ### Exercise 5.1: half of the requests (5 minutes)
#
# In `my/ch05_double_buffering/half_batches.py`, fill `HalfBatchScheduler.rows_limit`: at most half of the
# requests that could run go into one batch. Chapter 2's scheduler passes over those in flight anyway (they have no
# token to compute), so two groups that take turns come about by themselves. In a terminal at the repository's root:
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


def trace(num_requests, new_tokens):
    """Run your engine, and return what it did."""
    if is_simulated():
        accelerator.reset(on_race="collect")
    few = Load(model, num_requests, prompt_len=6, new_tokens=new_tokens)
    engine = build(model, **few.limits)
    seen = Trace(engine)
    engine.observers.others += (seen,)
    for number, prompt in enumerate(few.prompts):
        engine.add_request(str(number), prompt, SamplingParams(max_tokens=new_tokens, ignore_eos=True))
    for _ in range(100):  # more steps than it needs
        if engine.has_work:
            engine.step()
    return seen


seen = trace(num_requests=7, new_tokens=4)
print("batch     " + " ".join(f"{step:2}" for step in range(len(seen.batches))))
for request in range(7):
    print(f"request {request} " + " ".join(" #" if request in batch else " ." for batch in seen.batches))

# %% [markdown]
# Each request is in every second batch, and no request is in two batches in a row.
#
# ### Exercise 5.2: buffers that no batch uses (5 minutes)
#
# In `my/ch05_double_buffering/buffer_ring.py`, fill `BufferRing.buffers_for`, one line. It chooses one of
# `self.buffers` for a new batch. At most two batches are in flight, the new one and the one before it.
# `make hint EX=5.2`.

# %%
seen = trace(num_requests=7, new_tokens=4)
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
print(*textwrap.wrap(", ".join(trace(num_requests=7, new_tokens=4).calls), 110), sep="\n")

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
# **Predict first.** With one batch in flight the device was idle for the share that the next cell prints first. What
# will it be with two? And the time per step?

# %%
print(f"one in flight: device idle {one_batch.recording.idle_share():.1%}, {one_batch.ms_per_step:.2f} ms per step")

# %%
two_batches = serve(build, load)
print(f"two in flight: device idle {two_batches.recording.idle_share():.1%}, {two_batches.ms_per_step:.2f} ms per step")
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
# **Predict first.** Which batch has which set when? Draw a row for each of the two: when is it copied in, computed
# with, copied out? And from when on may the host write into it again?

# %%
plot_timeline(owners(recording), title="Which batch has which IO buffers when")

# %% [markdown]
# A set belongs to one batch at a time, from the load (in `launch`, right before the copy in) to the end of the copy
# out. The host loads batch N + 2 into the set of batch N only after that. From copy in to forward a batch waits for
# its turn; from copy out to the next copy in the set is free.
#
# Recorded with an 8B shape (random weights) and 32 requests; the title names the device:
#
# ![Two sets of IO buffers, two half batches in turns](../../figures/ch05_steps.png)
#
# ## 3. The price
#
# The device is never idle and a step is shorter. That must be faster.
#
# **Predict first.** Tokens per second: how much more than with one batch in flight?

# %%
print(f"{'':13} {'idle':>6} {'ms/step':>8} {'steps':>6} {'tokens/step':>12} {'tokens/s':>9}")
for name, run in (("one in flight", one_batch), ("two in flight", two_batches)):
    print(
        f"{name:13} {run.recording.idle_share():6.1%} {run.ms_per_step:8.2f} {run.steps:6}"
        f" {run.new_tokens / run.steps:12.1f} {run.tokens_per_second:9.0f}"
    )
ratio = two_batches.tokens_per_second / one_batch.tokens_per_second
print(f"two half batches give {ratio:.2f} times the tokens per second (clock: {two_batches.recording.clock})")

# %% [markdown]
# It got **slower**, and the device is busy all the time. What is it busy with? A decode forward reads all weights of
# the model, and that takes nearly the same time for 4 rows as for 8. With half batches the weights are read twice to
# give every request one token. The idle share has gone down by doing the work twice.
#
# (On the simulated GPU these prices are declared: the forward's in `toolkit/forward.py`, the host's in chapter
# 3's `host_prices.py`. They are round figures in the range of an 8B model.)
#
# So remember: *idle share* says how much of the time the device works. It does not say what for. It is the ceiling of
# the gain only while the work stays the same.
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
        step = f"step {one['ms_per_step']:5.2f} ms, forward {forward:5.2f} ms, idle {one['idle_share']:5.1%}"
        line = f"    {case}: {step}; two in flight: {gain:.2f} times the tokens"
        if one["clock"] == "cuda":  # two forwards, each as long as one for all requests
            line += f" (expected {one['ms_per_step'] / (2 * forward):.2f})"
        print(line)

# %% [markdown]
# The host's work grows with every row, so with very many rows, or a small model, it can get longer than a reading of
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
# An engine is made of parts, so all variants can be tried: the next cell keeps the other parts of your engine and swaps
# ring and loop, for ones that take any number. (Yours need not know what to do with one set, or with three.)
#
# **Predict first.** Four variants: which of them race? (Batches in flight, sets of IO buffers)


# %%
class AnyRing(BufferPool):
    """As many sets of IO buffers as there are, in turns."""

    def buffers_for(self, batch):
        return self.buffers[batch.step % len(self.buffers)]


class AnyLoop(PipelinedEngine):
    """As many batches in flight as max_in_flight says."""

    def advance(self):
        batch = self.prepare()
        if batch is not None:
            self.in_flight.append((batch, self.executor.launch(batch)))
        if len(self.in_flight) == self.max_in_flight or (batch is None and self.in_flight):
            return self.commit(*self.in_flight.popleft())
        return []


def variant(in_flight, sets):
    """A build: your engine's parts, but with so many batches in flight and so many sets of IO buffers."""

    def build_variant(*args, **kwargs):
        yours = build(*args, **kwargs)
        made = yours.executor.pool.buffers[0]
        ring = AnyRing([IOBuffers(made.padding, DEVICE) for _ in range(sets)])
        executor = EventExecutor(ring, yours.executor.forward, yours.observers)
        parts = Parts(yours.entrance, yours.scheduler, yours.packer, executor, yours.book, yours.observers)
        return AnyLoop(parts, max_in_flight=in_flight)

    return build_variant


if is_simulated():
    for in_flight, sets in ((1, 1), (2, 2), (2, 1), (2, 3)):
        served = serve(variant(in_flight, sets), load, "lazy")
        wrong = served.wrong_share(one_batch.outputs)
        print(f"in flight {in_flight}, buffers {sets}: {len(accelerator.races()):4} races, {wrong:.0%} wrong tokens")

# %% [markdown]
# A set of IO buffers is needed for each batch in flight, and not one more. Batch N + 2 is launched after batch N was
# committed, and the commit waited for N's `d2h_done`: by then everything that N did in its buffers is over. The extra
# wait would wait for nothing. A third set changes nothing.
#
# With one set for two batches the host writes while a copy in may still read, and no event on the device can help,
# because the host does not wait for it:

# %%
if is_simulated():
    serve(variant(2, 1), load, "eager")
    for race in accelerator.races():
        if race.second.lane == "host" and race.first.name == "H2D copy":
            print(race)
            break

# %% [markdown]
# So the rule that later chapters rely on: **IO buffers are written again only after their own `d2h_done` was
# synchronised.** A hazard becomes real when there are more results in flight than sets of buffers. Adding waits "to be
# safe" has a price of its own:
#
# ## 5. Find the bug
#
# Its tokens are right. The detector reports nothing. Where has the overlap gone?


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
# ## 6. What this step cost, and what comes next
#
# - Two sets of IO buffers instead of one: twice the pinned and the device tensors for inputs and ids. On CUDA also
#   twice the captured graphs, since a graph is bound to addresses. Chapter 6 makes two cost about as much memory as
#   one.
# - A new request waits for one batch more: one is under way, and one is behind it.
# - Half batches: the weights are read twice.
#
# What is gained is the loop in which everything overlaps. Chapter 6 looks inside the forward: CUDA graphs for each set
# of IO buffers, and one memory pool for all of them. Chapter 7 then brings every request back into every batch.
