"""What a step costs the host: prepare, launch and commit of the full engine at 1 to 512 rows, on the host's own clock.

Every step decodes, with a short and with a longer context in each row. Waiting for the device does not count. On a GPU
the 1b shape computes. Elsewhere nothing does, and nothing is queued: the simulated GPU's own bookkeeping, one Python
call after the other, would drown what is measured here. Such rows say `"queued": false`.
"""

import statistics
import time
from functools import partial
from typing import Any, cast

import torch

from figures.accelerated import in_turns
from toolkit import device
from toolkit.commands.decoding import BLOCK_SIZE
from toolkit.course import use
from toolkit.garbage import release_memory, short_collections
from toolkit.models import load_model
from toolkit.recordings import Row

ROWS = (1, 8, 32, 128, 512)
CONTEXTS = (256, 2048)  # tokens of each row, a few more or less
STEPS = 100  # measured; the median of them counts
PHASES = ("prepare", "launch", "commit")


def record(chosen: torch.device) -> dict[str, list[Row]]:
    use("solutions")
    model = load_model("tiny" if device.is_simulated() else "1b", device=chosen.type).model
    points = {f"{rows} {context}": partial(measure, model, rows, context) for context in CONTEXTS for rows in ROWS}
    return {"host_cost": list(in_turns(points, lambda row: cast(float, row["host_ms"])).values())}


def measure(model: Any, rows: int, context: int, steps: int = STEPS) -> Row:  # noqa: ANN401
    """One point of the curve."""
    engine = timed_engine(model, rows, context, steps)
    serve(engine, rows, context, steps)
    row = {
        "rows": rows,
        "context": context,
        "block_size": BLOCK_SIZE,
        **{f"{phase}_ms": round(statistics.median(engine.ms[phase][-steps:]), 4) for phase in PHASES},
        "host_ms": round(statistics.median(map(sum, zip(*(engine.ms[p][-steps:] for p in PHASES), strict=True))), 4),
        "queued": not device.is_simulated(),
    }
    del engine
    release_memory()
    return row


def serve(engine: Any, rows: int, context: int, steps: int) -> None:  # noqa: ANN401
    """Decode with `rows` requests for `steps` steps. Their lengths differ, so that their blocks fill up in turns."""
    from ch02_continuous_batching import SamplingParams

    for i in range(rows):
        prompt = [(i * 7 + place) % 250 + 3 for place in range(context + i % BLOCK_SIZE)]
        engine.add_request(str(i), prompt, SamplingParams(max_tokens=new_tokens(steps), ignore_eos=True))
    while not all(request.output_ids for request in engine.requests.values()):
        engine.step()
    with short_collections():
        for _ in range(steps):
            engine.step()
    if len(engine.requests) < rows:
        raise RuntimeError(f"{rows - len(engine.requests)} of {rows} requests had ended; the steps were of fewer rows")
    for i in range(rows):
        engine.cancel(str(i))
    while engine.has_work:
        engine.step()


def new_tokens(steps: int) -> int:
    """So many that no request ends before the measurement does: the first one waits for the last one's prompt."""
    return steps + 150


def timed_engine(model: Any, rows: int, context: int, steps: int) -> Any:  # noqa: ANN401
    """A full engine with room for the load, that notes how long each phase of each step takes: `ms`, by phase."""
    from ch08_full_engine import FullEngine
    from ch08_full_engine.packed_slot import views

    class TimedEngine(FullEngine):
        ms: dict[str, list[float]]
        waited = 0.0

        def prepare(self) -> Any:  # noqa: ANN401
            start = time.perf_counter()
            batch = super().prepare()
            if batch is not None:
                self.ms["prepare"].append((time.perf_counter() - start) * 1e3)
            return batch

        def launch(self, batch: Any) -> Any:  # noqa: ANN401
            start = time.perf_counter()
            slot = super().launch(batch)
            self.ms["launch"].append((time.perf_counter() - start) * 1e3)
            return slot

        def commit(self, batch: Any, slot: Any) -> Any:  # noqa: ANN401
            self.waited, start = 0.0, time.perf_counter()
            outputs = super().commit(batch, slot)
            self.ms["commit"].append((time.perf_counter() - start - self.waited) * 1e3)
            return outputs

        def wait_for(self, slot: Any) -> None:  # noqa: ANN401
            start = time.perf_counter()
            super().wait_for(slot)
            self.waited += time.perf_counter() - start

    class IdleEngine(TimedEngine):
        """Queues nothing and samples nothing. Its slots lie in ordinary memory."""

        def set_up_device(self, model: Any) -> None:  # noqa: ANN401
            super().set_up_device(model)
            slots: list[Any] = self.slots  # packed ones, as the full engine has them
            for slot in slots:
                slot.host_buffer = slot.padding_buffer.clone()
                slot.host_inputs = views(slot.host_buffer, slot.padding)
                slot.host_ids = torch.zeros(rows, dtype=torch.int64, device="cpu")

        def queue(self, batch: Any, slot: Any) -> None:  # noqa: ANN401
            pass

        def wait_for(self, slot: Any) -> None:  # noqa: ANN401
            pass

    kind = IdleEngine if device.is_simulated() else TimedEngine
    longest = context + BLOCK_SIZE + new_tokens(steps)
    engine = kind(
        model,
        num_blocks=rows * (-(-longest // BLOCK_SIZE) + 1),
        block_size=BLOCK_SIZE,
        max_rows=rows,
        token_budget=context + context * rows // 64,  # prompts are computed in 64 steps or so
        max_length=longest,
    )
    engine.ms = {phase: [] for phase in PHASES}
    return engine
