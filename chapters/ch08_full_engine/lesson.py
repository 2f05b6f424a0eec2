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
# # Chapter 8: The full engine
#
# Chapter 7's engine keeps the device busy, and has no callers yet. Callers change their minds, want text and not
# numbers, send what cannot be served, arrive too fast; and now and then something breaks. All of that happens *while a
# batch is in flight*. This chapter makes a usable engine out of the pieces:
#
# - `prefix_blocks.py`: requests that begin alike share the blocks of their beginning (exercise 8.1)
# - `service_book.py`: a request book that takes requests back (8.2)
# - `text_stream.py`: tokens become text as they come (8.3)
# - `full_engine.py`: the loop, in which a step may raise (8.4; `culprit.py`: whose fault it is)
# - `admission_gate.py`: back-pressure (8.5); `engine_thread.py`, `server.py`: many callers, one thread
# - given parts: `streamed_texts.py`, the texts of all requests; `metrics.py`, the engine's figures;
#   `packed_buffers.py`, all inputs in one copy; `step_graphs.py`, graphs for steps with prompts in them, on a GPU;
#   `build.py`, all of it put together
# - `museum/`: twelve engines with one bug each, for you to find
#
# What has an exercise is yours, in `my/ch08_full_engine/`; the rest is in `solutions/ch08_full_engine/`. And then
# there is `solutions/engine_in_one_file.py`, the whole engine from chapter 2 on, to be read from front to back.
#
# About three hours: two for the five exercises, one to read and run the rest. Reading the whole engine (section 12)
# takes another hour, and the museum (section 13) another three; both can wait.

# %%
import sys

sys.path.insert(0, "../..")  # the repository root, seen from this notebook
from toolkit.course import open_chapter

open_chapter("ch08")  # whose code runs (COURSE_CODE); switches autoreload on

# %%
import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from threading import Event, Thread

import torch
from IPython.display import display

from ch02_continuous_batching import Observer, SamplingParams
from ch06_graphs import bucket_sizes
from ch07_carry_over.build import build as build_before
from ch08_full_engine import FullEngine, Server, TextStream, held_back
from ch08_full_engine.build import build
from figures.recorded import recorded, recorded_figures
from toolkit.commands.bench.report import gains, table
from toolkit.commands.decoding import Load, serve
from toolkit.commands.exercises.metadata import load as load_exercises
from toolkit.course import ROOT
from toolkit.device import accelerator, is_simulated, new_timeline
from toolkit.errors import UserError
from toolkit.models import load_model
from toolkit.predictions import guess, list_guesses
from toolkit.source_diff import source_diff
from toolkit.timeline import plot_timeline

torch.set_num_threads(1)  # the model is tiny: a second thread costs more than it saves
loaded = load_model("tiny", device="cpu" if is_simulated() else "cuda")
model, tokenizer = loaded.model, loaded.tokenizer
load = Load(model)  # 8 requests with prompts of 12 tokens, 16 new tokens each
right = serve(build_before, load).outputs
params = SamplingParams(max_tokens=16, ignore_eos=True)
print("this notebook runs on:", accelerator.get_device_name())

# %% [markdown]
# ## 1. What is left to gain, and what is there to lose?
#
# The transformers library has a continuous batching of its own, asynchronous, with two sets of IO buffers, three
# streams, graphs and carry-over: the same ideas. On one H100, with the same 8B model, the same 32 requests and 1,024
# new tokens each:
#
# **Predict first.** How many times the tokens per second of transformers' asynchronous engine will this course's engine
# make? Chapter 7's ceiling says what *asynchrony* can bring; where could more come from? And in what share of the time
# is a batch on the GPU, in ours? Put numbers in place of the dots; section 11 compares them with what was measured.

# %%
faster = guess("ours, compiled, over transformers, both asynchronous: times as many tokens per second", ...)
active = guess("share of the time in which a batch is on the GPU, ours, asynchronous, compiled, %", ...)

# %% [markdown]
# **Predict first.** And what does the rest of this chapter (text, metrics, shared blocks, cancelling) cost a step? That
# can be answered here and now, on the simulated clock: the plain engine of chapter 7, and the full one with all it
# does. Chapter 7's step takes 8.3 ms there.

# %%
added = guess("what the full engine adds to a step of chapter 7's, ms", ...)

# %%
step_ms = []
for name, build_it in (("chapter 7", build_before), ("FullEngine", FullEngine)):
    run = serve(build_it, load)
    idle, wrong = run.recording.idle_share(), run.wrong_share(right)
    step_ms.append(run.ms_per_step)
    print(f"{name:12} {run.ms_per_step:.2f} ms per step, idle {idle:.1%}, wrong tokens {wrong:.0%}")
print("clock:", run.recording.clock)
added.compare(abs(round(step_ms[1] - step_ms[0], 1)), "ms")

# %% [markdown]
# <details><summary>What happened</summary>
#
# Nothing is added as long as the host has time to spare: all of it is host work, done while the device computes. (The
# virtual clock charges the host's phases what they are declared to cost. What they really cost is measured separately;
# see the end of section 11. On a real GPU this cell's model is so small that the host has no time to spare: what is
# added shows there, a tenth of a millisecond or two.)
#
# </details>
#
# **Predict first.** All that this chapter adds is in parts, too. Go through the list of files above. Of chapter 7's
# "scheduler", "book", "packer" and "executor", which are still the same classes?

# %%
kept = guess("parts of chapter 7 that are kept, of scheduler, book, packer, executor", ...)

# %%
print(source_diff(build_before, build))
before, after = build_before(model, tokenizer, **load.limits), build(model, tokenizer, **load.limits)
same = [
    part
    for part in ("scheduler", "book", "packer", "executor")
    if type(getattr(before, part)) is type(getattr(after, part))
]
kept.compare(same)

# %% [markdown]
# The difference of two builds is the chapter's idea. This chapter has several, so the difference is longer than any
# before; but each of its lines is one part that takes the place of another:
#
# | in chapter 7 | in this chapter | what for |
# |---|---|---|
# | `BlockManager`, `CarryScheduler` | `PrefixBlockManager`, `PrefixScheduler` | shared beginnings (section 3) |
# | `RequestBook`, `Texts` | `ServiceBook`, `StreamedTexts` | cancelling (4), text as it comes (5) |
# | no observers but the clock's prices | `Metrics`, `CulpritSearch` | figures (8), which request is at fault (6) |
# | `IOBuffers` | `PackedBuffers` | one copy in instead of a dozen |
# | the given forward, or `GraphForward` | `quickest_forward` | as many graphs as the device can have |
#
# Packer, executor, carry-over and the ring of buffers are what they were. This `build` returns *parts* and no engine.
# The loop around them is the class `FullEngine`, which callers know by its name; it adds what happens when a step
# raises (section 6).
#
# ### Two given parts that make a launch cheap
#
# **Packed buffers.** Since chapter 3 a batch has a dozen input tensors, and each one is a copy of its own. A few
# kilobytes take the copy engine hardly any time, but queueing a copy costs the host some microseconds each. So all
# inputs lie in one piece of pinned memory, one behind the other, and in one piece of device memory laid out alike. The
# tensors by name are views of it, each beginning at a multiple of 64 bytes:

