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
# # Chapter 4: Events
#
# Chapter 3's engine queues its work on three streams and says nothing about order. The detector found six kinds of
# race. In this chapter you say what must come first, with three events, and nothing more than that. The tokens are
# right again, under every policy. Yet the engine is no faster than with one stream. You will see why, and that reason
# is the subject of chapter 5.
#
# - `event_executor.py`: chapter 3's executor, with three events to order its streams (exercises 4.1 and 4.2)
# - `repairs.py`: five small programs, each with an event in the wrong place (exercises 4.3 to 4.7)
# - `build.py`, `tryout.py`: the engine with this executor, and what the small programs run on (given, in
#   `solutions/ch04_events/`)
#
# An hour and ten minutes: 15 minutes of reading, 38 for the seven exercises, 15 for predictions and questions; the
# cells run in less than two.
#
# (On a real GPU what chapter 3 said holds here, too: there is no detector and there are no policies, so some cells
# print less or nothing. The stored lesson has their output, and `CUDA_VISIBLE_DEVICES= make lab` runs them.)

# %%
import sys

sys.path.insert(0, "../..")  # the repository root, seen from this notebook
from toolkit.course import open_chapter

open_chapter("ch04")  # whose code runs (COURSE_CODE); switches autoreload on

# %%
from collections import Counter

import torch

from ch03_streams.build import build as build_before
from ch04_events import EventExecutor, repairs
from ch04_events.build import build
from ch04_events.tryout import try_out
from figures.accelerated import engine_with, one_stream_engine
from figures.ch04.record import engine_without
from figures.recorded import recorded
from toolkit.commands.decoding import Load, serve
from toolkit.commands.exercises.metadata import load as load_exercises
from toolkit.device import DEVICE, accelerator, is_simulated, new_stream, new_timeline, now_ms, sleep
from toolkit.models import load_model
from toolkit.predictions import guess, list_guesses
from toolkit.source_diff import source_diff
from toolkit.timeline import plot_timeline

torch.set_num_threads(1)  # the model is tiny: a second thread costs more than it saves
model = load_model("tiny", device="cpu" if is_simulated() else "cuda").model
load = Load(model)  # 8 requests with prompts of 12 tokens, 16 new tokens each
one_stream = serve(one_stream_engine(), load)
right = one_stream.outputs

print("this notebook runs on:", accelerator.get_device_name())

# %% [markdown]
# ## 1. Three verbs
#
# An **event** is a marker in a stream's queue. There are three things to do with it:
#
# | call | what it does |
# |---|---|
# | `event.record(stream)` | puts the marker behind all that the stream has been given *so far*; nothing waits |
# | `stream.wait_event(event)` | what is queued on `stream` *from now on* waits until the marker is reached |
# | `event.synchronize()` | the host waits until the marker is reached |
#
# Inside `with accelerator.stream(s):`, `event.record()` records on `s`. An event can be recorded again for each batch,
# and a wait means the last record before it. An event that was never recorded holds up nothing, and no error says so.
#
# Below: 10 ms of work on one stream (A), an event behind it, and a second stream that waits for the event before its
# own 4 ms (B).
#
# **Predict first.** For how long does `wait_event` keep the *host*? And when does B start? (Put numbers in place of the
# dots, which mean "no guess".)

# %%
host_waits_ms = guess("wait_event keeps the host for, ms", ...)
start_of_b = guess("after A has started, B starts after, ms", ...)

# %%
if is_simulated():
    accelerator.reset()
sleep(0.01)  # warm-up
accelerator.synchronize()
first, second = new_stream("first"), new_stream("second")
a_done, b_done = accelerator.Event(), accelerator.Event()
timeline = new_timeline()
with accelerator.stream(first):
    with timeline.device("A", lane="first"):
        sleep(10)
    a_done.record()
with accelerator.stream(second):
    start = now_ms()
    second.wait_event(a_done)
    kept_ms = now_ms() - start
    with timeline.device("B", lane="second"):
        sleep(4)
    b_done.record()
start = now_ms()
with timeline.host("wait"):
    b_done.synchronize()
print(f"b_done.synchronize() kept the host for {now_ms() - start:.3f} ms")
recording = timeline.finish()
starts = {span.name: span.start for span in recording.spans}
host_waits_ms.compare(kept_ms, "ms")
start_of_b.compare((starts["B"] - starts["A"]) * 1e3, "ms")
plot_timeline(recording, title="B waits for an event behind A", edges=True)

