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
# # Chapter 0: Measuring
#
# This course takes an inference engine whose GPU waits for its CPU and ends with one whose GPU does not. For an 8B
# model with 32 requests of 8K tokens, the published measurement is: 300.6 s with the GPU idle 24.0 % of the time, and
# 234.5 s after the waiting is gone. No kernel was made faster. (R. Ouazan Reboul, P. Cuenca, A. Roy Gosthipaty,
# "Unlocking asynchronicity in continuous batching", Hugging Face, 2026, https://huggingface.co/blog/continuous_async.
# Chapter 8 runs the same load.)
#
# Every chapter claims such a number, so this one builds the instrument:
#
# - `intervals.py`: from "when did work run" to an **idle share**
# - `timing.py`: **when did it run**, asked of the device and not of the host
#
# The course's timeline recorder (`toolkit/timeline/`) draws all later pictures. It has these functions too, its own
# copies, so that its pictures are right whatever you write here; a test compares the reference with them.
#
# About an hour with the three exercises. No GPU is needed: where there is none, a thread plays the device.

# %%
import sys

sys.path.insert(0, "../..")  # the repository root, seen from this notebook
from toolkit.course import open_chapter

open_chapter("ch00")  # whose code runs (COURSE_CODE); switches autoreload on

# %% [markdown]
# The line above says whose code runs: yours for this chapter, and the reference solution for what is not solved yet.
# The environment variable `COURSE_CODE` changes that for notebooks and checks alike: `mine` takes your code for all
# chapters, `solutions` the reference for all. The files with exercises are in `my/`, for you to edit. In later
# chapters there are others beside them, which are given: those are in `solutions/`.

# %%
import statistics
import time

import torch

from ch00_measuring import DeviceClock, idle_share, measure
from toolkit.recordings import DATA, ROOT, device_name, read_recording
from toolkit.timeline import Recording, Span, Timeline, export_chrome_trace, plot_timeline
from toolkit.worker_queue import open_queue

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
accelerator, launch = open_queue(device)
print(device_name(device), "" if device.type == "cuda" else "(a worker thread plays the device)")

# %% [markdown]
# ## 1. How idle is a device?
#
# Here is a device for 31 milliseconds, with two streams that run kernels and one that copies. It is drawn by hand, so
# that you can work out the truth.

# %%
two_streams = [(0.0, 10.0), (5.0, 15.0), (20.0, 30.0), (30.0, 31.0)]
lanes = ["stream A", "stream B", "stream A", "copies"]
names = ["kernel", "kernel", "kernel", "copy"]
drawn = [
    Span(name, lane, start / 1e3, end / 1e3) for name, lane, (start, end) in zip(names, lanes, two_streams, strict=True)
]
plot_timeline(Recording(tuple(drawn), device="drawn by hand"), title="Two streams and a copy")

# %% [markdown]
# **Predict first.** For which share of these 31 ms was the device busy? Two ways to compute it come to mind. Add up
# the four durations and divide by 31. Or find the stretches in which *nothing* ran. Write both numbers down, then run
# the next cell.

# %%
window = (0.0, 31.0)
added_up = sum(end - start for start, end in two_streams) / 31.0
print(f"durations added up: busy {added_up:.1%}")
print(f"idle_share:         busy {1 - idle_share(two_streams, window):.1%}")

# %% [markdown]
# From 15 to 20 ms nothing runs, so 100 % cannot be right. Adding up counts the five milliseconds from 5 to 10 twice,
# once for each stream, and by accident this fills the gap exactly. A script that adds up the durations in a profiler's
# trace reports just that. The truth is the **union** of the intervals: 26 of 31 ms, 83.9 %.
#
# The second trap is the window. Take the stretch from the first start to the last end of the work, and a device that
# waited before the first kernel, or after the last one, looks busier than it was:

# %%
work = [(40.0, 60.0)]
print(f"first start to last end: idle {idle_share(work, (40.0, 60.0)):.0%}")
print(f"the 100 ms that it took: idle {idle_share(work, (0.0, 100.0)):.0%}")