# %%
buffers = after.executor.pool.buffers[0]
start = buffers.host_buffer.data_ptr()
for name, view in buffers.host_inputs.items():
    print(f"byte {view.data_ptr() - start:6}  {name:16} {tuple(view.shape)} {str(view.dtype)[6:]}")
print(f"one copy of {buffers.host_buffer.nbytes} bytes instead of {len(buffers.host_inputs)} copies")

# %% [markdown]
# **Step graphs.** Chapter 6 captures decode steps, by their number of rows. A step with a prompt in it ran operation by
# operation; and while requests come and go, that is every few steps. But what differs from one mixed step to the next
# is only how its tokens are divided among the rows, and that is in a tensor (`query_start_loc`), not in the launch. So
# a mixed step can be captured by its number of *tokens*, rounded up to a bucket; tokens beyond the batch belong to no
# row. It takes an attention kernel whose grid is fixed by numbers that the host knows: the course's Triton kernels do,
# the plain one does not. `quickest_forward` picks what the device can have; on the simulated GPU it captures no
# graph at all, because replaying one there takes long.

# %%
print("buckets of tokens for a budget of 1,024:", [size for size in bucket_sizes(1024) if size >= 16])

# %% [markdown]
# ## 2. The loop has three phases
#
# There is still no new loop. `advance` is chapter 5's, six lines, and its three phases fall out of it:
#
# | phase | in flight before | prepare | commit |
# |---|---|---|---|
# | cold start | nothing | a batch | nothing: it would be the one just launched |
# | steady state | N | N + 1 | N |
# | drain | N | nothing can run | N |
#
# The case that is forgotten most often is none of the three: *nothing in flight and nothing to run*. A server starts
# like that, and returns to it whenever its callers are quiet. `step` then returns an empty list, at once.
#
# **Predict first.** One request, four tokens. How many launches does it take, in the asynchronous order, and how many
# calls of `step` return no token?

# %%
launches = guess("launches for one request of four tokens", ...)
empty = guess("steps without a token, with that request in the engine", ...)


# %%
class Watch(Observer):
    """Writes down what an engine does: what its host calls, and who was in which batch."""

    def __init__(self, engine):
        self.calls, self.batches = [], []
        engine.observers.others += (self,)
        self.commit_tokens, engine.book.commit_tokens = engine.book.commit_tokens, self.look

    def host(self, phase, *, step):
        if phase != "wait":
            self.step = step
            self.calls.append("nothing to run" if phase == "prepare" else f"{phase} {step}")
        return super().host(phase, step=step)

    def work(self, phase, *, rows):
        self.calls[-1] = f"{phase} {self.step}"  # it has rows, so it is not nothing

    def look(self, batch, token_ids):
        """Look at a batch right before its tokens are committed: # samples, c is a chunk, x is dropped."""
        signs = {row.request.request_id: "#" if row.samples else "c" for row in batch.rows}
        late = {row.request.request_id: "x" for row in batch.rows if row.epoch != row.request.epoch}
        self.batches.append(signs | late)
        return self.commit_tokens(batch, token_ids)


def new_engine(**options):
    """Your engine on a fresh device, with room for the load of this notebook."""
    if is_simulated():
        accelerator.reset("eager", on_race="raise")
    return FullEngine(model, tokenizer, **(load.limits | options))


def draw(seen):
    """Who was in which batch, and what came of it."""
    print("batch     " + " ".join(f"{step:2}" for step in range(len(seen.batches))))
    for name in sorted({name for batch in seen.batches for name in batch}):
        print(f"request {name} " + " ".join(f" {batch.get(name, '.')}" for batch in seen.batches))


engine = new_engine()
seen = Watch(engine)
for _ in range(2):
    print("step of an empty engine returns", engine.step())
engine.add_request("A", load.prompts[0], SamplingParams(max_tokens=4, ignore_eos=True))
num_launches = num_empty = 0
while engine.has_work:
    del seen.calls[:]
    tokens = [list(output.new_token_ids) for output in engine.step()]
    phase = "cold start" if not tokens else "drain" if "nothing to run" in seen.calls else "steady state"
    print(f"{phase:13} {', '.join(seen.calls):34} brings {tokens}")
    num_launches += sum(call.startswith("launch") for call in seen.calls)
    num_empty += not tokens
launches.compare(num_launches)
empty.compare(num_empty)

# %% [markdown]
# Look at the drain: `nothing to run`, because request A will have its 4 tokens with what is in flight. That was known
# beforehand, so no launch is wasted.
#
# ## 3. What begins alike is computed once
#
# Requests to one service often begin with the same text: instructions, a document, the conversation so far. A key or a
# value depends on its own token and on those before it, and on nothing else. So a *full block* is determined by its
# tokens and by the block before it. It can have a **name**: a hash of the two. A request whose own first names are
# known takes these blocks into its table, and starts computing behind them. A block may be in several tables; it is
# written once and read by all.
#
# Three rules make it safe in an asynchronous engine:
#
# 1. **A block gets its name when the step that filled it is committed**, not when it is scheduled. Before, it is not
#    certain that this step will ever happen.
# 2. **No row writes into a block with a name.** Sharing ends at a block's edge and leaves at least the last token to
#    compute. Rows write behind what is shared, always.
# 3. **A block goes back when its last owner leaves.** And then it keeps name and content until it is needed for others:
#    free, but not forgotten.
#
# Rule 3 has a useful consequence: a request that was preempted finds its own blocks again.
#
# The block manager keeps three books for it, and they must agree after every move:
#
# | book | says | a block is in it |
# |---|---|---|
# | `owners` | in how many block tables a block is | while that is more than 0 |
# | `block_of`, `name_of` | which name a block has | from the commit of the step that filled it |
# | `reusable` | blocks with a name and without an owner, the longest unused one first | until shared or needed |
#
# (What is in none of them is in `free_blocks`, as in chapter 2.) The next cell watches them. A asks first; B has the
# same 32 tokens at its beginning and comes after two steps; when both are done, C comes with the same beginning.

# %%
engine = new_engine()
blocks, short = engine.scheduler.blocks, SamplingParams(max_tokens=4, ignore_eos=True)
common = [3 + (7 * i) % 200 for i in range(32)]


def books(when):
    """One line with the three books."""
    owned = {block: count for block, count in sorted(blocks.owners.items()) if count}
    print(f"{when:16} owners {str(owned):32} named {str(sorted(blocks.name_of)):9} reusable {list(blocks.reusable)}")


engine.add_request("A", common + [5, 6, 7], short)
for step in range(20):
    if step == 2:
        engine.add_request("B", common + [8, 9], short)
    if step > 2 and not engine.has_work:
        break
    engine.step()
    books(f"step {step}")
engine.add_request("C", common + [10], short)
engine.step()
books("C is let in")

