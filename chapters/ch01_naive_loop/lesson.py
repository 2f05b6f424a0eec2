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
# - `naive_engine.py`: the loop, and a counter of what it computes in vain
#
# About 45 minutes with the three exercises. The model here is `tiny`: random weights, one token per byte, no download.
# What it writes is noise, but it is always the same noise, and that is what a test needs.

# %%
import sys

sys.path.insert(0, "../..")  # the repository root, seen from this notebook
from toolkit.course import open_chapter

open_chapter("ch01")  # whose code runs (COURSE_CODE); switches autoreload on

# %%
import torch

from ch01_naive_loop import NaiveEngine, pad_left, position_ids
from toolkit.models import load_model
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
# never fed. Nobody wants to know what follows it.
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
# The padding stands on the **left**. The next token is read off the last column, so every row's newest token must stand
# there. And then the columns no longer tell a token's place in its text: token 8 stands in column 2 and is the first of
# its row. The model must be told, with **position ids** that count the real tokens only.
#
# ### Exercise 1.1: pad ragged prompts on the left (10 minutes)
#
# In `my/ch01_naive_loop/padding.py`, write `pad_left` and `position_ids`, 5 lines in all.
#
#     make check CH=1       # says what is tested, and what is still wrong
#     make hint EX=1.1      # the next hint, three in all
#
# As long as an exercise is unsolved, this notebook says so and runs the reference solution instead. Once you have
# written it, the cells below run your code. What the next cell should show is the picture above.

# %%
input_ids, mask = pad_left([[5, 6, 7], [8], [1, 2]], pad_id=0)
print("input_ids     ", input_ids.tolist())
print("mask          ", mask.tolist())
print("position_ids  ", position_ids(mask).tolist())

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
# Equal means equal token for token. A wrong position or a forgotten mask changes the tokens of the padded rows.

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
# Every column of every row is computed. Here is one batch of eight requests, with prompts of 8 to 40 tokens, of which
# each asks for 1 to 32 new ones.
#
# **Predict first.** Prompt lengths are drawn evenly from 8 to 40. Numbers of new tokens are drawn evenly from 1 to 32.
# Which share of the computed places was wasted? Write a number down before you scroll on.
#
# ### Exercise 1.3: count what padding wastes (10 minutes)
#
# In `my/ch01_naive_loop/naive_engine.py`, write `_count` and `padding_share`, 5 lines in all. A computed place is
# useful if it holds a real token *and* its row is not done yet. `make hint EX=1.3`.

# %%
lengths = [(row["prompt"], row["wanted"] + 1) for row in read_recording(DATA / "cpu" / "ch01_batch.json")["rows"]]
engine = NaiveEngine(model, batch_size=8)
engine.generate([[7] * prompt for prompt, _ in lengths], [new for _, new in lengths], ignore_eos=True)
print(f"{engine.positions_computed} places computed, {engine.positions_useful} useful, in {engine.num_steps} forwards")
print(f"padding share {engine.padding_share:.1%}")

# %% [markdown]
# The same batch, drawn. Left of the line is the prefill, right of it the decode, one forward per column:
#
# ![One static batch](../../figures/ch01_batch.png)
#
# The two kinds of waste are not equally bad. The padding on the left is computed in one forward, in which a device has
# plenty to do at once. The crossed bars on the right are whole forwards in which fewer and fewer rows are wanted, down
# to one. For those the formula is simple: with the longest answer *m* and the mean answer *a*, the batch takes *m*
# forwards, and *a* would do if no place ever stood empty. So it could be *m / a* times as fast:

# %%
new = [new for _, new in lengths]
print(f"longest answer {max(new)}, mean {sum(new) / len(new):.1f}: up to {max(new) * len(new) / sum(new):.2f} times")

# %% [markdown]
# Then why not one request at a time, with no padding at all? Measured, with the same requests in batches of different
# sizes. Every number below is read from the recordings in figures/data: on the H100 a model of 8 billion random
# weights, on the CPU SmolLM2-135M on one thread:

# %%
for device in ("h100", "cpu"):
    recording = read_recording(DATA / device / "ch01_batch_sizes.json")
    print(recording["device"])
    for row in recording["rows"]:
        print(
            f"  {row['batch_size']:3} rows {row['tokens_per_s']:8.1f} tokens/s {row['steps']:5} forwards of "
            f"{row['ms_per_step']:6.1f} ms {row['padding_share']:7.1%} wasted"
        )

