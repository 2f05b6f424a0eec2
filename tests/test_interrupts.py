"""A step is all or nothing (invariant 8): interrupted at any line, the engine goes on and loses no token."""

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from ch02_continuous_batching import Engine, RequestOutput, SamplingParams
from ch02_continuous_batching.build import build as build_ch02
from ch04_events.build import build as build_ch04
from ch05_double_buffering.build import build as build_ch05
from ch07_carry_over.build import build as build_ch07
from ch08_full_engine import FullEngine
from ch09_persistent_batch import PersistentEngine
from tests.helpers import random_prompts, reference_outputs, shared_reference, tiny_model, tiny_tokenizer
from tests.interrupts import Line, interrupt, lines_of
from tests.simulated import needs_simulator
from toolkit.commands.ledger import Ledger

pytestmark = needs_simulator
ENGINES = {
    "ch02": build_ch02,
    "ch04": build_ch04,
    "ch05": build_ch05,
    "ch07": build_ch07,
    "ch08": FullEngine,
    "ch09": PersistentEngine,
}
PROMPTS = random_prompts(4, seed=5, shortest=3, longest=11)
MAX_TOKENS = 4
STEP_LIMIT = 200
TIGHT = {"num_blocks": 9, "block_size": 4, "max_rows": 3, "token_budget": 9}  # chunks, preemption, a queue
STEPS = range(14)  # cold, steady and draining; no run takes longer
SOME_STEPS = (0, 1, 4, 9)
ROOMY = {"num_blocks": 60, "token_budget": 64}

# Whose lines a sweep must have interrupted: the files of every engine, and those of each.
ALL_FILES = {"engine.py", "observers.py", "request_book.py"}
BY_REQUEST = {"batch.py", "scheduler.py"}  # all but chapter 9's
STREAM_FILES = {"event_executor.py", "host_prices.py", "io_buffers.py", "stream_executor.py"}
CARRY_FILES = (
    BY_REQUEST | STREAM_FILES | {"buffer_ring.py", "carry_packer.py", "carry_scheduler.py", "pipelined_engine.py"}
)
FILES = {
    "ch02": BY_REQUEST | {"executor.py", "texts.py"},
    "ch04": BY_REQUEST | STREAM_FILES | {"buffer_pool.py", "texts.py"},
    "ch05": BY_REQUEST | STREAM_FILES | {"buffer_ring.py", "half_batches.py", "pipelined_engine.py", "texts.py"},
    "ch07": CARRY_FILES | {"texts.py"},
    "ch08": CARRY_FILES
    | {"full_engine.py", "metrics.py", "packed_buffers.py", "prefix_blocks.py", "service_book.py", "streamed_texts.py"},
    "ch09": STREAM_FILES
    | {"array_book.py", "array_metrics.py", "array_packer.py", "array_scheduler.py", "full_engine.py", "rows.py"}
    | {"buffer_ring.py", "persistent_buffers.py", "pipelined_engine.py", "prefix_array_blocks.py", "seats.py"}
    | {"step_outputs.py"},
}

LAST_TWO = ["ch08", "ch09"]
LONG = [pytest.param(each, marks=pytest.mark.long) for each in LAST_TWO]


@functools.cache
def expected() -> list[list[int]]:
    return reference_outputs(shared_reference(), PROMPTS, MAX_TOKENS)


@functools.cache
def model() -> Any:
    return tiny_model()


class Run:
    """An engine with four requests, whose outputs are booked."""

    def __init__(self, build: Any, **limits: Any) -> None:
        from toolkit import simgpu

        simgpu.reset("eager")
        self.engine = build(model(), tiny_tokenizer(), **(TIGHT | limits))
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
    build: Any, steps: Iterable[int], error: type[BaseException], every: int = 1, **limits: Any
) -> set[Line]:
    """Interrupt these steps, once at each line that no earlier one has, or at every so manieth of them.

    Returns all the lines.
    """
    done: set[Line] = set()
    for step in steps:
        run = at(Run(build, **limits), step)
        if not run.engine.has_work:
            break
        for line in lines_of(run.engine.step):
            where = f"{line[0].co_filename}:{line[1]} in step {step}"
            if line in done:
                continue
            done.add(line)
            if len(done) % every:
                continue
            run = at(Run(build, **limits), step)
            before = run.ledger.tokens
            interrupt(run.step, line, error("planted by the test"))
            assert run.ledger.tokens >= before
            try:
                run.to_the_end()
            except (AssertionError, LookupError, ValueError, RuntimeError) as wrong:
                pytest.fail(f"interrupted at {where}: {wrong}")
    return done


def files_of(lines: set[Line]) -> set[str]:
    return {Path(code.co_filename).name for code, _ in lines}


@pytest.mark.parametrize("engine", ENGINES)
def test_ctrl_c_at_some_lines(engine: str):
    """KeyboardInterrupt at one in thirty of the lines that a cold, a steady or a draining step executes."""
    lines = interrupted_everywhere(ENGINES[engine], SOME_STEPS, KeyboardInterrupt, every=30)
    assert len(lines) > 100
    missing = (ALL_FILES | FILES[engine]) - files_of(lines)
    assert not missing, f"these steps execute nothing of {sorted(missing)}: what is done there is not interrupted"


def test_an_error_at_some_lines():
    """An Exception at one in thirty lines of the full engine, which gets over it by itself."""
    assert len(interrupted_everywhere(FullEngine, SOME_STEPS, ZeroDivisionError, every=30)) > 100


