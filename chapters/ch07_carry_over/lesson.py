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
# # Chapter 7: Carry-over
#
# Chapter 5 closed the gap and read the weights twice for it, because a request could not be in two batches in a row.
# In this chapter it can. The token that it lacks goes from one batch into the next *on the device*, and the host never
# sees it in time. All requests are in every batch, and the device does not wait.
#
# - `carry.py`: which token comes from the batch before, and how it gets there (exercises 7.1 and 7.2)
# - `carry_scheduler.py`: a scheduler that counts tokens in flight (exercise 7.3)
# - `carry_packer.py`: your map as one input more, from the packer through the IO buffers into the forward (given)
# - `build.py`: all of it put together; the loop is that of chapter 5 (given)
#
# The first two are yours, in `my/ch07_carry_over/`. The others are given; read them in
# `solutions/ch07_carry_over/`.
#
# About 95 minutes: 30 to read, 50 for the three exercises, 15 to make predictions, run the cells and look at what they
# print.

# %%
import sys

sys.path.insert(0, "../..")  # the repository root, seen from this notebook
from toolkit.course import open_chapter

open_chapter("ch07")  # whose code runs (COURSE_CODE); switches autoreload on

# %%
import textwrap
from dataclasses import replace
from functools import partial

import torch

from ch02_continuous_batching import BlockManager, Observer, Request, Row, SamplingParams
from ch03_streams import BufferPool
from ch04_events import EventExecutor
from ch04_events.build import build as build_events
from ch05_double_buffering.build import build as build_half_batches
from ch06_graphs.build import build as build_before
from ch07_carry_over import KEEP, CarryPacker, CarryScheduler, apply_carry, carry_index
from ch07_carry_over.build import build
from ch08_full_engine.museum.build import async_engine
from figures.ch06.record import large_model_costs
from figures.ch07.diagrams import carry_map
from figures.ch07.record import per_step
from figures.recorded import recorded
from toolkit.commands.decoding import Load, serve
from toolkit.device import accelerator, is_simulated, new_stream, sleep
from toolkit.models import load_model
from toolkit.predictions import guess, list_guesses
from toolkit.source_diff import source_diff
from toolkit.timeline import plot_timeline

torch.set_num_threads(1)  # the model is tiny: a second thread costs more than it saves
model = load_model("tiny", device="cpu" if is_simulated() else "cuda").model
load = Load(model)  # 8 requests with prompts of 12 tokens, 16 new tokens each
right = serve(build_events, load).outputs

print("this notebook runs on:", accelerator.get_device_name())

# %% [markdown]
# ## 1. What is there to gain?
#
# This time the work stays the same: one forward for all requests, as in chapter 4. Only the gaps go. So chapter 4's
# idle share *i* sets the ceiling of the gain: at most 1 / (1 - *i*) times the tokens.
#
# Here are the idle shares of chapter 4's engine, which has one set of IO buffers, as they were recorded, and the
# ceilings that follow. Which of them will *not* be reached? (Compare what the host does in a step with what the device
# does.) Section 5 asks you for a number and has the measurement.

# %%
for recording in recorded("ch07_engines"):
    print(f"{recording['device']}, clock {recording['rows'][0]['clock']}")
    for row in recording["rows"]:
        if row["engine"] == "one batch at a time":
            host, idle = row["host_ms_per_step"], row["idle_share"]
            device_ms = (1 - idle) * row["ms_per_step"]
            print(
                f"    {row['model']:2} {row['requests']:4} requests: host {host:5.2f} ms, device {device_ms:5.2f} ms,"
                f" idle {idle:5.1%}: at most {1 / (1 - idle):.2f} times the tokens"
            )

# %% [markdown]
# The GPU's rows are of shapes with random weights. On the simulated GPU all prices are declared, in the range of an 8B
# model.
#
# Note how much less there is to gain on a fast GPU with a large model: its forward is long beside the host's work. A
# smaller model, or more requests, and the gap is a large part of each step.
#
# ## 2. The token that does not exist yet
#
# Batch N is running. The host packs N + 1. Request A is in both. Its input in N + 1 is the token that N will sample.
# That token has no value on the host, and it will have none for some milliseconds. On the device it will be there in
# time:
#
# ![Three forwards, one behind the other: arrows lead from the ids that each samples to inputs of the next, where the
# rows are in another order; the copies to the host arrive while the next forward runs](../../figures/ch07_carry.png)
#
# What *is* known about it? Everything else: whose it is, its position, its place in the KV cache, its row. So the host
# packs a **placeholder** (`PLACEHOLDER` = 0, a valid id, so that looking it up does no harm), and beside it a **map**:
# one number for each packed token. Either `KEEP` (-1: the host knew it), or the place among the ids that N samples. The
# device has these ids when N + 1 starts, and puts them where they belong: the arrows of the picture.
#
# An example by hand. In N there are P, A and B, which sample, and an unfinished chunk of Q's prompt, which does not. In
# N + 1 the rows are in another order, Q's prompt ends, and R is new:
#
#     batch N         rows             P    A    B    Q: q0 q1 q2
#                     samples?         yes  yes  yes  no, an unfinished chunk
#                     sampled ids      0    1    2
#
#     batch N + 1     rows             A    B    P    Q: q3 q4    R: r0 r1 r2
#                     input_ids        0    0    0       q3 q4       r0 r1 r2      (0: placeholder)
#                     carry index      1    2    0       -1 -1       -1 -1 -1
#
# Three things are easy to get wrong. The row numbers of N and N + 1 have nothing to do with each other. An index counts
# *sampled ids*, not rows: had Q's chunk come first, it would not count. And tokens that are known stay as they are.
#
# ### Exercise 7.1: which token comes from the batch before (20 minutes)
#
# In `my/ch07_carry_over/carry.py`, fill `carry_index`, seven lines. In a terminal at the repository's root:
#
#     make check CH=7
#     make hint EX=7.1
#
# The next cell draws *your* map for the example (or, while the exercise is unsolved, the reference's).


