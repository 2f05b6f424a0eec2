"""The paged KV cache: one pool of blocks for the keys and values of all requests."""

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel


class PagedKVCache:
    """Keys and values of every layer, in blocks of `block_size` token positions that any request may own.

    Attributes:
        storage: all of it in one tensor, (2, layers, num_blocks, block_size, kv_heads, head_dim).
        keys, values: views of it, one per layer, (num_blocks, block_size, kv_heads, head_dim).
    """

    def __init__(self, storage: Tensor) -> None:
        self.storage = storage
        self.keys, self.values = storage[0].unbind(), storage[1].unbind()

    @classmethod
    def allocate(
        cls, model: PreTrainedModel, num_blocks: int, block_size: int, device: torch.device | str | None = None
    ) -> "PagedKVCache":
        """A pool of zeros for `model`, in its dtype, on `device` (by default the model's)."""
        layers, kv_heads, head_dim = cls._shape(model.config)
        shape = (2, layers, num_blocks, block_size, kv_heads, head_dim)
        return cls(torch.zeros(shape, dtype=model.dtype, device=device or model.device))

    @classmethod
    def block_bytes(cls, model: PreTrainedModel, block_size: int) -> int:
        """The bytes of one block, keys and values of all layers."""
        layers, kv_heads, head_dim = cls._shape(model.config)
        return 2 * layers * block_size * kv_heads * head_dim * model.dtype.itemsize

    @staticmethod
    def _shape(config: PretrainedConfig) -> tuple[int, int, int]:
        """(layers, kv_heads, head_dim)"""
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return config.num_hidden_layers, config.num_key_value_heads, head_dim
