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
# Nineteen small files, in this order:
#
# | file | what it knows | exercise |
# |---|---|---|
# | `request.py` | one prompt on its way | |
# | `block_manager.py` | who owns which piece of the KV cache | 2.1 |
# | `scheduler.py` | which tokens run in the next step | 2.2, 2.3 |
# | `random_numbers.py` | a random number from a seed and a place | |
# | `batch.py` | the step as tensors, nothing padded: the packer | 2.4 |
# | `sampler.py` | from scores to one token a row | |
# | `compute.py` | what a step computes: the forward, then the sampler | |
# | `config.py` | the limits of the engine | |
# | `entrance.py` | what a caller hands over: converted, checked, copied | |
# | `texts.py` | the text of each request's output | |
# | `undo.py` | a step that is interrupted (Ctrl-C) loses nothing | |
# | `request_book.py` | each request, from its arrival to its last output | 2.5 |
# | `observers.py` | who watches the engine and changes nothing, such as a timeline | |
# | `executor.py` | the model's forward: launch it, wait for its ids | |
# | `engine.py` | the loop: prepare, launch, commit | |
# | `build.py` | how the parts are put together | |
# | `row_attention.py` | attention over the paged cache, one row at a time | 2.6 |
# | `forecast.py` | how long serving will take, before it is measured | 2.7 |
# | `machine_engine.py` | this engine on a machine of given numbers | |
#
# Your files are the six with exercises, in `my/ch02_continuous_batching/`. The others are given; read them in
# `solutions/ch02_continuous_batching/`. About three hours: half an hour to read, 135 minutes for the seven exercises,
# and a few to run the cells. A good place for a break is marked after exercise 2.3, about halfway.

# %%
import sys

sys.path.insert(0, "../..")  # the repository root, seen from this notebook
from toolkit.course import open_chapter

open_chapter("ch02")  # whose code runs (COURSE_CODE); switches autoreload on

# %%
import inspect
from itertools import permutations

import torch

from ch02_continuous_batching import BlockManager, Packer, Request, SamplingParams, Scheduler, sample
from ch02_continuous_batching.build import build
from ch02_continuous_batching.forecast import count_steps, forecast
from ch02_continuous_batching.machine_engine import serve_on
from ch02_continuous_batching.row_attention import row_by_row
from figures.serving import SIZES, workloads
from toolkit.machine import Machine
from toolkit.models import load_model
from toolkit.models.shapes import SHAPES
from toolkit.paged_attention import PagedBatch, PagedKVCache, plain_attention
from toolkit.predictions import guess, list_guesses
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
# **Predict first.** Take pencil and paper. Requests join at the step after a row becomes free, in the order a to f. How
# many steps does it take now? What is the lowest number that any order could reach with three rows? And how many steps
# fewer than with static batches does it take if all six ask for 5 tokens? (Numbers in place of the dots; chapter 0
# explains these cells.)

# %%
steps_guess = guess("steps for the six requests on three rows", ...)
lowest_guess = guess("steps in the best order", ...)
equal_guess = guess("steps saved if all six ask for 5 tokens", ...)

# %% [markdown]
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
    return lines


def add(engine, name, prompt_length, max_tokens):
    prompt = [10 + position for position in range(prompt_length)]
    return engine.add_request(name, prompt, SamplingParams(max_tokens=max_tokens, ignore_eos=True))


engine = build(model, max_rows=3)
lines = watch(engine, [add(engine, name, 4, tokens) for name, tokens in zip(NAMES, wanted, strict=True)])
steps_guess.compare(engine.num_steps, "steps")
lowest_guess.compare(min(count_steps(order, 3) for order in permutations(wanted)), "steps")

# %% [markdown]
# <details><summary>What happened</summary>
#
# 27 tokens on three rows are at least 9 steps. That would take three rows of exactly 9 tokens each. The request for 9
# fills one of them, but the 8 needs a 1 beside it, and there is none: 10 steps in the best order. First come, first
# served needs one more, because e is long and starts late.
#
# </details>
#
# And now six times 5 tokens:

# %%
engine = build(model, max_rows=3)
lines = watch(engine, [add(engine, name, 4, 5) for name in NAMES])
equal_guess.compare(2 * 5 - engine.num_steps, "steps")

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
#     make check EX=2.1     # this exercise only
#     make hint EX=2.1      # the next hint, three in all
#
# **Predict first.** The cell hands out blocks as in the picture and then gives a block back. After that a request d
# gets blocks from a larger pool; its block table is [6, 2], with 4 tokens a block. In which slot is its position 6?

