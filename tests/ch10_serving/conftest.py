"""The server of a module's tests, and what holds after each of them."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def served() -> Iterator[Any]:
    from tests.ch10_serving.live import Live  # imports chapters, which are chosen after this file is read
    from toolkit import simgpu

    simgpu.reset("eager")
    live = Live()
    yield live
    live.stop()


@pytest.fixture
def live(served: Any) -> Iterator[Any]:
    """A server with no request inside; after the test it must be so again."""
    yield served
    served.check_idle()
