"""A request at fault fails alone, in the parts that chapter 9 swaps; and an end is not lost over an exception."""

import pytest

from ch02_continuous_batching import FinishReason
from ch09_persistent_batch import PersistentEngine
from tests.ch08_full_engine.full_runs import NUM_BLOCKS, Watch
from tests.helpers import tiny_model
from tests.simulated import MAX_TOKENS, PROMPTS, expected, needs_simulator

pytestmark = needs_simulator


class Trouble(Exception):
    """What the tests let one request raise."""


PLACES = {
    "packing": lambda engine: (engine.packer, "pack"),
    "launching": lambda engine: (engine.executor, "launch"),
    "committing": lambda engine: (engine.book, "commit_tokens"),
    "its output": lambda engine: (engine.book, "look_at"),
    "its blocks' names": lambda engine: (engine.scheduler.blocks, "mark_written"),
    "letting it in": lambda engine: (engine.scheduler.blocks, "share"),
}


def involves(argument: object, name: str) -> bool:
    rows = argument if hasattr(argument, "alive") else getattr(argument, "rows", ())
    return getattr(argument, "request_id", None) == name or any(row.request.request_id == name for row in rows)


def engine_on(**options):
    from toolkit import simgpu

    simgpu.reset("eager")
    return PersistentEngine(
        tiny_model(), **({"num_blocks": NUM_BLOCKS, "block_size": 4, "max_rows": 6, "token_budget": 32} | options)
    )


@pytest.mark.parametrize("bad", ["0", "4", "8"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("asynchronous", [True, False], ids=["asynchronous", "synchronous"])
def test_the_one_at_fault_fails_alone(place: str, bad: str, asynchronous: bool):
    """Whatever raises for one request, and whenever it comes: that one ends with ERROR, all others get their tokens."""
    engine = engine_on(asynchronous=asynchronous)
    owner, name = PLACES[place](engine)
    method = getattr(owner, name)

    def raising(*arguments):
        if any(involves(argument, bad) for argument in arguments):
            raise Trouble("the bad one")
        return method(*arguments)

    setattr(owner, name, raising)
    watch = Watch(engine).add_prompts().run()
    failed = [name for name, end in watch.ended.items() if end.finish_reason is FinishReason.ERROR]
    assert failed == [bad], f"{place}: request {bad} is at fault; ended with ERROR: {failed}"
    watch.assert_tokens(expected(), besides=(bad,))


@pytest.mark.parametrize("asynchronous", [True, False], ids=["asynchronous", "synchronous"])
@pytest.mark.parametrize("at", range(len(PROMPTS)))
def test_an_exception_in_the_middle_of_a_commit_loses_no_end(at: int, asynchronous: bool):
    """All tokens of the batch are appended, some requests have ended, and then it raises: once for each of the ends."""
    engine = engine_on(asynchronous=asynchronous)
    last_output, calls = engine.book.last_output, iter(range(1000))

    def raising(*arguments, **options):
        if next(calls) == at:
            raise Trouble("once")
        return last_output(*arguments, **options)

    engine.book.last_output = raising
    watch = Watch(engine).add_prompts().run()
    assert {end.finish_reason for end in watch.ended.values()} == {FinishReason.LENGTH}
    assert all(len(end.output_ids) == MAX_TOKENS for end in watch.ended.values())
    watch.assert_tokens(expected())
