"""Models in bfloat16 on the GPU, and how their answers are compared: never token for token.

In bfloat16 two kernels that compute the same differ in the last bits, and where two tokens are nearly equally likely
that decides. So an answer is forced upon the library's own model (teacher forcing: prompt and answer in one forward),
and each token of it must be, there, the most likely one or as good as that.
"""

import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.helpers import VOCABULARY
from toolkit.models import load_model
from toolkit.models.merge import merge_projections

# In units of the standard deviation of the logits over the vocabulary. A token taken at random lies 4 or so below.
LARGEST_GAP, MEAN_GAP = 0.25, 0.05


@cache
def library_model(name: str) -> Any:
    """A model with the library's own attention; don't give it to an engine. "1b", or "small" with heads of 64."""
    if name != "small":
        return load_model(name, device="cuda", dtype=torch.bfloat16).model
    config = AutoConfig.for_model(
        "llama",
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        vocab_size=VOCABULARY,
        max_position_embeddings=4096,
        initializer_range=0.1,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa").eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model.to("cuda")


@cache
def engine_model(name: str) -> Any:
    """The same weights for engines, which switch the attention."""
    return copy.deepcopy(library_model(name))


@cache
def merged_model(name: str) -> Any:
    """The same weights with merged projections: compiled=True then fuses the layers where the GPU can do that."""
    model = copy.deepcopy(library_model(name))
    merge_projections(model)
    return model


@dataclass(frozen=True)
class Gaps:
    """How far the tokens of answers are below the most likely ones: log-probabilities over deviations of the logits."""

    values: torch.Tensor

    @property
    def largest(self) -> float:
        return self.values.max().item()

    @property
    def mean(self) -> float:
        return self.values.mean().item()

    def __str__(self) -> str:
        share = (self.values == 0).float().mean().item()
        return (
            f"largest {self.largest:.3f}, mean {self.mean:.4f}, {share:.1%} of {self.values.numel()} exactly the best"
        )

    def assert_small(self) -> None:
        assert self.largest <= LARGEST_GAP and self.mean <= MEAN_GAP, f"gaps to the library's best tokens: {self}"


@torch.no_grad()
def gaps(name: str, prompts: list[list[int]], answers: list[list[int]]) -> Gaps:
    """Force each answer upon the library's model."""
    model, found = library_model(name), []
    for prompt, answer in zip(prompts, answers, strict=True):
        if not answer:
            continue
        ids = torch.tensor([prompt + answer], device="cuda")
        logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
        taken = logits.gather(1, torch.tensor(answer, device="cuda")[:, None])[:, 0]
        found.append(((logits.max(dim=1).values - taken) / logits.std(dim=1)).cpu())
    return Gaps(torch.cat(found))