# %% [markdown]
# So the window is always stated, and what sticks out of it is cut off. Three steps: **clip, merge, add**.
#
# ### Exercise 0.1: the idle share of a window (15 minutes)
#
# In `my/ch00_measuring/intervals.py`, write `clip`, `merge` and `idle_share`, 11 lines in all. Then, in a
# terminal at the repository's root:
#
#     make check CH=0       # says what is tested, and what is still wrong
#     make hint EX=0.1      # the next hint, three in all
#
# As long as an exercise is unsolved this notebook says so and uses the reference solution, so you can read on at any
# time. Your edits take effect in the next cell that you run.

# %% [markdown]
# ## 2. Why a host clock lies
#
# Now to where the intervals come from. Below, one matrix product is launched on the device: 1024 × 1024 numbers where
# a thread plays the device, 8192 × 8192 on a GPU. Either keeps the device busy for ten milliseconds or more.
#
# **Predict first.** What does a clock on the host show around the *launch*? And around launch plus `synchronize()`?

# %%
size = 8192 if device.type == "cuda" else 1024
left, right, out = (torch.ones(size, size, device=device) for _ in range(3))


def product():
    torch.mm(left, right, out=out)


launch(product)  # once before, so that nothing is measured that happens only the first time
accelerator.synchronize()

start = time.perf_counter()
launch(product)
launched = time.perf_counter()
accelerator.synchronize()
done = time.perf_counter()
print(f"the launch:               {(launched - start) * 1e3:8.3f} ms")
print(f"launch and synchronize(): {(done - start) * 1e3:8.3f} ms")

# %% [markdown]
# A launch puts work into a queue and returns. The first number is what it costs to *ask* for the product; asking for
# one that takes a thousand times as long costs hardly more. This whole course rests on that: while the device works,
# the host is free, if it lets itself be.
#
# It cuts both ways. Whatever makes the host wait ends up on the clock of the line that waits, not of the line whose
# work is waited for. In a profile of an engine, the slowest line is often an innocent `.item()`. Measured on a GPU that
# was busy for 150 ms (*pinned* and *pageable* are two kinds of host memory; chapter 3 explains them, and measures
# this):

# %%
waits = read_recording(DATA / "h100" / "ch03_host_waits.json")
print(f"{waits['device']}, torch {waits['torch']}: the call comes back after")
for row in waits["rows"]:
    print(f"    {row['call']:42} {row['ms']:7.2f} ms")

# %% [markdown]
# `synchronize()` gives a true number, but it stops the host, and an instrument that stops the engine cannot measure an
# engine that never stops. A **timing event** does not: it is a marker in the queue, and the device notes the time as
# it passes. It is read later, when no one is in a hurry.

# %%
first, last = (accelerator.Event(enable_timing=True) for _ in range(2))
start = time.perf_counter()
first.record()
launch(product)
last.record()
print(f"the host went on after  {(time.perf_counter() - start) * 1e3:8.3f} ms")
last.synchronize()  # before this, elapsed_time would raise: the device has not been there yet
print(f"the device worked for   {first.elapsed_time(last):8.3f} ms")

# %% [markdown]
# ## 3. The first call
#
# **Predict first.** Ten calls of an operation that this process has never used. Each is timed correctly, from an idle
# device to an idle device. How much longer does the first one take than the median: 1.1 times, 2 times, 10 times?

# %%
values = torch.rand(64, 64, device=device) + 64 * torch.eye(64, device=device)
times = []
for _ in range(10):
    accelerator.synchronize()
    start = time.perf_counter()
    launch(lambda: torch.linalg.solve(values, values))
    accelerator.synchronize()
    times.append((time.perf_counter() - start) * 1e3)
print("  ".join(f"{ms:.2f}" for ms in times), "ms")
print(f"first call {times[0] / statistics.median(times):.1f} times the median")

# %% [markdown]
# ![The same product ten times](../../figures/ch00_first_calls.png)
#
# Whatever factor you see here, it has nothing to do with the work. A first call loads code, picks an algorithm, asks
# the system for memory; on a GPU that is slower by far than in a thread on a CPU.
#
# It does more than spoil an average. You will read that CUDA's default stream waits for all other streams. To test
# that, we put a kernel that sleeps for 150 ms on one stream and a short one on the other:

