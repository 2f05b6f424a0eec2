"""Indexed reads and writes are checked by the rows that they touch, where the host knows the index."""

import pytest
import torch

from toolkit import simgpu

POLICIES = ["eager", "lazy", "random:1", "threads"]


def on_device(values):
    return torch.tensor(values, device="sim")


OPERATIONS = {
    "index_copy_": lambda cache, rows: cache.index_copy_(0, rows, torch.ones(len(rows), 4, device="sim")),
    "index_put_": lambda cache, rows: cache.__setitem__(rows, 1.0),
    "index_add_": lambda cache, rows: cache.index_add_(0, rows, torch.ones(len(rows), 4, device="sim")),
    "index_fill_": lambda cache, rows: cache.index_fill_(0, rows, 1.0),
    "scatter_": lambda cache, rows: cache.scatter_(0, rows[:, None].expand(-1, 4), 1.0),
}
READS = {
    "index": lambda cache, rows: cache[rows],
    "index_select": lambda cache, rows: cache.index_select(0, rows),
    "gather": lambda cache, rows: cache.gather(0, rows[:, None].expand(-1, 4)),
    "embedding": lambda cache, rows: torch.nn.functional.embedding(rows, cache),
}


def races_between(first, second, rows, others, cache=None):
    """`first` on one stream and `second` on another, with no order between them."""
    simgpu.reset("eager", on_race="collect")
    cache = torch.zeros(8, 4, device="sim") if cache is None else cache()
    rows, others = on_device(rows), on_device(others)
    simgpu.synchronize()
    with simgpu.stream(simgpu.Stream(name="a")):
        first(cache, rows)
    with simgpu.stream(simgpu.Stream(name="b")):
        second(cache, others)
    return simgpu.races()


@pytest.mark.parametrize("write", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize("other", {**OPERATIONS, **READS}.values(), ids={**OPERATIONS, **READS})
def test_disjoint_rows_do_not_race_and_a_shared_one_does(write, other):
    assert not races_between(write, other, [1, 3], [0, 2, 7])
    assert len(races_between(write, other, [1, 3], [0, 3])) == 1
    assert len(races_between(other, write, [1, -5], [3, 4])) == 1, "-5 is row 3 of 8"


def test_a_slice_beside_indexed_rows():
    put = OPERATIONS["index_put_"]
    assert not races_between(put, lambda cache, _: cache[4:].zero_(), [0, 3], [0])
    assert races_between(put, lambda cache, _: cache[3:].zero_(), [0, 3], [0])
    assert races_between(lambda cache, _: cache[3:].zero_(), put, [0], [0, 3])


def test_pages_by_page_and_offset():
    """cache[page, offset] = new, as paged caches are written."""

    def put(cache, pages):
        cache[pages, on_device([1] * len(pages))] = 1.0

    def paged():
        return torch.zeros(4, 2, 4, device="sim")

    assert not races_between(put, put, [0, 2], [1, 3], paged)
    assert races_between(put, put, [0, 2], [2], paged)


def test_rows_of_another_dimension():
    def put(cache, rows):
        cache.index_fill_(1, rows, 1.0)

    assert not races_between(put, put, [0, 1], [2, 3])
    assert races_between(put, put, [0, 1], [1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.tensor([2, 3], pin_memory=True).to("sim", non_blocking=True),
        lambda: torch.arange(2, device="sim") + 2,
        lambda: torch.tensor([1, 2, 3], device="sim")[1:],
        lambda: torch.tensor([2.0, 3.0]).to("sim", torch.int64),
        lambda: torch.tensor([2, 3], dtype=torch.int32, device="sim").long(),
        lambda: torch.zeros(2, dtype=torch.int64, device="sim").fill_(2),
    ],
)
@pytest.mark.parametrize("policy", POLICIES)
def test_an_index_that_the_host_knows(policy, make):
    simgpu.reset(policy, on_race="collect")
    cache, known = torch.zeros(8, 4, device="sim"), make()
    a, b = simgpu.Stream(name="a"), simgpu.Stream(name="b")
    for each in (a, b):
        each.wait_stream(simgpu.current_stream())
    with simgpu.stream(a):
        cache[known] = 1.0
    with simgpu.stream(b):
        cache[:2].add_(1)
    assert not simgpu.races()
    with simgpu.stream(b):
        cache[2:].add_(1)
    assert len(simgpu.races()) == 1


def unknown_from_the_device():
    return torch.zeros(2, device="sim").long()


def unknown_after_a_write():
    index = torch.tensor([2, 3], device="sim")
    index.copy_(torch.zeros(2, device="sim"))
    return index


def unknown_pinned_memory_that_the_device_writes():
    pinned = torch.tensor([2, 3], pin_memory=True)
    pinned.copy_(torch.zeros(2, device="sim").long(), non_blocking=True)
    return pinned.to("sim", non_blocking=True)


@pytest.mark.parametrize(
    "make", [unknown_from_the_device, unknown_after_a_write, unknown_pinned_memory_that_the_device_writes]
)
def test_an_index_that_the_host_does_not_know_may_be_any_row(make):
    simgpu.reset("lazy", on_race="collect")
    cache, index = torch.zeros(8, 4, device="sim"), make()
    a, b = simgpu.Stream(name="a"), simgpu.Stream(name="b")
    for each in (a, b):
        each.wait_stream(simgpu.current_stream())
    with simgpu.stream(a):
        cache[index] = 1.0
    with simgpu.stream(b):
        cache[7:].add_(1)
    assert len(simgpu.races()) == 1


def test_a_graph_may_touch_any_row_since_its_index_changes():
    simgpu.reset("eager", on_race="collect")
    cache, index, graph = torch.zeros(8, 4, device="sim"), on_device([0]), simgpu.CUDAGraph()
    with simgpu.graph(graph):
        cache[index] = 1.0
    index.fill_(5)
    other = simgpu.Stream(name="other")
    other.wait_stream(simgpu.current_stream())
    graph.replay()
    assert cache.tolist()[5] == [1.0] * 4
    graph.replay()
    with simgpu.stream(other):
        cache[6:].add_(1)
    assert simgpu.races()


@pytest.mark.parametrize("policy", POLICIES)
def test_rows_of_memory_that_was_never_written(policy):
    """Two streams fill one `torch.empty` by rows: neither spoils what the other has written."""
    simgpu.reset(policy)
    torch.ones(8, 4, device="sim")  # used memory, which is then handed out again
    cache, even, odd = torch.empty(8, 4, device="sim"), on_device([0, 2, 4, 6]), on_device([1, 3, 5, 7])
    a, b = simgpu.Stream(name="a"), simgpu.Stream(name="b")
    for stream, rows, value in ((a, even, 1.0), (b, odd, 2.0)):
        stream.wait_stream(simgpu.default_stream())
        with simgpu.stream(stream):
            cache.index_fill_(0, rows, value)
    simgpu.synchronize()
    assert cache[:, 0].tolist() == [1.0, 2.0] * 4


def test_the_price_is_that_of_the_whole_tensor():
    """As before the host knew: a timeline does not depend on what it knows."""

    def price(index):
        simgpu.reset()
        cache = torch.zeros(1000, 1000, device="sim")
        cache.index_select(0, index())
        return simgpu.spans()[-1].end - simgpu.spans()[-1].start

    assert price(lambda: on_device([1])) == price(lambda: torch.ones(1, device="sim").long())
