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
# callers are strangers: they go away, read slowly, all come at once, and never read the documentation. Whatever they
# do, it must not cost the engine more than a little of its time. Then there are several engines, and one of them dies.
#
# - `wire.py`, `prompts.py`, `answers.py`, `streaming.py`: the OpenAI API, requests and answers
# - `mailbox.py`: from the engine's thread to the event loop (exercise 10.1)
# - `leaving.py`: a client that goes away (10.2); `admission.py`: a full server's no (10.3)
# - `guard.py`, `connections.py`, `settings.py`: what is turned away, and what may take how long
# - `app.py`, `service.py`, `serve.py`: all of it put together
# - `replicas.py`, `ingress.py`, `affine_router.py`: several engines as one server, on Ray Serve; `affinity.py`: which
#   of them gets a request (10.4)
# - `offline.py`, `offline_engine.py`, `offline_job.py`: several engines for a file of prompts, on Ray Data;
#   `answers_file.py`: nothing lost, nothing twice (10.5)
# - `tensor_parallel.py`: one model on several GPUs
#
# What has an exercise is yours, in `my/ch10_serving/`; the rest is in `solutions/ch10_serving/`.
#
# HTTP is FastAPI's and uvicorn's work here, metrics are prometheus-client's, replicas Ray's. They do it well, and this
# chapter is about the engine's side: what has to hold between them and it. Ray is large, so it has an environment of
# its own, and this notebook does without it. What was measured with Ray is read from `figures/data`, and each section
# names the command that shows it live.
#
# About two and a half hours with the five exercises. You need to have seen `async` and `await` before.

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
# Each event is a whole object with the same `id`. The last one but one has the usage, because the request asked for it,
# and `[DONE]` closes the stream, so a client knows a complete answer from one that was cut off. (There are fewer events
# than tokens: a token may bring half a character, which is held back, and tokens that come quickly share an event, see
# section 6.) The official client does all of this for you:
#
#     client = openai.OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")
#     for chunk in client.completions.create(model="tiny", prompt="The sea is", stream=True): ...
#
# What the API has and this server has not (`not_here.py`: log probabilities, tools, penalties and more) is refused by
# name. An answer that looks as if a parameter had been heeded would be worse than none:


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
# **Predict first.** 64 streams run, so each step brings 64 outputs. Chapter 8's `Server.stream` wakes the loop for each
# of them. How many wake-ups does a step need? And how long is the engine's thread held up by handing out a step's
# outputs, in either way?
#
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
    """So many streams of 40 tokens: wake-ups for each step, and how long handing its outputs over takes the engine."""
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


def in_a_loop_of_its_own(coroutine):
    """Run a coroutine to its end. (A notebook has an event loop already, so this one gets a thread.)"""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


for kind in (WakesForEach, Mailbox):
    in_a_loop_of_its_own(hand_over(kind))

# %% [markdown]
# One, at most. If the loop is still busy with the last step's outputs, a wake-up is on its way already, and it brings
# the new ones as well: so it can be less than one. (The milliseconds are the median over all steps, on whatever this
# notebook runs on.)
#
# The order of the lines is what makes it right. `hand_out` first says "no wake-up is on its way" and then looks into
# the queue. The other way round, an output that comes after the last look and before that sentence stays behind, and if
# it was the last one of its stream, for ever.
#
# ## 3. Whatever takes long does not belong in the event loop
#
# A prompt of 1 MB arrives, as large as a body may be here (`settings.py`). Tokens have to be made of it. Where? The
# event loop serves all clients; while it tokenises, it serves none.
#
# **Predict first.** Three ways: in the event loop; in a thread; in a thread, with the tokenizer's call for a list of
# texts, and a list of one. How long do all others wait, in each of them?

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


for name, make in {
    "in the event loop": in_the_loop,
    "in a thread, encode": lambda: asyncio.to_thread(backend.encode, long_text),
    "in a thread, encode_batch": lambda: asyncio.to_thread(backend.encode_batch, [long_text]),
}.items():
    wait = in_a_loop_of_its_own(longest_wait(make()))
    print(f"{name:26} all others wait for up to {wait:7.1f} ms")

# %% [markdown]
# The second is no better than the first. The library is written in Rust, and its `encode` keeps Python's lock from
# beginning to end; a thread helps only where the lock is given back. `encode_batch` gives it back. And the event loop
# would not be the only one to wait: the engine's thread needs the same lock for each of its steps. (This tokenizer is
# the simplest there is, a token for each byte. Others take longer.)
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
# In `leaving.py`, fill `unless_gone`, eleven lines: do the work, and stop it when the client has gone. `make hint
# EX=10.2`.
#
# **Predict first.** A client asks for 300 tokens, not streamed, and leaves after about 40. How many does the engine
# compute with `unless_gone`, and how many without? Without a stream nothing is sent until the end: who notices?