# %%
class InFlight:
    """A batch in flight, as far as the map looks at it: rows, and those of them that sample."""

    def __init__(self, *rows):
        self.rows, self.sampling_rows = rows, tuple(row for row in rows if row.samples)


def request(name, prompt):
    return Request(name, list(range(100, 100 + prompt)), SamplingParams(), arrival=0)


p, a, b, q, r = request("P", 4), request("A", 6), request("B", 5), request("Q", 5), request("R", 3)
batch_n = InFlight(Row(p, 0, 3, 1, True), Row(a, 0, 5, 1, True), Row(b, 0, 4, 1, True), Row(q, 0, 0, 3, False))
next_rows = (Row(a, 0, 6, 1, True), Row(b, 0, 5, 1, True), Row(p, 0, 4, 1, True))
next_rows += (Row(q, 0, 3, 2, True), Row(r, 0, 0, 3, True))

index = carry_index(next_rows, batch_n)
print("your map: ", index, "right" if index == [1, 2, 0, *[KEEP] * 5] else "WRONG, see the table above")
print("cold start:", carry_index(next_rows[3:], None), "(nothing in flight, nothing to carry over)")
next_tokens = ["A", "B", "P", "q3", "q4", "r0", "r1", "r2"]
carry_map(["of P", "of A", "of B"], next_tokens, index)

# %% [markdown]
# ### Rows counted instead of ids
#
# A likely mistake in this exercise is to number all rows of batch N, `enumerate(previous.rows)`. In the
# example above it changes nothing, because the row that does not sample is the last one. Now Q's chunk comes *first* in
# batch N. The ids that N samples are the same: of P, A and B, at places 0, 1 and 2, and behind them in the buffers lies
# what an earlier batch has left there. The next cell makes the mistake with your own function: it gives it a batch that
# claims that all its rows sample.
#
# **Predict first.** Whose token does request A get in batch N + 1? Put "P", "A", "B" or "left over", in quotes, in
# place of the dots. (As long as they are there, you make no guess.)

# %%
neighbour = guess("rows counted instead of ids: whose token does A get?", ...)


# %%
class EveryRowCounts:
    """A batch that claims that all its rows sample."""

    def __init__(self, *rows):
        self.rows = self.sampling_rows = rows


mistaken = carry_index(next_rows, EveryRowCounts(batch_n.rows[3], *batch_n.rows[:3]))  # Q, P, A, B
places = ["P", "A", "B", "left over"]
for name, place in zip("ABP", mistaken, strict=False):
    print(f"request {name} gets:", places[place])
neighbour.compare(places[mistaken[0]])
carry_map(["of P", "of A", "of B", "left over"], next_tokens, mistaken)

# %% [markdown]
# <details><summary>What happened</summary>
#
# Everything behind the chunk is off by one. A request gets the token of the next row, and the last of them gets what an
# earlier batch has left in the buffers. Nothing reports it: every index is valid, every access is in order, and with
# batches of decode rows only, or with the chunk at the end, all tokens are right.
#
# </details>
#
# **Why the key is (request object, epoch) and not a name.** Names are the caller's. A caller may use one again as soon
# as its request has ended. At that moment a row of the *dead* request may still be in flight (section 7). A map that
# goes by names hands the dead one's token to the newcomer. This was seen in practice, with transformers 5.17,
# continuous batching in asynchronous mode. A request whose id was used again right after its end answered
#
#     [78, 78, 78, 78, 78, 78]   instead of   [15, 21, 15, 21, 80, 44]
#
# which its synchronous mode gives, and a fresh id too. It was the dead request's row. (Later releases may differ: try
# it with yours.) Section 10 builds a bug of this kind.
#
# The *epoch* is chapter 2's counter: it advances when a request finishes or is preempted, so that a row of an earlier
# life is not taken for one of this life. The position test is a first lock (what is known is kept), the key a second
# one: a mistake elsewhere ends in a `KeyError` and not in a foreign token.
#
# ## 3. On the device
#
# The map has to be applied without the host: no `if`, no `.item()`, and no boolean mask either, because with `ids[mask]
# = previous_ids[...]` the host has to know how many there are, and waits for it. What is left is one expression for all
# tokens: look up an id for *each* of them, and choose, token by token, between that id and the packed one. torch has a
# function for such a choice.
#
# It computes both sides and then chooses. So for a kept token an id is looked up, too, and thrown away. At which place?
# In the map there is a -1.
#
# **Predict first.** What does `previous_ids[index]` give for an index of -1? Answer "the first", "the last" or "an
# error".

# %%
lookup = guess("ids looked up at -1 with square brackets", ...)

# %%
previous_ids, minus_one = torch.tensor([70, 71, 72]), torch.tensor([KEEP])
found = previous_ids[minus_one].item()
print("square brackets:", found, "without a message")
try:
    torch.index_select(previous_ids, 0, minus_one)
except IndexError as error:
    print("index_select:   ", error)
lookup.compare({70: "the first", 72: "the last"}[found])

# %% [markdown]
# <details><summary>What happened</summary>
#
# It depends on the function. Square brackets count from the end, as in Python. `index_select`, `gather` and the
# model's embedding refuse it. On the CPU that is an exception. On CUDA the kernel stops with a device assert, and after
# that the whole process cannot use the GPU any more.
#
# </details>
#
# So the rule is: **-1 is a sign, not an index. It is never looked up,** not even where the result is thrown away. A
# kept token has to look up a place that always exists.
#
# ### Exercise 7.2: apply the map (10 minutes)
#
# In `my/ch07_carry_over/carry.py`, fill `apply_carry`, one line. `make hint EX=7.2`.