# %% [markdown]
# <details><summary>What happened</summary>
#
# `wait_event` is an order to the *device*, and the host goes on. Only `synchronize` stops the host. (An arrow leads
# from where an event was recorded to what waits for it. Only the simulated GPU knows these.)
#
# </details>
#
# These are the other calls with which something waits. All are made of the same marker; what differs is who waits, and
# for how much:
#
# | call | who waits | until |
# |---|---|---|
# | `stream.wait_event(event)`, `event.wait(stream)` | the stream | the event's last record *so far* is reached |
# | `event.wait()` | the current stream | the same |
# | `stream.wait_stream(other)` | the stream | all that `other` has been given *so far* is done |
# | `event.synchronize()` | the host | the last record of the event is reached |
# | `stream.synchronize()` | the host | all that the stream has been given is done |
# | `accelerator.synchronize()` | the host | all that *every* stream has been given is done |
# | `event.query()` | nothing | says at once whether the record is reached; only a "yes" orders, for the host |
# | `event.record()` again | nothing | waits from now on mean the new place; those already queued keep the old one |
#
# ## 2. Three edges
#
# A step needs three: from copy in to forward, from forward to copy out, from copy out to the host.
#
#     h2d       [copy in] h2d_done
#                             \
#     compute                  [forward] compute_done
#                                             \
#     d2h                                      [copy out] d2h_done
#                                                             \
#     host                                                     [commit]
#
# An event for each edge. Every wait goes *before* the work that needs it, every record right *behind* the work that it
# marks the end of.
#
# **Predict first.** Three edges: how many of the engine's parts have to change for them? (There are six: `entrance`,
# `scheduler`, `packer`, `executor`, `book`, `observers`.) As in chapter 3, the next cell prints how this chapter's
# `build` differs from the one before.

# %%
changed_parts = guess("parts of the engine, of six, that are of another class than in chapter 3", ...)

# %%
print(source_diff(build_before, build))
if is_simulated():
    accelerator.reset()
before, after = build_before(model), build(model)
names = ("entrance", "scheduler", "packer", "executor", "book", "observers")
changed_parts.compare(sum(type(getattr(before, name)) is not type(getattr(after, name)) for name in names))

# %% [markdown]
# One part, the executor. `EventExecutor` is derived from chapter 3's `StreamExecutor`: it keeps the three streams,
# `copy_in`, `run` and `copy_out`, and replaces `queue` and `wait`. The pool is the same, since its IO buffers have had
# their three events since chapter 3: `buffers.h2d_done`, `buffers.compute_done` and `buffers.d2h_done`. They belong to
# the buffers, and not to the executor, because an event speaks of the one batch that goes through these buffers.
#
# ### Exercise 4.1: say what must come first on the device (15 minutes)
#
# In `my/ch04_events/event_executor.py`, fill `EventExecutor.queue`, eleven lines. In a terminal at the
# repository's root:
#
#     make check CH=4
#     make hint EX=4.1
#
# The next cell runs your `queue` (or, while it is unsolved, the reference), and the host waits for everything after
# each step, to be out of the way. It asks the detector about the two edges on the device.


# %%
class WaitingForAll(EventExecutor):
    """Your queue; the host takes no risk."""

    def wait(self, batch, buffers):
        accelerator.synchronize()
        return buffers.read_ids(len(batch.sampling_rows))


def edge(first, second):
    """What the detector says of the last run about two lanes."""
    races = sum((race.first.lane, race.second.lane) == (first, second) for race in accelerator.races())
    return f"{first:>8} -> {second:8} {f'{races} RACES' if races else 'ordered'}"


served = serve(engine_with(WaitingForAll), load)
if is_simulated():
    print(edge("h2d", "compute"), edge("compute", "d2h"), sep="\n")
print(f"wrong tokens: {served.wrong_share(right):.1%}")

# %% [markdown]
# ### Exercise 4.2: the one place where the host waits (5 minutes)
#
# In the same file, fill `EventExecutor.wait`: one line, in front of the given one that reads the ids.
# `make hint EX=4.2`. Wait for what the host needs, and for nothing else. Now all six kinds of race are put to the test,
# and the engine is drawn:

