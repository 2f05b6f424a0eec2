"""An environment on top of `.venv`, Ray's for one: a finished one takes no time, a broken one is made again."""

from pathlib import Path

import pytest

from toolkit import bootstrap, bootstrap_layer
from toolkit.bootstrap_ray import NAME, REQUIREMENTS, WHAT, WITHOUT


def set_up(repository: Path) -> None:
    bootstrap_layer.set_up(repository, NAME, REQUIREMENTS, WHAT, [WITHOUT])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose `.venv` is finished."""
    for name in ("requirements.txt", "constraints.txt", REQUIREMENTS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{name}==1\n")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "pyvenv.cfg").write_text("version = 3.12.1\n")
    return tmp_path


@pytest.mark.long
def test_it_is_set_up_once(repository: Path, monkeypatch: pytest.MonkeyPatch):
    """And again when a pin has changed, or the last time was interrupted."""
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(bootstrap, "pip", lambda venv, *arguments: calls.append(arguments))
    for change in (None, "none", "pin", "stamp"):
        if change == "pin":
            (repository / REQUIREMENTS).write_text("ray==2\n")
        if change == "stamp":
            (repository / NAME / ".course-stamp").write_text(bootstrap.UNFINISHED)
        before = len(calls)
        set_up(repository)
        assert len(calls) - before == (0 if change == "none" else 1), change
    assert str(repository / REQUIREMENTS) in calls[0]
    (path,) = (repository / NAME).rglob("course.pth")
    below, without = path.read_text().splitlines()
    assert "site-packages" in below and without == WITHOUT


@pytest.mark.long
def test_pip_fails(repository: Path, monkeypatch: pytest.MonkeyPatch):
    """Its last lines are shown, and the next call tries again."""
    monkeypatch.setattr(bootstrap, "pip", lambda venv, *arguments: ["no network"])
    with pytest.raises(bootstrap.SetUpError, match="no network"):
        set_up(repository)
    assert (repository / NAME / ".course-stamp").read_text() == bootstrap.UNFINISHED
