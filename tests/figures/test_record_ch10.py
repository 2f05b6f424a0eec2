"""Chapter 10's measurement: the same tokens by all three ways, and one wake-up a step at most."""

import pytest

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