# %%
slot_guess = guess("slot of position 6 with the block table [6, 2] and blocks of 4", ...)

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
d = Request("d", [1], SamplingParams(), 3, block_table=[6, 2])
slot_guess.compare(BlockManager(num_blocks=8, block_size=4).slot(d, 6))

# %% [markdown]
# ## 4. Who runs next
#
# At every step the **scheduler** chooses the rows. The rule is first come, first served (**FCFS**): running requests
# in the order of their arrival, then waiting ones, as long as there are rows and blocks.
#
# A waiting request is **admitted** when a row is free, the step has tokens left for it, and the free blocks suffice for
# its whole prompt *and for one more block for each running request*. Without the second part a newcomer would take the
# last blocks, the running requests would need one each within a few steps, and the newcomer, being the last, would be
# thrown out again with its prompt computed for nothing (section 5). The rule is `_admit` in `scheduler.py`.
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
# token counts as computed: when it is *scheduled*, not when its result is there. `pending_samples` is the other half of
# this: it counts the request's rows that are on their way and will yield a token, one more when such a row is
# scheduled, one less when its token is committed. In this chapter it is 0 whenever the scheduler looks, and neither
# makes a difference. From chapter 5 on, the next step is scheduled before this one is done, and only `pending_samples`
# says that a token is coming whose value is not known yet. `make hint EX=2.2`.
#
# **Predict first.** Two prompts of 3 tokens (a and b) and one of 13 (c) are there from the start, and a step has a
# budget of 6 tokens. In which step, counted from 0, does c's *last* chunk run under FCFS? And under prefill first?

# %%
fcfs_guess = guess("fcfs: step of c's last chunk", ...)
prefill_guess = guess("prefill_first: step of c's last chunk", ...)

# %%


def schedule_some(policy, steps):
    scheduler = Scheduler(BlockManager(16, 4), max_rows=4, token_budget=6, policy=policy)
    for arrival, (name, length) in enumerate((("a", 3), ("b", 3), ("c", 13))):
        scheduler.add(Request(name, [7] * length, SamplingParams(max_tokens=20), arrival))
    sampled = {}  # by request, the first step that yields a token for it
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
                sampled.setdefault(row.request.request_id, step)
    return sampled


last_chunk = {}
for policy in ("fcfs", "prefill_first"):
    print(policy, "(request, first position .. last position)")
    last_chunk[policy] = schedule_some(policy, 6)["c"]
fcfs_guess.compare(last_chunk["fcfs"])
prefill_guess.compare(last_chunk["prefill_first"])

# %% [markdown]
# Measured: seven requests decode, and a prompt of 8,192 tokens arrives (on the CPU three, and 384 tokens). The
# longest gap is what a user sees as stuttering. On the H100 these steps are launched operation by operation, as in
# chapter 1.
#
# **Predict first.** FCFS on the H100: the budget is 1,024 tokens, then half of that. How many times as long does the
# newcomer wait for its first token with the smaller budget?

# %%
budget_guess = guess("the newcomer's first token at budget 512: so many times as late as at 1,024", ...)

# %%
for device in ("h100", "cpu"):
    recording = read_recording(DATA / device / "ch02_budget.json")
    print(f"{recording['device']}, a prompt of {recording['rows'][0]['long_prompt']} tokens arrives")
    print("   budget  policy          longest gap   median gap   first token of the newcomer")
    for row in recording["rows"]:
        print(
            f"  {row['token_budget']:7}  {row['policy']:14} {row['longest_gap_ms']:8.0f} ms "
            f"{row['median_gap_ms']:9.0f} ms {row['first_token_ms']:14.0f} ms"
        )
    if device == "h100":
        first = {(row["policy"], row["token_budget"]): row["first_token_ms"] for row in recording["rows"]}
        budget_guess.compare(first["fcfs", 512] / first["fcfs", 1024], "times")

