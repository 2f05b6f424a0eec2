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
# # Chapter 1: The naive synchronous loop
#
# Here is the simplest way to answer several prompts with a language model at once: put them into one batch, generate
# until all are answered, take the next batch. You build it, check it against the model library's own `generate`, and
# measure two kinds of waste in it. Chapter 2 removes the first kind. The rest of the course removes the second.
#
# - `padding.py`: prompts of different lengths made into one rectangle
# - `naive_engine.py`: the loop, and a counter of what it computes for nothing
#
# About an hour: 20 minutes to read, 35 for the three exercises, and a few to run the cells. The model here is `tiny`:
# random weights, one token per byte, no download. What it writes is noise, but it is always the same noise, and that is
# what a test needs.

# %%
import sys

sys.path.insert(0, "../..")  # the repository root, seen from this notebook
from toolkit.course import open_chapter

open_chapter("ch01")  # whose code runs (COURSE_CODE); switches autoreload on

# %%
import torch

from ch01_naive_loop import NaiveEngine, pad_left, position_ids
from toolkit.models import load_model
from toolkit.models.shapes import SHAPES
from toolkit.predictions import guess, list_guesses
from toolkit.recordings import DATA, read_recording
from toolkit.timeline import Timeline, plot_timeline

torch.set_num_threads(1)  # the model is tiny: a second thread costs more than it saves
loaded = load_model("tiny")
model, tokenizer = loaded.model, loaded.tokenizer
print(loaded.description)

# %% [markdown]
# ## 1. One prompt
#
# A language model reads tokens and says, for each of them, which token it expects next. To generate, feed the prompt,
# take the most likely next token (this is **greedy** decoding), feed that one, take the next, and so on.
#
# It would be wasteful to feed the whole text each time. Inside the model, every token leaves two vectors per layer, its
# **key** and its **value**. Later tokens look at those and at nothing else. So they are kept, in the **KV cache**, and
# a token is fed only once. That splits the work in two:
#
#     prefill    feed the whole prompt       ->  all its keys and values, and the first new token
#     decode     feed the newest token       ->  its key and value, and the next new token
#
# A call of the model is a **forward**. Ten new tokens take ten forwards: one prefill, nine decodes. The tenth token is
# never fed, since what would follow it is not wanted.
#
# ## 2. Several prompts in a rectangle
#
# A forward reads all weights of the model from memory, whether it computes one row or thirty. So prompts are computed
# together, as rows of a **batch**. But a tensor is a rectangle, and prompts have different lengths. The short ones are
# filled up with **padding**, and a **mask** tells the model which places are real:
#
#     prompts            input_ids           mask           position_ids
#     [5, 6, 7]          5  6  7             1  1  1        0  1  2
#     [8]                0  0  8             0  0  1        0  0  0
#     [1, 2]             0  1  2             0  1  1        0  0  1
#
# The padding is on the **left**. The next token is read off the last column, so every row's newest token must be there.
# And then the columns no longer tell a token's place in its text: token 8 is in column 2, counted from 0, and is the
# first of its row. The model must be told, with **position ids** that count the real tokens only.
#
# ### Exercise 1.1: pad ragged prompts on the left (10 minutes)
#
# In `my/ch01_naive_loop/padding.py`, write `pad_left` and `position_ids`, 5 lines in all.
#
#     make check CH=1       # says what is tested, and what is still wrong
#     make hint EX=1.1      # the next hint, three in all
#
# As long as an exercise is unsolved, this notebook says so and runs the reference solution instead. Once you have
# written it, the cells below run your code. What the next cell should show is the table above.

# %%
input_ids, mask = pad_left([[5, 6, 7], [8], [1, 2]], pad_id=0)
print("input_ids     ", input_ids.tolist())
print("mask          ", mask.tolist())
print("position_ids  ", position_ids(mask).tolist())

# %% [markdown]
# **Predict first.** Prompts of 40, 8, 8 and 8 tokens in one rectangle. Which share of its places is padding? (Put a
# number in place of the dots; chapter 0 explains these cells.)

# %%
padding_guess = guess("padding in the rectangle of prompts with 40, 8, 8 and 8 tokens, %", ...)

# %%
_, mask = pad_left([[7] * length for length in (40, 8, 8, 8)], pad_id=0)
padding_guess.compare(100 * (1 - int(mask.sum()) / mask.numel()), "%")

