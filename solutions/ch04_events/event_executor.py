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

The host waits in one place only, for d2h_done. And with one batch at a time that is where it stays while
the device works: the order is right, but nothing overlaps, because the host has nothing else to do.
"""

from collections.abc import Sequence

from ch02_continuous_batching.batch import Batch
from ch03_streams import IOBuffers, StreamExecutor
from toolkit.device import accelerator  # noqa: F401 (for an answer with `accelerator.stream`, as right as this one)


class EventExecutor(StreamExecutor):
    """Runs batches over three streams, ordered by the three events of their IO buffers."""

    def queue(self, batch: Batch, buffers: IOBuffers) -> None:
        """Queue copies in, forward and copy out on their streams, each behind what it needs and behind nothing else.

        `copy_in`, `run` and `copy_out` are those of chapter 3; the events are `buffers.h2d_done`,
        `buffers.compute_done` and `buffers.d2h_done`. Every wait goes before the work that needs it, every record right
        behind the work that it marks. With buffers for a second batch, that batch's inputs could be copied while
        this one is computed. The host waits for nothing here.

        `with self.h2d:` chooses a stream as `with accelerator.stream(self.h2d):` does, and costs the host 1 us on an
        H100's machine, not 12. It is done three times a step.
        """
        # BEGIN SOLUTION 4.1
        with self.h2d:
            self.copy_in(batch, buffers)
            buffers.h2d_done.record(self.h2d)
        with self.compute:
            self.compute.wait_event(buffers.h2d_done)
            self.run(batch, buffers)
            buffers.compute_done.record(self.compute)
        with self.d2h:
            self.d2h.wait_event(buffers.compute_done)
            self.copy_out(batch, buffers)
            buffers.d2h_done.record(self.d2h)
        # END SOLUTION

    def wait(self, batch: Batch, buffers: IOBuffers) -> Sequence[int]:
        """Host: wait until the sampled ids are in the pinned host tensor of these buffers, and for nothing else.

        The host waits in a call that returns when they are there; it does not ask again and again.
        """
        # BEGIN SOLUTION 4.2
        buffers.d2h_done.synchronize()
        # END SOLUTION
        return buffers.read_ids(len(batch.sampling_rows))
