"""Figures that a lesson draws from the recordings that there are."""

import json

from figures.recorded import drawn_from, recorded_figures
from toolkit.recordings import DATA


def test_what_is_not_recorded_is_said(tmp_path, capsys):
    """No recording, no picture, one plain line."""
    assert recorded_figures("ch07", "ch07_overrun", data=tmp_path) == []
    assert capsys.readouterr().out == "ch07_overrun: not recorded yet\n"


def test_what_is_recorded_is_drawn(capsys):
    """A figure of the committed recordings, made in the notebook."""
    (picture,) = recorded_figures("ch07", "ch07_overrun")
    assert picture.axes and capsys.readouterr().out == ""


def test_the_device_is_chosen_as_for_the_files(tmp_path):
    """A GPU's recording is preferred to that of the simulated one."""
    recording = json.loads((DATA / "simulated" / "ch07_overrun.json").read_text())
    for folder, name in (("simulated", "simulated GPU"), ("h100", "a GPU of this test")):
        (tmp_path / folder).mkdir()
        rows = [{**row, "clock": "cuda"} for row in recording["rows"]]
        (tmp_path / folder / "ch07_overrun.json").write_text(json.dumps({**recording, "device": name, "rows": rows}))
    (picture,) = recorded_figures("ch07", "ch07_overrun", data=tmp_path)
    assert any("a GPU of this test" in text.get_text() for text in picture.axes[0].texts)
    assert drawn_from("ch07_overrun", data=tmp_path)["device"] == "a GPU of this test", "and so for a lesson's numbers"
