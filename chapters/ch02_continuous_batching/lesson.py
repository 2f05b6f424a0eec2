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
# # Chapter 2: Continuous batching
#
# In chapter 1 a batch was put together once, and all requests waited for the slowest row. Now the batch is put together
# **again at every step**. A request joins as soon as there is room and leaves with its last token. The idea is that of
# Orca (Yu et al., OSDI 2022), and the inference engines of today are built on it.
#
# You build the engine that the rest of the course makes asynchronous. It consists of **parts**, such as a scheduler, a
# request book and an executor, and each later chapter swaps a few of them. Section 8 shows all parts side by side.
# Fourteen small files, in this order:
#
# | file | what it knows | exercise |
# |---|---|---|
# | `request.py` | one prompt on its way | |
# | `block_manager.py` | who owns which piece of the KV cache | 2.1 |
# | `scheduler.py` | which tokens run in the next step | 2.2, 2.3 |
# | `batch.py` | the step as tensors, nothing padded: the packer | 2.4 |
# | `sampler.py` | from scores to one token a row | |
# | `config.py` | the limits of the engine | |
# | `entrance.py` | what a caller hands over: converted, checked, copied | |
# | `texts.py` | the text of each request's output | |
# | `undo.py` | a step that is interrupted (Ctrl-C) loses nothing | |
# | `request_book.py` | each request, from its arrival to its last output | 2.5 |
# | `observers.py` | who watches the engine and changes nothing, such as a timeline | |
# | `executor.py` | the model's forward: launch it, wait for its ids | |
# | `engine.py` | the loop: prepare, launch, commit | |
# | `build.py` | how the parts are put together | |
#
# Your files are the four with exercises, in `my/ch02_continuous_batching/`. The others are given; read them in
# `solutions/ch02_continuous_batching/`. About two and a half hours with the five exercises.

# %%
import sys

sys.path.insert(0, "../..")  # the repository root, seen from this notebook
from toolkit.course import open_chapter

open_chapter("ch02")  # whose code runs (COURSE_CODE); switches autoreload on

# %%
import inspect

import torch

from ch02_continuous_batching import BlockManager, Packer, Request, SamplingParams, Scheduler
from ch02_continuous_batching.build import build
from toolkit.models import load_model
from toolkit.recordings import DATA, read_recording
from toolkit.timeline import Timeline, plot_timeline

torch.set_num_threads(1)  # the model is tiny: a second thread costs more than it saves
loaded = load_model("tiny")
model, tokenizer = loaded.model, loaded.tokenizer
print(loaded.description)

# %% [markdown]
# ## 1. The prediction
#
# Six requests, all with a prompt of 4 tokens. They ask for 2, 9, 3, 3, 8 and 2 new tokens. Three rows fit into a batch.
# A static batch takes the first three, then the others. `P` is a prefill, `d` a decode whose result is wanted, and `x`
# one whose result is thrown away:

# %%
wanted = [2, 9, 3, 3, 8, 2]
NAMES = "abcdef"
for first in (0, 3):
    batch, before = wanted[first : first + 3], " " * sum(max(wanted[i : i + 3]) for i in range(0, first, 3))
    for name, tokens in zip(NAMES[first:], batch, strict=False):
        print(name, before + "P" + "d" * (tokens - 1) + "x" * (max(batch) - tokens))
print(f"{sum(max(wanted[i : i + 3]) for i in (0, 3))} steps for {sum(wanted)} tokens")

# %% [markdown]
# **Predict first.** Take pencil and paper. Requests join at the step after a row becomes free, in the order a to f.
# How many steps does it take now? What is the lowest number that any order could reach with three rows? And how much is
# gained if all six ask for 5 tokens?
#
# The next cell runs the finished engine (or yours, as far as it is written) and draws the same picture. `build` makes
# an engine for a model, and keywords such as `max_rows` set its limits. `.` is a request that waits in the queue, and
# `-` one that runs but sits this step out.

# %%