# %%
input_ids = torch.tensor([0, 0, 0, 103, 104, 100, 101, 102])
sampled = torch.tensor([70, 71, 72, 99])  # of P, A and B; the buffers have room for one more
carried = apply_carry(input_ids, torch.tensor([1, 2, 0, *[KEEP] * 5]), sampled)
print("token     " + " ".join(f"{name:>4}" for name in next_tokens))
print("packed    " + " ".join(f"{token:4}" for token in input_ids.tolist()))
print("carried   " + " ".join(f"{token:4}" for token in carried.tolist()))
print("right" if carried.tolist() == [71, 72, 70, 103, 104, 100, 101, 102] else "WRONG: 71 is A's, 72 B's, 70 P's")

# %% [markdown]
# In the engine, `apply_carry` is the first thing in the forward, inside the one launch (`carry_step` in
# `carry_packer.py`, given). `previous_ids` is the tensor of the ids in the *other* set of IO buffers: `link` in the
# same file gives each set the other's. Three questions about that:
#
# **Does it need an event?** No. Forward N writes the ids and forward N + 1 reads them, and both are in the compute
# stream. Work in one stream runs in order. (Section 9 takes that away.)
#
# **Who else touches these ids?** The copy out of N reads them, on its own stream. Two readers do not disturb each
# other. The next *writer* is forward N + 2, in the same buffers. It is launched after N was committed, and the commit
# waited for N's `d2h_done`. It is the rule of chapter 5, and it is enough here, too.
#
# **Where do they lie?** In a tensor of their own, allocated once, before any graph is captured. A captured graph may
# use the memory of its pool again whenever a graph of that pool runs. Ids inside the pool would be the next graph's
# scratch memory at the moment when it wants to read them. Inputs, ids, KV cache: what outlives a graph lies outside the
# pool. That is chapter 6's rule, and carry-over is one reason for it. (Section 6 runs over your graphs.)
#
# ## 4. What can be scheduled, and what cannot be known
#
# Chapter 2's scheduler passes over a request in flight: it has no token to compute. Now a token in flight counts as a
# token. It lacks a value, and nothing that the scheduler does needs its value.
#
# Two things about the end of a request:
#
# - **The length limit can be known.** Outputs so far and pending samples together: when they reach `max_tokens`, the
#   request is not scheduled again. No row is computed for nothing.
# - **EOS cannot be known**, nor a stop string. Whether N samples EOS is seen when N is committed, and by then N + 1 is
#   launched. Such a request runs one step too far. Section 7 counts what that costs.
#
# A chunk of an unfinished prompt does not sample. It is not pending and is never carried over.
#
# ### Exercise 7.3: schedule what is still in flight (20 minutes)
#
# In `my/ch07_carry_over/carry_scheduler.py`, fill `CarryScheduler.num_tokens_for` and `CarryScheduler._row`, nine lines
# in all. Start from chapter 2's. `make hint EX=7.3`. The next cells schedule one request with a prompt of 6 tokens, a
# budget of 4 tokens per step and `max_tokens` 3, for five steps. Nothing is ever committed.
#
# **Predict first.** In how many of the five steps is it scheduled?

# %%
scheduled = guess("steps in which the request is scheduled, though nothing is committed", ...)

# %%
scheduler = CarryScheduler(BlockManager(16, 4), max_rows=4, token_budget=4)
single = Request("single", list(range(6)), SamplingParams(max_tokens=3), arrival=0)
scheduler.add(single)
steps_with_rows = 0
print("step  positions  samples  pending afterwards")
for step in range(5):
    text = "nothing to schedule: 3 samples are pending, and max_tokens is 3" if step else "nothing"
    for row in scheduler.schedule():
        steps_with_rows += 1
        positions = f"{row.start} to {row.start + row.num_tokens - 1}" if row.num_tokens > 1 else f"{row.start}"
        text = f"{positions:9}  {'yes' if row.samples else 'no':7}  {single.pending_samples}"
    print(f"{step:4}  {text}")
scheduled.compare(steps_with_rows)


# %% [markdown]
# <details><summary>What happened</summary>
#
# Two steps for the prompt, of which the second one samples, and one for each further token: positions 6 and 7 are
# scheduled while the host knows 6 tokens. Then as many samples are pending as the request may have, and it rests.
#
# </details>
#
# And this is who is in which batch now. (`Watch` is an observer: the engine tells it what it does. It also wants to see
# each batch right before its tokens are committed, so it puts itself in front of the book's `commit_tokens`.)


# %%
class Watch(Observer):
    """Writes down what an engine does: what its host calls, and who was in which batch."""

    def __init__(self, engine):
        self.calls, self.batches, self.sampled, self.dropped = [], [], 0, 0
        engine.observers.others += (self,)
        self.commit_tokens, engine.book.commit_tokens = engine.book.commit_tokens, self.look

    def host(self, phase, *, step):
        if phase != "wait":
            self.step = step
            self.calls.append("prepare nothing" if phase == "prepare" else f"{phase} {step}")
        return super().host(phase, step=step)

    def work(self, phase, *, rows):
        self.calls[-1] = f"{phase} {self.step}"  # it has rows, so it is not nothing

    def look(self, batch, token_ids):
        """Look at a batch right before its tokens are committed."""
        self.batches.append({row.request.request_id: "#" if row.samples else "c" for row in batch.rows})
        for row in batch.sampling_rows:
            self.sampled += 1
            if row.epoch != row.request.epoch:
                self.dropped += 1
                self.batches[-1][row.request.request_id] = "x"
        return self.commit_tokens(batch, token_ids)


