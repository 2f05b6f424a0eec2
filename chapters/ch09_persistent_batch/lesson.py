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
# # Chapter 9: When the host is the bottleneck
#
# Asynchrony hides the host's work behind the device's, as long as there is less of it. Chapter 8's engine goes over its
# requests in Python several times a step, so its work grows with every row; the device's grows much less. At some
# number of rows the lines cross, and from there on the GPU waits again, in spite of all that was built to prevent it.
# In this chapter the batch *persists*: what the engine knows of its requests is kept in arrays, a step edits them, and
# Python looks at a request when it comes, when it ends, and when its text is wanted.
#
# - `seats.py`: the running requests as columns (exercise 9.1); `rows.py`: the rows of a step
# - `array_scheduler.py`: budget and blocks for all at once (9.2 to 9.4); `array_blocks.py`, `prefix_array_blocks.py`
# - `array_packer.py`: the inputs of all tokens without a loop (9.5); `array_batch.py`, `persistent_buffers.py`
# - `array_book.py`: a commit of a few additions (9.6); `step_outputs.py`: objects for those who look (9.7)
# - given: `array_texts.py`, `array_metrics.py`, `build.py`, `persistent_engine.py`
# - `forecast.py`: at how many rows the host becomes the bottleneck on a given machine (9.8)
#
# What has an exercise is yours, in `my/ch09_persistent_batch/`; the rest is in
# `solutions/ch09_persistent_batch/`.
#
# About two and a half hours: 110 minutes for the eight exercises, and 40 to read this page and the modules that are
# given. (The cells run in half a minute.) You need a little numpy: indexing with arrays and with masks, `cumsum`,
# `repeat`, `where`; `clip` and `isin` can be of use.

# %%
import sys

sys.path.insert(0, "../..")  # the repository root, seen from this notebook
from toolkit.course import open_chapter

open_chapter("ch09")  # whose code runs (COURSE_CODE); switches autoreload on

# %%
import numpy as np
import torch
from IPython.display import display

from ch02_continuous_batching import EngineConfig, SamplingParams
from ch02_continuous_batching.random_numbers import uniform_number
from ch03_streams.host_prices import PER_ROW, PER_STEP
from ch08_full_engine import FullEngine
from ch08_full_engine.build import build as build_before
from ch09_persistent_batch import ArrayBlocks, ArrayScheduler, PersistentEngine, SeatedRequest, Seats
from ch09_persistent_batch.build import build
from ch09_persistent_batch.forecast import Lines, asynchronous_ms, rows_to_cross, synchronous_ms
from figures.recorded import drawn_from, recorded, recorded_figures
from toolkit.commands.decoding import Load, ended, serve
from toolkit.device import accelerator, is_simulated
from toolkit.in_flight import keep_in_flight, settled, step_ms
from toolkit.machine import Machine
from toolkit.models import load_model
from toolkit.predictions import guess, list_guesses
from toolkit.source_diff import source_diff
from toolkit.timeline import plot_timeline
from toolkit.timeline.between_forwards import between_forwards

torch.set_num_threads(1)  # the model is tiny: a second thread costs more than it saves
loaded = load_model("tiny", device="cpu" if is_simulated() else "cuda")
model, tokenizer = loaded.model, loaded.tokenizer
print("this notebook runs on:", accelerator.get_device_name())

# %% [markdown]
# ## 1. Where the lines cross
#
# On the virtual clock everything has a price, so the place can be computed. Chapter 3's `host_prices.py` declares 0.8
# ms for a prepare and 0.5 for a commit, and 0.04 ms more for each row in either. The forward takes 8 ms, and 0.02 for
# each token; in decode a row is a token.
#
# **Predict first.** At how many rows does the host's work take as long as the forward? Solve it on paper. Then: for
# which share of the time is the device idle with 128 rows, in the asynchronous order?
#
# Predictions are cells like the next one. Put a number (or the words that are asked for) in place of the dots and run
# the cell; a later one compares it with what was measured. The lesson also runs with the dots left in place.

# %%
crossing_guess = guess("rows at which the host's work takes as long as the forward", ...)
idle_guess = guess("128 rows, asynchronous: share of the time for which the device is idle, %", ...)

# %% [markdown]
# The next cell measures the steps with 32 and with 128 rows, from the start of a forward to the start of the next one.


# %%
def measured(name, make, load):
    """Serve the load. What its decode steps took is printed."""
    run = serve(make, load)
    step = between_forwards(run.recording)
    print(
        f"{name}, {load.requests:3} rows: {step.ms:.2f} ms per step, of which the forward takes {step.device_ms:.2f}; "
        f"the device is idle for {step.idle_share:.1%}"
    )
    return run


for rows in (32, 128):
    run = measured("chapter 8", FullEngine, Load(model, requests=rows, prompt_len=8, new_tokens=12))
idle_guess.compare(100 * between_forwards(run.recording).idle_share, "%")
plot_timeline(run.recording, title="Chapter 8's engine, 128 rows: the device waits for the host")

# %% [markdown]
# The lines are 1.3 + 0.08 n for the host and 8 + 0.02 n for the device:

