"""Every documented pattern is silent and right when it is right, and reported in its usual wrong form."""

import re
from pathlib import Path

import pytest
import torch

from tests.toolkit.simgpu.patterns import PATTERNS, prefetching_loader
from toolkit import simgpu

RIGHT = [(pattern, result) for pattern, _, result in PATTERNS]
WRONG = [(pattern, wrong) for pattern, forms, _ in PATTERNS for wrong in forms]


def named(value):
    return getattr(value, "__name__", None)


@pytest.mark.parametrize("policy", ["eager", "lazy", "threads", "random:1", "random:2"])
@pytest.mark.parametrize(("pattern", "result"), RIGHT, ids=named)
def test_a_right_pattern_is_silent_and_right(policy, pattern, result):
    with simgpu.as_cuda(policy):
        found = pattern(False)
    assert result is None or found == result


@pytest.mark.parametrize("policy", ["eager", "lazy"])
@pytest.mark.parametrize(("pattern", "wrong"), WRONG, ids=named)
def test_a_wrong_pattern_is_reported(policy, pattern, wrong):
    with simgpu.as_cuda(policy, on_race="collect"):
        pattern(wrong)
        races = simgpu.races()
    assert races
    assert all("patterns.py" in str(party.site) for race in races for party in (race.first, race.second))


def test_the_prefetching_loader_trains_as_without_it():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    optimizer, total = torch.optim.SGD(model.parameters(), lr=1e-4), 0.0
    for batch in (torch.arange(24.0).reshape(8, 3) * 2).split(2):
        loss = model(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    with simgpu.as_cuda("lazy"):
        assert prefetching_loader(False) == pytest.approx(total)


def test_the_table_in_the_documentation_lists_every_pattern():
    text = (Path(__file__).parents[3] / "docs/simulator.md").read_text()
    assert re.findall(r"^\| `(\w+)` \| silent", text, re.M) == [pattern.__name__ for pattern, _, _ in PATTERNS]
