"""The garbage collector stays out of captures and services, and is as it was afterwards."""

import gc

import pytest

from toolkit import garbage


class Loop:
    """Refers to itself, so only the collector frees it."""

    def __init__(self, log: list[str]) -> None:
        self.me, self.log = self, log

    def __del__(self) -> None:
        self.log.append("collected")


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with a GPU; both do nothing where it is simulated."""
    monkeypatch.setattr("toolkit.device.is_simulated", lambda: False)


def test_a_capture_starts_clean_and_is_not_disturbed(on_a_gpu):
    """What is garbage goes before the block; inside the collector is off; behind it on again, after an error too."""
    log: list[str] = []
    Loop(log)
    with pytest.raises(ValueError, match="planted"), garbage.no_collection():
        assert log == ["collected"] and not gc.isenabled()
        raise ValueError("planted")
    assert gc.isenabled()


def test_a_service_leaves_nothing_old_to_look_at(on_a_gpu):
    """Inside the block what was there before is not looked at any more; behind it everything is again."""
    keep = [Loop([]) for _ in range(3)]
    with garbage.short_collections():
        assert gc.get_freeze_count() > 0 and not any(each is keep[0] for each in gc.get_objects())
    assert gc.get_freeze_count() == 0 and gc.isenabled()


def test_where_the_gpu_is_simulated_nothing_happens(monkeypatch: pytest.MonkeyPatch):
    """A collection takes 0.1 s, and tests make thousands of engines."""
    monkeypatch.setattr("toolkit.device.is_simulated", lambda: True)
    with garbage.no_collection(), garbage.short_collections():
        assert gc.isenabled() and gc.get_freeze_count() == 0
