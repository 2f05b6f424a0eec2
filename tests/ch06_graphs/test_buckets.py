"""Exercise 6.1: which sizes are captured, and which of them a batch uses."""

import pytest

from ch06_graphs import bucket_for, bucket_sizes
from tests.words import counted

pytestmark = pytest.mark.exercise("6.1")


@pytest.mark.parametrize(
    ("max_rows", "sizes"), [(8, [1, 2, 4, 8]), (6, [1, 2, 4, 6]), (1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (32, 6)]
)
def test_bucket_sizes(max_rows: int, sizes: list[int] | int):
    """The powers of two below max_rows, and max_rows itself: a batch that fills all rows needs no padding."""
    seen = bucket_sizes(max_rows)
    expected = [1, 2, 4, 8, 16, 32] if isinstance(sizes, int) else sizes
    assert isinstance(seen, list | tuple) and list(seen) == expected, (
        f"max_rows {max_rows}: the sizes are {expected}, seen {seen}. Each is twice the one before it, max_rows is the "
        "last, and none is listed twice or is larger"
    )


@pytest.mark.parametrize(
    ("rows", "bucket"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 6), (6, 6)], ids=lambda value: str(value)
)
def test_the_smallest_bucket_with_room(rows: int, bucket: int):
    """A batch uses the smallest bucket that has room for all its rows; one that fits exactly is taken."""
    sizes = [1, 2, 4, 6]
    try:
        seen = bucket_for(rows, sizes)
    except (StopIteration, IndexError) as error:
        pytest.fail(
            f"{counted(rows, 'row')} among the sizes [1, 2, 4, 6]: {type(error).__name__}, none was found. One that "
            "fits exactly is taken, too"
        )
    assert sizes == [1, 2, 4, 6], f"the sizes are the caller's, who needs them again; they were changed to {sizes}"
    assert seen in (1, 2, 4, 6), (
        f"{counted(rows, 'row')} among the sizes [1, 2, 4, 6]: bucket_for says {seen}, which is none of them"
    )
    assert seen >= rows, (
        f"{counted(rows, 'row')} in the bucket of {seen}: rounded down, so the last "
        f"{counted(rows - seen, 'row is', 'rows are')} never computed, and "
        "their requests get what happens to be in the output"
    )
    assert seen == bucket, (
        f"{counted(rows, 'row fits', 'rows fit')} into the bucket of {bucket}; {seen} computes more padding than needed"
    )


def test_any_sizes_will_do():
    """The bucket is one of the sizes that were given, whether they are powers of two or not."""
    sizes = [16, 40, 48]  # chapter 8 has buckets of tokens like these
    seen = [bucket_for(rows, sizes) for rows in (1, 16, 17, 41)]
    assert seen == [16, 16, 40, 48], (
        f"1, 16, 17 and 41 rows among the sizes {sizes}: the buckets are [16, 16, 40, 48], seen {seen}. Look for them "
        "in `sizes`; a size that was not captured has no graph"
    )


@pytest.mark.parametrize("max_rows", [1, 5, 16, 33])
def test_less_than_half_is_padding(max_rows: int):
    """Every number of rows up to max_rows has a bucket, and less than half of it is padding."""
    sizes = bucket_sizes(max_rows)
    for rows in range(1, max_rows + 1):
        bucket = bucket_for(rows, sizes)
        assert rows <= bucket < 2 * rows, f"max_rows {max_rows}: {rows} rows run in the bucket of {bucket} of {sizes}"
