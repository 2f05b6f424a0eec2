"""Exercises 3.1 and 3.2: pinned and static tensors, and copies that do not wait."""

import pytest
import torch

from ch03_streams import BufferSizes, IOBuffers, padding
from tests.causes import likely
from tests.simulated import needs_simulator
from tests.words import counted

pytestmark = needs_simulator


def fresh_buffers(tokens: int = 12) -> IOBuffers:
    from toolkit import simgpu

    simgpu.reset("lazy", on_race="collect")
    return IOBuffers(padding(BufferSizes(tokens=tokens, rows=4, width=5, trash_block=9, block_size=4)), device="sim")


@pytest.fixture
def buffers() -> IOBuffers:
    return fresh_buffers()


def waits() -> list[str]:
    from toolkit import simgpu

    return [f"{wait.what} at {wait.site}" for wait in simgpu.synchronisations()]


@pytest.mark.exercise("3.1")
def test_host_inputs_are_pinned(buffers: IOBuffers):
    """The host's side of every input is pinned memory, which a copy engine can read by itself."""
    pageable = [name for name in buffers.padding if not buffers.host_inputs[name].is_pinned()]
    assert not pageable, (
        f"not pinned: {pageable}. A copy from pageable memory cannot simply be queued: the host takes part in it. "
        "Allocate with pin_memory=True"
    )


@pytest.mark.exercise("3.1")
def test_device_inputs_are_on_the_device(buffers: IOBuffers):
    """The device's side of every input is on the device, with the same shape and dtype as the host's."""
    for name, values in buffers.padding.items():
        host, on_device = buffers.host_inputs[name], buffers.device_inputs[name]
        assert on_device.device.type == "sim", f"device_inputs[{name!r}] is on {on_device.device}, not on the device"
        for side, tensor in (("host", host), ("device", on_device)):
            assert tensor.shape == values.shape and tensor.dtype == values.dtype, (
                f"{side}_inputs[{name!r}] is {tuple(tensor.shape)} {tensor.dtype}; its padding is "
                f"{tuple(values.shape)} {values.dtype}"
            )


@pytest.mark.exercise("3.1")
def test_both_sides_start_with_the_padding(buffers: IOBuffers):
    """Host and device inputs start with their padding values: harmless for a forward that runs before any batch."""
    for name, values in buffers.padding.items():
        for side, tensor in (("host", buffers.host_inputs[name]), ("device", buffers.device_inputs[name])):
            seen = tensor.cpu()
            assert torch.equal(seen, values), (
                f"{side}_inputs[{name!r}] starts as {seen.flatten()[:6].tolist()}..., its padding is "
                f"{values.flatten()[:6].tolist()}... Uninitialised indices may point anywhere"
            )


@pytest.mark.exercise("3.1")
def test_the_padding_keeps_its_values(buffers: IOBuffers):
    """The padding has memory of its own: what a batch writes into the host's inputs does not change it."""
    before = {name: values.clone() for name, values in buffers.padding.items()}
    for host in buffers.host_inputs.values():
        host.fill_(1)
    changed = [name for name, values in buffers.padding.items() if not torch.equal(values, before[name])]
    assert not changed, (
        f"the host's inputs were overwritten, and {changed[0]!r} of the padding changed as well: they are one tensor. "
        "Copy the padding's values into a tensor of their own"
    )


@pytest.mark.exercise("3.2")
def test_copies_arrive_where_they_belong(buffers: IOBuffers):
    """copy_in brings every input to the device's tensors, copy_out the sampled ids to the host's."""
    from toolkit import simgpu

    for i, host in enumerate(buffers.host_inputs.values()):
        host.fill_(i + 1)
    buffers.device_ids.fill_(77)
    buffers.copy_in()
    buffers.copy_out()
    simgpu.synchronize()
    for i, (name, tensor) in enumerate(buffers.device_inputs.items()):
        seen = tensor.cpu().flatten().tolist()
        assert set(seen) == {i + 1}, f"device_inputs[{name!r}] should hold {i + 1} after copy_in; it holds {set(seen)}"
    assert buffers.read_ids(4) == [77] * 4, (
        f"the device sampled 77 four times; after copy_out the host reads {buffers.read_ids(4)}"
    )


@pytest.mark.exercise("3.2")
@pytest.mark.overlap
def test_copies_do_not_make_the_host_wait(buffers: IOBuffers):
    """Queueing the copies returns at once: neither direction makes the host wait for the device."""
    before = len(waits())
    buffers.copy_in()
    buffers.copy_out()
    seen = waits()[before:]
    assert not seen, f"the host waited {counted(len(seen), 'time')}, first in: {seen[0]}. " + likely(
        ("synchronize" in seen[0], "The copies are only queued here; who needs them waits for them, later"),
        otherwise="Is non_blocking=True missing, or .cpu() used?",
    )


@pytest.mark.exercise("3.2")
def test_copies_go_to_the_current_stream(buffers: IOBuffers):
    """The caller says on which stream, with a `with`; the copies themselves name none."""
    from toolkit import simgpu

    for name in ("copy_in", "copy_out"):
        stream, before = simgpu.Stream(name=f"the caller's for {name}"), len(simgpu.spans())
        with simgpu.stream(stream):
            getattr(buffers, name)()
        lanes = {span.lane for span in simgpu.spans()[before:]} - {"host"}
        assert lanes == {stream.name}, (
            f"{name} was called inside `with stream(...)`, and queued its copies on {sorted(lanes)}: copy on the "
            "current stream, and name no other"
        )


@pytest.mark.exercise("3.2")
@pytest.mark.overlap
def test_large_copies_do_not_make_the_host_wait_either():
    """Inputs of more than 64 KB are copied without waiting too: their source is the pinned tensor itself."""
    large = fresh_buffers(tokens=10_000)
    before = len(waits())
    large.copy_in()
    seen = waits()[before:]
    assert not seen, f"with 10,000 tokens the host waited in: {seen[0]}. " + likely(
        ("synchronize" in seen[0], "The copies are only queued here; who needs them waits for them, later"),
        otherwise="Small copies from pageable memory are staged and hide it; copy from the pinned tensor itself, "
        "not from a temporary",
    )


@pytest.mark.exercise("3.2")
def test_tensors_stay_where_they_are(buffers: IOBuffers):
    """The buffers' tensors keep their addresses: a captured forward reads and writes these very ones."""

    def addresses() -> dict[str, int]:
        tensors = {f"device_inputs[{name!r}]": tensor for name, tensor in buffers.device_inputs.items()}
        tensors |= {"device_ids": buffers.device_ids, "host_ids": buffers.host_ids}
        return {name: tensor.data_ptr() for name, tensor in tensors.items()}

    before = addresses()
    buffers.copy_in()
    buffers.copy_out()
    moved = [name for name, address in addresses().items() if address != before[name]]
    assert not moved, f"{moved} became new tensors at other addresses. Copy into the tensors, don't replace them"