# %%
def leave_early(enough=40):
    """Ask for 300 tokens, and leave when the engine has made so many of them. Prints what the engine did."""
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


async def whether_gone_or_not(receive, work):
    """Does not look whether the client is still there."""
    return await work


leave_early()
unless_gone, ch10_serving.app.unless_gone = ch10_serving.app.unless_gone, whether_gone_or_not
leave_early()
ch10_serving.app.unless_gone = unless_gone

# %% [markdown]
# One token too many, or a few: what is in flight is never touched (chapter 8), and until the event loop hears of the
# closed connection a step or two go by. The second run computes all 300, and writes the answer into a closed
# connection.
#
# The hard part of 10.2 is not the stopping but the *coming to an end*. `task.cancel()` only asks. Who does not await
# the task afterwards goes on while its clean-up is still running, and never hears of an error in it.
#
# ## 5. A full server
#
# Chapter 8's gate lets callers wait outside. Inside a program that is right. Over HTTP, each one that waits holds a
# connection, and when its turn comes it has often given up and asked again. A queue that only grows helps no caller. So
# this one has a bound (`Limits.waiting`), and beyond it the answer is a clear no: status 429, and a header
# `Retry-After` with the seconds until it is worth coming back. Which seconds?
#
# Little's law, for anything that people go into and come out of: *inside = leaving per second × seconds that each
# stays*. The server counts who is inside and measures how long they stayed, so it knows how many leave per second.
#
# ### Exercise 10.3: come back later (15 minutes)
#
# In `admission.py`, fill `enter` and `retry_after`, eight lines. `make hint EX=10.3`.
#
# **Predict first.** There are 20 places, all taken, and each request stays for 12 seconds. What does a request for one
# answer read in `Retry-After`? One for 10 answers (`n=10`)? One for 21?

# %%
clock = iter(range(0, 1000, 12))  # a clock by which each request stays for 12 seconds
admission = Admission(20, lambda: next(clock))
admission.leave(admission.enter(1))
admission.enter(20)
for count in (1, 10, 21):
    try:
        admission.enter(count)
    except ApiError as error:
        print(f"{count:2} answers: {error.status_code}, {error.headers}: {error.detail}")

# %% [markdown]
# 20 requests leave in 12 seconds, so one leaves every 0.6 s; the header has whole seconds, hence 1, and 6 for ten. More
# than there are places will never fit: that is the request's mistake (400), and coming back would not help.
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
# A chunk for each token would be too many. Each one is a text to decode, JSON to write and a socket to call, and the
# event loop has Python's lock for all of that. So all streams together share a number of chunks per second, and each
# gets the tokens of some steps in one chunk. A single stream still gets every token as it comes.
#
# From that, something follows for slow readers. While a client does not read, its tokens gather, and the next chunk has
# all of them. The server waits for the client's connection; the engine does not wait at all.
#
# **Predict first.** Two clients ask for eight answers of 400 tokens. One reads at once. The other one rests until the
# engine has made its last token, and reads then. How many events does each get, and does the quick one wait for the
# slow one?


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
    print("the one that rests:        ", stream_events(slow), "events")

# %% [markdown]
# The first events of the slow one were on their way before its connection was full; all that came later is in one event
# for each of its eight answers. What waits in the server for a slow reader is its own outputs, and never more than it
# has asked for. If it does not read at all, its connection is closed after a minute (`Limits.stall`).
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
if all(row["simulated"] for recording in recorded("ch10_http") for row in recording["rows"]):
    print("on a GPU: not recorded yet; make record CH=10 DEVICE=cuda")

# %%
for picture in recorded_figures("ch10", "ch10_http"):
    display(picture)

