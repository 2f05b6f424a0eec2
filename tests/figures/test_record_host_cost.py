"""What a step costs the host: its recording and figure, and that the cost grows with the rows and no faster."""

import pytest
import torch

from ch08_full_engine import FullEngine
from figures.draw import draw_all
from figures.host_cost import record as host_cost
from tests.counted_calls import calls_per_step
from tests.simulated import needs_simulator
from toolkit.models import load_model
from toolkit.recordings import write_recording

pytestmark = needs_simulator


def test_host_cost_is_recorded_and_drawn(tmp_path, monkeypatch):
    """A row for each number of rows and context; the phases are parts of the whole, and nothing was queued."""
    monkeypatch.setattr(host_cost, "ROWS", (1, 3))
    monkeypatch.setattr(host_cost, "CONTEXTS", (40, 80))
    monkeypatch.setattr(host_cost, "STEPS", 4)
    rows = host_cost.record(torch.device("cpu"))["host_cost"]
    assert [(row["rows"], row["context"]) for row in rows] == [(1, 40), (3, 40), (1, 80), (3, 80)]
    for row in rows:
        assert 0 < min(row[f"{phase}_ms"] for phase in host_cost.PHASES) < row["host_ms"] and not row["queued"]
    write_recording("host_cost", rows, command="test", folder=tmp_path / "data")
    draw_all(tmp_path / "data", tmp_path / "figures")
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["host_cost.png"]


def test_steps_of_fewer_rows_are_not_counted(monkeypatch):
    """Where requests end before the measurement does, there is no number instead of one that is too low."""
    monkeypatch.setattr(host_cost, "new_tokens", lambda steps: steps)
    with pytest.raises(RuntimeError, match=r"of 3 requests had ended"):
        host_cost.measure("chapter 9", load_model("tiny").model, rows=3, context=40, steps=4)


def test_the_cost_grows_no_faster_than_the_rows():
    """Four times the rows, at most four times the calls: nothing is done for every pair of rows."""
    few, many = (calls_per_step(FullEngine, rows, prefix_sharing=True) for rows in (16, 64))
    assert many < 4 * few, (
        f"{few:.0f} calls in a step of 16 rows, {many:.0f} in one of 64: more than four times as many"
    )
