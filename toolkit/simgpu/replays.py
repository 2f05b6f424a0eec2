"""How a graph runs: one launch on the current stream, whose branches run beside each other.

A graph that was captured on one stream is one operation. One with branches is played as it was captured, each branch in
a queue of its own, so that the race detector and the policies see what nothing orders inside it.
"""

from toolkit.simgpu.captures import Capture, Join, Launch, Point
from toolkit.simgpu.queues import Moment, Queue
from toolkit.simgpu.runtime import runtime
from toolkit.simgpu.streams import Stream


def replay(capture: Capture, stream: Stream, lanes: list[Queue]) -> None:
    """Queue all of a graph's operations on `stream`.

    Args:
        lanes: the queues of the graph's branches but the first, made at its first replay.
    """
    if len(capture.streams) == 1:
        _as_one_operation(capture, stream)
        return
    if not lanes:
        lanes += [Stream(name=f"{each.name} (graph)") for each in capture.streams[1:]]
    _branch_by_branch(capture, [stream, *lanes])


def _as_one_operation(capture: Capture, stream: Queue) -> None:
    launches = [each for each in capture.tape if isinstance(each, Launch)]
    steps = [each.work for each in launches]

    def work() -> None:
        for step in steps:
            step()

    reads = [each for key, each in capture.reads.items() if key not in capture.writes]
    writes = [capture.pool.scratch, *capture.writes.values()]
    cost_ms = sum(each.cost_ms for each in launches)
    runtime.launch(stream, "graph replay", work, reads, writes, cost_ms=cost_ms)


def _branch_by_branch(capture: Capture, queues: list[Queue]) -> None:
    first = queues[0]
    scratch = [capture.pool.scratch]
    runtime.launch(first, "graph replay begins", _nothing, [], scratch, "none", cost_ms=0.0)
    points: dict[int, Moment] = {}
    for each in capture.tape:
        queue = queues[each.branch]
        if isinstance(each, Point):
            points[each.number] = queue.moment()
        elif isinstance(each, Join):
            queue.wait_for(points[each.number])
        else:
            name = f"{each.name} of a graph"
            runtime.launch(queue, name, each.work, each.reads, each.writes, each.engine, each.cost_ms, each.site)
    runtime.launch(first, "graph replay ends", _nothing, [], scratch, "none", cost_ms=0.0)


def _nothing() -> None:
    pass