# %% [markdown]
# (On a CPU's cores, which other programs use as well, a few per cent either way are chance.)
#
# Whole answers are cheap: the event loop hears of a request's first output and of its last. Streams cost more, and not
# because of the wake-ups. Each chunk is a text to decode, an object, JSON, a write to a socket; and for as long as that
# takes, the engine cannot go on.
#
# What else could be done? More threads would not help, since all need the one lock. A second *process* has a lock of
# its own. vLLM and SGLang have tokenizer, detokenizer and HTTP in processes beside the engine's, which exchange whole
# steps with it over a socket: the engine's process then pays one message a step, whatever the clients do. It costs a
# core, and a second copy of everything that must be known on both sides (who is running, who has been cancelled). This
# course's engine stays in one process, because it can be read so. On a GPU the host's own work for a step takes less
# time than the device does (chapter 9), and what is left of the step is the event loop's. How much that helps is what a
# recording on a GPU will show.
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
for recording in recorded("replicas_hop"):
    print(f"{recording['device']}, {recording['command']}")
    for row in recording["rows"]:
        print(f"    {row['way']:10} median {row['median_ms']:5.1f} ms, 95 % below {row['p95_ms']:5.1f}", end="; ")
        print(f"on a connection that is kept {row['kept_median_ms']:5.1f}", end="")
        front = (
            f"\n               {row['front_processes']} processes in front compute {row['front_cpu_ms']} ms for a call"
        )
        print(front if row["front_processes"] else "")

# %% [markdown]
# On its way a call is read as HTTP by the proxy, handed to the ingress, read there, and handed to a replica as a Python
# object; its answer takes the same way back, message by message. For an answer that takes a second that hardly counts.
# But it is work for each call *and each chunk*, in the same two processes for all replicas; section 11 comes back to
# it.
#
# (Why is a kept connection slower with Serve, and not faster? An answer is written in two pieces, head and body. The
# system holds the second one back until the client has acknowledged the first, and the client's system is in no hurry
# to do so: Nagle's algorithm meets delayed acknowledgements. This chapter's server did the same until it was measured.
# `connections.py` switches it off, in `connection_made`.)
#
# ### A replica dies
#
# A process is killed, because memory was short, or a GPU has fallen off its bus. Its requests are gone. What they asked
# for is not: the ingress has it. So it can ask another replica. The answer is then *the same* as if nothing had
# happened, provided that all that is random about it was decided in front: a request without a seed gets one in the
# ingress. And it works as long as the client has *seen nothing* of the answer. A stream of which it has seen the
# beginning ends with an error event, never without a word.
#
# **Predict first.** Two replicas, and the one that is at work gets a SIGKILL. What does a client see that waits for a
# whole answer? What does one see that has read half of a stream?
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
seeds, answer = in_a_loop_of_its_own(through_an_ingress(sampled | {"seed": None, "stream": True}, 4))
print(f"a stream, and no seed; sent with the seed: {seeds}; its last event:")
print(answer.strip().splitlines()[-1])

# %% [markdown]
# With Ray, whose processes are really killed, and with an engine that hangs: its process is alive, and no step of it
# ever ends. That raises nothing anywhere. So a second thread looks whether there are steps while there are requests
# (`watchdog.py`), and ends the process if there have been none for long; then it is a death like any other.
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
# A request is repeated once. If it was this request that has killed the replica, it must not kill them all. (Chapter
# 8's `culprit.py` had the same thought about steps.)
#
# ### Which replica?
#
# *Least loaded* is what Serve does by itself: two replicas at random, and of these the one with fewer requests ("power
# of two choices"). That is nearly as good as looking at all of them. But an engine knows the beginnings of its own
# requests only (chapter 8, section 4): a conversation that goes on at another replica is computed there from its first
# token. So what begins alike should go to the same replica, without a table of who is where.
#
# *Rendezvous hashing* gives each pair of a beginning and a replica a number. The highest one wins: that replica is the
# beginning's home.
#
# **Predict first.** 8 replicas have 1,000 beginnings. One replica goes. How many beginnings get another home, if the
# home is `hash(beginning) % N`, and how many with rendezvous hashing?
#
# ### Exercise 10.4: the same beginning, the same replica (15 minutes)
#
# In `affinity.py`, fill `ranking` and `choose`, three lines. `make hint EX=10.4`.

# %%
import hashlib
import random

replicas = [f"replica {i}" for i in range(8)]
keys = [f"conversation {i}".encode() for i in range(1000)]


