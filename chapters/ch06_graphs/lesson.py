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
# memory pool. You will also see the two conditions under which that pool is legal, what goes wrong without them, and
# how memory outside the pool is reused while another stream may still read it.
#
# - `buckets.py`: which sizes are captured, and which of them a batch uses (exercise 6.1)
# - `graph_forward.py`: the **forward**: capture, launch, one pool (exercises 6.2 to 6.4)
# - `loans.py`: a tensor that another stream still reads (exercise 6.5)
# - `build.py`: chapter 5's parts, with your forward in the place of the given one (nothing to fill in)
#
# The first three are yours, in `my/ch06_graphs/`. The fourth is given; read it in `solutions/ch06_graphs/`.
#
# About 105 minutes: 20 to read, 75 for the five exercises, 10 to make predictions, run the cells and look at what they
# print.

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
from ch06_graphs import GraphForward, Loans, bucket_for, bucket_sizes, decode_step
from ch06_graphs.build import build
from ch08_full_engine.museum.build import graph_engine
from figures.ch06.diagrams import graph_grid
from figures.ch06.record import eager_engine, large_model_costs, memory
from figures.ch06.record import forward as time_forwards
from figures.recorded import recorded
from toolkit.commands.decoding import Load, serve
from toolkit.device import DEVICE, accelerator, is_simulated, new_stream, sleep
from toolkit.forward import Sizes
from toolkit.models import load_model
from toolkit.predictions import guess, list_guesses
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
# **Predict first.** `out` holds zeros. What does it hold after the capture, before any replay? (Put a number in place
# of the dots. As long as they are there, you make no guess.)

# %%
captured = guess("the numbers in out after the capture", ...)

# %%
start_afresh()
x, out = torch.ones(4, device=DEVICE), torch.zeros(4, device=DEVICE)
(x * 2 + 1).sum().item()  # a warm-up: the first call of a kernel loads it, which may be refused in a capture
graph = accelerator.CUDAGraph()
with accelerator.graph(graph):
    out.copy_(x * 2 + 1)
after_capture = out.tolist()
print("after the capture:            ", after_capture)
graph.replay()
print("after a replay:               ", out.tolist())
x.fill_(10)
graph.replay()
print("after x.fill_(10) and a replay:", out.tolist())
captured.compare(after_capture[0])

# %% [markdown]
# <details><summary>What happened</summary>
#
# Nothing ran in the capture: `out` was still zero. The first replay computed, and the second one used what `x` held
# *then*. The graph does not know a variable called `x`. It knows an **address**.
#
# </details>
#
# Now `x = x + 100` instead of `x.fill_(...)`, then a replay:

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
# The next cells time a decode forward twice for each batch size: launched operation by operation, and as a graph. On
# the simulated GPU a launch is declared to keep the host for 0.1 ms and each of the tiny model's kernels, about 140, to
# take about 0.06 ms, so that they represent a large model's many more.
#
# **Predict first.** How long is it from the first launch until the device is done, in either form?

# %%
one_by_one = guess("launched operation by operation: until the device is done, ms", ...)
one_graph = guess("as a graph: until the device is done, ms", ...)

# %%
print(f"{'rows':>4}  {'':22} {'host':>9} {'until the device is done':>26}")
for row in (timed := time_forwards(load)):
    times = f"{row['host_ms']:6.2f} ms {row['device_ms']:23.2f} ms"
    print(f"{row['rows']:4}  {row['forward']:22} {times}   ({row['clock']} clock)")
slow, quick = timed[-2:]  # those of the largest bucket
one_by_one.compare(slow["device_ms"], "ms")
one_graph.compare(quick["device_ms"], "ms")

# %% [markdown]
# <details><summary>What happened</summary>
#
# Launched one by one, the forward takes as long as its *launches*, and the host has no time for anything else. As a
# graph it takes as long as its *kernels*, and the host is free after one launch.
#
# </details>
#
# **Predict first.** Now a real GPU, an 8B shape and 1 to 32 rows. How many times as long does a graph's forward take
# for 32 rows as for one?

# %%
many_rows = guess("a graph's forward of all rows takes how many times that of one row?", ...)