# %% [markdown]
# <details><summary>What happened</summary>
#
# ![The longest gap and the newcomer's first token over the budget. With FCFS the longest gap grows from 124 to 291 ms
# and the first token comes sooner, after 794 to 290 ms. With prefill first the longest gap is about as long as the
# newcomer's wait under FCFS.](../../figures/ch02_budget.png)
#
# Under FCFS a small budget keeps the gaps short, and the newcomer pays: its prompt takes many steps, and each step
# launches the forward and reads all weights again. Half the budget is nearly twice as many steps (17, not 9, since
# seven tokens of each go to the decodes). A step of half as many tokens is a sixth shorter, 47 ms in place of 57 on
# average, so the newcomer waits half as long again. With prefill first, chunks do not help those who wait: the whole
# prompt comes before their next token, and the smallest chunks make it slowest. Under a budget larger than the prompt
# the two policies choose the same rows, and what differs is noise.
#
# So is something else. With FCFS the longest gap at budget 512 is longer than at 2,048, though a step has a quarter of
# the tokens. It is the host that sets the time of a step here (chapter 1), and a single slow step is enough for a long
# gap: with 512, the newcomer's steps take 47 ms on average, and the longest gap is 124.
#
# </details>
#
# There is no best budget. It is a choice between the ones who wait for their next token and the one who waits for the
# first.
#
# ## 5. When the blocks run out
#
# Every request grows by a token a step, and how long its answer will be is not known. Sooner or later a running request
# needs a block and none is free. Then the request that came **last** gives way: it is **preempted**. All its blocks are
# freed, it goes back to waiting, at its place by arrival. Its tokens are kept, but their keys and values are gone. When
# it comes back, prompt and output are computed like one long prompt. This is *recompute* preemption.
#
# Why the last? If a later request could take from an earlier one, the two could take blocks from each other without
# end. As it is, the earliest request always moves on, so every request gets done.
#
# Why throw keys and values away, instead of copying them to the host's memory and back (*swapping*)? Recomputing
# needs no memory on the host, no copies in flight, and no third place in which a request can be: a preempted request
# is simply a waiting one with a longer prompt. It costs one prefill, which is cut into chunks and runs beside the
# others' decodes. Swapping moves every key and value over the bus twice, and the bus is some fifty times slower than
# the device's memory (by the data sheets, 64 GB/s each way over PCIe 5.0 and 3.35 TB/s on an H100). The paper on
# PagedAttention measured both, and found them comparable for blocks of 16 to 64 tokens. And preemption is rare:
# admission sees to that.
#
# ### Exercise 2.3: preempt when blocks run out (30 minutes)
#
# In `my/ch02_continuous_batching/scheduler.py`, write `make_room` and `preempt`, 16 lines in all: the hardest
# exercise of this chapter. `make hint EX=2.3`.
#
# **Predict first.** Three requests, each with a prompt of 4 tokens and 9 new ones. Each comes to fill 12 places of the
# cache, since the last token is never fed. They share a pool of 6 blocks of 4 places: 24, where 36 are wanted. In which
# step, counted from 0, is the first request preempted? And how many tokens does it compute again when it comes back,
# its newest included? In the lines, a `.` is a preempted request that waits.

# %%
preempted_guess = guess("step in which a request is preempted", ...)
again_guess = guess("tokens that it computes when it comes back", ...)

# %%
engine = build(model, num_blocks=6, block_size=4)
requests = [add(engine, name, 4, 9) for name in "abc"]
lines = watch(engine, requests)
assert [request.output_ids for request in requests] == [requests[0].output_ids] * 3, "the prompts are equal"
preempted_guess.compare(lines["c"].index("."))
again_guess.compare(4 + len(lines["c"].split(".")[0]), "tokens")

# %% [markdown]
# (All three have the same prompt here, so they must have the same answer. They do, preempted or not.) Here is who owns
# which block in each step:

# %%


def watch_blocks(engine):
    """Run the engine and draw a line for each block: its owner, step by step; `.` is a free block."""
    lines = [""] * engine.scheduler.blocks.num_blocks
    while engine.has_work:
        batch = engine.prepare()
        owners = {block: request.request_id for request in engine.scheduler.running for block in request.block_table}
        lines = [line + owners.get(block, ".") for block, line in enumerate(lines)]
        engine.commit(batch, engine.executor.launch(batch))
    for block, line in enumerate(lines):
        print(f"block {block}  {line}")


engine = build(model, num_blocks=6, block_size=4)
for name in "abc":
    add(engine, name, 4, 9)
watch_blocks(engine)

