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
# Chapter 4's engine is right, and its host stands still while the device works. In this chapter the host prepares the
# next batch in that time. It needs a second slot, a second batch that does not depend on the first, and another order
# of the same three functions. Then the device never waits. You will also see the bill.
#
# - `double_buffered_engine.py`: the scheduler for half batches, and the loop with two batches in flight
#
# About 50 minutes with the three exercises.

# %%
import sys

sys.path.insert(0, "../..")  # the repository root, seen from this notebook
from toolkit.course import open_chapter

open_chapter("ch05")  # whose code runs (COURSE_CODE); switches autoreload on

# %%
import textwrap

import torch

from ch04_events import EventEngine
from ch05_double_buffering import DoubleBufferedEngine
from figures.recorded import recorded
from toolkit.commands.decoding import Load, serve
from toolkit.device import accelerator, is_simulated
from toolkit.models import load_model
from toolkit.timeline import plot_timeline

torch.set_num_threads(1)  # the model is tiny: a second thread costs more than it saves
model = load_model("tiny", device="cpu" if is_simulated() else "cuda").model
load = Load(model)  # 8 requests with prompts of 12 tokens, 16 new tokens each
one_slot = serve(EventEngine, load)

print("this notebook runs on:", accelerator.get_device_name())

# %% [markdown]
# ## 1. What can the host do while it waits?
#
# Prepare the next batch, of course. Two things are in the way.
#
# **The slot is taken.** The batch in flight reads its inputs from the slot. So there are **two slots**, each with its
# own pinned tensors, device tensors and events. The host writes into one while the device works from the other. That is
# called double buffering.
#
# **The next token is not there yet.** A request that is in batch N needs, as its input for batch N + 1, the token that
# batch N is about to compute. It cannot be in both. But *another* request can. So the requests form two groups: while
# the device computes a batch of the one group, the host prepares a batch of the other.
#
# ### Exercise 5.1: half of the requests (5 minutes)
#
# In `chapters/ch05_double_buffering/double_buffered_engine.py`, fill `HalfBatchScheduler.rows_limit`: at most half of
# the requests that could run go into one batch. Chapter 2's scheduler passes over those in flight anyway (they have no
# token to compute), so two groups that take turns come about by themselves. In a terminal at the repository's root:
#
#     make check CH=5
#     make hint EX=5.1
#
# The next cell draws who is in which batch.


# %%
class Tracing(DoubleBufferedEngine):
    """Your engine, writing down what it does."""

    def __init__(self, *args, **kwargs):
        self.calls, self.batches, self.slot_numbers = [], [], []
        super().__init__(*args, **kwargs)

    def prepare(self):
        batch = super().prepare()
        self.calls.append("prepare nothing" if batch is None else f"prepare {batch.step}")
        return batch

    def make_batch(self, rows):
        self.batches.append({int(row.request.request_id) for row in rows})
        return super().make_batch(rows)

    def free_slot(self, batch):
        slot = super().free_slot(batch)
        self.slot_numbers.append(self.slots.index(slot))
        return slot

    def launch(self, batch):
        self.calls.append(f"launch {batch.step}")
        return super().launch(batch)

    def commit(self, batch, slot):
        self.calls.append(f"commit {batch.step}")
        return super().commit(batch, slot)


def trace(num_requests, new_tokens):
    """Run your engine, and return it with what it has written down."""
    made = []

    def make(*args, **kwargs):
        made.append(Tracing(*args, **kwargs))
        return made[0]

    serve(make, Load(model, num_requests, prompt_len=6, new_tokens=new_tokens))
    return made[0]


traced = trace(num_requests=7, new_tokens=4)
print("batch     " + " ".join(f"{step:2}" for step in range(len(traced.batches))))
for request in range(7):
    print(f"request {request} " + " ".join(" #" if request in batch else " ." for batch in traced.batches))

# %% [markdown]
# Each request is in every second batch, and no request is in two batches in a row.
#
# ### Exercise 5.2: a slot that nobody uses (5 minutes)
#
# In the same file, `DoubleBufferedEngine.free_slot`, one line: at most two batches are in flight, the new one and the
# one before it. `make hint EX=5.2`.