# %% [markdown]
# Follow blocks 0 and 1: owned, then named (one step after the launch that filled them, at its commit), then owned
# twice, then reusable, then owned by C, which computes one token of its prompt instead of 33.
#
# ### Exercise 8.1: share the blocks of a common beginning (40 minutes)
#
# In `my/ch08_full_engine/prefix_blocks.py`, fill `share_prefix`, `mark_written` and `free` of
# `PrefixBlockManager`, about 25 lines. Its tests keep a list that plays the KV cache, and check after every move that
# each name tells the truth. In a terminal at the repository's root:
#
#     make check EX=8.1
#     make hint EX=8.1
#
# **Predict first.** Eight requests share a beginning of 320 tokens (20 blocks) and have 8 of their own. A step computes
# at most 64 tokens. All come at once. How many steps does it take until all have their 8 tokens, without sharing and
# with it? (Without: count tokens. With: when are the blocks named?) And does the *first* request gain anything?

# %%
steps_plain = guess("steps for eight requests of 328 tokens, 64 in a step, then 8 new ones each", ...)
steps_shared = guess("the same with their first 320 tokens shared", ...)
first_gains = guess("does the first request have its first token earlier? yes or no", ...)

# %%
beginning = [3 + (7 * i) % 200 for i in range(320)]
prompts = [beginning + [10 * i + j for j in range(8)] for i in range(1, 9)]


def first_tokens(prefix_sharing):
    """Your engine on these prompts: milliseconds to each request's first token, and the engine."""
    engine = new_engine(num_blocks=256, token_budget=64, prefix_sharing=prefix_sharing)
    for i, prompt in enumerate(prompts):
        engine.add_request(str(i), prompt, SamplingParams(max_tokens=8, ignore_eos=True))
    answers = {i: [] for i in range(8)}
    while engine.has_work:
        for output in engine.step():
            answers[int(output.request_id)] += output.new_token_ids
    return list(engine.metrics.first_token_ms), answers, engine


shared_ms, shared_answers, sharing = first_tokens(True)
plain_ms, plain_answers, plain = first_tokens(False)
print("request            " + " ".join(f"{i:6}" for i in range(8)))
print("first token, plain " + " ".join(f"{ms:6.1f}" for ms in plain_ms) + "  ms, virtual clock" * is_simulated())
print("     with sharing  " + " ".join(f"{ms:6.1f}" for ms in shared_ms))
print(f"steps: {plain.num_steps} and {sharing.num_steps}, tokens not computed: {sharing.metrics.shared_tokens}")
print("the same answers" if shared_answers == plain_answers else "OTHER ANSWERS")
steps_plain.compare(plain.num_steps)
steps_shared.compare(sharing.num_steps)
first_gains.compare("yes" if shared_ms[0] < plain_ms[0] else "no")

# %% [markdown]
# <details><summary>What happened</summary>
#
# The first request gains nothing, since one of them has to compute the beginning. The others come in as soon as its
# blocks are named, and have their first tokens soon after it. What is not shared is what was still in flight when they
# came: rule 1 at work. (The clock charges what an 8B model's forward might cost per token. On a real GPU the run with
# sharing is the first, and its first steps also load and compile kernels. How much sharing is worth depends on how long
# beginnings are; it costs one hash for each block.)
#
# </details>
#
# The same with 16 requests and beginnings of three lengths, recorded:
#
# ![Until all requests have a first token](../../figures/ch08_prefix.png)
#
# ## 4. Whatever happens to a request happens in flight
#
# A request can be cancelled, preempted, ended by an EOS token or a stop string, and hit by an error. In an asynchronous
# engine each of these finds a row of it *in flight*. Waiting for that row would be a gap, and a GPU has no call that
# takes work back. The rule of this course is:
#
# > **What is in flight is never touched.** The request's epoch advances, its blocks go back at once, and commit drops
# > every row whose epoch is not the request's any more.
#
# ![The states of a request: waiting, running, ended, and what leads from one to another](../../figures/ch08_states.png)
#
# The row will still write keys and values into blocks that are free by then. That does no harm, for two reasons. All
# use of the cache is queued on *one* stream, so the block's next owner writes after it. And such a row writes behind
# what was committed, while a block can be shared only after the commit that filled it (section 3): no other request
# reads it.
#
# What *each* request must get, whatever happens: exactly one terminal output, and no token after it.
#
# ### Exercise 8.2: end a request wherever it is (15 minutes)
#
# In `my/ch08_full_engine/service_book.py`, fill `ServiceBook.end`, eight lines. `FullEngine.cancel` calls it by
# way of `ServiceBook.cancel`, and the book is the only part that ends a request, whatever the reason. `make hint
# EX=8.2`.
#
# **Predict first.** Five requests. B is cancelled after the fourth step, C is preempted at the same moment, D samples
# an EOS token in batch 3. Of how many rows is the work wasted, in all?

# %%
wasted = guess("rows whose work is wasted: one cancel, one preemption, one EOS token", ...)

# %%
engine = new_engine()
seen = Watch(engine)
engine.book.eos_ids = {right[3][3]}
for i, name in enumerate("ABCDE"):
    ignore = name != "D"
    engine.add_request(name, load.prompts[i], SamplingParams(max_tokens=12, ignore_eos=ignore))
answers, ends = {name: [] for name in "ABCDE"}, {}
while engine.has_work:
    if engine.num_steps == 4 and "B" in engine.book.requests:
        engine.cancel("B")
        engine.scheduler.preempt(engine.book.requests["C"])
    for output in engine.step():
        answers[output.request_id] += output.new_token_ids
        if output.finish_reason is not None:
            ends[output.request_id] = output.finish_reason.value
draw(seen)
for i, name in enumerate("ABCDE"):
    verdict = "right" if answers[name] == right[i][: len(answers[name])] else "WRONG"
    print(f"{name}: {len(answers[name]):2} tokens, {verdict}, ended by {ends[name]}")
print("blocks free:", engine.scheduler.blocks.num_free_blocks, "of", engine.entrance.config.num_blocks)
wasted.compare(sum(sign == "x" for batch in seen.batches for sign in batch.values()))

# %% [markdown]
# <details><summary>What happened</summary>
#
# One row each for B, C and D. B's and C's were launched before the call, D's before the host could know of its EOS. C
# comes back, with its prompt and what it had said as one long prompt, and the dropped token is sampled again. Nothing
# waits, and the device is not asked; that is why a cancel can be taken at any moment between two steps.
#
# </details>
#
# The same as a timeline: three requests of 6 tokens, one cancelled after the third step. Cold start on the left (the
# device waits for the first batch, once), drain on the right.

# %%
engine = new_engine()
engine.observers.timeline = timeline = new_timeline()
for i in range(3):
    engine.add_request(str(i), load.prompts[i], SamplingParams(max_tokens=6, ignore_eos=True))
while engine.has_work:
    if engine.num_steps == 3 and "1" in engine.book.requests:
        engine.cancel("1")
    engine.step()
plot_timeline(timeline.finish(), title="From cold start to drain, with a cancel after three steps", steps=(0, 5))

# %% [markdown]
# The same, recorded behind a warm-up of six steps (the title names the device):
#
# ![Cold start, steady state, drain](../../figures/ch08_phases.png)
#
# ## 5. From tokens to text
#
# Callers want text, as it comes. A token is not a piece of text: a character may take several tokens (four for an
# emoji, with one token per byte), and a stop string may begin in one token and end in another. Two things must be held
# back, then: bytes that are not a character yet, and characters that may be the beginning of a stop string. **What was
# shown can never be taken back.**

