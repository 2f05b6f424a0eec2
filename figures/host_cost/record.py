"""What a step costs the host at 1 to 512 rows, on the host's own clock: the engines of chapters 8 and 9.

Every step decodes, with a short and with a longer context in each row. Waiting for the device does not count. On a GPU
the 1b shape computes. Elsewhere nothing does, and nothing is queued: the simulated GPU's own bookkeeping, one Python
call after the other, would drown what is measured here. Such rows say `"queued": false`.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
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
from toolkit.timeline.recording import WAIT

ROWS = (1, 8, 32, 128, 256, 512)
CONTEXTS = (256, 1024)  # tokens of each row, a few more or less
STEPS = 100  # measured; the median of them counts
PHASES = ("prepare", "launch", "commit")
PIECES = {"schedule": "scheduler", "pack": "packer"}  # what prepare consists of: the method, and the part that has it


def record(chosen: torch.device) -> dict[str, list[Row]]:
    use("solutions")
    model = load_model("tiny" if device.is_simulated() else "1b", device=chosen.type).model
    points = {
        f"{engine} {rows} {context}": partial(measure, engine, model, rows, context)
        for engine in engines()
        for context in CONTEXTS
        for rows in ROWS
    }
    return {"host_cost": list(in_turns(points, lambda row: cast(float, row["host_ms"])).values())}


def engines() -> dict[str, Callable[..., Any]]:
    from ch08_full_engine import FullEngine
    from ch09_persistent_batch import PersistentEngine

    return {"chapter 8": FullEngine, "chapter 9": PersistentEngine}


def measure(name: str, model: Any, rows: int, context: int, steps: int = STEPS) -> Row:  # noqa: ANN401
    """One point of a curve. `outputs_ms` is what a caller pays who looks at every output; it is no part of a step."""
    engine = timed_engine(engines()[name], model, rows, context, steps)
    ms = serve(engine, rows, context, steps)
    row: Row = {
        "engine": name,
        "rows": rows,
        "context": context,
        "block_size": BLOCK_SIZE,
        **{f"{part}_ms": round(statistics.median(times), 4) for part, times in ms.items()},
        "host_ms": round(statistics.median(map(sum, zip(*(ms[phase] for phase in PHASES), strict=True))), 4),
        "queued": not device.is_simulated(),
    }
    del engine
    release_memory()
    return row


def serve(engine: Any, rows: int, context: int, steps: int) -> dict[str, list[float]]:  # noqa: ANN401
    """Decode with `rows` requests for `steps` steps. Their lengths differ, so that their blocks fill up in turns.

    Returns:
        what each of these steps took in ms, by phase and piece, and for making all outputs.
    """
    from ch02_continuous_batching import SamplingParams

    for i in range(rows):
        prompt = [(i * 7 + place) % 250 + 3 for place in range(context + i % BLOCK_SIZE)]
        engine.add_request(str(i), prompt, SamplingParams(max_tokens=new_tokens(steps), ignore_eos=True))
    started: set[str] = set()
    while len(started) < rows:
        started |= {output.request_id for output in engine.step()}
    outputs = []
    with short_collections():
        for _ in range(steps):
            brought = engine.step()
            start = time.perf_counter()
            list(brought)
            outputs.append((time.perf_counter() - start) * 1e3)
    going_on = len(engine.book.requests)
    if going_on < rows:
        raise RuntimeError(f"{rows - going_on} of {rows} requests had ended; the steps were of fewer rows")
    ms = {part: engine.observers.ms[part][-steps:] for part in (*PIECES, *PHASES)} | {"outputs": outputs}
    for i in range(rows):
        engine.cancel(str(i))
    while engine.has_work:
        engine.step()
    return ms


def new_tokens(steps: int) -> int:
    """So many that no request ends before the measurement does: the first one waits for the last one's prompt."""
    return steps + 150


def timed_engine(make: Callable[..., Any], model: Any, rows: int, context: int, steps: int) -> Any:  # noqa: ANN401
    """An engine of chapter 8 or 9 with room for the load, whose observers note how long each phase takes: `ms`.

    What the others do when a step is over, such as counting its tokens, belongs to commit.
    """
    from ch02_continuous_batching import Observers, RequestOutput, Scheduler

    queued = not device.is_simulated()

    class TimedObservers(Observers):
        def __init__(self, observers: Observers) -> None:
            super().__init__(observers.timeline, *observers.others)
            self.ms: dict[str, list[float]] = {part: [] for part in (*PIECES, *PHASES, WAIT)}

        @contextmanager
        def host(self, phase: str, *, step: int) -> Iterator[None]:
            start = time.perf_counter()
            # Where nothing is queued, the others would look for events around a forward that there was not.
            with super().host(phase, step=step) if queued or phase != WAIT else nullcontext():
                yield
            self.ms[phase].append((time.perf_counter() - start) * 1e3)

        def stepped(self, scheduler: Scheduler, outputs: Sequence[RequestOutput], *, idle: bool) -> None:
            start = time.perf_counter()
            super().stepped(scheduler, outputs, idle=idle)
            if self.ms["commit"]:
                self.ms["commit"][-1] += (time.perf_counter() - start) * 1e3

    longest = context + BLOCK_SIZE + new_tokens(steps)
    engine = make(
        model,
        num_blocks=rows * (-(-longest // BLOCK_SIZE) + 1),
        block_size=BLOCK_SIZE,
        max_rows=rows,
        token_budget=context + context * rows // 64,  # prompts are computed in 64 steps or so
        max_length=longest,
    )
    executor: Any = engine.executor
    engine.observers = executor.observers = TimedObservers(engine.observers)
    for method, part in PIECES.items():
        owner = getattr(engine, part)
        setattr(owner, method, timed(getattr(owner, method), engine.observers.ms[method]))
    if not queued:
        engine.executor = idle(executor)
    return engine


def timed(method: Callable[..., Any], ms: list[float]) -> Callable[..., Any]:
    """The method, which notes what each call takes."""

    def wrapper(*arguments: Any) -> Any:  # noqa: ANN401
        start = time.perf_counter()
        result = method(*arguments)
        ms.append((time.perf_counter() - start) * 1e3)
        return result

    return wrapper


def idle(executor: Any) -> Any:  # noqa: ANN401 (a StreamExecutor)
    """An executor that queues nothing, samples nothing and waits for nothing. Its buffers lie in ordinary memory."""
    from ch02_continuous_batching import Batch
    from ch03_streams import IOBuffers, StreamExecutor
    from ch08_full_engine.packed_buffers import views

    class IdleExecutor(StreamExecutor):
        def queue(self, batch: Batch, buffers: IOBuffers) -> None:
            pass

    for buffers in executor.pool.buffers:
        buffers.host_buffer = buffers.padding_buffer.clone()
        buffers.host_inputs = views(buffers.host_buffer, buffers.padding)
        buffers.host_ids = torch.zeros(buffers.host_ids.shape, dtype=torch.int64, device="cpu")
    return IdleExecutor(executor.pool, executor.forward, executor.observers)
