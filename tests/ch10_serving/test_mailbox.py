"""Exercise 10.1: a step's outputs reach the event loop with one wake-up, and none is left behind."""

import itertools
from collections.abc import Callable
from functools import partial

import pytest

from ch02_continuous_batching import RequestOutput
from ch10_serving import Mailbox
from tests.ch10_serving.every_moment import let_in


class Loop:
    """What a mailbox needs of an event loop. Nothing runs before `run`."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []
        self.wake_ups = 0

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        self.wake_ups += 1
        self.waiting.append(callback)

    def __getattr__(self, name: str) -> object:
        pytest.fail(
            f"put called loop.{name}: of an event loop, a thread that is not its own may call call_soon_threadsafe only"
        )

    def run(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


class Box:
    """A mailbox, its loop, and what two listeners got."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.mailbox = Mailbox(self.loop)  # type: ignore[arg-type]
        self.got: dict[str, list[tuple[int, int]]] = {"a": [], "b": []}

    def put(self, name: str, token: int, choice: int = 0) -> None:
        got = self.got[name]

        class Taker:
            def take(self, choice: int, output: RequestOutput) -> None:
                got.append((choice, output.new_token_ids[0]))

        self.mailbox.put(Taker(), choice, RequestOutput(name, (token,)))


@pytest.mark.exercise("10.1")
def test_one_wake_up_for_a_step():
    """Ten outputs come before the loop looks: it is woken once, and each listener gets its own, in order."""
    box = Box()
    for token in range(5):
        box.put("a", token, choice=token % 2)
        box.put("b", 10 + token)
    assert not any(box.got.values()), "put handed an output out itself: that belongs to the event loop's thread"
    seen = box.loop.wake_ups
    assert seen == 1, f"10 outputs came before the loop looked, and it was woken {seen} times instead of once"
    box.loop.run()
    assert box.got["a"] == [(0, 0), (1, 1), (0, 2), (1, 3), (0, 4)], f"a's outputs, as (choice, token): {box.got['a']}"
    assert box.got["b"] == [(0, token) for token in range(10, 15)], f"b's outputs, as (choice, token): {box.got['b']}"


@pytest.mark.exercise("10.1")
def test_each_step_wakes_again():
    """After the loop has looked, the next output wakes it once more."""
    box = Box()
    for step in range(3):
        box.put("a", step)
        box.put("b", step)
        assert box.loop.wake_ups == step + 1, (
            f"the loop has looked {step} times, and new outputs are there; wake-ups so far: {box.loop.wake_ups}"
        )
        box.loop.run()
    assert box.got["a"] == [(0, 0), (0, 1), (0, 2)]


@pytest.mark.exercise("10.1")
def test_an_output_that_comes_while_the_loop_looks():
    """The engine's thread puts at every possible moment of hand_out: the output is handed out all the same."""
    for moment in itertools.count():
        box = Box()
        box.put("a", 1)
        if not let_in(box.loop.run, Mailbox.hand_out.__code__, moment, partial(box.put, "b", 2)):
            break
        box.loop.run()
        assert box.got == {"a": [(0, 1)], "b": [(0, 2)]}, (
            f"b's output came while hand_out was at work (before its instruction {moment}), no other came after it, "
            f"and the loop has run until nothing was left to do; handed out was {box.got}. Is `woken` set to False "
            "before the queue is looked at for the last time?"
        )
    assert moment > 5, "hand_out did not run"


@pytest.mark.exercise("10.1")
@pytest.mark.parametrize("earlier", [[], [0]], ids=["alone", "behind another"])
def test_the_loop_looks_while_an_output_comes(earlier: list[int]):
    """The event loop runs at every possible moment of put: the output is handed out all the same."""
    for moment in itertools.count():
        box = Box()
        for token in earlier:
            box.put("a", token)
        if not let_in(partial(box.put, "a", 1), Mailbox.put.__code__, moment, box.loop.run):
            break
        box.loop.run()
        assert box.got["a"] == [(0, token) for token in [*earlier, 1]], (
            f"the tokens {[*earlier, 1]} were put, and the loop ran in the middle of the last put (before its "
            f"instruction {moment}), and once more after it; handed out was {box.got['a']}. Is the output in the queue "
            "before the loop is woken, and is it always the same queue?"
        )
    assert moment > 5, "put did not run"
