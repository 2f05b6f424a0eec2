"""From logits to one token per row.

Random sampling uses *one* uniform number per row, made on the host (random_numbers.py) and handed in like any other
input. So nothing random happens on the device: the same request gives the same tokens in any row of any batch, in a
captured graph as well as outside.

Logits that are no ordinary numbers have a meaning here, for both functions and at every temperature:

    +inf    wins; of several the first
    nan     loses to every number, as -inf does: such a token is never drawn
    a row of nothing but nan and -inf has no token to draw: its result is NO_TOKEN

A row with NO_TOKEN is found out without a wait, since it travels to the host like any other id. There its request ends.
"""

import torch
from torch import Tensor

NO_TOKEN = -1  # no token of any vocabulary
LARGEST_SCALED = 1e37  # a tenth of what float32 can hold, about


def sample_greedy(logits: Tensor) -> Tensor:
    """The most likely token of each row, of several the first; NO_TOKEN for a row without any.

    Args:
        logits: (rows, vocabulary), any floating dtype.

    Returns:
        (rows,) int64.
    """
    return _most_likely(logits)[0]


def sample(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    """Draw one token per row from its own distribution.

    The tokens are laid out from most to least likely on a line, each as long as its probability, and `uniform` points
    at one of them (inverse transform sampling). top_k and top_p cut the line's far end off. The order is that of
    transformers: temperature, top-k, top-p; the token that crosses top_p is kept (Holtzman et al., "The Curious
    Case of Neural Text Degeneration", ICLR 2020).

    Args:
        logits: (rows, vocabulary), any floating dtype.
        temperature: (rows,) float32; 0 means greedy. With one close to 0 only the most likely token is left, and what
            is exactly as likely.
        top_k: (rows,) int64; 0 means no limit.
        top_p: (rows,) float32 in (0, 1]; 1 means no limit.
        uniform: (rows,) float32 in [0, 1).

    Returns:
        (rows,) int64; NO_TOKEN for a row without any.
    """
    best, largest, numbers = _most_likely(logits.float())
    certain = (temperature == 0) | largest.isinf()  # greedy, or won by +inf, or nothing to draw: `best` has them all
    # Divided by less than this, the largest logit would leave float32; and between inf and inf no order is left. By
    # this much the next smaller number is already so far below it that its probability is 0.
    least = largest.abs() / LARGEST_SCALED
    scaled = numbers / torch.where(certain, 1, torch.maximum(temperature, least))[:, None]
    ordered, token = scaled.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(ordered.shape[1], dtype=torch.int64, device=logits.device)
    too_far = (top_k[:, None] > 0) & (rank >= top_k[:, None])
    probability = ordered.masked_fill(too_far, float("-inf")).softmax(dim=-1)
    mass_before = probability.cumsum(dim=-1) - probability
    probability = probability.masked_fill((mass_before >= top_p[:, None]) & (rank > 0), 0)
    line = probability.cumsum(dim=-1)
    chosen = torch.searchsorted(line, uniform[:, None] * line[:, -1:], right=True)
    # Behind the tokens that are left the line should be flat. A GPU sums in parallel, and there it may still creep up.
    last = ((probability > 0).sum(dim=-1, keepdim=True) - 1).clamp_min(0)
    drawn = token.gather(1, torch.minimum(chosen, last))[:, 0]
    return torch.where(certain, best, drawn)


def _most_likely(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each row's most likely token (or NO_TOKEN) and its logit, both (rows,), and the logits with -inf for nan.

    argmax takes nan for the largest of all, so nan has to go first. That is one more pass over the logits; whether a
    row has a token at all is seen from the one logit that was found.
    """
    numbers = logits.nan_to_num(nan=float("-inf"), posinf=float("inf"), neginf=float("-inf"))
    token = numbers.argmax(dim=-1)
    largest = numbers.gather(1, token[:, None])[:, 0]
    return torch.where(largest == float("-inf"), NO_TOKEN, token), largest, numbers
