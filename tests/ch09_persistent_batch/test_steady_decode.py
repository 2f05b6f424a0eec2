"""What the packer leaves as it was, and what it writes again."""

from ch07_carry_over import carry_padding
from tests.ch09_persistent_batch.packers import packer_for, sizes
from tests.ch09_persistent_batch.seated import decoding, scheduler_with


def test_in_steady_decode_the_carry_index_is_the_identity():
    """The rows are those of the step before, in the same order: token i is the id that row i has sampled."""
    scheduler, requests = scheduler_with(4, 5, 6)
    packer = packer_for(scheduler.seats)
    packer.pack(0, scheduler.schedule(), None)
    packer.pack(1, scheduler.schedule(), None)
    assert packer.columns["carry_index"][:3].tolist() == [0, 1, 2]
    scheduler.preempt(requests[0])
    packer.pack(2, scheduler.schedule(), None)
    assert packer.columns["carry_index"][:2].tolist() == [1, 2], "one has left: the others have moved up, their ids not"


def test_what_did_not_change_is_not_written():
    """The same rows as before: tables that have not grown, and padding, are left alone; a table that has is written."""
    scheduler, requests = scheduler_with(4, 6)
    packer, s = packer_for(scheduler.seats), scheduler.seats
    packer.pack(0, scheduler.schedule(), None)
    for step in (1, 2):
        decoding(scheduler, *(each.seat for each in requests))
        packer.pack(step, scheduler.schedule(), None)
    packer.columns["block_table"][:2] = 77
    packer.columns["uniform"][5] = 0.5
    decoding(scheduler, *(each.seat for each in requests))
    packer.pack(3, scheduler.schedule(), None)  # b goes from 8 positions to 9
    table = packer.columns["block_table"][:2, :3].tolist()
    assert table == [[77, 77, 77], s.tables[requests[1].seat, :3].tolist()] and packer.columns["uniform"][5] == 0.5


def test_after_other_rows_everything_is_written():
    """Somebody has left: the row behind the others is padding again."""
    scheduler, requests = scheduler_with(4, 6, 5)
    packer = packer_for(scheduler.seats)
    packer.pack(0, scheduler.schedule(), None)
    decoding(scheduler, *(each.seat for each in requests))
    packer.pack(1, scheduler.schedule(), None)
    scheduler.finish(requests[1])
    decoding(scheduler, requests[0].seat, requests[2].seat)
    batch = packer.pack(2, scheduler.schedule(), None)
    padding = carry_padding(sizes(8))
    assert batch.inputs.sizes.rows == 2
    for name in ("seq_lens", "block_table", "position_ids", "slot_mapping", "carry_index"):
        assert packer.columns[name][2:].tolist() == padding[name][2:].tolist(), f"{name} behind the rows"
