"""Chapter 7's measurements: every request in every batch without gaps, what that is worth, what the over-run costs."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch

from figures.accelerated import clock, in_turns, ms_per_step, open_load, recorded_on
from toolkit import device
from toolkit.commands.decoding import Load, serve
from toolkit.course import use
from toolkit.garbage import release_memory, short_collections
from toolkit.recordings import Row
from toolkit.timeline import Recording
from toolkit.timeline.between_forwards import between_forwards

__all__ = ["record", "recorded_on"]

LOADS = {
    "simulated": [("", 8), ("", 32), ("", 128)],
    "cuda": [("8b", 8), ("8b", 32), ("8b", 128), ("1b", 32), ("1b", 128)],
}

# The over-run: many requests through fewer rows, so that a wasted row keeps a request waiting. One token in
# so many ends its sequence. Which ones is drawn beforehand, so that both orders serve the same load: left to the ids
# that are sampled, it would depend on the last bits of the scores, and on a GPU those depend on who shares a batch.
OVERRUN_REQUESTS, OVERRUN_ROWS, OVERRUN_TOKENS = 64, 16, 128
EOS_ONE_IN = (4, 16, 64)


def record(chosen: torch.device) -> dict[str, list[Row]]:
    use("solutions")
    from ch07_carry_over.build import build

    # The picture shows the median of several runs, since a host has slow moments.
    pictured = in_turns({"asynchronous": partial(serve, build, open_load())}, ms_per_step)["asynchronous"]
    engines = []
    for name, requests in LOADS["simulated" if device.is_simulated() else "cuda"]:
        engines += compare(open_load(name, requests=requests), name)
    load = replace(open_load(requests=OVERRUN_REQUESTS, new_tokens=OVERRUN_TOKENS), new_tokens=OVERRUN_TOKENS)
    return {"ch07_steps": list(pictured.recording.rows()), "ch07_engines": engines, "ch07_overrun": overrun(load)}


def compare(load: Load, name: str) -> list[Row]:
    """The same load with one batch at a time, two half batches, and this chapter's engine in both orders."""
    from ch04_events.build import build as build_events
    from ch05_double_buffering.build import build as build_half_batches
    from ch07_carry_over.build import build

    engines: dict[str, Callable[..., Any]] = {
        "one batch at a time": build_events,
        "two half batches": build_half_batches,
        "asynchronous": build,
        "asynchronous=False": partial(build, asynchronous=False),
    }
    right = serve(build_events, load).outputs  # warm-up, too

    def run(build: Callable[..., Any]) -> Row:
        made: list[Any] = []

        def remember(*arguments: Any, **limits: Any) -> Any:  # noqa: ANN401
            made.append(build(*arguments, **limits))
            return made[0]

        served = serve(remember, load)
        steps = made.pop().num_steps
        release_memory()
        return {
            "wrong_share": round(served.wrong_share(right), 4),
            "steps": steps,
            **per_step(served.recording, load.requests * load.new_tokens / steps),
            "clock": clock(),
        }

    measured = in_turns({engine: partial(run, build) for engine, build in engines.items()}, row_ms)
    return [
        {"model": name, "requests": load.requests, "engine": engine, **numbers} for engine, numbers in measured.items()
    ]


def row_ms(row: Row) -> float:
    """What the median of several runs is taken of."""
    return cast(float, row["ms_per_step"])


def per_step(recording: Recording, tokens_per_step: float) -> dict[str, float]:
    """Figures of the steady state as part of a row, see `toolkit.timeline.between_forwards`."""
    seen = between_forwards(recording)
    return {
        "idle_share": round(seen.idle_share, 4),
        "host_ms_per_step": round(seen.host_ms, 4),
        "ms_per_step": round(seen.ms, 4),
        "tokens_per_s": round(tokens_per_step * 1e3 / seen.ms, 2),
    }


def overrun(load: Load) -> list[Row]:
    """A load whose requests end with an end-of-sequence token: rows sampled, and rows dropped at commit."""
    if not device.is_simulated():
        run_to_eos(load, EOS_ONE_IN[0], asynchronous=True)  # warm-up
    rows: list[Row] = []
    for one_in in EOS_ONE_IN:
        orders = {"synchronous": False, "asynchronous": True}
        runs = {name: partial(run_to_eos, load, one_in, order) for name, order in orders.items()}
        rows += in_turns(runs, row_ms).values()
    return rows


def answer_lengths(requests: int, one_in: int) -> list[int]:
    """After how many tokens each request ends, if each token ends it with a probability of 1 / one_in.

    The distribution's quantiles at even distances, in a random order: no luck decides how long they are on average.
    """
    going_on = math.log(1 - 1 / one_in)
    lengths = [math.ceil(math.log(1 - (i + 0.5) / requests) / going_on) for i in range(requests)]
    random.Random(0).shuffle(lengths)
    return lengths


def run_to_eos(load: Load, one_in: int, asynchronous: bool) -> Row:
    """Run a load to its end; each request's last token is an end-of-sequence token, unless it reaches the limit."""
    if device.is_simulated():
        device.accelerator.reset("eager", on_race="raise")
    from ch02_continuous_batching import Batch, FinishReason, RequestBook, RequestOutput, SamplingParams
    from ch08_full_engine.museum.build import async_engine

    lengths = answer_lengths(load.requests, one_in)
    eos = load.model.config.vocab_size  # an id that the model cannot sample; the device never sees it

    sampled = 0

    class CountingBook(RequestBook):
        def commit_tokens(self, batch: Batch, token_ids: Sequence[int]) -> Sequence[RequestOutput]:
            nonlocal sampled
            sampled += len(token_ids)
            ids = list(token_ids)
            for place, row in enumerate(batch.sampling_rows):
                if len(row.request.output_ids) + 1 == lengths[int(row.request.request_id)]:
                    ids[place] = eos
            return super().commit_tokens(batch, ids)

    limits = load.limits | {"max_rows": OVERRUN_ROWS, "token_budget": OVERRUN_ROWS * load.prompt_len}
    engine = async_engine(load.model, book=CountingBook, **limits)
    engine.max_in_flight = 2 if asynchronous else 1
    engine.book.eos_ids = {eos}
    for i, prompt in enumerate(load.prompts):
        engine.add_request(str(i), prompt, SamplingParams(max_tokens=load.new_tokens))
    outputs: list[RequestOutput] = []
    with short_collections():
        start = device.now_ms()
        while engine.has_work:
            outputs += engine.step()
        device.accelerator.synchronize()
        ms = device.now_ms() - start
    row: Row = {
        "eos_one_in": one_in,
        "asynchronous": asynchronous,
        "requests": load.requests,
        "rows": OVERRUN_ROWS,
        "ended_by_eos": sum(output.finish_reason is FinishReason.EOS for output in outputs),
        "tokens": len(outputs),
        "sampled": sampled,
        "dropped": sampled - len(outputs),  # every row that is not dropped gives an output of one token
        "steps": engine.num_steps,
        "ms_per_step": round(ms / engine.num_steps, 4),
        "tokens_per_s": round(len(outputs) * 1e3 / ms, 2),
        "clock": clock(),
    }
    del engine
    release_memory()
    return row
