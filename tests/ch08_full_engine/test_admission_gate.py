"""Exercise 8.5: no caller is let in twice, no place is lost, and who comes first is served first."""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor, wait

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ch08_full_engine import AdmissionGate

pytestmark = pytest.mark.exercise("8.5")
LONG = 5  # seconds; only ever waited for if something is lost


def test_a_place_goes_to_the_first_who_waits():
    """Of three who wait, the first gets the place of the one who leaves; the number inside stays the same."""
    gate = AdmissionGate(1)
    gate.enter()
    waiting = [gate.enter() for _ in range(3)]
    gate.leave()
    done = [ticket.done() for ticket in waiting]
    assert done == [True, False, False], f"one left, so the first of those who wait is let in; let in are {done}"
    assert gate.inside == 1, f"one left and one came in; inside are {gate.inside}, of a gate for 1"


def test_a_place_that_no_caller_wants_is_free():
    """With no caller waiting, the number inside goes down, and the next comer is let in at once."""
    gate = AdmissionGate(2)
    gate.enter(), gate.enter()
    gate.leave()
    assert gate.inside == 1, f"one of two left, and no caller waits; inside are {gate.inside}"
    assert gate.enter().done(), "there is a place, and the next comer has to wait"


def test_who_has_given_up_is_skipped():
    """A cancelled ticket gets no place; the next one does."""
    gate = AdmissionGate(1)
    gate.enter()
    first, second = gate.enter(), gate.enter()
    first.cancel()
    gate.leave()
    assert second.done() and not second.cancelled(), (
        "the first in the queue has given up, so the second one is let in; it still waits: a place is lost forever"
    )
    assert gate.inside == 1, f"inside are {gate.inside}, of a gate for 1"


def test_if_all_have_given_up_the_place_is_free():
    """When all who waited have given up, the number inside goes down."""
    gate = AdmissionGate(1)
    gate.enter()
    for _ in range(3):
        gate.enter().cancel()
    gate.leave()
    assert gate.inside == 0 and gate.enter().done(), (
        f"no caller is inside and none waits; inside says {gate.inside}: each lost place makes the server smaller"
    )


def test_who_is_let_in_can_give_up_no_more():
    """Once let in, `cancel` says False: a caller who meant to give up knows that there is a place to give back."""
    gate = AdmissionGate(1)
    gate.enter()
    ticket = gate.enter()
    gate.leave()
    assert not ticket.cancel(), "the ticket was let in and could still be cancelled: its place would be lost"


class Hasty(Future):
    """Its owner gives up the moment somebody has looked whether it has."""

    def cancelled(self) -> bool:
        seen = super().cancelled()
        self.cancel()
        return seen

    def done(self) -> bool:
        seen = super().done()
        self.cancel()
        return seen


def test_who_gives_up_in_between_is_skipped_too():
    """Between a look and the result a ticket may still be cancelled: only one step that does both is safe."""
    gate = AdmissionGate(1)
    gate.enter()
    gate.waiting.append(Hasty())
    second = gate.enter()
    cause = (
        "set_running_or_notify_cancel() looks and decides in one step. Behind a look at cancelled() or done(), the "
        "ticket's owner may give up all the same, and the place is lost"
    )
    try:
        gate.leave()
    except InvalidStateError:
        pytest.fail(f"a ticket was cancelled between the look at it and set_result. {cause}")
    assert gate.inside == 1 and not second.done(), f"the first ticket gets the place, the second one waits on. {cause}"


class Counting(Future):
    """It notes how many were inside when its owner was let in, as far as others could have seen it."""

    gate: AdmissionGate
    inside: int | None = None

    def set_result(self, result: None) -> None:
        if not self.gate.lock.locked():
            self.inside = self.gate.inside
        super().set_result(result)


