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
# - `forecast.py`: **how long will it take**, before anything is built
#
# The course's timeline recorder (`toolkit/timeline/`) draws all later pictures. It has copies of its own of the first
# two, so that its pictures are right whatever you write here; a test compares the reference with them.
#
# About an hour and a half: 20 minutes to read, 65 for the four exercises, and a few to run the cells. No GPU is needed:
# where there is none, a thread plays the device.

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

from ch00_measuring import DeviceClock, idle_share, measure, overlapping, taking_turns
from toolkit.machine import Machine, overlap, take_turns
from toolkit.predictions import guess, list_guesses
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
# **Predict first.** For which share of these 31 ms was the device busy? Two ways to compute it come to mind: add up the
# four durations and divide by 31, or find the stretches in which *nothing* ran. Work out both, and decide for one.
#
# Predictions are cells like the next one. Put a number (or the words that are asked for) in place of the dots and run
# the cell; a later cell compares it with what was measured. With the dots left in place the lesson runs as well.

# %%
busy_guess = guess("share of the 31 ms for which the device was busy, %", ...)

# %%
window = (0.0, 31.0)
added_up = sum(end - start for start, end in two_streams) / 31.0
print(f"durations added up: busy {added_up:.1%}")
print(f"idle_share:         busy {1 - idle_share(two_streams, window):.1%}")
busy_guess.compare(100 * (1 - idle_share(two_streams, window)), "%")

# %% [markdown]
# <details><summary>What happened</summary>
#
# From 15 to 20 ms nothing runs, so 100 % cannot be right. Adding up counts the five milliseconds from 5 to 10 twice,
# once for each stream, and by accident this fills the gap exactly. A script that adds up the durations in a profiler's
# trace reports just that. The truth is the **union** of the intervals: 26 of 31 ms.
#
# </details>
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
# **Predict first.** A clock on the host is read before and after the *launch*, without `synchronize()`. What does it
# show? `"A"`: about as long as the product takes. `"B"`: about a tenth of that. `"C"`: less than a fiftieth of it.

# %%
launch_guess = guess("the clock around the launch alone shows A, B or C", ...)

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
part = (launched - start) / (done - start)
launch_guess.compare("A" if part > 0.3 else "B" if part > 0.02 else "C")

# %% [markdown]
# A launch puts work into a queue and returns. The first number is what it costs to *ask* for the product, whether that
# takes one millisecond or a hundred. The whole course rests on this: while the device works, the host is free, if it
# does not wait.
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
# engine that never stops. A **timing event** does not stop it: it is a marker in the queue, and the device notes the
# time at which it passes. The host reads it later, when it has time.

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
# device to an idle device. How many times as long as the median does the first one take?

# %%
first_guess = guess("the first call takes so many times as long as the median", ...)

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
first_guess.compare(times[0] / statistics.median(times), "times")

# %% [markdown]
# <details><summary>What happened</summary>
#
# The factor differs from run to run and from machine to machine, because it has nothing to do with the work. A first
# call loads code, picks an algorithm, and asks the system for memory. Recorded on a GPU, with another operation:
#
# ![The time of ten calls of the same matrix product on a logarithmic scale: the first takes about 94 ms, each of the
# others 0.35 to 0.43 ms.](../../figures/ch00_first_calls.png)
#
# </details>
#
# It does more than spoil an average. You will read that CUDA's default stream waits for all other streams. Do streams
# wait for each other at all? Here a kernel that sleeps for 150 ms is on one stream and a short one on another, five
# times in a row:

# %%
behind = read_recording(DATA / "h100" / "ch00_behind_busy_device.json")
print(f"{behind['device']}, torch {behind['torch']}: the short kernel is done after")
print("   ".join(f"{row['ms']:.2f} ms" for row in behind["rows"]))