def watch(engine, requests, most_steps=60):
    """Run the engine step by step and draw a line for each request."""
    lines = {request.request_id: "" for request in requests}
    while engine.has_work and engine.num_steps < most_steps:
        batch = engine.prepare()
        if batch is None:
            print("nothing can run, though there is work: the requests wait for each other")
            break
        shares = {row.request.request_id: row.num_tokens for row in batch.rows}
        for request in requests:
            sign = {"waiting": ".", "running": "-", "finished": " "}[request.status.value]
            tokens = shares.get(request.request_id, 0)
            lines[request.request_id] += "d" if tokens == 1 else "P" if tokens > 1 else sign
        engine.commit(batch, engine.executor.launch(batch))
    for name, line in lines.items():
        print(name, line)
    print(f"{engine.num_steps} steps for {sum(len(request.output_ids) for request in requests)} tokens")


def add(engine, name, prompt_length, max_tokens):
    prompt = [10 + position for position in range(prompt_length)]
    return engine.add_request(name, prompt, SamplingParams(max_tokens=max_tokens, ignore_eos=True))


engine = build(model, max_rows=3)
watch(engine, [add(engine, name, 4, tokens) for name, tokens in zip(NAMES, wanted, strict=True)])

# %% [markdown]
# 27 tokens on three rows: at least 9 steps, and 10 in the best order, since they do not divide evenly. First come,
# first served needs one more, because e is long and starts late. And now six times 5 tokens:

# %%
engine = build(model, max_rows=3)
watch(engine, [add(engine, name, 4, 5) for name in NAMES])

# %% [markdown]
# With equal lengths nothing is gained, and nothing can be: a static batch of equal rows wastes nothing. Remember that
# when you read a benchmark of an engine, and look at its lengths first.
#
# ## 2. A request and its life
#
#     waiting --admitted--> running --last token--> finished
#        ^                     |
#        +----- preempted -----+
#
# A **waiting** request owns nothing. A **running** one owns a piece of the KV cache. A **finished** one has given it
# back. Two of its counters drive everything else; read them in `request.py`:
#
# - `num_tokens`: prompt and output so far, what is *known*
# - `num_computed_tokens`: how many of these have been fed, so that their keys and values are in the cache
#
# The difference is what the request needs next. At first it is the whole prompt. In decode it is 1, the token that was
# sampled last. So a prompt and a decode are not two kinds of work. They are more or fewer uncomputed tokens.
#
# ## 3. The KV cache in blocks
#
# A padded cache reserves the longest possible length for every row. Requests that come and go would leave holes of all
# sizes. So the cache is cut into **blocks** of equal size, as an operating system cuts memory into pages
# (PagedAttention, Kwon et al., SOSP 2023). A request owns as many blocks as its tokens need, anywhere. Its **block
# table** lists them in order. Here with 4 tokens a block; request a has 6 tokens, b has 3:
#
#     block          0             1             2             3
#     slots     0  1  2  3 |  4  5  6  7 |  8  9 10 11 | 12 13 14 15
#               b0 b1 b2 . |             | a0 a1 a2 a3 | a4 a5  .  .
#
#     block table of a: [2, 3]        block table of b: [0]        free: [1]
#
# A **slot** is one place for one token, counted from block 0. Position 5 of a is in the second block of its table
# (5 // 4 = 1), at offset 1 (5 % 4). The second block is block 3, so the slot is 3 * 4 + 1 = 13. The list of the slots
# of a step's tokens is the **slot mapping**: where to *write*. The block tables say where to *read*.
#
# ### Exercise 2.1: hand out the blocks of the KV cache (15 minutes)
#
# In `my/ch02_continuous_batching/block_manager.py`, write `num_missing_blocks`, `allocate` and `free`, 7 lines in
# all. A block that is handed out twice mixes two answers into each other; a block that is not given back is lost until
# the engine is started again.
#
#     make check CH=2       # says what is tested, and what is still wrong
#     make check CH=2.1     # this exercise only
#     make hint EX=2.1      # the next hint, three in all

# %%
blocks = BlockManager(num_blocks=4, block_size=4)
a, b, c = (Request(name, [1], SamplingParams(), arrival) for arrival, name in enumerate("abc"))


def show(what):
    print(f"{what:18} a {a.block_table}, b {b.block_table}, c {c.block_table}, free {list(blocks.free_blocks)}")


for request, tokens in ((b, 3), (c, 2), (a, 4), (a, 6)):
    blocks.allocate(request, tokens)
    show(f"{request.request_id} for {tokens} tokens")
blocks.free(c)
show("c is done")
print("position 5 of a is in slot", blocks.slot(a, 5))

