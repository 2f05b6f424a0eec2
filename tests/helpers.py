"""Small models and references that the chapters' tests share."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NoReturn

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

VOCABULARY = 96
FAMILIES = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 32},
    "mistral": {"sliding_window": None},
}


# What `accelerator` has in its place.
TORCH_CUDA_NAMES = (
    "CUDAGraph",
    "Event",
    "Stream",
    "current_stream",
    "default_stream",
    "graph",
    "graph_pool_handle",
    "set_stream",
    "stream",
    "synchronize",
)


@cache
def shared_reference(family: str = "llama") -> PreTrainedModel:
    """A tiny random model with the library's own attention, float32 on the CPU. Don't switch it to paged attention."""
    return tiny_model(family)


def tiny_model(family: str = "llama", seed: int = 0) -> PreTrainedModel:
    """A fresh tiny random model; the same family and seed give the same weights.

    Weights are larger than a training run would start with, so that greedy outputs vary instead of repeating one token.
    """
    from transformers import AutoConfig

    config = AutoConfig.for_model(
        family,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=VOCABULARY,
        max_position_embeddings=256,
        initializer_range=0.4,
        tie_word_embeddings=False,
        **FAMILIES[family],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def random_prompts(count: int, seed: int = 0, shortest: int = 1, longest: int = 40) -> list[list[int]]:
    """Prompts of distinct, unequal lengths and varied tokens."""
    rng = random.Random(seed)
    return [[rng.randrange(3, VOCABULARY) for _ in range(rng.randint(shortest, longest))] for _ in range(count)]


def reference_outputs(
    model: PreTrainedModel, prompts: list[list[int]], max_tokens: int, eos_ids: list[int] | None = None
) -> list[list[int]]:
    """Greedy continuations by the library's own `generate`, one prompt at a time, so nothing is ever padded."""
    outputs = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        result = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_tokens, do_sample=False, eos_token_id=eos_ids
        )
        outputs.append(result[0, len(prompt) :].tolist())
    return outputs


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One letter or sign per token id below VOCABULARY, so that stop strings can be planted where a test wants them."""
    from tokenizers import Tokenizer, decoders, models

    vocabulary = {chr(32 + i): i for i in range(VOCABULARY - 1)} | {"<eos>": VOCABULARY - 1}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", clean_up_tokenization_spaces=False)


def swapped(build: Callable[..., Any], **parts: Any) -> Callable[..., Any]:
    """A chapter's `build` that makes its engine of other parts, each by the name that the chapter's build.py gives it.

    swapped(build, EventExecutor=SlowExecutor) takes a SlowExecutor where `build` takes an EventExecutor.
    """
    names = build.__globals__
    unknown = [name for name in parts if name not in names]
    assert not unknown, f"{build.__module__} has no part of the name {unknown[0]}"

    def variant(*arguments: Any, **limits: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            for name, part in parts.items():
                patch.setitem(names, name, part)
            return build(*arguments, **limits)

    return variant


@contextmanager
def torch_cuda_refused() -> Iterator[None]:
    """Inside, `torch.cuda.stream` and its like, written for `accelerator.stream`, say so instead of doing nothing.

    So does the device "cuda", written for DEVICE. For a machine without CUDA.
    """

    def refuse(name: str) -> Callable[..., NoReturn]:
        return lambda *_, **__: pytest.fail(
            f"torch.cuda.{name} was called. It knows nothing of the simulated GPU: write accelerator.{name}; "
            "`accelerator`, from toolkit.device, is torch.cuda itself where there is a GPU"
        )

    def refuse_device() -> NoReturn:
        pytest.fail(
            'the device "cuda" was asked for, and this machine has none: write DEVICE, from toolkit.device, which is '
            '"cuda" where there is a GPU'
        )

    with pytest.MonkeyPatch.context() as patch:
        for name in TORCH_CUDA_NAMES:
            patch.setattr(torch.cuda, name, refuse(name))
        patch.setattr(torch.cuda, "_lazy_init", refuse_device)  # torch calls it when CUDA is needed first
        yield