# %%
fixed, each = sum(PER_STEP.values()), len(PER_STEP) * PER_ROW  # of the host
crossing_guess.compare(round((8 - fixed) / (each - 0.02)), "rows")
for rows in (32, 128):
    host, forward = fixed + each * rows, 8 + 0.02 * rows
    idle = max(0, 1 - forward / host)
    print(f"{rows:4} rows: host {host:.2f} ms, forward {forward:.2f} ms; the device is idle for {idle:.1%}")

# %% [markdown]
# (Measured it is a little more: the launch has a price too, of some hundredths of a millisecond. On a real GPU the cell
# above has measured the tiny model's forward and this host, which have nothing to do with these prices, and the device
# may hardly idle there. Compare your guess with the last line.)
#
# These prices are round figures. What are the real ones? On an H100, with the 1B shape and with that of the default
# model (135 million parameters), both engines; the numbers over the bars are the device's idle shares:

# %%
for picture in recorded_figures("ch09", "ch09_crossing", "ch09_idle"):
    display(picture)

# %%
for recording in recorded("ch09_crossing"):
    print(f"{recording['device']}, clock {recording['rows'][0]['clock']}")
    at_128 = {(row["model"], row["engine"]): row for row in recording["rows"] if row["rows"] == 128}
    for row in recording["rows"]:
        times = row["tokens_per_s"] / at_128[row["model"], row["engine"]]["tokens_per_s"]
        print(
            f"    {row['model']:4} {row['rows']:4} rows, {row['engine']}: host {row['host_ms']:5.2f}, device "
            f"{row['device_ms']:5.2f} ms, idle {row['idle_share']:5.1%}, {row['tokens_per_s']:8,.0f} tokens/s, "
            f"{times:.2f}x"
        )

# %% [markdown]
# Up to 128 rows, more requests bring chapter 8's engine many more tokens. From there on, four times as many bring 1.4
# times the tokens at most, and with the small model 512 bring fewer than 256. (The last column compares with the same
# engine's tokens at 128 rows.) The smaller the model, the earlier it happens: with the small one the host is the slower
# of the two at 32 rows already. (Each pair of engines has given the same tokens. The host's time is measured in a run
# of its own, and a host's speed changes from run to run: with the 1B shape, 256 rows and chapter 8, 4.83 ms of host
# work do not fit into the recorded step of 3.30.)
#
# Where does the time go? The host's clock again, now for each part of a step. This is another recording, of another
# load, so its times differ from those above: the 135M shape with 256 tokens of context in each row and shared prefixes
# switched on, on an engine with room for 512 rows of 1,024 tokens, however few there are. (Above, prompts have 24
# tokens, prefixes aren't shared, the layers are compiled, and each engine is as large as its load.) Compare chapter 8
# with chapter 9 within a recording, and not one recording with the other.

# %%
parts_recorded = drawn_from("host_cost")
shorter = min(row["context"] for row in parts_recorded["rows"])


def show_parts(engine, *parts):
    """The recorded times of these parts of a step, in microseconds, by rows."""
    print(f"{parts_recorded['device']}, {engine}, us a step")
    for row in parts_recorded["rows"]:
        if (row["engine"], row["context"]) == (engine, shorter):
            print(f"    {row['rows']:4} rows:", *(f"{part} {1e3 * row[part + '_ms']:7.0f} " for part in parts))


def host_ms(engine, rows):
    """The recorded time of a whole step of so many rows, waiting left out."""
    found = [row for row in parts_recorded["rows"] if (row["engine"], row["context"]) == (engine, shorter)]
    return next(row["host_ms"] for row in found if row["rows"] == rows)


show_parts("chapter 8", "schedule", "pack", "launch", "commit")
each = (host_ms("chapter 8", 512) - host_ms("chapter 8", 256)) / 256
print(f"from 256 to 512 rows, each row costs {1e3 * each:.0f} us")

# %% [markdown]
# Everything but the launch is in proportion to the rows: a loop, or several. The loops are not badly written. A row
# costs what it does because Python does about a hundred small things for it, and each takes a tenth of a microsecond or
# two.
#
# In decode, what changes from one step to the next? Each request has one token more. That is an addition. The rows, the
# sampling parameters, nearly all block tables are what they were. So instead of making everything again, keep it, and
# edit.
#
# ## 2. Seats
#
# A running request gets a **seat**: an index that it keeps from its admission to its end. All that the engine has to
# know of it is kept at this index in twenty numpy arrays, the *columns*. Three of them say how far it is:
#
# | column | tokens that |
# |---|---|
# | `computed` | have keys and values in the cache, or will have when the launched steps are done |
# | `known` | the host has: prompt and committed output |
# | `promised` | are known, and one more if a launched step is going to sample one |
#
# They replace `pending_samples` and the lengths of lists. How many tokens may a request compute next? Chapter 7 asks
# whether it is in its prompt, whether its token is in flight, whether that will be its last one. Here it is
# `promised - computed`, and 0 once `promised` has reached the `limit`. For all seats at once:

# %%
seats = Seats(max_rows=4, max_length=32, width=8)
for number, (prompt_length, max_tokens) in enumerate([(6, 9), (4, 9), (5, 1)]):
    prompt = list(range(100 * number, 100 * number + prompt_length))
    seats.join(SeatedRequest("abc"[number], prompt, SamplingParams(max_tokens=max_tokens), arrival=number))
