"""Exercises 7.1 and 7.2: the map of what is carried over, and its application."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from ch02_continuous_batching import Request, Row, SamplingParams
from ch07_carry_over import KEEP, apply_carry, carry_index
from tests.causes import has_result
from tests.words import counted


class Previous:
    """A batch in flight, as far as carry-over looks at it."""

    def __init__(self, *rows: Row) -> None:
        self.rows = rows
        self.sampling_rows = tuple(row for row in rows if row.samples)


arrivals = itertools.count()


def request(name: str, prompt: int, outputs: int = 0) -> Request:
    made = Request(name, list(range(10, 10 + prompt)), SamplingParams(), arrival=next(arrivals))
    made.output_ids = list(range(50, 50 + outputs))
    return made


def decode_row(r: Request, position: int) -> Row:
    return Row(r, r.epoch, position, 1, True)


def check(seen: list[int], expected: list[int], cause: str) -> None:
    kept = [i for i, (index, right) in enumerate(zip(seen, expected, strict=False)) if index == KEEP != right]
    if kept:
        cause = (
            f"Of entry {kept[0]} the host does not know the token, and it is kept: a request's tokens are at the "
            "positions 0 to num_tokens - 1, so the one at position num_tokens is in flight"
        )
    assert seen == expected, f"the carry index should be {expected}; seen: {seen}. {cause}"


def index_of(rows: tuple[Row, ...], previous: Previous | None) -> list[int]:
    """The learner's map; a failed look-up says what was looked up wrongly."""
    unknown = [row for row in rows if row.start + row.num_tokens > row.request.num_tokens]
    try:
        index = carry_index(rows, previous)
    except KeyError:
        pytest.fail(
            "KeyError: a token was looked up among the ids that the batch before samples, and its row was not found. "
            + (
                "Its request has a row there: the look-up must use the same (row.request, row.epoch) as the dict"
                if len(unknown) == len(rows)
                else "Only positions from row.request.num_tokens on are looked up; the host knows the others"
            )
        )
    assert isinstance(index, list) and all(type(each) is int for each in index), (
        f"carry_index returns a list of ints, one for each packed token; seen: {index}"
    )
    tokens = sum(row.num_tokens for row in rows)
    assert len(index) == tokens, (
        f"{counted(tokens, 'token is', 'tokens are')} packed, and the carry index has "
        f"{counted(len(index), 'entry', 'entries')}: {index}"
    )
    return index


@pytest.mark.exercise("7.1")
def test_rows_may_change_places():
    """A request is found again wherever its row stood in the batch before; row 0 is carried over too."""
    a, b, c = (request(name, 3) for name in "abc")
    previous = Previous(*(Row(r, 0, 0, 3, True) for r in (a, b, c)))
    rows = tuple(decode_row(r, 3) for r in (c, a, b))
    check(index_of(rows, previous), [2, 0, 1], "Look each request up among the rows that the batch before sampled")


@pytest.mark.exercise("7.1")
def test_rows_that_did_not_sample_are_not_counted():
    """The index counts sampled ids, not rows: an unfinished chunk has a row, and no sampled id."""
    a, long, b = request("a", 3), request("long", 30), request("b", 3)
    previous = Previous(Row(a, 0, 0, 3, True), Row(long, 0, 0, 8, False), Row(b, 0, 0, 3, True))
    rows = (decode_row(b, 3), Row(long, 0, 8, 4, False))
    check(
        index_of(rows, previous),
        [1, KEEP, KEEP, KEEP, KEEP],
        "b's is the second sampled id, though its row is the third",
    )


@pytest.mark.exercise("7.1")
def test_known_tokens_are_kept():
    """Prompt tokens, and outputs that were committed, stay as they are; only the one in flight is carried over."""
    new, recomputed, running = request("new", 4), request("recomputed", 2, outputs=2), request("running", 2, outputs=1)
    previous = Previous(decode_row(running, 2))
    rows = (decode_row(running, 3), Row(new, 0, 0, 4, True), Row(recomputed, 0, 0, 4, True))
    check(index_of(rows, previous), [0, *[KEEP] * 8], "Positions below request.num_tokens are known")


