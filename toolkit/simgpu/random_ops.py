"""Random operations that are made of simpler ones here, since they take no generator of their own."""

from collections.abc import Callable
from typing import Any

import torch

_aten = torch.ops.aten


def native_dropout(values: torch.Tensor, p: float, train: bool | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Dropout as CUDA's kernel returns it: the values, scaled or 0, and the mask of those that were kept."""
    kept = torch.empty_like(values, dtype=torch.bool)
    if not train or p == 0.0:
        return values.clone(), kept.fill_(True)
    if p == 1.0:
        return torch.zeros_like(values), kept.fill_(False)
    _aten.bernoulli_.float(kept, 1.0 - p)
    return values * kept * (1.0 / (1.0 - p)), kept


def rand_like(like: torch.Tensor, **kwargs: Any) -> torch.Tensor:  # noqa: ANN401
    return _aten.uniform_.default(_aten.empty_like.default(like, **kwargs))


def randn_like(like: torch.Tensor, **kwargs: Any) -> torch.Tensor:  # noqa: ANN401
    return _aten.normal_.default(_aten.empty_like.default(like, **kwargs))


MADE_OF_OTHERS: dict[str, Callable[..., Any]] = {
    "native_dropout": native_dropout,
    "rand_like": rand_like,
    "randn_like": randn_like,
}