def test_the_place_is_never_free_in_between():
    """A place goes from one to the next under one lock: a comer must not slip in between and be one too many."""
    gate = AdmissionGate(1)
    gate.enter()
    ticket = Counting()
    ticket.gate = gate
    gate.waiting.append(ticket)
    gate.leave()
    assert ticket.done(), "one left, and the only one who waits was not let in"
    assert gate.inside == 1, f"one left and one came in; inside are {gate.inside}, of a gate for 1"
    assert ticket.inside in (None, 1), (
        f"while the ticket was let in the lock was free, and inside were {ticket.inside}, of a gate for 1 that is "
        "full: a comer would be let in, too. Change `inside` only if no caller waits, or do all of it under one lock"
    )


class Watched(AdmissionGate):
    """Notes whether the lock was held whenever `inside` was changed."""

    changed_without: bool = False
    _inside = 0

    @property
    def inside(self) -> int:
        return self._inside

    @inside.setter
    def inside(self, value: int) -> None:
        if hasattr(self, "lock") and not self.lock.locked():
            self.changed_without = True
        self._inside = value


def test_inside_changes_under_the_lock():
    """Two who leave at once must not both read the same number before either has written it."""
    gate = Watched(2)
    gate.enter(), gate.enter()
    gate.leave()
    assert not gate.changed_without, (
        "`inside` was changed, and the lock was not held: of two who leave at the same time one may be lost"
    )


class Crossing:
    """The gate's lock; the caller who takes it for the `number`th time meets another, right before or right after."""

    def __init__(self, gate: AdmissionGate, before: bool, number: int, meet: Callable[[], object]) -> None:
        self.gate, self.lock, self.before, self.number, self.meet = gate, gate.lock, before, number, meet

    def acquire(self, *arguments: object) -> bool:
        self.number -= 1
        self.happens(self.before)
        return self.lock.acquire(*arguments)

    def release(self) -> None:
        self.lock.release()
        self.happens(not self.before)

    def happens(self, now: bool) -> None:
        if now and self.number == 0:
            self.number = -1
            self.gate.lock, crossing = self.lock, self
            self.meet()
            self.gate.lock = crossing

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()

    def locked(self) -> bool:
        return self.lock.locked()


@pytest.mark.parametrize("who", ["comes", "gives up"])
@pytest.mark.parametrize("queue", [0, 1, 2])
def test_a_move_at_the_same_time_loses_nothing(queue: int, who: str):
    """Right before or after leave holds the lock, another thread comes or gives up: each place is given once."""
    for waiting in (0, 1, 2):
        gate = AdmissionGate(1)
        for _ in range(1 + waiting):
            gate.enter()
        gate.leave()
        assert gate.inside == min(waiting, 1), (
            f"in one thread alone, {waiting} waited and the only one inside left: inside says {gate.inside}"
        )
    for before, number in ((True, 1), (False, 1), (True, 2), (False, 2)):
        gate = AdmissionGate(1)
        gate.enter()
        tickets = [gate.enter() for _ in range(queue)]

        def meet(gate: AdmissionGate = gate, tickets: list[Future] = tickets) -> None:
            if who == "comes":
                tickets.append(gate.enter())
            elif tickets:
                tickets[0].cancel()

        gate.lock = Crossing(gate, before, number, meet)  # type: ignore[assignment]
        gate.leave()
        let_in = sum(ticket.done() and not ticket.cancelled() for ticket in tickets)
        still = sum(not ticket.done() for ticket in tickets)
        when = (
            f"right {'before' if before else 'after'} leave had the lock for the {['first', 'second'][number - 1]} time"
        )
        what = (
            f"{queue} waited, and {when} somebody {who}: {let_in} let in, {still} still wait, inside says {gate.inside}"
        )
        assert gate.inside == let_in, f"{what}. What leave looks at and what it changes belong under one lock"
        assert not still or gate.inside == 1, (
            f"{what}: a place is free, and will never be given to the one who waits. Look at the queue and change "
            "`inside` under one lock"
        )


