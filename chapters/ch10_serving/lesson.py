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
# # Chapter 10: Serving, and beyond one GPU
#
# Chapter 9's engine keeps its GPU busy, for callers in the same program. This chapter puts it behind HTTP, where the
# callers are strangers: they go away, read slowly, all come at once, and don't read the documentation. Whatever they
# do, it must not cost the engine more than a little of its time. Then there are several engines, and one of them dies.
#
# - `wire.py`, `prompts.py`, `answers.py`, `streaming.py`: the OpenAI API, requests and answers
# - `mailbox.py`: from the engine's thread to the event loop (exercise 10.1)
# - `leaving.py`: a client that goes away (10.2); `admission.py`: how a full server refuses (10.3)
# - `guard.py`, `connections.py`, `settings.py`: what is turned away, and how long things may take
# - `app.py`, `service.py`, `serve.py`: all of it put together
# - `replicas.py`, `ingress.py`, `affine_router.py`: several engines as one server, on Ray Serve; `affinity.py`: which
#   of them gets a request (10.4)
# - `offline.py`, `offline_engine.py`, `offline_job.py`: several engines for a file of prompts, on Ray Data;
#   `answers_file.py`: nothing lost, nothing twice (10.5)
# - `tensor_parallel.py`: one model on several GPUs
#
# What has an exercise is yours, in `my/ch10_serving/`; the rest is in `solutions/ch10_serving/`.
#
# FastAPI and uvicorn do the HTTP here, prometheus-client the metrics, Ray the replicas. They do it well, and this
# chapter is about the engine's side: what has to hold between them and it. Ray is large, so it has an environment of
# its own, and this notebook does without it. What was measured with Ray is read from `figures/data`, and each section
# names the command that shows it live.
#
# About two and a half hours: 100 minutes for the five exercises, 25 to read this page, 15 for predictions and
# questions, and ten to run the cells and to look into the modules that are given. You need to have seen `async` and
# `await` before.

# %%
import sys

sys.path.insert(0, "../..")  # the repository root, seen from this notebook
from toolkit.course import open_chapter

open_chapter("ch10")  # whose code runs (COURSE_CODE); switches autoreload on

# %%
import asyncio
import collections
import http.client
import json
import logging
import math
import shutil
import socket
import statistics
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from functools import partial

import torch
from IPython.display import display

import ch10_serving.app
from ch02_continuous_batching import SamplingParams
from ch08_full_engine import Server
from ch09_persistent_batch import PersistentEngine
from ch10_serving import Admission, Limits, Mailbox, Service, create_app, listen, server_for
from ch10_serving.affinity import beginning, choose, ranking
from ch10_serving.answers_file import AnswersFile
from ch10_serving.api_errors import ApiError
from ch10_serving.asgi_call import HttpRequest, call_asgi
from ch10_serving.ingress import Ingress
from figures.recorded import drawn_from, recorded, recorded_figures
from toolkit.course import ROOT
from toolkit.device import accelerator, is_simulated
from toolkit.models import load_model
from toolkit.predictions import guess, list_guesses

torch.set_num_threads(1)  # the model is tiny: a second thread costs more than it saves
loaded = load_model("tiny", device="cpu" if is_simulated() else "cuda")
model, tokenizer = loaded.model, loaded.tokenizer
print("this notebook runs on:", accelerator.get_device_name())

# %% [markdown]
# ## 1. What goes over the wire
#
# `make serve` starts the server in a process of its own. Here it runs in a thread of the notebook, with the tiny model
# and 16 rows, so that you can look at both sides at once. It listens on a free port of this machine.

# %%
SMALL = {"max_rows": 16, "num_blocks": 512, "max_length": 512, "stream_text": False}


def new_engine(**options):
    """Chapter 9's engine on a fresh device."""
    if is_simulated():
        accelerator.reset("eager", on_race="raise")
    return PersistentEngine(model, tokenizer, **(SMALL | options))


@contextmanager
def serving(places=24, limits=None):
    """A server that runs inside the `with`: its service, and its port."""
    service, started = Service(new_engine(), tokenizer, "tiny", places), threading.Event()
    listening = listen("127.0.0.1", 0)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # so that section 6 can show a slow reader
    server = server_for(service, "127.0.0.1", None, limits or Limits(), started.set)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
    thread.start()
    started.wait()
    try:
        yield service, listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def completion(prompt="The sea is", **values):
    """The body of a request to /v1/completions."""
    return {"model": "tiny", "prompt": prompt, "max_tokens": 4, "temperature": 0} | values


def request_bytes(body):
    """A request as it goes over the wire."""
    data = json.dumps(body).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def exchange(port, data):
    """Send bytes over a new connection, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65536), b""))


with serving() as (service, port):
    sent = request_bytes(completion())
    print(sent.decode(), "\n\n--- and back:\n")
    print(exchange(port, sent).decode())

# %% [markdown]
# That is all: a line, headers, an empty line, JSON; and back in the same form. The text means nothing, for the tiny
# model has random weights. `usage` counts tokens, and `finish_reason` says why the answer ends: `length` or `stop`.
#
# With `"stream": true` the answer comes in pieces, as *server-sent events*: `data: `, JSON, and an empty line. The same
# request with curl, which you can call from any terminal while `make serve MODEL=tiny` runs (then at port 8000):

# %%
with serving() as (service, port):
    body = json.dumps(completion(max_tokens=10, stream=True, stream_options={"include_usage": True}))
    command = ["curl", "-sN", f"http://127.0.0.1:{port}/v1/completions", "-H", "Content-Type: application/json"]
    print(" ".join(command[:-1]), f"'{command[-1]}' -d '{body}'\n")
    if shutil.which("curl"):
        print(subprocess.run([*command, "-d", body], capture_output=True, text=True).stdout)
    else:
        print("there is no curl here; what comes back, its head left out:\n")
        print(exchange(port, request_bytes(json.loads(body))).decode().partition("\r\n\r\n")[2])

# %% [markdown]
# Each event is a whole object with the same `id`. The last but one has the usage, because the request asked for it,
# and `[DONE]` closes the stream, so a client knows a complete answer from one that was cut off. (There are fewer events
# than tokens: a token may bring half a character, which is held back, and tokens that come quickly share an event, see
# section 6.) The official client does all of this for you:
#
#     client = openai.OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")
#     for chunk in client.completions.create(model="tiny", prompt="The sea is", stream=True): ...
#
# What the API has and this server lacks (`not_here.py`: log probabilities, tools, penalties and more) is refused by
# name. An answer that looks as if the parameter had been applied would be worse than none:


# %%
def ask(port, body, path="/v1/completions", headers=None):
    """Status, headers and decoded body of an answer that is not streamed."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"} | (headers or {}))
    response = connection.getresponse()
    answer = response.status, dict(response.getheaders()), json.loads(response.read())
    connection.close()
    return answer


with serving() as (service, port):
    for values in ({"logprobs": 3}, {"max_tokens": "5"}, {"prompt": "x" * 600}, {"model": "large"}):
        status, _, answer = ask(port, completion(**values))
        print(status, answer["error"]["message"])