# %% [markdown]
# The first call says that they do. All later calls say that they do not. Neither of the two is the default stream
# here; chapter 3 puts each of the two kernels there, with the same result. PyTorch's own streams are created so that
# they do not wait for the default stream, nor it for them. What differs in the first call is that the kernel's code
# is *loaded*, which may have to wait until the whole device is idle. **A measurement without warm-up would have
# proved the wrong theory**, with a number that looked just right.
#
# ### Exercise 0.2: time a launch and the work it starts (15 minutes)
#
# In `my/ch00_measuring/timing.py`, write `measure`, about 15 lines: warm up, then time each call on both clocks,
# and return the medians. `make check CH=0`, `make hint EX=0.2`.
#
# **Predict first.** It measures products of square matrices, the largest of them eight times as wide as the smallest.
# The product of two matrices that are twice as wide takes eight times as many multiplications. How many times as long
# as the smallest does the largest take on the device? And its launch?

# %%
work_guess = guess("from the smallest to the largest product the device's time grows by a factor of", ...)
grown_guess = guess("and the launch's time by a factor of", ...)

# %%
print("  size     launch   device works")
timings = []
for n in (128, 256, 512, 1024) if device.type == "cpu" else (1024, 2048, 4096, 8192):
    a, b = (torch.ones(n, n, device=device) for _ in range(2))
    timings.append(measure(lambda a=a, b=b: launch(lambda: torch.mm(a, b)), accelerator))
    print(f"{n:6} {timings[-1].host_ms:7.3f} ms {timings[-1].device_ms:10.3f} ms")
work_guess.compare(timings[-1].device_ms / timings[0].device_ms, "times")
grown_guess.compare(timings[-1].host_ms / timings[0].host_ms, "times")

# %% [markdown]
# Eight times as wide is 8 × 8 × 8 = 512 times the multiplications. The times differ from that: a small product may not
# keep the whole device busy, and a large one does not fit into its caches. The launch does not stay the same either,
# but it stays short: the work becomes hundreds of times as long, the launch some times as long, and it is a small part
# of a millisecond in either case. The same recorded on a GPU, where each line of the picture is ten times the one below
# it:
#
# ![The time of a matrix product and of its launch for four sizes, on a logarithmic scale: the work rises from 0.075 to
# 21 ms, the launch from 0.016 to 0.15 ms.](../../figures/ch00_two_clocks.png)
#
# Read it from right to left, too. Where the work gets shorter than its launch, the device waits for the next launch,
# however good the scheduling is. The forward of an 8B model for 32 requests is made of such small pieces. Launched
# operation by operation, and all at once as a graph, as chapter 6 does:

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
# ![Two time axes. On the host's, the two readings before and after enclose a grey band, and anchor_s is its middle. On
# the device's, the anchor lies somewhere in that band; elapsed_time leads from it to start, and from start to
# end.](../../figures/ch00_anchor.png)
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
# Now the instrument as the later chapters use it: `toolkit.timeline`. Its `intervals.py` and `device_clock.py` do
# what you have just written. The loop below has the shape of a synchronous engine: *prepare* a batch on the host,
# *launch* it, *wait*, *commit* the result. There is no model in it yet. Host work is made to take a third of the
# device's time.
#
# From here on, in all chapters, **idle share** means one thing: the share of a window in which nothing runs on the
# lane *compute*. Copies have lanes of their own and do not count as work there; a device that only copies is waiting
# for its next forward.
#
# **Predict first.** For which share of the time is the device idle? If all host work could be hidden behind the
# device's, how many times as fast would the loop be?

# %%
idle_guess = guess("share of the time for which the device is idle, %", ...)
gain_guess = guess("with all host work hidden, the loop would be so many times as fast", ...)

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
idle_guess.compare(100 * idle, "%")
gain_guess.compare(1 / (1 - idle), "times")
print(f"host work per step {recording.host_ms_per_step():.2f} ms (waiting does not count)")

