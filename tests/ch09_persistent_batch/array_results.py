"""What a function of this chapter returns: an array of a kind and a length, or a sentence says what it is instead."""

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


def named(value: object) -> str:
    """Such as "a list" or "an int"."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
