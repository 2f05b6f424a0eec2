"""IO buffers whose inputs lie in one piece of memory are filled and copied like any others."""

import pytest

from ch03_streams import BufferSizes, IOBuffers
from ch07_carry_over import carry_padding
from ch08_full_engine import PackedBuffers
from ch08_full_engine.packed_buffers import ALIGNMENT
from tests.ch08_full_engine.batches import inputs_of_rows
from tests.simulated import needs_simulator

pytestmark = needs_simulator
PADDING = carry_padding(BufferSizes(tokens=7, rows=3, width=5, trash_block=9, block_size=4))


@pytest.fixture(autouse=True)
def fresh_device():
    from toolkit import simgpu

    simgpu.reset("eager", on_race="raise")


def test_the_same_inputs_as_in_separate_tensors():
    """After loading two batches, the second one smaller, names, dtypes, shapes and values are as in plain buffers."""
    plain, packed = IOBuffers(PADDING, "sim"), PackedBuffers(PADDING, "sim")
    for query_start_loc in ([0, 1, 2, 7], [0, 1]):
        for buffers in (plain, packed):
            buffers.load(inputs_of_rows(query_start_loc, num_decode_rows=1))
            buffers.copy_in()
        for name, expected in plain.host_inputs.items():
            for seen in (packed.host_inputs[name], packed.device_inputs[name].cpu()):
                assert seen.dtype == expected.dtype and seen.tolist() == expected.tolist(), f"{name} differs"


def test_inputs_do_not_overlap():
    """Each input has bytes of its own, which begin at a multiple of the alignment."""
    buffers = PackedBuffers(PADDING, "sim")
    ranges = sorted((view.data_ptr(), view.data_ptr() + view.nbytes) for view in buffers.host_inputs.values())
    start = buffers.host_buffer.data_ptr()
    assert all((first - start) % ALIGNMENT == 0 for first, _ in ranges)
    assert all(end <= following for (_, end), (following, _) in zip(ranges, ranges[1:], strict=False))


def test_one_copy_in_that_does_not_wait():
    """Copying in is one operation on the copy engine, whatever the number of inputs, and the host goes on."""
    from toolkit import simgpu

    buffers = PackedBuffers(PADDING, "sim")
    assert buffers.host_buffer.is_pinned(), "from ordinary memory a large copy would make the host wait"
    before, waits = len(simgpu.spans()), len(simgpu.synchronisations())
    buffers.copy_in()
    seen = [span.name for span in simgpu.spans()[before:] if span.lane != "host"]
    assert len(seen) == 1, f"the device did {seen}"
    waited = [f"{wait.what} at {wait.site}" for wait in simgpu.synchronisations()[waits:]]
    assert not waited, f"the host waited: {waited}; pass non_blocking=True"