# %% [markdown]
# ## 2. From the engine's thread to the event loop
#
# Two threads meet here. The engine's thread makes steps. All of HTTP runs in an *event loop* in another thread, which
# no other thread may touch. What another thread can do is wake it, with `loop.call_soon_threadsafe`. That writes a byte
# to a pipe, and lets go of Python's lock: the event loop runs at once, and the engine waits for it.
#
# 64 streams run, so each step brings 64 outputs. Chapter 8's `Server.stream` wakes the loop for each of them. A
# *mailbox* is a queue between the two threads: the engine's thread puts a step's outputs into it, and then wakes the
# loop once.
#
# **Predict first.** How many times as long does it hold the engine's thread up if the loop is woken for each output?
#
# Predictions are cells like the next one. Put a number (or the words that are asked for) in place of the dots and run
# the cell; a later one compares it with what was measured. With the dots left in place the lesson runs as well.

# %%
hand_over_guess = guess("64 streams: a wake-up for each output takes the engine so many times as long", ...)

# %% [markdown]
# ### Exercise 10.1: one wake-up a step (20 minutes)
#
# In `my/ch10_serving/mailbox.py`, fill `put`, `ring` and `hand_out`, eight lines. The other thread may come
# between any two of them, and the tests let it. `make check EX=10.1`, `make hint EX=10.1`.


# %%
class WakesForEach(Mailbox):
    """Wakes the event loop for each output."""

    def put(self, listener, choice, output):
        self.loop.call_soon_threadsafe(listener.take, choice, output)

    def ring(self):
        pass


class CountedLoop:
    """An event loop whose wake-ups are counted."""

    def __init__(self, loop):
        self.loop, self.wake_ups = loop, 0

    def call_soon_threadsafe(self, *arguments):
        self.wake_ups += 1
        self.loop.call_soon_threadsafe(*arguments)


class Listener:
    """Counts the requests that have not ended."""

    def __init__(self, left):
        self.left, self.ended = left, asyncio.Event()

    def take(self, choice, output):
        self.left -= output.finish_reason is not None
        if not self.left:
            self.ended.set()


async def hand_over(kind, streams=64):
    """Run so many streams of 40 tokens. Returns how long handing a step's outputs over takes the engine, in ms."""
    loop, listener = CountedLoop(asyncio.get_running_loop()), Listener(streams)
    mailbox, engine = kind(loop), new_engine(max_rows=streams)
    steps = [0.0]  # seconds

    def put(choice, output):
        start = time.perf_counter()
        mailbox.put(listener, choice, output)
        steps[-1] += time.perf_counter() - start

    def ring():
        start = time.perf_counter()
        mailbox.ring()
        steps[-1] += time.perf_counter() - start
        steps.append(0.0)

    with Server(engine, streams, ring) as server:
        for choice in range(streams):
            params = SamplingParams(max_tokens=40, ignore_eos=True)
            server.submit([10, 11, choice + 3], params, partial(put, choice))
        await listener.ended.wait()
    wake_ups, ms = loop.wake_ups / engine.metrics.steps, statistics.median(steps) * 1e3
    print(f"{kind.__name__:13} {wake_ups:5.1f} wake-ups for each step; its outputs are handed over in {ms:6.3f} ms")
    return ms


def in_a_loop_of_its_own(coroutine):
    """Run a coroutine to its end. (A notebook has an event loop already, so this one gets a thread.)"""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


each_ms, mailbox_ms = (in_a_loop_of_its_own(hand_over(kind)) for kind in (WakesForEach, Mailbox))
hand_over_guess.compare(each_ms / mailbox_ms, "times")

# %% [markdown]
# With the mailbox there is one wake-up a step, at most. If the loop is still busy with the last step's outputs, a
# wake-up is on its way already, and it brings the new ones as well: so it can be less than one. (The milliseconds are
# the median over all steps, on the machine that ran this notebook.)
#
# The order of the lines is what makes it right. `hand_out` first says "no wake-up is on its way" and then looks into
# the queue. The other way round, an output that comes between the last look and that statement stays in the queue until
# the next wake-up. If it was the last one of its stream, that may never come.
#
# ## 3. Whatever takes long does not belong in the event loop
#
# A prompt of 1 MB arrives, as large as a body may be here (`settings.py`). Tokens have to be made of it. Where? The
# event loop serves all clients; while it tokenises, it serves none.
#
# **Predict first.** Three ways:
#
# - A: in the event loop
# - B: in a thread
# - C: in a thread, with the tokenizer's call for a list of texts, and a list of one
#
# In which of them do all other clients wait for about as long as the tokenizer takes?

# %%
blocked_guess = guess("ways in which all others wait for the tokenizer, such as ['A', 'B', 'C']", ...)

