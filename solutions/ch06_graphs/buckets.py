"""Which batch sizes a graph is captured for.

A captured graph has one shape forever. A batch can have any number of rows from 1 to max_rows, and a graph for each of
them would take too much time and memory to capture. So a few sizes are captured, the *buckets*; a batch uses the
smallest one that holds it, and the rows left over are padding. They compute nonsense, into a block of the KV cache that
belongs to no request (`IOBuffers.load` writes their inputs so), and what they sample is never read.

With doubling sizes, less than half of a bucket's rows are ever padding.
"""

from collections.abc import Sequence
from dataclasses import replace

from toolkit.forward import Sizes


def bucket_sizes(max_rows: int) -> list[int]:
    """The sizes to capture, in rising order: the powers of two below max_rows, and max_rows itself.

    For instance 8: [1, 2, 4, 8]; 6: [1, 2, 4, 6]; 1: [1].

    Args:
        max_rows: rows of the largest batch, 1 or more.
    """
    # BEGIN SOLUTION 6.1
    sizes = [1]
    while sizes[-1] < max_rows:
        sizes.append(min(2 * sizes[-1], max_rows))
    return sizes
    # END SOLUTION


def bucket_for(rows: int, sizes: Sequence[int]) -> int:
    """The bucket for a batch: the smallest of `sizes` (rising) that has room for `rows` rows (1 to the largest)."""
    # BEGIN SOLUTION 6.1
    return next(size for size in sizes if size >= rows)
    # END SOLUTION


def decode_step(full: Sizes, rows: int, greedy: bool) -> Sizes:
    """What is captured for a bucket: `rows` rows of one token each, which all sample.

    Args:
        full: the decode step that uses the IO buffers completely. The block table keeps its full width: its rows'
            lengths grow from step to step, and the shape of a graph does not.
    """
    return replace(full, tokens=rows, rows=rows, samples=rows, num_decode_rows=rows, greedy=greedy)
