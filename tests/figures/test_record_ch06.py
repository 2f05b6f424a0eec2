"""Chapter 6's measurements, and what its lesson says of the committed recordings."""

import pytest

from tests.figures.recorded import assert_recorded_and_drawn
from tests.helpers import tiny_model
from tests.simulated import needs_simulator
from toolkit.commands.decoding import Load
from toolkit.recordings import DATA, read_recording


@pytest.mark.long
@needs_simulator
def test_chapter_6_is_recorded_and_drawn(tmp_path, monkeypatch):
    """On the simulated GPU: every row says so, the same again gives the same rows, every figure can be drawn."""
    from figures.ch06 import record as ch06

    monkeypatch.setattr(ch06, "open_load", lambda: Load(tiny_model(), 2, 4, 8))
    assert_recorded_and_drawn(ch06, tmp_path)


def test_the_memory_figure_says_whose_graphs_they_are():
    """A bar for each way and number of sets; below the title the shape of the model, which a GPU's recording has."""
    from figures.ch06.draw import memory

    recording = read_recording(DATA / "simulated" / "ch06_memory.json")
    rows = [{**row, "in_use_mb": row["reserved_mb"] + 20, "clock": "cuda"} for row in recording["rows"]]
    axes = memory({**recording, "device": "made up", "rows": rows}).axes[0]
    assert len(axes.patches) == 6
    assert "made up, 8B shape, graphs for up to 32 rows" in [text.get_text().split(", the ")[0] for text in axes.texts]


def test_what_the_lesson_says_of_the_recordings():
    """Sentences of the lesson that stand and fall with the committed recordings, simulated or of a GPU."""
    recordings = [read_recording(path)["rows"] for path in DATA.glob("*/ch06_memory.json")]
    assert recordings
    for rows in recordings:
        held = {(row["pools"], row["sets"]): row["reserved_mb"] for row in rows}
        assert held["one pool", 2] <= 1.05 * held["one pool", 1], (
            "a second set of buffers costs hardly anything with one pool"
        )
        assert held["a pool for each set", 2] > 1.5 * held["a pool for each set", 1]
        assert held["a pool for each graph", 1] > held["one pool", 1]
    for path in DATA.glob("*/ch06_forward.json"):
        for row in read_recording(path)["rows"]:
            one_by_one = row["forward"] == "operation by operation"
            assert (row["host_ms"] > 0.8 * row["device_ms"]) == one_by_one, "the host launches all the time, or once"
    for path in DATA.glob("*/ch06_engines.json"):
        slow, quick, *one_size = read_recording(path)["rows"]
        assert quick["idle_share"] < 0.01 < slow["idle_share"]
        assert quick["tokens_per_s"] > 1.5 * slow["tokens_per_s"], "lesson 6: graphs give several times the tokens"
        for row in one_size:
            assert abs(quick["ms_per_step"] / row["ms_per_step"] - 1) < 0.05, "lesson 6: buckets bring next to nothing"
    for path in DATA.glob("*/roofline_step.json"):
        ms = {(row["form"], row["context"]): row["ms"] for row in read_recording(path)["rows"]}
        for context in {context for _, context in ms}:
            graph, merged, compiled, both = (
                ms[form, context] for form in ("graph", "merged, graph", "compiled, graph", "merged, compiled, graph")
            )
            assert both < compiled < merged < graph, "lesson 6: compiling brings the most, merging a little"
