"""The pipeline is right under every policy without a report; each of five mistakes is reported under the lucky one."""

import pytest
import torch

from tests.toolkit.simgpu import pipeline
from toolkit import simgpu

EDGE = {  # mistake: (first operation, second operation, words of the missing edge)
    "compute does not wait for h2d": ("H2D copy", "mm", "event on h2d after the first, and compute.wait_event"),
    "d2h does not wait for compute": ("tanh_", "D2H copy", "event on compute after the first, and d2h.wait_event"),
    "host buffer reused": (
        "H2D copy",
        "copy_",
        "event on h2d after the first, and call event.synchronize() on the host",
    ),
    "device buffer overwritten": ("mm", "H2D copy", "event on compute after the first, and h2d.wait_event"),
    "output read before synchronise": (
        "D2H copy",
        "clone",
        "event on d2h after the first, and call event.synchronize()",
    ),
}


def serve(policy, bug=None, on_race="raise", steps=8):
    batches, weights, expected = pipeline.example(steps)
    simgpu.reset(policy, on_race=on_race)
    return pipeline.serve(batches, weights.to("sim"), bug), expected


@pytest.mark.parametrize("policy", ["eager", "lazy", "threads", *(f"random:{seed}" for seed in range(20))])
def test_the_correct_pipeline_is_right_and_silent(policy):
    results, expected = serve(policy)
    torch.testing.assert_close(results, expected)
    assert simgpu.races() == []


@pytest.mark.parametrize("bug", pipeline.BUGS)
def test_each_mistake_is_reported_under_the_lucky_policy(bug):
    with pytest.raises(simgpu.RaceError) as caught:
        serve("eager", bug)
    first, second, edge = EDGE[bug]
    race = caught.value.race
    assert (race.first.name, race.second.name) == (first, second)
    assert edge in race.missing_edge
    assert all("pipeline.py:" in str(party.site) for party in (race.first, race.second)), "lines of the learner's code"


@pytest.mark.parametrize("bug", pipeline.BUGS)
def test_each_mistake_gives_right_numbers_with_luck_and_wrong_ones_without(bug):
    results, expected = serve("eager", bug, on_race="collect")
    torch.testing.assert_close(results, expected)
    results, expected = serve("lazy", bug, on_race="collect")
    assert not torch.allclose(results, expected), f"{bug}: the lazy device should have shown it"


@pytest.mark.usefixtures("no_garbage")
def test_a_thousand_steps_without_a_false_alarm_and_without_growth():
    """No report over 1,000 steps; histories stay short and memory flat."""
    before = simgpu.memory_allocated()
    results, expected = serve("eager", steps=1000)
    torch.testing.assert_close(results, expected)
    assert simgpu.races() == []
    weights = torch.ones(2, device="sim")
    assert len(weights.footprint().block.history) <= 1
    assert simgpu.max_memory_allocated() - before < 20 * 1024