# %% [markdown]
# ## 4. Who runs next
#
# At every step the **scheduler** chooses the rows. The rule is first come, first served (**FCFS**): running requests
# in the order of their arrival, then waiting ones, as long as there are rows and blocks.
#
# A prompt of 8,000 tokens would take a step to itself, and for as long as that takes no other request gets a token. So
# a step has a **token budget**. A decode costs 1. A prompt that does not fit is cut into **chunks**, one a step, beside
# the others' decodes (chunked prefill; Sarathi-Serve, Agrawal et al., OSDI 2024). Only the last chunk yields a token:
# what follows an earlier chunk is known, since it is part of the prompt.
#
# Which of the two comes first, prompts or decodes? The scheduler knows two policies:
#
# - `fcfs`: running requests first. Their tokens keep flowing; a newcomer gets what is left of the budget.
# - `prefill_first`: prompts first. A newcomer's first token comes soonest; the others wait.
#
# ### Exercise 2.2: share the token budget, cut prompts into chunks (15 minutes)
#
# In `my/ch02_continuous_batching/scheduler.py`, write `num_tokens_for` and `_row`, 7 lines in all. Note when a
# token counts as computed: when it is *scheduled*, not when its result is there. In this chapter that makes no
# difference. From chapter 5 on, the next step is scheduled before this one is done. `make hint EX=2.2`.
#
# Two prompts of 3 tokens and one of 13, and a budget of 6 tokens a step:

# %%


def schedule_some(policy, steps):
    scheduler = Scheduler(BlockManager(16, 4), max_rows=4, token_budget=6, policy=policy)
    for arrival, (name, length) in enumerate((("a", 3), ("b", 3), ("c", 13))):
        scheduler.add(Request(name, [7] * length, SamplingParams(max_tokens=20), arrival))
    for step in range(steps):
        rows = scheduler.schedule()
        print(
            f"  step {step}:",
            ", ".join(f"{r.request.request_id} {r.start}..{r.start + r.num_tokens - 1}" for r in rows),
        )
        for row in rows:
            if row.samples:  # what a model and commit would do
                row.request.pending_samples -= 1
                row.request.output_ids.append(7)


for policy in ("fcfs", "prefill_first"):
    print(policy, "(request, first position .. last position)")
    schedule_some(policy, 6)

# %% [markdown]
# Measured: some requests decode, and a long prompt arrives. The longest gap is what a user sees as stuttering.
#
# ![The token budget](../../figures/ch02_budget.png)

# %%
for device in ("h100", "cpu"):
    recording = read_recording(DATA / device / "ch02_budget.json")
    print(f"{recording['device']}, a prompt of {recording['rows'][0]['long_prompt']} tokens arrives")
    print("   budget  policy          longest gap   first token of the newcomer")
    for row in recording["rows"]:
        print(
            f"  {row['token_budget']:7}  {row['policy']:14} {row['longest_gap_ms']:8.0f} ms "
            f"{row['first_token_ms']:14.0f} ms"
        )

# %% [markdown]
# Under FCFS a small budget keeps the gaps short, and the newcomer pays: its prompt takes many steps, and each step
# launches the forward and reads all weights again. With prefill first, chunks do not help those who wait: the whole
# prompt comes before their next token, and the smallest chunks make it slowest. Under a budget larger than the prompt
# the two policies choose the same rows, and what differs is noise. There is no best budget. It is a choice between the
# ones who wait for their next token and the one who waits for the first.
#
# ## 5. When the blocks run out
#
# Every request grows by a token a step, and how long its answer will be is not known. Sooner or later a running request
# needs a block and none is free. Then the request that came **last** gives way: it is **preempted**. All its blocks are
# freed, it goes back to waiting, at its place by arrival. Its tokens are kept, but their keys and values are gone. When
# it comes back, prompt and output are computed like one long prompt. This is *recompute* preemption.
#
# Why the last? If a later request could take from an earlier one, the two could take blocks from each other for ever.
# As it is, the earliest request always moves on, so every request gets done.
#
# ### Exercise 2.3: preempt when blocks run out (30 minutes)
#
# In `my/ch02_continuous_batching/scheduler.py`, write `make_room` and `preempt`, 16 lines in all: the hardest
# exercise of this chapter. `make hint EX=2.3`. Below, three requests in a pool for 24 tokens, though they need 36. A
# `.` in the middle of a line is a preempted request that waits:

