"""The paged KV cache, and where the tokens of one step live in it: what every attention over the cache is given."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel


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
        layers, kv_heads, head_dim = cls._shape(model)
        shape = (2, layers, num_blocks, block_size, kv_heads, head_dim)
        return cls(torch.zeros(shape, dtype=model.dtype, device=device or model.device))

    @classmethod
    def block_bytes(cls, model: PreTrainedModel, block_size: int) -> int:
        """The bytes of one block, keys and values of all layers."""
        layers, kv_heads, head_dim = cls._shape(model)
        return 2 * layers * block_size * kv_heads * head_dim * model.dtype.itemsize

    @staticmethod
    def _shape(model: PreTrainedModel) -> tuple[int, int, int]:
        """(layers, kv_heads, head_dim) of what this process has: of a model that is spread over GPUs, its own heads."""
        config = model.config
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        kv_heads = config.num_key_value_heads
        weight = getattr(model.get_decoder().layers[0].self_attn.k_proj, "weight", None)
        to_local = getattr(weight, "to_local", None)
        if to_local is not None:  # a DTensor; the configuration is that of the whole model
            kv_heads = to_local().shape[0] // head_dim
        return config.num_hidden_layers, kv_heads, head_dim


@dataclass
class PagedBatch:
    """Where the tokens of one step live in the cache, and which rows they belong to.

    Rows with a single query token (decode) stand first; the rows behind them are prefill chunks. None is changed;
    yet it is not `frozen`, because torch.compile (2.11) looks into frozen dataclasses, and would compile a layer again
    for other numbers of rows.

    Attributes:
        cache: the pool of blocks.
        block_table: (rows, max_blocks) int32; row r's position p is in block `block_table[r, p // block_size]`.
            Entries past a row's length are never used, but must be valid block numbers.
        slot_mapping: (tokens,) int64; where each token's key and value are written, block * block_size + offset.
        query_start_loc: (rows + 1,) int32; row r owns the packed tokens from query_start_loc[r] up to, and without,
            query_start_loc[r + 1].
        seq_lens: (rows,) int32; number of tokens of row r in the cache, those of this step included.
        num_decode_rows: how many rows, from the first, have exactly one query token.
        max_query_length: the longest row's number of query tokens.
    """

    cache: PagedKVCache
    block_table: Tensor
    slot_mapping: Tensor
    query_start_loc: Tensor
    seq_lens: Tensor
    num_decode_rows: int
    max_query_length: int
