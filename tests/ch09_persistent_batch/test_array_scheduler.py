"""What a step schedules, besides budget and blocks."""

from tests.ch09_persistent_batch.seated import scheduler_with


def test_a_request_that_will_have_all_its_tokens_is_left_out():
    """A token in flight will be its last: nothing more of it is scheduled, though it is not committed yet."""
    scheduler, requests = scheduler_with(4)
    requests[0].params.__dict__["max_tokens"] = 1
    assert len(scheduler.schedule()) == 1
    assert len(scheduler.schedule()) == 0


def test_a_row_is_of_the_seat_as_it_was():
    """Rows say who had the seat; when it was left, they do not count any more."""
    scheduler, requests = scheduler_with(4, 5)
    rows = scheduler.schedule()
    assert [(r.request.request_id, r.start, r.num_tokens, r.samples) for r in rows] == [
        ("a", 0, 4, True),
        ("b", 0, 5, True),
    ]
    scheduler.preempt(requests[1])
    assert rows.alive.tolist() == [True, False] and rows[1].request is requests[1]