# %% [markdown]
# ## 3. The loop
#
# Prefill and decode are the same call. Only what goes in differs:
#
#                   input_ids                      mask
#     prefill       the padded prompts             the padded prompts' mask
#     decode        one column, the newest         one column of ones longer each time,
#                   token of every row             also for rows that are done
#
# Rows end at different times, since a row is done when it has its `max_tokens`, or when the model writes its
# end-of-sequence token. A tensor cannot lose a row halfway. So a row that is done stays. It is computed again and again
# until the last row is done, and its results are thrown away.
#
# ### Exercise 1.2: the decode loop and its end (15 minutes)
#
# In `my/ch01_naive_loop/naive_engine.py`, write the body of the loop in `_generate_batch`, and `is_done`, 7 lines
# in all. `_forward` is given: read it first, it says what it takes and what it returns. `make hint EX=1.2`.
#
# The cell below generates for three prompts in one batch and asks the library's own `generate` for each prompt alone.
# Equal means equal token for token. A forgotten mask changes the tokens of the padded rows, and so do positions that do
# not go on, in decode, where the prefill has left off.

# %%
texts = ["What is the capital of France?", "Why?", "Name three uses for old newspapers."]
prompts = [tokenizer(text)["input_ids"] for text in texts]
answers = NaiveEngine(model, batch_size=3).generate(prompts, [16, 16, 16])

for prompt, answer in zip(prompts, answers, strict=True):
    ids = torch.tensor([prompt])
    alone = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False)
    same = answer == alone[0, len(prompt) :].tolist()
    print(f"{len(prompt):3} prompt tokens, {len(answer)} new ones, {'equal to' if same else 'NOT EQUAL to'} generate")

# %% [markdown]
# ## 4. The first waste: places that no request needed
#
# Every column of every row is computed. Take one batch of eight requests. Prompt lengths are drawn evenly from 8 to 40,
# numbers of new tokens evenly from 1 to 32.
#
# ### Exercise 1.3: count what padding wastes (10 minutes)
#
# In `my/ch01_naive_loop/naive_engine.py`, write `_count` and `padding_share`, 5 lines in all. A computed place is
# useful if it holds a real token *and* its row is not done yet. `make hint EX=1.3`.
#
# **Predict first.** Which share of the computed places is wasted in this batch, prefill and decode together?

# %%
waste_guess = guess("wasted places of one static batch of eight requests, %", ...)

# %%
lengths = [(row["prompt"], row["wanted"] + 1) for row in read_recording(DATA / "cpu" / "ch01_batch.json")["rows"]]
engine = NaiveEngine(model, batch_size=8)
engine.generate([[7] * prompt for prompt, _ in lengths], [new for _, new in lengths], ignore_eos=True)
print(f"{engine.positions_computed} places computed, {engine.positions_useful} useful, in {engine.num_steps} forwards")
waste_guess.compare(100 * engine.padding_share, "%")

# %% [markdown]
# The same batch, drawn. Left of the line is the prefill, right of it the decode, one forward per column:
#
# ![Eight rows of one static batch as bars: padding and prompt left of a line, to the right of it the new tokens that
# were wanted and, in half of the rows longer, what was computed after the row was
# done.](../../figures/ch01_batch.png)
#
# The two kinds of waste are not equally bad. The padding on the left is computed in one forward, in which a device has
# plenty to do at once. The crossed bars on the right are whole forwards in which fewer and fewer rows are wanted, down
# to one. For those the formula is simple: with the longest answer *m* and the mean answer *a*, the batch takes *m*
# forwards, and *a* would do if no place were ever empty. So it could be *m / a* times as fast:

# %%
new = [new for _, new in lengths]
print(f"longest answer {max(new)}, mean {sum(new) / len(new):.1f}: up to {max(new) * len(new) / sum(new):.2f} times")

# %% [markdown]
# Then why not one request at a time, with no padding at all? Measured, with the same requests in batches of different
# sizes: on the H100 32 requests for a model of 8 billion random weights; on the CPU 16 requests for SmolLM2-135M on one
# thread. The numbers are read from the recordings in figures/data:

# %%
for device in ("h100", "cpu"):
    recording = read_recording(DATA / device / "ch01_batch_sizes.json")
    print(f"{recording['device']}, {recording['rows'][0]['requests']} requests")
    for row in recording["rows"]:
        print(
            f"  {row['batch_size']:3} rows {row['tokens_per_s']:8.1f} tokens/s {row['steps']:5} forwards of "
            f"{row['ms_per_step']:6.1f} ms {row['padding_share']:7.1%} wasted"
        )