@pytest.mark.exercise("7.1")
def test_what_is_known_is_kept_whatever_the_batch_before_says():
    """A token that the host knows by now stays, though the batch before has sampled it."""
    a = request("a", 3, outputs=1)
    previous = Previous(Row(a, 0, 0, 3, True))
    check(
        index_of((decode_row(a, 3),), previous),
        [KEEP],
        "The request has 3 prompt tokens and 1 output, so the token at position 3 is known. Decide by the position; "
        "that the request was in the batch before does not say that its token is still in flight",
    )


@pytest.mark.exercise("7.1")
def test_a_row_of_an_earlier_life_is_not_taken():
    """A request whose epoch has moved on since never gets what the row of its earlier life has sampled."""
    a = request("a", 3)
    previous = Previous(Row(a, 0, 0, 3, True))
    a.epoch = 1
    try:
        seen = carry_index((decode_row(a, 3),), previous)  # not to be scheduled like this, but if it were:
    except KeyError:
        return
    check(
        seen,
        [KEEP],
        "The row in the batch before has epoch 0 and this one has 1 (a KeyError would do, too). Each row says its own "
        "epoch, row.epoch: it belongs into the key; row.request.epoch is the same for all rows of a request",
    )


@pytest.mark.exercise("7.1")
def test_without_a_batch_in_flight_everything_is_known():
    """At a cold start, and in synchronous order, there is nothing to carry over."""
    a = request("a", 3, outputs=1)
    check(index_of((decode_row(a, 3),), None), [KEEP], "previous is None")


@pytest.mark.exercise("7.1")
@pytest.mark.parametrize("dead_first", [True, False])
def test_a_name_that_is_used_again_carries_nothing_over(dead_first: bool):
    """A new request with the name of a dead one, of the same epoch, must not get the dead one's token."""
    dead, other, fresh = request("same name", 3), request("other", 3), request("same name", 3)
    order = (dead, other, fresh) if dead_first else (fresh, other, dead)
    previous = Previous(*(Row(each, 0, 0, 3, True) for each in order))
    seen = index_of((decode_row(other, 3), decode_row(fresh, 3)), previous)
    others = {order.index(dead): "a request that has the same name. Key by the request object, not by request_id"}
    cause = f"The second row gets index {seen[1]}, the token of {others.get(seen[1], 'another request')}"
    check(seen, [order.index(other), order.index(fresh)], cause)


@pytest.mark.exercise("7.2")
def test_placeholders_are_replaced():
    """Where the index is not KEEP, the token comes from the batch before; everywhere else it stays."""
    seen = apply_carry(
        torch.tensor([0, 11, 0, 12, 0]), torch.tensor([2, KEEP, 0, KEEP, 1]), torch.tensor([70, 71, 72, 99])
    )
    assert seen.tolist() == [72, 11, 70, 12, 71], (
        f"with index [2, -1, 0, -1, 1] and previous ids [70, 71, 72, 99], tokens [0, 11, 0, 12, 0] become "
        f"[72, 11, 70, 12, 71]; seen: {seen.tolist()}"
    )
    assert seen.dtype == torch.int64, f"token ids are int64, as the input ids are; seen: {seen.dtype}"


@pytest.mark.exercise("7.2")
def test_the_inputs_are_left_alone():
    """A new tensor is made; the three that come in are the IO buffers' own, and a warm-up applies the map twice."""
    tensors = [torch.tensor(values) for values in ([0, 11, 0], [1, KEEP, 0], [70, 71])]
    before = [tensor.tolist() for tensor in tensors]
    apply_carry(*tensors)
    seen = [tensor.tolist() for tensor in tensors]
    assert seen == before, (
        f"input_ids, carry_index and previous_ids were {before}, and are {seen} afterwards: something is written in "
        "place (copy_, clamp_, an assignment to a slice)"
    )


