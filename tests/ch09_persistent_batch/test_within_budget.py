"""Exercise 9.2: one budget for all rows."""

import numpy as np
import pytest

from tests.causes import likely
from tests.ch09_persistent_batch.array_results import is_array, stay
from tests.ch09_persistent_batch.no_loop import has_no_loop
from tests.ch09_persistent_batch.seated import array, scheduler_with


def shares_right(budget: int, counts: list[int]) -> None:
    """Whether `within_budget` shares out as a loop does, and changes nothing else."""
    scheduler, _ = scheduler_with(1)
    scheduler.budget_left, left, right = budget, budget, []
    for count in counts:
        right.append(min(count, left))
        left -= right[-1]
    wanted = array(*counts)
    seen = is_array(scheduler.within_budget(wanted), "within_budget", "i", len(counts)).tolist()
    assert seen == right, (
        f"a budget of {budget} for {counts}: should be {right}, seen {seen}. {cause(seen, budget, counts)}"
    )
    stay({"counts": counts}, "within_budget", wanted)
    assert scheduler.budget_left == budget, (
        f"budget_left was {budget}, and is {scheduler.budget_left} after within_budget has shared out {sum(right)}: it "
        "should be as before. `take` lowers it when a row is made, so it would be lowered twice"
    )


def cause(seen: list[int], budget: int, counts: list[int]) -> str:
    before = np.cumsum(counts) - counts
    uncut = np.where(before < budget, counts, 0).tolist()
    own_part = np.minimum(counts, np.maximum(budget - np.cumsum(counts), 0)).tolist()
    whole = [count if end <= budget else 0 for count, end in zip(counts, np.cumsum(counts).tolist(), strict=True)]
    return likely(
        (seen == whole, "The last one served gets the part that is left"),
        (seen == uncut, "The last one served gets what is left, not all that it wants"),
        (seen == own_part, "A cumsum includes the row's own part: what those before it want is less by that"),
        (min(seen) < 0, "What is left for a row behind the budget's end is 0, not less"),
        (any(a > b for a, b in zip(seen, counts, strict=True)), "No row gets more than it wants"),
        (
            sum(seen) > budget,
            f"Together that is {sum(seen)}: what the rows before have got is not left any more. (And what is left is "
            "`budget_left`, not `token_budget`.)",
        ),
    )


@pytest.mark.exercise("9.2")
@pytest.mark.parametrize(
    ("budget", "counts"),
    [
        (10, [3, 1, 1]),
        (5, [3, 1, 1]),
        (4, [3, 1, 1]),
        (6, [1, 9, 1]),
        (3, [9, 9, 9]),
        (0, [2, 1]),
        (4, [0, 3, 0, 5]),
        (2, [2, 0, 0]),
    ],
)
def test_the_budget_is_shared_out_in_order(budget: int, counts: list[int]):
    """Each gets what it wants as long as there is enough; the last one gets a part, those behind it nothing."""
    shares_right(budget, counts)


@pytest.mark.exercise("9.2")
def test_many_random_budgets():
    """As sharing it out in a loop."""
    random = np.random.default_rng(0)
    for _ in range(200):
        shares_right(int(random.integers(0, 30)), random.integers(0, 9, random.integers(1, 12)).tolist())


@pytest.mark.exercise("9.2")
def test_the_budget_without_a_loop():
    """For more rows Python runs no more lines."""
    scheduler, _ = scheduler_with(1)
    scheduler.budget_left = 300
    has_no_loop("within_budget", lambda rows: lambda: scheduler.within_budget(np.full(rows, 2)))