# %%
ratios = []
for recording in recorded("ch06_forward"):
    rows = {(row["forward"], row["rows"]): row for row in recording["rows"]}
    few, many = min(rows)[1], max(rows)[1]
    one, all_rows = rows["graph", few]["device_ms"], rows["graph", many]["device_ms"]
    print(f"{recording['device']}, clock {recording['rows'][0]['clock']}")
    ratios.append(all_rows / one)
    print(f"    as a graph: {one:.2f} ms for {few} row, {all_rows:.2f} ms for {many} rows ({ratios[-1]:.2f} times)")
    slow = [row["device_ms"] for (name, _), row in rows.items() if name != "graph"]
    print(f"    launched one by one: {min(slow):.1f} to {max(slow):.1f} ms")
for recording in recorded("ch03_forward"):  # the same kernels, measured for chapter 3
    slow = next(row for row in recording["rows"] if row["forward"] == "kernel by kernel")
    if slow["clock"] == "cuda":
        print(f"{recording['device']}, on another occasion: {slow['device_ms']:.1f} ms launched one by one")
many_rows.compare(ratios[0])

# %% [markdown]
# <details><summary>What happened</summary>
#
# ![Time of a decode forward by rows: launched one by one it rises and falls again, as a graph it is a nearly level
# line](../../figures/ch06_forward.png)
#
# Launched one by one, 32 rows took less time than one row, and on chapter 3's occasion 32 rows took longer than either.
# It is not the device that differs, and hardly the number of rows (in section 6's recording, all with one number of
# rows, they differ as much). It is the *host* that was measured: how quickly Python and the driver launch, on this
# occasion. The graph's times are those of the device, and never fall. (On the simulated GPU the prices are declared,
# and always the same.)
#
# And they rise very little. A decode forward reads all the weights, for one row as for 32. Remember this for section 6.
#
# </details>
#
# ### What is left
#
# A graph takes away the launches. Is the forward now as quick as it can be? There is a **floor**: the weights and the
# keys and values of all rows must be read once, and that takes their bytes over the bandwidth of the memory. An 8B
# model in 16 bits has 16 GB of weights. 15 of them are read in a step (of the table of embeddings only a few rows), and
# at some 3 TB/s that is 5 ms, without any keys and values.
#
# ![Time of a decode step by context, for several forms of the forward, and the floor under all of
# them](../../figures/roofline_step.png)

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
# The graph alone is not as near as one might think. The attention is not to blame. By itself, with the Triton kernels
# that a GPU uses here (`toolkit/triton_decode.py`), it comes within a few percent of its own floor with long contexts.
# (All floors are computed from the bandwidth of a copy; reading alone may be a little quicker.) With short contexts it
# takes longer than its floor, but that is little beside the rest of a layer:
#
# ![Time of one layer's attention by context, and its floor: they meet where contexts are
# long](../../figures/roofline_attention.png)
#
# The rest is some thirty small kernels beside the matrix products of each layer, each of which reads and writes its
# activations, and products of few rows that do not reach the full bandwidth. Two optional steps after loading help.
# *Merging* puts q, k and v into one product, and gate and up (`toolkit/models/merge.py`): by itself it brings little.
# *Compiling* fuses the small kernels (`toolkit/models/compiled.py`): it brings the most, and costs some seconds at the
# first capture. Where both are done, on a GPU such as an H100, steps of up to 64 tokens run in kernels that are written
# by hand (`toolkit/models/fused.py`), and the last row of the table has them, too: with the two steps alone it would be
# 6.6 ms at 128 tokens. In all other forms the model's code stays the library's. Chapter 8's benchmark uses both steps.
# They change how long a forward takes, and nothing of what this course is about; the floor remains.
#
# (The dotted line hardly depends on what there is to read. It is the host again, slower on one occasion and quicker on
# another.)
#
# ## 3. A few sizes for all batches
#
# A graph has one shape forever. A batch has any number of rows from 1 to `max_rows`, and each captured size costs time
# and memory. So a few sizes are captured, the **buckets**: 1, 2, 4, 8, ... and `max_rows`. A batch uses the smallest
# bucket that holds it. The rows left over are *padding*: they compute nonsense.
#
# That nonsense must do no harm to any request. A padding row writes keys and values like any other row.
# `IOBuffers.load` has said since chapter 3 where: the slots behind each batch's own are in the **trash block**, one
# block more than the block manager knows of. And what a padding row samples is never read.
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
computed = sum(bucket_for(rows, sizes) for rows in range(1, 13))
print(f"{1 - sum(range(1, 13)) / computed:.1%} of the rows of these batches are padding")