# %%
engine = build(model, num_blocks=6, block_size=4)
requests = [add(engine, name, 4, 9) for name in "abc"]
watch(engine, requests)
assert [request.output_ids for request in requests] == [requests[0].output_ids] * 3, "the prompts are equal"

# %% [markdown]
# (All three have the same prompt here, so they must have the same answer. They do, preempted or not.)
#
# ## 6. A step as tensors
#
# The **packer** turns the scheduler's rows into tensors. Rows of different lengths, and no padding: the tokens of all
# rows are put one behind the other, in one dimension. Index tensors say what belongs together. Two decodes and a chunk:
#
#     rows             a: 1 token  b: 1 token  c: 3 tokens, positions 4 to 6
#     input_ids        [ a9        , b4        , c4, c5, c6 ]
#     position_ids     [ 9         , 4         , 4,  5,  6  ]
#     slot_mapping     [ one slot for each token            ]   where keys and values go
#     query_start_loc  [ 0         , 1         , 2,       5 ]   where rows begin, and the end
#     seq_lens         [ 10        , 5         , 7          ]   in the cache, these included
#     logits_indices   [ 0         , 1         ,          4 ]   last token of sampling rows
#
# The padding on the left of chapter 1 is gone, and with it the mask. The model's own code is unchanged. Only its
# attention is replaced, by a function that writes through the slot mapping and reads through the block table
# (`toolkit/paged_attention.py`).
#
# ### Exercise 2.4: pack a ragged batch (20 minutes)
#
# In `my/ch02_continuous_batching/batch.py`, write the body of the loop in `pack_tokens`, 8 lines. The `Packer` in
# the same file calls it. `make hint EX=2.4`. The cell packs two steps; the second one is a decode and the second chunk
# of a prompt:

# %%
scheduler = Scheduler(BlockManager(16, 4), max_rows=4, token_budget=5)
for arrival, length in enumerate((2, 8)):
    scheduler.add(Request("ab"[arrival], [100 * (arrival + 1) + i for i in range(length)], SamplingParams(), arrival))
packer = Packer(scheduler.blocks)
for step in range(2):
    batch = packer.pack(step, scheduler.schedule(), previous=None)
    for row in batch.rows:
        print(f"{row.request.request_id}: positions {row.start} to {row.start + row.num_tokens - 1}", end="   ")
        if row.samples:
            row.request.output_ids.append(999)
            row.request.pending_samples -= 1
    print()
    for name in ("input_ids", "position_ids", "slot_mapping", "query_start_loc", "seq_lens", "logits_indices"):
        print(f"   {name:13} {getattr(batch.inputs, name).tolist()}")

# %% [markdown]
# ## 7. One random number per row
#
# Greedy decoding takes the most likely token. To *sample*, lay all tokens on a line from 0 to 1, each as long as its
# probability, the most likely first. A random number between 0 and 1 points at one of them:
#
#     0          0.5        0.8   0.95 1
#     |  "the"    |   "a"    | "an" |.|          uniform number 0.62  ->  "a"
#
# `temperature` stretches the differences, `top_k` and `top_p` cut off the far end of the line. Read `sampler.py`, it is
# given.
#
# The number comes from a hash of the request's **seed** and the token's **position**, and from nothing else. So a
# sampled answer does not depend on the row, on the batch, or on how often a token was recomputed. And nothing random
# happens on the device: the number goes in like any other input, which chapter 6 will need. The cell samples one prompt
# alone, then among others in a pool so small that requests are preempted:

# %%
params = SamplingParams(max_tokens=12, temperature=1.0, top_k=50, top_p=0.95, seed=7, ignore_eos=True)
prompts = [tokenizer(text)["input_ids"] for text in ("Why?", "What is the capital of France?", "Name three uses.")]
alone = build(model).generate(prompts[:1], params)[0].output_ids
among = build(model, num_blocks=12, block_size=4, token_budget=16).generate(prompts[::-1], params)[-1].output_ids
print("alone         ", alone)
print("among others  ", among)