def run_to_end(engine):
    """What each step brings, until nothing is left to do."""
    for _ in range(200):
        if not engine.has_work:
            return
        yield from engine.step()
    raise RuntimeError("step() is called again and again, and requests stay unfinished: what does the scheduler miss?")


def trace(requests, new_tokens, *, asynchronous=True, eos=(), **limits):
    """Run your engine on the first few prompts to the end. Returns what was seen and the tokens of each request."""
    if is_simulated():
        accelerator.reset("eager", on_race="collect")
    engine = build(model, asynchronous=asynchronous, **(load.limits | limits))
    watch = Watch(engine)
    engine.book.eos_ids = set(eos)
    for i, prompt in enumerate(load.prompts[:requests]):
        engine.add_request(str(i), prompt, SamplingParams(max_tokens=new_tokens))
    answers = {out.request_id: list(out.output_ids) for out in run_to_end(engine) if out.finish_reason is not None}
    return watch, [answers[str(i)] for i in range(requests)]


def draw(seen):
    """Who was in which batch, and what came of it."""
    print("batch     " + " ".join(f"{step:2}" for step in range(len(seen.batches))))
    for name in sorted({name for batch in seen.batches for name in batch}):
        print(f"request {name} " + " ".join(f" {batch.get(name, '.')}" for batch in seen.batches))


seen, tokens = trace(requests=7, new_tokens=8)
draw(seen)
verdict = "right" if tokens == [answer[:8] for answer in right[:7]] else "WRONG"
print(f"rows sampled: {seen.sampled}, dropped: {seen.dropped}, tokens {verdict}")

# %% [markdown]
# Compare it with the same picture in chapter 5. There every second place was empty. Here all requests are in every
# batch (`#`), and all end by length: not one row is computed for nothing.
#
# ## 5. The engine, and the switch
#
# **Predict first.** Which parts of chapter 6's `build` does carry-over swap? Choose from `scheduler`, `packer`,
# `IO buffers`, `forward`, `executor` and `request book`, and answer with a list: `["executor", "packer"]`.

# %%
swapped = guess("the parts that carry-over swaps", ...)

# %%
difference = source_diff(build_before, build)
print(difference)
made_by = {"scheduler": "scheduler =", "packer": "Packer(", "IO buffers": "pool =", "forward": "forward ="}
made_by |= {"executor": "executor =", "request book": "book ="}
new_lines = [line for line in difference.splitlines() if line.startswith("+")]
swapped.compare([part for part, made in made_by.items() if any(made in line for line in new_lines)])

# %% [markdown]
# <details><summary>What happened</summary>
#
# The difference of two builds is the chapter's idea. A token that has no value yet must be *scheduled*
# (`CarryScheduler` where half batches were), *packed* as a placeholder with a map (`CarryPacker`), *carried* to the
# device (IO buffers with one input more, each linked to the other's ids), and *filled in* there (`carry_step`, the
# forward's first lines). What runs batches and what ends requests need not know: executor and request book are the
# same, and so is the loop.
#
# </details>
#
# (There are two switches as well. `graphs` chooses between the given forward and chapter 6's, which section 6 runs
# over; without it the simulated GPU runs the forward as one operation, which is quicker to simulate.)
#
# So there is no new loop. `PipelinedEngine.advance` is chapter 5's: prepare and launch the next batch, then commit the
# oldest. With `asynchronous=False` at most one batch is in flight, so it is committed before the next is prepared. The
# same functions in another order:

# %%
for asynchronous in (False, True):
    calls = ", ".join(trace(3, 5, asynchronous=asynchronous)[0].calls)
    print(f"asynchronous={asynchronous}:", *textwrap.wrap(calls, 100), sep="\n    ")

# %% [markdown]
# The switch is worth having. A result can be compared token for token with the order in which nothing is in flight,
# and the difference in time is what asynchrony is worth, and nothing else.
#
# In the synchronous order `carry_index` is called too. Nothing is in flight, so all of it is `KEEP`.
#
# Look at the two ends of the asynchronous order. At the start nothing is in flight, and two batches are launched before
# the first commit. At the end there is nothing to prepare, and one batch is left to commit. Cold start, steady state,
# drain.
#
# Now the speed, with 8 requests. Section 1 has the ceiling for them (on the simulated GPU, its first line). On a real
# GPU this is the tiny model, which section 1 doesn't have: there chapter 4's engine idles for more than half of the
# time, and the host is the longer part.
#
# **Predict first.** How many times the tokens of chapter 4's engine does the asynchronous one give?

# %%
times_faster = guess("asynchronous: how many times the tokens per second of one batch at a time?", ...)

# %%
engines = {
    "one batch (ch04)": build_events,
    "two half batches (ch05)": build_half_batches,
    "asynchronous": build,
    "asynchronous=False": partial(build, asynchronous=False),
}
served = {name: serve(build_it, load) for name, build_it in engines.items()}
print(f"{'':24} {'idle':>6} {'ms/step':>8} {'tokens/s':>9}  wrong tokens")
speed = {}
for name, run in served.items():
    rows_per_step = load.requests / 2 if "half" in name else load.requests
    numbers = per_step(run.recording, rows_per_step)
    speed[name] = numbers["tokens_per_s"]
    print(
        f"{name:24} {numbers['idle_share']:6.1%} {numbers['ms_per_step']:8.2f} {numbers['tokens_per_s']:9.0f}"
        f"  {run.wrong_share(right):.0%}"
    )
print(f"on: {accelerator.get_device_name()}, {load.requests} requests, clock: {served['asynchronous'].recording.clock}")
times_faster.compare(speed["asynchronous"] / speed["one batch (ch04)"])
plot_timeline(served["asynchronous"].recording, title="Carry-over")