# %% [markdown]
# <details><summary>What happened</summary>
#
# In step 0 each prompt takes one block, in step 1 each request its second one: the pool is full. In step 5 they need
# their third. a comes first, finds none, and c, the last, gives way: both its blocks are free at once. a takes one of
# them, b the other. c waits until a and b are done, and comes back with its 4 prompt tokens and the 5 that it had
# written: 9 tokens, computed as one prompt, on three blocks that a owned.
#
# </details>
#
# **A good place for a break.** What follows is packing, committing and measuring.
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
# attention is replaced, by a function that writes through the slot mapping and reads through the block table; section 9
# looks into it.
#
# ### Exercise 2.4: pack a ragged batch (20 minutes)
#
# In `my/ch02_continuous_batching/batch.py`, write the body of the loop in `pack_tokens`, 8 lines. The `Packer` in
# the same file calls it. `make hint EX=2.4`.
#
# **Predict first.** Two requests, with prompts of 2 and 8 tokens, and a budget of 5. The cell packs two steps. How many
# entries has `logits_indices` in the second one, and how many has `query_start_loc`?

# %%
logits_guess = guess("second step: entries of logits_indices", ...)
starts_guess = guess("second step: entries of query_start_loc", ...)

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
        print(f"   {name:15} {getattr(batch.inputs, name).tolist()}")
logits_guess.compare(len(batch.inputs.logits_indices))
starts_guess.compare(len(batch.inputs.query_start_loc))

# %% [markdown]
# ## 7. One random number per row
#
# Greedy decoding takes the most likely token. To *sample*, lay all tokens on a line from 0 to 1, each as long as its
# probability, the most likely first. A random number between 0 and 1 points at one of them:
#
#     0          0.5        0.8   0.95 1
#     |  "the"    |   "a"    | "an" |.|          uniform number 0.62  ->  "a"
#
# `temperature` stretches the differences, `top_k` and `top_p` cut off the far end of the line, and what is left counts
# as the whole line. (`top_p` keeps the fewest tokens whose probabilities reach it.) Read `sampler.py`, it is given.
#
# **Predict first.** The same line, the same uniform number 0.62, and `top_p=0.7`. Which token is drawn: `"the"`, `"a"`
# or `"an"`?

# %%
token_guess = guess("top_p 0.7 and the uniform number 0.62 draw the token", ...)

# %%
logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
one, no_limit = torch.ones(1), torch.zeros(1, dtype=torch.int64)
for top_p in (1.0, 0.7):
    drawn = sample(logits, one, no_limit, torch.tensor([top_p]), torch.tensor([0.62]))
    print(f"top_p {top_p}: {('the', 'a', 'an', '.')[int(drawn)]}")
token_guess.compare(("the", "a", "an", ".")[int(drawn)])

# %% [markdown]
# <details><summary>What happened</summary>
#
# "the" alone does not reach 0.7, "the" and "a" together do. These two are stretched to the whole line: "the" goes from
# 0 to 0.5 / 0.8 = 0.625, and 0.62 points into it.
#
# </details>
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
# | request book | follows a request to its last output; the only part that ends one | chapters 8 and 9 |
# | scheduler, block manager | choose the rows of a step; hand out blocks | chapters 5, 7, 8 and 9 |
# | packer | turns the rows into input tensors | chapters 7 and 9 |
# | executor | puts a batch on the device (`launch`), gets its ids (`wait`) | chapters 3 and 4 |
# | observers | are told what happens and change nothing: the timeline, later metrics | chapters 3, 8 and 9 |
#
# Of a request, each of the three changes other fields, and launch changes none. From chapter 5 on they belong to
# *different* steps at the same time, and this map says where they can meet:
#
# | | prepare | launch | commit |
# |---|---|---|---|
# | `status` | waiting → running when admitted, running → waiting when preempted | | running → finished |
# | `block_table` | grows; emptied when preempted | | emptied when finished |
# | `num_computed_tokens` | goes up by the row's tokens; 0 when preempted | | |
# | `pending_samples` | + 1 for a row that samples; 0 when preempted | | − 1; 0 when it ends |
# | `output_ids` | | | + 1 token |
# | `epoch` | + 1 when preempted | | + 1 when finished |
# | keys and values on the device | | written | |
# | the `Batch` | made | read | read |
#
# The cell prints the fields after each of the three, for a request of 5 prompt and 2 new tokens:

# %%
engine = build(model, block_size=4)
request = add(engine, "a", 5, 2)
FIELDS = ("num_computed_tokens", "pending_samples", "epoch")


def show_fields(when):
    values = ", ".join(f"{field} {getattr(request, field)}" for field in FIELDS)
    print(f"{when:10} {request.status.value:8} {values}, {len(request.output_ids)} new, blocks {request.block_table}")