# %%
long_text = "The sea is. " * (Limits().body // 12)
backend = tokenizer.backend_tokenizer


async def longest_wait(work):
    """The longest time for which the event loop did nothing else while `work` was done, in milliseconds."""
    waits, ended = [], False

    async def tick():
        last = time.perf_counter()
        while not ended:
            await asyncio.sleep(0.001)
            waits.append((time.perf_counter() - last) * 1e3)
            last = time.perf_counter()

    ticking = asyncio.ensure_future(tick())
    await asyncio.sleep(0.05)
    await work
    await asyncio.sleep(0.01)
    ended = True
    await ticking
    return max(waits)


async def in_the_loop():
    backend.encode(long_text)


waits = {}
for name, make in {
    "A, in the event loop": in_the_loop,
    "B, in a thread, encode": lambda: asyncio.to_thread(backend.encode, long_text),
    "C, in a thread, encode_batch": lambda: asyncio.to_thread(backend.encode_batch, [long_text]),
}.items():
    waits[name[0]] = in_a_loop_of_its_own(longest_wait(make()))
    print(f"{name:29} all others wait for up to {waits[name[0]]:7.1f} ms")
blocked_guess.compare([way for way, ms in waits.items() if ms > waits["A"] / 2])

# %% [markdown]
# <details><summary>What happened</summary>
#
# B is no better than A. The library is written in Rust, and its `encode` keeps Python's lock from beginning to end; a
# thread helps only where the lock is given back. `encode_batch` gives it back. And the event loop would not be the only
# one to wait: the engine's thread needs the same lock for each of its steps. (This tokenizer is the simplest there is,
# a token for each byte. Others take longer.)
#
# </details>
#
# So `PromptReader.read` runs in a thread, with a list of one. The same question goes for anything that a request
# brings: how long does it take *at most*? A body has a largest size, and so have prompts, stop strings and numbers of
# choices.
#
# ## 4. A client leaves
#
# The engine knows nothing of connections. If a client closes its browser in the middle of an answer, the engine goes on
# to the last token, with a row and blocks that others wait for. It has to be told.
#
# ### Exercise 10.2: the client has gone (20 minutes)
#
# In `my/ch10_serving/leaving.py`, fill `unless_gone`, eleven lines: do the work, and stop it when the client has gone.
# `make hint EX=10.2`.
#
# **Predict first.** A client asks for 300 tokens, not streamed, and leaves when the engine has made 40. How many does
# the engine compute with `unless_gone`?

# %%
leaving_guess = guess("the client leaves at token 40: tokens that the engine computes with unless_gone", ...)


# %%
def leave_early(enough=40):
    """Ask for 300 tokens, and leave when the engine has made so many. Returns how many it has made in the end."""
    with serving() as (service, port):
        figures, blocks = service.engine.metrics, service.engine.scheduler.blocks
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(request_bytes(completion(max_tokens=300)))
        while figures.tokens < enough:
            time.sleep(0.001)
        connection.close()
        left_at = figures.tokens
        while service.admission.inside:
            time.sleep(0.001)
        print(f"left at token {left_at}; computed {figures.tokens}; ended as {dict(figures.finished)}; ", end="")
        while service.engine.has_work:
            time.sleep(0.001)
        print(f"blocks free: {blocks.num_free_blocks} of {blocks.num_blocks}")
        return figures.tokens


async def whether_gone_or_not(receive, work):
    """Does not look whether the client is still there."""
    return await work


leaving_guess.compare(leave_early(), "tokens")
unless_gone, ch10_serving.app.unless_gone = ch10_serving.app.unless_gone, whether_gone_or_not
leave_early()
ch10_serving.app.unless_gone = unless_gone

# %% [markdown]
# One token too many, or a few: what is in flight is never touched (chapter 8), and a step or two go by before the event
# loop hears of the closed connection. The second run does without `unless_gone`: it computes all 300, and writes the
# answer into a closed connection.
#
# The hard part of 10.2 is not to stop the work, but to *wait for its end*. `task.cancel()` only asks. Code that does
# not await the task afterwards goes on while the task's clean-up is still running, and an error in it is never seen.
#
# ## 5. A full server
#
# Chapter 8's gate lets callers wait outside. Inside a program that is right. Over HTTP, each one that waits holds a
# connection, and when its turn comes it has often given up and asked again. A queue that only grows helps no caller. So
# this one has a bound (`Limits.waiting`), and beyond it a request is refused at once: status 429, and a header
# `Retry-After` with the seconds until it is worth coming back. How many seconds?
#
# Little's law holds for anything that requests enter and leave: *inside = leaving per second × seconds that each
# stays*. The server counts the requests inside and measures how long they stayed, so it knows how many leave per
# second.
#
# ### Exercise 10.3: come back later (15 minutes)
#
# In `my/ch10_serving/admission.py`, fill `enter` and `retry_after`, eight lines. `make hint EX=10.3`.
#
# **Predict first.** There are 20 places, all taken, and each request stays for 12 seconds. What does a request for one
# answer read in `Retry-After`? One for 10 answers (`n=10`)? And which status does one for 21 get, in quotes?

# %%
one_guess = guess("20 places, each taken for 12 s: Retry-After for one answer, s", ...)
ten_guess = guess("Retry-After for ten answers, s", ...)
many_guess = guess("the status for 21 answers: '429' (come back later) or '400' (a wrong request)", ...)

# %%
clock = iter(range(0, 1000, 12))  # a clock by which each request stays for 12 seconds
admission = Admission(20, lambda: next(clock))
admission.leave(admission.enter(1))
admission.enter(20)
refusals = {}
for count in (1, 10, 21):
    try:
        admission.enter(count)
    except ApiError as error:
        refusals[count] = error
        print(f"{count:2} answers: {error.status_code}, {error.headers}: {error.detail}")
one_guess.compare(int(refusals[1].headers["Retry-After"]), "s")
ten_guess.compare(int(refusals[10].headers["Retry-After"]), "s")
many_guess.compare(str(refusals[21].status_code))

# %% [markdown]
# <details><summary>What happened</summary>
#
# 20 requests leave in 12 seconds, so one leaves every 0.6 s; the header has whole seconds, so 0.6 becomes 1, and ten
# take 6. More answers than there are places will never fit: that is the request's mistake (400), and coming back would
# not help.
#
# </details>
#
# And live: 16 rows, 8 may wait, and 60 clients ask at the same moment.

# %%
with serving(places=24) as (service, port), ThreadPoolExecutor(60) as pool:
    answers = list(pool.map(lambda i: ask(port, completion(f"client {i}", max_tokens=20)), range(60)))
    statuses = collections.Counter(status for status, *_ in answers)
    waits = collections.Counter(headers["retry-after"] for status, headers, _ in answers if status == 429)
    print("statuses:", dict(statuses), " Retry-After, seconds:", dict(waits))
    blocks = service.engine.scheduler.blocks
    print("blocks free:", blocks.num_free_blocks, "of", blocks.num_blocks)

# %% [markdown]
# All that were let in got their answers; all others knew at once. (How many are let in depends on how many have left by
# the time the last ones come.)
#
# ## 6. Slow readers, and floods
#
# A chunk for each token would be too many. Each is a text to decode, JSON to write and a call to a socket, and the
# event loop holds Python's lock for all of that. So all streams together share a number of chunks per second, and each
# gets the tokens of some steps in one chunk. A single stream still gets every token as it comes, as long as a step
# takes a millisecond or more.
#
# Slow readers are served in the same way. While a client does not read, its tokens gather, and the next chunk has all
# of them. The server waits for the client's connection; the engine does not wait at all.
#
# Two clients ask for eight answers of 400 tokens. One reads at once. The other one reads nothing until the engine has
# made its last token. It gets all of its answers, too, in fewer events:


# %%
def stream_events(connection):
    """The events of a stream, read to its end."""
    data = b"".join(iter(lambda: connection.recv(65536), b""))
    connection.close()
    return data.count(b"data: {")


def open_stream(port):
    """A connection with little room for what was not read, and a request for eight answers of 400 tokens, streamed."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", port))
    connection.sendall(request_bytes(completion(max_tokens=400, n=8, stream=True, temperature=1.0)))
    return connection


with serving() as (service, port):
    slow, quick = open_stream(port), open_stream(port)
    print("the one that reads at once:", stream_events(quick), "events")
    while service.engine.has_work or len(service.streams) > 1:
        time.sleep(0.01)
    print("the engine has nothing left to do; streams that are still being sent:", len(service.streams))
    print("the one that reads late:   ", stream_events(slow), "events")

# %% [markdown]
# The slow one's first events were on their way before its connection was full; all that came later is in one event for
# each of its eight answers. The server keeps for a slow reader no more than the outputs that it has asked for. If it
# does not read at all, its connection is closed after a minute (`Limits.stall`).
#
# There are ruder clients. A byte now and then keeps a connection open for as long as its sender likes. A page in a
# browser can send requests to any server on the same machine. Here is what happens to each, with limits made small so
# that it can be seen:

# %%
small = Limits(body=2000, connections=3, patience=2.0)


def said(data):
    """Status and message of an answer in bytes."""
    head, _, body = data.partition(b"\r\n\r\n")
    return f"{head.split()[1].decode()}  {json.loads(body)['error']['message']}"


with serving(limits=small) as (service, port):
    half = request_bytes(completion())[:60]
    print("half a request:       ", said(exchange(port, half)))
    print("a body too large:     ", said(exchange(port, request_bytes(completion("x" * 3000)))))
    page = request_bytes(completion()).replace(b"application/json", b"text/plain")
    print("what a page may send: ", said(exchange(port, page)))
    rebound = request_bytes(completion()).replace(b"Host: localhost", b"Host: evil.example")
    print("another name for it:  ", said(exchange(port, rebound)))
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(small.connections)]
    print("one connection more:  ", said(exchange(port, request_bytes(completion()))))
    for connection in held:
        connection.close()

# %% [markdown]
# uvicorn leaves patience to a proxy in front of it. A server without one needs its own: `connections.py`.
#
# ## 7. The price
#
# **Predict first.** 64 requests at a time, once in process, where a loop calls `step` and nothing else; once over HTTP
# with whole answers; once as 64 streams. Event loop and engine share a process, and so Python's lock. Which share of
# the engine's speed is left in the second case, and in the third?

# %%
whole_guess = guess("HTTP, 64 whole answers at a time: share of the speed that is left, %", ...)
streams_guess = guess("HTTP, 64 streams: share of the speed that is left, %", ...)

# %%
for recording in recorded("ch10_http"):
    print(f"{recording['device']}, torch {recording['torch']}, {recording['command']}")
    base = {row["model"]: row["steady_tokens_per_s"] for row in recording["rows"] if row["way"] == "in process"}
    for row in recording["rows"]:
        speed = row["steady_tokens_per_s"]
        share = speed / base[row["model"]]
        print(f"    {row['model']:4} {row['way']:25} {speed:9,.0f} tokens/s, {share:4.0%}")
        if "loop_share" in row:
            wakes, tokens = row["wake_ups_per_step"], row["tokens_per_chunk"]
            print(f"         {wakes:.2f} wake-ups a step, {tokens:.1f} tokens a chunk", end=", ")
            print(f"the event loop computes {row['loop_share']:.0%} of the time")
    if all(row["simulated"] for row in recording["rows"]):
        print("    (the GPU is simulated: clients, event loop, engine and the forward itself share the CPU's cores)")

speeds = [row["steady_tokens_per_s"] for row in drawn_from("ch10_http")["rows"]]  # in process, answers, streams
whole_guess.compare(100 * speeds[1] / speeds[0], "%")
streams_guess.compare(100 * speeds[2] / speeds[0], "%")

# %%
for picture in recorded_figures("ch10", "ch10_http"):
    display(picture)

# %% [markdown]
# (On a CPU whose cores other programs use as well, ten or twenty per cent either way are noise.)
#
# Whole answers are cheap: the event loop hears of a request's first output and of its last. Streams give it more to do,
# and not because of the wake-ups. Each chunk is a text to decode, an object, JSON, a write to a socket; and for as long
# as that takes, no other thread of the process runs Python.
#
# Where the GPU is simulated, the speed shows it: the forward needs the same cores. On the GPU the event loop computes
# for much of the time as well, and the engine hardly loses anything by it. A step takes the device longer than the host
# (chapter 9), so the engine's thread spends the rest of it in its one wait, and *that* is when the event loop runs.
# Asynchrony hides it together with the engine's own work, and only as long as there is room: with many more streams, or
# with a model whose steps are shorter, each chunk would delay the next launch.
#
# What could be done then? More threads would not help, since all need the one lock. A second *process* has a lock of
# its own. vLLM and SGLang have tokenizer, detokenizer and HTTP in processes beside the engine's, which exchange whole
# steps with it over a socket: the engine's process then pays for one message a step, whatever the clients do. It costs
# a core, and a second copy of everything that must be known on both sides (which requests run, which are cancelled).
# This course's engine stays in one process, because it is easier to read.
#
# ## 8. Several engines
#
# One GPU is full. There are two ways to use N of them with a model that fits on one, and both have N whole engines:
#
# - **one server** that spreads requests over *replicas*: Ray Serve, `make serve-ray MODEL=tiny REPLICAS=2`
# - **offline**, a file of prompts in, a file of answers out: Ray Data, `make run-ray MODEL=tiny PROMPTS=my.jsonl`
#
# (Their set-up, 550 MB, is done by the command, on Linux and macOS. `make test-ray` runs the tests of what this section
# says.)
#
#     client --HTTP--> Serve's proxy --> Ingress --> router --> Replica, with an engine
#                                                          \--> Replica, with an engine
#
# A replica is this chapter's application in a process of its own, and nothing in it listens. Here is the class; the
# rest of `replicas.py` is settings:

# %%
source = (ROOT / "solutions" / "ch10_serving" / "replicas.py").read_text()
replica = "class Replica" + source.partition("class Replica")[2].partition("\n\n\ndef ")[0]
print(replica.replace("  # type: ignore[misc] # Serve awaits it", ""))

# %% [markdown]
# (`/metrics` is part of the application as well, so through Serve it shows the figures of the *one* replica that the
# router has chosen. A Prometheus that watches all replicas needs a way to each; there is none here.)
#
# **Predict first.** A call for one token takes some milliseconds with `make serve`. How many does the way through
# proxy, ingress and router add?

# %%
way_guess = guess("what proxy, ingress and router add to a call for one token, ms", ...)

# %%
for recording in recorded("replicas_hop"):
    print(f"{recording['device']}, {recording['command']}")
    for row in recording["rows"]:
        print(f"    {row['way']:10} median {row['median_ms']:5.1f} ms, 95 % below {row['p95_ms']:5.1f}", end="; ")
        print(f"on a connection that is kept {row['kept_median_ms']:5.1f}", end="")
        front = (
            f"\n               {row['front_processes']} processes in front compute {row['front_cpu_ms']} ms for a call"
        )
        print(front if row["front_processes"] else "")

directly, through_serve = (row["median_ms"] for row in drawn_from("replicas_hop")["rows"])
way_guess.compare(through_serve - directly, "ms")

# %% [markdown]
# On its way a call is read as HTTP by the proxy, handed to the ingress, read there, and handed to a replica as a Python
# object; its answer takes the same way back, message by message. For an answer that takes a second that hardly matters.
# But it is work for each call *and each chunk*, in the same two processes for all replicas; section 11 comes back to
# it.
#
# (Why is a kept connection slower with Serve, and not faster? An answer is written in two pieces, head and body. The
# system holds the second one back until the client has acknowledged the first, and the client's system is in no hurry
# to do so: Nagle's algorithm meets delayed acknowledgements. This chapter's server did the same until it was measured.
# `connections.py` switches it off, in `connection_made`.)
#
# ### How much faster are two?
#
# Engines on GPUs of their own have nothing to say to each other. But they are on one host, and share its cores, its
# memory, and the way from there to the GPUs.
#
# **Predict first.** Two H100s of one host with an engine each, and each engine with 256 requests of the 8B shape: how
# many times the tokens per second of one engine alone do the two bring together? And with the 1B shape, whose steps
# take a quarter of the time?

# %%
two_of_8b_guess = guess("two engines, 8B shape: times one engine's tokens per second", ...)
two_of_1b_guess = guess("two engines, 1B shape: times one engine's tokens per second", ...)

# %%
gain = {}
for recording in recorded("several_gpus"):
    print(f"{recording['device']}, torch {recording['torch']}, {recording['command']}")
    for one, two in zip(recording["rows"][::2], recording["rows"][1::2], strict=True):
        load = f"{one['model']} shape, {one['rows']:3} rows, {one['new_tokens']:4} new tokens"
        gain[one["model"], one["rows"]] = times = two["tokens_per_s"] / one["tokens_per_s"]
        print(f"    {load}: {one['tokens_per_s']:9,.0f} and {two['tokens_per_s']:9,.0f} tokens/s: {times:.2f} times")
        for row, who in ((one, "alone"), (two, "both ")):
            steady = f"a step takes the device {row['device_ms']:6.3f} ms, the GPU is active {row['gpu_active']:.1%}"
            print(f"        {who}: the run takes {row['seconds']:.2f} s; in steady decode {steady}")

two_of_8b_guess.compare(gain["8b", 256], "times")
two_of_1b_guess.compare(gain["1b", 256], "times")

# %%
for picture in recorded_figures("several_gpus", "several_gpus"):
    display(picture)

# %% [markdown]
# In steady decode neither notices the other: a step takes the device as long as before, and the GPU is as active. What
# is lost is lost around it. The time is that from the first engine's start to the last one's end, and with the 1B shape
# it is one and a half seconds; so it counts if one of the two needs a tenth of a second longer to begin.
#
# This takes an engine that hardly needs the host, and one thread for each process: torch spreads larger work on the CPU
# over all cores, and waits for the slowest of them, which the neighbour has. (The engine's inputs are written with one
# thread in any case; chapter 8, section 11, shows what it costs otherwise.) `OMP_NUM_THREADS` is 1 in all of this
# chapter's replicas.
#
# Nothing stood in front of these two engines, since Ray was not installed on that machine. What its way costs is in the
# table above it, for each call.
#
# ### A replica dies
#
# A process is killed because memory was short, or a GPU falls off its bus. Its requests are gone. What they asked for
# is not: the ingress has it, so it can ask another replica. The answer is then *the same* as if nothing had
# happened, provided that all that is random about it was decided in front: a request without a seed gets one in the
# ingress. And it works as long as the client has *seen nothing* of the answer. A stream of which it has seen the
# beginning ends with an error event, never silently.
#
# `Ingress` gets its replicas as a function, so it can be tried without Ray. Here the first replica that is called dies
# after a few messages:


# %%
class Died(Exception):
    """In place of Ray's RayActorError."""


async def through_an_ingress(body, after):
    """What a client gets if the first replica dies after so many messages, and the seeds that replicas were given."""
    service, seeds = Service(new_engine(), tokenizer, "tiny", places=24), []
    app = create_app(service, Limits())

    async def call(request):
        seeds.append(json.loads(request.body)["seed"])
        left = after if len(seeds) == 1 else math.inf
        async with aclosing(call_asgi(app, request)) as messages:
            async for message in messages:
                if left == 0:
                    raise Died
                left -= 1
                yield message

    ingress = Ingress(call, deaths=(Died,), busy=(), largest_body=Limits().body)
    headers = ((b"host", b"localhost"), (b"content-type", b"application/json"))
    request = HttpRequest("POST", "/v1/completions", headers, json.dumps(body).encode())
    async with service.running():
        parts = [message.get("body", b"").decode() async for message in call_asgi(ingress, request)]
    return seeds, "".join(parts)


logging.getLogger("ch10_serving").setLevel(logging.ERROR)  # the ingress would log each death
sampled = completion(max_tokens=12, temperature=1.0, seed=5)
for after in (math.inf, 1):
    seeds, answer = in_a_loop_of_its_own(through_an_ingress(sampled, after))
    print(f"sent to a replica with the seed: {seeds}; the answer: {json.loads(answer)['choices'][0]['text']!r}")
long_stream = sampled | {"seed": None, "stream": True, "max_tokens": 100}  # far from its end after two messages
seeds, answer = in_a_loop_of_its_own(through_an_ingress(long_stream, 2))
print(f"a stream, and no seed; sent with the seed: {seeds}; its last event:")
print(answer.strip().splitlines()[-1])

# %% [markdown]
# With Ray, processes are really killed. And an engine can hang: its process is alive, and no step of it ever ends. That
# raises no error anywhere. So a second thread looks whether there are steps while there are requests (`watchdog.py`),
# and ends the process if there have been none for long; then it is a death like any other.
#
# To see it live: `make serve-ray MODEL=tiny`, the stream of section 1 with `"max_tokens": 900` in a second terminal,
# and in a third one `kill -9` for the process called `ray::ServeReplica:serving:Replica` that is busy. `make record
# CH=replicas` records this table again, on your machine:

# %%
for recording in recorded("replicas_failures"):
    print(f"{recording['device']}, {recording['command']}")
    for row in recording["rows"]:
        print(f"    {row['what']}: status {row['status']} after {row['seconds']} s", end="")
        if row["same_text"] is not None:
            same = "the same text" if row["same_text"] else "ANOTHER TEXT"
            print(f" (undisturbed: {row['undisturbed_s']} s), {same}", end="")
        print(f"\n        two replicas again after {row['two_again_s']} s {row['said'] and repr(row['said'])}")

# %% [markdown]
# A request is repeated once. If it was this request that killed the replica, it must not kill them all. (Chapter 8's
# `culprit.py` does the same for steps.)
#
# ### Which replica?
#
# *Least loaded* is what Serve does by itself: two replicas at random, and of these the one with fewer requests ("power
# of two choices"). That is nearly as good as looking at all of them. But an engine knows the beginnings of its own
# requests only (chapter 8, section 3): a conversation that goes on at another replica is computed there from its first
# token. So what begins alike should go to the same replica, without a table that says where each beginning is.
#
# *Rendezvous hashing* gives each pair of a beginning and a replica a number. The highest one wins: that replica is the
# beginning's home.
#
# **Predict first.** 8 replicas have 1,000 beginnings. One replica goes. How many beginnings get another home, if the
# home is `hash(beginning) % N`, and how many with rendezvous hashing?

# %%
modulo_guess = guess("of 1,000 beginnings, get another home with hash(beginning) % N", ...)
rendezvous_guess = guess("of 1,000 beginnings, get another home with rendezvous hashing", ...)

# %% [markdown]
# ### Exercise 10.4: the same beginning, the same replica (15 minutes)
#
# In `my/ch10_serving/affinity.py`, fill `ranking` and `choose`, three lines. `make hint EX=10.4`.

# %%
import hashlib
import random

replicas = [f"replica {i}" for i in range(8)]
keys = [f"conversation {i}".encode() for i in range(1000)]


def modulo(key, replicas):
    return replicas[int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") % len(replicas)]


def rendezvous(key, replicas):
    return ranking(key, replicas)[0]


def moved(home):
    """Beginnings that get another home when the last replica goes."""
    return sum(home(key, replicas) != home(key, replicas[:-1]) for key in keys)


modulo_guess.compare(moved(modulo))
rendezvous_guess.compare(moved(rendezvous))

# %% [markdown]
# <details><summary>What happened</summary>
#
# With the remainder, a beginning keeps its home only if two remainders of the same number are equal, by 8 and by 7:
# seven of 56 numbers have that, so seven eighths of the beginnings move. With rendezvous hashing only those move that
# had their home at the replica that went, about an eighth, and each to the next one in its own order, so they spread
# over all the others.
#
# </details>
#
# One problem remains: if all requests have the same system prompt, all go to one replica. So `choose` passes over
# a replica that has a quarter more than its share. The three policies, with 32 requests inside at a time, on four
# replicas; each first sight of a beginning at a replica is one that has to be computed:


# %%
def least_loaded(key, loads):
    return min(draw.sample(sorted(loads), 2), key=loads.get)


def always_home(key, loads):
    return ranking(key, loads)[0]


def route(policy, keys, inside=32):
    """Send these requests to four replicas by a policy, so many inside at a time; says what is computed where."""
    loads, running, seen, most = dict.fromkeys(replicas[:4], 0), collections.deque(), set(), 0
    for key in keys:
        if len(running) == inside:
            loads[running.popleft()] -= 1
        replica = policy(key, loads)
        running.append(replica)
        loads[replica] += 1
        seen.add((key, replica))
        most = max(most, loads[replica])
    return f"{len(seen):3} beginnings computed, at most {most:2} of {inside} requests at one replica"


draw = random.Random(0)
turns = [beginning({"messages": [{"role": "user", "content": f"conversation {i}"}]}) for i in range(60)] * 8
draw.shuffle(turns)
for name, load in {"60 conversations of 8 turns": turns, "480 requests, one system prompt": turns[:1] * 480}.items():
    print(name)
    for policy in (least_loaded, always_home, choose):
        print(f"    {policy.__name__:12} {route(policy, load)}")

# %% [markdown]
# To send each beginning home is cheapest, and most uneven. `choose` computes some beginnings twice, and in return no
# replica has more than a quarter above its share. `make serve-ray AFFINE=1` has it, as a policy of Serve's own
# (`affine_router.py`).
#
# ### How many replicas?
#
# Serve can decide that by itself. In `replicas.py`, `num_replicas` would become
#
#     autoscaling_config=AutoscalingConfig(min_replicas=1, max_replicas=8, target_ongoing_requests=N)
#
# - `target_ongoing_requests`: Serve adds up the requests that run and those that wait, and divides by N. Take the
#   number with which a replica is fast and its latency still good, somewhat below the engine's rows: in a full engine
#   the next request waits.
# - `upscale_delay_s` (30 s) and the time to load a model pass before a new replica helps. So autoscaling follows the
#   hours of the day, not a burst. For the burst there are the queue and status 429.
# - `downscale_delay_s` (600 s): a replica that goes takes the prefixes in its blocks with it.
#
# ## 9. Offline: do not drain, and lose nothing
#
# A file of prompts has no client that waits. It is cut into slices, and engines take slice after slice. That looks like
# the simplest of all loads, and it brings back chapter 1's waste. A caller that hands in a slice and waits for it lets
# the engine *drain*: rows end one by one, their places stay empty, and the next slice comes when the last one has
# ended.
#
# **Predict first.** 16 rows in a step, slices of 16, answers of at most 160 tokens of which some end early. How many
# tokens does a step bring on average, if one slice is inside at a time? If there are two?

# %%
one_slice_guess = guess("16 rows, one slice inside at a time: tokens a step, on average", ...)
two_slices_guess = guess("16 rows, two slices inside at a time: tokens a step, on average", ...)

# %%
for recording in recorded("ch10_offline"):
    print(f"{recording['device']}, {recording['command']}")
    for row in recording["rows"]:
        same = "the same answers" if row["same_answers"] else "OTHER ANSWERS"
        print(
            f"    {row['calls']} at a time: {row['steps']:5,} steps, {row['tokens']:6,} tokens, "
            f"{row['tokens_per_step']:5.2f} a step; {same}"
        )
tokens_per_step = {row["calls"]: row["tokens_per_step"] for row in drawn_from("ch10_offline")["rows"]}
one_slice_guess.compare(tokens_per_step[1], "tokens")
two_slices_guess.compare(tokens_per_step[2], "tokens")
for picture in recorded_figures("ch10", "ch10_offline"):
    display(picture)

# %% [markdown]
# With two, the rows of the second fill the gaps of the first. With three there is nearly always another slice that
# waits. On a GPU a step costs nearly the same with 4 rows as with 16 (chapter 1), so what matters is the number of
# steps. `offline.py` has three calls at a time in each engine; chapter 9's engine needed no change for it, since it
# takes requests at any time. (On the H100 a few answers are other ones with two or three calls at a time: which rows
# share a batch can change the last bits of the logits, and now and then another one is the largest.)
#
# A run of hours is cut short now and then. Afterwards the file must hold rows 1 to k, all complete, for some k, and the
# next run goes on with k + 1. Two things break that: a line that is torn, and a write that is short.
#
# ### Exercise 10.5: nothing lost, nothing twice (30 minutes)
#
# In `my/ch10_serving/answers_file.py`, fill `resume` and `append`, 20 lines. `make hint EX=10.5`.

# %%
import errno
import os
import tempfile
from pathlib import Path

folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "answers.jsonl"
with AnswersFile(path) as answers:
    answers.append([b'{"line": 1}', b'{"line": 2}'])
with open(path, "ab") as file:
    file.write(b'{"line": 3}\n{"line": 4, "te')  # the process dies in the middle of a line
with AnswersFile(path) as answers:
    print("whole rows that are found:", answers.num_rows, " in the file:", path.read_bytes())
    write, os.write = os.write, lambda fd, data: write(fd, data[:5])  # a system that writes little at a time
    answers.append([b'{"line": 4}'])

    room = [3]  # bytes that still fit on the disk

    def full(fd, data):
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[: room.pop()])

    os.write = full
    try:
        answers.append([b'{"line": 5}', b'{"line": 6}'])
    except OSError as error:
        print("the disk is full:", error.strerror, "; rows:", answers.num_rows, " in the file:", path.read_bytes())
    os.write = write
folder.cleanup()

# %% [markdown]
# Try it with a real disk and a real `kill`: start `make run-ray MODEL=tiny PROMPTS=my.jsonl ANSWERS=answers.jsonl`,
# stop it in any way you like, and call it again. Beside the answers is a file that says how they were made; with
# another model or another number of tokens the run refuses to go on.
#
# ## 10. One model on several GPUs
#
# Replicas need a model that fits on one GPU. If it does not, each GPU gets a *share of every layer*, and all compute
# every step together: tensor parallelism. Where the model does fit, two replicas serve more than one model in two
# shares.
#
# The trick is where to cut (Megatron-LM): the first matrix between its rows, the second between its columns. Then each
# process (a *rank*) computes its part of the middle by itself, and what comes out is one part of a sum.

# %%
torch.manual_seed(0)
x, up, down = torch.randn(3, 64), torch.randn(256, 64), torch.randn(64, 256)
whole = torch.relu(x @ up.T) @ down.T
parts = [torch.relu(x @ up[share].T) @ down[:, share].T for share in (slice(0, 128), slice(128, 256))]
print("one rank alone is off by", f"{(parts[0] - whole).abs().max():.1f};", end=" ")
print("the sum of both by", f"{(parts[0] + parts[1] - whole).abs().max():.5f}")

# %% [markdown]
# Making the sum is an *all-reduce*, twice a layer: once after the attention, whose heads are shared out in the same
# way, once after this. Each rank keeps keys and values of its own heads only, and its share of the weights, so N GPUs
# have room for more than N times the tokens.
#
# Two processes that talk through gloo, each with half of the tiny model, and their answers beside those of one process.
# (The transformers library needs the package accelerate for it, which the course's environment lacks. With it, this
# cell runs them; from a terminal, `.venv-ray/bin/python -m torch.distributed.run --nproc-per-node 2 -m
# toolkit.commands.tensor_parallel` does.)

# %%
import importlib.util

if importlib.util.find_spec("accelerate"):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "toolkit.commands.tensor_parallel", "--model", "tiny"]
    print(subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout)
