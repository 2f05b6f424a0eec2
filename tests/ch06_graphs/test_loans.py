"""Exercise 6.5: a temporary that another stream reads is kept until that stream is done with it, and no longer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from ch06_graphs import Loans
from tests.simulated import needs_simulator
from toolkit.device import DEVICE, accelerator, is_simulated, new_stream, sleep

pytestmark = [pytest.mark.exercise("6.5"), pytest.mark.usefixtures("no_garbage")]

NUMBERS = 1000  # in each tensor
BYTES = 4096  # that the allocator counts for one of them
LONG_MS, SHORT_MS = 60, 5  # for how long a reader is busy before it reads


class Desk:
    """A stream that makes temporaries, streams that read them late, and what was lent to these.

    Attributes:
        tested: the learner's Loans.
        compute: the stream of all temporaries.
    """

    def __init__(self) -> None:
        if is_simulated():
            accelerator.reset("lazy", on_race="collect")
        self.tested, self.compute = Loans(), new_stream("compute")
        accelerator.synchronize()
        self.before = accelerator.memory_allocated()

    def temporary(self, value: int) -> Tensor:
        """A new tensor, made on `compute`."""
        with accelerator.stream(self.compute):
            return torch.full((NUMBERS,), float(value), device=DEVICE)

    def lend(self, value: int, reader: Any, busy_ms: float) -> Tensor:
        """Have a temporary copied out by `reader`, which is busy before that, and lend it. Returns the copy."""
        host = torch.zeros(NUMBERS, pin_memory=True)
        tensor = self.temporary(value)
        reader.wait_stream(self.compute)
        with accelerator.stream(reader):
            sleep(busy_ms)
            host.copy_(tensor, non_blocking=True)
        with self.does_not_wait("lend"):
            self.tested.lend(tensor, reader)
        return host

    def settle(self) -> None:
        with self.does_not_wait("settle"):
            try:
                self.tested.settle()
            except RuntimeError as error:
                assert "Boolean value of Tensor" not in str(error), (
                    f"settle raised {error}. Pairs with tensors in them were compared, as `==`, `in` and list.remove do"
                )
                raise

    @contextmanager
    def does_not_wait(self, name: str) -> Iterator[None]:
        """On the simulated GPU, which notes it: the host does not wait inside."""
        before = len(accelerator.synchronisations()) if is_simulated() else 0
        yield
        waits = accelerator.synchronisations()[before:] if is_simulated() else []
        assert not waits, (
            f"in {name} the host waited for the device: {waits[0].what} at {waits[0].site}. event.query() asks how far "
            "it is, and does not wait"
        )

    @property
    def kept(self) -> int:
        """How many temporaries the allocator counts."""
        return (accelerator.memory_allocated() - self.before) // BYTES


def races() -> str:
    """What the simulated GPU has reported; nothing on CUDA."""
    return "\n".join(str(race) for race in accelerator.races()) if is_simulated() else ""


@pytest.mark.both
def test_memory_is_not_given_away_while_it_is_read():
    """A lent tensor outlives its name: the next tensor of its stream gets other memory."""
    desk = Desk()
    host = desk.lend(7, new_stream("d2h"), LONG_MS)
    kept = desk.kept
    desk.temporary(9)
    accelerator.synchronize()
    assert kept == 1, (
        f"a tensor was lent and its own name is gone; the allocator counts {kept} such tensors, not 1: lend has to "
        "keep a reference to it"
    )
    assert host[0] == 7 and not races(), f"the reader should see 7, it saw {host[0]:.0f}. {races()}"


@pytest.mark.both
def test_settle_keeps_what_is_still_read():
    """Settled while the reader is busy, the tensor is kept, although its own stream is done."""
    desk = Desk()
    desk.lend(7, new_stream("d2h"), LONG_MS)
    desk.compute.synchronize()
    desk.settle()
    assert desk.kept == 1, (
        "compute, which made the tensor, is done, and the reader is not: settle let the tensor go. What matters is "
        "how far the *reader* is: an event on that stream says it"
    )


@pytest.mark.both
def test_settle_lets_go_of_what_is_done():
    """Once the reader is done the memory is free again, and the next tensor may have it."""
    desk = Desk()
    desk.lend(7, new_stream("d2h"), SHORT_MS)
    accelerator.synchronize()
    desk.settle()
    assert desk.kept == 0, "the reader is done, and settle still keeps the tensor: its memory is never free again"
    desk.temporary(9)
    assert not races(), f"the reader was known to be done: {races()}"


@pytest.mark.both
def test_readers_may_be_done_in_another_order():
    """The tensor that was lent last is read first: it is let go, and the other one is kept."""
    desk = Desk()
    slow, quick = new_stream("slow"), new_stream("quick")
    host = desk.lend(7, slow, LONG_MS)
    desk.lend(8, quick, SHORT_MS)
    quick.synchronize()
    desk.settle()
    cause = (
        "A loan that is not over must not hold up those behind it"
        if desk.kept
        else "Each loan needs an event of its own, recorded on its reader"
    )
    assert desk.kept == 1, (
        f"two tensors are lent, the second one's reader is done: settle should keep 1, it keeps {desk.kept}. {cause}"
    )
    desk.temporary(9)
    accelerator.synchronize()
    assert host[0] == 7 and not races(), (
        f"the wrong one of the two was let go: the slow reader should see 7, it saw {host[0]:.0f}. {races()}"
    )


@pytest.mark.both
def test_all_that_are_done_go_at_once():
    """Of three tensors, the first two are read: one call lets go of both, and the third is kept."""
    desk = Desk()
    quick, slow = new_stream("quick"), new_stream("slow")
    for reader, busy_ms in ((quick, SHORT_MS), (quick, SHORT_MS), (slow, LONG_MS)):
        desk.lend(7, reader, busy_ms)
    quick.synchronize()
    desk.settle()
    assert desk.kept == 1, (
        f"three tensors are lent, the first two were read: settle should keep the third alone, it keeps {desk.kept}. "
        "Each call lets go of all that are done; and what is taken out of a list while a loop goes over it makes the "
        "loop skip the next one"
    )


@pytest.mark.both
def test_later_work_of_the_reader_does_not_count():
    """A reader that is never idle still gives back what it has read."""
    desk = Desk()
    reader = new_stream("d2h")
    desk.lend(7, reader, SHORT_MS)
    read = reader.record_event()
    with accelerator.stream(reader):
        sleep(LONG_MS)
    read.synchronize()
    desk.settle()
    assert desk.kept == 0, (
        "the reader has read the tensor and has other work by now: settle still keeps it. Wait for a point in the "
        "reader's queue, an event recorded when the tensor was lent, and not for the stream to be idle"
    )


@needs_simulator
def test_the_host_never_waits():
    """lend and settle ask the device how far it is and go on."""
    desk = Desk()
    desk.lend(7, new_stream("d2h"), LONG_MS)
    before = accelerator.now_ms()
    desk.settle()
    asked = accelerator.now_ms() - before
    assert asked < LONG_MS / 2, f"the reader is busy for {LONG_MS} ms, and settle took {asked:.0f} simulated ms"