# %% [markdown]
# Follow a token from one forward to the next: it does not leave the device on the way. The host gets a copy of it
# meanwhile, and has until the end of the next forward to look at it. While batch N runs, the host commits N - 1 and
# prepares N + 1. Both lie under a forward, unless the host takes longer than a forward, as it does with the tiny model
# on a real GPU.
#
# The same recorded with 32 requests (45 ms, as in the pictures of chapters 4 to 6), and then the comparison of the four
# engines in every case of section 1. The titles name the device.
#
# ![Carry-over: one forward right behind the other, commits and prepares under them](../../figures/ch07_steps.png)
#
# ![Tokens per second of four engines: the asynchronous one reaches the ceiling set by the idle share, two half batches
# give less than one batch at a time](../../figures/ch07_engines.png)

# %%
for recording in recorded("ch07_engines"):
    rows = recording["rows"]
    print(f"{recording['device']}, clock {rows[0]['clock']}")
    print(f"    {'requests':>11}  {'engine':19}   idle  ms/step  host ms  tokens/s  tokens differ")
    for row in rows:
        print(
            f"    {row['model']:2} {row['requests']:8}  {row['engine']:19} {row['idle_share']:6.1%}"
            f" {row['ms_per_step']:8.2f} {row['host_ms_per_step']:8.2f} {row['tokens_per_s']:9.0f}"
            f" {row['wrong_share']:14.0%}"
        )
    for one, half, ours in zip(rows[::4], rows[1::4], rows[2::4], strict=True):
        ceiling, gain = 1 / (1 - one["idle_share"]), ours["tokens_per_s"] / one["tokens_per_s"]
        device_ms = (1 - one["idle_share"]) * one["ms_per_step"]
        longer = "host" if ours["host_ms_per_step"] > device_ms else "device"
        print(
            f"    {one['model']:2} {one['requests']:3} requests: promised at most {ceiling:.2f}, got {gain:.2f} times"
            f" chapter 4, {ours['tokens_per_s'] / half['tokens_per_s']:.2f} times two half batches;"
            f" longer: the {longer}"
        )

# %% [markdown]
# Compare the promise with the gain, case by case.
#
# Where the *device* is the longer part, the ceiling is reached: as many steps as in chapter 4, half as many as with two
# half batches, and no gap. (It may be a hundredth or two more than promised: in chapter 4's order a forward takes a
# little longer between its two events, since the host is still launching it when the first one passes.)
#
# Where the *host* is the longer part, there is a gap again. The host's work grows with every row. Now the host is the
# one that is never idle, and the device waits for it. Overlap hides the shorter of the two behind the longer one. It
# cannot hide the longer one. From there on, only a quicker host helps.
#
# On the virtual clock `asynchronous=False` is as fast as chapter 4's engine, to within a hundredth. So the gain comes
# from the order alone, not from the second set of buffers. Where a GPU was recorded it is slower than chapter 4's in
# every case: its host works longer (the column *host ms*), on the map and on launching what applies it, and in that
# order nothing hides this.
#
# The last column of the table compares the tokens with chapter 4's. The asynchronous engine has the same batches, and
# so the same tokens. Where two half batches differ on a GPU, that isn't a race. They compute half as many prompts at a
# time, matrix products of another shape add in another order, and bfloat16 rounds the sums differently. A model with
# random weights chooses among nearly equal scores, and after one other choice the whole answer is another one.
#
# ## 6. Over your graphs
#
# So far the forward was the one that is given. With `graphs=True` it is chapter 6's `GraphForward`, and what it
# captures is `carry_step`: your `apply_carry` is recorded as the first operations of every graph. When a graph is
# replayed, no line of it runs in Python. How can a graph, which is the same list of operations forever, carry other
# tokens at every step?
#
# Because a graph knows addresses, and all that changes from step to step lies at addresses that do not:
#
# - **the map** is an input, like the token ids. Each set of IO buffers has its `carry_index` in static memory, and the
#   copy in writes the batch's own map there, before the replay, ordered by `h2d_done`;
# - **the ids of the batch before** lie in the other set's `device_ids`. The graphs of buffers 0 have the address of
#   buffers 1's ids in them, and the other way round. That is why `build` calls `link` before it makes the executor: the
#   executor's constructor captures;
# - **which buffers** a batch uses decides which graph is replayed. Chapter 6's key has the address of the output in it,
#   so it tells the two sets apart, and needs nothing more for carry-over.
#
# And `apply_carry` decides nothing in Python: no `if`, no length that depends on the map, nothing that waits. That is
# why section 3 asked for one expression for all tokens.
#
# The simulated GPU records a graph operation by operation, so this takes few requests and a short `max_length` (the
# block table, which the graphs read as a whole, is as wide as the longest request). Look at the tokens, which should be
# equal with and without graphs, and at the idle time:

# %%
few = Load(model, requests=4)
longest = few.prompt_len + few.new_tokens
over_graphs = partial(build, graphs=True, max_length=longest)
given = serve(build, few)
for policy in ("eager", "lazy", "random:2") if is_simulated() else ("eager",):
    graphs = serve(over_graphs, few, policy, costs=large_model_costs())
    idle, wrong = graphs.recording.idle_share(), graphs.wrong_share(given.outputs)
    print(f"graphs, {policy:9} {graphs.ms_per_step:.2f} ms per step, idle {idle:.1%}, tokens that differ: {wrong:.0%}")
    if is_simulated():
        print(f"{'':17} races: {len(accelerator.races())}")

