"""What a function of this chapter returns: an array of a kind and a length, or a sentence says what it is instead.

And what it leaves alone: the arrays that it is given.
"""

import numpy as np

from tests.causes import has_result

KINDS = {"i": "integers (int64)", "b": "bool"}


def is_array(value: object, call: str, kind: str, length: int | None = None) -> np.ndarray:
    """`value`, which `call` has returned, as an array of this kind (see KINDS), one-dimensional."""
    has_result(value, call)
    assert isinstance(value, np.ndarray), f"{call} should return a numpy array; it returned {named(value)}: {value}"
    assert value.dtype.kind == kind, f"{call} should return {KINDS[kind]}; the array it returned is {value.dtype}"
    right = (len(value) if length is None else length,)
    assert value.shape == right, f"{call} should return an array of shape {right}; it has {value.shape}"
    return value


def stay(before: dict[str, list[int]], call: str, *arguments: np.ndarray) -> None:
    """The arrays that `call` was given, by name as they were before it, hold what they held."""
    for (name, values), argument in zip(before.items(), arguments, strict=True):
        assert argument.tolist() == values, (
            f"{call} has changed its argument {name}: it was {values}, and is {argument.tolist()}. The caller goes on "
            "with that array, and so may the next step. Make a new one: without +=, //= and the like, and without out="
        )


def named(value: object) -> str:
    """Such as "a list" or "an int"."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