# %%
served = serve(build, load)
if is_simulated():
    for pair in (("h2d", "compute"), ("compute", "d2h"), ("d2h", "host")):
        print(edge(*pair))
    for pair in (("h2d", "host"), ("compute", "h2d"), ("d2h", "compute")):
        print(edge(*pair), "   (from one batch to the next)")
print(f"wrong tokens: {served.wrong_share(right):.1%}")
plot_timeline(served.recording, title="Three streams and events", edges=True)

# %% [markdown]
# Look for the edges in the picture: each copy in ends where its forward starts, each forward ends where its copy out
# starts, and the host commits after that. (The small copies are there; look for the thin bars.)
#
# The other three kinds of race are gone too, without an edge of their own. The host waits for d2h_done before it
# touches the IO buffers again, d2h_done comes after compute_done, and that after h2d_done. Order is **transitive**. One
# wait on the host orders everything that led to it.
#
# And this is all the waiting that the host does in its steps:

# %%
if is_simulated():
    waits = Counter((each.what, str(each.site)) for each in accelerator.synchronisations() if not each.hidden)
    for (_, site), count in waits.most_common(1):
        print(f"{count} times, at {site.partition('  `')[0]}")
    print("hidden waits while it ran:", len(served.hidden_waits))

# %% [markdown]
# ## 3. Right under every policy
#
# **Predict first.** Chapter 3's engine was right under `eager` and wrong under `lazy`. Now both engines run under nine
# policies: `eager`, `lazy`, `threads` and six seeds of `random`. Under how many is every token of chapter 3's engine
# right, and of this chapter's? And how many races does the detector find in chapter 3's under `eager`, where the tokens
# are right, for 100 that it finds under `lazy`?

# %%
right_before = guess("policies, of nine, under which every token of chapter 3's engine is right", ...)
right_now = guess("policies, of nine, under which every token of chapter 4's engine is right", ...)
races_by_luck = guess("races under eager, in % of those under lazy (chapter 3)", ...)

# %%
if is_simulated():
    right_in, races_in = [0, 0], {}
    print(f"{'policy':10} {'chapter 3: tokens':>18} {'races':>6} {'chapter 4: tokens':>19} {'races':>6}")
    for policy in ("eager", "lazy", "threads", *(f"random:{seed}" for seed in range(6))):
        cells = []
        for which, chapters_build in enumerate((build_before, build)):
            wrong = serve(chapters_build, load, policy).wrong_share(right)
            right_in[which] += wrong == 0
            races_in[which, policy] = len(accelerator.races())
            cells.append(f"{'right' if wrong == 0 else f'{wrong:.0%} wrong':>18} {len(accelerator.races()):6}")
        print(f"{policy:10} {' '.join(cells)}")
    right_before.compare(right_in[0])
    right_now.compare(right_in[1])
    races_by_luck.compare(100 * races_in[0, "eager"] / races_in[0, "lazy"], "%")
else:
    for chapter, chapters_build in ((3, build_before), (4, build)):
        print(f"chapter {chapter}: {serve(chapters_build, load).wrong_share(right):.0%} of the tokens wrong")

# %% [markdown]
# The first row of the table (the simulated GPU's) is the one to remember. Under `eager`, chapter 3's engine gives
# **right numbers by luck**, and the detector reports as many races as anywhere else. It does not look at the numbers.
# It asks whether an order is *promised*. That is why a clean report under one policy means more than right numbers
# under ten.
#
# ### How the detector knows
#
# It keeps a **vector clock** for each stream, and one for the host. A stream numbers its own operations, and its clock
# says, for every stream, how many of that stream's operations come before whatever it does next. `record` keeps a copy
# of the clock with the event. A wait brings that copy to the clock of the one who waits: of each entry, the larger one
# is kept. Nothing else is needed. When two operations touch the same bytes, the second one's clock has either heard of
# the first or not:
#
# ![Copy in on h2d has the clock (1, 0, 0). An event carries it to compute, whose clock behind the forward is (1, 1, 0).
# No event leads to d2h, whose clock behind the copy out is (0, 0, 1): a race](../../figures/ch04_vector_clocks.png)
#
# The same three operations, with the class that the detector itself uses. In the end d2h waits for compute_done as
# well.
#
# **Predict first.** d2h has then waited for compute alone. What does its clock say of h2d?

# %%
heard_of_h2d = guess("d2h's entry for h2d, after a wait for compute_done", ...)

