"""Chapter 9's measurements, and what its lesson says of the committed recordings."""

import pytest

from figures.ch09 import record as ch09
from tests.figures.recorded import assert_recorded_and_drawn
from tests.simulated import needs_simulator
from toolkit.course import ROOT
from toolkit.recordings import DATA, read_recording


@pytest.mark.long
@needs_simulator
def test_chapter_9_is_recorded_and_drawn(tmp_path, monkeypatch):
    """On the simulated GPU: every row says so, the same again gives the same rows, every figure can be drawn."""
    monkeypatch.setitem(ch09.LOADS, "simulated", [("", 4), ("", 128)])
    assert_recorded_and_drawn(ch09, tmp_path)


def test_what_the_lesson_says_of_the_recordings():
    """Both engines give the same tokens. Chapter 8's host is the slower one with many rows, and in the picture the
    quicker one with few; this chapter's is the quicker one everywhere.
    """
    recordings = sorted(DATA.glob("*/ch09_crossing.json"))
    assert recordings
    for path in recordings:
        rows = read_recording(path)["rows"]
        assert all(row["same_tokens"] for row in rows)
        for model in {row["model"] for row in rows}:
            mine = [row for row in rows if row["model"] == model]
            before, now = ([row for row in mine if row["engine"] == name] for name in ("chapter 8", "chapter 9"))
            assert before[-1]["host_ms"] > before[-1]["device_ms"]
            assert model != rows[0]["model"] or before[0]["host_ms"] < before[0]["device_ms"], "nothing crosses"
            assert all(row["host_ms"] < row["device_ms"] and row["idle_share"] < 0.02 for row in now), path
            speeds = [row["tokens_per_s"] for row in now]
            assert speeds == sorted(speeds), f"{path}: more rows, more tokens"


def test_the_lesson_names_what_was_disturbed():
    """A step is never shorter than its host's work. Where that was measured in a slow moment, the lesson says so."""
    lesson = " ".join(
        (ROOT / "chapters" / "ch09_persistent_batch" / "lesson.py").read_text(encoding="utf-8").split("\n# ")
    )
    paths = sorted(DATA.glob("*/ch09_crossing.json"))
    rows = [row for path in paths for row in read_recording(path)["rows"]]
    disturbed = [row for row in rows if row["host_ms"] > 1.05 * row["ms_per_step"]]
    for row in disturbed:
        said = f"{row['host_ms']:.2f} ms of host work do not fit into the recorded step of {row['ms_per_step']:.2f}"
        assert said in lesson, f"recorded: {row}"
    assert disturbed or "do not fit into the recorded step" not in lesson, "no row is disturbed any more"


def test_what_the_lesson_says_of_a_slower_host():
    """There chapter 9's host, too, leaves the device idle at few rows, though not by its median; hardly with more."""
    recording = read_recording(DATA / "h100" / "ch09_slow_host.json")
    rows = [row for row in recording["rows"] if row["engine"] == "chapter 9"]
    assert {row["rows"] for row in rows} == {32, 128, 256, 512}
    for row in rows:
        assert row["host_ms"] < row["device_ms"], row
        assert row["idle_share"] > 0.05 if row["rows"] == 32 else row["idle_share"] < 0.01, row