# %%
behind = read_recording(DATA / "h100" / "ch00_behind_busy_device.json")
print(f"{behind['device']}, torch {behind['torch']}: the short kernel is done after")
print("   ".join(f"{row['ms']:.2f} ms" for row in behind["rows"]))

# %% [markdown]
# The first call: so it does wait! All later calls: so it does not, in any combination of streams (chapter 3 tries them
# all). PyTorch's own streams are created so that they do not wait for the default stream. What waited in the first call
# was the *loading* of the kernel's code, which needs the whole device idle. **A measurement without warm-up had proved
# the wrong theory**, with a number that looked just right.
#
# ### Exercise 0.2: time a launch and the work it starts (15 minutes)
#
# In `my/ch00_measuring/timing.py`, write `measure`, about 15 lines: warm up, then time each call on both clocks,
# and return the medians. `make check CH=0`, `make hint EX=0.2`.

# %%
print("  size     launch   device works")
for n in (128, 256, 512, 1024) if device.type == "cpu" else (1024, 2048, 4096, 8192):
    a, b = (torch.ones(n, n, device=device) for _ in range(2))
    timing = measure(lambda a=a, b=b: launch(lambda: torch.mm(a, b)), accelerator)
    print(f"{n:6} {timing.host_ms:7.3f} ms {timing.device_ms:10.3f} ms")

# %% [markdown]
# With twice the size the device has eight times the work, and the launch hardly changes. The same recorded on the
# machine that the title names, drawn by `make figures` from `figures/data/`. Mind the scale: each line is ten times the
# one below it.
#
# ![One matrix product, two clocks](../../figures/ch00_two_clocks.png)
#
# Read it from right to left, too. Where the work gets shorter than its launch, the device waits for the next launch,
# however good the scheduling is. The forward of an 8B model for 32 requests is made of such small pieces. Launched
# kernel by kernel, and all kernels at once, as chapter 6 does:

# %%
steps = read_recording(DATA / "h100" / "roofline_step.json")
for form in ("operation by operation", "graph"):
    times = [row["ms"] for row in steps["rows"] if row["form"] == form]
    print(f"{form:22} {min(times):4.1f} to {max(times):4.1f} ms, depending on the context ({steps['device']})")

# %% [markdown]
# ## 4. One time axis
#
# The host knows when it launched. Events know how far apart they are, and nothing else: `elapsed_time` of two events
# is a difference. For a picture with both in it, one event has to be tied to the host's clock.
#
# ### Exercise 0.3: put device events on the host's clock (15 minutes)
#
# In `my/ch00_measuring/timing.py`, write `DeviceClock.__init__` and `DeviceClock.interval`, about 13 lines.
# `make check CH=0`, `make hint EX=0.3`. The docstring says how: read the host's clock before and after, and mistrust a
# reading that took long.
#
# The first version of this file read the clock once. The operating system happened to wake the host 2.3 ms late, and
# the picture showed a device that still worked when the host had already finished waiting for it. Nothing else gave
# the mistake away. Look at your pictures, and ask of each whether it can be true.

# %%
clock = DeviceClock(accelerator)
first, last = (accelerator.Event(enable_timing=True) for _ in range(2))
origin = time.perf_counter()
first.record()
launch(product)
last.record()
launched = time.perf_counter()
last.synchronize()
woke_up = time.perf_counter()
ran = clock.interval(first, last)
print(f"launched                   0.000 to {(launched - origin) * 1e3:7.3f} ms")
print(f"the device worked        {(ran[0] - origin) * 1e3:7.3f} to {(ran[1] - origin) * 1e3:7.3f} ms")
print(f"the host had waited until           {(woke_up - origin) * 1e3:7.3f} ms")

# %% [markdown]
# ## 5. The first timeline
#
# Now the instrument as the later chapters use it: `toolkit.timeline`. Its `intervals.py` and `device_clock.py` do what
# you have just written. The loop below has the shape of a synchronous engine: *prepare* a batch on the host, *launch*
# it, *wait*, *commit* the result. There is no model in it yet. Host work is made to take a third of the device's time.
#
# **Predict first.** Which share of the time is the device idle? If all host work could be hidden behind the device's,
# how much faster would the loop get?

# %%
device_ms = measure(lambda: launch(product), accelerator).device_ms


