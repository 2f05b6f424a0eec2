"""Models with random weights of a named shape: `8b`, `1b` and `135m` for timing, `tiny` for tests.

Speed depends on a model's shape and not on what it has learned, so a GPU can be timed without a download. Their answers
mean nothing. The weights come from a fixed seed and are made where they will be used: 8b never passes through the CPU.
"""

import copy
import os

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, PreTrainedTokenizerBase

from toolkit.errors import UserError
from toolkit.models.byte_tokenizer import VOCABULARY_SIZE, byte_tokenizer

SEED = 0

SHAPES = {
    # Llama 3.1 8B
    "8b": LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=128256,
        max_position_embeddings=131072,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        tie_word_embeddings=False,
    ),
    # Llama 3.2 1B
    "1b": LlamaConfig(
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        vocab_size=128256,
        max_position_embeddings=131072,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        tie_word_embeddings=True,
    ),
    # SmolLM2 135M, the default model
    "135m": LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        head_dim=64,
        vocab_size=49152,
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        tie_word_embeddings=True,
    ),
    # Two layers, one token per byte. The weights are spread wider than usual: with the usual 0.02 a greedy answer
    # soon repeats one token forever, and a mix-up of two requests would go unseen.
    "tiny": LlamaConfig(
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        vocab_size=VOCABULARY_SIZE,
        max_position_embeddings=4096,
        initializer_range=0.2,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    ),
}


def random_model(
    name: str, device: torch.device, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """A model of a named shape, the same at every call; only tiny has a tokenizer.

    Raises `UserError` if it cannot fit into the memory of this machine.
    """
    config = copy.deepcopy(SHAPES[name])  # engines write their attention into the configuration of their model
    if device.type == "cpu":
        refuse_too_large(name, config, dtype)
    generators = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=generators), torch.device(device):
        torch.manual_seed(SEED)
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    return model, byte_tokenizer() if name == "tiny" else None


def refuse_too_large(name: str, config: LlamaConfig, dtype: torch.dtype) -> None:
    """Refuse a model larger than the machine's memory: on the CPU the system would end the process without a word."""
    if not hasattr(os, "sysconf"):  # Windows
        return
    with torch.device("meta"):
        weights = sum(parameter.numel() for parameter in AutoModelForCausalLM.from_config(config).parameters())
    needed, present = weights * dtype.itemsize, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > present:
        raise UserError(
            f"model {name}: its weights take {needed / 2**30:.0f} GiB as {str(dtype).removeprefix('torch.')} "
            f"and this machine has {present / 2**30:.0f} GiB of memory; take 1b or tiny, or a GPU"
        )