# %% [markdown]
# A padding row costs device time, but less than it seems: a decode forward mostly reads the weights, and those are read
# once for all rows. (Section 2 has measured it.) For the same reason a smaller bucket saves less than it seems.
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
# dictionary. What belongs in the key? *Everything that a capture fixes and that differs between the graphs.* What is
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
# buffers and draws the grid of *your* graphs: a cell for each, with its number in the order of the captures. An empty
# cell is a graph that is missing.

# %%
forward, inputs, outputs = small_graphs()
for number in range(2):
    forward.capture_all(inputs[number], outputs[number], full)
names = {output.data_ptr(): f"buffers {number}" for number, output in enumerate(outputs)}
print(f"{len(calls)} calls of the forward, {len(forward.graphs)} graphs; the first three of each:")
print(*calls[:3], sep="; ")
print(*([names.get(part, part) for part in key] for key in list(forward.graphs)[:3]), sep="; ")
graph_grid(forward.graphs, names)

# %% [markdown]
# ## 6. The engine
#
# An engine is its parts, and this chapter swaps one of them. `source_diff` prints what one `build` has that another has
# not, docstrings left out. The lines without a sign are there to find your way, and `...` is what both have.

# %%
print(source_diff(build_before, build))

# %% [markdown]
# The difference of two builds is the chapter's idea, here in two lines. `GraphForward` takes the place of
# `Forward`; it has the same two methods, `capture_all` and `launch`, so the executor that calls them (chapter 4's) is
# the same, and so are buffers, scheduler and loop. And the model has to be on the accelerator: on the simulated GPU it
# is moved there, and the model's own operations are what is captured, each of them by itself, as on CUDA.
#
# **Predict first.** Two runs of the same engine: with forwards launched operation by operation, and with your graphs.
# How large is the device's idle share in either? (Think of the numbers of section 2, and of what prepare and commit
# cost the host besides.)

# %%
eager_idle = guess("launched operation by operation: the device's idle share, %", ...)
graph_idle = guess("as graphs: the device's idle share, %", ...)

# %%
eager = serve(eager_engine(), load, costs=large_model_costs())
print(f"one by one: device idle {eager.recording.idle_share():6.1%}, {eager.ms_per_step:6.2f} ms per step")
eager_idle.compare(round(100 * eager.recording.idle_share(), 1), "%")
plot_timeline(eager.recording, title="Two batches in flight, forwards launched one by one")

# %%
graphs = serve(build, load, costs=large_model_costs())
print(f"graphs:     device idle {graphs.recording.idle_share():6.1%}, {graphs.ms_per_step:6.2f} ms per step")
graph_idle.compare(round(100 * graphs.recording.idle_share(), 1), "%")
print(f"tokens that differ: {graphs.wrong_share(eager.outputs):.1%}")
if is_simulated():
    print(f"races: {len(accelerator.races())}")
plot_timeline(graphs.recording, title="Two batches in flight, each forward one graph")

# %% [markdown]
# <details><summary>What happened</summary>
#
# Launched one by one, the *host* lane is full: it launches all the time, and every prepare and commit makes the device
# wait. Double buffering was of no use, since the host had no time to spare. With graphs the host launches and is free.
# That is why the chapters before needed a forward in one launch to show anything.
#
# (Even within the bars of the first picture's forwards the device waits, between any two kernels; a bar goes from the
# first kernel to the last. On a real GPU that hides most of the waiting: with the tiny model the idle share can be
# *lower* one by one, while a step takes several times as long. As a graph its forward is shorter than the host's other
# work, so gaps are left.)
#
# </details>
#
# **Predict first.** On a GPU, with the 8B shape and 32 requests in two half batches. Chapter 5's forward had one size,
# so half of its rows were empty. Now a half batch of 16 has a graph of its own. How many times the tokens do the
# buckets give, compared with one graph of the full size?

# %%
buckets_gain = guess("graphs in buckets: how many times the tokens of one graph of the full size?", ...)

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
    if len(recording["rows"]) == 3:  # recorded on a GPU: chapter 5's forward is a graph only there
        buckets_gain.compare(quick["tokens_per_s"] / recording["rows"][2]["tokens_per_s"])

