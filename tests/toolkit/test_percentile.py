"""The one definition of a percentile."""

import pytest

from toolkit.percentile import percentile


@pytest.mark.parametrize(
    ("values", "share", "right"),
    [
        ([3], 0.5, 3),
        ([3, 1], 0.5, 1),
        ([3, 1, 2], 0.5, 2),
        ([*range(1, 101)], 0.99, 99),
        ([*range(1, 201)], 0.99, 198),
        ([5.0], 0.99, 5.0),
        ([5, 4], 1, 5),
    ],
)
def test_percentile(values: list[float], share: float, right: float):
    """The smallest value that a share of all do not exceed."""
    assert percentile(values, share) == right


def test_without_values_there_is_none():
    """A percentile of nothing is refused, not invented."""
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
