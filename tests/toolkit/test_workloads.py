"""Workloads are seeded: equal arguments give equal requests, on every machine."""

import pytest

from toolkit.workloads import arriving, fixed, ragged

EXPECTED = [([3, 94, 35], 2, 0), ([17], 4, 3), ([86, 94, 69], 2, 4), ([4], 7, 11)]


def test_fixed_has_one_shape():
    """Every request has the lengths asked for and ids of the vocabulary."""
    items = fixed(5, 7, 3, vocab_size=11)
    assert [(len(item.prompt_ids), item.max_tokens, item.arrival_step) for item in items] == [(7, 3, 0)] * 5
    assert all(0 <= token < 11 for item in items for token in item.prompt_ids)
    assert len({tuple(item.prompt_ids) for item in items}) == 5, "prompts differ from each other"


def test_ragged_stays_in_its_ranges():
    """Lengths lie in their ranges, both ends are reached, and they vary."""
    items = ragged(300, (2, 9), (1, 4), vocab_size=50, seed=1)
    assert {len(item.prompt_ids) for item in items} == set(range(2, 10))
    assert {item.max_tokens for item in items} == {1, 2, 3, 4}


def test_the_same_on_every_machine():
    """Values written down once: another Python or machine must give the same."""
    items = arriving(ragged(4, (1, 3), (1, 9), vocab_size=100, seed=42), 0.5, seed=42)
    assert [(item.prompt_ids, item.max_tokens, item.arrival_step) for item in items] == EXPECTED


def test_seeds_differ():
    """Another seed is another workload."""
    assert fixed(3, 8, 4, vocab_size=1000, seed=1) != fixed(3, 8, 4, vocab_size=1000, seed=2)


@pytest.mark.parametrize("per_step", [0.25, 1.0, 3.0])
def test_arrivals_keep_order_and_rate(per_step):
    """Requests come in order, none is lost, and about `per_step` arrive at a step."""
    items = fixed(2000, 1, 1, vocab_size=10)
    arrived = arriving(items, per_step, seed=3)
    steps = [item.arrival_step for item in arrived]
    assert [item.prompt_ids for item in arrived] == [item.prompt_ids for item in items]
    assert steps == sorted(steps)
    assert 2000 / (steps[-1] + 1) == pytest.approx(per_step, rel=0.1)


def test_impossible_workloads_are_refused():
    """Empty prompts, reversed ranges, and a rate of nothing are mistakes of the caller."""
    for arguments in [((0, 3), (1, 2)), ((1, 3), (2, 1))]:
        with pytest.raises(ValueError, match="range"):
            ragged(1, *arguments, vocab_size=5)
    with pytest.raises(ValueError, match="per_step"):
        arriving([], 0)