# %% [markdown]
# <details><summary>What happened</summary>
#
# The same 45 ms of both (and, in the same scale, in chapters 4, 5 and 7):
#
# ![Launched operation by operation: the host launches all the time, one forward takes about two thirds of the
# picture](../../figures/ch06_eager_steps.png)
#
# ![Each forward one graph: five forwards without a gap, and the host mostly waits](../../figures/ch06_steps.png)
#
# Graphs bring several times the tokens. *Buckets* bring nothing here: 16 rows take almost as long as 32, as
# section 2 has shown. They are for batches that are nearly empty, and for loads whose time goes into the rows and not
# into the weights.
#
# Look also at the idle share of the GPU under single launches. By the forwards' bars the device is hardly ever idle.
# Yet it takes several times as long as with graphs for the same kernels, so it must wait most of the time, *within* the
# bars. The idle share of chapter 0 sees gaps between forwards; it cannot see those between kernels.
#
# </details>
#
# ## 7. One pool
#
# A graph keeps the memory of its temporaries as long as it exists, since their addresses are written down in it. With
# 32 rows (six buckets), two sets of IO buffers, greedy and sampled, there are 24 graphs, and each would hold memory of
# its own. Unless they share.
#
# **Predict first.** You have put all of them into one pool. How many times the memory do the graphs of two sets of IO
# buffers hold, compared with those of one set?

# %%
second_set = guess("one pool: two sets' graphs hold how many times the memory of one set's?", ...)

# %%
print(f"{'IO buffers:':24} {'1 set':>10} {'2 sets':>10}")
rows = memory(load)
for pools in dict.fromkeys(row["pools"] for row in rows):
    held = [row["reserved_mb"] for row in rows if row["pools"] == pools]
    print(f"{pools:24} {held[0]:7.2f} MB {held[1]:7.2f} MB   ({rows[0]['graphs']} and {rows[1]['graphs']} graphs)")
    if pools == "one pool":
        second_set.compare(held[1] / held[0])

# %% [markdown]
# With one pool a second set of buffers costs hardly more than its own tensors. The same on a GPU, for 32 rows of an 8B
# shape. A part of each graph, its list of kernels, lives in the driver, outside torch's accounting. So memory is
# counted twice: by torch's allocator, and by what the driver says is gone (`mem_get_info`).
#
# ![Memory of the graphs: two sets hold twice as much as one with a pool for each graph or each set, and the same with
# one pool](../../figures/ch06_memory.png)

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
# And the graphs' lists? Where the two counts agree, they do not show. That does not prove that they take no memory.
# Before anything was counted, an engine had been made and thrown away, so that kernels and workspaces were loaded. The
# driver may have kept what it needed for that engine's lists, and used it again. So what they take is not in these
# figures.
#
# (The simulated allocator reuses a block for exactly its own size, so there a small bucket cannot use a large one's
# memory within the pool. CUDA's allocator splits blocks, and largest-first pays. The simulated megabytes are those of a
# tiny model, and of an attention in plain torch that gathers each row's whole block table; look at the ratios.)
#
# ## 8. Why that is legal
#
# The graphs write their temporaries over each other, at the same addresses. This is the device's memory, and who reads
# and writes what:
#
# ![Memory by user: weights, KV cache, inputs and ids of both sets of IO buffers are allocated once and outside the
# pool; only graphs write in the pool, all of them from its beginning](../../figures/ch06_memory_map.png)
#
# Two conditions make the sharing harmless, and both are needed:
#
# 1. **Two graphs of a pool never run at the same time.** All replays are queued on the one compute stream.
# 2. **No graph reads what another one has left in the pool,** nor does any other reader. What outlives a replay, the
#    sampled ids, was allocated *before* the capture, outside the pool. So were the inputs and the KV cache.
#
# (PyTorch's notes on graphs ask for a third: that they be replayed in the order of their capture. That protects a
# tensor which one graph leaves in the pool for a later one. Condition 2 rules out such tensors, so here any order will
# do.)
#
# Break the first one. Your forward, two sets of buffers, each replayed on a stream of its own. (A real GPU would say
# nothing, so there this cell and the next do nothing.)

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
# Now the second one. A colleague saves an allocation: the sampled ids of each set of buffers are made *in* a capture.
# All replays are on one stream, and each step's ids are copied out on `d2h`, behind an event, as always. Meanwhile the
# graph of the other buffers runs. Before you run the cell: where in the picture do the ids of buffers 1 lie now?

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
# buffers it would have gone well, which is how such a bug gets into an engine: it was right until memory was saved.
#
# ## 9. The memory outside the pool
#
# What else is allocated in a step, such as the temporaries of a step with prompts, comes from PyTorch's **caching
# allocator**. It has a rule of its own, which becomes dangerous with more than one stream.
#
# Asking the driver for memory is slow, and giving memory back makes it wait for the device. So the allocator does
# neither in the steady state. It keeps freed memory in lists, one for each stream. And *freed* means: the last
# reference on the **host** is gone. The device may be milliseconds behind. All the same, the next tensor that is
# allocated on that stream may get the memory at once.
#
# On one stream that is harmless, without any wait: what the new owner does is queued behind what the old one did. A
# reader on *another* stream is a different matter. The allocator does not know of it. It knows the stream on which the
# tensor was allocated, and no other.
#
# Below, `ids` (7, 7, 7, 7) is made on `compute` and copied out on `d2h`, behind an event, but late. The host has queued
# the copy and drops the name. Then `compute` makes another tensor of that size (9, 9, 9, 9).
#
# **Predict first.** Which number arrives on the host? (The simulated GPU is told to be an unlucky one: policy `lazy`.)

