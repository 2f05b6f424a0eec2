"""An engine of chapter 8 or 9 that notes how long each part of a step takes; without a GPU, on the host alone."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from toolkit import device
from toolkit.commands.decoding import BLOCK_SIZE
from toolkit.timeline.recording import WAIT

TOKEN_BUDGET = 8192
PHASES = ("prepare", "launch", "commit")
PIECES = {"schedule": "scheduler", "pack": "packer", "queue": "executor"}  # of prepare and launch: method, and its part


def new_tokens(steps: int) -> int:
    """So many that no request ends before the measurement does: the first one waits for the last one's prompt."""
    return steps + 150


def timed_engine(make: Callable[..., Any], model: Any, rows: int, context: int, steps: int) -> Any:  # noqa: ANN401
    """An engine of chapter 8 or 9 with room for the load, whose observers note how long each phase takes: `ms`."""
    from ch02_continuous_batching import Observers

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

    longest = context + BLOCK_SIZE + new_tokens(steps)
    engine = make(
        model,
        num_blocks=rows * (-(-longest // BLOCK_SIZE) + 1),
        block_size=BLOCK_SIZE,
        max_rows=rows,
        token_budget=TOKEN_BUDGET,
        max_length=longest,
    )
    if not queued:
        engine.executor = idle(engine.executor)
    engine.observers = engine.executor.observers = TimedObservers(engine.observers)
    for method, part in PIECES.items():
        owner = getattr(engine, part)
        setattr(owner, method, timed(getattr(owner, method), engine.observers.ms[method]))
    return engine


def timed(method: Callable[..., Any], ms: list[float]) -> Callable[..., Any]:
    """The method, which notes what each call takes."""

    def wrapper(*arguments: Any) -> Any:  # noqa: ANN401
        start = time.perf_counter()
        result = method(*arguments)
        ms.append((time.perf_counter() - start) * 1e3)
        return result

    return wrapper


@contextmanager
def unsimulated() -> Iterator[None]:
    """Let an engine with an idle executor do on the host what it does beside a GPU, on the host's own clock.

    The simulated GPU is told of every write in pinned memory, whose buffers are whose, and what the host's work costs.
    A GPU is told nothing of the kind.
    """
    was, device.is_simulated = device.is_simulated, lambda: False  # type: ignore[assignment]
    try:
        yield
    finally:
        device.is_simulated = was


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
