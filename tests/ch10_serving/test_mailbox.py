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
            f"loop.{name} was used: of an event loop, a thread that is not its own may call call_soon_threadsafe only"
        )

    def run(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


class Box:
    """A mailbox, its loop, and what two listeners got, as (choice, token)."""

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

    def step(self, *outputs: tuple[str, int]) -> None:
        """What the engine's thread does for a step with these outputs, each a listener and a token."""
        for name, token in outputs:
            self.put(name, token)
        self.mailbox.ring()


@pytest.mark.exercise("10.1")
def test_one_wake_up_for_a_step():
    """Ten outputs: the loop is woken once, when all are there, and each listener gets its own, in order."""
    box = Box()
    for token in range(5):
        box.put("a", token, choice=token % 2)
        box.put("b", 10 + token)
    assert not any(box.got.values()), "put handed an output out itself: that belongs to the event loop's thread"
    assert not box.loop.wake_ups, f"the bell has not rung, and the loop was woken {box.loop.wake_ups} times"
    box.mailbox.ring()
    assert not any(box.got.values()), "ring handed an output out itself: that belongs to the event loop's thread"
    assert box.loop.wake_ups == 1, f"the bell has rung for 10 outputs, and the loop was woken {box.loop.wake_ups} times"
    box.loop.run()
    for name, put in (("a", [(0, 0), (1, 1), (0, 2), (1, 3), (0, 4)]), ("b", [(0, token) for token in range(10, 15)])):
        got = box.got[name]
        assert got == put, f"put for {name}, as (choice, token): {put}; handed out: {got}. All of them, in order?"


@pytest.mark.exercise("10.1")
def test_each_step_wakes_again():
    """After the loop has looked, the next step wakes it once more."""
    box = Box()
    for step in range(3):
        box.step(("a", step), ("b", step))
        assert box.loop.wake_ups == step + 1, (
            f"the loop has looked {step} times, and a step's outputs are there; wake-ups so far: {box.loop.wake_ups}"
        )
        box.loop.run()
    assert box.got["a"] == [(0, 0), (0, 1), (0, 2)], f"the deliveries of three steps, in order; here {box.got['a']}"


@pytest.mark.exercise("10.1")
def test_a_busy_loop_is_woken_once():
    """Three steps before the loop looks: one wake-up is on its way, and it brings everything."""
    box = Box()
    for step in range(3):
        box.step(("a", step))
    assert box.loop.wake_ups == 1, f"a wake-up was on its way already, and the loop was woken {box.loop.wake_ups} times"
    box.loop.run()
    put = [(0, 0), (0, 1), (0, 2)]
    assert box.got["a"] == put, (
        f"one wake-up came for three outputs put for a, as (choice, token): {put}; handed out: {box.got['a']}. Each "
        "wake-up hands out all that is there"
    )


@pytest.mark.exercise("10.1")
def test_no_reader_is_woken_for_nothing():
    """A step without outputs, such as one that computes a part of a long prompt."""
    box = Box()
    box.mailbox.ring()
    assert box.loop.wake_ups == 0, "there was no output, and the loop was woken"


@pytest.mark.exercise("10.1")
def test_a_step_that_comes_while_the_loop_looks():
    """The engine's thread puts and rings at every possible moment of hand_out: all is handed out all the same."""
    for moment in itertools.count():
        box = Box()
        box.step(("a", 1))
        if not let_in(box.loop.run, Mailbox.hand_out.__code__, moment, partial(box.step, ("b", 2))):
            break
        box.loop.run()
        assert box.got == {"a": [(0, 1)], "b": [(0, 2)]}, (
            f"b's output came while hand_out was at work (before its instruction {moment}), no other came after it, "
            f"and the loop has run until nothing was left to do; handed out was {box.got}. Is `woken` set to False "
            "before the queue is looked at for the last time?"
        )
    assert moment > 5, "hand_out did not run"


@pytest.mark.exercise("10.1")
def test_a_bell_that_rings_while_the_loop_looks():
    """The output was put before, and only the ring comes in the middle of hand_out: the next step is heard as well."""
    for moment in itertools.count():
        box = Box()
        box.step(("a", 1))
        box.put("b", 2)
        if not let_in(box.loop.run, Mailbox.hand_out.__code__, moment, box.mailbox.ring):
            break
        box.loop.run()
        box.step(("a", 3))
        box.loop.run()
        assert box.got == {"a": [(0, 1), (0, 3)], "b": [(0, 2)]}, (
            f"two outputs were there, and the bell rang for the second while hand_out was at work (before its "
            f"instruction {moment}); then a step brought a's token 3; handed out was {box.got}. Does every call of "
            "hand_out set `woken` to False, also one that finds nothing? While it is True no bell wakes the loop"
        )
    assert moment > 5, "hand_out did not run"


@pytest.mark.exercise("10.1")
@pytest.mark.parametrize("function", ["put", "ring"])
def test_the_loop_looks_while_a_step_comes(function: str):
    """The event loop runs at every possible moment of put, and of ring: all is handed out all the same."""
    code = getattr(Mailbox, function).__code__
    for moment in itertools.count():
        box = Box()
        box.step(("a", 1))
        if not let_in(partial(box.step, ("a", 2)), code, moment, box.loop.run):
            break
        box.loop.run()
        assert box.got["a"] == [(0, 1), (0, 2)], (
            f"the tokens 1 and 2 were put, each with a ring behind it, and the loop ran in the middle of the last "
            f"{function} (before its instruction {moment}), and once more after it; handed out was {box.got['a']}. Is "
            "`woken` set before the loop is woken, and is it always the same queue that is filled and emptied?"
        )
    assert moment > 3, f"{function} did not run"


@pytest.mark.exercise("10.1")
def test_the_loop_looks_while_the_first_step_rings():
    """The same while no wake-up is on its way: the loop may look before call_soon_threadsafe has even returned."""
    for moment in itertools.count():
        box = Box()
        box.put("a", 1)
        if not let_in(box.mailbox.ring, Mailbox.ring.__code__, moment, box.loop.run):
            break
        box.loop.run()
        box.step(("a", 2))
        box.loop.run()
        assert box.got["a"] == [(0, 1), (0, 2)], (
            f"the loop ran in the middle of ring (before its instruction {moment}); the next step's output came, and "
            f"the bell rang for it, and handed out was {box.got['a']}. Is `woken` set before the loop is woken? Set "
            "later, it says that a wake-up is on its way when there is none"
        )
    assert moment > 5, "ring did not run"