# %% [markdown]
# ![Wanted tokens per second on a GPU in static batches of 1 to 32 rows: they rise with every doubling, from 33 to 353,
# while the wasted share rises from 0 to 42 %.](../../figures/ch01_batch_sizes.png)
#
# The largest batch wastes most, and is fastest all the same. On the CPU more rows take longer, but not in proportion.
# On the H100 a forward with 32 rows takes only a third longer than one with a single row. Is a row nearly free? Do not
# believe it yet: section 6 shows that in this loop the *host* sets the time of a decode step.
#
# ## 5. When is a row free?
#
# A forward reads from the device's memory all weights once, whatever the number of rows, and the keys and values of
# every row. It cannot be faster than these bytes over the memory's bandwidth. That is its **floor**:
#
#     floor = (bytes of the weights + rows * tokens in the cache * bytes of a token) / bandwidth
#
# For a model of the shape of Llama 3.1 8B, 2 bytes a number, and the bandwidth that a copy reached on the H100:

# %%
shape, roofline = SHAPES["8b"], read_recording(DATA / "h100" / "roofline_step.json")
bandwidth = roofline["rows"][0]["copy_tb_per_s"] * 1e12  # bytes per second
kv_width = shape.num_key_value_heads * shape.head_dim
per_layer = 2 * shape.hidden_size * (shape.hidden_size + kv_width) + 3 * shape.hidden_size * shape.intermediate_size
weight_bytes = 2 * (shape.num_hidden_layers * per_layer + shape.vocab_size * shape.hidden_size)  # and the output layer
token_bytes = 2 * 2 * shape.num_hidden_layers * kv_width  # in every layer a key and a value


def floor_ms(rows, context):
    return (weight_bytes + rows * context * token_bytes) / bandwidth * 1e3


print(f"weights {weight_bytes / 1e9:.1f} GB; a token in the cache {token_bytes / 1e3:.0f} kB")
print(f"floor with  1 row  of  128 tokens {floor_ms(1, 128):6.2f} ms")
print(f"floor with 32 rows of  128 tokens {floor_ms(32, 128):6.2f} ms")

graphs = {
    row["rows"]: row["device_ms"]
    for row in read_recording(DATA / "h100" / "ch06_forward.json")["rows"]
    if row["forward"] == "graph"
}
contexts = {row["context"]: row["ms"] for row in roofline["rows"] if row["form"] == "graph"}
print(f"measured with 1 row of few tokens {graphs[1]:6.2f} ms, launched as one graph (chapter 6)")

# %% [markdown]
# **Predict first.** Launched as one graph, the forward's time is the device's own. The cell above shows it for 1 row
# with few tokens in the cache, some milliseconds above its floor. How many milliseconds do 32 such rows take? And 32
# rows of 8,000 tokens each? (`floor_ms` is there for you to call.)

# %%
rows_guess = guess("a graph forward of 32 rows with few tokens, ms", ...)
context_guess = guess("a graph forward of 32 rows of 8,000 tokens, ms", ...)

# %%
rows_guess.compare(graphs[32], "ms")
context_guess.compare(contexts[8000], "ms")
print(f"floor with 32 rows of 8000 tokens {floor_ms(32, 8000):6.2f} ms")