show_fields("added")
while engine.has_work:
    batch = engine.prepare()
    show_fields(f"prepare {batch.step}")
    handle = engine.executor.launch(batch)
    show_fields(f"launch {batch.step}")
    engine.commit(batch, handle)
    show_fields(f"commit {batch.step}")

# %% [markdown]
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
# With a token, a request ends for one of three reasons, looked at in this order: the model's end-of-sequence token
# (EOS), a **stop string** that appears in its text, or `max_tokens`. A stop string may lie across several tokens, so
# the whole text so far is searched, not the newest token.
#
# ### Exercise 2.5: commit a step: append, drop, finish (20 minutes)
#
# In `my/ch02_continuous_batching/request_book.py`, write the body of the loop in `commit_tokens`, and
# `finish_reason`, 16 lines in all. Both are methods of `RequestBook`: the engine's `commit` waits for the ids and hands
# them to the book. `make hint EX=2.5`.
#
# **Predict first.** The cell preempts a request while its row is in flight, and then commits the batch. How many
# outputs does commit return? And is the request's answer in the end `"right"` or `"wrong"`?

# %%
outputs_guess = guess("outputs that commit returns for the row of a preempted request", ...)
answer_guess = guess("the preempted request's answer is right or wrong", ...)

# %%
engine = build(model, tokenizer)
request = add(engine, "a", 5, 6)
engine.step()
batch = engine.prepare()
handle = engine.executor.launch(batch)
engine.scheduler.preempt(request)
outputs_guess.compare(len(engine.commit(batch, handle)))
while engine.has_work:
    engine.step()
undisturbed = build(model).generate([request.prompt_ids], request.params)[0]
answer_guess.compare("right" if tuple(request.output_ids) == undisturbed.output_ids else "wrong")

text = tokenizer.decode(undisturbed.output_ids)
(stopped,) = build(model, tokenizer).generate([request.prompt_ids], SamplingParams(max_tokens=6, stop=(text[2:4],)))
print(f"stop string {text[2:4]!r}: {stopped.text!r} instead of {text!r}, for the reason {stopped.finish_reason.name}")

# %% [markdown]
# The row's token is dropped, by its epoch. It is sampled once more when the request has been computed again, and since
# the answer depends on nothing but the request, it is the same. The stop string is cut off, and with it what follows.
#
# ## 9. Inside the forward: paged attention
#
# Everything in a forward but attention looks at one token at a time, so it need not know where rows begin. Attention
# does. In each layer, `toolkit/paged_attention.py` does this:
#
#     1. write    each token's key and value go to its slot
#     2. gather   each row's keys and values are copied out of its blocks
#     3. attend   each token of a row looks at the row's earlier positions and at its own
#
# Step 1 reads the slot mapping, step 2 block table and `seq_lens`, step 3 `query_start_loc` and `seq_lens`.
# Write comes first, since a token looks at itself too. Step 2 for a row with 6 positions and the block table [5, 1]:
#
#     block             0         1           2         3         4         5
#     cache             . . . .   a4 a5 . .   . . . .   . . . .   . . . .   a0 a1 a2 a3
#     cache[[5, 1]]     a0 a1 a2 a3   a4 a5 . .       two blocks, in the table's order
#     flattened, cut    a0 a1 a2 a3 a4 a5             the row's keys, by position
#
# In step 3 the queries of a chunk are the row's *last* tokens. With 3 of 6 positions in this step they are at 3, 4 and
# 5, and the first of them sees the positions 0 to 3.
#
# ### Exercise 2.6: attend through a block table (15 minutes)
#
# In `my/ch02_continuous_batching/row_attention.py`, write `gather` and `visible`, about 4 lines: steps 2 and 3
# for one row. `row_by_row`, in the same file, calls them for each row in turn. `make hint EX=2.6`.
#
# The toolkit's version takes all rows at once. Block tables have different lengths, so they are padded with zeros to
# the longest, and each row gathers as many blocks as the longest row has.
#
# **Predict first.** Two decode rows, one with 1,000 tokens in the cache and one with 10, in blocks of 16. How many
# positions does it gather for both of them together?

# %%
gathered_guess = guess("positions gathered for rows of 1,000 and 10 tokens, blocks of 16", ...)

