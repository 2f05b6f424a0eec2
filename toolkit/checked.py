"""What a caller hands over, as an ordinary number of Python: converted and checked, or refused in one line.

A comparison such as `value < 1` lets nan through, and a value of the wrong type fails later and elsewhere, where other
requests share its fate. So code that takes a number from outside takes it through one of these functions. Numbers of
numpy and one-element tensors are as good as Python's own; a string or a float in place of a whole number is not.
"""

import math
import operator

import numpy as np

from toolkit.errors import UserError

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1
FLOAT32_MAX = 3.4028234663852886e38  # the largest finite one; device tensors hold no more


def shown(value: object) -> str:
    """A value for a message, in at most 60 characters, whatever its repr does."""
    try:
        text = repr(value)
    except Exception:  # numbers of more than 4,300 digits have none, and an object of the caller's may raise anything
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def whole_number(name: str, value: object, lowest: int, highest: int, advice: str) -> int:
    """`value` as an int.

    Args:
        name: what it is called, for the message.
        lowest, highest: it must not be outside.
        advice: what to do instead, the end of the message.

    Raises:
        UserError: it is no whole number, or outside.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type] # that is what is being found out
    except Exception:  # a TypeError; or whatever the caller's own object raises
        raise UserError(f"{name} is {shown(value)}, which is not a whole number; {advice}") from None
    if not lowest <= number <= highest:
        raise UserError(f"{name} is {shown(number)}; {advice}")
    return number


def real_number(name: str, value: object, advice: str) -> float:
    """`value` as a finite float that float32 can hold. Raises UserError if it is none; arguments as above."""
    try:
        if isinstance(value, str | bytes | bytearray):  # float("1") would read them
            raise TypeError
        number = float(value)  # type: ignore[arg-type]
    except Exception:
        raise UserError(f"{name} is {shown(value)}, which is not a finite number; {advice}") from None
    if not math.isfinite(number) or abs(number) > FLOAT32_MAX:
        raise UserError(f"{name} is {shown(value)}, which is not a finite number of float32; {advice}")
    return number


def truth(name: str, value: object) -> bool:
    """`value` as a bool; anything else than a bool, of numpy too, is refused: the word "no" would count as true."""
    if not isinstance(value, bool | np.bool_):
        raise UserError(f"{name} is {shown(value)}; it is True or False")
    return bool(value)