# a is in its prompt; the others have launched theirs, and b's and c's first token is in flight
seats.computed[:3] = 2, 4, 5
seats.promised[:3] = 6, 5, 6
print("promised - computed:", (seats.promised - seats.computed)[:3])
print("below the limit:    ", (seats.promised < seats.limit)[:3])
print("tokens to compute:  ", ((seats.promised - seats.computed) * (seats.promised < seats.limit))[:3])

# %% [markdown]
# a computes the other four tokens of its prompt, b the one that is in flight (carried over), and c nothing: what is in
# flight is its last. The fourth seat is free. Its columns are 0, and 0 - 0 is nothing to do.
#
# ### Exercise 9.1: leave a seat (10 minutes)
#
# In `my/ch09_persistent_batch/seats.py`, fill `Seats.leave`, five lines. `make check CH=9`, `make hint EX=9.1`.
#
# **Predict first.** A request had an epoch of its own in chapter 2. Now a *seat* has one. Request b leaves seat 1, and
# a new request d takes it. How many times has the seat's epoch advanced by then?

# %%
epoch_guess = guess("the epoch of seat 1 after b has left and d has joined, from 0", ...)

# %%
seats.tables[1, :2] = 11, 12
seats.num_blocks[1] = 2
print("blocks:", seats.leave(seats.requests[1]), " epochs:", seats.epoch, " known:", seats.known)
seats.join(SeatedRequest("d", [7, 8], SamplingParams(), arrival=3))
print("seat 1 is taken again: epochs:", seats.epoch, " known:", seats.known, " served in the order", seats.order)
epoch_guess.compare(int(seats.epoch[1]))

# %% [markdown]
# The seat needs an epoch because it is handed out again at once, while a row of its last holder may be in flight. One
# advance, when the holder leaves, is enough. A commit compares the epochs of all rows with those of their seats, in one
# operation, and drops what differs.
#
# ## 3. One budget, many rows
#
# Chapter 2's scheduler is a loop: this one gets so many tokens, what is left is the budget for the next one. A loop in
# which each turn depends on the one before does not look like a job for arrays. But what a row finds left depends on
# the *sum* before it, and running sums are an array operation.
#
# ### Exercise 9.2: one budget for all rows (10 minutes)
#
# In `my/ch09_persistent_batch/array_scheduler.py`, fill `ArrayScheduler.within_budget`, one line. `make hint EX=9.2`.
#
# The same goes for blocks. How many each row lacks is one subtraction for all rows; if the free ones are enough for the
# sum, they are dealt out at once. Dealing out is the harder part: three blocks for this row, none for those, one
# for that. A ragged list, without a loop:

# %%
more = np.array([2, 1, 3])  # blocks that three seats need
print("whose is each of the six?  ", np.repeat(["a", "b", "c"], more))
print("where does each run begin? ", more.cumsum() - more)
print("counting within each run:  ", np.arange(6) - np.repeat(more.cumsum() - more, more))

# %% [markdown]
# ### Exercise 9.3: blocks for many rows at once (25 minutes)
#
# In the same file, fill `ArrayScheduler.extend_tables`, six lines. `make hint EX=9.3`.
#
# And if there are not enough? Then requests have to go, one at a time, and after each the next question has another
# answer. That is a loop by nature. But it is needed for a few rows only, and they can be found.
#
# ### Exercise 9.4: halve until it fits (15 minutes)
#
# In the same file, fill the end of `ArrayScheduler.serve`, eight lines. `make hint EX=9.4`.
#
# **Predict first.** 512 rows need a block each, and 500 blocks are free. About how many calls of `serve` does it take?
# And if only 256 are free?

# %%
some_guess = guess("512 rows need a block, 500 are free: calls of serve, about", ...)
half_guess = guess("512 rows need a block, 256 are free: calls of serve, about", ...)


# %%
def calls_of_serve(rows, free):
    """Let so many rows, each with a full block, go on with so many free blocks, and count the calls."""
    config = EngineConfig(num_blocks=rows + free, block_size=4, max_rows=rows, token_budget=rows)
    seats = Seats(rows, max_length=8, width=2)
    scheduler = ArrayScheduler(seats, ArrayBlocks(config.num_blocks, 4), config)
    for i in range(rows):
        seats.join(SeatedRequest(str(i), [5, 6, 7, 8, 9], SamplingParams(max_tokens=3), arrival=i))
    scheduler.extend_tables(seats.order, np.ones(rows, int))
    seats.computed[:] = 4
    calls, serve_rows = [], scheduler.serve
    scheduler.serve = lambda chosen: (calls.append(len(chosen)), serve_rows(chosen))
    return len(scheduler.schedule()), len(calls)


calls = {}
for free in (512, 500, 256):
    served, calls[free] = calls_of_serve(512, free)
    print(f"{free:4} free blocks: {served} rows served with {calls[free]} calls of serve")
some_guess.compare(calls[500])
half_guess.compare(calls[256])

# %% [markdown]
# <details><summary>What happened</summary>
#
# With 512 there is enough for all: one call. With 500 the first rows are served by the half, the quarter, the eighth.
# Of the last dozen the early ones make the late ones go, one by one. With 256 the first half is served by one call,
# and no block is left. In the second half each row needs a block that another one gives up: half of these rows are
# served, one by one, at the price of the other half. There halving saves nothing, and such a step takes the host
# longer than chapter 2's loop would. It pays because such steps are rare: those that had to go wait until there are
# blocks for them again.
#
# </details>
#
# What it saves in all other steps:

