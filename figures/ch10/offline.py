"""How full an engine's steps are when it gets an offline job in slices: one at a time, two, or three.

The rows of the job ask for the same number of tokens at most, and some end before, with an EOS token. Nothing here is a
time: the numbers are the scheduler's, and would be the same with a larger model, so it is the tiny one on every device.
Where several calls are inside, which of their rows comes first is up to the threads, so a few steps more or less are
chance.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from figures.ch10.notes import noted
from toolkit import device
from toolkit.models import load_model
from toolkit.recordings import Row

CALLS = (1, 2, 3)
ENGINE_ROWS = 16  # also the size of a slice
ROWS = 192
MAX_TOKENS = 160
SHOWN = 400  # steps whose tokens are kept


def compare(calls: tuple[int, ...] = CALLS, rows: int = ROWS, max_tokens: int = MAX_TOKENS) -> list[Row]:
    """The same job with so many slices inside at a time."""
    answers: dict[int, list[bytes]] = {}
    found: list[Row] = []
    for count in calls:
        answers[count], row = run(count, rows, max_tokens)
        found.append({**row, "same_answers": answers[count] == answers[calls[0]]})
    return found


def run(calls: int, rows: int, max_tokens: int) -> tuple[list[bytes], Row]:
    """Answer all rows, `calls` slices of them at a time; the answers, and what the steps brought."""
    from ch09_persistent_batch import PersistentEngine
    from ch10_serving.offline_engine import OfflineEngine
    from ch10_serving.offline_job import Recipe

    if device.is_simulated():
        device.accelerator.reset("eager", on_race="raise")
    loaded = load_model("tiny", device="cpu" if device.is_simulated() else "cuda")
    limits: dict[str, Any] = {"max_rows": ENGINE_ROWS, "max_length": 256, "stream_text": False}
    engine = PersistentEngine(loaded.model, loaded.tokenizer, num_blocks=16 * ENGINE_ROWS, **limits)
    engine.step = noted(engine.step)  # type: ignore[method-assign]
    worker = OfflineEngine(lambda: (engine, loaded.tokenizer), "job", Recipe("tiny", max_tokens), calls * ENGINE_ROWS)
    texts = [json.dumps({"prompt": f"row {row} of the job"}).encode() for row in range(rows)]
    slices = [range(start, min(start + ENGINE_ROWS, rows)) for start in range(0, rows, ENGINE_ROWS)]
    with ThreadPoolExecutor(calls) as pool:
        answers = list(pool.map(lambda each: worker.answer([*each], [texts[row] for row in each]), slices))
    worker.watchdog.close()
    worker.server.close()
    counts = [count for _, count in engine.step.notes]  # type: ignore[attr-defined]
    return [answer for each in answers for answer in each], {
        "model": "tiny",
        "calls": calls,
        "rows": rows,
        "engine_rows": ENGINE_ROWS,
        "max_tokens": max_tokens,
        "steps": len(counts),
        "tokens": sum(counts),
        "tokens_per_step": round(sum(counts) / len(counts), 2),
        "tokens_by_step": " ".join(map(str, counts[:SHOWN])),
    }
