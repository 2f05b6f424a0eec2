"""Figures are drawn from recordings and from nothing else; recording and drawing find each other by name."""

import json
import re
import subprocess
import sys

import pytest
import torch

from figures import DIAGRAMS, FIGURES, choose_device, record
from figures.ch00 import record as ch00
from figures.draw import draw_all, draw_diagrams
from figures.rooms import full_name, rooms, short_name
from tests.run_make import run_make
from toolkit.recordings import ROOT, write_recording


def test_a_gpu_is_preferred(tmp_path):
    """h100 before other GPUs before simulated before cpu, and only a device that has all recordings."""
    for device, names in {
        "cpu": ["a", "b"],
        "simulated": ["a", "b"],
        "t4": ["a", "b"],
        "l40s": ["a", "b"],
        "h100": ["a"],
    }.items():
        for name in names:
            (tmp_path / device).mkdir(exist_ok=True)
            (tmp_path / device / f"{name}.json").write_text("{}")
    assert choose_device(("a",), tmp_path) == "h100"
    assert choose_device(("a", "b"), tmp_path) == "l40s"
    assert choose_device(("a", "c"), tmp_path) is None
    assert choose_device(("a",), tmp_path / "nowhere") is None


def test_chapter_0_is_recorded_and_drawn(tmp_path, monkeypatch):
    """On the CPU: the recordings are made, each figure of chapter 0 is drawn from them; nothing else is written."""
    monkeypatch.setattr(ch00, "SIZES", {"cpu": (8, 16, 24, 32)})
    for name, rows in ch00.record(torch.device("cpu")).items():
        write_recording(name, rows, command="test", folder=tmp_path / "data")
    report = draw_all(tmp_path / "data", tmp_path / "figures")
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert drawn == {name for name in FIGURES if name.startswith("ch00")}, report


def test_no_recording_no_figure(tmp_path):
    """Without recordings nothing is drawn, and each figure says how to record."""
    report = draw_all(tmp_path, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()
    assert "not drawn ch07_steps: no recording yet, make one with make record CH=7" in report
    assert "not drawn host_cost: no recording yet, make one with make record CH=host_cost" in report
    assert all(line.startswith("not drawn ") and re.search(r" make (record CH=\w+|bench)$", line) for line in report)


def test_diagrams_need_no_recording(tmp_path):
    """Each is drawn, as the one that is committed; nothing else is."""
    report = draw_diagrams(tmp_path)
    drawn = sorted(tmp_path.iterdir())
    assert [path.stem for path in drawn] == sorted(DIAGRAMS) and len(report) == len(drawn) > 0
    assert [path.stem for path in drawn if not (ROOT / "figures" / path.name).is_file()] == []


def test_every_committed_recording_can_be_drawn(tmp_path):
    """What lies in figures/data is readable, and every figure of it can be drawn."""
    report = draw_all(target=tmp_path)
    assert sum(line.startswith("drew") for line in report) == len(list(tmp_path.iterdir()))


def test_diagrams_are_drawn_from_nothing(tmp_path):
    """Each has a name that no figure has, and is in the repository."""
    draw_diagrams(tmp_path)
    drawn = {path.stem for path in tmp_path.iterdir()}
    assert "ch03_memory" in drawn and drawn == set(DIAGRAMS) and not drawn & set(FIGURES)
    assert all((ROOT / "figures" / f"{name}.png").is_file() for name in drawn)


def test_committed_recordings_name_their_origin():
    """Every recording in the repository says how it was made."""
    bench, record = r"make bench( BENCH='[^']*')?", r"make record CH=\w+ DEVICE=(cpu|cuda)"
    shares = r"torchrun --nproc-per-node 2 -m toolkit\.commands\.tensor_parallel --model \w+"
    for path in (ROOT / "figures" / "data").glob("*/*.json"):
        data = json.loads(path.read_text())
        for command in {data["command"], *(row["command"] for row in data["rows"] if "command" in row)}:
            assert re.fullmatch(f"{bench}|{record}|{shares}", command), path
            if asked := re.search(r"CH=(\w+)", command):
                assert full_name(asked[1]) in rooms("record") and short_name(full_name(asked[1])) == asked[1], path
        assert data["device"] and data["commit"], path


def test_a_recording_says_what_was_called(monkeypatch):
    """However the chapter is given, the recording names the one command that stays, its options with it."""
    said = []
    monkeypatch.setattr(ch00, "record", lambda device: {"a": [{"a": 1}]})
    monkeypatch.setattr(record, "write_recording", lambda *arguments, command, device: said.append(command) or ROOT)
    for name in ("0", "00", "ch00"):
        monkeypatch.setattr(sys, "argv", ["record", name, "--device", "cpu"])
        record.main()
    assert said == ["make record CH=0 DEVICE=cpu"] * 3


def test_make_asks_for_what_the_recordings_name():
    """make record hands CH and DEVICE on to the command that is called without make."""
    done = run_make("-n", "record", "CH=4", "DEVICE=cpu")
    assert done.stdout.splitlines()[-1].endswith("-m figures.record 4 --device cpu"), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "name a chapter, such as make record CH=4; there are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, busy_neighbour"),
        (["77"], "no measurements are known for '77'"),
        (["peers"], "no measurements are known for 'peers'"),
        (["0", "--device", "cuda"], "sees no NVIDIA GPU"),
    ],
)
def test_record_refuses_in_one_line(arguments, complaint):
    """An unknown chapter or a missing GPU: one line, exit code 2, no traceback."""
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    command = [sys.executable, "-m", "figures.record", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and complaint in result.stderr and result.stderr.count("\n") == 1
