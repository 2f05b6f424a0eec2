"""Chapter 10's measurements: what HTTP costs the engine, and how full its steps are offline (offline.py).

The same requests are served in process, where a loop calls `step`; over HTTP with answers as a whole; and over HTTP as
streams. The clients are a process of their own. All times are on the real clock, also where the GPU is simulated: what
is looked for is how much of the host HTTP takes away from the engine.

`steady_tokens_per_s` is the speed while all requests run; `tokens_per_s` is that of the whole run, in which they come
and go: over HTTP they come one after the other, at one or two milliseconds each.
"""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from figures.ch10 import offline
from figures.ch10.clients import prompt
from figures.ch10.notes import noted
from toolkit import device
from toolkit.course import use
from toolkit.garbage import release_memory, short_collections
from toolkit.models import load_model
from toolkit.models.merge import merge_projections
from toolkit.recordings import ROOT, Row

CALLS = 64
PROMPT_LENGTH = 32
ROUNDS = 3
BLOCK_SIZE = 16
NEW_TOKENS = {"tiny": 96, "1b": 2048, "8b": 512}  # long enough for the calls to be all there for most of a run
MODELS = {"simulated": ("tiny",), "cuda": ("1b", "8b")}


def record(chosen: torch.device) -> dict[str, list[Row]]:
    use("solutions")
    kind = "simulated" if device.is_simulated() else "cuda"
    rows = []
    for name in MODELS[kind]:
        rows += compare(name, CALLS, NEW_TOKENS[name])
        release_memory()  # the engine's graphs and cache, before the next one is made
    return {"ch10_http": rows, "ch10_offline": offline.compare()}


def compare(name: str, calls: int, new_tokens: int) -> list[Row]:
    """One engine, three ways to ask it, in turns; of each the run of the median time."""
    torch.set_num_threads(1)
    engine, tokenizer = make_engine(name, calls, new_tokens)
    ways = {
        "in process": partial(in_process, engine, calls, new_tokens),
        "HTTP, answers as a whole": partial(over_http, engine, tokenizer, calls, new_tokens, stream=False),
        "HTTP, streams": partial(over_http, engine, tokenizer, calls, new_tokens, stream=True),
    }
    for run in ways.values():  # what happens for the first time takes longer
        run()
    runs: dict[str, list[Row]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, run in ways.items():
            runs[way].append(run())
    shared: Row = {"model": name, "calls": calls, "new_tokens": new_tokens, "simulated": device.is_simulated()}
    return [{**shared, "way": way, "clock": "real", **median(mine)} for way, mine in runs.items()]


def median(runs: list[Row]) -> Row:
    """The run of the median speed."""
    return sorted(runs, key=lambda row: cast(float, row["steady_tokens_per_s"]))[len(runs) // 2]


def make_engine(name: str, calls: int, new_tokens: int) -> tuple[Any, Any]:
    """Chapter 9's engine with room for all calls, and a tokenizer."""
    from ch09_persistent_batch import PersistentEngine

    longest = PROMPT_LENGTH + new_tokens
    limits: dict[str, Any] = {"max_rows": calls, "block_size": BLOCK_SIZE, "max_length": longest, "stream_text": False}
    limits |= {"num_blocks": calls * (2 - (-longest // BLOCK_SIZE)), "prefix_sharing": False}
    if device.is_simulated():
        device.accelerator.reset("threads", on_race="collect")
        loaded = load_model(name)
    else:
        loaded = load_model(name, device="cuda")
        merge_projections(loaded.model)
        limits |= {"compiled": True, "token_budget": 2048}
    tokenizer = loaded.tokenizer or tokenizer_for(loaded.model.config.vocab_size)
    loaded.model.generation_config.eos_token_id = None  # all requests are of one length
    engine = PersistentEngine(loaded.model, tokenizer, **limits)
    engine.step = noted(engine.step)  # type: ignore[method-assign]
    return engine, tokenizer


def speeds(engine: Any, calls: int, tokens: int, seconds: float) -> Row:  # noqa: ANN401
    """Numbers of the run that the engine's notes are of; they are taken away."""
    notes, engine.step.notes[:] = list(engine.step.notes), []
    full = [time for time, count in notes if count == calls]
    return {
        "tokens": tokens,
        "steps": len(notes),
        "tokens_per_s": round(tokens / seconds, 1),
        "steady_tokens_per_s": round(calls * (len(full) - 1) / (full[-1] - full[0]), 1),
    }


def tokenizer_for(vocab_size: int) -> PreTrainedTokenizerFast:
    """A word for each token, for a model that has random weights and no tokenizer."""
    tokenizer = Tokenizer(models.BPE(vocab={f"word{i} ": i for i in range(vocab_size)}, merges=[]))
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)


def in_process(engine: Any, calls: int, new_tokens: int) -> Row:  # noqa: ANN401
    from ch02_continuous_batching import SamplingParams

    start, tokens = time.perf_counter(), 0
    for call in range(calls):
        engine.add_request(str(call), prompt(call, PROMPT_LENGTH), SamplingParams(max_tokens=new_tokens))
    with short_collections():
        while engine.has_work:
            tokens += sum(len(output.new_token_ids) for output in engine.step())
    return speeds(engine, calls, tokens, time.perf_counter() - start)


def over_http(engine: Any, tokenizer: Any, calls: int, new_tokens: int, stream: bool) -> Row:  # noqa: ANN401
    command = [sys.executable, "-m", "figures.ch10.clients"]
    with serving(engine, tokenizer, calls) as (port, look):
        arguments = [str(each) for each in (port, calls, PROMPT_LENGTH, new_tokens)] + ["stream"] * stream
        before = look()
        done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
        after = look()
    seen = json.loads(done.stdout)
    wake_ups, loop_seconds = (b - a for a, b in zip(before, after, strict=True))
    row = speeds(engine, calls, seen["tokens"], seen["seconds"])
    return {
        **row,
        "wake_ups_per_step": round(wake_ups / cast(int, row["steps"]), 3),
        "tokens_per_chunk": round(seen["tokens"] / max(seen["chunks"], 1), 2),
        "first_chunk_ms": round(seen["first_s"] * 1e3, 1),
        "loop_share": round(loop_seconds / seen["seconds"], 4),
    }


@contextmanager
def serving(engine: Any, tokenizer: Any, calls: int) -> Iterator[tuple[int, Callable[[], tuple[float, ...]]]]:  # noqa: ANN401
    """The port of a server in a thread, and a look at it: its wake-ups, and its event loop's seconds of CPU."""
    from ch10_serving import Limits, Service, listen, server_for

    service, started = Service(engine, tokenizer, "measured", calls), threading.Event()
    listening = listen("127.0.0.1", 0)
    server = server_for(service, "127.0.0.1", None, Limits(), started.set)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
    port = listening.getsockname()[1]
    thread.start()
    started.wait()
    mailbox, wake_ups = service.mailbox, 0
    hand_out = mailbox.hand_out

    def counted() -> None:
        nonlocal wake_ups
        wake_ups += 1
        hand_out()

    mailbox.hand_out = counted  # type: ignore[method-assign]

    async def loop_seconds() -> float:
        return time.thread_time()

    def look() -> tuple[float, ...]:
        seconds = asyncio.run_coroutine_threadsafe(loop_seconds(), mailbox.loop).result()
        return wake_ups, seconds

    try:
        yield port, look
    finally:
        server.should_exit = True
        thread.join()
