"""Events put the three streams in order.

An event is a marker in a stream's queue. `event.record(stream)` queues it behind all work that the stream has got so
far. `stream.wait_event(event)` makes everything queued on that stream from then on wait for the marker, without the
host waiting. `event.synchronize()` makes the host wait. (CUDA C++ Programming Guide, "Events".)

Three events make a step right, one for each edge between two queues, or a queue and the host:

    h2d       [copy in] h2d_done
                            \
    compute                  [forward] compute_done
                                            \
    d2h                                      [copy out] d2h_done
                                                            \
    host                                                     [commit]

The host waits in one place only, for d2h_done. And with one slot and one batch at a time that is where it stays while
the device works: the order is right, but nothing overlaps, because the host has nothing else to do.
"""

from typing import Any

from transformers import PreTrainedModel

from ch02_continuous_batching import Batch
from ch03_streams import IOSlot, StreamEngine
from toolkit.device import accelerator


class SlotEvents:
    """The three events of one slot, recorded anew for every batch that goes through it.

    Attributes:
        h2d_done: the inputs are on the device.
        compute_done: the sampled ids are in the slot's device tensor.
        d2h_done: they are in its pinned host tensor.
    """

    def __init__(self) -> None:
        self.h2d_done: Any = accelerator.Event()
        self.compute_done: Any = accelerator.Event()
        self.d2h_done: Any = accelerator.Event()


class EventEngine(StreamEngine):
    """Continuous batching over three streams, ordered by events, one batch at a time."""

    def set_up_device(self, model: PreTrainedModel) -> None:
        super().set_up_device(model)
        self.events = {id(slot): SlotEvents() for slot in self.slots}

    def queue(self, batch: Batch, slot: IOSlot) -> None:
        """Queue copies in, forward and copy out on their streams, each behind what it needs and behind nothing else.

        `copy_in`, `run_forward` and `copy_out` are those of chapter 3. Every wait goes before the work that needs it,
        every record right behind the work that it stands for. With a slot more, the next batch's inputs could be copied
        while this one is computed. The host waits for nothing here.
        """
        events = self.events[id(slot)]
        # BEGIN SOLUTION 4.1
        with accelerator.stream(self.h2d):
            self.copy_in(batch, slot)
            events.h2d_done.record()
        with accelerator.stream(self.compute):
            self.compute.wait_event(events.h2d_done)
            self.run_forward(batch, slot)
            events.compute_done.record()
        with accelerator.stream(self.d2h):
            self.d2h.wait_event(events.compute_done)
            self.copy_out(batch, slot)
            events.d2h_done.record()
        # END SOLUTION

    def wait_for(self, slot: IOSlot) -> None:
        """Host: wait until this slot's sampled ids are in its pinned host tensor, and for nothing else.

        The host waits in a call that returns when they are there; it does not ask again and again.
        """
        # BEGIN SOLUTION 4.2
        self.events[id(slot)].d2h_done.synchronize()
        # END SOLUTION