# %%
stream, text = TextStream(tokenizer, stop=("STOP",)), "Aé😀 SToP, STill, STOP it"
pieces = []
for token in tokenizer.encode(text):  # one token per byte
    stream.push(token)
    pieces.append(stream.take() or "·")  # a dot: nothing can be shown yet
print("bytes of ", repr(text))
print("shown as ", "|".join(pieces))
print("stopped:", stream.stopped, "  text:", repr(stream.text))

# %% [markdown]
# ### Exercise 8.3: show only what is certain (25 minutes)
#
# In `my/ch08_full_engine/text_stream.py`, fill `held_back` and `TextStream.push_text`, about 16 lines. `make hint
# EX=8.3`.

# %%
for shown, stops in (("one, tw", ("two",)), ("xab", ("abc", "b!")), ("aaa", ("aaab",)), ("done", ("two",))):
    kept = shown[len(shown) - held_back(shown, stops) :]
    print(f"{shown!r:10} with the stop strings {stops!s:15} held back: {kept!r}")

# %% [markdown]
# None of this needs a new synchronisation. The text of batch N is made in its commit, while N + 1 computes. A stop
# string is found one step late, like an EOS token, and one row's work is wasted for it.
#
# ## 6. When a step raises
#
# Sooner or later a step raises: out of memory, a bug, a GPU that falls off its bus. Many engines end there, with the
# requests of all callers. What is the least that must be given up?
#
# The host still knows each request's prompt, and the tokens that were committed. That is a complete state: it is what
# a preempted request comes back with. What is *not* known is what the batches in flight have done. So:
#
# 1. Wait for the device. If that raises too, the error was *sticky* (a device assert, an illegal address): CUDA refuses
#    everything until the process ends. Every request ends with `ERROR`, once, and new ones are refused with the advice
#    to restart.
# 2. Otherwise forget what is in flight and preempt every request that was running. They start over, from shared blocks
#    if these are still there.
# 3. If it fails again at once, those who are running end with `ERROR`. Those who wait are served.
#
# Rule 3 alone would be unfair: one request that makes every step fail would take all others with it. So before
# `recover` gets that far, `culprit.py` (given) looks for the request at fault. After the second failure it lets half of
# the suspects run, then half of that half, until one fails alone; the others wait meanwhile, and lose nothing. The
# culprit's end is logged with the traceback.
#
# ### Exercise 8.4: get over an error (25 minutes)
#
# In `my/ch08_full_engine/full_engine.py`, fill `FullEngine.recover`, 13 lines. `make hint EX=8.4`.
#
# To try it, the cell after the next puts an executor in front of the engine's own, one whose `launch` raises when it is
# told to.
#
# **Predict first.** Four requests run, four wait. How many of the eight end with an error if launches number 5 and 6
# raise; if every launch raises that has request 2 in it; if operation 5 fails *on the device*? (The last is tried on
# the simulated GPU alone: on a real one this notebook could not use the GPU any more.)

# %%
two_fail = guess("of eight requests, ended with an error: launches 5 and 6 raise", ...)
one_at_fault = guess("of eight requests, ended with an error: launches with request 2 in them raise", ...)
device_fails = guess("of eight requests, ended with an error: an operation fails on the device", ...)


# %%
class Failing:
    """An executor in front of another one. Launches of some steps raise, or all those with one request in them."""

    def __init__(self, executor, failing=(), bad=None):
        self.executor, self.failing, self.bad = executor, failing, bad

    def launch(self, batch):
        if batch.step in self.failing or self.bad in [row.request.request_id for row in batch.rows]:
            raise MemoryError("made up")
        return self.executor.launch(batch)

    def wait(self, batch, handle):
        return self.executor.wait(batch, handle)

    def drain(self):
        self.executor.drain()


def serve_eight(engine):
    """Run eight requests to their ends and print what they got; returns how many ended with an error."""
    for i, prompt in enumerate(load.prompts):
        engine.add_request(str(i), prompt, params)
    answers, ends = {i: [] for i in range(8)}, {}
    while engine.has_work:
        for output in engine.step():
            answers[int(output.request_id)] += output.new_token_ids
            if output.finish_reason is not None:
                ends[int(output.request_id)] = output
    for i in range(8):
        verdict = "right" if answers[i] == right[i][: len(answers[i])] else "WRONG"
        print(f"    {i}: {len(answers[i]):2} tokens, {verdict}, {ends[i].finish_reason.value} {ends[i].error}")
    return sum(bool(end.error) for end in ends.values())


for failing in ((5,), (5, 6)):
    print("launches that raise:", failing)
    engine = new_engine(max_rows=4)
    engine.executor = Failing(engine.executor, failing=failing)
    errors = serve_eight(engine)
two_fail.compare(errors)

logging.getLogger("ch08_full_engine").setLevel(logging.CRITICAL)  # no traceback here: we know where it was raised
print("launches with request 2 in them raise:")
engine = new_engine(max_rows=4)
engine.executor = Failing(engine.executor, bad="2")
one_at_fault.compare(serve_eight(engine))

# %%
if is_simulated():
    print("an operation that fails on the device:")
    engine = new_engine(max_rows=4)
    forward, calls = engine.executor.forward, iter(range(1000))
    step = forward.forward

    def breaks_at_5(*arguments):
        if next(calls) == 5:
            raise RuntimeError("index out of bounds, made up")
        return step(*arguments)

    forward.forward = breaks_at_5
    device_fails.compare(serve_eight(engine))
    try:
        engine.add_request("later", load.prompts[0], params)
    except UserError as error:
        print("a new one:", error)

# %% [markdown]
# What is *not* caught is a race report of the simulated GPU. It is not an `Exception`, on purpose: a race is a mistake
# in the program, and an engine that recovers from it would hide it.
#
# ## 7. A server
#
# An engine is a loop, and a loop belongs to one thread. `Server` (given) starts that thread; no other ever touches
# the engine. Callers leave *commands* (add, cancel) in a queue, and the thread takes them between two steps. When there
# is nothing to do it sleeps on that queue.
#
# Outputs go out through a callback for each request. The async generator is one such callback, which hands each output
# to the caller's event loop. Three rules:
#
# - **One bad request fails alone.** Impossible lengths, unknown tokens, a callback that raises, a prompt that isn't
#   one: the caller gets an error, all others get tokens. What a caller hands over is copied and checked before `submit`
#   returns: the engine's thread looks at it later, and by then the caller may have changed it.
# - **A caller who leaves takes the request back.** A generator that is closed cancels in its `finally`.
# - **Back-pressure.** A queue without a bound only hides that the engine is too slow. So at most `max_requests` are
#   inside. The next caller waits outside, a thread in `submit`, a coroutine in `stream`, first come, first served.
#
# ### Exercise 8.5: give a place to the next one (15 minutes)
#
# In `my/ch08_full_engine/admission_gate.py`, fill `AdmissionGate.leave`, seven lines. A caller who waits may give up at
# any moment, and a place that is given to a caller who has left is lost forever. `make hint EX=8.5`.
#
# Now all of it at once. Two callers listen to a server, as coroutines in one event loop. The second one has heard
# enough after five tokens. A third and a fourth come, and there is room for two:


