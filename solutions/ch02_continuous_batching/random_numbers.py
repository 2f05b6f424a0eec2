"""A random number for each sampled token that depends on the request's seed and the token's position alone.

Not on the row, the batch or how often the token is recomputed: that is what makes sampled results repeatable under any
scheduling. So there is no generator with a state, but a function from (seed, position) to a number (the idea of Salmon
et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011). It is plain arithmetic, so that chapter 9 can make the
numbers of all rows at once.
"""

from typing import TypeVar

import numpy as np

Integers = TypeVar("Integers", int, np.ndarray)

MASK = 2**64 - 1  # Python's integers grow; numpy's uint64 wrap around by themselves
GOLDEN_RATIO = 0x9E3779B97F4A7C15


def mix(x: Integers) -> Integers:
    """64 bits in, 64 bits out that show no trace of them: the last steps of splitmix64.

    (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.)
    """
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def uniform_number(seed: Integers, position: Integers) -> "float | np.ndarray":
    """A number in [0, 1), the same for the same arguments; numbers of other seeds or positions look unrelated.

    24 bits, so that float32 holds it exactly and never rounds it up to 1.

    Args:
        seed, position: 0 to 2**64 - 1; or arrays of uint64, of one shape: then so many numbers at once, bit for bit
            the same as one by one.
    """
    return (mix(mix(seed + GOLDEN_RATIO & MASK) + position & MASK) >> 40) / 2**24