# %% [markdown]
# <details><summary>What happened</summary>
#
# Host work of a third of the device's time: idle for 0.33 of 1.33, a quarter, and 1.33 times as fast without it. Your
# picture shows more if the operating system gave the core to another program, or woke the host late: look for gaps
# between the device's last bar and the end of "wait".
#
# </details>
#
# A loop of the same shape on a GPU, with host work of 35 % of the device's time. That makes 0.35 / 1.35 = 26 % of
# idle time. The rest is the beginning of each launch, before the device has started, and the moments between one span
# and the next:
#
# ![Three steps of a synchronous loop on a GPU. In each the host prepares, launches, waits for the forward and commits,
# and while it prepares and commits the device is idle, 26.6 % of the time in all.](../../figures/ch00_steps.png)
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
# ## 6. A forecast
#
# The idle share of a loop can be computed before the loop exists. A machine is described by four numbers here:
# `host_ms` of host work a step, `forward_ms` for the forward, and `copy_ms` for each of two copies, the inputs to the
# device and the results back. (The fourth is for chapter 2.) A data-centre GPU copies with engines of its own, at
# least one for each direction, so a copy and a forward can go on at the same time.
#
# Two loops take the same steps. In the first, everything waits for everything:
#
#     host      prepare 0                          | prepare 1                          |
#     copies in          | in 0                                | in 1
#     compute                  | forward 0                           | forward 1
#     copies out                           | out 0                               | out 1
#
# In the second, no step waits for the one before it. Each of the four lanes takes up the next step as soon as it can:
#
#     host      prepare 0 | prepare 1 | prepare 2 | ...
#     copies in           | in 0      | in 1      | in 2
#     compute                  | forward 0  | forward 1  | forward 2
#     copies out                            | out 0      | out 1      | out 2
#
# ### Exercise 0.4: forecast a loop from four numbers (20 minutes)
#
# In `my/ch00_measuring/forecast.py`, write `taking_turns` and `overlapping`, about 6 lines: how long ten steps
# take, or any number of them, and for which share of that no forward runs. Its check compares your forecasts with the
# virtual clock of the simulated GPU, to the microsecond. `make check EX=0.4`, `make hint EX=0.4`.
#
# **Predict first.** A machine with 3 ms of host work, 0.5 ms a copy and 6 ms a forward. How long do 10 steps take in
# turns? How long overlapping? And which *one* of the three numbers would you halve, if you could, to make the
# *overlapping* loop fastest: `"host"`, `"copy"` or `"forward"`?

# %%
turns_guess = guess("10 steps in turns, ms", ...)
overlap_guess = guess("10 steps overlapping, ms", ...)
halve_guess = guess("halve host, copy or forward", ...)

# %%
machine = Machine(host_ms=3.0, copy_ms=0.5, forward_ms=6.0)
turns_guess.compare(taking_turns(machine, 10).total_ms, "ms")
overlap_guess.compare(overlapping(machine, 10).total_ms, "ms")
halved = {
    "host": Machine(1.5, 0.5, 6.0),
    "copy": Machine(3.0, 0.25, 6.0),
    "forward": Machine(3.0, 0.5, 3.0),
}
for part, other in halved.items():
    print(f"half the {part:8} {overlapping(other, 10).total_ms:6.2f} ms overlapping")
halve_guess.compare(min(halved, key=lambda part: overlapping(halved[part], 10).total_ms))

# %% [markdown]
# Once the loop overlaps, only its slowest part counts: this machine gains next to nothing from a faster host, though
# the loop that takes turns would. Now both forecasts beside the virtual clock, for three machines that differ in what
# is slowest: the one above, one with 9 ms of host work, and one with 8 ms a copy. The clock is *simulated*: it shows
# what overlaps with what, and says nothing about the speed of a GPU. (A process that can use CUDA has no simulated
# GPU, so there the clock's half of each line is missing. On any machine, `make check EX=0.4` compares.)