# %%
lengths, block_size = [1000, 10], 16
blocks = BlockManager(num_blocks=80, block_size=block_size)
rows = [Request(name, [1], SamplingParams(), arrival) for arrival, name in enumerate("ab")]
for row, length in zip(rows, lengths, strict=True):
    blocks.allocate(row, length)
widest = max(len(row.block_table) for row in rows)
generator = torch.Generator().manual_seed(0)
batch = PagedBatch(
    cache=PagedKVCache(torch.randn(2, 1, 80, block_size, 2, 8, generator=generator)),
    block_table=torch.tensor([row.block_table + [0] * (widest - len(row.block_table)) for row in rows]),
    slot_mapping=torch.zeros(0, dtype=torch.int64),
    query_start_loc=torch.tensor([0, 1, 2]),
    seq_lens=torch.tensor(lengths),
    num_decode_rows=2,
    max_query_length=1,
)
query = torch.randn(2, 4, 8, generator=generator)
cache = batch.cache.keys[0], batch.cache.values[0]
difference = row_by_row(query, *cache, batch, scale=0.35) - plain_attention(query, *cache, batch, scale=0.35)
print(f"row by row against all rows at once: at most {float(difference.abs().max()):.0e} apart")
gathered_guess.compare(batch.block_table.numel() * block_size, "positions")

# %% [markdown]
# The padding is back, inside the attention: 1,010 positions are needed. And all that is gathered is written to memory
# and read again. That is why engines have an attention kernel of their own, which follows the block table while it
# computes and stops at each row's length. On a recent NVIDIA GPU `paged_attention` uses such a kernel by itself,
# written in Triton (`toolkit/triton_attention.py`).
#
# ## 10. A forecast
#
# How long will serving take? Two things can be separated. The number of steps follows from the requests and the number
# of rows alone. The length of a step follows from the machine: host work once a step (`host_ms`), two copies (`copy_ms`
# each), the forward (`forward_ms`), and now the fourth number of chapter 0's machine, host work for each row of the
# step (`row_ms`), since this engine handles rows one by one.
#
# ### Exercise 2.7: forecast continuous batching (20 minutes)
#
# In `my/ch02_continuous_batching/forecast.py`, write `count_steps` and `forecast`, about 8 lines. The check runs
# *this chapter's engine*, with your scheduler and book, on the virtual clock of the simulated GPU, and compares.
# `make hint EX=2.7`. (`machine_engine.py` shows how: it swaps the executor and adds an observer.)
#
# **Predict first.** The six requests of section 1 on three rows, on a machine with 2 ms of host work a step, 0.5 ms a
# copy, 7 ms a forward and 0.25 ms a row. How many milliseconds does it take? And for which share of them is no forward
# running?

# %%
wanted = [2, 9, 3, 3, 8, 2]
machine = Machine(host_ms=2.0, copy_ms=0.5, forward_ms=7.0, row_ms=0.25)
total_guess = guess("the six requests on that machine, ms", ...)
share_guess = guess("share of that time in which no forward runs, %", ...)

# %%
said = forecast(machine, wanted, max_rows=3)
total_guess.compare(said.total_ms, "ms")
share_guess.compare(100 * said.idle_share, "%")
for rows, row_ms in ((1, 0.25), (3, 0.25), (6, 0.25), (6, 2.5)):
    machine = Machine(host_ms=2.0, copy_ms=0.5, forward_ms=7.0, row_ms=row_ms)
    said = forecast(machine, wanted, rows)
    line = f"max_rows {rows}, row_ms {row_ms:4}: forecast {said.num_steps:2} steps, {said.total_ms:6.2f} ms, "
    line += f"idle {said.idle_share:5.1%}"
    if not torch.cuda.is_available():  # a process that can use CUDA has no simulated GPU
        ran = serve_on(machine, wanted, rows)
        ran_ms = (ran.window[1] - ran.window[0]) * 1e3
        line += f";   clock {len(ran.intervals('compute')):2} steps, {ran_ms:6.2f} ms, idle {ran.idle_share():5.1%}"
    print(line)

# %% [markdown]
# (The clock is the virtual one of the simulated GPU. A process that can use CUDA has none, so there its half of each
# line is missing. On any machine, `make check EX=2.7` compares.) More rows save steps: 27 with one row, 11 with
# three, and with six 9, those of the longest request. But the host's work on the rows, 27 times 0.25 ms, is the same
# in all three cases, so the idle share grows with the rows, from 31.7 to 34.9 %. Where a row costs the host ten times
# as much, the device waits for 60 % of the time.
#
# ## 11. Measured
#
# Three workloads: the same prompts, and roughly the same number of tokens in all. On the H100 32 requests on 8 rows,
# which ask for

