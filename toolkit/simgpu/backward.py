"""Which stream the operations of a backward pass go to, and what orders them.

As in PyTorch, each runs on the stream of the forward operation that it belongs to; the pass begins behind what the
calling thread's current stream has been given, and that stream comes behind the pass. Between two of its streams
PyTorch makes the edges that the gradients need. Simplified: here the whole pass is one sequence, so that a change of
stream always waits. What the program does beside it is checked as ever.

Two threads that call backward() at the same time are not told apart.

torch's engine calls from a thread of its own, which knows no current stream. The stream of a forward operation is found
by the number that torch gives to each node of the autograd graph.
"""

import bisect
import threading
from collections.abc import Callable
from typing import Any

import torch

from toolkit.simgpu.queues import Queue
from toolkit.simgpu.sites import caller_site, issued_for

_UNNUMBERED = 2**63  # nodes that add to a .grad have no number of their own; they follow the node before them


class StreamLog:
    """At which node of the autograd graph a thread chose which stream."""

    def __init__(self) -> None:
        self._nodes: list[int] = []
        self._streams: list[Queue] = []

    def note(self, stream: Queue) -> None:
        """From here on the thread's operations go to `stream`."""
        node = torch._C._autograd._get_sequence_nr()
        if self._nodes and self._nodes[-1] == node:
            self._streams[-1] = stream
        elif not self._streams or self._streams[-1] is not stream:
            self._nodes.append(node)
            self._streams.append(stream)

    def stream_of(self, node: int) -> Queue | None:
        """Where the forward operation of a node went; None: it came before all choices."""
        place = bisect.bisect_right(self._nodes, node)
        return self._streams[place - 1] if place else None


class Pass:
    """A backward pass that is under way.

    Args:
        log: of the thread that called backward().
        start: that thread's current stream.
        default: the stream of operations that no choice came before.
        order: makes what is queued on its second stream come after what is on its first.
    """

    def __init__(self, log: StreamLog, start: Queue, default: Queue, order: Callable[[Queue, Queue], None]) -> None:
        self._log, self._last, self._default = log, start, default
        self._order = order
        self.thread = threading.get_ident()

    def stream(self) -> Queue:
        """The stream of the operation that is being issued."""
        node = torch._C._current_autograd_node()
        if node is not None and (number := node._sequence_nr()) < _UNNUMBERED:
            self.go_on(self._log.stream_of(number) or self._default)
        return self._last

    def go_on(self, stream: Queue) -> None:
        """The pass goes on on `stream`, behind all that it has done."""
        if stream is not self._last:
            self._order(self._last, stream)
            self._last = stream


class Passes:
    """The backward passes that are under way, innermost last, and the threads' logs.

    Args:
        order: see Pass.
    """

    def __init__(self, order: Callable[[Queue, Queue], None]) -> None:
        self._order = order
        self._open: list[Pass] = []
        self._engines: set[int] = set()  # threads of torch's engine; between two nodes it adds up gradients
        self._thread = threading.local()

    @property
    def log(self) -> StreamLog:
        """This thread's."""
        if not hasattr(self._thread, "log"):
            self._thread.log = StreamLog()
        return self._thread.log

    def current_stream(self) -> Queue | None:
        """The stream of a backward operation, if a thread of torch's engine asks; else None."""
        if not self._open:
            return None
        this, thread = self._open[-1], threading.get_ident()
        if torch._C._current_autograd_node() is not None and thread != this.thread:
            self._engines.add(thread)
        return this.stream() if thread in self._engines else None

    def run(self, engine: Callable[..., Any], start: Queue, default: Queue, args: tuple, kwargs: dict) -> Any:  # noqa: ANN401
        """Call torch's engine as one pass."""
        this = Pass(self.log, start, default, self._order)
        self._open.append(this)
        try:
            with issued_for(caller_site()):
                return engine(*args, **kwargs)
        finally:
            this.go_on(start)
            self._open.remove(this)