# %%
show_parts("chapter 8", "schedule")
show_parts("chapter 9", "schedule")

# %% [markdown]
# With few rows, here up to 8, the arrays are *slower*: a numpy call costs about a microsecond, whether it adds one
# number or a thousand.
#
# ## 4. The persistent batch
#
# The packer's turn. Its output, the input tensors, stays where it is: one piece of ordinary memory, laid out like the
# IO buffers. A step writes the columns that move on. In steady decode these are tokens, positions, slots, lengths and
# the carry index (and where a row is sampled, its random number); padding is still right, and of the block tables only
# those that have grown.
#
# How does the packer know that nothing else has changed? It compares *one* thing: whether the array of seats is the
# very same object as in the last step (`rows.seats is self.last`). `Seats.order` makes a new one only when a request
# has joined or left, and with the policy `fcfs` the scheduler hands it on as it is, as long as each running request
# has a row and there are blocks for all. With `prefill_first` it never does: that policy picks its rows with a mask,
# which makes a new array each time. Then, as in any step with other rows than the last, padding is copied and
# everything is written.
#
# ### Exercise 9.5: every packed token, without a loop (15 minutes)
#
# In `my/ch09_persistent_batch/array_packer.py`, fill `ArrayPacker.write_packed_tokens`, five lines. `make hint EX=9.5`.
#
# **Predict first.** Requests a, b and c have the seats 0, 1 and 2 and decode together. Each row carries over the token
# that it has sampled in the batch before. What are the numbers in the carry index? `"A"`: -1, since nothing is known.
# `"B"`: the number of the row. `"C"`: the number of its seat. Then a ends, and b and c go on. What does the carry index
# say for b in the first batch without a? And in the one after that?

# %%
carry_guess = guess("a, b and c decode together: the numbers in the carry index are A, B or C", ...)
first_guess = guess("the carry index for b in the first batch without a", ...)
next_guess = guess("and in the batch after that", ...)


# %%
class Shown:
    """Prints the carry index of each batch that an engine packs, and keeps that of b's row."""

    def __init__(self, engine):
        self.packer, self.pack, self.of_b = engine.packer, engine.packer.pack, []
        engine.packer.pack = self

    def __call__(self, step, rows, previous):
        batch = self.pack(step, rows, previous)
        names = " ".join(row.request.request_id for row in batch.rows)
        carry = self.packer.columns["carry_index"][: batch.inputs.sizes.tokens].tolist()
        print(f"batch {step}: rows {names:8} carry", carry)
        self.of_b.append(carry[names.split().index("b")])
        return batch


def small_engine(make=PersistentEngine, **options):
    """An engine with room for little, on a fresh device."""
    if is_simulated():
        accelerator.reset("eager", on_race="raise")
    return make(model, tokenizer, **({"num_blocks": 40, "block_size": 4, "max_rows": 4, "max_length": 64} | options))


engine = small_engine()
shown = Shown(engine)
for name, tokens in (("a", 3), ("b", 6), ("c", 6)):
    engine.add_request(name, [10, 11, 12], SamplingParams(max_tokens=tokens, ignore_eos=True))
while engine.has_work:
    engine.step()
first_guess.compare(shown.of_b[3])
next_guess.compare(shown.of_b[4])
carry_guess.compare("A" if shown.of_b[1] == -1 else "B" if shown.of_b[4] == 0 else "C")  # b keeps seat 1

# %% [markdown]
# <details><summary>What happened</summary>
#
# The identity, 0, 1, 2, as long as the rows are the same: row i's token is the i-th id of the batch before. When a has
# ended, the others move up, and their tokens do not: 1, 2. After that it is the identity again, for the rows as they
# are now.
#
# </details>
#
# So chapter 7's dictionary, asked for each token, has become an array in which nearly always nothing happens. It still
# has to be read, because of the one step in which something does. What packing costs before and now, and the launch,
# which copies what was packed and queues the step:

# %%
show_parts("chapter 8", "pack", "launch")
show_parts("chapter 9", "pack", "launch")

# %% [markdown]
# ## 5. Commit, and who pays for an object
#
# ### Exercise 9.6: commit a whole step (15 minutes)
#
# In `my/ch09_persistent_batch/array_book.py`, fill `ArrayBook.append` and `ArrayBook.ends_with_eos`, six lines. `make
# hint EX=9.6`.
#
# Then the step returns its results. Chapter 8 makes an object for each token, and the caller looks at all of
# them. With 512 rows that takes longer than the commit. So a step returns *arrays*, and makes objects for those who
# ask:
#
# ### Exercise 9.7: objects for those who look (5 minutes)
#
# In `my/ch09_persistent_batch/step_outputs.py`, fill `StepOutputs.one_by_one`, two lines. `make hint EX=9.7`.

# %%
engine = small_engine()
for name in "abc":
    engine.add_request(name, [10, 11, 12], SamplingParams(max_tokens=4, ignore_eos=True))
while engine.has_work:
    outputs = engine.step()
    print(len(outputs), "outputs,", len(ended(outputs)), "of them the last;", "the first:", next(iter(outputs), None))

# %%
show_parts("chapter 8", "commit", "outputs")
show_parts("chapter 9", "commit", "outputs")

