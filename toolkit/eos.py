"""Which tokens end a sequence: a model may name none, one or several."""

import operator
from typing import Any

from transformers import PreTrainedModel

from toolkit.errors import UserError


def eos_ids(model: PreTrainedModel) -> set[int]:
    """The end-of-sequence ids that `generate` would stop at, from the model's generation config.

    One integer or several, of whatever kind: a list, a tuple, a set, a tensor, numpy's integers.

    Raises `UserError` for anything else.
    """
    named: Any = model.generation_config.eos_token_id if model.generation_config is not None else None
    if named is None:
        return set()
    if hasattr(named, "tolist"):  # a tensor, or numpy's
        named = named.tolist()
    return {token_id(each) for each in (named if isinstance(named, (list, tuple, set, frozenset, range)) else [named])}


def token_id(value: Any) -> int:  # noqa: ANN401 (that is the question)
    """The end-of-sequence id as an int, or a `UserError` if it is no integer; a truth value is none."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise UserError(
            f"eos_token_id of the model's generation config: {str(value)[:40]!r} ({type(value).__name__}) is no "
            "token id; give an integer, a list of integers, or None"
        ) from None