# %%
late = guess("the number that arrives on the host, if ids is dropped before d2h has read it", ...)


# %%
def late_reader(remedy):
    """Drop `ids` while d2h has still to read it, after `remedy(ids, compute, d2h)`.

    Returns what arrived on the host, whether `other` got the memory of `ids`, after how many ms it was ready, and what
    the remedy returned.
    """
    if is_simulated():
        accelerator.reset("lazy", on_race="collect")
    compute, d2h = new_stream("compute"), new_stream("d2h")
    start, end = (accelerator.Event(enable_timing=True) for _ in range(2))
    host = torch.zeros(4, dtype=torch.int64, pin_memory=True)
    with accelerator.stream(compute):
        ids = torch.full((4,), 7, device=DEVICE)
        start.record()
    d2h.wait_stream(compute)
    with accelerator.stream(d2h):
        sleep(5)  # ms
        host.copy_(ids, non_blocking=True)
    address = ids.data_ptr()
    kept = remedy(ids, compute, d2h)
    del ids
    with accelerator.stream(compute):
        other = torch.full((4,), 9, device=DEVICE)
        end.record()
    accelerator.synchronize()
    return host[0].item(), other.data_ptr() == address, start.elapsed_time(end), kept


arrived = late_reader(lambda ids, compute, d2h: None)[0]
late.compare(arrived)
if is_simulated():
    print(accelerator.races()[0])

# %% [markdown]
# The report names two of three remedies:
#
# - **Tell the allocator**: `ids.record_stream(d2h)`. When the tensor is freed, the allocator notes how far `d2h` has
#   got with its queue, and leaves the memory alone until `d2h` is through with that.
# - **Keep a reference** until the reader is done. What is not freed is not reused.
# - **Wait**: `compute.wait_stream(d2h)` before the memory is used again.

# %%
remedies = {
    "nothing": lambda ids, compute, d2h: None,
    "record_stream": lambda ids, compute, d2h: ids.record_stream(d2h),
    "keep a reference": lambda ids, compute, d2h: ids,
    "compute waits": lambda ids, compute, d2h: compute.wait_stream(d2h),
}
for name, remedy in remedies.items():
    arrived, same_memory, ms, _ = late_reader(remedy)
    races = f", races: {len(accelerator.races())}" if is_simulated() else ""
    memory_of = "the memory of ids" if same_memory else "other memory"
    print(f"{name:17} arrived: {arrived}, the new tensor got {memory_of:17} and was ready after {ms:.2f} ms{races}")

# %% [markdown]
# All three are right, and each has its price. (On a real GPU the times have in them what the host took to queue these
# calls, up to a few milliseconds where a call is the first of its kind.) The wait costs time: `compute` stops until the
# copy is done, which is what three streams were to avoid. The other two cost memory: the old tensor's is not free yet,
# so the new one gets more. With `record_stream` one does not see how much. The allocator looks only when it is asked
# for memory next, and if the host is far ahead of the device, nothing has passed by then. PyTorch's own collectives
# called it for years, and jobs held far more memory than they used
# ([an issue](https://github.com/pytorch/pytorch/issues/147168)). They now keep references
# ([the change](https://github.com/pytorch/pytorch/pull/148590)). So do vLLM for what it copies to the host
# (`AsyncOutput` in `v1/worker/gpu/async_utils.py`) and SGLang for its batches (`record_batch_in_overlap` in
# `managers/scheduler.py`).
#
# Where is that in our engine? In one place, where chapter 3's `StreamExecutor` is made: `IOBuffers.record_streams`
# names the three streams for the buffers' tensors, and the next line names `compute` for the KV cache. All of them were
# allocated on the default stream. It matters when an engine is dropped with batches in flight. The steps need nothing,
# since all that another stream reads is allocated once and kept. That is the fourth remedy, and the best one where it
# is possible.
#
# ### Exercise 6.5: lend a tensor to another stream (15 minutes)
#
# In `my/ch06_graphs/loans.py`, fill `Loans.lend` and `Loans.settle`, four lines. They keep references, without
# ever waiting, and let go of them as soon as the reader is done. `make hint EX=6.5`. The next cell lends `ids` to `d2h`
# and settles when the copy is done.