# %%
if is_simulated():
    from toolkit.simgpu.ordering import Actor

    h2d, compute, d2h = Actor("h2d"), Actor("compute"), Actor("d2h")

    def clock_of(stream):
        return tuple(stream.knows.get(each, 0) for each in (h2d, compute, d2h))

    h2d.count_operation()  # copy in
    h2d_done = dict(h2d.knows)  # h2d_done.record()
    compute.learn(h2d_done)  # compute.wait_event(h2d_done)
    forward = compute.count_operation()
    print(f"{clock_of(h2d)} {clock_of(compute)} {clock_of(d2h)}: (h2d, compute, d2h) of each, before a copy out")
    print("is the copy out ordered behind the forward?", d2h.knows.get(compute, 0) >= forward)
    compute_done = dict(compute.knows)
    d2h.learn(compute_done)
    print("and with a wait for compute_done?          ", d2h.knows.get(compute, 0) >= forward, clock_of(d2h))
    heard_of_h2d.compare(clock_of(d2h)[0])

# %% [markdown]
# That is why order is transitive, and why the policy makes no difference: the clocks change with what the program
# says, not with what happened to run first. (What comes before what: Lamport, 1978. Vector clocks: Fidge, 1988, and
# Mattern, 1989. ThreadSanitizer and PyTorch's stream sanitizer work in this way, too.)
#
# ### Luck on a real GPU
#
# Real GPUs can be lucky, too. Here each event was taken out in turn. The engine ran as it comes, and with
# the work that the event marks made late:
#
# ![One event left out](../../figures/ch04_edges.png)

# %%
for recording in recorded("ch04_edges"):
    rows = recording["rows"]
    late_ms = max(row["late_ms"] for row in rows)
    print(recording["device"])
    print(f"    {'missing':14} {'wrong runs, as it comes':>24} {f'made {late_ms:.0f} ms late':>18}")
    for missing in dict.fromkeys(row["missing"] for row in rows):
        cells = []
        for late in (False, True):
            shares = [row["wrong_share"] for row in rows if row["missing"] == missing and (row["late_ms"] > 0) == late]
            cells.append(f"{sum(share > 0 for share in shares)} of {len(shares)}")
        print(f"    {missing:14} {cells[0]:>24} {cells[1]:>18}")

# %% [markdown]
# On the GPU, the engine without `h2d_done` is right as it comes, run after run: the copies are so small that they win
# their race every time. Made late, every run is wrong. With larger inputs or a busier machine they would be late by
# themselves. The other two have no such luck, since a forward takes milliseconds. (On the simulated GPU "as it
# comes" is the policy `eager`, and "late" is `random`.)

# %% [markdown]
# What the detector says of each, while the numbers are right:

# %%
if is_simulated():
    for missing in ("h2d_done", "compute_done", "d2h_done"):
        wrong = serve(engine_without(missing, late_ms=0.0), load, "eager").wrong_share(right)
        race = accelerator.races()[0]
        print(f"without {missing}: {wrong:.0%} of the tokens wrong under the lucky policy. Reported:")
        print(f"    {race.missing_edge}")

# %% [markdown]
# ## 4. And how fast?
#
# **Predict first.** Chapter 3 had closed the gap completely. Now everything waits for what it needs, and for nothing
# else. How much of the gain is left, in percent?

# %%
gain_left = guess("of the gain of chapter 3, events leave, %", ...)

# %%
streams = serve(build_before, load)
events = serve(build, load)
for name, run in (("one stream", one_stream), ("three streams", streams), ("and events", events)):
    print(f"{name:14} {run.ms_per_step:6.2f} ms per step, device idle {run.recording.idle_share():6.1%}")
print(f"on: {accelerator.get_device_name()}, clock: {events.recording.clock}")
gained_ms = one_stream.ms_per_step - streams.ms_per_step
gain_left.compare(100 * (one_stream.ms_per_step - events.ms_per_step) / gained_ms, "%")

