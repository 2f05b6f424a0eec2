"""One engine in a process of its own, which serves a load whenever it is told to, and says what it saw.

    python -m figures.several_gpus.engine MODEL ROWS NEW_TOKENS

It takes the first GPU that it can see. Lines of stdin are commands: "get ready" collects the garbage, which takes now
longer and now less long, "run" then serves all requests once, and "activity" looks how busy the GPU is
(toolkit/commands/bench/activity.py). Each is answered with a line of JSON; one more, when the engine is built, comes
first.
"""

import json
import sys
import time
from dataclasses import asdict
from typing import Any

import torch

from toolkit import device
from toolkit.commands.bench.cases import Case
from toolkit.commands.bench.engine_runner import EngineSpec, Models
from toolkit.commands.bench.ours import OurEngine
from toolkit.course import use
from toolkit.garbage import short_collections
from toolkit.models.shapes import SHAPES


def main(model: str, rows: int, new_tokens: int) -> None:
    use("solutions")
    torch.set_num_threads(1)  # with several engines on one host, more would wait for each other
    simulated = device.is_simulated()
    case = Case(model, "equal", new_tokens, SHAPES[model].vocab_size, batch=rows)
    who = EngineSpec.named("ours-async" if simulated else "ours-async-compiled")
    engine = OurEngine(who, Models("cpu" if simulated else "cuda"))
    engine.prepare(case)
    say({"attention": engine.attention})
    while line := sys.stdin.readline().strip():
        if line == "activity":
            say(asdict(engine.activity(case)))
            continue
        with short_collections():
            say({"ready": True})
            sys.stdin.readline()
            say(served(engine, case))


def served(engine: OurEngine, case: Case) -> dict[str, Any]:
    """One run. Its moments are those of the system's clock, which all processes share."""
    start = time.time()
    run = engine.run(case)
    return {"start": start, "end": start + run.seconds, "tokens": run.tokens, "steps": run.steps, "active": run.active}


def say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