def test_the_lock_is_held():
    """Somebody else is at the gate: leave waits for the lock, since a comer might just be joining the queue."""
    gate = AdmissionGate(1)
    gate.enter()
    with gate.lock:
        pool = ThreadPoolExecutor(1)
        leaving = pool.submit(gate.leave)
        wait([leaving], timeout=0.05)
        changed = gate.inside == 0
    leaving.result(LONG)
    assert not changed, (
        "leave has changed `inside` while another thread held the lock. Take the lock: otherwise somebody may join the "
        "queue just after leave has found it empty, and wait there forever"
    )
    assert gate.inside == 0, f"the only one inside has left, and no caller waits; inside says {gate.inside}"


@settings(max_examples=100, deadline=None)
@given(size=st.integers(1, 4), moves=st.lists(st.sampled_from(["enter", "leave", "give up"]), max_size=60))
def test_never_more_inside_than_places_and_none_lost(size: int, moves: list[str]):
    """Random comings and goings: inside are as many as could be, in the order in which they came."""
    gate = AdmissionGate(size)
    inside: list[Future] = []
    queue: list[Future] = []
    for move in moves:
        if move == "enter":
            queue.append(gate.enter())
        elif move == "leave" and inside:
            inside.pop(0)
            gate.leave()
        elif move == "give up" and queue:
            assert queue.pop(len(queue) // 2).cancel(), "who waits can give up"
        while queue and len(inside) < size:
            assert queue[0].done(), f"{len(inside)} of {size} places are taken, and the first who waits is not let in"
            inside.append(queue.pop(0))
        assert not any(ticket.done() for ticket in queue), f"{size} are inside, and one more was let in"
        assert gate.inside == len(inside), f"{len(inside)} are inside, and the gate says {gate.inside}"


def test_threads():
    """Many threads through a gate for three, some of which give up: never more than three inside, none left over."""
    gate, lock, inside, most = AdmissionGate(3), threading.Lock(), 0, 0

    def visit(seed: int) -> None:
        nonlocal inside, most
        rng = random.Random(seed)
        for _ in range(40):
            ticket = gate.enter()
            if rng.random() < 0.3 and ticket.cancel():
                continue
            ticket.result(LONG)
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(1e-4)  # long enough for a queue outside
            with lock:
                inside -= 1
            gate.leave()

    with ThreadPoolExecutor(8) as pool:
        visits = [pool.submit(visit, seed) for seed in range(8)]
    errors = [error for each in visits if (error := each.exception())]
    mistakes = [error for error in errors if not isinstance(error, TimeoutError)]
    if mistakes:
        raise mistakes[0]
    assert not errors, f"{len(errors)} of 8 threads wait for a place that never comes: places were lost"
    assert most <= 3, f"{most} were inside at a time, of a gate for 3"
    assert gate.inside == 0 and not any(not ticket.cancelled() for ticket in gate.waiting), (
        f"all have left; inside says {gate.inside}"
    )


def test_coroutines_that_are_cancelled():
    """A coroutine that is cancelled while it waits leaves no trace; the others get in."""

    async def visit(gate: AdmissionGate) -> None:
        ticket = gate.enter()
        try:
            await asyncio.wrap_future(ticket)
        except asyncio.CancelledError:
            if not ticket.cancel():
                gate.leave()
            raise
        await asyncio.sleep(0)
        gate.leave()

    async def crowd() -> AdmissionGate:
        gate = AdmissionGate(2)
        visitors = [asyncio.create_task(visit(gate)) for _ in range(30)]
        await asyncio.sleep(0)  # two are inside now, the others wait
        for visitor in visitors[3::3]:
            visitor.cancel()
        patient = [visitor for visitor in visitors if visitor not in visitors[3::3]]
        try:
            await asyncio.wait_for(asyncio.gather(*patient), LONG)
        except TimeoutError:
            pytest.fail("some who never gave up are not let in, though all others have left or given up")
        return gate

    gate = asyncio.run(crowd())
    assert gate.inside == 0, f"all have left or given up; inside says {gate.inside}"
