"""Two slots: while the device computes batch N from one, the host writes batch N + 1 into the other.

The three functions of a step stay as they are; what changes is their order:

    one slot:   prepare 0, launch 0, commit 0, prepare 1, launch 1, commit 1, ...
    two slots:  prepare 0, launch 0, prepare 1, launch 1, commit 0, prepare 2, launch 2, commit 1, ...

A slot must not be rewritten before the copies of the batch that used it last are through. Batch N + 2 uses the slot of
batch N, and is launched after batch N was committed, behind its d2h_done.

A request cannot be in N and N + 1: its next token is what N computes. So each batch takes half of the requests, and two
groups take turns. That is this chapter's price: the weights are read twice to give everybody one token.
"""

from collections import deque

from ch02_continuous_batching import Batch, RequestOutput, Scheduler
from ch03_streams import IOSlot
from ch04_events import EventEngine


class HalfBatchScheduler(Scheduler):
    """Puts at most half of the requests into a step, so that the other half is left for the next one.

    Requests in flight have no uncomputed token and are passed over anyway (see `num_tokens_for`). With the limit, two
    groups that take turns come about by themselves.
    """

    def rows_limit(self) -> int:
        """Half of the requests that could run, rounded up: those running and waiting, but no more than max_rows."""
        raise NotImplementedError("ch05 exercise 1: Half of the requests")


class DoubleBufferedEngine(EventEngine):
    """Two batches in flight, each in a slot of its own.

    Attributes:
        in_flight: (batch, slot) of the launched batches that are not committed yet, oldest first.
        max_in_flight: when so many are, the oldest is committed.
    """

    num_slots = 2
    max_in_flight = 2

    def make_scheduler(self) -> Scheduler:
        self.in_flight: deque[tuple[Batch, IOSlot]] = deque()
        config = self.config
        return HalfBatchScheduler(self.blocks, config.max_rows, config.token_budget, config.policy)

    @property
    def has_work(self) -> bool:
        return super().has_work or bool(self.in_flight)

    def free_slot(self, batch: Batch) -> IOSlot:
        """The slot for a new batch, one of `slots`: one that no batch in flight uses. Asked once for each batch."""
        raise NotImplementedError("ch05 exercise 2: A slot that nobody uses")

    def restart(self) -> None:
        super().restart()
        self.in_flight.clear()

    def advance(self) -> list[RequestOutput]:
        """Launch the next batch, if there is one; then commit the oldest batch in flight, if it is time.

        It is time if `max_in_flight` batches are in flight (both slots are taken), or if there was nothing to launch.
        The host waits in `commit` alone.

        Returns:
            what the committed batch brought; an empty list if none was committed.
        """
        raise NotImplementedError("ch05 exercise 3: Launch the next before you commit the last")