def modulo(key, replicas):
    return replicas[int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") % len(replicas)]


def rendezvous(key, replicas):
    return ranking(key, replicas)[0]


for home in (modulo, rendezvous):
    moved = sum(home(key, replicas) != home(key, replicas[:-1]) for key in keys)
    print(f"{home.__name__:10} {moved:4} of {len(keys)} beginnings get another home when one of 8 replicas goes")

# %% [markdown]
# Only those move that had their home there, and each to the next one in its own order, so they spread over all the
# others. What remains: if all requests have the same system prompt, all go to one replica. So `choose` passes over a
# replica that has a quarter more than its share. The three policies, with 32 requests inside at a time, on four
# replicas; each first sight of a beginning at a replica is one that has to be computed:


# %%
def least_loaded(key, loads):
    return min(draw.sample(sorted(loads), 2), key=loads.get)


def always_home(key, loads):
    return ranking(key, loads)[0]


def route(policy, keys, inside=32):
    """What comes of sending these requests to four replicas, by a policy, so many inside at a time."""
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
# At home all the time is cheapest, and most uneven. `choose` computes some beginnings twice, and for that no replica
# has more than a quarter above its share. `make serve-ray AFFINE=1` has it, as a policy of Serve's own
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
#   day, not a burst. For the burst there are queue and 429.
# - `downscale_delay_s` (600 s): a replica that goes takes the prefixes in its blocks with it.
#
# ## 9. Offline: do not drain, and lose nothing
#
# A file of prompts has no client that waits. It is cut into slices, and engines take slice after slice. That looks like
# the simplest of all loads, and it brings back chapter 1's waste. Whoever hands in a slice and waits for it lets the
# engine *drain*: rows end one by one, their places stay empty, and the next slice comes when the last one has ended.
#
# **Predict first.** 16 rows in a step, slices of 16, answers of at most 160 tokens of which some end early. How many
# tokens does a step bring on average, if one slice is inside at a time? If there are two? Three?

# %%
for recording in recorded("ch10_offline"):
    print(f"{recording['device']}, {recording['command']}")
    for row in recording["rows"]:
        same = "the same answers" if row["same_answers"] else "OTHER ANSWERS"
        print(
            f"    {row['calls']} at a time: {row['steps']:5,} steps, {row['tokens']:6,} tokens, "
            f"{row['tokens_per_step']:5.2f} a step; {same}"
        )
for picture in recorded_figures("ch10", "ch10_offline"):
    display(picture)

# %% [markdown]
# With two, the rows of the second fill the gaps of the first. With three there is always a whole slice that waits. On a
# GPU a step costs nearly the same with 4 rows as with 16 (chapter 1), so what matters is the number of steps.
# `offline.py` has three calls at a time in each engine; chapter 9's engine needed no change for it, since it takes
# requests at any time.
#
# A run of hours is cut short now and then. Afterwards the file must hold rows 1 to k, whole, for some k, and the next
# run goes on with k + 1. Two things break that: a line that is torn, and a write that is short.
#
# ### Exercise 10.5: nothing lost, nothing twice (30 minutes)
#
# In `answers_file.py`, fill `resume` and `append`, 20 lines. `make hint EX=10.5`.

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
# stop it in any way you like, and call it again. Beside the answers lies a file that says how they were made; with
# another model or another number of tokens the run refuses to go on.
#
# ## 10. One model on several GPUs
#
# Replicas need a model that fits on one GPU. If it does not, each GPU gets a *share of every layer*, and all compute
# every step together: tensor parallelism. Where the model does fit, two replicas serve more than one model in two
# shares.
#
# The trick is where to cut (Megatron-LM): the first matrix between its rows, the second between its columns. Then each
# rank computes its part of the middle all by itself, and what comes out is one part of a sum.

# %%
torch.manual_seed(0)
x, up, down = torch.randn(3, 64), torch.randn(256, 64), torch.randn(64, 256)
whole = torch.relu(x @ up.T) @ down.T
parts = [torch.relu(x @ up[share].T) @ down[:, share].T for share in (slice(0, 128), slice(128, 256))]
print("one rank alone is off by", f"{(parts[0] - whole).abs().max():.1f};", end=" ")
print("the sum of both by", f"{(parts[0] + parts[1] - whole).abs().max():.5f}")

# %% [markdown]
# The sum is an *all-reduce*, twice a layer: once behind the attention, whose heads are shared out in the same way, once
# behind this. Each rank keeps keys and values of its own heads only, so N GPUs have room for N times the tokens.
#
# Two processes that talk through gloo, each with half of the tiny model, and their answers beside those of one process.
# (The transformers library needs the package accelerate for it, which the course's environment has not. With it, this
# cell runs them; from a terminal, `.venv-ray/bin/python -m torch.distributed.run --nproc-per-node 2 -m
# toolkit.commands.tensor_parallel` does.)

# %%
import importlib.util

if importlib.util.find_spec("accelerate"):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "toolkit.commands.tensor_parallel", "--model", "tiny"]
    print(subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout)
else:
    print("accelerate is not installed here; recorded:")
    for recording in recorded("replicas_ranks"):
        print(f"{recording['device']}, torch {recording['torch']}, {recording['command']}")
        for row in recording["rows"]:
            print(f"    {row['said']}")


