"""Two at once (invariant 8): a step raises, and Ctrl-C comes while the engine gets over that. No request is lost.

Each run plants one error before a step, and notes the lines that follow it: those of `take_back`, `blame`, `recover`,
`end`, and the rest of the step. Then it is repeated with KeyboardInterrupt at one of these lines.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import pytest

from ch02_continuous_batching import Observer, SamplingParams
from ch08_full_engine import FullEngine
from tests.helpers import random_prompts, reference_outputs, shared_reference, tiny_model, tiny_tokenizer
from tests.interrupts import Line, interrupt, lines_of
from tests.simulated import STEP_LIMIT, needs_simulator
from toolkit.commands.ledger import Ledger, leftovers

pytestmark = needs_simulator
PROMPTS = random_prompts(4, seed=5, shortest=3, longest=11)
MAX_TOKENS = 4
TIGHT = {"num_blocks": 9, "block_size": 4, "max_rows": 3, "token_budget": 9}  # chunks, preemption, a queue
STEPS = (0, 1, 3, 6, 7, 8)  # cold, steady and draining; those with request 2 in trouble are among them


@cache
def expected() -> list[list[int]]:
    return reference_outputs(shared_reference(), PROMPTS, MAX_TOKENS)


@cache
def model() -> Any:
    return tiny_model()


class Trouble(Exception):
    """What the tests let a step raise."""


class Run:
    """An engine with four requests, whose outputs are booked.

    Attributes:
        in_trouble: the planted error has been raised in the step that runs.
    """

    def __init__(self) -> None:
        from toolkit import simgpu

        simgpu.reset("eager")
        self.engine: Any = FullEngine(model(), tiny_tokenizer(), **TIGHT)
        self.ledger = Ledger()
        self.in_trouble = False
        for i, prompt in enumerate(PROMPTS):
            self.engine.add_request(str(i), prompt, SamplingParams(max_tokens=MAX_TOKENS))
            self.ledger.add(str(i), expected()[i])

    def step(self) -> None:
        self.in_trouble = False
        self.ledger.take(self.engine.step())

    def trouble(self) -> None:
        self.in_trouble = True
        raise Trouble

    def to_the_end(self) -> None:
        for _ in range(STEP_LIMIT):
            if not self.engine.has_work:
                break
            self.step()
        assert not self.engine.has_work, f"after {STEP_LIMIT} steps there is still work"
        assert not self.ledger.open, f"no terminal output for the requests {sorted(self.ledger.open)}"
        left = leftovers(self.engine)  # not the names of blocks: an interrupted `except` keeps what it has caught alive
        assert not left, "the engine is idle, and yet: " + "; ".join(left)


def once(run: Run, owner: Any, name: str, after: bool = False) -> None:
    """The next call of a method raises, before or after it has done its work."""
    work = getattr(owner, name)

    def failing(*arguments: Any, **options: Any) -> None:
        setattr(owner, name, work)
        if after:
            work(*arguments, **options)
        run.trouble()

    setattr(owner, name, failing)


def all_around_one(run: Run) -> None:
    """Whatever step request 2 is in, it raises: the search for the culprit ends that one."""
    launch = run.engine.executor.launch

    def failing(batch: Any) -> Any:
        if any(row.request.request_id == "2" for row in batch.rows):
            run.trouble()
        return launch(batch)

    run.engine.executor.launch = failing


def device_lost(run: Run) -> None:
    """An operation fails on the device, which is lost with it: all requests end, and the engine stops."""
    run.engine.executor.forward.forward = lambda *arguments: run.trouble()


def last_look(run: Run) -> None:
    """An observer raises when the step is over: the caller gets that, and the outputs with a later step."""

    class Failing(Observer):
        def stepped(self, *arguments: Any, **options: Any) -> None:
            run.engine.observers.others = others
            run.trouble()

    others = run.engine.observers.others
    run.engine.observers.others = (*others, Failing())


TROUBLES: dict[str, Callable[[Run], None]] = {
    "launch": lambda run: once(run, run.engine.executor, "launch"),
    "wait": lambda run: once(run, run.engine.executor, "wait"),
    "behind the commit": lambda run: once(run, run.engine.book, "commit", after=True),
    "at the last look": last_look,
    "request 2": all_around_one,
    "the device": device_lost,
}
ERRORS = {"request 2": 1, "the device": len(PROMPTS)}  # requests that may end with ERROR; with the other troubles none


def in_step(trouble: str, step: int) -> Run:
    """A run right before this step, in which there will be trouble; that of request 2 is there from the start."""
    run = Run()
    if trouble == "request 2":
        TROUBLES[trouble](run)
    for _ in range(step):
        run.step()
    if trouble != "request 2":
        TROUBLES[trouble](run)
    return run


def recovery_lines(trouble: str, step: int) -> list[Line]:
    """The lines that follow the error in this step; none if it does not come to it."""
    run = in_step(trouble, step)

    def until_the_error() -> None:
        with suppress(Trouble):  # where the engine does not get over it
            run.step()

    return lines_of(until_the_error, when=lambda: run.in_trouble)


def interrupted_recovery(trouble: str, step: int, lines: list[Line]) -> None:
    """Ctrl-C at each of these lines."""
    for line in lines:
        run = in_step(trouble, step)
        assert interrupt(run.step, line, KeyboardInterrupt(), when=lambda run=run: run.in_trouble)
        where = f"interrupted at {line[0].co_filename}:{line[1]}, {trouble} in step {step}"
        assert sys.exc_info()[1] is None, f"{where}: for whatever is tested next an exception is being handled"
        try:
            run.to_the_end()
        except (AssertionError, LookupError, ValueError, RuntimeError) as wrong:
            pytest.fail(f"{where}: {wrong}")
        errors = run.ledger.ended["error"]
        assert errors <= ERRORS.get(trouble, 0), f"{where}: {errors} requests ended with ERROR"
        assert errors == 1 or trouble != "request 2", f"{where}: the culprit was not found"


@pytest.mark.parametrize("trouble", TROUBLES)
def test_ctrl_c_at_some_lines_of_the_recovery(trouble: str):
    """Ctrl-C in `recover`, in what is left of the step, and at some other lines: each request gets its one end."""
    step = 8  # of request 2 it is the step in which it ends
    lines = recovery_lines(trouble, step)
    assert len(lines) > 80
    chosen = {line for line in lines if line[0].co_name in ("recover", "step", "advance")} | set(lines[::40])
    interrupted_recovery(trouble, step, [line for line in lines if line in chosen])


@pytest.mark.long
@pytest.mark.parametrize("trouble", TROUBLES)
def test_ctrl_c_at_any_line_of_the_recovery(trouble: str):
    """The same at each line, with the error in a cold, a steady or a draining step."""
    lines = {step: recovery_lines(trouble, step) for step in STEPS}
    assert sum(map(len, lines.values())) > 500
    for step in STEPS:
        interrupted_recovery(trouble, step, lines[step])
