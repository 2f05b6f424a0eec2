"""Graphs: static addresses, one launch per replay, memory pools and their scratch."""

import pytest
import torch

from toolkit import simgpu


def capture(x, y, pool=None, steps=1):
    graph = simgpu.CUDAGraph()
    with simgpu.graph(graph, pool=pool):
        value = x
        for _ in range(steps):
            value = value * 2 + 1
        y.copy_(value)
    return graph


@pytest.fixture
def buffers():
    return torch.ones(8, 16, device="sim"), torch.zeros(8, 16, device="sim")


@pytest.mark.parametrize("policy", ["eager", "lazy", "threads", "random:4"])
def test_static_inputs_fed_from_another_stream(policy):
    simgpu.reset(policy)
    x, y = torch.zeros(4, device="sim"), torch.zeros(4, device="sim")
    graph = capture(x, y, steps=3)
    h2d, main, results = simgpu.Stream(name="h2d"), simgpu.current_stream(), []
    for step in range(4):
        h2d.wait_stream(main)
        with simgpu.stream(h2d):
            x.copy_(torch.full((4,), float(step)).pin_memory(), non_blocking=True)
        main.wait_stream(h2d)
        graph.replay()
        results.append(y.tolist()[0])
    assert results == [step * 8 + 7.0 for step in range(4)]


def test_a_missing_wait_before_a_replay_is_reported(buffers):
    x, y = buffers
    graph = capture(x, y)
    h2d = simgpu.Stream(name="h2d")
    h2d.wait_stream(simgpu.current_stream())
    with simgpu.stream(h2d):
        x.copy_(torch.ones(8, 16, pin_memory=True), non_blocking=True)
    with pytest.raises(simgpu.RaceError) as caught:
        graph.replay()
    assert caught.value.race.second.name == "graph replay"
    assert "default.wait_event" in caught.value.race.missing_edge


def test_replay_is_one_launch(buffers):
    graph = capture(*buffers, steps=50)
    before, spans = simgpu.now_ms(), len(simgpu.spans())
    graph.replay()
    assert simgpu.now_ms() - before == pytest.approx(simgpu.Costs().launch_ms)
    assert len(simgpu.spans()) == spans + 1
    span = simgpu.spans()[-1]
    assert span.end - span.start > 100 * simgpu.Costs().kernel_ms, "the kernels themselves still take their time"


def test_the_default_stream_captures_nothing(buffers):
    """As in PyTorch, where a capture on the default stream is refused."""
    x, y = buffers
    with (
        pytest.raises(simgpu.CaptureError, match="on the default stream"),
        simgpu.graph(simgpu.CUDAGraph(), stream=simgpu.default_stream()),
    ):
        y.copy_(x)
    assert capture(x, y) is not None, "the refused capture is over"


def test_an_input_that_was_freed_is_an_error():
    x, y = torch.ones(4, device="sim"), torch.zeros(4, device="sim")
    graph = capture(x, y)
    del x
    with pytest.raises(simgpu.CaptureError, match="freed, or moved(.|\n)*copy_"):
        graph.replay()


def test_an_input_that_moved_is_an_error():
    x, y = torch.ones(4, device="sim"), torch.zeros(4, device="sim")
    graph = capture(x, y)
    graph.replay()
    x = x + 1  # a new tensor at a new address: the graph does not know it
    with pytest.raises(simgpu.CaptureError, match=r"\(4,\) float32 buffer that has since been freed, or moved"):
        graph.replay()
    assert x.tolist() == [2.0] * 4


def test_an_input_kept_alive_by_a_view_is_no_error():
    x, y = torch.ones(4, device="sim"), torch.zeros(4, device="sim")
    graph, view = capture(x, y), x[:2]
    del x
    graph.replay()
    assert y.tolist() == [3.0] * 4 and view.tolist() == [1.0] * 2


def test_two_graphs_of_one_pool_at_once_are_a_race(buffers):
    x, y = buffers
    z = torch.zeros_like(y)
    simgpu.synchronize()
    pool = simgpu.graph_pool_handle()
    first, second = capture(x, y, pool), capture(x, z, pool)
    a, b = simgpu.Stream(name="a"), simgpu.Stream(name="b")
    with simgpu.stream(a):
        first.replay()
    with simgpu.stream(b):
        with pytest.raises(simgpu.RaceError, match="two graphs of one pool"):
            second.replay()


def test_two_graphs_with_a_pool_each_may_run_at_once(buffers):
    x, y = buffers
    z = torch.zeros_like(y)
    simgpu.synchronize()
    first, second = capture(x, y), capture(x, z)
    with simgpu.stream(simgpu.Stream(name="a")):
        first.replay()
    with simgpu.stream(simgpu.Stream(name="b")):
        second.replay()


@pytest.mark.parametrize("policy", ["eager", "lazy", "threads", "random:4"])
def test_one_graph_on_two_streams_runs_once_after_the_other(policy):
    """CUDA orders launches of one executable graph: no report, and no replay that starts before the last has ended."""
    simgpu.reset(policy)
    x, graph, later = torch.zeros(4, device="sim"), simgpu.CUDAGraph(), simgpu.CUDAGraph()
    with simgpu.graph(graph):
        x.add_(1)
    streams = [simgpu.Stream(name=name) for name in "abc"]
    for stream in streams:
        with simgpu.stream(stream):
            graph.replay()
    replays = [span for span in simgpu.spans() if span.name == "graph replay"]
    assert all(first.end <= second.start for first, second in zip(replays, replays[1:], strict=False))
    streams[-1].synchronize()
    assert x.tolist() == [3.0] * 4
    with simgpu.graph(later):
        x.add_(1)
    with simgpu.stream(streams[0]):
        graph.replay()
    with simgpu.stream(streams[1]), pytest.raises(simgpu.RaceError):
        later.replay()


