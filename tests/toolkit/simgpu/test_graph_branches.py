"""Graphs that were captured over several streams: forks, joins, and what nothing orders inside them."""

import threading

import pytest
import torch

from toolkit import simgpu

POLICIES = ["eager", "lazy", "threads", "random:1", "random:2", "random:3"]


def forked(ordered=True):
    """x → (2x on the side) + (x + 5): captured over two streams; returns the graph, its input and its output."""
    x, graph, side = torch.ones(4, device="sim"), simgpu.CUDAGraph(), simgpu.Stream(name="side")
    with simgpu.graph(graph):
        shifted = x + 5
        side.wait_stream(simgpu.current_stream())
        with simgpu.stream(side):
            doubled = (x * 2) if ordered else shifted.mul_(2)
        other = x.sqrt() if ordered else shifted.sqrt()
        simgpu.current_stream().wait_stream(side)
        result = shifted + doubled + other
    return graph, x, result


@pytest.mark.parametrize("policy", POLICIES)
def test_branches_give_the_numbers_of_the_program(policy):
    simgpu.reset(policy)
    graph, x, result = forked()
    for value in (1.0, 4.0, 9.0):
        x.fill_(value)
        graph.replay()
        assert result.tolist() == [value + 5 + 2 * value + value**0.5] * 4


def test_a_replay_is_one_launch_and_branches_overlap():
    simgpu.reset()
    graph, x, host = simgpu.CUDAGraph(), torch.ones(4, device="sim"), torch.ones(1000, pin_memory=True)
    y, side = torch.zeros(1000, device="sim"), simgpu.Stream(name="side")
    with simgpu.graph(graph):
        side.wait_stream(simgpu.current_stream())
        with simgpu.stream(side):
            y.copy_(host, non_blocking=True)
        x.add_(1)
        simgpu.current_stream().wait_stream(side)
    before = simgpu.now_ms()
    graph.replay()
    assert simgpu.now_ms() - before == pytest.approx(2 * simgpu.Costs().launch_ms)
    copy = next(span for span in simgpu.spans() if span.name == "H2D copy of a graph")
    add = next(span for span in simgpu.spans() if span.name == "add_ of a graph")
    assert copy.lane == "side (graph)" and copy.start < add.end and add.start < copy.end


def test_what_nothing_orders_inside_is_reported_with_the_lines_of_the_capture():
    simgpu.reset("eager", on_race="collect")
    graph, _x, _result = forked(ordered=False)
    assert not simgpu.races(), "capturing runs nothing"
    graph.replay()
    (race,) = simgpu.races()
    assert "shifted.mul_(2)" in str(race.first.site) and "shifted.sqrt()" in str(race.second.site)
    assert (race.first.lane, race.second.lane) == ("side (graph)", "default")


def test_a_branch_races_with_work_outside():
    graph, x, _ = forked()
    other = simgpu.Stream(name="other")
    other.wait_stream(simgpu.current_stream())
    graph.replay()
    with simgpu.stream(other), pytest.raises(simgpu.RaceError, match="of a graph"):
        x.zero_()


def test_what_waits_for_the_replay_waits_for_all_branches():
    graph, x, _ = forked()
    other = simgpu.Stream(name="other")
    graph.replay()
    other.wait_stream(simgpu.current_stream())
    with simgpu.stream(other):
        x.zero_()
    with pytest.raises(simgpu.RaceError):
        graph.replay()


def test_two_branched_graphs_of_one_pool_at_once_are_a_race():
    pool, graphs = simgpu.graph_pool_handle(), []
    outputs = [torch.zeros(4, device="sim") for _ in range(2)]
    for y in outputs:
        graph, side = simgpu.CUDAGraph(), simgpu.Stream(name="side")
        with simgpu.graph(graph, pool=pool):
            side.wait_stream(simgpu.current_stream())
            with simgpu.stream(side):
                y.add_(1)
            simgpu.current_stream().wait_stream(side)
        graphs.append(graph)
    graphs[0].replay()
    with simgpu.stream(simgpu.Stream(name="b")), pytest.raises(simgpu.RaceError, match="two graphs of one pool"):
        graphs[1].replay()