@pytest.mark.exercise("7.2")
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_mixture(data: st.DataObject):
    """For any mixture of kept and carried tokens the result is that of a loop over them."""
    previous = data.draw(st.lists(st.integers(0, 1000), min_size=1, max_size=6))
    index = data.draw(st.lists(st.integers(-1, len(previous) - 1), min_size=1, max_size=12))
    ids = data.draw(st.lists(st.integers(0, 1000), min_size=len(index), max_size=len(index)))
    try:
        seen = apply_carry(torch.tensor(ids), torch.tensor(index), torch.tensor(previous)).tolist()
    except IndexError as error:
        pytest.fail(
            f"index {index}, previous ids {previous}: {error}. KEEP stands for no index; what it is looked up by "
            "instead must be one that previous_ids has, however short it is"
        )
    right = [token if i == KEEP else previous[i] for token, i in zip(ids, index, strict=True)]
    assert seen == right, f"ids {ids}, index {index}, previous {previous}: expected {right}, seen {seen}"


LOOK_UPS = ("__getitem__", "gather", "index_select", "take", "take_along_dim")


@pytest.mark.exercise("7.2")
def test_keep_is_never_looked_up():
    """-1 is no index: looking it up quietly takes the last id, or ends the process, as the kernel has it."""

    class Strict(torch.Tensor):
        """A tensor that refuses negative indices, as some CUDA kernels do."""

        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func.__name__ in LOOK_UPS and isinstance(args[0], cls):
                for index in (*args[1:], *(kwargs or {}).values()):
                    negative = isinstance(index, torch.Tensor) and not index.is_floating_point() and (index < 0).any()
                    assert not negative, (
                        "previous_ids was indexed with -1. Clamp the index first; where() then drops it"
                    )
            return super().__torch_function__(func, types, args, kwargs or {})

    apply_carry(torch.tensor([5, 6]), torch.tensor([KEEP, 0]), torch.tensor([7, 8]).as_subclass(Strict))


@pytest.mark.exercise("7.2")
def test_nothing_is_read_on_the_host():
    """On fake tensors, which have no values, a read on the host raises: so it can be captured in a graph."""
    with FakeTensorMode() as mode:
        ids, index, previous = (mode.from_tensor(torch.zeros(n, dtype=torch.int64)) for n in (5, 5, 3))
        try:
            seen = apply_carry(ids, index, previous)
        except (NotImplementedError, NameError, AttributeError):  # not started, or a slip of the pen
            raise
        except Exception as error:
            pytest.fail(f"it looks at values ({type(error).__name__}): use torch.where, not if, a mask or .item()")
    has_result(seen, "apply_carry")
    assert seen.shape == (5,), f"for 5 tokens the result has 5, in one dimension; its shape is {tuple(seen.shape)}"


@pytest.mark.both
@pytest.mark.exercise("7.2")
def test_a_graph_applies_the_map_of_each_replay():
    """Captured once, on device tensors, and replayed: what counts is what index and ids hold then."""
    from toolkit.captures import clean_capture
    from toolkit.device import DEVICE, accelerator, is_simulated, new_stream

    if is_simulated():
        accelerator.reset("lazy")
    ids, index, previous = (torch.tensor(values, device=DEVICE) for values in ([0, 11, 0], [1, KEEP, 0], [70, 71]))
    carried, stream, graph = torch.zeros_like(ids), new_stream("capture"), accelerator.CUDAGraph()
    stream.wait_stream(accelerator.current_stream())
    with accelerator.stream(stream):
        carried.copy_(apply_carry(ids, index, previous))  # what is captured is run once before
    with clean_capture() as pool, accelerator.graph(graph, pool=pool, stream=stream):
        carried.copy_(apply_carry(ids, index, previous))
    accelerator.synchronize()
    for tensor, values in ((ids, [0, 0, 13]), (index, [0, 1, KEEP]), (previous, [80, 81])):
        tensor.copy_(torch.tensor(values))
    graph.replay()
    seen = carried.tolist()
    assert seen == [80, 81, 13], (
        f"captured with index [1, -1, 0], replayed with [0, 1, -1], previous ids [80, 81] and tokens [0, 0, 13]: the "
        f"result is [80, 81, 13], seen {seen}. Compute it from the three tensors, with operations on the device alone"
    )