# %%
loans = Loans()
arrived, same_memory, ms, _ = late_reader(lambda ids, compute, d2h: loans.lend(ids, d2h))
print(f"arrived: {arrived}, the new tensor was ready after {ms:.2f} ms")
before = accelerator.memory_allocated()
loans.settle()
print(f"bytes that became free when the loan was settled: {before - accelerator.memory_allocated()}")

# %% [markdown]
# ## 10. Find the bug
#
# A colleague finds `IOBuffers.copy_in` clumsy: why allocate once and copy at every step, when `.to(...)` does both?
# Without graphs it works. (`graph_engine` is this chapter's `build`, with the buffers as an argument.)


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
# ## 11. What this step cost, and what comes next
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
# - **Memory** that is reserved as long as the engine lives: with one pool less than half of what separate ones take,
#   and for each graph the list itself.
# - **Fixed shapes.** Padding rows are computed. The block table keeps its full width, so an attention that reads all of
#   it, as the plain one does, works as hard for a short context as for the longest. (That is why `make run` leaves this
#   engine out: on the simulated GPU it would take most of the time. The Triton kernels, on a GPU, read only as far as
#   each row goes.)
# - **Steps with prompts** are still launched one by one, and take several times as long as a decode step, for all
#   requests in them. They can be captured too, by their number of tokens; chapter 8 does it (`step_graphs.py`).
# - **What a Python `if` decided in the capture is decided forever.** Greedy or sampled had to go into the key for that
#   reason.
#
# You know now what is in the forward, and small half batches have graphs of their own size. But they are still half
# batches: chapter 7 lets a request be in batch N and in batch N + 1, with a map that is applied *inside* the graph.
# Your graphs come with you: chapter 7's engine runs over them, too (section 6 there).
#
# ## Check yourself
#
# <details><summary>The largest batch has 24 rows, and 9 rows decode. Which bucket do they use, how many rows are
# padding, and where do those write?</summary>
#
# The buckets are 1, 2, 4, 8, 16 and 24, so it is the one of 16, with 7 rows of padding. They write their keys and
# values into the trash block, which belongs to no request.
#
# </details>
#
# <details><summary>The temperature is a Python number in the forward. The graphs were captured with 0.7, and a request
# asks for 1.0. What does it get?</summary>
#
# 0.7, without a message. The number became an argument of a kernel when the graph was captured. It has to be data in a
# tensor that is allocated once, as in chapter 3's inputs, or part of the key (a graph for each value).
#
# </details>
#
# <details><summary>Neither IO buffers nor executor changed in this chapter. What did chapters 3 and 4 do already that
# graphs need?</summary>
#
# Inputs and ids have lain at the same addresses since chapter 3, and `copy_` fills them. All forwards are queued on one
# compute stream, since chapter 4 behind the event of their own inputs.
#
# </details>
#
# <details><summary>Two engines in one process, each with a compute stream. May their graphs share one pool?</summary>
#
# No. Their graphs could run at the same time, and the first condition of section 8 fails. A pool for each engine is
# right.
#
# </details>
#
# <details><summary>A temporary is made and read on the compute stream only, and dropped while its kernels are still
# queued. Does it need record_stream?</summary>
#
# No. Its memory goes to the next tensor of `compute`, and what that one does is queued behind these kernels. The order
# of one stream is enough.
#
# </details>
#
# **Stretch task: less padding.** Section 3 printed which share of the rows is padding if batches of 1 to 12 rows are
# equally frequent. With the same number of buckets, 12 the last of them, choose other sizes. Which ones have the
# smallest share, and how far below the number of section 3 do you get? (`bucket_for` takes any sizes.) What would you
# have to know about a load before you choose sizes for it?
#
# Your predictions of this chapter:

# %%
list_guesses()