# %% [markdown]
# ## 8. Prepare, launch, commit
#
# A step of the engine is three functions, and all later chapters keep them:
#
#     prepare   host     schedule the rows, pack their tensors    ->  a Batch; it never changes
#     launch    device   copy in, run the forward, sample         ->  ids, still on the device
#     commit    host     wait for the ids, append them, finish    ->  outputs for the users
#
# The engine itself is only the loop that calls them. The work is done by its parts, and each part has one job:
#
# | part | its job | swapped in |
# |---|---|---|
# | engine | calls prepare, launch and commit, in the right order | chapters 5 and 8 |
# | entrance | checks and copies what a caller hands over, before any other part sees it | |
# | request book | follows a request to its last output; the only part that ends one | chapter 8 |
# | scheduler, block manager | choose the rows of a step; hand out blocks | chapters 5, 7 and 8 |
# | packer | turns the rows into input tensors | chapter 7 |
# | executor | puts a batch on the device (`launch`), gets its ids (`wait`) | chapters 3 and 4 |
# | observers | are told what happens and change nothing: the timeline, later metrics | chapters 3 and 8 |
#
# `executor.launch(batch)` returns a **handle**, with which `executor.wait(batch, handle)` finds the ids of that batch
# later. What a handle is, only the executor knows. In this chapter it is the tensor of the ids.
#
# The function `build` in `build.py` makes the parts and gives them to the engine. Every later chapter ends in a `build`
# of its own. **The difference of two builds is what a chapter adds**, and from chapter 3 on each lesson prints it. Here
# is the first build, to compare with:

# %%
print(inspect.getsource(build), end="")

# %% [markdown]
# In this chapter prepare, launch and commit run one after the other. In an asynchronous engine, `prepare` of the next
# step runs while the device is still busy with this one. Then a row can come back for a request that has been cancelled
# or preempted in the meantime. Its token must be dropped. That is what the **epoch** is for: a row remembers the epoch
# of its request, and finish and preempt advance the request's epoch. `commit` compares the two. In this chapter nothing
# is ever in flight when that happens, unless you do it by hand, as the tests do. It is there now so that no later
# chapter has to change it.
#
# A request ends for one of three reasons, looked at in this order: the model's end-of-sequence token (EOS), a **stop
# string** that appears in its text, or `max_tokens`. A stop string may lie across several tokens, so the whole text so
# far is searched, not the newest token.
#
# ### Exercise 2.5: commit a step: append, drop, finish (20 minutes)
#
# In `my/ch02_continuous_batching/request_book.py`, write the body of the loop in `commit_tokens`, and
# `finish_reason`, 16 lines in all. Both are methods of `RequestBook`: the engine's `commit` waits for the ids and hands
# them to the book. `make hint EX=2.5`. The cell preempts a request while its row is in flight. The row's token must be
# dropped, and the answer must be the right one all the same. Then it asks for a stop string:

# %%
engine = build(model, tokenizer)
request = add(engine, "a", 5, 6)
engine.step()
batch = engine.prepare()
handle = engine.executor.launch(batch)
engine.scheduler.preempt(request)
print("outputs of the row in flight:", engine.commit(batch, handle))
while engine.has_work:
    engine.step()
undisturbed = build(model).generate([request.prompt_ids], request.params)[0]
print("right answer all the same:   ", tuple(request.output_ids) == undisturbed.output_ids)

text = tokenizer.decode(undisturbed.output_ids)
(stopped,) = build(model, tokenizer).generate([request.prompt_ids], SamplingParams(max_tokens=6, stop=(text[2:4],)))
print(f"stop string {text[2:4]!r}: {stopped.text!r} instead of {text!r}, for the reason {stopped.finish_reason.name}")

# %% [markdown]
# ## 9. Measured
#
# **Predict first.** Three workloads, the same prompts, and on average nearly the same number of tokens. In the first,
# all ask for the same number. In the second, for 1 to twice the average. In the third, one request in eight asks for a
# very long answer, as people do. By how much is continuous batching faster in each? Write three numbers down, then
# scroll on.
#
# ![Static against continuous batching](../../figures/ch02_spread.png)

# %%
for device in ("h100", "cpu"):
    recording = read_recording(DATA / device / "ch02_spread.json")
    print(f"{recording['device']}, {recording['rows'][0]['rows']} rows")
    rows = {(row["lengths"], row["batching"]): row for row in recording["rows"]}
    for lengths in dict.fromkeys(name for name, _ in rows):
        static, continuous = rows[lengths, "static"], rows[lengths, "continuous"]
        print(
            f"  {lengths:23} {static['steps']:3} -> {continuous['steps']:3} steps, "
            f"{static['ms_per_step']:5.1f} -> {continuous['ms_per_step']:5.1f} ms a step: "
            f"{continuous['tokens_per_s'] / static['tokens_per_s']:.2f} times the tokens/s"
        )

