"""Two batches in flight: while the device computes batch N, the host prepares batch N + 1 and launches it.

The three functions of a step stay as they are; what changes is their order:

    one at a time:   prepare 0, launch 0, commit 0, prepare 1, launch 1, commit 1, ...
    two in flight:   prepare 0, launch 0, prepare 1, launch 1, commit 0, prepare 2, launch 2, commit 1, ...
"""

from collections.abc import Sequence

from ch02_continuous_batching import Engine, Parts, RequestOutput
from ch03_streams import IOBuffers


class PipelinedEngine(Engine[IOBuffers]):
    """Continuous batching with several batches in flight, each in IO buffers of its own.

    Attributes:
        max_in_flight: when so many batches are in flight, the oldest is committed. As many as there are IO buffers; 1
            commits each batch before the next is prepared.
    """

    def __init__(self, parts: Parts[IOBuffers], max_in_flight: int = 2) -> None:
        super().__init__(parts)
        self.max_in_flight = max_in_flight

    def advance(self) -> Sequence[RequestOutput]:
        """Launch the next batch, if there is one; then commit the oldest batch in flight, if it is time.

        `self.prepare()` makes the batch, or returns None if no request can run now; `self.executor.launch(batch)` makes
        its handle. `self.in_flight` holds the pairs (batch, handle) of the launched batches, the oldest on the left;
        `self.commit(batch, handle)` waits for one and returns what it brought. It is time if `max_in_flight` batches
        are in flight (all buffers are taken), or if there was nothing to launch. The host waits in `commit` alone.

        Returns:
            what the committed batch brought; an empty list if none was committed.
        """
        raise NotImplementedError("ch05 exercise 3: Launch the next before you commit the last")