# %%
async def listen(server, number, enough=100):
    """Listen to a request until its end, or until so many tokens have come. Returns what came."""
    heard = []
    async for output in server.stream(load.prompts[number], params):
        heard += output.new_token_ids
        if len(heard) >= enough:
            break  # closes the generator, which cancels the request
    return heard


async def four_callers(server):
    return await asyncio.gather(listen(server, 0), listen(server, 1, enough=5), listen(server, 2), listen(server, 3))


def in_a_loop_of_its_own(coroutine):
    """Run a coroutine to its end. (A notebook has an event loop already, so this one gets a thread.)"""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


with Server(new_engine(), max_requests=2) as server:
    for number, heard in enumerate(in_a_loop_of_its_own(four_callers(server))):
        verdict = "right" if heard == right[number][: len(heard)] else "WRONG"
        print(f"caller {number} heard {len(heard):2} tokens, {verdict}: {heard[:6]} ...")
    for bad_prompt in ([], [9999], load.prompts[0] * 1000):
        try:
            server.submit(bad_prompt, params, print)
        except UserError as error:
            print("refused:", error)
engine = server.engine
print("finished:", dict(engine.metrics.finished))
print("blocks free:", engine.scheduler.blocks.num_free_blocks, "of", engine.entrance.config.num_blocks)

# %% [markdown]
# ### Threads take turns: the GIL
#
# Only one thread of a Python process runs Python at a time: the one that holds the *global interpreter lock*. A call
# into torch or CUDA that takes long, such as waiting for an event, releases it; afterwards the thread wants it back. If
# another thread is computing in Python by then, it is asked to yield, but only after the *switch interval*.
#
# **Predict first.** The next cell releases the lock for a few milliseconds and takes it back, 20 times, first alone,
# then beside a thread that computes. How long does it take to get the lock back in the second case, in milliseconds?

# %%
get_back = guess("getting the interpreter lock back from a thread that computes, ms", ...)


# %%
text = bytes(1_000_000)


def turns(count=20):
    """Milliseconds to release the lock, work without it and have it again, on average."""
    start = time.perf_counter()
    for _ in range(count):
        blake2b(text)  # releases the lock for a few milliseconds, as a wait for an event does
    return 1000 * (time.perf_counter() - start) / count


def compute_until(stop):
    while not stop.is_set():
        sum(range(1000))


stop = Event()
alone = turns()
neighbour = Thread(target=compute_until, args=(stop,))
neighbour.start()
beside = turns()
stop.set()
neighbour.join()
print(f"alone {alone:.3f} ms, beside a thread that computes {beside:.1f} ms")
print(f"switch interval: {1000 * sys.getswitchinterval():.0f} ms")
get_back.compare(round(beside - alone, 1), "ms")

# %% [markdown]
# <details><summary>What happened</summary>
#
# About one switch interval, 5 ms: most of a decode step of an 8B model, and several steps of a small one. So a callback
# that computes, or a caller that tokenises a long prompt in another thread of the same process, delays the engine's
# next launch by a time that no timeline of the device explains. What helps: callbacks that only hand over, work in
# small pieces, a shorter interval (`sys.setswitchinterval`), or a process of its own. Chapter 10 measures a server
# against it.
#
# </details>
#
# ## 8. What the engine says of itself
#
# A server reads these figures all the time, so they must be cheap: counters, a clock that is read a few times a step,
# and two device events around each forward. The events are read when the step is committed. By then they have passed,
# so the host does not wait for them. `Metrics` is an observer: the engine tells it what happens, and no line of the
# loop is about figures.

# %%
for name, value in sharing.metrics.summary().items():
    print(f"{name:22} {value:.4g}" if isinstance(value, float) else f"{name:22} {value}")

# %% [markdown]
# `idle_share` counts only time in which there *was* work; a quiet night does not count. And the time to the first token
# is taken from `add_request`, waiting included: that is what a caller notices.
#
# ## 9. What asynchrony forbids, or delays
#
# N + 1 is prepared, packed and launched before the host has seen what N sampled. Anything that needs that token *on the
# host*, before the next forward, does not fit. It can move to the device, or it has to wait, and waiting is a gap.
#
# - **EOS and stop strings** are seen one step late. Here and everywhere: run one row too far, and drop it.
# - **The answer itself** comes later only if N ends while the host is still at work on N + 1. **A new request** gets
#   into a batch one step later: one is under way, and one behind it. Nothing is done about either.
# - **Grammars**, structured output: which tokens are allowed depends on the last one, and the automaton that knows is
#   on the host. But the forward does not need it, only *sampling* does. So engines take the two apart: launch the
#   forward of N + 1, commit N, advance the automaton, copy the mask, launch the sampling. vLLM defers the sampling of
#   such steps (`pending_structured_output_tokens`). SGLang's loop calls `launch_batch_sample_if_needed` after the last
#   batch was processed. This course's engine samples inside the graph, so it does not offer grammars.
# - **Penalties** on what was said before: the counts must include the token in flight. So they have to live on the
#   device and be updated there, behind the sampling. Not offered here. (Temperature, top-k and top-p depend on nothing
#   but the logits.)
# - **Speculative decoding**: how many drafts were accepted decides positions, lengths and blocks of the next step.
#   Engines reserve room for the best case and correct it on the device (vLLM's `num_output_placeholders` counts drafts
#   too), or give the overlap up for such steps (SGLang's `is_disable_overlap_for_batch` does where drafts and grammars
#   meet). Not offered here.
# - **Random numbers**: the state of a generator would have to be carried over. Chapter 2's way out: one number for each
#   (seed, position), made beforehand. It needs no token.
#
# ## 10. How others carry a token over
#
# The same problem, several answers. All of this was read in the sources; names change, so each has its version beside
# it.
#
# **This course**: a 0 in the input, and beside it a tensor of indices, -1 for "keep". `apply_carry` (`carry.py`), a
# `torch.where` inside the graph, replaces it. The key is request object and epoch.
#
# **transformers** 5.23, `generation/continuous_batching/input_outputs.py`: the same idea, `carry_over_ids` with -1 for
# "keep", applied inside the graph by `ContinuousBatchingAsyncIOs.carry_over_tokens`. It multiplies with a mask, so -1
# *is* looked up, in square brackets, and the result multiplied by 0. The key (`infer_carry_over_ids`) is the request's
# id.
#
# **vLLM** (commit 4e17906), `vllm/v1/worker/gpu_model_runner.py`: `GPUModelRunner._prepare_input_ids` scatters
# `prev_sampled_token_ids` into the input tensor, *before* the graph; if the batch has the rows of the one before, that
# is one copy. The key (`prev_req_id_to_index`) is the request's id. The scheduler's side of it is `AsyncScheduler`
# (`vllm/v1/core/sched/async_scheduler.py`, commit 7ab8a61), which counts `num_output_placeholders`: our
# `pending_samples`.
#
# **SGLang** (commit f1dea62), `python/sglang/srt/managers/overlap_utils.py`: the input holds a *negative* number, minus
# a place in a ring buffer on the device. `FutureMap.store_to_map` puts sampled ids there, and before the next forward
# `_resolve_future_token_ids` looks up what is negative: `where(ids < 0, map[clamp(-ids, 0)], ids)`. There is no key:
# the place itself was handed on.
#
# **mini-sglang** (commit 52457a7), `python/minisgl/scheduler/scheduler.py`: the input holds nothing at all. A
# `token_pool` on the device has all tokens of all requests; `Scheduler._forward` reads the batch's ids from it and
# writes the sampled ones into it. The key is the request's row in the pool.
#
# Some remarks:
#
# - The order of the loop is the same everywhere: launch N + 1, then process N. mini-sglang's `overlap_loop` and
#   `normal_loop` are side by side and can be read in ten minutes. nano-vllm (`nanovllm/engine/llm_engine.py`) has
#   only the synchronous one.
# - What is too much is dropped everywhere, too. transformers skips rows of requests that are `FINISHED` or `PENDING` by
#   then (`update_batch` in `continuous_api.py`). mini-sglang keeps a set of requests finished in the step before
#   (`finished_reqs`), or they would be freed twice. The epoch does both.
# - A key that is a *name* is safe as long as names are never used twice within two steps. With transformers 5.17 that
#   went wrong (chapter 7, section 2), and 5.23 still goes by the id. An engine that makes its own names, as `Server`
#   does here, is safe by that.
# - SGLang's way needs no index tensor, the id itself says where to look. The price is a buffer that must never wrap
#   around too early: its length is a small computation of its own (`FutureMap.__init__`).

