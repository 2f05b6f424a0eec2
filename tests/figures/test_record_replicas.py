"""Chapter 10's measurements with several processes: what can be tried without Ray. The rest is in tests/on_ray."""

import importlib.util

import pytest

from figures.replicas import record
from tests.ch10_serving.live import Live
from tests.simulated import needs_simulator
from toolkit.errors import UserError


@needs_simulator
def test_a_call_is_measured_over_its_own_connection_or_a_kept_one():
    """Each call is answered; a kept connection is one, and otherwise there are as many as calls."""
    from toolkit import simgpu

    simgpu.reset("eager")
    live, opened = Live(), []
    protocol = live.server.config.http_protocol_class
    made = protocol.connection_made
    protocol.connection_made = lambda self, transport: (opened.append(self), made(self, transport))[1]
    try:
        for kept, connections in ((False, 5), (True, 1)):
            opened.clear()
            times = record.calls_ms(live.port, 5, kept)
            assert len(times) == 5 and all(milliseconds > 0 for milliseconds in times)
            assert len(opened) == connections
    finally:
        live.stop()


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed here")
def test_without_ray_one_line_says_so():
    with pytest.raises(UserError, match="Ray is not installed here"), record.replicas():
        pytest.fail("Ray was started")