# %%
loads = workloads(SIZES["cuda"], SHAPES["8b"].vocab_size)
loads = {name: [item.max_tokens for item in items] for name, items in loads.items()}
for name, tokens in loads.items():
    print(f"{name:23} {sum(tokens)} tokens: {tokens}")

# %% [markdown]
# **Predict first.** Take the third workload. How many steps does static batching need on 8 rows, and how many
# continuous batching? (The first can be read off the list, the second with pencil and paper, or with exercise 2.7.) And
# how many times as many tokens per second does continuous batching give there?

# %%
static_guess = guess("one in eight long: steps with static batches", ...)
continuous_guess = guess("one in eight long: steps with continuous batching", ...)
gain_guess = guess("one in eight long: times the tokens per second", ...)

# %%
gains = {}
for device in ("h100", "cpu"):
    recording = read_recording(DATA / device / "ch02_spread.json")
    print(f"{recording['device']}, {recording['rows'][0]['rows']} rows")
    rows = {(row["lengths"], row["batching"]): row for row in recording["rows"]}
    for lengths in dict.fromkeys(name for name, _ in rows):
        static, continuous = rows[lengths, "static"], rows[lengths, "continuous"]
        gains[device, lengths] = continuous["tokens_per_s"] / static["tokens_per_s"]
        print(
            f"  {lengths:23} {static['steps']:3} -> {continuous['steps']:3} steps, "
            f"{static['ms_per_step']:5.1f} -> {continuous['ms_per_step']:5.1f} ms a step: "
            f"{gains[device, lengths]:.2f} times the tokens/s"
        )
    if device == "h100":
        static_guess.compare(rows["one in eight long", "static"]["steps"], "steps")
        continuous_guess.compare(rows["one in eight long", "continuous"]["steps"], "steps")
        gain_guess.compare(gains[device, "one in eight long"], "times")
        print("  forecast:", {name: count_steps(tokens, 8) for name, tokens in loads.items()})

# %% [markdown]
# <details><summary>What happened</summary>
#
# ![Tokens per second of static and continuous batching on a GPU for three workloads: equal lengths 146 and 146, one to
# twice the average 90 and 152, one in eight long 30 and 91.](../../figures/ch02_spread.png)
#
# The number of steps is exactly what was forecast, and it is the same on every machine. The gain is how many times
# fewer steps there are, divided by how many times longer they are. The length of a step is the price:
#
# - With **equal lengths** there is nothing to gain, and what remains is the price. (On the H100 too little to be seen
#   in this recording.)
# - With **unequal lengths** steps are saved, and the more unequal, the more. (Even here some rows are empty: at the
#   end, when only the longest request is left, no request is waiting any more.)
# - On the CPU a step is expensive because of its rows, and continuous steps get *cheaper* where few rows are left. On
#   the H100 a decode forward takes as long as the host needs to launch it, however many rows it has. How long that is
#   varies from run to run, by more than the two kinds of batching differ here. A step in which a request joins
#   launches more, as the next section shows: it attends once for the decodes and once for the prompts. Chapter 6 makes
#   a decode step one launch, chapter 8 the others, too.
#
# </details>
#
# ## 12. The gaps remain
#
# Has the device stopped waiting for the host? We look at the tiny model again; one more request joins at step 3.
#
# **Predict first.** Between two forwards the host of chapter 1's loop appends tokens, extends a mask and computes
# positions. This chapter's host commits, schedules rows, looks up slots and packs a dozen tensors. The cell prints how
# long the H100 was idle between two forwards of chapter 1's loop, 8 rows of equal lengths. How many milliseconds is it
# with this chapter's engine?

# %%
equal = [row for row in read_recording(DATA / "h100" / "ch02_spread.json")["rows"] if row["lengths"] == "all equal"]
gap_ms = {row["batching"]: row["idle_share"] * row["ms_per_step"] for row in equal}
print(f"chapter 1's loop: {gap_ms['static']:.2f} ms of idle time a step, between forwards")
gap_guess = guess("with this chapter's engine, ms of idle time a step", ...)

# %%
warm_up = build(model)
lines = watch(warm_up, [add(warm_up, name, 24, 4) for name in "ab"])
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
gap_guess.compare(gap_ms["continuous"], "ms")
plot_timeline(recording, title="Continuous batching, tiny model", steps=(1, 6))