# %% [markdown]
# ## 11. Measured
#
# `make bench` compares this engine with transformers' own continuous batching on one GPU: same model, same prompts,
# same lengths, greedy, in turns, medians. (In the ragged load tokens may end a request, so there the answers are not
# equally long; compare latencies.) Two cases as tables, 32 requests of 1,024 new tokens with the 8B and the 1B shape;
# `make bench` prints all of them, and the pictures below show them:

# %%
recordings = recorded("peers")
for recording in recordings:
    shown = [row for row in recording["rows"] if (row["workload"], row["new_tokens"]) == ("equal", 1024)]
    shown = [row for row in shown if row["batch"] == 32 and not row["beside_vllm"]]
    if not shown:  # a recording of other rows or lengths
        continue
    print(f"{recording['device']}, torch {recording['torch']}, transformers {recording['transformers']}\n")
    print(table(shown))
    large = {(row["engine"], row["mode"], row["compiled"]): row for row in shown if row["model"] == "8b"}
    ours, theirs = ("ours", "async", True), ("transformers", "async", False)
    if {ours, theirs} <= large.keys():
        faster.compare(large[ours]["tokens_per_s"] / large[theirs]["tokens_per_s"], "times")
        active.compare(100 * large[ours]["run_active"], "%")
if not recordings:
    print("not recorded yet: make bench, on a machine with a GPU")

# %%
drawn = ("peers_throughput", "peers_rows", "peers_steps", "peers_active", "peers_first_token", "peers_between_tokens")
for picture in recorded_figures("peers", *drawn):
    display(picture)

# %% [markdown]
# How to read it. *Asynchrony* is the step from our synchronous row to the asynchronous one: at most about what the idle
# share promised. *Everything else* is the difference between the two asynchronous engines: the attention kernel, the
# model's layers compiled or not, graphs for every step or not, host work per step. Both engines overlap, so asynchrony
# does not make the difference between them. A step cannot be shorter than reading the weights and the KV cache once;
# that floor is drawn, too (with the bandwidth of a copy; reading alone may be a little quicker, see chapter 6).
#
# Of the columns, *all run* belongs to its row: the share of the whole run in which a batch was on the GPU. *GPU active*
# and *kernels* are measured once for each engine and model, in short runs of their own, and observing costs time: under
# the profiler the synchronous engines wait longer for their host. (A dash: it was not measured.)

# %%
for recording in recordings:
    print(f"{recording['device']}\n{gains(recording['rows'])}\n")

# %% [markdown]
# So asynchrony gives what it promised: the synchronous engine's idle time, and somewhat more. (More, because in the
# synchronous order a forward takes longer between its two events: the host is still launching it when the first one
# passes.) The quicker the forward, the larger the host's share of a step, and the more there is to gain: compare the
# two shapes and, with the 1B shape, compiled with not compiled. Compiling shortens the *forward*, so there a part of
# what it gains is lost without asynchrony, to a host that has not become any quicker. With the 8B shape the host's
# share is small either way, and what the parenthesis says counts as much.
#
# The price is in the picture of the first token, in the medians. A request that arrives finds a batch under way *and*
# one behind it, so it waits for one step more (section 9). The steps are shorter, and about half a step is left of
# that. (The longest waits are another matter: of 64 requests the 99th percentile is the longest of all.)
#
# **vLLM** is in the second picture. `make bench` includes it where you have it: `BENCH='--vllm PYTHON'` names the
# Python that it is installed for. "ours" is chapter 9's engine there, which is this one with a quicker host, so leave
# the explanation to chapter 9. Read these bars with care. vLLM does much that this engine does not: hundreds of
# architectures, quantised weights, adapters, speculative decoding, structured output, images, several GPUs and
# machines. Its server was not measured, only `LLM.generate`, in one process, and with 256 and 512 rows of the 1B shape
# also in two. The weights were random, all lengths equal, and kernels, graphs and compiling were left to its own
# defaults. With the 1B shape it is bound by its host: a kernel runs for less than half of the time. There the bars say
# how much a host costs, and little about kernels. With the 8B shape both keep the device busy, and what differs is the
# forward. Two engines with 512 rows of that shape do not fit on an H100, so those were recorded on an H200, the same
# chip with more and faster memory; 256 rows on both:

# %%
for recording in recordings:
    shown = [row for row in recording["rows"] if row["model"] == "8b" and row["beside_vllm"] and row["batch"] > 32]
    if shown:
        print(f"{recording['device']}\n\n{table(shown)}\n")

# %% [markdown]
# On the H200 a step with 512 rows takes 1.8 times as long as one with 256, and the tokens per second rise by an eighth
# only. Every row is multiplied with all weights but the embedding, 7.5 billion, and each takes two operations: that is
# 7.7 TFLOP a step, or 7.8 ms at the 989 TFLOP/s of the data sheet. All reading takes 6.5 ms, so arithmetic is the
# longer part now, as chapter 1 (section 5) expects of a few hundred rows. The floor, which counts bytes, is far below,
# and faster memory brings little: with 256 rows a step must read for 5.0 ms in place of the H100's 7.1, and is only
# 0.8 ms shorter.
#
# When first tokens come is a matter of what a step may hold. Our engine spreads the prompts over 19 steps, vLLM takes
# up to 16,384 of their tokens into one. In vLLM the median waits longer for a first token, the last request less long,
# and fewer of the gaps between tokens are long.
#
# One thing to know when you measure. Python's garbage collector walks over all objects of the process from time to
# time, and with these libraries loaded that takes 0.1 s or more: a dozen steps in which nothing is launched. `Server`
# and the measurements freeze what is there when they begin (`toolkit/garbage.py`), so that the collector has next to
# nothing to look at. It must not run while a graph is captured either.
#
# And what does the host do in a step? Its work grows with the rows, and with their context. As long as it is below the
# forward's time, overlap hides it:

# %%
for picture in recorded_figures("host_cost", "host_cost"):
    display(picture)

