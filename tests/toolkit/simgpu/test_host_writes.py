"""`write_host` on the simulated GPU: the race detector sees it like any other write of the host's."""

import pytest
import torch

from toolkit import simgpu
from toolkit.device import write_host


def test_writing_what_a_copy_still_reads_is_a_race():
    """A pinned buffer may be written again when the copy out of it is through."""
    simgpu.reset("lazy")
    host = torch.zeros(2, 4, dtype=torch.int64, device="cpu", pin_memory=True)
    target = torch.zeros(2, 4, dtype=torch.int64, device="sim")
    values = torch.ones(2, 3, dtype=torch.int64, device="cpu")
    target.copy_(host, non_blocking=True)
    with pytest.raises(simgpu.RaceError, match="copy_"):
        write_host(host, values)
    simgpu.synchronize()
    write_host(host, values)
    assert host.tolist() == [[1, 1, 1, 0]] * 2