# %% [markdown]
# **Predict first.** Every rank has an engine of its own, with scheduler, blocks and all. An all-reduce has no name: the
# first of one rank meets the first of the other. What happens if rank 0's batch has a row that rank 1's has not? And
# which decisions of an engine could differ from rank to rank, though all have the same requests?
#
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
# Numbers of different requests are added up, if the sizes happen to agree, and nothing is raised anywhere. If they do
# not agree, all wait for ever. So *all ranks must form the same batch at every step*. With one batch at a time they
# could compare before each step. An asynchronous engine launches N + 1 before any rank knows what N brings: it cannot
# be taken back, and a question to all in each step is the very wait that asynchrony was to avoid. So what a scheduler
# does must follow from requests and tokens alone.
#
# - Tokens are equal: all ranks sample from the same logits with the same random numbers (chapter 2's came from seed and
#   position, so there is no state that could drift apart).
# - *Time* differs: which request joins before which step, which is cancelled. Rank 0 decides, and tells the others
#   beforehand (`serve_together`).
# - An engine that asks "is the batch done already?" and goes on if it is not also decides by time. Chapter 7's never
#   asks: it commits N after it has launched N + 1, whether N was early or late.
#
# ## 11. What breaks first on the way to a thousand GPUs, and what a million tokens cost
#
# Nothing in this course was measured on a thousand GPUs. But much of what would happen there can be computed from what
# was measured on one, and from what one process in front of the replicas can take. Set your own numbers in the next
# cell, and run it again.
#
# **Predict first.** Which part is full first when GPUs are added: the processes in front, the router, the loading of
# models, or does the hardware fail first?

# %%
PRICE = 1.00  # of one GPU for an hour, in whatever you pay with
BUSY = 0.6  # share of the hours that you pay for in which there is work
ANSWER = 256  # tokens
GB_PER_S = 10.0  # that a shared store gives to all who load a model from it
PATIENT = 10 * 60  # seconds that loading may take when all start at once
# Llama 3 (Grattafiori et al. 2024): 419 unexpected interruptions in 54 days on 16,384 H100s
GPU_HOURS_TO_A_FAILURE = 16_384 * 54 * 24 / 419


def peers():
    """Recorded throughput of this course's engine, asynchronous and compiled: (device, rows of the recording)."""
    for recording in recorded("peers"):
        ours = [row for row in recording["rows"] if (row["engine"], row["mode"]) == ("ours", "async")]
        yield recording["device"], [row for row in ours if row["compiled"] and row["workload"] == "equal"]


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
for what, count in sorted(limits.items(), key=lambda item: item[1]):
    print(f"{count:6,} GPUs: {what}")
print(f"a thousand GPUs: a failure every {GPU_HOURS_TO_A_FAILURE / 1000:.0f} hours")

# %% [markdown]
# The costs are those of the engine alone; HTTP adds what section 7 shows. The list is to be read from the top. (The
# front's figure is that of the CPU named in section 8, for answers of one token; longer ones and streams cost it more.)
#
# 1. **The front.** A core that reads, routes and relays each call is full long before the GPUs are many. It has no
#    state, so there can be many of it: Serve starts a proxy on every machine (`proxy_location="EveryNode"`), and the
#    ingress can have replicas itself. Beyond that, calls should not pass through Python twice: a load balancer in front
#    of the replicas' own HTTP.
# 2. **The router.** Our affine router ranks all replicas for each call. A thousand of them need either a tree (first
#    the group, then the replica), or a few candidates for each beginning, of which the least loaded is taken. And many
#    routers know the load only from what they have sent themselves; with power of two choices that is good enough.
# 3. **Loading.** When all start at once, they read the same file at once. Machines that have it pass it on.
# 4. **Failures.** With one GPU they are an accident; with a thousand they are part of the week. What section 8 shows
#    has to hold for each of them, and with tensor parallelism one GPU takes its whole group along.
#
# What does *not* break is the engine. No replica knows of any other: each has its own rows, blocks, mailbox and door. A
# thousand of them are as fast as one, times a thousand, as long as what is in front of them keeps up.
#
# ## 12. What this step cost
#
# - **Speed.** The event loop's share of the engine's process (section 7), paid in full only by streams.
# - **Code.** More lines than any chapter before, and hardly any of them about tokens. Most say what happens when
#   something is wrong.
# - **A private name of Ray's.** `local_ray.py` replaces one function of Serve, so that it listens on loopback only.
#   Each new version of Ray has to be looked at; a test does.
# - **Not offered**: TLS (a proxy's work), accounts and quotas, several models in one server, prefill and decode on
#   different GPUs.
#
# You began with a loop and a GPU that waited for each other. Now neither waits, the engine serves whoever comes, and it
# gets over what can be got over. The next step is yours.
#
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
