"""Runs that may end a process, or change how torch behaves in it: each is started by a test in a process of its own.

python -m tests.gpu.faulty_runs NAME        # prints "fine" at the end
"""

import os
import sys
from typing import Any

from toolkit import course

course.use("solutions")

import torch  # noqa: E402

from ch02_continuous_batching import SamplingParams  # noqa: E402
from ch07_carry_over import AsyncEngine  # noqa: E402
from ch08_full_engine import FullEngine  # noqa: E402
from tests.ch05_double_buffering.test_forced_races import ComputeDoesNotWait  # noqa: E402
from tests.helpers import random_prompts, tiny_model  # noqa: E402
from toolkit.commands.ledger import Ledger  # noqa: E402
from toolkit.device import DEVICE  # noqa: E402
from toolkit.errors import UserError  # noqa: E402
from toolkit.sealed_forward import SealedForward  # noqa: E402

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
    four, nine, run_forward = torch.zeros(4, device=DEVICE), torch.full((1,), 9, device=DEVICE), engine.run_forward

    def with_assert(batch: Any, slot: Any) -> None:
        four[nine]  # an index outside, found on the device
        run_forward(batch, slot)

    engine.run_forward = with_assert
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


class Launched(AsyncEngine):
    """Every step kernel by kernel: the sanitizer does not see into graphs."""

    def make_box(self, storage: torch.Tensor) -> SealedForward:
        box = SealedForward(self.forward, storage)
        box.seal = lambda *arguments: None
        return box


class LaunchedFull(FullEngine):
    make_box = Launched.make_box


class LaunchedUnordered(Launched):
    queue = ComputeDoesNotWait.queue


def sanitized(engine_class: Any) -> None:
    """A run under torch's stream sanitizer, which raises at a race between streams (TORCH_CUDA_SANITIZER=1)."""
    assert os.environ.get("TORCH_CUDA_SANITIZER"), "set TORCH_CUDA_SANITIZER=1"
    engine = engine_class(tiny_model().to(DEVICE), **LIMITS)
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
    "sanitized_full": lambda: sanitized(LaunchedFull),
    "sanitized_async": lambda: sanitized(Launched),
    "sanitized_unordered": lambda: sanitized(LaunchedUnordered),
}

if __name__ == "__main__":
    RUNS[sys.argv[1]]()
    print("fine", flush=True)
    os._exit(0)  # after a device assert the end of a process may fail as well