# %% [markdown]
# The gain is how many times fewer steps there are, divided by how many times longer they are. The number of steps is
# what you predicted with pencil and paper, and it is the same on every machine. The length of a step is the price:
#
# - With **equal lengths** there is nothing to gain, and what remains is the price.
# - With **unequal lengths** steps are saved, and the more unequal, the more. (Even here some rows are empty: at the
#   end, when only the longest request is left, no request is waiting any more.)
# - On the CPU a step is dear because of its rows, and continuous steps get *cheaper* where few rows are left. On the
#   H100 a decode forward takes as long as the host needs to launch it, however many rows it has. How long that is
#   varies from run to run, by about as much as the two kinds of batching differ here. A step in which a request joins
#   launches more, as the next section shows: it attends once for the decodes and once for the prompts. Chapter 6 makes
#   a decode step one launch, chapter 8 the others, too.
#
# ## 10. The gaps remain
#
# Has the device stopped waiting for the host? The tiny model again, and one more request that joins at step 3:

# %%
warm_up = build(model)
watch(warm_up, [add(warm_up, name, 24, 4) for name in "ab"])
timeline = Timeline(model.device)
engine = build(model, timeline=timeline)
for name in "abc":
    add(engine, name, 24, 12)
for _ in range(3):
    engine.step()
add(engine, "late", 24, 6)
while engine.has_work:
    engine.step()
recording = timeline.finish()
idle = recording.idle_share()
print(f"idle share {idle:.1%}; so at most {1 / (1 - idle):.2f} times as fast with the same device work")
print(f"host work per step {recording.host_ms_per_step():.2f} ms")
plot_timeline(recording, title="Continuous batching, tiny model", steps=(1, 6))

# %% [markdown]
# No. The batch is better, and the turns are the same: prepare, launch, wait, commit. There is *more* work for the host
# now, since it schedules and packs at every step.
#
# On the H100, as in chapter 1, the host launches nearly all the time, and the forward hides its gaps inside. Step 3, in
# which a request joins with 24 tokens, is longer than the others. It is the launching that takes longer, see the host's
# lane:
#
# ![Continuous batching on a GPU](../../figures/ch02_steps.png)

# %%
for device, batching in (("cpu", "static"), ("cpu", "continuous"), ("h100", "static"), ("h100", "continuous")):
    recording = read_recording(DATA / device / "ch02_spread.json")
    row = next(row for row in recording["rows"] if row["batching"] == batching)
    print(
        f"{device:5} {batching:11} idle share {row['idle_share']:.1%}, "
        f"host {row['host_ms_per_step']:6.2f} of {row['ms_per_step']:6.1f} ms per step"
    )

# %% [markdown]
# (On the GPU the host's time includes launching the forward. On the CPU it is prepare and commit alone.)
#
# ## 11. Find the bug
#
# An engine with continuous batching runs well for hours. Then a user complains that an answer turned into another
# user's in the middle of a sentence. The log shows that at this moment blocks had run out and a request was preempted.
# The one that was preempted had a row in the very step for which it was preempted. Which rule was broken, and what
# happened to its keys and values?
#
# <details><summary>Answer</summary>
#
# A request that has a row in this step must not be a victim. It was scheduled, then its blocks were given to another
# request in the same step, and then both rows wrote to the same slots. Whose keys survived is a matter of order. Let
# your `make_room` ignore `rows` and run `make check CH=2.3`.
#
# </details>
#
# ## 12. What this step cost
#
# - **Host work.** Scheduling and packing at every step, in Python, growing with the rows. It is small beside a forward
#   of tens of milliseconds. The finished engine has steps of ten, and it must not wait for this.
# - **Recomputation.** A preempted request computes all its tokens again. A larger cache makes that rare.
# - **A slower attention.** Gathering blocks costs more than reading one long piece of memory. On a GPU that is what a
#   kernel of its own is for.
#
# And the idle gaps are still there. Nothing in this chapter has touched them.
#
# **Next, chapter 3**: the first attempt to let host and device work at the same time. It is fast, and its answers are
# wrong.
