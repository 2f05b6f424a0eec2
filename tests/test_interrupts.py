"""A step is all or nothing (invariant 8): interrupted at any line, the engine goes on and loses no token."""

import functools
from collections.abc import Iterable
from typing import Any

import pytest

from ch02_continuous_batching import Engine, SamplingParams
from ch04_events import EventEngine
from ch05_double_buffering import DoubleBufferedEngine
from ch07_carry_over import AsyncEngine
from ch08_full_engine import FullEngine
from tests.helpers import random_prompts, reference_outputs, shared_reference, tiny_model, tiny_tokenizer
from tests.interrupts import Line, interrupt, lines_of
from tests.simulated import needs_simulator
from toolkit.commands.ledger import Ledger

pytestmark = needs_simulator
ENGINES = [Engine, EventEngine, DoubleBufferedEngine, AsyncEngine, FullEngine]
PROMPTS = random_prompts(4, seed=5, shortest=3, longest=11)
MAX_TOKENS = 4
STEP_LIMIT = 200
TIGHT = {"num_blocks": 9, "block_size": 4, "max_rows": 3, "token_budget": 9}  # chunks, preemption, a queue
STEPS = range(14)  # cold, steady and draining; no run takes longer
SOME_STEPS = (0, 1, 4, 9)


@functools.cache
def expected() -> list[list[int]]:
    return reference_outputs(shared_reference(), PROMPTS, MAX_TOKENS)


@functools.cache
def model() -> Any:
    return tiny_model()


class Run:
    """An engine with four requests, whose outputs are booked."""

    def __init__(self, engine_class: Any, **limits: Any) -> None:
        from toolkit import simgpu

        simgpu.reset("eager")
        self.engine = engine_class(model(), tiny_tokenizer(), **(TIGHT | limits))
        self.ledger = Ledger()
        for i, prompt in enumerate(PROMPTS):
            self.engine.add_request(str(i), prompt, SamplingParams(max_tokens=MAX_TOKENS))
            self.ledger.add(str(i), expected()[i])

    def step(self) -> None:
        self.ledger.take(self.engine.step())

    def to_the_end(self) -> None:
        for _ in range(STEP_LIMIT):
            if not self.engine.has_work:
                break
            self.step()
        assert not self.engine.has_work, f"after {STEP_LIMIT} steps there is still work"
        if getattr(self.engine, "stopped", ""):  # the error was raised in the device's own work: it is lost
            assert not self.ledger.open, f"no terminal output for the requests {sorted(self.ledger.open)}"
        else:
            self.ledger.check_idle(self.engine)
            errors = self.ledger.ended["error"]
            assert errors <= 1, (
                f"{errors} requests ended with ERROR; one error is at most one request's own, its text's"
            )


def at(run: Run, step: int) -> Run:
    for _ in range(step):
        run.step()
    return run


def interrupted_everywhere(
    engine_class: Any, steps: Iterable[int], error: type[BaseException], every: int = 1, **limits: Any
) -> int:
    """Interrupt these steps, once at each line that no earlier one has, or at every so manieth of them.

    Returns how many lines there were.
    """
    done: set[Line] = set()
    for step in steps:
        run = at(Run(engine_class, **limits), step)
        if not run.engine.has_work:
            break
        for line in lines_of(run.engine.step):
            where = f"{line[0].co_filename}:{line[1]} in step {step}"
            if line in done:
                continue
            done.add(line)
            if len(done) % every:
                continue
            run = at(Run(engine_class, **limits), step)
            before = run.ledger.tokens
            interrupt(run.step, line, error("planted by the test"))
            assert run.ledger.tokens >= before
            try:
                run.to_the_end()
            except (AssertionError, LookupError, ValueError, RuntimeError) as wrong:
                pytest.fail(f"interrupted at {where}: {wrong}")
    return len(done)


@pytest.mark.parametrize("engine_class", ENGINES)
def test_ctrl_c_at_some_lines(engine_class: Any):
    """KeyboardInterrupt at one in ten of the lines that a cold, a steady or a draining step executes."""
    assert interrupted_everywhere(engine_class, SOME_STEPS, KeyboardInterrupt, every=10) > 100


def test_an_error_at_some_lines():
    """An Exception at one in ten lines of the full engine, which gets over it by itself."""
    assert interrupted_everywhere(FullEngine, SOME_STEPS, ZeroDivisionError, every=10) > 100


@pytest.mark.long
@pytest.mark.parametrize("limits", [{}, {"num_blocks": 60, "token_budget": 64}, {"policy": "prefill_first"}], ids=str)
@pytest.mark.parametrize("engine_class", ENGINES)
def test_ctrl_c_at_any_line(engine_class: Any, limits: dict[str, Any]):
    """KeyboardInterrupt at each line that a cold, a steady or a draining step executes, tight and roomy."""
    interrupted_everywhere(engine_class, STEPS, KeyboardInterrupt, **limits)


@pytest.mark.long
def test_an_error_at_any_line():
    """The same with an Exception, which the full engine gets over by itself."""
    interrupted_everywhere(FullEngine, STEPS, ZeroDivisionError)


def test_outputs_of_an_interrupted_step_come_with_the_next():
    """A cancelled request's end waits for the next step; that one is interrupted: the end comes with the one after."""
    line = lines_of(at(Run(FullEngine), 3).engine.step)[-1]
    run = at(Run(FullEngine), 3)
    engine = run.engine
    engine.cancel("3")
    assert interrupt(engine.step, line, KeyboardInterrupt())
    assert engine.has_work
    outputs = engine.step()
    assert "3" in [output.request_id for output in outputs if output.finish_reason is not None], outputs
    run.ledger.take(outputs)
    run.to_the_end()


def test_a_second_interrupt_while_getting_over_the_first(monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C twice: the second comes while the engine waits for the device. The next step puts things right."""
    run = at(Run(AsyncEngine), 3)
    restart, count = run.engine.restart, iter(range(10))

    def interrupted() -> None:
        if next(count) == 0:
            raise KeyboardInterrupt
        restart()

    monkeypatch.setattr(run.engine, "restart", interrupted)
    with pytest.raises(KeyboardInterrupt):
        monkeypatch.setattr(run.engine, "commit", lambda *arguments: 1 / 0)
        run.step()
    monkeypatch.delattr(run.engine, "commit")
    run.to_the_end()


def test_generate_can_be_interrupted():
    """Ctrl-C in generate: what it queued is still served, step by step, and a new call gets its own tokens."""
    from toolkit import simgpu

    simgpu.reset("eager")
    engine = Engine(model(), **TIGHT)
    commit, count = engine.commit, iter(range(100))

    def interrupted(*arguments: Any) -> Any:
        if next(count) == 4:
            raise KeyboardInterrupt
        return commit(*arguments)

    engine.commit = interrupted
    with pytest.raises(KeyboardInterrupt):
        engine.generate(PROMPTS, SamplingParams(max_tokens=MAX_TOKENS))
    assert engine.has_work
    again = engine.generate(PROMPTS, SamplingParams(max_tokens=MAX_TOKENS))
    assert [list(output.output_ids) for output in again] == expected()
    assert engine.has_work, "the ends of the first four requests come with the next step"
    ends = [output for output in engine.step() if output.finish_reason is not None]
    assert [list(output.output_ids) for output in sorted(ends, key=lambda end: end.request_id)] == expected()
    assert not engine.has_work
