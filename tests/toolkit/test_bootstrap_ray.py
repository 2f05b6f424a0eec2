"""The set-up of Ray: where there is none, it says so, and the tests are skipped; a finished one takes no time."""

from pathlib import Path

import pytest

from toolkit import bootstrap, bootstrap_ray


def test_a_system_without_ray(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """`make test-ray` skips, and is no error; `make run-ray` is."""
    monkeypatch.setattr(bootstrap_ray.sys, "platform", "win32")
    assert bootstrap_ray.main(["--skip"]) == bootstrap_ray.NO_RAY
    assert capsys.readouterr().out.startswith("skipped: Ray has no wheel for ")
    assert bootstrap_ray.main([]) == 1
    assert "use WSL" in capsys.readouterr().err


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose `.venv` is finished; pip is replaced, and its calls are in `pip_calls`."""
    for name in ("requirements.txt", "constraints.txt", bootstrap_ray.REQUIREMENTS):
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
            (repository / bootstrap_ray.REQUIREMENTS).write_text("ray==2\n")
        if change == "stamp":
            (repository / ".venv-ray" / ".course-stamp").write_text(bootstrap.UNFINISHED)
        before = len(calls)
        bootstrap_ray.set_up(repository)
        assert len(calls) - before == (0 if change == "none" else 1), change
    assert str(repository / bootstrap_ray.REQUIREMENTS) in calls[0]
    (path,) = (repository / ".venv-ray").rglob("course.pth")
    assert "site-packages" in path.read_text().splitlines()[0]


@pytest.mark.long
def test_pip_fails(repository: Path, monkeypatch: pytest.MonkeyPatch):
    """Its last lines are shown, and the next call tries again."""
    monkeypatch.setattr(bootstrap, "pip", lambda venv, *arguments: ["no network"])
    with pytest.raises(bootstrap.SetUpError, match="no network"):
        bootstrap_ray.set_up(repository)
    assert (repository / ".venv-ray" / ".course-stamp").read_text() == bootstrap.UNFINISHED
