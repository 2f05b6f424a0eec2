"""The measurements of chapters 3 to 5 on the simulated GPU, and what their lessons say of the committed recordings."""

import json
import subprocess
import sys

import pytest

from figures import accelerated
from figures.ch03 import default_stream
from figures.ch03 import record as ch03
from figures.ch03.copies import copy_speeds
from figures.ch04 import record as ch04
from figures.ch05 import record as ch05
from tests.figures.recorded import assert_recorded_and_drawn
from tests.helpers import tiny_model
from tests.simulated import needs_simulator
from toolkit.commands.decoding import Load
from toolkit.recordings import DATA, ROOT, read_recording


@pytest.mark.long
@needs_simulator
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


@needs_simulator
def test_copy_speeds_are_the_declared_ones():
    """The simulated GPU's large copies come near its 25 GB/s, from both kinds of memory, in both directions."""
    rows = copy_speeds()
    largest = [row for row in rows if row["bytes"] == max(each["bytes"] for each in rows)]
    assert {(row["direction"], row["memory"]) for row in largest} == {
        (direction, memory) for direction in ("to the device", "to the host") for memory in ("pinned", "pageable")
    }
    assert all(24.5 < row["gb_per_s"] <= 25 for row in largest), largest


def test_module_loading_is_measured_in_processes_of_its_own(monkeypatch):
    """The same measurement twice, and only the variable differs."""
    settings = []

    def run(command, *, env, **options):
        settings.append(env["CUDA_MODULE_LOADING"])
        assert command == [sys.executable, "-m", "figures.ch03.default_stream"]
        return subprocess.CompletedProcess(command, 0, stdout=b'[{"call": 0}, {"call": 1}]')

    monkeypatch.setattr(default_stream.subprocess, "run", run)
    rows = default_stream.module_loading()
    assert settings == ["LAZY", "EAGER"]
    assert rows == [{"loading": loading, "call": call} for loading in settings for call in (0, 1)]


@needs_simulator
def test_the_default_streams_measurement_is_a_program_too():
    command = [sys.executable, "-m", "figures.ch03.default_stream"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == default_stream.default_stream()


def test_what_the_lessons_say_of_the_recordings():
    """Sentences of the lessons that are true of the committed recordings, or have to change with them."""
    for path in DATA.glob("*/ch03_host_waits.json"):
        behind = {row["call"]: row["ms"] - row["sleep_ms"] for row in read_recording(path)["rows"]}
        longest = sorted(behind, key=lambda call: behind[call])[-2:]
        if path.parent.name != "simulated":
            assert all("pageable" in call for call in longest), f"{path}: lesson 3: pageable copies take longest"
            assert behind["pinned to device, 64 MB, blocking"] < 2 < min(behind[call] for call in longest), path
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
            assert two["idle_share"] < 0.01 < one["idle_share"], (
                f"{path}: lesson 5: two batches in flight close the gap, {two}"
            )
            if one["clock"] == "cuda":
                expected = 1 / (2 * (1 - one["idle_share"]))
                gain = two["tokens_per_s"] / one["tokens_per_s"]
                assert abs(gain / expected - 1) < 0.05, (
                    f"{path}: lesson 5: two whole forwards, {expected:.2f}, {gain:.2f}"
                )
            if two["tokens_per_s"] > one["tokens_per_s"]:
                assert one["idle_share"] > 0.4, (
                    f"{path}: lesson 5: two half batches win only where one is idle a lot, {one}"
                )
        assert rows[1]["tokens_per_s"] < rows[0]["tokens_per_s"], f"{path}: lesson 5: with few requests they are slower"
