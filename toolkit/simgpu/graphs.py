"""CUDA graphs: record operations once, then replay all of them with one launch, on the same addresses.

While a stream captures, nothing runs: operations are written down with the memory that they touch. Tensors made
meanwhile come from the graph's pool. Graphs may share a pool, whose memory one overwrites with what it needs while
the other is not running; so every replay counts as writing the pool's scratch, and two at the same time are a race.
Two replays of the *same* graph never run at the same time: CUDA puts each launch behind the one before, whatever
their streams (CUDA Runtime API, cudaGraphLaunch).

Not modelled: random numbers in a graph, updates of a graph, two captures at the same time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from toolkit.simgpu.captures import Capture
from toolkit.simgpu.errors import CaptureError
from toolkit.simgpu.memory import Pool
from toolkit.simgpu.names import label
from toolkit.simgpu.queues import Moment, Queue
from toolkit.simgpu.replays import replay
from toolkit.simgpu.runtime import runtime
from toolkit.simgpu.streams import Stream, current_stream, default_stream, own_stream, synchronize


class CUDAGraph:
    """A recorded sequence of operations. Use `with graph(g): ...` to record and `g.replay()` to run it."""

    def __init__(self, keep_graph: bool = False) -> None:
        self._capture: Capture | None = None
        self._last_replay: Moment | None = None
        self._lanes: list[Queue] = []
        self._pool: Pool | None = None
        self._run = runtime.run

    def capture_begin(self, pool: Pool | None = None, capture_error_mode: str = "global") -> None:
        """Start recording what is queued on the current stream, with memory from `pool` (default: an own one)."""
        if runtime.capture is not None:
            raise CaptureError("a capture is already under way")
        if current_stream() is default_stream():  # PyTorch's source, CUDAGraph::capture_begin
            raise CaptureError("a graph cannot be captured on the default stream; use a stream of its own")
        self._pool = pool if pool is not None else graph_pool_handle()
        self._run = runtime.run
        runtime.capture = Capture(current_stream(), self._pool, capture_error_mode)

    def capture_end(self) -> None:
        """Stop recording."""
        if runtime.capture is None:
            raise CaptureError("capture_end() without a capture under way")
        self._capture, runtime.capture, self._last_replay, self._lanes = runtime.capture, None, None, []
        self._capture.end()

    def replay(self) -> None:
        """Queue all recorded operations on the current stream, as one launch behind this graph's last one.

        Raises:
            CaptureError: a tensor that was made before the capture and is used in it no longer exists. (CUDA would
                silently use whatever is at its address now.)
        """
        capture = self._capture
        if capture is None or self._run != runtime.run:
            raise CaptureError("replay() of a graph that has not been captured since reset()")
        for each in (*capture.reads.values(), *capture.writes.values()):
            if each.freed and capture.comes_from_outside(each):
                raise CaptureError(
                    f"the graph captured at {capture.site}\n  uses {label(each)} that has since been freed, or moved "
                    "by assigning a new tensor to its name. A graph is bound to addresses: keep its inputs and "
                    "outputs alive and copy_() new values into them"
                )
        stream = current_stream()
        if self._last_replay is not None:
            stream.wait_for(self._last_replay)
        replay(capture, stream, self._lanes)
        self._last_replay = stream.moment()

    def reset(self) -> None:
        """Forget the recording."""
        self._capture = self._last_replay = None

    def _refused(self, *args: object, **kwargs: object) -> NoReturn:
        raise NotImplementedError("simgpu: what a CUDAGraph tells of itself, and generators registered with one")

    enable_debug_mode = debug_dump = instantiate = raw_cuda_graph = raw_cuda_graph_exec = _refused
    register_generator_state = _refused

    def pool(self) -> Pool:
        """The pool of this graph, to be given to another one's capture."""
        if self._pool is None:
            raise CaptureError("pool() of a graph that was never captured")
        return self._pool


def graph_pool_handle() -> Pool:
    """A new pool of memory for graphs to share."""
    return runtime.memory.new_graph_pool()


def is_current_stream_capturing() -> bool:
    return runtime.capture_on(current_stream()) is not None


@contextmanager
def graph(
    cuda_graph: CUDAGraph,
    pool: Pool | None = None,
    stream: Stream | None = None,
    capture_error_mode: str = "global",
) -> Iterator[None]:
    """Record into `cuda_graph` what the body queues. Nothing runs; tensors made inside get their values at each replay.

    As in PyTorch, it first waits for the device, and records on a stream of its own unless `stream` is given.
    """
    synchronize()
    if stream is None:
        stream = own_stream("capture")
    with stream:
        cuda_graph.capture_begin(pool, capture_error_mode)
        try:
            yield
        except BaseException:
            runtime.capture = None
            raise
        cuda_graph.capture_end()
