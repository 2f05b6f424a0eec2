"""Runs that may end a process, or change how torch behaves in it: each is started by a test in a process of its own.

python -m tests.gpu.faulty_runs NAME        # prints "fine" at the end
"""

import os
import sys
from collections.abc import Callable
from typing import Any

from toolkit import course

course.use("solutions")

import pytest  # noqa: E402
import torch  # noqa: E402

from ch02_continuous_batching import SamplingParams  # noqa: E402
from ch04_events import EventExecutor  # noqa: E402
from ch07_carry_over.build import build  # noqa: E402
from ch08_full_engine import FullEngine  # noqa: E402
from tests.ch05_double_buffering.test_forced_races import ComputeDoesNotWait  # noqa: E402
from tests.helpers import random_prompts, swapped, tiny_model  # noqa: E402
from toolkit.commands.ledger import Ledger  # noqa: E402
from toolkit.device import DEVICE  # noqa: E402
from toolkit.errors import UserError  # noqa: E402
from toolkit.forward import Forward  # noqa: E402

LIMITS = {"num_blocks": 60, "block_size": 4, "max_rows": 3, "token_budget": 16, "max_length": 64}


def start(engine: Any) -> Ledger:
    ledger = Ledger()
    for i, prompt in enumerate(random_prompts(5, longest=14)):
        engine.add_request(str(i), prompt, SamplingParams(max_tokens=12))
        ledger.add(str(i))
    return ledger


def device_assert() -> None:
    """A kernel of a step in flight fails an assertion: from then on CUDA refuses everything."""
    engine = FullEngine(tiny_model().to(DEVICE), **LIMITS)
    ledger = start(engine)
    for _ in range(4):
        ledger.take(engine.step())
    four, nine, run = torch.zeros(4, device=DEVICE), torch.full((1,), 9, device=DEVICE), engine.executor.run

    def with_assert(batch: Any, buffers: Any) -> None:
        four[nine]  # an index outside, found on the device
        run(batch, buffers)

    engine.executor.run = with_assert
    for _ in range(8):
        ledger.take(engine.step())
    assert not ledger.open, f"no terminal output for {sorted(ledger.open)}"
    assert ledger.ended["error"] == 5, f"five requests fail, once each; ends: {dict(ledger.ended)}"
    assert not engine.has_work and engine.step() == []
    ledger.check_idle(engine)
    try:
        engine.add_request("new", [5, 6, 7], SamplingParams())
    except UserError as refused:
        assert "restart" in str(refused), f"it should say that the process must be restarted: {refused}"
    else:
        raise AssertionError("after a device assert no request can be served; this one was taken")


class Launched(Forward):
    """Every step kernel by kernel: the sanitizer does not see into graphs."""

    def capture_all(self, *arguments: Any) -> None:
        pass


class Unordered(EventExecutor):
    queue = ComputeDoesNotWait.queue


def launched_full(*arguments: Any, **limits: Any) -> FullEngine:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ch08_full_engine.build.quickest_forward", lambda step, storage, _: Launched(step, storage))
        return FullEngine(*arguments, **limits)


def sanitized(build: Callable[..., Any]) -> None:
    """A run under torch's stream sanitizer, which raises at a race between streams (TORCH_CUDA_SANITIZER=1)."""
    assert os.environ.get("TORCH_CUDA_SANITIZER"), "set TORCH_CUDA_SANITIZER=1"
    engine = build(tiny_model().to(DEVICE), **LIMITS)
    assert isinstance(engine.executor.forward, Launched)
    if isinstance(engine, FullEngine):
        engine.recover = raise_it  # the report must not be taken for an error of one step
    ledger = start(engine)
    while engine.has_work:
        ledger.take(engine.step())
    ledger.check_idle(engine)


def raise_it(error: Exception) -> None:
    raise error


RUNS = {
    "device_assert": device_assert,
    "sanitized_full": lambda: sanitized(launched_full),
    "sanitized_async": lambda: sanitized(swapped(build, Forward=Launched)),
    "sanitized_unordered": lambda: sanitized(swapped(build, Forward=Launched, EventExecutor=Unordered)),
}

if __name__ == "__main__":
    RUNS[sys.argv[1]]()
    print("fine", flush=True)
    os._exit(0)  # after a device assert the end of a process may fail as well