# %% [markdown]
# (`outputs` is what it costs a caller to look at each of them. In chapter 8 the objects are made in the commit, so
# there it is little.)
#
# Text is the other thing that costs something for every token: the tokenizer is asked, and the answer depends on what
# came before. No array helps. But who needs it at once? A request with stop strings, since its text decides when it
# ends. For all others `stream_text=False` makes the text when the request ends. A service that streams makes it
# elsewhere: vLLM and SGLang have a separate process for it. (Section 8 tries a thread.) This is what it saves:


# %%
def tokens_looked_at(stream_text):
    """How many tokens are turned into text while a request runs."""
    engine, looked_at = small_engine(stream_text=stream_text), []
    push = engine.book.texts.push_token
    engine.book.texts.push_token = lambda request, token: (looked_at.append(token), push(request, token))[1]
    last = engine.generate([[10, 11, 12]], SamplingParams(max_tokens=12, ignore_eos=True))[0]
    return len(looked_at), last.text


show_parts("chapter 9", "text", "host")
for stream_text in (True, False):
    count, text = tokens_looked_at(stream_text)
    print(f"stream_text={stream_text}: {count:2} tokens became text while it ran; the text at the end: {text!r}")

# %% [markdown]
# Same text, later. And a last loop: a sampled row needs a random number made of its seed and position. A cryptographic
# hash takes a microsecond each, and has no form for arrays. So since chapter 2 `uniform_number` is plain arithmetic,
# which numpy does for all rows at once, bit for bit the same:

# %%
positions = np.arange(5, dtype=np.uint64)
print([uniform_number(7, position) for position in range(5)])
print(uniform_number(np.full(5, 7, np.uint64), positions).tolist())

# %% [markdown]
# ## 6. What persistent state invites
#
# State that lives on has hazards that state made afresh for each step doesn't have. Three of them, each planted in an
# engine of its own in `tests/ch09_persistent_batch/`:
#
# - *The persistent batch lies in pinned memory, and the copy to the device reads it there.* The next step's edits
#   overtake the copy. The simulated GPU reports a race between host and copy engine.
# - *One staging buffer for both sets of IO buffers.* The pool gives out a set only when the batch that used it is
#   through, but the other set's batch is in flight then, and its copy may still read the same memory. The same report.
# - *A seat's epoch does not advance.* A token in flight goes to the seat's next holder, or counts twice after a
#   preemption. No race: the tests see other tokens.
#
# The engine avoids the first two by keeping the state in *ordinary* memory, which no copy engine reads, and copying it
# as a whole into the pinned side of the IO buffers whose turn it is. That copy costs some microseconds, and buys one
# state instead of one for each set of buffers.
#
# **Predict first.** Here is the second mistake. Which two of `"load"`, `"copy in"`, `"forward"` and `"copy out"` race?
# (`load` is the host's copy into the pinned memory.) And which event would the host have to wait for in between:
# `"h2d_done"`, `"compute_done"` or `"d2h_done"`? (The simulated GPU reports it; on a real one the cell with the answer
# only defines a class.)

# %%
race_guess = guess("one staging buffer: which two of load, copy in, forward, copy out race", ...)
event_guess = guess("the event that the host would have to wait for, h2d_done, compute_done or d2h_done", ...)

# %%
from ch09_persistent_batch.persistent_buffers import PersistentBuffers


class OneStagingBuffer(PersistentBuffers):
    """Both sets of IO buffers are loaded through the same pinned memory."""

    shared = None

    def __init__(self, *arguments):
        super().__init__(*arguments)
        OneStagingBuffer.shared = self.host_buffer if OneStagingBuffer.shared is None else OneStagingBuffer.shared
        self.host_buffer = OneStagingBuffer.shared


if is_simulated():
    accelerator.reset("lazy", on_race="collect")
    names = build.__globals__
    names["PersistentBuffers"] = OneStagingBuffer
    engine = PersistentEngine(model, num_blocks=40, block_size=4, max_rows=4, max_length=64)
    names["PersistentBuffers"] = PersistentBuffers
    engine.generate([[10, 11, 12], [20, 21]], SamplingParams(max_tokens=6, ignore_eos=True))
    race = accelerator.races()[0]
    print(f"{len(accelerator.races())} races; the first one:\n{race}")
    lanes = {"host": "load", "h2d": "copy in", "compute": "forward", "d2h": "copy out"}
    race_guess.compare([lanes[race.first.lane], lanes[race.second.lane]])
    event_guess.compare(f"{race.first.lane}_done")

# %% [markdown]
# The copy in `packed_buffers.py` reads, on the stream h2d; the next step's `load` in `persistent_buffers.py` writes,
# on the host. An event on h2d behind the copy would have to be waited for by the host before it writes. There is one,
# `h2d_done`, but only the compute stream waits for it. The host waits for `d2h_done`, when it commits a batch. That
# is in time for the batch's own set of buffers, which is used again two steps later, and too late for memory that the
# next step writes.
#
# ## 7. The same engine
#
# **Predict first.** Which parts of chapter 8's build are the same classes as before, of `"scheduler"`, `"book"`,
# `"packer"`, `"executor"` and `"metrics"`?

# %%
kept_guess = guess("parts of chapter 8 that are kept, of scheduler, book, packer, executor, metrics", ...)