# %% [markdown]
# The same tokens, and on the simulated GPU no gap. (How long a step takes is not to be compared with section 5: here
# each operation of the model has a declared price of its own.)
#
# Now suppose that the map were captured **by value**: the graph gets the numbers that are in the map when it is
# captured, instead of the address where the next batch's numbers will be. It happens more easily than it sounds. A list
# of Python numbers in the forward is enough, or an `if` that asks whether there is anything to carry, or a copy of the
# tensor that is made beforehand to be on the safe side. The cell does the last: it captures the engine's graphs
# once more, with a copy of each map.
#
# **Predict first.** What is in the map at the time of the capture? So how many of the 16 tokens of an answer will be
# right?

# %%
right_tokens = guess("map copied at capture: right tokens among the 16 of the first answer", ...)

# %%
copies = []  # they stay alive, so the addresses stay good


def by_value(*arguments, **limits):
    """Your engine, with graphs that have the map of their capture in them."""
    engine = over_graphs(*arguments, **limits)
    for buffers in engine.executor.pool.buffers:
        copies.append(buffers.device_inputs["carry_index"].clone())
        with_a_copy = buffers.forward_inputs | {"carry_index": copies[-1]}
        engine.executor.forward.capture_all(with_a_copy, buffers.device_ids, buffers.full_decode)
    accelerator.synchronize()
    return engine


stale = serve(by_value, few, costs=large_model_costs())
print("the map in the graphs:", sorted(set(copies[0].tolist())))
print("right:   ", given.outputs[0])
print("by value:", stale.outputs[0])
print(f"{stale.wrong_share(given.outputs):.0%} of the tokens are wrong", end="")
print(f", races: {len(accelerator.races())}" if is_simulated() else "")
right_tokens.compare(sum(a == b for a, b in zip(stale.outputs[0], given.outputs[0], strict=True)))

# %% [markdown]
# <details><summary>What happened</summary>
#
# When an engine captures, nothing is in flight and the buffers hold their padding: the map is `KEEP` throughout. So
# these graphs keep every token, and what they keep is the placeholder. Every decode step computes as if token 0 had
# been sampled before it. Only the first token of an answer is certain to be right: it comes from a step with prompts,
# which is launched operation by operation and reads the true map. And there is no race and no error, since every access
# is in order and every address is valid. Only a comparison with the right tokens finds it.
#
# </details>
#
# The rule from chapter 6 once more: **what was decided in the capture is decided forever.** What differs from step to
# step is *data*, in static memory, or it is part of the graph's key.
#
# ## 7. The price: one step too far
#
# **Predict first.** Request 0 samples an EOS token in batch 3. Which is the last batch that it is in?

# %%
last_batch = guess("EOS in batch 3: the last batch that request 0 is in", ...)

# %%
seen, tokens = trace(requests=5, new_tokens=10, eos={right[0][3]})
draw(seen)
print("request 0:", tokens[0], "ends with EOS", right[0][3])
print(f"rows sampled: {seen.sampled}, tokens: {sum(map(len, tokens))}, dropped at commit (x): {seen.dropped}")
last_batch.compare(max(step for step, batch in enumerate(seen.batches) if "0" in batch))

# %% [markdown]
# <details><summary>What happened</summary>
#
# The row marked x was launched before batch 3 was committed. It has computed something that no caller wanted. At commit
# its epoch is not the request's any more, and it is dropped: no token after EOS, no second end. The others notice
# nothing.
#
# </details>
#
# Is it dangerous that it *wrote* keys and values into blocks that had been freed meanwhile? No: all access to the cache
# is queued on the one compute stream. The next owner of the block writes it in a later forward, behind this one.
#
# What does it cost? One row for each request that ends with EOS. 64 requests went through 16 rows, in three variants
# that differ in how often a token ends its sequence.
#
# **Predict first.** Which share of all sampled rows is dropped if an answer has 4 tokens on average? If it has 56?

# %%
short_answers = guess("answers of 4 tokens: rows that are dropped, %", ...)
long_answers = guess("answers of 56 tokens: rows that are dropped, %", ...)

# %%
dropped = []
for recording in recorded("ch07_overrun"):
    rows = recording["rows"]
    print(f"{recording['device']}, clock {rows[0]['clock']}: {rows[0]['requests']} requests, {rows[0]['rows']} rows")
    for one, ours in zip(rows[::2], rows[1::2], strict=True):
        gain = ours["tokens_per_s"] / one["tokens_per_s"]
        dropped.append(100 * ours["dropped"] / ours["sampled"])
        print(
            f"    {ours['tokens'] / ours['requests']:4.0f} tokens a request, {ours['ended_by_eos']} end with EOS:"
            f" {ours['dropped']:3} of {ours['sampled']:4} rows dropped ({ours['dropped'] / ours['sampled']:5.1%}),"
            f" steps {one['steps']} -> {ours['steps']}"
            f"\n{'':10}ms per step {one['ms_per_step']:.1f} -> {ours['ms_per_step']:.1f}, tokens/s times {gain:.2f}"
        )
short_answers.compare(dropped[0], "%")
long_answers.compare(dropped[2], "%")

