"""Exercise 2.1: who owns which block."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ch02_continuous_batching import BlockManager, Request, SamplingParams
from tests.causes import has_result, likely
from tests.endless import must_end
from tests.words import counted

pytestmark = pytest.mark.exercise("2.1")


def request(name: str = "r", arrival: int = 0) -> Request:
    return Request(name, [1], SamplingParams(), arrival)


def allocate(manager: BlockManager, r: Request, num_tokens: int) -> None:
    """`manager.allocate` where there are blocks enough: perhaps as many as are missing, and no more."""
    missing, free = manager.blocks_for(num_tokens) - len(r.block_table), manager.num_free_blocks
    try:
        manager.allocate(r, num_tokens)
    except NotImplementedError:  # not started
        raise
    except RuntimeError as error:
        pytest.fail(
            f"the request lacks {counted(missing, 'block')}, {counted(free, 'block is', 'blocks are')} free, and "
            f"allocate raised RuntimeError: {error}. As many as are free can be had"
        )


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    """The longest of these tests needs 6,000 lines of the chapter."""
    with must_end():
        yield


@pytest.mark.parametrize(("tokens", "blocks"), [(1, 1), (3, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_tokens_round_up_to_whole_blocks(tokens: int, blocks: int):
    """A request gets as many blocks as its tokens need, the last one perhaps partly empty."""
    manager, r = BlockManager(num_blocks=8, block_size=4), request()
    missing = manager.num_missing_blocks(r, tokens)
    has_result(missing, "num_missing_blocks")
    assert missing == blocks, (
        f"{counted(tokens, 'token needs', 'tokens need')} {counted(blocks, 'block')} of 4, and the request owns none; "
        f"num_missing_blocks says {missing}. "
    ) + likely(
        (missing == tokens // 4, "Round up, not down"),
        (missing == tokens, "It counts blocks, not tokens"),
        (missing == tokens // 4 + 1, "Whole blocks need no block more: blocks_for rounds up rightly"),
    )
    allocate(manager, r, tokens)
    assert len(r.block_table) == blocks, (
        f"allocate(r, {tokens}) left {counted(len(r.block_table), 'block')}, not {blocks}"
    )


def test_allocate_keeps_the_blocks_a_request_has():
    """Growing a request appends blocks and keeps the old ones in place: they hold its keys and values."""
    manager, r, other = BlockManager(8, 4), request(), request("other", 1)
    allocate(manager, r, 5)
    before = list(r.block_table)
    allocate(manager, other, 4)
    allocate(manager, r, 6)
    assert r.block_table == before, (
        f"the request had blocks {before} for up to 8 tokens and asked for 6; now it has {r.block_table}. "
        "Append to the block table, and only what is missing: num_missing_blocks subtracts the blocks that it owns"
    )
    allocate(manager, r, 12)
    assert r.block_table == [*before, 3], (
        f"blocks {before} hold 8 tokens; for 12, one more block was due at the end, and 3 was the next free one. "
        f"Seen: {r.block_table}"
    )


def test_a_request_with_spare_blocks_lacks_none():
    """A request that owns more blocks than asked for lacks 0 blocks, not a negative number."""
    manager, r = BlockManager(8, 4), request()
    allocate(manager, r, 16)
    missing = manager.num_missing_blocks(r, 3)
    assert missing == 0, f"4 blocks are owned and 1 is needed: 0 are missing, but num_missing_blocks says {missing}"


def test_blocks_are_taken_and_leave_the_pool():
    """A block that a request owns is not free any more, and no other request gets it."""
    manager = BlockManager(6, 4)
    requests = [request(str(i), i) for i in range(3)]
    for r in requests:
        allocate(manager, r, 8)
    owned = [block for r in requests for block in r.block_table]
    assert sorted(owned) == list(range(6)), f"three requests of 2 blocks each should own 0 to 5 once; they own {owned}"
    assert manager.num_free_blocks == 0, f"all 6 blocks are owned, but {manager.num_free_blocks} count as free"


def test_too_few_blocks_raise_and_change_nothing():
    """If the pool cannot serve a request, allocate raises RuntimeError and takes nothing."""
    manager, r, big = BlockManager(3, 4), request(), request("big", 1)
    allocate(manager, r, 4)
    try:
        manager.allocate(big, 12)
        raised = None
    except Exception as error:
        raised = error
    assert type(raised) is RuntimeError, (
        "3 blocks were asked for and 2 were free: allocate must raise RuntimeError; it "
        + (f"raised {type(raised).__name__}: {raised}" if raised else "raised nothing")
    )
    assert big.block_table == [] and manager.num_free_blocks == 2, (
        f"after the failed allocate, the request owns {big.block_table} and "
        f"{counted(manager.num_free_blocks, 'block is', 'blocks are')} free; "
        "before it, none and 2. Check before you take the first block"
    )


def test_free_returns_every_block():
    """Freeing a request gives all its blocks back and empties its block table."""
    manager, r = BlockManager(4, 4), request()
    allocate(manager, r, 13)
    manager.free(r)
    assert sorted(manager.free_blocks) == [0, 1, 2, 3], (
        f"the only request was freed, so all 4 blocks should be free; free are {sorted(manager.free_blocks)}. "
        "Blocks that are not given back are lost for good: a leak"
    )
    assert r.block_table == [], f"a freed request owns nothing, but its block table is {r.block_table}"


def test_freed_blocks_stand_last():
    """Freed blocks go to the right end of the pool: those that have been free for longest are used first."""
    manager, a, b = BlockManager(4, 4), request("a"), request("b", 1)
    allocate(manager, a, 8)
    allocate(manager, b, 4)
    manager.free(a)
    assert list(manager.free_blocks) == [3, 0, 1], (
        f"block 3 was free, then 0 and 1 came back: the pool should be [3, 0, 1]; it is {list(manager.free_blocks)}"
    )


def test_freeing_twice_is_harmless():
    """Freeing a request again does not put its blocks into the pool twice."""
    manager, r = BlockManager(4, 4), request()
    allocate(manager, r, 8)
    manager.free(r)
    manager.free(r)
    assert sorted(manager.free_blocks) == [0, 1, 2, 3], (
        f"after freeing twice the pool holds {sorted(manager.free_blocks)}; a block that is in it twice would be given "
        "to two requests. Empty the block table when you free"
    )


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), max_size=40))
@settings(max_examples=60, deadline=None)
def test_every_block_has_one_owner(actions: list[tuple[int, int]]):
    """Whatever is allocated and freed in whatever order, each block is free or owned by exactly one request."""
    manager = BlockManager(10, 4)
    requests = [request(str(i), i) for i in range(5)]
    for index, tokens in actions:
        if tokens == 0:
            manager.free(requests[index])
        elif manager.can_allocate(requests[index], tokens):
            allocate(manager, requests[index], tokens)
        everywhere = sorted([*manager.free_blocks, *(b for r in requests for b in r.block_table)])
        assert everywhere == list(range(10)), f"each of the blocks 0 to 9 should be in one place; seen: {everywhere}"
