"""Programs as strangers write them for torch.cuda, unmodified, by the command: right and silent, or reported."""

import sys
from pathlib import Path

import pytest

from toolkit.simgpu.__main__ import run

FOLDER = Path(__file__).parent / "programs"
WRONG = {"missing_wait": 2, "pinned_buffer_reused": 1}  # and how many races they have
SLOW = {"loader_workers"}  # it starts processes


def programs():
    for path in sorted(FOLDER.glob("*.py")):
        yield pytest.param(path, id=path.stem, marks=[pytest.mark.long] if path.stem in SLOW else [])


@pytest.mark.parametrize("policy", ["eager", "random:3"])
@pytest.mark.parametrize("path", list(programs()))
def test_a_program_runs_as_it_is(path, policy, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    code = run(str(path), [], policy)
    out, reports = capsys.readouterr()
    wrong = WRONG.get(path.stem, 0)
    assert code == bool(wrong) and out, reports
    assert reports.count("RACE on") == wrong, reports
