"""One definition of a percentile, for what an engine says of itself and for what is measured of it."""

from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that at least `share` (0 to 1) of them do not exceed.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values, no percentile")
    return sorted(values)[max(-int(-share * len(values) // 1) - 1, 0)]
