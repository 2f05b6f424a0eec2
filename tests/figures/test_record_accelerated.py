"""How speeds are compared: in turns, and by the run in the middle."""

from functools import partial

import pytest

from figures.accelerated import ROUNDS, in_turns
from toolkit import device


@pytest.mark.parametrize("simulated", [False, True], ids=["on a GPU", "simulated"])
def test_everything_takes_its_turn_and_the_median_run_is_kept(monkeypatch, simulated):
    """Every round runs everything once; of each the run with the median time is the result, not a mixture of runs."""
    monkeypatch.setattr(device, "is_simulated", lambda: simulated)
    times = {"a": iter([9.0, 1.0, 5.0]), "b": iter([2.0, 8.0, 7.0])}
    order = []

    def run(name):
        order.append(name)
        return {"name": name, "ms": next(times[name])}

    kept = in_turns({name: partial(run, name) for name in times}, lambda result: result["ms"])
    assert order == ["a", "b"] * (1 if simulated else ROUNDS)
    middle = {"a": 9.0, "b": 2.0} if simulated else {"a": 5.0, "b": 7.0}
    assert {name: result["ms"] for name, result in kept.items()} == middle
