"""`x.data = y` between the host, pinned memory and the device: programs move their weights so."""

import gc
import weakref

import pytest
import torch

from toolkit import simgpu


@pytest.fixture(autouse=True)
def as_cuda():
    with simgpu.as_cuda("lazy"):
        yield


def test_a_modules_weights_go_to_the_device_and_back():
    """They stay the parameters that an optimizer has."""
    module = torch.nn.Linear(3, 3)
    before, weight = list(module.parameters()), module.weight.detach().clone()
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    for each in module.parameters():
        each.data = each.data.to("cuda")
    assert module.weight.is_cuda and isinstance(module.weight, torch.nn.Parameter)
    module(torch.ones(2, 3, device="cuda")).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    for each in module.parameters():
        each.data = each.data.cpu()
    assert all(one is other for one, other in zip(before, module.parameters(), strict=True))
    assert type(module.weight) is torch.nn.Parameter and torch.allclose(module.weight, weight - 0.2)


def test_weights_go_to_pinned_memory():
    module = torch.nn.Linear(2, 2)
    module.weight.data = module.weight.data.pin_memory()
    assert module.weight.is_pinned() and module.weight.to("cuda", non_blocking=True).is_cuda


def test_one_that_is_held_on_to_is_refused():
    gc.collect()
    x = torch.zeros(3)
    held = weakref.ref(x)
    with pytest.raises(NotImplementedError, match="x.data = y between host and device, where something"):
        x.data = torch.ones(3, device="cuda")
    assert held() is x and x.tolist() == [0, 0, 0]


def test_within_one_kind_it_is_as_ever():
    ordinary, there = torch.zeros(2), torch.zeros(2, device="cuda")
    ordinary.data, there.data = torch.ones(3), torch.ones(3, device="cuda")
    ordinary.data.mul_(2)
    assert ordinary.tolist() == [2, 2, 2] and there.tolist() == [1, 1, 1]
