"""Exercise 10.4: which replica gets a request, so that its beginning is there already and no replica has too much."""

import math

import pytest

from ch10_serving.affinity import SLACK, beginning, choose, ranking, weight
from tests.causes import has_result, likely

REPLICAS = ["r3", "r1", "r4", "r2"]
KEYS = [f"system prompt {i}".encode() for i in range(200)]


@pytest.mark.exercise("10.4")
def test_the_ranking_is_by_weight():
    """All replicas, the one with the highest weight first, whatever order they are given in."""
    for key in KEYS[:20]:
        seen = ranking(key, REPLICAS)
        has_result(seen, "ranking")
        weights = [weight(key, replica) for replica in seen]
        assert sorted(seen) == sorted(REPLICAS), f"of the replicas {REPLICAS} the ranking has {list(seen)}"
        cause = likely(
            (weights == sorted(weights), "The lowest is first: reverse it"),
            (list(seen) == REPLICAS, "They are in the order in which they were given"),
            (list(seen) == sorted(REPLICAS), "They are in the order of their names"),
            otherwise="Each replica's place depends on weight(key, replica) alone",
        )
        assert weights == sorted(weights, reverse=True), (
            f"the ranking is {list(seen)}, with the weights {weights}: they should go down. {cause}"
        )


@pytest.mark.exercise("10.4")
def test_a_replica_that_goes_takes_only_its_own_keys_along():
    """Of the keys that were at home elsewhere, none moves: their blocks would be lost."""
    before = {key: ranking(key, REPLICAS)[0] for key in KEYS}
    left = [replica for replica in REPLICAS if replica != "r1"]
    moved = [key for key in KEYS if before[key] != "r1" and ranking(key, left)[0] != before[key]]
    assert not moved, (
        f"r1 has gone, and {len(moved)} keys of other replicas have another home now, such as {moved[0]!r}"
    )


@pytest.mark.exercise("10.4")
def test_keys_are_spread():
    """Each of four replicas is at home for its part of 200 keys."""
    homes = [ranking(key, REPLICAS)[0] for key in KEYS]
    counts = {replica: homes.count(replica) for replica in REPLICAS}
    assert min(counts.values()) > 20, f"200 keys have their homes at {counts}: does the ranking depend on the key?"


@pytest.mark.exercise("10.4")
def test_the_first_of_the_ranking_if_it_has_room():
    """With no load at all a request goes home."""
    for key in KEYS[:20]:
        chosen = choose(key, dict.fromkeys(REPLICAS, 0))
        has_result(chosen, "choose")
        assert chosen == ranking(key, REPLICAS)[0], f"no replica has any load, and {key!r} was not sent home"


@pytest.mark.exercise("10.4")
def test_the_bound():
    """At most ceil(SLACK * (sum + 1) / n), the new request included; a replica that has that already is passed over."""
    key = KEYS[0]
    first, second, third, fourth = ranking(key, REPLICAS)
    # 31 and the new one make 32, the mean is 8, so no replica may have more than 10.
    assert math.ceil(SLACK * 32 / 4) == 10, f"SLACK is {SLACK}; this test counts with one that allows 10"
    for load, wanted in ((9, first), (10, second), (11, second)):
        loads = {first: load, second: 8, third: 7, fourth: 31 - 15 - load}
        seen = choose(key, loads)
        cause = likely(
            (load == 9 and seen != first, "Does the bound count the request itself? With it there are 32"),
            (load == 10 and seen == first, "With this request it would have 11, and 10 are allowed"),
        )
        assert seen == wanted, (
            f"loads in the ranking's order: {list(loads.values())}; the bound is 10, so the request belongs to place "
            f"{[first, second].index(wanted) + 1}, and went to place {ranking(key, REPLICAS).index(seen) + 1}. {cause}"
        )


@pytest.mark.exercise("10.4")
@pytest.mark.parametrize(("at_home", "place"), [(1, 1), (2, 2)])
def test_what_is_rounded_up(at_home: int, place: int):
    """SLACK times the mean, and not the mean: with few requests that decides."""
    order = ranking(KEYS[0], REPLICAS)
    loads = dict(zip(order, (at_home, 1, 1, 0), strict=True))
    sent = sum(loads.values()) + 1
    assert math.ceil(SLACK * sent / 4) == 2, f"SLACK is {SLACK}; this test counts with one that allows 2"
    seen = order.index(choose(KEYS[0], loads)) + 1
    assert seen == place, (
        f"loads in the ranking's order: {list(loads.values())}; with this request there are {sent}, and "
        f"{SLACK} * {sent} / 4 rounded up is 2, so it belongs to place {place}, and went to place {seen}. Is the "
        "product rounded up, or only the mean?"
    )


@pytest.mark.exercise("10.4")
def test_a_popular_beginning_is_shared_out():
    """One and the same system prompt, 100 times: no replica ever has more than the bound, and all have work."""
    loads = dict.fromkeys(REPLICAS, 0)
    for sent in range(1, 101):
        loads[chosen_of(loads)] += 1
        bound = math.ceil(SLACK * sent / 4)
        assert max(loads.values()) <= bound, f"after {sent} requests the loads are {loads}, and {bound} is the bound"
    assert min(loads.values()) > 0, f"100 requests with the same beginning were shared out as {loads}"


@pytest.mark.exercise("10.4")
@pytest.mark.parametrize("loads", [{"a": 0, "b": 0}, {"a": 7}, {"a": 5, "b": 5, "c": 5}, {"a": 0, "b": 40}])
def test_there_is_always_one(loads):
    """Also with a single replica, and when all have the same."""
    chosen = chosen_of(loads)
    assert chosen in loads, f"of the replicas {list(loads)}, choose returned {chosen!r}"


def chosen_of(loads: dict[str, int]) -> str:
    try:
        return choose(b"x", loads)
    except StopIteration:
        pytest.fail(
            f"with the loads {loads} no replica was below the bound. With this request there are "
            f"{sum(loads.values()) + 1}: does the bound count it, and is it rounded up?"
        )


def test_beginnings():
    """What is long is cut; token ids, several prompts and conversations have one, too."""
    assert beginning({"prompt": "a" * 300}) == beginning({"prompt": "a" * 256 + "b"})
    assert beginning({"prompt": "a" * 100}) != beginning({"prompt": "a" * 100 + "b"})
    assert beginning({"prompt": [5, 6, 7]}) == b"[5, 6, 7]"
    chat = [{"role": "system", "content": "You are terse. " * 30}, {"role": "user", "content": "Hello"}]
    other = [chat[0], {"role": "user", "content": "Goodbye"}]
    assert beginning({"messages": chat}) == beginning({"messages": other}) != b""
    assert beginning({}) == beginning({"prompt": None}) == b""
    assert beginning({"prompt": "\ud800"}).isascii()
