"""A request that is at fault fails alone (invariant 7): an error that comes again with one request ends no other."""

import logging

import pytest

from ch02_continuous_batching import FinishReason, Request
from ch08_full_engine import CulpritSearch
from tests.ch08_full_engine.full_runs import Watch, engine_on, params
from tests.helpers import tiny_tokenizer
from tests.simulated import PROMPTS, expected, needs_simulator

pytestmark = needs_simulator


class Trouble(Exception):
    """What the tests let one request raise."""


def raising(method, is_bad):
    """The method, which raises when one of its arguments, or a row in a list among them, is of the bad request."""

    def wrapper(*arguments, **options):
        for argument in arguments:
            rows = argument if isinstance(argument, list | tuple) else getattr(argument, "rows", [argument])
            if any(is_bad(getattr(row, "request", row)) for row in rows):
                raise Trouble("the bad one")
        return method(*arguments, **options)

    return wrapper


PLACES = {
    "packing": lambda engine: (engine.packer, "inputs"),
    "launching": lambda engine: (engine.executor, "launch"),
    "committing": lambda engine: (engine.book, "commit_tokens"),
    "its blocks' names": lambda engine: (engine.scheduler.blocks, "mark_written"),
    "letting it in": lambda engine: (engine.scheduler.blocks, "share_prefix"),
    "its blocks": lambda engine: (engine.scheduler.blocks, "allocate"),
    "its output": lambda engine: (engine.book, "_output"),
}


@pytest.mark.parametrize("bad", ["0", "4", "8"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("asynchronous", [True, False], ids=["asynchronous", "synchronous"])
def test_the_one_at_fault_fails_alone(place: str, bad: str, asynchronous: bool):
    """Whatever raises for one request, and whenever it comes: that one ends with ERROR, all others get their tokens."""
    engine = engine_on(asynchronous=asynchronous)
    owner, name = PLACES[place](engine)
    setattr(owner, name, raising(getattr(owner, name), lambda each: getattr(each, "request_id", None) == bad))
    watch = Watch(engine).add_prompts().run()
    failed = [name for name, end in watch.ended.items() if end.finish_reason is FinishReason.ERROR]
    assert failed == [bad], f"{place}: request {bad} is at fault; ended with ERROR: {failed}"
    assert "Trouble: the bad one" in watch.ended[bad].error
    watch.assert_tokens(expected(), besides=(bad,))


@pytest.mark.parametrize("place", ["packing", "committing"])
def test_a_fault_late_in_a_long_prompt(place: str):
    """The bad request's prompt takes several steps, in which the others get on: it ends all the same."""
    engine = engine_on(token_budget=8, num_blocks=120)
    bad = [*range(3, 43)]
    owner, name = PLACES[place](engine)
    setattr(owner, name, raising(getattr(owner, name), lambda each: is_past(each, "bad", 36)))
    watch = Watch(engine).add_prompts(4)
    watch.add("bad", bad)
    watch.run()
    assert watch.ended["bad"].finish_reason is FinishReason.ERROR
    watch.assert_tokens(expected(), besides=("bad",))


def is_past(each, name: str, tokens: int) -> bool:
    return getattr(each, "request_id", None) == name and each.num_computed_tokens > tokens


def test_two_at_fault():
    """Both are found, and no other request ends."""
    engine = engine_on()
    launch = engine.executor.launch
    engine.executor.launch = raising(launch, lambda each: getattr(each, "request_id", None) in ("1", "6"))
    watch = Watch(engine).add_prompts().run()
    failed = sorted(name for name, end in watch.ended.items() if end.finish_reason is FinishReason.ERROR)
    assert failed == ["1", "6"]
    watch.assert_tokens(expected(), besides=("1", "6"))


def test_found_by_halves():
    """Sixteen rows with one at fault: two whole steps fail, then a half, a quarter, and so on."""
    engine = engine_on(max_rows=16, num_blocks=200, token_budget=200)
    failed_steps = []
    launch = raising(engine.executor.launch, lambda each: getattr(each, "request_id", None) == "11")

    def counting(batch):
        try:
            return launch(batch)
        except Trouble:
            failed_steps.append(len(batch.rows))
            raise

    engine.executor.launch = counting
    watch = Watch(engine)
    for i in range(16):
        watch.add(str(i), PROMPTS[i % len(PROMPTS)])
    watch.run()
    assert watch.ended["11"].finish_reason is FinishReason.ERROR
    assert failed_steps == [16, 16, 8, 4, 2, 1], f"rows of the steps that failed: {failed_steps}"
    assert sum(end.finish_reason is FinishReason.ERROR for end in watch.ended.values()) == 1


def test_cancelling_while_the_culprit_is_searched():
    """A request that is held back can be taken back, and so can the one that is tried."""
    for steps in range(2, 12):
        engine = engine_on()
        engine.executor.launch = raising(engine.executor.launch, lambda each: getattr(each, "request_id", None) == "3")
        watch = Watch(engine).add_prompts().run(steps=steps)
        for name in ("0", "3", "7"):
            engine.cancel(name)
        watch.run().assert_tokens(expected(), besides=("0", "3", "7"))


def test_requests_that_come_while_the_culprit_is_searched():
    """They wait until it is found, and get their tokens."""
    for steps in range(2, 12):
        engine = engine_on()
        engine.executor.launch = raising(engine.executor.launch, lambda each: getattr(each, "request_id", None) == "3")
        watch = Watch(engine).add_prompts(6).run(steps=steps)
        for i in (6, 7, 8):
            watch.add(str(i), PROMPTS[i])
        watch.run().assert_tokens(expected(), besides=("3",))
        assert watch.ended["3"].finish_reason is FinishReason.ERROR


def test_a_mistake_in_every_step_shows_its_traceback(caplog: pytest.LogCaptureFixture):
    """All batches fail, as a mistake in the code makes them: each request ends, and the log has the traceback."""
    engine = engine_on()

    def mistaken(rows):
        return rows[0].no_such_attribute

    engine.packer.inputs = mistaken
    with caplog.at_level(logging.ERROR):
        watch = Watch(engine).add_prompts().run()
    assert {end.finish_reason for end in watch.ended.values()} == {FinishReason.ERROR}
    assert all("no_such_attribute" in end.error for end in watch.ended.values())
    assert "in mistaken" in caplog.text, "the log should show where it was raised"


def test_a_text_that_fails_ends_its_request_alone():
    """The tokenizer raises for one request's tokens."""

    engine = engine_on(tokenizer=tiny_tokenizer())
    watch = Watch(engine).add_prompts()

    class Broken:
        def __getattr__(self, name):
            raise Trouble("no text")

    engine.book.texts.streams[engine.book.requests["2"]].decoder = Broken()
    watch.run()
    assert watch.ended["2"].finish_reason is FinishReason.ERROR and "no text" in watch.ended["2"].error
    watch.assert_tokens(expected(), besides=("2",))


def test_an_innocent_group_is_let_go():
    """Bookkeeping of the search by itself: halves, groups that are cleared, the last one alone."""
    search, people = CulpritSearch(), [Request(str(i), [5], params(), i) for i in range(4)]
    assert search.step_failed(people) is None and not search.groups
    assert search.step_failed(people) is None
    assert search.groups == [people[2:], people[:2]]
    assert search.step_failed(people[:2]) is None
    assert search.groups == [people[2:], people[1:2], people[:1]]
    assert search.step_failed(people[:1]) is people[0]