# %% [markdown]
# <details><summary>What happened</summary>
#
# ![Share of the sampled rows that is dropped at commit: a fifth with answers of 4 tokens, hardly any with answers of
# 56](../../figures/ch07_overrun.png)
#
# Every request that ends with EOS has one row dropped, however long its answer was. With answers of four tokens that is
# a fifth of all rows, and on the simulated GPU most of the gain goes with them: a newcomer gets the place one step
# later. With answers of more than fifty tokens it hardly shows. And if no request waits for the place, it costs one row
# of a batch, which is cheap.
#
# </details>
#
# On a real GPU look at the time of a step first. It is far above that of a decode step, most of all with short
# answers. A step in which a newcomer's prompt is computed has a shape of its own, so it is launched operation by
# operation (chapter 6). That keeps the host busy for longer than the device, and behind it nothing can be hidden. With
# short answers almost every step is of this kind. Asynchrony has nothing to give there, the dropped rows cost the same
# as ever, and the engine is slower than the synchronous one. Chapter 8 captures these steps, too.
#
# ## 8. Preempted in flight
#
# When blocks run out, chapter 2's scheduler takes those of the latest request away. Now that request may have a token
# in flight. What happens to it?
#
# It is lost, and sampled again. `preempt` advances the epoch and forgets pending samples. The row in flight is dropped
# at commit. The request comes back with what the host knows (prompt and committed output, as one long prompt), and its
# next token follows. Nothing twice, nothing missing:

# %%
blocks = {"block_size": 4, "num_blocks": 20}
seen, tokens = trace(requests=5, new_tokens=12, **blocks)
draw(seen)
print(f"dropped (x): {seen.dropped};", "tokens right" if tokens == [t[:12] for t in right[:5]] else "tokens WRONG")

# %% [markdown]
# Requests 4 and 3 are preempted with a token in flight (x). They come back in batch 12, when blocks are free again, and
# end with all their tokens. (A row with an unfinished prompt would be drawn as c.)
#
# For greedy requests the lost token comes again because the model is the same; for sampled ones because the random
# number belongs to (seed, position), as chapter 2 has it.
#
# ## 9. Two ways to get it wrong
#
# Two "simplifications". The first one: the ids stay on the device anyway, so **one set of IO buffers will do**. The
# second one: two batches in flight, so **two compute streams** will be faster. Each is another executor, so this
# section needs the engine with a part exchanged: `async_engine` is this chapter's `build`, with its parts as arguments.
#
# **Predict first.** Which share of the tokens is wrong in each, on the simulated GPU with the policy `lazy`?

# %%
wrong_with_one_set = guess("one set of buffers: tokens that are wrong, %", ...)
wrong_with_two_streams = guess("two compute streams: tokens that are wrong, %", ...)


# %%
def one_set(pool, forward, observers):
    """An executor that takes two batches in flight through one set of IO buffers."""
    only = pool.buffers[0]
    only.forward_inputs["previous_ids"] = only.device_ids
    return EventExecutor(BufferPool([only]), forward, observers)


class TwoComputeStreams(EventExecutor):
    """The forwards take turns on two streams."""

    def queue(self, batch, buffers):
        if batch.step == 0:
            self.computes = self.compute, new_stream("compute 2")
        self.compute = self.computes[batch.step % 2]
        super().queue(batch, buffers)


class MadeLate(TwoComputeStreams):
    """The same, and every second forward is queued behind 20 ms of other work in its stream."""

    def run(self, batch, buffers):
        if batch.step % 2 == 0:
            for _ in range(20):
                sleep(1)
        super().run(batch, buffers)


def reports(*wanted):
    """The first report for each pair of lanes."""
    for pair in wanted:
        race = next((race for race in accelerator.races() if (race.first.lane, race.second.lane) == pair), None)
        print(race or f"no race between {pair[0]} and {pair[1]}", "\n")


if is_simulated():
    variants = {
        "one set of buffers": one_set,
        "two compute streams": TwoComputeStreams,
        "the same, made late": MadeLate,
    }
    wrong = {}
    for name, executor in variants.items():
        for policy in ("eager", "lazy", "random:2"):
            share = serve(partial(async_engine, executor=executor), load, policy).wrong_share(right)
            wrong[name, policy] = round(100 * share, 1)
            print(f"{name:20} {policy:9} {share:4.0%} of the tokens wrong, {len(accelerator.races()):3} races")
    wrong_with_one_set.compare(wrong["one set of buffers", "lazy"], "%")
    wrong_with_two_streams.compare(wrong["two compute streams", "lazy"], "%")
    serve(partial(async_engine, executor=one_set), load)
    print("\nOne set of buffers:")
    reports(("h2d", "host"), ("compute", "h2d"), ("d2h", "compute"))

# %% [markdown]
# One set of buffers: the host writes inputs while they are copied, the copies write what a forward reads, and the next
# forward writes ids that are being copied out. Carry-over saved the way through the host for *one* number. All other
# inputs still go through the buffers.

# %%
if is_simulated():
    serve(partial(async_engine, executor=TwoComputeStreams), load)
    print("Two compute streams:")
    reports(("compute", "compute 2"))
    kv_cache = [race.buffer for race in accelerator.races() if "float32" in race.buffer]
    print("and, between the same two, on the KV cache:", kv_cache[0] if kv_cache else "none")

# %% [markdown]
# Two compute streams: the tokens are *right*, by luck. The next batch has to be copied in first, and that gives each
# forward a head start. With the head start gone (made late) they are wrong as soon as the device takes another order
# than that of the program. The report says so from the beginning. It names the ids, written by one forward and read by
# the next: exactly the edge that section 3 got for nothing, from the order of one stream. The KV cache has the same
# problem. And there is nothing to gain, since each forward needs the one before.
#
# ## 10. Find the bug
#
# A colleague finds the position test needless: "A request that was in the batch before gets its last token from there.
# All others keep theirs. I look the request up by its id; ids are unique."


# %%
class ByName(CarryPacker):
    """A colleague's version of exercise 7.1, in a packer of its own."""

    def pack(self, step, rows, previous):
        batch = super().pack(step, rows, previous)
        if previous is None:
            return batch
        place = {row.request.request_id: number for number, row in enumerate(previous.sampling_rows)}
        index = []
        for row in batch.rows:
            index += [KEEP] * (row.num_tokens - 1) + [place.get(row.request.request_id, KEEP)]
        return replace(batch, inputs=replace(batch.inputs, carry_index=torch.tensor(index)))