# %%
traced = trace(num_requests=7, new_tokens=4)
print("batch " + " ".join(f"{step:2}" for step in range(len(traced.slot_numbers))))
print("slot  " + " ".join(f"{slot:2}" for slot in traced.slot_numbers))

# %% [markdown]
# ### Exercise 5.3: launch the next before you commit the last (20 minutes)
#
# In the same file, `DoubleBufferedEngine.advance`, six lines. The three functions stay what they are. Only their order
# changes:
#
#     one slot:   prepare 0, launch 0, commit 0, prepare 1, launch 1, commit 1, ...
#     two slots:  prepare 0, launch 0, prepare 1, launch 1, commit 0, prepare 2, launch 2, commit 1, ...
#
# There are three situations: the start, where nothing is in flight; the steady state; and the end, where there is
# nothing to prepare and one batch is still to be committed. `make hint EX=5.3`. This is what your engine calls:

# %%
print(*textwrap.wrap(", ".join(trace(num_requests=7, new_tokens=4).calls), 110), sep="\n")

# %% [markdown]
# ## 2. Overlap
#
# **Predict first.** With one slot the device was idle for the share that the next cell prints first. What will it be
# with two slots? And the time per step?

# %%
print(f"one slot:  device idle {one_slot.recording.idle_share():6.1%}, {one_slot.ms_per_step:6.2f} ms per step")

# %%
two_slots = serve(DoubleBufferedEngine, load)
print(f"two slots: device idle {two_slots.recording.idle_share():6.1%}, {two_slots.ms_per_step:6.2f} ms per step")
print(f"wrong tokens: {two_slots.wrong_share(one_slot.outputs):.1%}")
if is_simulated():
    print(f"races: {len(accelerator.races())}")
plot_timeline(two_slots.recording, title="Two slots")

# %% [markdown]
# Follow one batch. It is prepared and launched while the device still works on the batch before; its forward starts the
# moment that one ends; the host commits the older batch in the shade of it. Every prepare and every commit lies *under*
# a forward. The gap is closed, the tokens are right, and nothing is reported.
#
# Recorded with an 8B shape (random weights) and 32 requests; the title names the device:
#
# ![Two slots, two half batches in turns](../../figures/ch05_steps.png)
#
# ## 3. The price
#
# The device is never idle and a step is shorter. That must be faster.
#
# **Predict first.** Tokens per second: how much more than with one slot?

# %%
print(f"{'':10} {'idle':>6} {'ms/step':>8} {'steps':>6} {'tokens/step':>12} {'tokens/s':>9}")
for name, run in (("one slot", one_slot), ("two slots", two_slots)):
    print(
        f"{name:10} {run.recording.idle_share():6.1%} {run.ms_per_step:8.2f} {run.steps:6}"
        f" {run.new_tokens / run.steps:12.1f} {run.tokens_per_second:9.0f}"
    )
ratio = two_slots.tokens_per_second / one_slot.tokens_per_second
print(f"two slots give {ratio:.2f} times the tokens per second (clock: {two_slots.recording.clock})")

# %% [markdown]
# It got **slower**, and the device is busy all the time. What is it busy with? A decode forward reads all weights of
# the model, and that takes nearly the same time for 4 rows as for 8. With half batches the weights are read twice to
# give everybody one token. The idle share has gone down by doing the work twice.
#
# (On the simulated GPU these prices are declared: the forward's in `toolkit/sealed_forward.py`, the host's in
# `stream_engine.py`. They are round figures in the range of an 8B model.)
#
# So remember: *idle share* says how much of the time the device works. It does not say what for. It is the ceiling of
# the gain only while the work stays the same.
#
# When would it pay? Let a forward for n rows take w + c·n (read the weights once, and something per row), and the
# host's work h in total. One slot needs h + w + c·n for n tokens. Two slots need two forwards of half the rows, if the
# host is quick enough: 2w + c·n. That is less if
#
#     w < h
#
# in words: if the host takes longer than one reading of the weights. The recordings, one slot against two:
#
# ![One slot against two](../../figures/ch05_price.png)

