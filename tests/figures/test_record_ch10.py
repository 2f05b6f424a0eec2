"""Chapter 10's measurements: the same tokens by all three ways, one wake-up a step at most; fuller steps offline."""

import pytest

from figures.ch10 import offline
from figures.ch10 import record as ch10
from tests.simulated import needs_simulator


@pytest.mark.long
@needs_simulator
def test_http_is_measured_against_in_process(monkeypatch):
    monkeypatch.setattr(ch10, "ROUNDS", 1)
    rows = ch10.compare("tiny", calls=6, new_tokens=24)
    assert [row["way"] for row in rows] == ["in process", "HTTP, answers as a whole", "HTTP, streams"]
    for row in rows:
        assert row["tokens"] == 6 * 24 and row["tokens_per_s"] > 0 and row["steady_tokens_per_s"] > 0
        assert row["simulated"] and row["clock"] == "real"
    for row in rows[1:]:
        assert 0 < row["wake_ups_per_step"] <= 1.1 and 0 < row["loop_share"] < 1


@pytest.mark.long
@needs_simulator
def test_two_slices_at_a_time_fill_the_steps():
    """The same answers in fewer steps; the first step's tokens are those of the first rows."""
    one, two = offline.compare(calls=(1, 2), rows=64, max_tokens=40)
    assert one["tokens"] == two["tokens"] > 0 and one["same_answers"] and two["same_answers"]
    assert two["steps"] < one["steps"] and two["tokens_per_step"] > one["tokens_per_step"]
    by_step = [int(count) for count in one["tokens_by_step"].split()]
    assert len(by_step) == min(one["steps"], offline.SHOWN) and max(by_step) == offline.ENGINE_ROWS