else:
    print("accelerate is not installed here")
print("recorded:")
for recording in recorded("replicas_ranks"):
    print(f"{recording['device']}, torch {recording['torch']}, {recording['command']}")
    for row in recording["rows"]:
        print(f"    {row['said']}")


# %% [markdown]
# Every rank has an engine of its own, with scheduler, blocks and all. An all-reduce has no name: the first of one rank
# meets the first of the other, whatever they are about. Here rank 0's batch has rows 0 and 1, and rank 1's has rows 0
# and 2:


# %%
def part(batch, share):
    """What one rank computes of a batch."""
    return torch.relu(batch @ up[share].T) @ down[:, share].T


rank_0, rank_1 = x[[0, 1]], x[[0, 2]]  # the rows of their batches
summed = part(rank_0, slice(0, 128)) + part(rank_1, slice(128, 256))
for place, rows in enumerate(((0,), (1, 2))):
    off = ", ".join(f"off by {(summed[place] - whole[row]).abs().max():.4f} from row {row}'s" for row in rows)
    print(f"place {place} of the sum: {off}")

# %% [markdown]
# Numbers of different requests are added up, if the sizes happen to agree, and no error is raised anywhere. If they do
# not agree, all wait forever. So *all ranks must form the same batch at every step*. With one batch at a time they
# could compare before each step. An asynchronous engine launches N + 1 before any rank knows what N brings: it cannot
# be taken back, and a question to all in each step is the very wait that asynchrony was to avoid. So what a scheduler
# does must follow from requests and tokens alone.
#
# - Tokens are equal: all ranks sample from the same logits with the same random numbers (chapter 2's came from seed and
#   position, so there is no state that could drift apart).
# - *Time* differs: which request joins before which step, which is cancelled. Rank 0 decides, and tells the others
#   beforehand (`serve_together`).
# - An engine that asks "is the batch done already?", and goes on if it is not, also decides by time. Chapter 7's never
#   asks: it commits N after it has launched N + 1, whether N was early or late.
#
# ## 11. What breaks first on the way to a thousand GPUs, and what a million tokens cost
#
# Nothing in this course was measured on a thousand GPUs. But much of what would happen there can be computed from what
# was measured on one, and from what one process in front of the replicas can take. Set your own numbers in the next
# cell, and run it again.
#
# **Predict first.** GPUs are added, one after another. What gives way first: the `front` (one core for the proxy and
# ingress), the `router` (one core for the affine policy), `loading` (all replicas at once, in ten minutes), or the
# hardware, with `failures` every day? And at how many GPUs?

