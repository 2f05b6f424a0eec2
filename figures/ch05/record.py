"""Chapter 5's measurements: two batches in flight leave no gap, and as half batches they read the weights twice."""

from functools import partial

import torch

from figures.accelerated import in_turns, ms_per_step, numbers, open_load, recorded_on
from toolkit import device
from toolkit.commands.decoding import Load, serve
from toolkit.course import use
from toolkit.recordings import Row

__all__ = ["record", "recorded_on"]

# Which loads show the price, and where it pays: (model, requests). Host work grows with the requests.
LOADS = {
    "simulated": [("", 8), ("", 32), ("", 64), ("", 128)],
    "cuda": [("8b", 32), ("8b", 128), ("1b", 32), ("1b", 128)],
}


def record(chosen: torch.device) -> dict[str, list[Row]]:
    use("solutions")
    from ch05_double_buffering.build import build

    # The picture shows the median of several runs, since a host has slow moments.
    pictured = in_turns({"two half batches": partial(serve, build, open_load())}, ms_per_step)["two half batches"]
    price = []
    for name, requests in LOADS["simulated" if device.is_simulated() else "cuda"]:
        price += compare(open_load(name, requests=requests), name)
    return {"ch05_steps": list(pictured.recording.rows()), "ch05_price": price}


def compare(load: Load, name: str) -> list[Row]:
    """The same load with one batch at a time (all requests in it) and with two half batches in turns."""
    from ch04_events.build import build as build_events
    from ch05_double_buffering.build import build

    serve(build_events, load)  # warm-up
    served = in_turns(
        {"one batch at a time": partial(serve, build_events, load), "two half batches": partial(serve, build, load)},
        ms_per_step,
    )
    return [
        {"model": name, "requests": load.requests, "engine": engine, **numbers(each)} for engine, each in served.items()
    ]