def test_a_graph_captured_again_does_not_wait_for_the_old_one(buffers):
    x, y = buffers
    graph, a, b = capture(x, y), simgpu.Stream(name="a"), simgpu.Stream(name="b")
    with simgpu.stream(a):
        graph.replay()
    with simgpu.graph(graph):
        y.add_(1)
    with simgpu.stream(a):
        y.mul_(2)
    with simgpu.stream(b), pytest.raises(simgpu.RaceError):
        graph.replay()


@pytest.mark.usefixtures("no_garbage")
def test_one_pool_takes_less_memory_than_two():
    def reserved(shared):
        simgpu.reset()
        before = simgpu.memory_reserved()
        pool = simgpu.graph_pool_handle()
        x, y, z = (torch.zeros(1000, 1000, device="sim") for _ in range(3))
        graphs = [capture(x, out, pool if shared else None, steps=3) for out in (y, z)]
        del x, y, z
        return simgpu.memory_reserved() - before, graphs

    apart, together = reserved(False)[0], reserved(True)[0]
    megabyte = 1e6
    assert together < apart - 3 * megabyte, (together, apart)


def test_the_scratch_of_one_graph_overwrites_the_other_graphs_result_kept_in_the_pool():
    """Why inputs and outputs are allocated before the capture, outside the pool."""
    x, pool = torch.ones(300, device="sim"), simgpu.graph_pool_handle()
    first = simgpu.CUDAGraph()
    with simgpu.graph(first, pool=pool):
        _scratch = x + 10
        del _scratch
    second = simgpu.CUDAGraph()
    with simgpu.graph(second, pool=pool):
        result = x + 1  # gets the memory of the other graph's scratch
    second.replay()
    assert result.tolist()[0] == 2.0
    first.replay()
    assert result.tolist()[0] == 11.0, "as on CUDA, the first graph's scratch lies where the second one's result was"
    second.replay()
    d2h = simgpu.Stream(name="d2h")
    d2h.wait_stream(simgpu.current_stream())
    with simgpu.stream(d2h):
        result.to("cpu", non_blocking=True)
    with pytest.raises(simgpu.RaceError, match="memory of a graph pool"):
        first.replay()


@pytest.mark.parametrize(
    "call",
    [
        lambda x, e, s: x.sum().item(),
        lambda x, e, s: x.cpu(),
        lambda x, e, s: x.tolist(),
        lambda x, e, s: x[x > 0],
        lambda x, e, s: x.copy_(torch.ones(4)),
        lambda x, e, s: torch.tensor(1.0, device="sim"),
        lambda x, e, s: e.synchronize(),
        lambda x, e, s: e.query(),
        lambda x, e, s: e.wait(),
        lambda x, e, s: s.synchronize(),
        lambda x, e, s: s.query(),
        lambda x, e, s: simgpu.current_stream().wait_stream(s),
        lambda x, e, s: simgpu.synchronize(),
        lambda x, e, s: simgpu.CUDAGraph().capture_begin(),
    ],
)
def test_what_cuda_does_not_permit_in_a_capture_raises(call):
    x, event, stream = torch.ones(4, device="sim"), simgpu.Event(), simgpu.Stream(name="a")
    event.record()
    with pytest.raises(simgpu.CaptureError):
        with simgpu.graph(simgpu.CUDAGraph()):
            call(x, event, stream)
    assert x.sum().item() == 4.0, "the device works on after a capture that failed"


@pytest.mark.parametrize(
    "call", [lambda x: torch.rand(4, device="sim"), lambda x: x.copy_(torch.ones(4), non_blocking=True)]
)
def test_what_is_not_modelled_in_a_capture_says_so(call):
    x = torch.ones(4, device="sim")
    with pytest.raises(NotImplementedError, match="graph"):
        with simgpu.graph(simgpu.CUDAGraph()):
            call(x)


def test_an_event_recorded_in_a_capture_marks_nothing_outside():
    x, y, event = torch.ones(4, device="sim"), torch.ones(4, device="sim"), simgpu.Event()
    with simgpu.graph(simgpu.CUDAGraph()):
        y.copy_(x)
        event.record()
        event.wait()
    with pytest.raises(simgpu.CaptureError, match="recorded while a graph was captured"):
        event.synchronize()


def test_a_pinned_copy_in_a_graph_reads_its_source_at_each_replay():
    x, host, graph = torch.zeros(4, device="sim"), torch.ones(4, pin_memory=True), simgpu.CUDAGraph()
    with simgpu.graph(graph):
        x.copy_(host, non_blocking=True)
    for value in (1.0, 2.0):
        host.fill_(value)
        graph.replay()
        assert x.tolist() == [value] * 4
    graph.replay()
    with pytest.raises(simgpu.RaceError, match="pinned"):
        host.fill_(3.0)


def test_replay_needs_a_capture_of_this_run(buffers):
    with pytest.raises(simgpu.CaptureError):
        simgpu.CUDAGraph().replay()
    graph = capture(*buffers)
    simgpu.reset()
    with pytest.raises(simgpu.CaptureError, match="since reset"):
        graph.replay()