# %%
print(source_diff(build_before, build))
before, after = (make(model, tokenizer, **Load(model).limits) for make in (build_before, build))
parts = ("scheduler", "book", "packer", "executor", "metrics")
kept_guess.compare([part for part in parts if type(getattr(before, part)) is type(getattr(after, part))])

# %% [markdown]
# The parts with a loop over requests are gone; those without one are still there. And it *is* chapter 8's engine:
# cancelling, preemption, shared prefixes, stop strings, errors and the server work as before. The tests run both with
# the same random loads and compare every step's outputs; and they put this engine through chapter 8's own tests.

# %%
load = Load(model, requests=128, prompt_len=8, new_tokens=12)
runs = [measured("chapter 8", FullEngine, load), measured("chapter 9", PersistentEngine, load)]
print("the same tokens:", runs[0].outputs == runs[1].outputs)
plot_timeline(runs[1].recording, title="The persistent batch, 128 rows: no gap")

# %% [markdown]
# (The virtual clock charges 0.001 ms a row here, a fortieth of what it charges the others. What a real machine takes is
# in the recording of section 1's parts, here with the longer context too:)

# %%
for picture in recorded_figures("host_cost", "host_cost"):
    display(picture)

# %% [markdown]
# And all of it, part by part:


# %%
def compare_parts(rows):
    """Both chapters' times for each part of a step with so many rows."""
    found = {row["engine"]: row for row in parts_recorded["rows"] if (row["rows"], row["context"]) == (rows, shorter)}
    before, now = found["chapter 8"], found["chapter 9"]
    parts = ("schedule", "pack", "launch", "commit")
    for row in (before, now):
        row["rest_ms"] = row["host_ms"] - sum(row[f"{part}_ms"] for part in parts)
    print(f"{rows} rows, us a step: chapter 8 | chapter 9")
    for part in (*parts, "rest", "host", "outputs", "text"):
        name = "whole step" if part == "host" else part
        print(f"    {name:10} {1e3 * before[part + '_ms']:8.0f} | {1e3 * now[part + '_ms']:7.0f}")


compare_parts(32)
compare_parts(512)

# %% [markdown]
# (The rest is what has no line of its own: a step that can be taken back, the calls themselves, and metrics, which
# chapter 8 counts row by row. Each line is a median, so they do not add up exactly. Outputs and text come on top of
# the whole step, for callers that ask for them.)
#
# ## 8. What other engines do
#
# - **Several steps a visit**: launch k steps, look at the host's side once. It divides the host's work by k, and makes
#   every join, end and cancel wait for up to k steps. vLLM had it (multi-step scheduling), and gave it up for
#   asynchronous scheduling.
# - **Inputs prepared on the device** from state that lives there (vLLM's Model Runner V2): the host sends edits. It is
#   needed where the host does not know lengths when it launches, as with speculative decoding. Here it would save the
#   writing of positions and slots, a few microseconds, and add kernels to every step.
# - **Processes instead of threads**: tokenizing, detokenizing and HTTP run beside the engine's process, not in it.
#   Threads of one process share Python's global lock.
# - **Free-threaded Python** (3.13t and later) has no such lock, and makes each single thread a little slower.
#
# The third can be tried here. Work like a step's, alone; beside a thread that makes text; and beside a process that
# does. How long that takes depends on whatever else runs on the machine. How often it has to *wait* for the lock does
# not, and Linux counts that.
#
# **Predict first.** Alone, the work takes a second or a few in all. The thread and the process beside it are busy in
# Python all the time. How often does the work have to wait beside each of the two?

# %%
thread_guess = guess("a second of work beside a busy thread: times that it has to wait", ...)
process_guess = guess("the same beside a busy process", ...)

# %%
import multiprocessing
import threading
import time


def make_text(stop):
    """Decode tokens again and again, as a detokenizer under load does."""
    while not stop.is_set():
        for token in range(3, 90):
            tokenizer.decode([token, token + 1, token + 2])


def waits():
    """How often this thread has gone to sleep until something came, such as the lock."""
    import resource  # which Windows does not have

    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def work(pieces=2000):
    """Small pieces of Python work. Returns how often it had to wait in them."""
    before = waits()
    for _ in range(pieces):
        sum(i * i for i in range(10_000))
    return waits() - before


def work_beside(helper, event):
    """The same while `helper`, a thread or a process, makes text."""
    stop = event()
    helping = helper(target=make_text, args=(stop,), daemon=True)
    helping.start()
    time.sleep(0.2)
    seen = work()
    stop.set()
    helping.join()
    return seen


if sys.platform == "linux":
    forked = multiprocessing.get_context("fork")
    print("alone:", work(), "waits")
    thread_guess.compare(work_beside(threading.Thread, threading.Event), "waits")
    process_guess.compare(work_beside(forked.Process, forked.Event), "waits")