# %% [markdown]
# ![Static batches of different sizes](../../figures/ch01_batch_sizes.png)
#
# The largest batch wastes most, and is fastest all the same. Read the milliseconds: on the H100 a forward of 16 rows
# takes about as long as one of 2. On the CPU more rows take longer, but not in proportion. Rows are cheap and forwards
# are dear. So the batch stays; what has to go is the waste in it.
#
# ## 5. The second waste: the device waits
#
# After each forward the host asks for the new tokens with `tolist()`. It needs them: they are the next input. So it
# waits until the device is done, and then the device waits until the host has launched the next forward:
#
#     host      launch | wait ............ | append, mask, launch | wait ............ | append, ...
#     device           | forward           |        idle          | forward           |   idle
#
# **Predict first.** The tiny model's forward takes one or two milliseconds on a CPU. Appending eight numbers to eight
# lists takes some microseconds. Which share of the time is the device idle in the cell below? And what could it gain at
# most, if the host's work were hidden? (Chapter 0: with idle share *s*, at most 1 / (1 − *s*) times.)

# %%
workload = [[7] * 40 for _ in range(8)]
NaiveEngine(model, batch_size=8).generate(workload, [4] * 8, ignore_eos=True)  # warm-up
timeline = Timeline(model.device)
NaiveEngine(model, batch_size=8, timeline=timeline).generate(workload, [12] * 8, ignore_eos=True)
recording = timeline.finish()
idle = recording.idle_share()
print(f"idle share {idle:.1%}; so at most {1 / (1 - idle):.2f} times as fast with the same device work")
plot_timeline(recording, title="The naive loop, tiny model")

# %% [markdown]
# (On a CPU host and device are the same thread. The lane "compute" is the time of the forward, and the host lane says
# "wait" for as long.)
#
# Now the same loop with a model of 8 billion parameters on an H100. Before you look: is the idle share larger or
# smaller than the one above?
#
# ![The naive loop on a GPU](../../figures/ch01_steps.png)

# %%
for device in ("h100", "cpu"):
    recording = read_recording(DATA / device / "ch01_batch_sizes.json")
    row = next(row for row in recording["rows"] if row["batch_size"] == 8)
    gap = row["idle_share"] * row["ms_per_step"]
    print(
        f"{recording['device']}, {row['batch_size']} rows: {row['ms_per_step']:.1f} ms per step\n"
        f"    host {row['host_ms_per_step']:.2f} ms, device idle {row['idle_share']:.1%}, that is {gap:.2f} ms"
    )

# %% [markdown]
# Smaller: the gap is short beside such a long forward. But do not believe this number yet. Look at the host's lane on
# the H100. Only in step 0, where the prompts are computed, does it wait for the device. After that it is *launching*,
# nearly all the time. A forward of this model is more than a thousand small kernels, and Python launches them one by
# one. In a decode step the device runs each of them faster than the next one is launched. So it has gaps *inside* the
# forward as well, and our instrument counts a forward from its first kernel to its last, gaps included.
#
# There are two kinds of idle time, then, and the course treats both:
#
# - **between forwards**: the host takes its turn. This is what the idle share of the timelines shows. Chapters 3 to 5
#   and 7 remove it.
# - **inside a forward**: the host cannot launch fast enough. Chapter 6 launches all kernels at once, as a graph, and
#   about 9 ms remain of the forward above. The gap between forwards stays as long as it is. So its share, which looks
#   like nothing now, becomes four times as large, and it grows with every task that an engine's host has.
#
# ## 6. Find the bug
#
# A colleague's batched loop gives the right answer for the longest prompt of each batch, and nonsense that looks almost
# right for all others. Alone, every prompt is answered correctly. The padding is on the left, and the mask is right.
# What was forgotten?
#
# <details><summary>Answer</summary>
#
# The position ids. Without them a model counts columns. The longest prompt has no padding, so its columns *are* its
# positions. All others are shifted by their padding: every token is told that it stands later in the text than it does.
# Try it: let your `position_ids` return `torch.arange(attention_mask.shape[1]).expand_as(attention_mask)` and run
# `make check CH=1`.
#
# </details>

# %% [markdown]
# ## 7. What this step cost
#
# Little code, and it is right. But look at what a user gets. Nobody's answer is complete before the whole batch is. A
# request that arrives one step after a batch has started waits for the longest answer in it, even if eight rows have
# long been done. And memory is reserved for the longest row in all rows.
#
# All three have one cause: the batch is put together once, and then it cannot change.
#
# **Next, chapter 2**: a batch that is put together again at every step.