# %%
first_guess = guess("what gives way first: front, router, loading or failures", ...)
first_count_guess = guess("at so many GPUs", ...)

# %%
PRICE = 1.00  # of one GPU for an hour, in whatever you pay with
BUSY = 0.6  # share of the hours that you pay for in which there is work
ANSWER = 256  # tokens
GB_PER_S = 10.0  # that a shared store gives to all who load a model from it
PATIENT = 10 * 60  # seconds that loading may take when all start at once
# The Llama 3 Herd of Models, arXiv 2407.21783: 419 unexpected interruptions in 54 days on 16,384 H100s
GPU_HOURS_TO_A_FAILURE = 16_384 * 54 * 24 / 419


def peers():
    """Recorded throughput of this course's engine, asynchronous and compiled: (device, rows of the recording)."""
    for recording in recorded("peers"):
        ours = [row for row in recording["rows"] if (row["engine"], row["mode"]) == ("ours", "async")]
        ours = [row for row in ours if row["model"] in ("1b", "8b")]
        rows = [row for row in ours if row["compiled"] and row["workload"] == "equal" and not row["beside_vllm"]]
        alone = {(row["model"], row["batch"]) for row in rows}
        rows += [row for row in ours if row["beside_vllm"] and (row["model"], row["batch"]) not in alone]
        yield recording["device"], rows


