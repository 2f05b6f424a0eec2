"""What a step costs the host: its recording and figure, and that the cost grows with the rows and no faster."""

import pytest
import torch

from ch02_continuous_batching import SamplingParams
from ch08_full_engine import FullEngine
from ch09_persistent_batch import PersistentEngine
from figures.draw import draw_all
from figures.host_cost import record as host_cost
from tests.counted_calls import calls_per_step
from tests.helpers import tiny_model
from tests.simulated import needs_simulator
from toolkit import device
from toolkit.models import load_model
from toolkit.recordings import write_recording

pytestmark = needs_simulator


def test_host_cost_is_recorded_and_drawn(tmp_path, monkeypatch):
    """A row for each number of rows and context; the parts are parts of the whole, and nothing was queued."""
    for name, small in {"ROWS": (1, 3), "CONTEXTS": (40, 80), "STEPS": 4, "ROUNDS": 1}.items():
        monkeypatch.setattr(host_cost, name, small)
    rows = host_cost.record(torch.device("cpu"))["host_cost"]
    seen = [(row["engine"], row["rows"], row["context"]) for row in rows]
    points = [(1, 40), (3, 40), (1, 80), (3, 80)]
    assert seen == [(engine, *point) for engine in ("chapter 8", "chapter 9") for point in points]
    for row in rows:
        assert not row["queued"] and min(row["outputs_ms"], row["text_ms"]) > 0
        for whole, *parts in (("host", *host_cost.PHASES), ("prepare", "schedule", "pack"), ("launch", "queue")):
            assert 0 < min(row[f"{part}_ms"] for part in parts) < row[f"{whole}_ms"], (whole, row)
    write_recording("host_cost", rows, command="test", folder=tmp_path / "data")
    draw_all(tmp_path / "data", tmp_path / "figures")
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["host_cost.png"]


def test_steps_of_fewer_rows_are_not_counted(monkeypatch):
    """Where requests end before the measurement does, there is no number instead of one that is too low."""
    monkeypatch.setattr(host_cost, "new_tokens", lambda steps: steps)
    engine = host_cost.timed_engine(PersistentEngine, load_model("tiny").model, rows=3, context=40, steps=4)
    with pytest.raises(RuntimeError, match=r"of 3 requests had ended"):
        host_cost.measure(engine, "chapter 9", rows=3, context=40, steps=4)


def test_the_simulator_does_no_bookkeeping_in_what_is_measured(monkeypatch):
    """It sees nothing of what the host does for itself: no write, no name, no price. Afterwards it sees again."""
    seen = []
    for name in ("write_on_host", "name_tensors", "host_work"):
        monkeypatch.setattr(device.accelerator, name, lambda *arguments, name=name: seen.append(name))
    engine = host_cost.timed_engine(FullEngine, load_model("tiny").model, rows=3, context=40, steps=4)
    seen.clear()
    assert len(host_cost.serve(engine, rows=3, context=40, steps=4)["host"]) == 4
    assert not seen and device.is_simulated()


def test_no_event_of_a_step_asks_which_stream_is_current(monkeypatch):
    """Looking it up costs more than the record does."""
    device.accelerator.reset("eager")
    engine = PersistentEngine(tiny_model(), num_blocks=20, max_length=64)
    streams, record = [], device.accelerator.Event.record

    def noted(event, stream=None):
        streams.append(stream)
        record(event, stream)

    monkeypatch.setattr(device.accelerator.Event, "record", noted)
    engine.generate([[5, 6, 7]], SamplingParams(max_tokens=4))
    assert len(streams) >= 4 * 5 and None not in streams


def test_the_cost_grows_no_faster_than_the_rows():
    """Four times the rows, at most four times the calls: nothing is done for every pair of rows."""
    few, many = (calls_per_step(FullEngine, rows, prefix_sharing=True) for rows in (16, 64))
    assert many < 4 * few, (
        f"{few:.0f} calls in a step of 16 rows, {many:.0f} in one of 64: more than four times as many"
    )
