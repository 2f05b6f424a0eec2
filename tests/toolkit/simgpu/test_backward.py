"""backward() on the simulated GPU: right numbers, on the streams of the forward pass, ordered as PyTorch orders it."""

import pytest
import torch
from torch import nn

from toolkit import simgpu

POLICIES = ["eager", "lazy", "threads", "random:1", "random:2"]


def train(device, steps=4):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    x, y = torch.linspace(0, 1, 60).reshape(10, 6).to(device), torch.arange(10).remainder(3).to(device)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return [each.tolist() for each in model.parameters()]


@pytest.mark.parametrize("policy", POLICIES)
def test_training_gives_the_numbers_of_the_cpu(policy):
    expected = train("cpu")
    with simgpu.as_cuda(policy):
        found = train("cuda")
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(torch.tensor(one), torch.tensor(other), atol=1e-5)


@pytest.fixture
def side():
    simgpu.reset("lazy", on_race="collect")
    stream = simgpu.Stream(name="side")
    weights = torch.ones(4, device="sim", requires_grad=True)
    stream.wait_stream(simgpu.current_stream())
    return stream, weights


def lanes(name):
    return {each.lane for each in simgpu.spans() if each.name == name}


def test_it_runs_on_the_streams_of_the_forward_pass(side):
    stream, weights = side
    with simgpu.stream(stream):
        middle = weights.exp()
    simgpu.current_stream().wait_stream(stream)
    loss = middle.sigmoid().sum()
    loss.backward()
    assert lanes("sigmoid_backward") == {"default"}
    assert [each.lane for each in simgpu.spans() if each.name == "mul"] == ["side"], "exp's derivative"
    assert torch.allclose(weights.grad.cpu(), reference()) and not simgpu.races()


def reference():
    weights = torch.ones(4, requires_grad=True)
    weights.exp().sigmoid().sum().backward()
    return weights.grad


def test_gradients_are_ready_for_the_stream_that_called_backward(side):
    stream, weights = side
    with simgpu.stream(stream):
        loss = weights.exp().sum()
    simgpu.current_stream().wait_stream(stream)
    loss.backward()
    assert weights.grad.tolist() == pytest.approx([2.718281] * 4) and not simgpu.races()


def test_gradients_are_not_ready_for_another_stream(side):
    """PyTorch, CUDA semantics, *Stream semantics of backward passes*: backward in one context, use in another."""
    stream, weights = side
    with simgpu.stream(stream):
        weights.exp().sum().backward()
    weights.grad.clone()
    (race,) = simgpu.races()
    assert race.first.lane == "side" and race.second.name == "clone"
    assert "weights.exp().sum().backward()" in str(race.first.site), "the line that called backward"


def test_an_initial_gradient_of_another_stream_is_a_race(side):
    """The same page: the gradient is made in one context, backward is called in another."""
    stream, weights = side
    with simgpu.stream(stream):
        y = weights * 2
    gradient = torch.ones(4, device="sim")
    with simgpu.stream(stream):
        y.backward(gradient)
    assert [(each.first.name, each.second.name) for each in simgpu.races()] == [("fill_", "mul")]


def test_added_gradients(side):
    stream, weights = side
    with simgpu.stream(stream):
        a = weights * 2
    b = weights * 3
    simgpu.current_stream().wait_stream(stream)
    (a + b).sum().backward()
    (weights * 1).sum().backward()
    assert weights.grad.tolist() == [6.0] * 4 and not simgpu.races()


def test_torch_autograd_grad(side):
    weights = side[1]
    (gradient,) = torch.autograd.grad((weights**2).sum(), weights, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), weights)
    assert gradient.tolist() == second.tolist() == [2.0] * 4


def test_a_race_in_a_backward_pass_ends_the_program():
    simgpu.reset("eager")
    stream, weights = simgpu.Stream(name="side"), torch.ones(4, device="sim", requires_grad=True)
    loss = (weights * 2).sum()
    with pytest.raises(simgpu.RaceError), simgpu.stream(stream):
        loss.backward()


def test_dropout(side):
    weights = side[1]
    dropped = nn.functional.dropout(weights.repeat(100), 0.25)
    dropped.sum().backward()
    values = dropped.tolist()
    assert {round(each, 4) for each in values} == {0.0, 1.3333} and 50 < values.count(0.0) < 150
    assert sum(weights.grad.tolist()) == pytest.approx(sum(values), rel=1e-5)
