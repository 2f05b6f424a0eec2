"""Measuring an engine's decode steps, and the recordings of chapters 3 to 5 on the simulated GPU."""

import pytest
import torch

from tests.helpers import reference_outputs, shared_reference, tiny_model
from tests.recorded import assert_recorded_and_drawn
from toolkit.commands.decoding import Load, serve
from toolkit.record import accelerated, ch03, ch04, ch05
from toolkit.recordings import DATA, read_recording
from toolkit.timeline.recording import EDGE_STEPS

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the simulated GPU is refused where there is CUDA")


def test_only_decode_steps_are_measured():
    """All tokens come out right; measured is what comes after everybody's first token, its edges left out."""
    from ch04_events import EventEngine

    load = Load(tiny_model(), requests=3, prompt_len=5, new_tokens=12)
    served = serve(EventEngine, load)
    assert served.outputs == reference_outputs(shared_reference(), load.prompts, 12)
    assert (served.steps, served.new_tokens) == (11, 33)
    assert served.recording.clock == "simulated"
    window = served.recording.window
    steps = sorted({span.step for span in served.recording.spans})
    assert window == served.recording.step_window(steps[EDGE_STEPS], steps[-1 - EDGE_STEPS])
    assert served.hidden_waits == ()


def test_wrong_share_counts_tokens():
    """One wrong token of twelve is a twelfth."""
    from ch04_events import EventEngine

    served = serve(EventEngine, Load(tiny_model(), requests=2, prompt_len=3, new_tokens=6))
    expected = [list(output) for output in served.outputs]
    expected[1][4] += 1
    assert served.wrong_share(expected) == 1 / 12


def test_an_engine_that_never_ends_is_stopped():
    """A learner's step() that commits nothing gets a message instead of a notebook that hangs."""
    from ch05_double_buffering import DoubleBufferedEngine

    class Stuck(DoubleBufferedEngine):
        def step(self):
            return []

    with pytest.raises(RuntimeError, match="requests stay unfinished"):
        serve(Stuck, Load(tiny_model(), requests=2, prompt_len=3, new_tokens=4))


def test_chapters_3_to_5_are_recorded_and_drawn(tmp_path, monkeypatch):
    """On the simulated GPU: every row says so, the same again gives the same rows, every figure can be drawn."""
    monkeypatch.setattr(accelerated, "RUNS", 2)
    monkeypatch.setattr(accelerated, "SIMULATED_KERNELS", 20)
    monkeypatch.setattr(ch03, "RUNS", 2)
    monkeypatch.setattr(ch04, "RUNS", 2)
    monkeypatch.setattr(ch05, "LOADS", {"simulated": [("", 4)]})
    for chapter in (ch03, ch04, ch05):
        monkeypatch.setattr(chapter, "open_load", lambda *args, **kwargs: Load(tiny_model(), 4, 4, 8))
        assert_recorded_and_drawn(chapter, tmp_path / chapter.__name__)


def test_what_the_lessons_say_of_the_recordings():
    """Sentences of the lessons that stand and fall with the committed recordings."""
    for path in DATA.glob("*/ch04_edges.json"):
        rows = read_recording(path)["rows"]
        wrong = {
            (row["missing"], row["late_ms"] > 0): row["wrong_share"] > 0 for row in rows
        }  # every run of a kind agrees, see below
        assert all((row["wrong_share"] > 0) == wrong[row["missing"], row["late_ms"] > 0] for row in rows), path
        assert not wrong["none", False] and not wrong["none", True], "nothing missing, and tokens are wrong"
        assert not wrong["h2d_done", False], "lesson 4: without h2d_done it is right as it comes"
        assert all(wrong[name, True] for name in ch04.EVENTS), "lesson 4: made late, every run is wrong"
    for path in DATA.glob("*/ch04_engines.json"):
        one, streams, events = read_recording(path)["rows"]
        assert streams["ms_per_step"] < events["ms_per_step"] and streams["wrong_share"] > 0.5, path
        assert abs(events["ms_per_step"] / one["ms_per_step"] - 1) < 0.1, "lesson 4: events make nothing faster"
    for path in DATA.glob("*/ch05_price.json"):
        rows = read_recording(path)["rows"]
        for one, two in zip(rows[::2], rows[1::2], strict=True):
            assert two["idle_share"] < 0.01 < one["idle_share"], f"{path}: lesson 5: two slots close the gap, {two}"
            if one["clock"] == "cuda":
                expected = 1 / (2 * (1 - one["idle_share"]))
                gain = two["tokens_per_s"] / one["tokens_per_s"]
                assert abs(gain / expected - 1) < 0.05, (
                    f"{path}: lesson 5: two whole forwards, {expected:.2f}, {gain:.2f}"
                )
            if two["tokens_per_s"] > one["tokens_per_s"]:
                assert one["idle_share"] > 0.4, f"{path}: lesson 5: two slots win only where one is idle a lot, {one}"
        assert rows[1]["tokens_per_s"] < rows[0]["tokens_per_s"], f"{path}: lesson 5: with few requests they are slower"