@pytest.mark.long
@pytest.mark.parametrize("limits", [{}, ROOMY, {"policy": "prefill_first"}], ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_ctrl_c_at_any_line(engine: str, limits: dict[str, Any]):
    """KeyboardInterrupt at each line that a cold, a steady or a draining step executes, tight and roomy."""
    interrupted_everywhere(ENGINES[engine], STEPS, KeyboardInterrupt, **limits)


@pytest.mark.long
@pytest.mark.parametrize("engine", LAST_TWO)
def test_an_error_at_any_line(engine: str):
    """The same with an Exception, which the full engine gets over by itself."""
    interrupted_everywhere(ENGINES[engine], STEPS, ZeroDivisionError)


def ctrl_c(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


BOOK_FILES = {"array_book.py", "array_texts.py", "request_book.py", "service_book.py", "streamed_texts.py", "texts.py"}


@functools.cache
def ending_step(engine: str) -> int:
    """The first step that ends requests; several at once."""
    run, steps = Run(ENGINES[engine], **ROOMY), 0
    while not run.ledger.ended:
        run.step()
        steps += 1
    assert run.ledger.ended["length"] > 1, f"step {steps - 1} ends {dict(run.ledger.ended)}; several are needed"
    return steps - 1


def until_requests_end(engine: str) -> Run:
    """A run whose next step ends several requests."""
    step = ending_step(engine)  # first, since a run starts the simulated GPU again
    return at(Run(ENGINES[engine], **ROOMY), step)


@pytest.mark.parametrize("engine", ["ch02", "ch07", *LONG])
def test_no_request_is_lost_while_it_is_ended(engine: str):
    """Ctrl-C at each line of the book, while several requests get their last outputs: none of them has ended."""
    lines = [line for line in lines_of(until_requests_end(engine).engine.step) if files_of({line}) <= BOOK_FILES]
    assert len(lines) > 20
    for line in lines:
        run = until_requests_end(engine)
        assert interrupt(run.step, line, KeyboardInterrupt())
        where = f"interrupted at {line[0].co_filename}:{line[1]}"
        assert sorted(run.engine.book.requests) == sorted(run.ledger.open), where
        run.to_the_end()


@pytest.mark.parametrize("engine", ["ch02", *LONG])
def test_a_second_interrupt_at_any_line_of_getting_over_the_first(engine: str):
    """Ctrl-C when requests have been ended, and again at each line while that is taken back."""

    def interrupted_run(getting_over: Callable[[Callable[[], None]], None]) -> Run:
        """A run with a step that was interrupted at its end; `getting_over` is given the engine's own `take_back`."""
        run = until_requests_end(engine)
        with pytest.MonkeyPatch.context() as patch:
            take_back = run.engine.take_back
            patch.setattr(run.engine, "take_back", lambda: getting_over(take_back))
            patch.setattr(run.engine.observers, "stepped", ctrl_c)
            with pytest.raises(KeyboardInterrupt):
                run.step()
        return run

    lines: list[Line] = []
    interrupted_run(lambda take_back: lines.extend(lines_of(take_back))).to_the_end()
    scheduler = "array_scheduler.py" if engine == "ch09" else "scheduler.py"
    assert {"engine.py", "request_book.py", scheduler} <= files_of(set(lines))
    for line in lines:

        def again(take_back: Callable[[], None], line: Line = line) -> None:
            if interrupt(take_back, line, KeyboardInterrupt()):
                ctrl_c()

        run = interrupted_run(again)
        assert run.engine.has_work, f"the second interrupt came at {line[0].co_filename}:{line[1]}"
        run.to_the_end()


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
    run = at(Run(build_ch07), 3)
    drain, count = run.engine.executor.drain, iter(range(10))

    def interrupted() -> None:
        if next(count) == 0:
            raise KeyboardInterrupt
        drain()

    monkeypatch.setattr(run.engine.executor, "drain", interrupted)
    with pytest.raises(KeyboardInterrupt):
        monkeypatch.setattr(run.engine, "commit", lambda *arguments: 1 / 0)
        run.step()
    monkeypatch.delattr(run.engine, "commit")
    run.to_the_end()


def test_generate_can_be_interrupted():
    """Ctrl-C in generate: what it queued is still served, step by step, and a new call gets its own tokens."""
    from toolkit import simgpu

    simgpu.reset("eager")
    engine = build_ch02(model(), **TIGHT)
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


def test_generate_loses_no_output_of_others():
    """Ctrl-C at each line of `generate`: outputs that were kept for the next step still come with it."""
    from toolkit import simgpu

    def engine_with_kept_outputs() -> Engine[Any]:
        simgpu.reset("eager")
        engine = build_ch02(model(), **ROOMY)
        engine.add_request("kept", PROMPTS[0], SamplingParams(max_tokens=MAX_TOKENS))
        engine.generate(PROMPTS[1:2], SamplingParams(max_tokens=MAX_TOKENS))
        assert engine.has_work, "the outputs of the first request come with the next step"
        return engine

    def generate(engine: Engine[Any]) -> list[RequestOutput]:
        return engine.generate(PROMPTS[2:], SamplingParams(max_tokens=MAX_TOKENS))

    engine = engine_with_kept_outputs()
    lines = [line for line in lines_of(lambda: generate(engine)) if line[0].co_name == "generate"]
    assert len(lines) > 15
    for line in lines:
        engine = engine_with_kept_outputs()
        assert interrupt(lambda engine=engine: generate(engine), line, KeyboardInterrupt())
        outputs: list[RequestOutput] = []
        while engine.has_work:
            outputs += engine.step()
        tokens = [token for output in outputs if output.request_id == "kept" for token in output.new_token_ids]
        assert tokens == expected()[0], f"interrupted at line {line[1]} of {line[0].co_filename}"
