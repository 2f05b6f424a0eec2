"""Every test starts with a fresh simulated GPU and leaves none of its work behind."""

from pathlib import Path

import pytest
import torch

ON_CUDA = torch.cuda.is_available()
POLICIES = ["eager", "lazy", "threads", "random:1"]

# Only the ordering rules run on both devices; everything else tests the simulator itself.
RULES = "test_ordering_rules.py"
collect_ignore = [each.name for each in Path(__file__).parent.glob("test_*.py") if ON_CUDA and each.name != RULES]


@pytest.fixture(autouse=True)
def fresh_device():
    if ON_CUDA:
        yield
        torch.cuda.synchronize()
        return
    from toolkit import simgpu

    simgpu.reset("eager")
    yield
    simgpu.reset("eager")


@pytest.fixture(params=["cuda"] if ON_CUDA else POLICIES)
def policy(request):
    """Run the test under every policy of the simulator, or once on the real device."""
    if not ON_CUDA:
        from toolkit import simgpu

        simgpu.reset(request.param)
    return request.param