# %% [markdown]
# <details><summary>What happened</summary>
#
# None, on the virtual clock. Look at the host's lane in the picture of section 2: `prepare`, a thin `launch`, then
# **wait** until the forward is done, then `commit`. While the device works, the host could work too, but it has
# nothing to do. The next batch needs the tokens of this one, and there is one set of IO buffers only, which is in
# use.
#
# On a real GPU the cell above measures steps of about a millisecond. Runs of one and the same engine differ by as
# much as the engines do, so the percentage may be anything, less than 0 included. The recordings below are of a large
# model.
#
# </details>
#
# So chapter 3's gain came from the races themselves: the host was early because it did not wait for the answer. Streams
# and events do not make anything faster. They make it *possible* to do two things at once. What is missing is the
# second thing to do.
#
# The same, recorded with an 8B shape (random weights) and 32 requests; the titles name the device:
#
# ![Time per step](../../figures/ch04_engines.png)
#
# ![Three streams and events](../../figures/ch04_steps.png)

# %%
for recording in recorded("ch04_engines"):
    one, _, with_events = recording["rows"]
    difference = with_events["ms_per_step"] / one["ms_per_step"] - 1
    print(f"{recording['device']}, clock {one['clock']}")
    print(f"    one stream {one['ms_per_step']:.2f} ms per step, events {with_events['ms_per_step']:.2f} ms", end="")
    print(f", {abs(difference):.1%} apart")
for recording in recorded("ch05_price") + recorded("ch07_engines"):
    for row in recording["rows"]:
        if (row["model"], row["requests"], row["engine"]) == ("8b", 32, "one batch at a time"):
            print(f"{recording['device']}: events, on another occasion: {row['ms_per_step']:.2f} ms per step")
for recording in recorded("ch04_edges"):  # five runs "as it comes" and five with nothing to make late: ten alike
    times = [row["ms_per_step"] for row in recording["rows"] if row["missing"] == "none" and row["clock"] == "cuda"]
    if times:
        print(f"{recording['device']}: chapter 4's engine, {len(times)} times the same run (a smaller model):", end=" ")
        print(f"{min(times):.2f} to {max(times):.2f} ms per step")

# %% [markdown]
# The virtual clock gives the same figure for both. On a GPU nothing is so exact. There the host's part of a step (the
# gap) differs from run to run, as the last lines show for one and the same engine. A difference of that size between
# two engines says nothing, whichever comes out ahead: there is no gain here that could be told from chance.
#
# And below, the same engine with the forward launched kernel by kernel. The device's bar is as long as the host's
# `launch`, and only because of it. (A bar reaches from the first kernel to the last, so the small gaps between kernels
# do not count as idle here.)
#
# ![The same, launched kernel by kernel](../../figures/ch04_eager_steps.png)
#
# ## 5. Find the bug
#
# This executor's tokens are right on its author's machine. All three events are recorded, all three are waited for.
# What is wrong?


# %%
class TidyExecutor(EventExecutor):
    """A colleague's version of exercise 4.1."""

    def queue(self, batch, buffers):
        with accelerator.stream(self.h2d):
            buffers.h2d_done.record()
            self.copy_in(batch, buffers)
        with accelerator.stream(self.compute):
            self.compute.wait_event(buffers.h2d_done)
            self.run(batch, buffers)
            buffers.compute_done.record()
        with accelerator.stream(self.d2h):
            self.d2h.wait_event(buffers.compute_done)
            self.copy_out(batch, buffers)
            buffers.d2h_done.record()


if is_simulated():
    for policy in ("eager", "lazy"):
        tidy = serve(engine_with(TidyExecutor), load, policy)
        print(f"{policy}: {tidy.wrong_share(right):.0%} of the tokens wrong")

# %% [markdown]
# **Predict first.** Which event is to blame: `"h2d_done"`, `"compute_done"` or `"d2h_done"`? Then ask the detector.
# (Without one, on a real GPU, the stored lesson has its report.)

# %%
to_blame = guess("the event to blame", ...)

# %%
if is_simulated():
    print(f"{accelerator.races()[0]}\n")
    to_blame.compare(f"{accelerator.races()[0].first.lane}_done")

# %% [markdown]
# And look at it. Where does the arrow to the forward begin, and where should it?

# %%
tidy = serve(engine_with(TidyExecutor), load)
middle = tidy.recording.steps()[3]
plot_timeline(tidy.recording, title="What is wrong here?", steps=(middle, middle), edges=True, races=True)

# %% [markdown]
# <details><summary>Answer</summary>
#
# `h2d_done` is recorded before the copies are queued. An event covers what the stream has got *so far*, so it covers
# the copies of the batch before. The forward does wait, for something that is long done. The last line of the
# report says exactly this. With three streams and many batches this mistake is common, and on a quiet GPU it is never
# seen.
#
# </details>

