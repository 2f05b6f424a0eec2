"""The set-up of Ray: where there is none, it says so, and the tests are skipped."""

import pytest

from toolkit import bootstrap_ray


def test_a_system_without_ray(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """`make test-ray` skips, and is no error; `make run-ray` is."""
    monkeypatch.setattr(bootstrap_ray.sys, "platform", "win32")
    assert bootstrap_ray.main(["--skip"]) == bootstrap_ray.NO_RAY
    assert capsys.readouterr().out.startswith("skipped: Ray has no wheel for ")
    assert bootstrap_ray.main([]) == 1
    assert "use WSL" in capsys.readouterr().err