# %% [markdown]
# (The lines that hardly rise are chapter 9's engine.) With the context mostly because a row of 1,024 tokens has 64
# blocks, and `Packer.inputs` (chapter 2) writes all block tables again in every step, though hardly anything in them
# has changed. Engines for long contexts keep the tables from step to step and append what is new; in vLLM (commit
# 01edfd0) it is `BlockTable.append_row` in `vllm/v1/worker/block_table.py`.
#
# Not all host work is Python's. A step's inputs are copied into pinned memory, and torch spreads a copy of that size
# over all cores, then waits for the slowest. Alone on the machine that costs nothing. Beside a process that keeps the
# cores busy, a second engine for instance, it costs more than all the rest of the step; so this engine writes its
# inputs with one thread (`write_host` in `toolkit/device.py`):

# %%
for recording in recorded("busy_neighbour"):
    print(f"{recording['device']}, {recording['rows'][0]['rows']} rows, 1B shape")
    for row in recording["rows"]:
        beside = "beside a busy process" if row["neighbour"] else "alone"
        print(
            f"    inputs written by {row['host_threads']:3} thread(s), {beside:21}: "
            f"{row['host_ms_per_step']:5.2f} ms of host work a step, {row['tokens_per_s']:6.0f} tokens/s"
        )

# %% [markdown]
# Last, the load of chapter 0's published measurement, with 8,192 new tokens each:

# %%
for recording in recordings:
    ours = [row for row in recording["rows"] if row["engine"] == "ours" and row["compiled"]]
    runs = {row["mode"]: row for row in ours if row["workload"] == "article"}
    if not {"sync", "async"} <= runs.keys():
        continue
    print(recording["device"])
    for mode, row in runs.items():
        idle, ms = 1 - row["run_active"], row["ms_per_step"]
        print(
            f"    {mode:5} {row['seconds']:6.1f} s, {ms:.2f} ms per step, device idle {idle:.1%} ({idle * ms:.2f} ms)"
        )
    promised, got = 1 / runs["sync"]["run_active"], runs["sync"]["seconds"] / runs["async"]["seconds"]
    print(f"    promised at most {promised:.2f} times as fast, got {got:.2f} (published: {300.6 / 234.5:.2f})")

# %% [markdown]
# (One call of the benchmark, compiled, one run each; both gave the same tokens.) In the published run the device idled
# for about 8.8 ms in each of 8,192 steps, here for less than a millisecond in the synchronous order. Engine, model, GPU
# and host differ, so compare the promise and the gain of each run, and not the times of the two. ("ours" is chapter 9's
# engine here, too, which keeps its block tables from step to step.) The sooner a host is ready, the less asynchrony can
# bring. What there is to gain, it brings.
#
# ## 12. The whole engine in one file
#
# You have built some parts of this engine and read others, over seven chapters. Now read them once from front to back:
# `solutions/engine_in_one_file.py`. It has every module that `FullEngine` consists of, each after those that it needs,
# and each block begins with its chapter and its file. Of the docstrings the first paragraph is left; imports and the
# markers of exercises are gone. A command makes the file from the chapters, and a test checks that the two agree.
# (`Server` is not in it: that is what is in front of an engine. Nor is the toolkit: the model, its attention, the
# simulated GPU.)

# %%
blocks = (ROOT / "solutions" / "engine_in_one_file.py").read_text().split("# ==== chapter ")[1:]
for chapter in sorted({block[0] for block in blocks}):
    files = {block[3:].split(" ")[0]: block.count("\n") for block in blocks if block[0] == chapter}
    print(f"chapter {chapter}: " + ", ".join(f"{file} {lines}" for file, lines in files.items()))
print("lines in all:", sum(block.count("\n") for block in blocks))