# %%
for recording in recorded("ch05_price"):
    rows = recording["rows"]
    print(f"{recording['device']}, clock {rows[0]['clock']}")
    for one, two in zip(rows[::2], rows[1::2], strict=True):
        case, gain = f"{one['model']:2} {one['requests']:4} requests", two["tokens_per_s"] / one["tokens_per_s"]
        forward = (1 - one["idle_share"]) * one["ms_per_step"]
        step = f"step {one['ms_per_step']:5.2f} ms, forward {forward:5.2f} ms, idle {one['idle_share']:5.1%}"
        line = f"    {case}: {step}; two slots: {gain:.2f} times the tokens"
        if one["clock"] == "cuda":  # two forwards, each as long as one for everybody
            line += f" (expected {one['ms_per_step'] / (2 * forward):.2f})"
        print(line)

# %% [markdown]
# The host's work grows with every row, so with very many rows, or a small model, it can get longer than a reading of
# the weights. On the GPU the condition is harder than the formula says. The sealed box was captured once, for all rows
# of a slot. A half batch leaves half of them empty, and they take their time all the same: two slots need two *whole*
# forwards where one slot needs one and the host's work. That is the "expected" of the table. So there two slots win
# only if the host takes longer than the forward: an engine that is idle for more than half of the time, whose host
# should be made faster first. (Chapter 6 captures the box in several sizes, and shows how little that helps.)
#
# A bad bargain for most loads, then. The second slot and the order of the calls are worth keeping, and all later
# chapters do. What has to go is the rule that a request cannot be in N and N + 1. Chapter 7 removes it.
#
# ## 4. When is a hazard real?
#
# Two batches in flight, two slots. Are two enough? There are two opinions. One says: "batch N + 2 writes into the
# slot of batch N, so the host needs another wait before it." The other says: "if two are good, one slot with careful
# events will do as well."
#
# **Predict first.** Four variants: which of them race? (Batches in flight, slots)


# %%
def variant(in_flight, slots):
    """Your engine with so many batches in flight and so many slots."""

    class Variant(DoubleBufferedEngine):
        num_slots = slots

        def free_slot(self, batch):
            return self.slots[batch.step % slots]  # yours need not know what to do with one slot, or with three

        def step(self):
            batch = self.prepare()
            if batch is not None:
                self.in_flight.append((batch, self.launch(batch)))
            if len(self.in_flight) == in_flight or (batch is None and self.in_flight):
                return self.commit(*self.in_flight.popleft())
            return []

    return Variant


if is_simulated():
    for in_flight, slots in ((1, 1), (2, 2), (2, 1), (2, 3)):
        served = serve(variant(in_flight, slots), load, "lazy")
        wrong = served.wrong_share(one_slot.outputs)
        print(f"in flight {in_flight}, slots {slots}: {len(accelerator.races()):4} races, {wrong:.0%} wrong tokens")

# %% [markdown]
# A slot is needed for each batch in flight, and not one more. Batch N + 2 is launched after batch N was committed, and
# the commit waited for N's `d2h_done`: by then everything that N did in its slot is over. The extra wait would wait for
# nothing. A third slot changes nothing.
#
# With one slot for two batches the host writes while a copy in may still read, and no event on the device can help,
# because the host does not wait for it:

# %%
if is_simulated():
    serve(variant(2, 1), load, "eager")
    for race in accelerator.races():
        if race.second.lane == "host" and race.first.name == "H2D copy":
            print(race)
            break

# %% [markdown]
# So the rule that later chapters rely on: **a slot is written again only after its own `d2h_done` was synchronised.** A
# hazard becomes real when there are more results in flight than slots. Adding waits "to be safe" has a price of its
# own:
#
# ## 5. Find the bug
#
# Its tokens are right. The detector reports nothing. Where has the overlap gone?


# %%
class SafeEngine(DoubleBufferedEngine):
    """Better safe than sorry."""

    def wait_for(self, slot):
        accelerator.synchronize()


safe = serve(SafeEngine, load)
wrong = safe.wrong_share(one_slot.outputs)
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
# - Two slots instead of one: twice the pinned and the device tensors for inputs and ids. On CUDA also twice the
#   captured graphs, since a graph is bound to addresses. Chapter 6 makes two cost about as much memory as one.
# - A new request waits for one batch more: one is under way, and one is behind it.
# - Half batches: the weights are read twice.
#
# What is gained is the loop in which everything overlaps. Chapter 6 opens the sealed box: CUDA graphs for each slot,
# and one memory pool for all of them. Chapter 7 then brings everybody back into every batch.