def test_a_fork_by_an_event():
    x, graph, side, forked_at, joined_at = torch.ones(4, device="sim"), simgpu.CUDAGraph(), simgpu.Stream(), *events()
    with simgpu.graph(graph):
        y = x + 1
        forked_at.record()
        with simgpu.stream(side):
            side.wait_event(forked_at)
            assert simgpu.is_current_stream_capturing() and side.is_capturing()
            z = y * 2
            joined_at.record()
        joined_at.wait()
        z.add_(1)
    assert not side.is_capturing()
    graph.replay()
    assert z.tolist() == [5.0] * 4


def events():
    return simgpu.Event(), simgpu.Event()


def test_a_stream_that_was_not_forked_works_on_beside_the_capture():
    """As on CUDA: what is queued there is no part of the graph, and runs once."""
    x, y, side = torch.zeros(4, device="sim"), torch.zeros(4, device="sim"), simgpu.Stream(name="side")
    simgpu.synchronize()
    graph = simgpu.CUDAGraph()
    with simgpu.graph(graph):
        x.add_(1)
        with simgpu.stream(side):
            y.add_(1)
    side.synchronize()
    graph.replay()
    graph.replay()
    assert x.tolist() == [2.0] * 4 and y.tolist() == [1.0] * 4


def test_a_missing_join_is_cudas_error():
    x, side = torch.zeros(4, device="sim"), simgpu.Stream(name="side")
    with pytest.raises(simgpu.CaptureError, match="unjoined.*must wait for side"), simgpu.graph(simgpu.CUDAGraph()):
        side.wait_stream(simgpu.current_stream())
        with simgpu.stream(side):
            x.add_(1)
    assert x.tolist() == [0.0] * 4


def test_memory_of_a_branch_is_not_used_again_while_another_may_read_it():
    """PyTorch: record_stream in a capture keeps the memory until the capture has ended."""
    x, graph, side = torch.ones(4, device="sim"), simgpu.CUDAGraph(), simgpu.Stream(name="side")
    with simgpu.graph(graph):
        lent = x + 1
        side.wait_stream(simgpu.current_stream())
        with simgpu.stream(side):
            used = lent * 10
        lent.record_stream(side)
        del lent
        other = x + 100
        simgpu.current_stream().wait_stream(side)
    graph.replay()
    assert used.tolist() == [20.0] * 4 and other.tolist() == [101.0] * 4


def test_another_thread_may_wait_beside_a_capture_of_this_thread():
    y, failed = torch.zeros(4, device="sim"), []

    def work():
        try:
            assert y.add_(1).tolist() == [1.0] * 4
        except BaseException as error:
            failed.append(error)

    for mode, refused in (("thread_local", False), ("global", True)):
        y.zero_()
        simgpu.synchronize()
        thread = threading.Thread(target=work)
        with simgpu.graph(simgpu.CUDAGraph(), capture_error_mode=mode):
            thread.start()
            thread.join()
        assert bool(failed) is refused, failed


@pytest.mark.parametrize("policy", ["eager", "lazy", "random:1"])
def test_make_graphed_callables_trains_as_without_graphs(policy):
    def train(device, graphed):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).to(device)
        x = torch.linspace(0, 1, 60).reshape(10, 6).to(device)
        call = torch.cuda.make_graphed_callables(model, (x.clone(),)) if graphed else model
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(3):
            optimizer.zero_grad(set_to_none=True)
            call(x + step).square().sum().backward()
            optimizer.step()
        return torch.cat([each.detach().cpu().flatten() for each in model.parameters()])

    expected = train("cpu", False)
    with simgpu.as_cuda(policy):
        found = train("cuda", True)
    assert torch.allclose(found, expected, atol=1e-5)