for device, rows in peers():
    print(f"{device}: a million output tokens (prompts of 64 tokens included) at {PRICE:.2f} an hour, {BUSY:.0%} busy")
    for row in sorted(rows, key=lambda row: (row["model"], row["batch"], row["new_tokens"])):
        cost = PRICE / 3600 / row["tokens_per_s"] * 1e6 / BUSY
        load = f"{row['model']} shape, {row['batch']:3} rows, {row['new_tokens']:4} new tokens"
        print(f"    {load}: {row['tokens_per_s']:9,.0f} tokens/s, {cost:.3f}")


# %%
def seconds_to_choose(count, times=50):
    """What `choose` computes for one request among so many replicas, on this machine; the quickest of some times."""
    loads, taken = {f"replica {i}": i % 7 for i in range(count)}, []
    for i in range(times):
        start = time.perf_counter()
        choose(f"conversation {i}".encode(), loads)
        taken.append(time.perf_counter() - start)
    return min(taken)


def gpus_until_full(seconds_for_a_call, calls_per_gpu):
    """How many GPUs bring so many calls that one core has no time left; a call may cost more where there are more."""
    return next(n for n in range(1, 10**6) if n * calls_per_gpu * seconds_for_a_call(n) > 1)


h100 = next(rows for device, rows in peers() if "H100" in device)
speed = max(row["tokens_per_s"] for row in h100 if row["model"] == "8b")
calls = speed / ANSWER
weights_gb = 16.1  # 8.03 billion parameters in bf16
at_once = int(GB_PER_S * PATIENT / weights_gb)
per_day = int(GPU_HOURS_TO_A_FAILURE / 24)
front_ms = next(row["front_cpu_ms"] for row in drawn_from("replicas_hop")["rows"] if row["front_processes"])
per_replica = seconds_to_choose(1000) / 1000
print(f"one GPU, 8B shape: {speed:9,.0f} tokens/s, {calls:6,.0f} calls a second with {ANSWER} tokens each")
print(f"a thousand:        {speed * 1000:9,.0f} tokens/s, {calls * 1000:6,.0f} calls a second\n")
limits = {
    f"a core for proxy and ingress, {front_ms} ms a call": gpus_until_full(lambda n: front_ms / 1e3, calls),
    f"a core for the affine router, {per_replica * 1e6:.2f} us a call and GPU": gpus_until_full(
        lambda n: per_replica * n, calls
    ),
    f"all load {weights_gb} GB at {GB_PER_S:.0f} GB/s in {PATIENT / 60:.0f} minutes": at_once,
    f"a failure every day, one in {GPU_HOURS_TO_A_FAILURE:,.0f} GPU hours": per_day,
}
print("at so many GPUs it gives way:")
for what, count in sorted(limits.items(), key=lambda item: item[1]):
    print(f"{count:10,}: {what}")