by_name = partial(async_engine, packer=ByName)
print(f"on the usual load {serve(by_name, load).wrong_share(right):.0%} of the tokens are wrong")
if is_simulated():
    print("races:", len(accelerator.races()))


def second_answer(build_it, second_id):
    """Request "a" ends with EOS; at once another prompt is added under `second_id`. Returns its tokens."""
    if is_simulated():
        accelerator.reset("eager", on_race="collect")
    engine = build_it(model, **load.limits)
    engine.book.eos_ids = {right[0][3]}
    engine.add_request("a", load.prompts[0], SamplingParams(max_tokens=16))
    answers = []
    for output in run_to_end(engine):
        if output.finish_reason is not None:
            answers.append(list(output.output_ids))
            if len(answers) == 1:
                engine.add_request(second_id, load.prompts[1], SamplingParams(max_tokens=6, ignore_eos=True))
    return answers[1]


for whose, build_it in (("yours", build), ("colleague's", by_name)):
    for second_id in ("b", "a"):
        print(f"{whose:12} second request named {second_id!r}: {second_answer(build_it, second_id)}")

# %% [markdown]
# The usual load is right. No race is reported: every access is in order, and what is read is the wrong number. When
# does it go wrong, and why?
#
# <details><summary>Answer</summary>
#
# Request "a" samples EOS in batch 3 and is in batch 4 all the same (section 7). The caller sees its end and adds a new
# request under the same name. It is prefilled in batch 5, while batch 4 is in flight, with the dead row in it. The map
# finds "a" there, and replaces the last token *of the new prompt* by the token that the dead request sampled after its
# end. From there on the answer is another one.
#
# It takes an EOS, a name used again, and at once. Load tests do not do that. Users do: a retry, a session id, a counter
# that starts at 0 for each connection. It is the bug seen with transformers 5.17 (section 2). With `(request, epoch)`
# as the key it cannot happen, and the position test makes it impossible a second time.
#
# </details>

# %% [markdown]
# ## 11. What this step cost, and what comes next
#
# - One row for each request that ends with EOS or a stop string, and its place is free one step later.
# - A new request finds one batch under way and one behind it, so it gets into a batch one step later. (Answers are not
#   late: N is committed as soon as its ids are there, if the host is done with N + 1 by then.)
# - One input more: the carry index, 8 bytes for each packed token. The host makes it row by row. On the virtual clock
#   that work has no price of its own, only the copy has one.
# - Whatever needs the last token *before* the next forward is prepared does not fit: a grammar that forbids tokens
#   depending on the last one, penalties on tokens just sampled, drafts for speculative decoding. They must be done on
#   the device, or wait.
# - A row in flight is a record of the past. Every place that finishes, cancels or preempts a request must advance its
#   epoch. Forget it in one place, and sooner or later a request gets a token too many.
#
# What is gained is the aim of this course: all requests in every batch, and a device that never waits, as long as the
# host is the quicker one. The tests of this chapter hold the engine to `generate`'s tokens under every policy, with
# preemption, and for EOS at every place: `make check CH=7`.
#
# What is missing is what a service needs: cancelling in flight, streaming text to the caller, bounded queues, errors
# that end one request and not the engine, graphs for the steps with prompts. Chapter 8 builds them, and then measures
# the whole engine against the transformers library on the same GPU.
#
# ## Check yourself
#
# <details><summary>Batch N has the rows Q (a chunk of an unfinished prompt), A and B; batch N + 1 has B and A, with one
# token each. What is the carry index?</summary>
#
# `[1, 0]`. The ids that N samples are those of A and B, at places 0 and 1; Q's chunk does not count.
#
# </details>
#
# <details><summary>Forward N + 1 and the copy out both read the ids that forward N has written. Why does only one of
# them need an event?</summary>
#
# Forward N + 1 is in the same stream as forward N, and one stream runs in order. The copy is in another one, `d2h`, so
# it has to wait for `compute_done`.
#
# </details>
#
# <details><summary>A request may have 5 tokens. It has 3, and one sample is pending. Is it scheduled once more? And
# after that?</summary>
#
# Once more: 3 + 1 is less than 5. With that row 3 + 2 reach 5, and it is not scheduled again, whatever the two tokens
# are.
#
# </details>
#
# <details><summary>A stop string is found when batch N is committed. What becomes of the request's row in N + 1, and of
# its blocks?</summary>
#
# The row is computed, and dropped when N + 1 is committed, because the epoch has advanced. The blocks are free at once.
# Their next owner writes them in a later forward of the same stream, so nothing is overwritten too early.
#
# </details>
#
# <details><summary>In chapter 4's order the host works 12 ms in each step, and then the device 10 ms. Which ceiling
# does the idle share promise, and what does carry-over reach at most?</summary>
#
# The device is idle for 12 of 22 ms, so 1 / (1 - 12/22) = 2.2 times. But the host needs its 12 ms in every step: 22/12,
# or 1.83 times, and the device is still idle for 2 of 12 ms. Chapter 9 is about such cases.
#
# </details>
#
# **Stretch task: the largest gain.** On the simulated GPU, with which number of requests does carry-over gain most over
# one batch at a time? Beat the gain that section 5's table shows for 128 requests. And why can no number of requests
# give more than twice the tokens?
#
#     from figures.accelerated import open_load
#
#     def gain(requests):
#         many = open_load(requests=requests)
#         one, ours = (per_step(serve(each, many).recording, requests) for each in (build_events, build))
#         return ours["tokens_per_s"] / one["tokens_per_s"]
#
# Your predictions of this chapter:

# %%
list_guesses()
