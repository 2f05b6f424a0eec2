"""Chapter 9's measurements: where host and device cross, by rows. What a step costs the host: see figures/host_cost.

Of the H100 a second recording is kept, made on a slower host and renamed: figures/data/h100/ch09_slow_host.json.
"""

from functools import partial
from statistics import median
from typing import Any

import torch

from figures.accelerated import clock, in_turns, open_load, recorded_on
from figures.ch07.record import row_ms
from figures.host_cost.record import engines
from toolkit import device
from toolkit.commands.decoding import Load, Served, serve
from toolkit.commands.host_work import HostWork
from toolkit.course import use
from toolkit.garbage import release_memory
from toolkit.models.merge import merge_projections
from toolkit.recordings import Row
from toolkit.timeline import NO_TIMELINE
from toolkit.timeline.between_forwards import between_forwards

__all__ = ["record", "recorded_on"]

LOADS = {
    "simulated": [("", rows) for rows in (8, 32, 128, 256)],
    "cuda": [(name, rows) for name in ("1b", "135m") for rows in (32, 128, 256, 512)],
}
NEW_TOKENS = 128
TOKEN_BUDGET = 2048  # on a GPU, where there is a graph for each size of a step up to it


def record(chosen: torch.device) -> dict[str, list[Row]]:
    use("solutions")
    crossing = []
    for name, rows in LOADS["simulated" if device.is_simulated() else "cuda"]:
        crossing += compare(name, rows)
    return {"ch09_crossing": crossing}


def compare(name: str, rows: int) -> list[Row]:
    """The same decode steps through both engines; on a GPU with compiled layers, as they are used there.

    The host's work is measured in runs of its own, and has a median of its own: if it were taken from beside the median
    step, the two could disagree, since the host's speed changes from one run to the next.
    """
    load = open_load(name, requests=rows, new_tokens=NEW_TOKENS)
    options: dict[str, Any] = {"prefix_sharing": False}
    if not device.is_simulated():
        merge_projections(load.model)
        options |= {"compiled": True, "token_budget": TOKEN_BUDGET, "max_length": load.prompt_len + load.new_tokens}

    made: dict[str, Any] = {}
    hosts: dict[str, list[float]] = {name: [] for name in engines()}

    def served_by(name: str) -> Served:
        def build(model: Any, **limits: Any) -> Any:  # noqa: ANN401
            """The engine is kept: for the host's work, and on a GPU for its next run, since its graphs take longer."""
            if name not in made or device.is_simulated():
                made[name] = engines()[name](model, **(limits | options))
            return made[name]

        return serve(build, load)

    warm_up = {name: served_by(name).outputs for name in engines()}

    def run(name: str) -> Row:
        served = served_by(name)
        seen = between_forwards(served.recording)
        hosts[name].append(host_ms(made[name], load))
        return {
            "same_tokens": served.outputs == warm_up["chapter 8"],
            "device_ms": round(seen.device_ms, 4),
            "idle_share": round(seen.idle_share, 4),
            "ms_per_step": round(seen.ms, 4),
            "tokens_per_s": round(rows * 1e3 / seen.ms, 1),
            "clock": clock(),
        }

    measured = in_turns({name: partial(run, name) for name in engines()}, row_ms)
    made.clear()
    release_memory()
    return [
        {"model": name, "rows": rows, "engine": engine, "host_ms": median(hosts[engine]), **numbers}
        for engine, numbers in measured.items()
    ]


def host_ms(engine: Any, load: Load) -> float:  # noqa: ANN401
    """What a step costs the host while all rows decode. The timeline, which would cost it more, is put away."""
    from ch02_continuous_batching import SamplingParams

    engine.observers.timeline = NO_TIMELINE
    params = SamplingParams(max_tokens=load.new_tokens, ignore_eos=True)
    for i, prompt in enumerate(load.prompts):
        engine.add_request(str(i), prompt, params)
    started: set[str] = set()
    while len(started) < load.requests:
        started |= {output.request_id for output in engine.step()}
    work = HostWork(engine)
    work.steps(load.new_tokens // 2)
    while engine.has_work:
        engine.step()
    return round(median(work.ms), 4)