# %%
simulated = not torch.cuda.is_available()  # a process that can use CUDA has no simulated GPU
for machine in (Machine(3.0, 0.5, 6.0), Machine(9.0, 0.5, 6.0), Machine(3.0, 8.0, 6.0)):
    print(f"host {machine.host_ms} ms, copy {machine.copy_ms} ms, forward {machine.forward_ms} ms, 10 steps")
    for forecast, run in ((taking_turns, take_turns), (overlapping, overlap)):
        said = forecast(machine, 10)
        line = f"    {forecast.__name__:13} forecast {said.total_ms:6.1f} ms, idle {said.idle_share:5.1%}"
        if simulated:
            ran = run(machine, 10)
            line += f";   clock {(ran.window[1] - ran.window[0]) * 1e3:6.1f} ms, idle {ran.idle_share():5.1%}"
        print(line)

# %% [markdown]
# The second machine, with 9 ms of host work, is the one to remember. Its host needs longer than its forward, so even
# a perfect overlap leaves the device idle: 38.1 % of the time, where taking turns left 62.5 %. So the ceiling, 1 / (1
# − *s*) or 2.7 times, is not reached: 160 ms become 97, which is 1.6 times. The host has become the slowest part.
# That is where chapter 9 begins.

# %% [markdown]
# ## 7. Find the bug
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
#    it is full, the launch itself blocks, and the time of other work is added to this kernel's.
#
# </details>

# %% [markdown]
# ## 8. What this step cost
#
# An instrument must not change what it measures. A span on the host costs two readings of the clock, one on the device
# two events:

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
# (The events cost more on any device: on a GPU two of them have to be made and put into the queue, and a thread that
# plays the device needs Python's lock, which the host holds.)
#
# A step has about six spans. Where a step takes many milliseconds they do not matter. The finished engine's host work
# takes less than a millisecond a step with a few rows (chapter 8), and there they do. So engines take the timeline as
# an argument, and the one that they get by default, `NO_TIMELINE`, records nothing.
#
# What is still simplified: one lane for compute is one stream. A span covers a whole batch, from its first kernel to
# its last, and the gaps between the kernels inside count as busy. The benchmark of chapter 8 reports the share at
# kernel level beside it.
#
# ## Check yourself
#
# <details><summary>A profile says that the line <code>token = ids[0].item()</code> takes 90 % of the time. Which line
# should be made faster?</summary>
#
# Not this one. `.item()` waits for all that was launched before it, so the 90 % are the device's work. The profile of
# the host alone cannot say which work that was: use events, or a timeline.
#
# </details>
#
# <details><summary>Two streams are each busy for 60 % of a window. What is the device's idle share?</summary>
#
# Between 0 and 40 %. If they overlap as little as possible, they cover the whole window; if one runs only while the
# other does, they cover 60 % of it. The durations do not say which, the intervals do.
#
# </details>
#
# <details><summary>Why may <code>elapsed_time</code> not be read right after the second event has been
# recorded?</summary>
#
# Recording puts a marker into the queue. The device notes the time when it gets there, and that may be much later. So
# the host has to wait for the event first.
#
# </details>
#
# <details><summary>The idle share of a loop is 24 %. A colleague makes the host's work infinitely fast and the device's
# twice as fast. How many times as fast is the loop?</summary>
#
# Of 100 ms, 24 go and 76 become 38: 100 / 38 = 2.6 times. The ceiling of 1 / (1 − 0.24) = 1.3 holds for the same device
# work only.
#
# </details>
#
# **Stretch task.** Section 8 printed what a host span costs. Write a recorder of host spans with the same `with` syntax
# that needs less than half of that, and gives the same list of name, start and end in the end. (Where does the time go:
# in the two readings of the clock, or in what `contextmanager` builds around them?)

# %%
list_guesses()

# %% [markdown]
# **Next, chapter 1**: a real model, generating text for 32 prompts in the simplest way there is. You will know how to
# find out what it wastes.
