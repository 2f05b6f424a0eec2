"""What a step costs the host at 1 to 512 rows, on the host's own clock: the engines of chapters 8 and 9.

Every step decodes, with a short and with a longer context in each row. Waiting for the device does not count. On a GPU
the shape of 135 million parameters computes. Elsewhere nothing does, and nothing is queued: the simulated GPU's own
bookkeeping, one Python call after the other, would drown what is measured here. Such rows say `"queued": false`.

One engine of each chapter, with room for the most rows, serves all loads. Its limits are part of the cost: the packed
inputs go to the device as a whole, however few the rows.
"""

import statistics
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import torch

from figures.host_cost.timed_engine import PHASES, PIECES, new_tokens, timed_engine, unsimulated
from toolkit import device
from toolkit.commands.decoding import BLOCK_SIZE
from toolkit.course import use
from toolkit.garbage import short_collections
from toolkit.models import load_model
from toolkit.recordings import Row
from toolkit.timeline.recording import WAIT

ROWS = (1, 8, 32, 128, 256, 512)
CONTEXTS = (256, 1024)  # tokens of each row, a few more or less
STEPS = 60  # measured; the median of them counts
ROUNDS = 5  # in which all points take turns; of each point the run with the median cost counts
WORDS = "The batch persists, and a step edits it. "


def record(chosen: torch.device) -> dict[str, list[Row]]:
    use("solutions")
    model = load_model("tiny" if device.is_simulated() else "135m", device=chosen.type).model
    most = {"rows": max(ROWS), "context": max(CONTEXTS), "steps": STEPS}
    made = {name: timed_engine(make, model, **most) for name, make in engines().items()}
    texts = {rows: text_ms(rows) for rows in ROWS}
    points = list(product(made, CONTEXTS, ROWS))
    runs: dict[Any, list[dict[str, Any]]] = {point: [] for point in points}
    for _ in range(ROUNDS):
        for name, context, rows in points:
            row = measure(made[name], name, rows, context, STEPS)
            runs[name, context, rows].append(row | {"text_ms": texts[rows]})
    return {"host_cost": [sorted(mine, key=lambda row: row["host_ms"])[ROUNDS // 2] for mine in runs.values()]}


def engines() -> dict[str, Callable[..., Any]]:
    from ch08_full_engine import FullEngine
    from ch09_persistent_batch import PersistentEngine

    return {"chapter 8": FullEngine, "chapter 9": PersistentEngine}


def measure(engine: Any, name: str, rows: int, context: int, steps: int) -> dict[str, Any]:  # noqa: ANN401
    """One point of a curve: medians over the steps.

    `host_ms` is the whole step without its waiting; `prepare_ms`, `launch_ms` and `commit_ms` are parts of it, and
    `schedule_ms`, `pack_ms` and `queue_ms` parts of these. `outputs_ms` is no part of a step: what a caller pays who
    looks at every output.
    """
    ms = serve(engine, rows, context, steps)
    return {
        "engine": name,
        "rows": rows,
        "context": context,
        "block_size": BLOCK_SIZE,
        **{f"{part}_ms": round(statistics.median(times), 4) for part, times in ms.items()},
        "queued": not device.is_simulated(),
    }


def serve(engine: Any, rows: int, context: int, steps: int) -> dict[str, list[float]]:  # noqa: ANN401
    """Decode with `rows` requests for `steps` steps. Their lengths differ, so that their blocks fill up in turns.

    Returns:
        what each of these steps took in ms: by phase and piece, for making all outputs, and as a whole ("host").
    """
    from ch02_continuous_batching import SamplingParams

    with unsimulated():
        for i in range(rows):
            prompt = [(i * 7 + place) % 250 + 3 for place in range(context + i % BLOCK_SIZE)]
            engine.add_request(str(i), prompt, SamplingParams(max_tokens=new_tokens(steps), ignore_eos=True))
        started: set[str] = set()
        while len(started) < rows:
            started |= {output.request_id for output in engine.step()}
        outputs, whole = [], []
        with short_collections():
            for _ in range(steps):
                start = time.perf_counter()
                brought = engine.step()
                stepped = time.perf_counter()
                list(brought)
                outputs.append((time.perf_counter() - stepped) * 1e3)
                whole.append((stepped - start) * 1e3 - engine.observers.ms[WAIT][-1])
        going_on = len(engine.book.requests)
        if going_on < rows:
            raise RuntimeError(f"{rows - going_on} of {rows} requests had ended; the steps were of fewer rows")
        ms = {part: engine.observers.ms[part][-steps:] for part in (*PIECES, *PHASES)}
        for i in range(rows):
            engine.cancel(str(i))
        while engine.has_work:
            engine.step()
    return ms | {"outputs": outputs, "host": whole}


def text_ms(rows: int) -> float:
    """What it takes to make the text of one new token in each of so many rows, with the tiny model's tokenizer."""
    from ch08_full_engine import TextStream

    tokenizer = load_model("tiny").tokenizer
    assert tokenizer is not None
    streams, times = [TextStream(tokenizer, ()) for _ in range(rows)], []
    for token_id in tokenizer.encode(WORDS, add_special_tokens=False):
        start = time.perf_counter()
        for stream in streams:
            stream.push(token_id)
        times.append((time.perf_counter() - start) * 1e3)
    return round(statistics.median(times), 4)