# %% [markdown]
# ## 6. Five repairs
#
# These are the usual mistakes in such code. In `my/ch04_events/repairs.py` there are five programs of a few lines,
# each with one of them. They work on three numbers instead of a batch. Nothing is to be filled in: the programs run,
# and on a lucky GPU they are right. `make check EX=4.3` shows the race report of the first one. Read it to its last
# line before you look at the code. Then repair the program: the work stays on its streams, and the host waits only
# where it reads.

# %%
print("       (* easy, *** hard)")
for each in load_exercises().values():
    if each.is_bug and each.id.startswith("4."):
        print(f"{each.id:>5}  {each.title.removeprefix('Repair: ')} {'*' * each.difficulty}, {each.minutes} minutes")
        print(f"       {each.symptom}")

# %% [markdown]
# The next cell runs the five under `lazy`, on the simulated GPU. Yours are repaired when it says "ordered" five
# times.

# %%
if is_simulated():
    for program, result, loaded in (
        (repairs.load_and_double, "y", False),
        (repairs.double_and_fetch, "host_out", True),
        (repairs.double_and_load_again, "y", True),
        (repairs.load_and_add, "z", False),
        (repairs.fetch, "host_out", True),
    ):
        seen = try_out(program, result, "lazy", loaded=loaded)
        print(f"{program.__name__:22} {'RACE' if seen.races else 'ordered':8} {result} is {seen.result}")

# %% [markdown]
# ## 7. What this step cost, and what comes next
#
# On the host: three records, two waits and one synchronisation per step. On the simulated GPU's table of prices that is

# %%
if is_simulated():
    call_ms = accelerator.Costs().call_ms
    print(f"6 calls of {call_ms} ms: {6 * call_ms:.3f} ms of a step of {events.ms_per_step:.2f} ms (simulated)")

# %% [markdown]
# On a GPU such calls take microseconds as well; the measurement of section 4 is too coarse to show them. In code it
# costs more: the IO buffers may be touched only after a wait for `d2h_done` now, and nothing in Python's syntax says
# so.
#
# On the virtual clock the idle share is that of the single stream. It is still the ceiling of what can be gained:

# %%
idle = events.recording.idle_share()
print(f"device idle {idle:.1%}: at most {1 / (1 - idle):.2f} times as fast (clock: {events.recording.clock})")

# %% [markdown]
# In chapter 5 the host gets something to do while it waits: a second batch, in a second set of IO buffers.
#
# Your predictions of this chapter:

# %%
list_guesses()

# %% [markdown]
# ## Check yourself
#
# <details><summary>The host calls <code>stream.wait_event(event)</code>, and the event is reached a second later. What
# does the host do in that second?</summary>
#
# Whatever comes next in the program. The call puts the wait into the stream's queue and returns.
#
# </details>
#
# <details><summary>An event is recorded, a stream waits for it, and then it is recorded again elsewhere. What does the
# stream wait for?</summary>
#
# The first record, the last one *before* the wait. That is why the IO buffers' events can be recorded again with every
# batch.
#
# </details>
#
# <details><summary>Three edges, but chapter 3 had six kinds of race. Where are the other three edges?</summary>
#
# They follow from the three. The host touches the buffers again only after d2h_done, which comes after compute_done,
# which comes after h2d_done. So the host's clock has heard of all that the last batch did, and hands it on with
# whatever it launches next.
#
# </details>
#
# <details><summary>Why does the detector have nothing to say about a program that orders everything with
# <code>accelerator.synchronize()</code>? Is it a good program?</summary>
#
# Everything is ordered, so nothing races. It is right, and nothing overlaps: the host waits for all streams after each
# call. The detector checks for too little order; only the clock shows too much.
#
# </details>
#
# <details><summary><code>while not event.query(): pass</code> orders the host behind the event as
# <code>event.synchronize()</code> does. Why does exercise 4.2 refuse it?</summary>
#
# It keeps a core of the host busy for as long as the device works. There is other work for that core from chapter 5 on.
#
# </details>
#
# ### A stretch task
#
# With one batch in flight, the copies and the forward follow each other anyway. Write an executor that promises the
# same order with fewer calls than the six of section 7, and is no slower: no race, all tokens right, the same
# milliseconds per step as "and events" in section 4. How few are enough? And what would your executor give up with two
# batches in flight?