# %% [markdown]
# No. The batch is better, and the turns are the same: prepare, launch, wait, commit. The host's work has changed, and
# the gap is no shorter than before: scheduling and packing at every step take the place of the mask and its positions.
#
# On the H100, as in chapter 1, the host launches nearly all the time, and the forward hides its gaps inside. Step 3, in
# which a request joins with 24 tokens, launches more operations, and takes 3 ms longer than the steps after it. (Step
# 1, in which no request joins, is as long: the host was slower for a moment.) One turn of the host is enlarged:
#
# ![Six steps on a GPU, in which the host's lane is filled with launches. Enlarged, the 0.79 ms between two forwards:
# the host waits, commits, prepares, begins to launch, and copies the inputs.](../../figures/ch02_steps.png)

# %%
for row in equal:
    print(
        f"h100 {row['batching']:11} idle between forwards {row['idle_share']:.1%}, "
        f"host {row['host_ms_per_step']:5.2f} of {row['ms_per_step']:5.1f} ms per step"
    )

# %% [markdown]
# The *idle share* of these recordings is the time between forwards. It is small although the host works nearly all the
# time, and that is no contradiction. The host's time includes launching the forward, and while it launches, the forward
# counts as running, gaps inside and all. In the forecast of section 10 a forward has no gaps inside, as if it were a
# graph: there all idle time shows.
#
# ## 13. Find the bug
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
# your `make_room` ignore `rows` and run `make check EX=2.3`.
#
# </details>
#
# ## 14. What this step cost
#
# - **Host work.** Scheduling and packing at every step, in Python, growing with the rows. It is small beside a
#   forward of tens of milliseconds. The finished engine's steps take six to twelve, and it must not wait for
#   this.
# - **Recomputation.** A preempted request computes all its tokens again. A larger cache makes that rare.
# - **A slower attention.** Gathering blocks costs more than reading one long piece of memory. On a GPU that is what a
#   kernel of its own is for.
#
# And the idle gaps are still there. Nothing in this chapter has touched them.
#
# ## Check yourself
#
# <details><summary>A request has 7 prompt tokens and 3 new ones, and the last of these was committed a moment ago. What
# are num_tokens, num_computed_tokens and the position that its next row begins at?</summary>
#
# It knows 10 tokens, and 9 of them have been fed: the newest was sampled, not fed. The next row begins at position 9
# and has 1 token.
#
# </details>
#
# <details><summary>Why does only the last chunk of a prompt sample?</summary>
#
# What follows an earlier chunk is known: it is the rest of the prompt. Its logits would be thrown away, so they are not
# even computed (`logits_indices` leaves the row out).
#
# </details>
#
# <details><summary>A preempted request had 5 new tokens. When it comes back, its prompt and these are computed in two
# chunks, and the first ends inside the old output. Why must it not sample?</summary>
#
# Its next token is known already: it was sampled before the preemption, and it may have been sent to the user. A row
# samples only if it reaches the last known token, `num_tokens`, whether that is prompt or output.
#
# </details>
#
# <details><summary>Blocks of 16 tokens or blocks of 256: what are the advantages of each?</summary>
#
# In small blocks less is left unused: at most 15 places a request. Large ones make short block tables, fewer blocks to
# hand out, and longer stretches of memory to read. Where requests share a common beginning (chapter 8), only whole
# blocks can be shared, an advantage of small ones.
#
# </details>
#
# <details><summary>Which of these need the sampled token's value on the host: scheduling the next decode, packing it,
# finding that a request is done?</summary>
#
# Scheduling only needs to know *that* a token is coming (`pending_samples`). Packing writes its value into `input_ids`.
# Finding the end needs the value for EOS and stop strings, and not for `max_tokens`. Chapters 5 and 7 are built on this
# difference.
#
# </details>
#
# **Stretch tasks.** (1) In section 11's third workload the order of arrival costs steps. Write a policy that takes
# waiting requests by their number of wanted tokens, the longest first, and serve the workload on 8 rows in fewer than
# 116 steps. What do the users of the short requests say? (2) `make_room` looks through all running requests for a
# victim. With 500 of them and hardly any blocks, how many comparisons is that a step? Beat it without changing who is
# preempted.

# %%
list_guesses()

# %% [markdown]
# **Next, chapter 3**: the first attempt to let host and device work at the same time. It is fast, and its answers are
# wrong.