# %% [markdown]
# A thread that wants the lock asks for it after 5 ms (`sys.getswitchinterval`), and then the engine waits for it in
# turn. So two busy threads share the time of one core, however many cores there are, and the work takes about
# twice as long. A step gives the lock away even more often, for instance whenever torch lets go of it. A process has
# a lock of its own: beside it the work hardly ever waits, and where there is a core for each, it takes no longer than
# alone.
#
# So services put what is not the engine into other processes. Chapter 10 keeps its server in the engine's process, in a
# thread that is given as little as possible to do, because that is simpler; and it measures what the thread costs.
#
# ## 9. A forecast
#
# Where the lines cross can be computed for any machine, from four numbers: the host's work for a step of n rows takes
# h0 + h1·n, the forward w0 + w1·n.
#
# ### Exercise 9.8: forecast where the lines cross (15 minutes)
#
# In `my/ch09_persistent_batch/forecast.py`, fill `synchronous_ms`, `asynchronous_ms` and `rows_to_cross`, seven
# lines. The check compares the steps with the virtual clock. `make check EX=9.8`, `make hint EX=9.8`.
#
# **Predict first.** A machine whose host takes 1 + 0.05·n ms and whose forward takes 4 + 0.01·n. How long is a step of
# 100 rows, synchronous and asynchronous? From how many rows on is the host slower? And with how many rows is the *gain*
# of the asynchronous order largest, its step compared with the synchronous one?

# %%
synchronous_guess = guess("host 1 + 0.05 n, forward 4 + 0.01 n: a synchronous step of 100 rows, ms", ...)
asynchronous_guess = guess("an asynchronous one, ms", ...)
rows_guess = guess("the host is slower from so many rows on", ...)
most_guess = guess("the asynchronous order gains most with so many rows", ...)

# %%
lines = Lines(host_ms=1.0, host_row_ms=0.05, forward_ms=4.0, forward_row_ms=0.01)
synchronous_guess.compare(synchronous_ms(lines, 100), "ms")
asynchronous_guess.compare(asynchronous_ms(lines, 100), "ms")
rows_guess.compare(rows_to_cross(lines), "rows")
gains = {rows: synchronous_ms(lines, rows) / asynchronous_ms(lines, rows) for rows in range(1, 1000)}
most_guess.compare(max(gains, key=gains.get), "rows")
for rows in (1, 25, 75, 200, 800):
    print(f"{rows:4} rows: {gains[rows]:.2f} times as many steps in the asynchronous order")

# %% [markdown]
# <details><summary>What happened</summary>
#
# Where the lines cross, half of a synchronous step is host work and all of it can be hidden: the asynchronous order is
# twice as fast. With fewer rows there is less to hide, and with more rows less to hide it behind.
#
# </details>
#
# Beside the virtual clock, with the prices that it declares for chapter 8's engine and for this one:

# %%
if is_simulated():
    for name, lines in (("chapter 8", Lines(1.3, 0.08, 8.0, 0.02)), ("chapter 9", Lines(1.3, 0.002, 8.0, 0.02))):
        print(f"{name}: rows from which on the host is slower: {rows_to_cross(lines)}")
        for rows in (32, 128, 512):
            machine = Machine(lines.host(rows), 0.0, lines.forward(rows))
            ran = [step_ms(settled(keep_in_flight(machine, 24, in_flight), in_flight)) for in_flight in (1, 2)]
            print(
                f"    {rows:3} rows: synchronous {synchronous_ms(lines, rows):5.2f} ms, on the clock {ran[0]:5.2f}; "
                f"asynchronous {asynchronous_ms(lines, rows):5.2f}, on the clock {ran[1]:5.2f}"
            )

# %% [markdown]
# And a real machine? Section 1's recording has the host's and the forward's time with 32 and with 128 rows. Two points
# make a line, so four times make a forecast for 512 rows. Then compare it with what was recorded:

# %%
for row in (each for each in drawn_from("ch09_crossing")["rows"] if each["rows"] == 512):
    few, some = (
        next(
            each
            for each in drawn_from("ch09_crossing")["rows"]
            if (each["model"], each["engine"], each["rows"]) == (row["model"], row["engine"], rows)
        )
        for rows in (32, 128)
    )
    host_row, forward_row = ((some[time] - few[time]) / (128 - 32) for time in ("host_ms", "device_ms"))
    lines = Lines(few["host_ms"] - 32 * host_row, host_row, few["device_ms"] - 32 * forward_row, forward_row)
    crossing = rows_to_cross(lines)
    said, took = asynchronous_ms(lines, 512), 512e3 / row["tokens_per_s"]
    print(
        f"{row['model']:4} {row['engine']}: {'the lines never cross' if crossing is None else f'cross at {crossing}'}; "
        f"a step of 512 rows should take {said:.2f} ms, and took {took:.2f} ({took / said - 1:+.0%})"
    )

# %% [markdown]
# Straight lines are a simple model of a machine. With the 1B shape they will do for a rough answer: chapter 8's cross
# between 128 and 256 rows, where the idle share rises from 5 to 34 %, and for 512 rows the forecast is off by a sixth
# at most. With the small model it is far off, because neither line is straight. Steps of up to 64 tokens have kernels
# of their own (`FEW_TOKENS` in `toolkit/models/fused.py`), so the device's line through 32 and 128 rows is too steep,
# and chapter 9's step takes half of what it says. (The same holds for the 1B shape, where it matters less.) And chapter
# 8's host takes twice what its line says for 512 rows, and with it the step. A forecast that is off says where to look.
#
# ## 10. What it costs
#
# - **Code.** Chapter 8's scheduler, packer and book are as simple as their rules; these are not harder, but they have
#   to be read as array operations. Fourteen modules; and the packer has a fast path beside the ordinary one, for the
#   same rows as before, so the tests have to run both.
# - **Memory.** All seats have room for the longest request: 4 bytes for each of `max_rows` times `max_length` tokens.
#   512 rows of 131,072 tokens are 268 MB of host memory; with `max_length=8192` it is 17 MB. And a launch copies the
#   block tables as a whole: 512 rows of 8,192 blocks are 17 MB a step, which would be felt. For such a load the tables
#   have to live on the device, and only edits travel.
# - **Few rows.** With one row of a short context a step takes the host longer than in chapter 8; asynchrony hides it.
# - **Latency.** Text at the end is late by definition. Everything else comes in the same step as before.
# - **Text.** It is the one loop over all requests that is left, and section 1's measurements were made without it. With
#   `stream_text=True`, the default, the engine pays for it in every step. Section 1's steps once more, with what text
#   would add by the recording of the parts, which is of the tiny model's tokenizer:

