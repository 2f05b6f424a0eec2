"""Chapter 4's measurements: three events, each of them left out in turn, and no gain in speed."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from figures.accelerated import (
    RUNS,
    engine_with,
    in_turns,
    ms_per_step,
    numbers,
    one_stream_engine,
    open_load,
    opened,
    policies,
    recorded_on,
)
from figures.ch03.record import WIDEN_MS, count_races
from toolkit import device
from toolkit.commands.decoding import Load, Served, serve
from toolkit.course import use
from toolkit.recordings import Row

__all__ = ["record", "recorded_on"]

EVENTS = ("h2d_done", "compute_done", "d2h_done")


def record(chosen: torch.device) -> dict[str, list[Row]]:
    use("solutions")
    load = open_load()
    speeds, steps = engines(load)
    rows: dict[str, list[Row]] = {
        "ch04_engines": speeds,
        "ch04_steps": steps,
        "ch04_eager_steps": list(serve_eager(load).recording.rows()),
    }
    del load
    rows["ch04_edges"] = edges(open_load("1b", new_tokens=16))
    return rows


def engines(load: Load) -> tuple[list[Row], list[Row]]:
    """One stream, three streams without order, and three streams with events: speed and wrong tokens.

    Returns also the steps of the last one: of the same run, so that the picture shows what the table says.
    """
    from ch03_streams.build import build as build_streams
    from ch04_events.build import build

    right = serve(one_stream_engine(), load).outputs  # warm-up, too
    served = in_turns(
        {
            "one stream": partial(serve, one_stream_engine(), load, "random:0"),
            "three streams": partial(serve, build_streams, load, "random:0"),
            "three streams and events": partial(serve, build, load, "random:0"),
        },
        ms_per_step,
    )
    rows: list[Row] = [
        {"engine": name, "wrong_share": round(each.wrong_share(right), 4), **numbers(each)}
        for name, each in served.items()
    ]
    return rows, list(served["three streams and events"].recording.rows())


def serve_eager(load: Load) -> Served:
    """Chapter 4's engine with the forward launched kernel by kernel."""
    from ch02_continuous_batching import Batch
    from ch03_streams import IOBuffers
    from ch04_events import EventExecutor

    class EagerExecutor(EventExecutor):
        def run(self, batch: Batch, buffers: IOBuffers) -> None:
            with opened(self.forward):
                super().run(batch, buffers)

    return serve(engine_with(EagerExecutor), load)


def engine_without(missing: str | None, late_ms: float) -> Callable[..., Any]:
    """Chapter 4's engine without one of its events; the work that the event marks comes late."""
    from ch02_continuous_batching import Batch
    from ch03_streams import IOBuffers
    from ch04_events import EventExecutor

    class MissingEdgeExecutor(EventExecutor):
        def queue(self, batch: Batch, buffers: IOBuffers) -> None:
            with device.accelerator.stream(self.h2d):
                self.come_late("h2d_done")
                self.copy_in(batch, buffers)
                buffers.h2d_done.record()
            with device.accelerator.stream(self.compute):
                if missing != "h2d_done":
                    self.compute.wait_event(buffers.h2d_done)
                self.come_late("compute_done")
                self.run(batch, buffers)
                buffers.compute_done.record()
            with device.accelerator.stream(self.d2h):
                if missing != "compute_done":
                    self.d2h.wait_event(buffers.compute_done)
                self.come_late("d2h_done")
                self.copy_out(batch, buffers)
                buffers.d2h_done.record()

        def come_late(self, event: str) -> None:
            if event == missing and late_ms:
                device.sleep(late_ms)

        def wait(self, batch: Batch, buffers: IOBuffers) -> Sequence[int]:
            if missing == "d2h_done":
                return buffers.read_ids(len(batch.sampling_rows))
            return super().wait(batch, buffers)

    return engine_with(MissingEdgeExecutor)


def edges(load: Load) -> list[Row]:
    """Which missing event goes unnoticed with luck, and what happens when luck runs out."""
    right = serve(one_stream_engine(), load).outputs
    rows: list[Row] = []
    for missing in (None, *EVENTS):
        for late_ms in (0.0, WIDEN_MS):
            build = engine_without(missing, late_ms)
            for run, policy in zip(range(RUNS), policies(late_ms > 0), strict=True):
                served = serve(build, load, policy)
                rows.append(
                    {
                        "missing": missing or "none",
                        "run": run,
                        "policy": policy if device.is_simulated() else None,
                        "late_ms": late_ms,
                        "wrong_share": round(served.wrong_share(right), 4),
                        "races": count_races(),
                        **numbers(served),
                    }
                )
    return rows