# %% [markdown]
# It takes about an hour. If something is unclear, mark it and read on; most of it is answered further down. Keep these
# five questions beside you, and write down a class and a method for each *before* you open the answer.
#
# **Question 1. Where would a repetition penalty go?** It lowers the logits of all tokens that a request has said
# before. Which classes and functions change, and what cannot stay on the host?
#
# <details><summary>Answer</summary>
#
# The penalty itself is one operation on the logits in `run_model`, in front of `sample_greedy` and `sample`: both must
# see it. How strong it is comes the usual way of a sampling parameter: `SamplingParams` checks it, `BatchInputs` gets a
# tensor more, `Packer.inputs` fills it, `padding` says what it is where there is no row, and `cut` shortens it. That is
# the easy half.
#
# The other half is *what was said before*. When `CarryPacker.pack` packs N + 1, the host does not know the token of N
# yet, so counts that the host makes always lack the newest one. (Tried with this lesson's load: about a fifth of the
# tokens are others than in the synchronous order, where the counts are complete.) So the counts belong on the device,
# in memory that was allocated before any capture. The place to update them is `carry_step`, right behind `apply_carry`:
# there the carried token has a value for the first time. And since a request's row changes from batch to batch, the
# counts need a place for each request that does not, with an index tensor beside the carry index. The place must be
# cleared when it goes to another request, on the compute stream, behind the row of the old one that may be in flight.
#
# </details>
#
# **Question 2. Which line makes freeing at once safe?** `Scheduler.finish` gives blocks back while a row of the request
# may still be on its way and will write into them. Which line sees to it that the next owner does not get its keys? And
# which two others see to it that nothing else of that row counts?
#
# <details><summary>Answer</summary>
#
# `self.run(batch, buffers)` in `EventExecutor.queue`, because it is inside `with accelerator.stream(self.compute)`. It
# is the only place where a forward is queued, so all forwards, graphs and single launches, old rows and new ones, are
# on *one* stream. The next owner's row is launched later, so it writes later, over what the old one left. Neither
# `finish` nor `BlockManager.free` has to know what is in flight.
#
# The others compare epochs. `if row.epoch != request.epoch: continue` in `RequestBook.commit_tokens` drops the token;
# `if row.epoch == row.request.epoch` in `PrefixScheduler.written` sees to it that no block gets a name for what such a
# row wrote. Take the second one away and cancel a request in the very step in which it fills a block:
# `PrefixBlockManager.mark_written` looks for that block in a table that is empty by now, and raises an `IndexError`.
# The engine gets over it (section 6), and all running requests start over. Had the request been preempted and let in
# again, its table would not be empty. Then there is no error, and a block may get its name while the step that writes
# it is still in flight. That is against the first rule of section 3, and wrong from the moment when that step fails:
# `PrefixBlockManager.take_all_back` keeps all names.
#
# </details>
#
# **Question 3. What would a second stream for computing break?** The forwards of even and odd steps on two streams:
# name four things that rest on the order of one.
#
# <details><summary>Answer</summary>
#
# 1. *Carry-over.* `carry_step` of N + 1 reads `previous_ids`, which the forward of N writes (`link`), with no event
#    between them.
# 2. *Keys and values.* A request that is in N and in N + 1 attends in N + 1 to what N wrote.
# 3. *Freeing at once*: the answer to question 2.
# 4. *The pool.* All graphs share the memory of their temporaries (`GraphForward.__init__`), which is legal only as long
#    as no two of them run at the same time.
#
# On the simulated GPU the first two are reported at once (chapter 7, section 9), the third with a request that is
# cancelled and another one that gets its blocks, and chapter 6 has shown the fourth. All four can be repaired with one
# line, a wait for N's `compute_done` before the forward of N + 1 is queued: tried, and no race is left. But then one
# forward runs behind the other as before, and the second stream has gained nothing. They could not run side by side in
# any case, since each needs the tokens of the one before.
#
# </details>
#
# **Question 4. What would have to change if three batches were in flight?** The device would have another batch waiting
# when the host is late. Some things are just a number. Which line would be *wrong* with three, and when would you
# notice?
#
# <details><summary>Answer</summary>
#
# The numbers: `max_in_flight` in `FullEngine.__init__`, and `range(2)` in `build`. Several parts do not mind.
# `BufferRing.buffers_for` counts modulo the number of its buffers, `StreamExecutor.__init__` captures for all of them,
# and `CarryScheduler` adds `pending_samples`, however many they are. After an EOS token two rows are dropped instead of
# one; the epoch does that as before.
#
# `link` must change: it pairs two sets of buffers. With three they are a ring, and each reads the ids of the one
# *before* it. A wrong neighbour raises nothing, and gives wrong tokens without a race.
#
# And `carry_index` is wrong, in a way that usual loads do not show. It looks for a pending token among the sampled ids
# of one batch, the last one that was launched (`Engine.prepare` passes `in_flight[-1]`). With two batches in flight
# that is the only one whose tokens the host does not know. With three there are two of these. A request that was in N
# and had to sit N + 1 out has its token in N's buffers, and in N + 2 the lookup raises a `KeyError`. It takes a step
# that has no budget left for a running request: tried with chapter 7's engine, three sets of buffers linked in a ring
# and the load of this lesson, everything is right, until the policy is `prefill_first` and the token budget 12. So the
# map would have to say *which* buffers as well, or the scheduler leave such a request out until its token is committed.
#
# What is gained by it? On the simulated GPU, a step takes as long as before: the device was never idle.
#
# </details>
#
# **Question 5. Where does the token go?** A request is cancelled between two steps, and a row of it was launched one
# step ago. Follow the id that this row samples. How far does it come? What happens to its neighbours: its keys and
# values, the request's name, the place in the map?
#
# <details><summary>Answer</summary>
#
# `FullEngine.cancel` leads to `ServiceBook.end`. `Scheduler.finish` takes the blocks back and advances the epoch, and
# `RequestBook.last_output` makes the terminal output, strikes the request out and so frees its name. The output waits
# in `RequestBook.outputs`; the next step returns it before its own. All that is done on the host, at once.
#
# The row does not know. Its id is sampled, written into `device_ids`, copied to `host_ids`, waited for in
# `EventExecutor.wait`, read by `IOBuffers.read_ids` and handed to `RequestBook.commit` with the others. There it ends:
# in `commit_tokens` the row's epoch is not the request's, and the loop goes on with the next row. (Were the id
# `NO_TOKEN`, `Batch.requests_without_token` would pass over it for the same reason, so a request that has ended cannot
# fail a second time.) `Metrics` never hears of it, since it counts what outputs bring.
#
# Its key and value are written, into a block that is free or has another owner by then, who writes later (question 2).
# The name may be used again at once: the map of the next batch is keyed by request object and epoch, and a newcomer's
# tokens are known anyway. And no map will ever point to the id: a request that has ended is not scheduled, so no row of
# the next batch asks for it.
#
# </details>
#
# ## 13. The bug museum
#
# Each exhibit is a part of an engine, in a file of less than eighty lines, with one bug that a real engine had. There
# is no gap to fill. The engine runs, and a test fails. Find the line. `make check EX=8.6` shows the symptom. Where
# there is a race as well, its report names two lines and the edge that is missing; it is shown once you have written
# down where you think the bug is: `make hint EX=8.6 GUESS="..."`. Read reports closely. (`async_engine` is chapter 7's
# engine with one part swapped, `graph_engine` chapter 6's.)

# %%
print("       (* easy, *** hard)")
for each in load_exercises().values():
    if each.is_bug and each.id.startswith("8."):
        print(f"{each.id:>5}  {each.title} {'*' * each.difficulty}, {each.minutes} minutes, {each.file}")
        print(f"       {each.symptom}")

# %% [markdown]
# ## 14. What this step cost, and what comes next
#
# - A name for each block: one hash of 16 tokens and of the name before. And three books (owners, names, reusable) that
#   must agree after every move; the tests of 8.1 check them after every move.
# - Text: one step of a decoder for each token, on the host, beside the forward.
# - A request that waits outside instead of inside a queue. That costs nothing and is more honest: in front of a full
#   engine there is a queue in any case.
# - Not offered: grammars, penalties, speculative decoding (section 9).
#
# What is gained is an engine that can run unattended. It starts without a request, serves each one that arrives,
# recovers from what can be recovered from, reports what it does, and gives each request one answer and one end.
#
# The GPU is full now, as long as the host keeps up. Chapter 9 makes sure that it does, at any number of rows.
#
# ## 15. Check yourself
#
# <details><summary>A block's name is given at the commit of the step that filled it, not at its launch. What goes wrong
# with the earlier moment?</summary>
#
# The step may fail, or the row may be dropped, and then the block's content is not what the name says. Another request
# that takes it computes wrong tokens, without a race and without an error.
#
# </details>
#
# <details><summary>A request is cancelled, and its blocks go to another request at once, while a row of it is still in
# flight. Why are no keys and values overwritten that the other one needs?</summary>
#
# Both rows are queued on the one compute stream. The old row was launched before, so it writes before; the new owner
# writes over it.
#
# </details>
#
# <details><summary>Why does <code>TextStream</code> hold characters back even when they are complete?</summary>
#
# They may be the beginning of a stop string. What was shown can never be taken back.
#
# </details>
#
# <details><summary>A step raises once, and the next one succeeds. Which tokens are lost?</summary>
#
# None that a caller has seen. What was in flight is dropped, all running requests are preempted, and each computes its
# committed tokens again as one long prompt (or finds its blocks by their names), so the dropped tokens are sampled
# again.
#
# </details>
#
# <details><summary>Why can this engine offer temperature, and no repetition penalty?</summary>
#
# Temperature needs only the logits. A penalty needs the token in flight, which the host does not know when it launches.
#
# </details>
#
# **Stretch tasks.** (1) In section 3 the eight requests take the number of steps that the cell prints. A request that
# waits a little finds more of its beginning named. Change the order of admission (a scheduler of your own, derived from
# `PrefixScheduler`) so that it takes fewer steps, with the same answers. (2) `held_back` looks at each stop string;
# make it take the same time for 1,000 stop strings as for 10 (Aho and Corasick, 1975).

# %%
list_guesses()

# %% [markdown]
# **Further reading**
#
# - Yu et al., "Orca: A Distributed Serving System for Transformer-Based Generative Models", OSDI 2022: scheduling by
#   iteration.
# - Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention", SOSP 2023: blocks,
#   and sharing them.
# - Zheng et al., "SGLang: Efficient Execution of Structured Language Model Programs", NeurIPS 2024: RadixAttention,
#   where prefixes are kept in a tree instead of under hashes.
# - CUDA Runtime API, "Error Handling": which errors are sticky.
# - The sources named in section 10, in this order: mini-sglang, transformers, SGLang, vLLM.