# %%
crossing = drawn_from("ch09_crossing")
forwards = [row for row in crossing["rows"] if row["engine"] == "chapter 9"]
print(f"{crossing['device']}, the most that chapter 9's engine left it idle: ", end="")
print(f"{max(row['idle_share'] for row in forwards):.1%}, without text")
texts = {row["rows"]: row["text_ms"] for row in parts_recorded["rows"]}
for row in forwards:
    if row["rows"] in texts:
        text, host = texts[row["rows"]], row["host_ms"]
        print(
            f"    {row['model']:4} {row['rows']:4} rows: forward {row['device_ms']:.2f} ms; host {host:.2f} ms, and "
            f"{host + text:.2f} with text{', which is more' if host + text > row['device_ms'] else ''}"
        )

# %% [markdown]
# With the small model and 512 rows, host and text take nearly as long as the forward. Where they take longer, as on a
# slower host, the GPU waits again. So a service with many streams makes its text elsewhere, as chapter 10 does.
#
# And arrays make rows cheap, not a step: what it costs the host with a single row, it costs with any number. Chapter
# 9's engine in section 1's measurement, repeated on another machine of this kind, whose host was slower:

# %%
for row in drawn_from("ch09_slow_host")["rows"]:
    if row["engine"] == "chapter 9":
        print(
            f"    {row['model']:4} {row['rows']:4} rows: host {row['host_ms']:.2f}, forward {row['device_ms']:.2f} ms, "
            f"idle {row['idle_share']:5.1%}"
        )

# %% [markdown]
# With 32 rows the GPU waited, though the host's median is below the forward. A median says nothing of the slow steps,
# and each that takes the host longer than a forward leaves a gap; the shorter the forward, the more of them do. A
# promise about a GPU that does not wait is one about its host, too.
#
# What is gained: a GPU that hardly waits, as long as text is made elsewhere, and with as many rows as were measured.
# That is what chapter 0 set out to build. One GPU; chapter 10 serves it to others, and takes a second one.
#
# ## 11. Check yourself
#
# <details><summary>The columns lie in ordinary memory, and the GPU reads a copy of them in pinned memory. What would go
# wrong without that copy, and why would no test of the tokens be sure to see it?</summary>
#
# The next step's edits would overtake the copy to the device: a race between host and copy engine. Whether tokens come
# out wrong depends on who is faster. The simulated GPU reports the race in either case.
#
# </details>
#
# <details><summary>The packer takes its fast path if the array of seats is the same object as in the last step. Why is
# it not enough that the numbers in it are equal?</summary>
#
# A seat can be left and taken again between two steps. Then the numbers are equal and the requests are not, nor are
# their sampling parameters and block tables. `Seats.order` makes a new array whenever a request has joined or left.
# (And comparing objects takes the same time for any number of rows.)
#
# </details>
#
# <details><summary><code>num_blocks[owner] += 1</code>, where a seat occurs three times in the array
# <code>owner</code>: how much is added to it? Where does that matter in this chapter?</summary>
#
# One. numpy reads all values, adds, and writes them back. So counts are raised with an array in which each seat occurs
# once (`seats` in 9.3, not `owner`), or with `np.add.at`.
#
# </details>
#
# <details><summary>With one row, this engine's host takes longer for a step than chapter 8's. Why is that not a
# loss?</summary>
#
# The forward takes longer than either, so the host's work is hidden in both. It would be a loss in the synchronous
# order. And the first launch for a new request comes a fraction of a millisecond later.
#
# </details>
#
# <details><summary>The host's work is made half as long, at a number of rows where it took 60 % of the time of the
# forward. How much faster is an asynchronous step?</summary>
#
# No faster: it takes as long as the forward, before and after. But the lines cross at more rows.
#
# </details>
#
# **Stretch tasks.** (1) In section 3, `serve` is called 25 times with 500 free blocks and 259 times with 256. Serve the
# same rows with 13 and with 257 calls. (2) In section 4's run of a, b and c, two of the six batches take the packer's
# fast path (`rows.seats is engine.packer.last`, asked before `pack`). With the policy `prefill_first` none does. Make
# it two there, with the same tokens.

# %%
list_guesses()

# %% [markdown]
# **Further reading**
#
# - vLLM's persistent batch: `vllm/v1/worker/gpu_input_batch.py`; its Model Runner V2: `vllm/v1/worker/gpu/`.
# - SGLang's overlap scheduler: `managers/scheduler.py` and `managers/overlap_utils.py`.
# - Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014: the arithmetic of `mix`.
# - PEP 703, "Making the Global Interpreter Lock Optional in CPython".