print(f"a thousand GPUs: a failure every {GPU_HOURS_TO_A_FAILURE / 1000:.0f} hours\n")
parts = dict(zip(("front", "router", "loading", "failures"), limits.values(), strict=True))
first_guess.compare(min(parts, key=parts.get))
first_count_guess.compare(min(parts.values()))

# %% [markdown]
# The costs are those of the engine alone; HTTP adds what section 7 shows. Read the list from the top. (The front's
# figure is that of the CPU named in section 8, for answers of one token; longer ones and streams cost it more.)
#
# 1. **The front.** A core that reads, routes and relays each call is full with the first GPU, if that has many rows, or
#    with a few. It has no state, so there can be many of it: Serve starts a proxy on every machine
#    (`proxy_location="EveryNode"`), and the ingress can have replicas itself. Beyond that, calls should not pass
#    through Python twice: a load balancer in front of the replicas' own HTTP.
# 2. **The router.** Our affine router ranks all replicas for each call. A thousand of them need either a tree (first
#    the group, then the replica), or a few candidates for each beginning, of which the least loaded is taken. And many
#    routers know the load only from what they have sent themselves; with power of two choices that is good enough.
# 3. **Loading.** When all start at once, they read the same file at once. Machines that have it pass it on.
# 4. **Failures.** With one GPU they are an accident; with a thousand they are part of the week. What section 8 shows
#    has to hold for each of them, and with tensor parallelism one GPU takes its whole group along.
#
# What does *not* break is the engine. No replica knows of any other: each has its own rows, blocks, mailbox and
# admission. A thousand of them are a thousand times as fast as one, as long as what is in front of them keeps up.
#
# ## 12. What this step cost
#
# - **Speed.** The event loop's share of the engine's process (section 7), paid in full only by streams.
# - **Code.** Many lines, and hardly any of them about tokens. Most say what happens when something is wrong.
# - **A private name of Ray's.** `local_ray.py` replaces one function of Serve, so that it listens on loopback only.
#   Each new version of Ray may break that; a test would notice.
# - **Not offered**: TLS (a proxy's work), accounts and quotas, several models in one server, prefill and decode on
#   different GPUs.
#
# You began with a loop and a GPU that waited for each other. Now neither waits, the engine serves all who ask, and it
# recovers from what can be recovered from. The next step is yours.
#
# ## 13. Check yourself
#
# <details><summary>A client asks for a whole answer, so nothing is sent to it before the end. It leaves. What in the
# server notices, and how?</summary>
#
# The event loop, which goes on listening to the connection: the application's `receive` then returns `http.disconnect`.
# `unless_gone` waits for that and for the work at the same time, and stops the work if it comes first. The engine's
# thread notices nothing; it is told to cancel the request.
#
# </details>
#
# <details><summary>In section 5, all clients that were refused read the same number in <code>Retry-After</code>. They
# do as they are told. What happens then, and what would you change?</summary>
#
# All come back at the same moment, some find a place, and the others are refused once more. The number is right for the
# first one that comes back, not for all. Clients add a random time to it, and a server can do the same, so that they
# come back one after another.
#
# </details>
#
# <details><summary>A stream with a seed dies with its replica after ten events. Why doesn't the ingress ask another
# replica with the same seed, drop the first ten events, and go on?</summary>
#
# How tokens are grouped into events depends on time (section 6), so it would have to count characters. And sampled
# tokens are the same only if the logits are: on a GPU, other rows in the batch can change their last bits, and with
# them a token. A whole answer may then differ from the one that was lost, and no client has seen that one. A stream
# would be the beginning of one text and the end of another.
#
# </details>
#
# <details><summary>Two ranks share a model, and by mistake each draws random numbers of its own. When is the first
# error raised?</summary>
#
# Perhaps never. From the first token that differs, the all-reduce adds up numbers of different texts. The batches still
# have the same size, until a stop token ends the request in one rank and not in the other. From then on the sizes
# differ, and both wait forever, or until NCCL's time limit.
#
# </details>
#
# <details><summary>A model fits on one GPU, and you have two. When is tensor parallelism still worth its
# all-reduces?</summary>
#
# When a step has to be short: each rank reads half of the weights, so a single request gets its tokens sooner, while a
# second replica only serves more requests. Or when requests are so long that one GPU's blocks are too few for them.
#
# </details>
#
# **Stretch tasks.** (1) In section 8, `choose` computes 106 beginnings for 60 conversations of 8 turns, with at most 10
# requests at one replica. Write a policy for `route` that computes fewer than 90 and has at most 10 at one replica,
# here and with one system prompt. (It may remember.) (2) For a thousand replicas, `choose` takes a thousand times what
# section 11 prints for one. Write one that takes a tenth of that (`seconds_to_choose` tells), with the same bound, and
# in which a replica that goes moves no beginnings but its own.

# %%
list_guesses()

# %% [markdown]
# **Further reading**
#
# - OpenAI, "API Reference": completions, chat, streaming. WHATWG HTML, "Server-sent events".
# - Little, "A Proof for the Queuing Formula: L = λW", Operations Research 1961.
# - Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 2001.
# - Thaler, Ravishankar, "A Name-Based Mapping Scheme for Rendezvous", University of Michigan 1996.
# - Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", SODA 2018.
# - Shoeybi et al., "Megatron-LM: Training Multi-Billion Parameter Language Models Using Model Parallelism", 2019.
# - Moritz et al., "Ray: A Distributed Framework for Emerging AI Applications", OSDI 2018.
# - Grattafiori et al., "The Llama 3 Herd of Models", 2024: section 3.3.4, on reliability.
