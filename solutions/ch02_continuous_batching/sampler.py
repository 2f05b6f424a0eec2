"""From logits to one token per row.

Random sampling uses *one* uniform number per row, made on the host (batch.uniform_number) and handed in like any other
input. So nothing random happens on the device: the same request gives the same tokens in any row of any batch, in a
captured graph as well as outside.
"""

import torch
from torch import Tensor

NO_TOKEN = -1  # in place of a token: the row has no finite logit


def sample_greedy(logits: Tensor) -> Tensor:
    """The most likely token of each row. logits: (rows, vocabulary); returns (rows,) int64."""
    return logits.argmax(dim=-1)


def sample(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    """Draw one token per row from its own distribution.

    The tokens are laid out from most to least likely on a line, each as long as its probability, and `uniform` points
    at one of them (inverse transform sampling). top_k and top_p cut the line's far end off. The order is that of
    transformers: temperature, top-k, top-p; the token that crosses top_p is kept (Holtzman et al., "The Curious
    Case of Neural Text Degeneration", ICLR 2020).

    Args:
        logits: (rows, vocabulary), any floating dtype.
        temperature: (rows,) float32; 0 means greedy.
        top_k: (rows,) int64; 0 means no limit.
        top_p: (rows,) float32 in (0, 1]; 1 means no limit.
        uniform: (rows,) float32 in [0, 1).

    Returns:
        (rows,) int64.
    """
    greedy = temperature == 0
    scaled = logits.float() / torch.where(greedy, 1, temperature)[:, None]
    ordered, token = scaled.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(ordered.shape[1], device=logits.device)
    too_far = (top_k[:, None] > 0) & (rank >= top_k[:, None])
    probability = ordered.masked_fill(too_far, float("-inf")).softmax(dim=-1)
    mass_before = probability.cumsum(dim=-1) - probability
    probability = probability.masked_fill((mass_before >= top_p[:, None]) & (rank > 0), 0)
    line = probability.cumsum(dim=-1)
    chosen = torch.searchsorted(line, uniform[:, None] * line[:, -1:], right=True)
    chosen = torch.where(greedy[:, None], 0, chosen.clamp_max(ordered.shape[1] - 1))
    return token.gather(1, chosen)[:, 0]