# %% [markdown]
# <details><summary>What happened</summary>
#
# ![The time of a decode forward for 1 to 32 rows. As one graph it rises from 8.3 to 9.3 ms, above a floor of 5.2 ms.
# Launched one by one it takes 29 to 33 ms, and 32 rows are the quickest.](../../figures/ch01_rows.png)
#
# Thirty-one further rows cost about a millisecond: the weights are read once for all of them. With long texts the KV
# cache counts, and it is read for every row: 32 rows of 8,000 tokens have more bytes in the cache than the model has
# weights.
#
# </details>
#
# A row is free as long as three things hold:
#
# - **Its cache is small beside the weights.** The cell says how many bytes a token has. With some 115,000 tokens in the
#   cache, in whatever rows, the cache has as many bytes as the weights.
# - **There is little to compute.** Each row multiplies each weight once. An H100 does about 330 multiplications with
#   additions in the time in which it reads one weight (989 TFLOP/s in bfloat16 without sparsity, by its data sheet),
#   so up to some 300 rows the memory sets the time. A prefill has that many tokens at once, so a prefill is not free.
# - **The device sets the time at all**, and not the host that launches.
#
# A CPU computes far less for each byte that it reads, which is why its forwards grow early: in section 4 from four
# rows on.
#
# So rows are cheap and forwards are expensive. The batch stays; what has to go is the waste in it.
#
# ## 6. The second waste: the device waits
#
# After each forward the host asks for the new tokens with `tolist()`. It needs them: they are the next input. So it
# waits until the device is done, and then the device waits until the host has launched the next forward:
#
#     host      launch | wait ............ | append, mask, launch | wait ............ | append, ...
#     device           | forward           |        idle          | forward           |   idle
#
# **Predict first.** The tiny model's forward takes one to a few milliseconds on a CPU. Between two forwards the host
# makes about fifteen calls of torch on tensors of a few numbers: the mask grows, positions are computed, ids become a
# tensor. Each takes some microseconds, and so does the Python around it. For which share of the time is the device
# idle? And how much could be gained, at most, if the host's work were hidden? (Chapter 0: with idle share *s*, at most
# 1 / (1 − *s*) times.)

# %%
idle_guess = guess("the device is idle between forwards, tiny model on a CPU, %", ...)
gain_guess = guess("with the host's work hidden, at most so many times as fast", ...)

# %%
workload = [[7] * 40 for _ in range(8)]
NaiveEngine(model, batch_size=8).generate(workload, [4] * 8, ignore_eos=True)  # warm-up
runs = []
for _ in range(5):
    timeline = Timeline(model.device)
    NaiveEngine(model, batch_size=8, timeline=timeline).generate(workload, [12] * 8, ignore_eos=True)
    runs.append(timeline.finish())
recording = sorted(runs, key=lambda run: run.idle_share())[2]  # the median, see chapter 0
idle = recording.idle_share()
idle_guess.compare(100 * idle, "%")
gain_guess.compare(1 / (1 - idle), "times")
plot_timeline(recording, title="The naive loop, tiny model")

# %% [markdown]
# (On a CPU host and device are the same thread. The lane "compute" is the time of the forward, and the host lane says
# "wait" for as long.)
#
# Now the same loop with a model of 8 billion parameters on an H100.
#
# **Predict first.** Is the idle share there `"larger"` or `"smaller"` than the one above?

# %%
larger_guess = guess("the idle share on the H100 is larger or smaller", ...)

# %%
rows = {}
for device in ("h100", "cpu"):
    recording = read_recording(DATA / device / "ch01_batch_sizes.json")
    row = rows[device] = next(row for row in recording["rows"] if row["batch_size"] == 8)
    gap = row["idle_share"] * row["ms_per_step"]
    print(
        f"{recording['device']}, {row['batch_size']} rows: {row['ms_per_step']:.1f} ms per step\n"
        f"    host {row['host_ms_per_step']:.2f} ms, device idle {row['idle_share']:.1%}, that is {gap:.2f} ms"
    )
larger_guess.compare("larger" if rows["h100"]["idle_share"] > idle else "smaller")

# %% [markdown]
# <details><summary>What happened</summary>
#
# It is smaller, because the gap is short beside such a long forward (and for the same reason smaller still with SmolLM2
# on the CPU). Here are some steps on the H100, and one turn of the host enlarged. In the turn it takes the ids, appends
# them, makes the next mask (which has no name in the picture, and is missing in the host's milliseconds that the cell
# prints), and copies the inputs:
#
# ![Five steps of the naive loop on a GPU. From step 1 on the host's lane is filled with launches. Enlarged, the 0.58 ms
# between two forwards: the host waits, works, begins to launch, and copies the inputs.](../../figures/ch01_steps.png)
#
# </details>
#
# But do not believe this number yet. Look at the host's lane on the H100. Only in step 0, where the prompts are
# computed, does it wait for the device for long. After that it is *launching*, nearly all the time. A forward of this
# model is more than a thousand kernels (some forty in each of 32 layers), most of them tiny, and Python launches them
# one by one. In a decode step the device is through with most of them before the next one is launched. So it has gaps
# *inside* the forward as well, and our instrument counts a forward from its first kernel to its last, gaps included.
#
# That the host sets the time shows in another way. Here are steps of 8 rows in several recordings, on average and with
# the few prefills among them, and single forwards from chapter 6:

# %%
for name, what in (("ch01_batch_sizes", "batch_size"), ("ch02_spread", "rows")):
    for row in read_recording(DATA / "h100" / f"{name}.json")["rows"]:
        if row[what] == 8 and row.get("batching", "static") == "static":
            print(f"{name:17} {row.get('lengths', ''):23} {row['ms_per_step']:5.1f} ms per step")
for row in read_recording(DATA / "h100" / "ch06_forward.json")["rows"]:
    if row["rows"] == 8:
        print(f"{'ch06_forward':17} {row['forward']:23} {row['device_ms']:5.1f} ms")

# %% [markdown]
# Launched one by one it takes 32 to 55 ms, though the device has nearly the same work each time: a host is faster at
# one time and slower at another. As a graph it takes less than 10. When you compare two recordings of this loop,
# differences of twenty milliseconds say nothing about the device.
#
# There are two kinds of idle time, then, and the course treats both:
#
# - **between forwards**: the host takes its turn. This is what the idle share of the timelines shows. Chapters 3 to 5
#   and 7 remove it.
# - **inside a forward**: the host cannot launch fast enough. Chapter 6 launches all kernels at once, as a graph. The
#   gap between forwards stays as long as it is. So its share, which looks like nothing now, grows: 0.54 ms beside a
#   forward of 8.9 ms are 5.7 %, not 1.7 %. And it grows with every task that an engine's host has.
#
# ## 7. Find the bug
#
# A colleague's batched loop gives the right answer for the longest prompt of each batch. For all others the first token
# is right, and what follows is nonsense. Alone, every prompt is answered correctly. The padding is on the left, and the
# mask is right. What was forgotten?
#
# <details><summary>Answer</summary>
#
# The position ids in decode: the newest token was given the number of its column. The longest prompt has no padding, so
# its columns *are* its positions. All other rows count their tokens in the prefill and columns from then on, so their
# new tokens seem to stand behind a gap as wide as their padding.
#
# (Counting columns in the prefill as well is also wrong, and yet this model would give the same tokens. It has *rotary*
# positions, with which only distances matter, and within a row these would be right. A model with learned positions
# would go wrong at once, so the check of 1.1 looks at the positions themselves.)
#
# </details>

# %% [markdown]
# ## 8. What this step cost
#
# Little code, and it is right. But look at what a user gets. No answer is complete before the whole batch is. A
# request that arrives one step after a batch has started waits for the longest answer in it, even if all other rows
# have long been done. And every row takes as much memory as the longest.
#
# All three have one cause: the batch is put together once, and then it cannot change.
#
# ## Check yourself
#
# <details><summary>Four requests with prompts of equal length ask for 5, 5, 5 and 25 tokens. How many forwards does one
# static batch take, and which share of its decode is wasted?</summary>
#
# 25 forwards: one prefill and 24 decodes. The decodes compute 4 × 24 = 96 places, of which 4 + 4 + 4 + 24 = 36 are
# wanted, so 62.5 % are wasted.
#
# </details>
#
# <details><summary>Why is the padding not on the right, where it would leave the columns in order?</summary>
#
# The next token is read off the last column, and the next decode appends a column. With padding on the right the newest
# token of each row would be in a column of its own, and new tokens would come behind padding.
#
# </details>
#
# <details><summary>A forward takes 20 ms with 8 rows and 20 ms with 16. Name two explanations, and a measurement that
# tells them apart.</summary>
#
# The memory sets the time, since the weights are read once either way; or the host sets it, since it launches the same
# number of kernels. Compare the host's time of the launch with the forward's: if they are equal, it was the host. Or
# launch the forward as a graph.
#
# </details>
#
# <details><summary>A token in the cache of the 8B shape has 131 kB. How many bytes does the mask save, by which padding
# is not attended to?</summary>
#
# None. Padding has keys and values in the cache like any other token; the mask only keeps them from being used.
#
# </details>
#
# **Stretch task.** The batch of section 4 computed 536 places, 43 % of them wasted. Give `NaiveEngine(model,
# batch_size=4)` the same eight requests in an order of your choice, and stay below 30 %. How many forwards more does
# that take?

# %%
list_guesses()

# %% [markdown]
# **Next, chapter 2**: a batch that is put together again at every step.