def host_work(ms):
    until = time.perf_counter() + ms / 1e3
    while time.perf_counter() < until:
        sum(range(100))


timeline = Timeline(device, accelerator=accelerator)
for step in range(8):
    with timeline.host("prepare", step=step):
        host_work(device_ms * 0.23)
    with timeline.host("launch", step=step), timeline.device("forward", step=step):
        launch(product)
    with timeline.host("wait", step=step):
        accelerator.synchronize()
    with timeline.host("commit", step=step):
        host_work(device_ms * 0.10)
recording = timeline.finish()
plot_timeline(recording, title="A synchronous loop", steps=(2, 5))

# %%
idle = recording.idle_share()
print(f"idle share {idle:.1%}; so at most {1 / (1 - idle):.2f} times as fast with the same device work")
print(f"host work per step {recording.host_ms_per_step():.2f} ms (waiting does not count)")

# %% [markdown]
# Host work of a third of the device's time: idle for 0.33 of 1.33, a quarter. (If your picture shows more, the
# operating system has given the core to somebody else; gaps between "wait" and the device's last bar are such
# moments.)
#
# **The idle share is the ceiling of the gain.** Overlapping host and device work cannot make the device's own work
# shorter, so a loop with idle share *s* gets at most 1 / (1 − *s*) times as fast. Check the published measurement:
# 24.0 % of 300.6 s idle leaves 228.5 s of work; 234.5 s were reached, with the GPU active for 99.4 % of the time.
#
# Every later chapter comes back to this number, predicts its gain from it, and explains the difference.
#
# A recording can be looked at in detail as well: the next cell writes a trace; drop the file onto
# https://ui.perfetto.dev.

# %%
trace = ROOT / "figures" / "local" / "ch00_trace.json"
export_chrome_trace(recording, trace)
print("wrote", trace.relative_to(ROOT))

# %% [markdown]
# ## 6. Find the bug
#
# A colleague reports that a new kernel is 400 times faster than the old one, and shows the benchmark. What is wrong
# with it? There are four mistakes.
#
# ```python
# def benchmark(work):
#     times = []
#     for _ in range(3):
#         start = time.perf_counter()
#         work()
#         times.append(time.perf_counter() - start)
#     torch.cuda.synchronize()
#     return sum(times) / len(times)
# ```
#
# <details><summary>Answer</summary>
#
# 1. The clock is read after the launch. It never sees the device, and `synchronize()` comes too late for that. Take
#    events, or synchronise before both readings.
# 2. No warm-up: the first of only three calls loads the kernel.
# 3. A mean over three calls: one first call or one interruption is a third of the result. Take the median of more
#    calls.
# 4. The device need not be idle at the start. Whatever was launched before is in the queue, and a queue is finite: if
#    it is full, the launch itself blocks, and the old kernel is billed for somebody else's work.
#
# </details>

# %% [markdown]
# ## 7. What this step cost
#
# An instrument that changes what it measures is no instrument. A span on the host costs two readings of the clock, one
# on the device two events:

# %%
timeline = Timeline(device, accelerator=accelerator)
start = time.perf_counter()
for _ in range(1000):
    with timeline.host("prepare", step=0):
        pass
host_us = (time.perf_counter() - start) * 1e3
start = time.perf_counter()
for _ in range(1000):
    with timeline.device("forward", step=0):
        pass
device_us = (time.perf_counter() - start) * 1e3
timeline.finish()
print(f"a host span takes {host_us:.1f} µs, a device span {device_us:.1f} µs of the host's time")

# %% [markdown]
# (The thread that plays the device makes its events dear: it needs Python's lock, which the host holds.)
#
# A step has about six spans. Where a step takes many milliseconds they do not matter. The host work of the finished
# engine takes less than a millisecond with a few rows (chapter 8), and there they do. So engines take the timeline as
# an argument, and the one that they get by default, `NO_TIMELINE`, records nothing.
#
# What is still simplified: one lane for compute is one stream. A span covers a whole batch, from its first kernel to
# its last, and the gaps between the kernels inside count as busy. Benchmarks report the share at kernel level apart.
#
# **Next, chapter 1**: a real model, generating text for 32 prompts in the simplest way there is. You will know how to
# find out what it wastes.
