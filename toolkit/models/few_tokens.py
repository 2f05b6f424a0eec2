"""One step of few tokens through the decoder of a Llama model: the sizes and launches of its kernels (see fused.py)."""

import math
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from toolkit import triton_attention
from toolkit.paged_cache import PagedBatch
from toolkit.triton_attention import num_processors, power_of_two

TILE_N = 64  # rows of a weight matrix that a program multiplies with
LEAST_COLUMNS = 512  # for a program; with fewer it costs more to add up than is gained


class FewTokens:
    """One step's forward through the decoder.

    Attributes:
        stream: (tokens, hidden), the residual stream. scaled: it times the weight of the norm that reads it next.
        squares: (tiles, tokens) float32, sums of the stream's squares over its tiles of TILE_N numbers.
        angles: (tokens, head_dim) float32, cosines and sines of the rotary embedding.
        arrived: int32 zeros, with which programs find out who of them is last.
    """

    def __init__(self, model: PreTrainedModel, ids: Tensor, positions: Tensor, paged: PagedBatch) -> None:
        self.decoder, self.ids, self.positions, self.paged = model.get_decoder(), ids, positions, paged
        config = model.config
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim: int = self.decoder.layers[0].self_attn.head_dim
        self.hidden: int = config.hidden_size
        self.eps: float = config.rms_norm_eps
        self.tokens, self.dtype, self.device = ids.shape[0], model.dtype, ids.device
        self.processors = num_processors(self.device)
        self.early = self.device.type == "cuda"  # Triton's interpreter runs one kernel after the other
        self.tile_t = max(16, power_of_two(self.tokens))
        self.stream, self.scaled = self.empty(self.hidden), self.empty(self.hidden)
        self.squares = torch.empty(self.hidden // TILE_N, self.tokens, dtype=torch.float32, device=self.device)
        self.angles = torch.empty(self.tokens, self.head_dim, dtype=torch.float32, device=self.device)
        most = max(self.tokens * self.kv_heads, self.processors)
        self.arrived = torch.zeros(most, dtype=torch.int32, device=self.device)

    def empty(self, *shape: int) -> Tensor:
        return torch.empty(self.tokens, *shape, dtype=self.dtype, device=self.device)

    def run(self) -> Tensor:
        """The last hidden state, (tokens, hidden)."""
        layers = list(self.decoder.layers)
        norms = [layer.input_layernorm.weight for layer in layers] + [self.decoder.norm.weight]
        self.embed(norms[0])
        for number, layer in enumerate(layers):
            query = self.query_key_value(number, layer.self_attn.q_proj.weight)
            attended = self.attend(number, query, layer.self_attn.scaling)
            self.add(attended, layer.self_attn.o_proj.weight, layer.post_attention_layernorm.weight)
            self.add(self.gate_up(layer.mlp.gate_proj.weight), layer.mlp.down_proj.weight, norms[number + 1])
        return self.normalised(norms[-1])

    def embed(self, norm_weight: Tensor) -> None:
        from toolkit.triton_ends import embed_kernel

        rope = self.decoder.rotary_emb
        embed_kernel[(self.tokens,)](
            self.stream,
            self.scaled,
            self.squares,
            self.angles,
            self.decoder.embed_tokens.weight,
            self.ids,
            self.positions,
            norm_weight,
            rope.inv_freq,
            rope.attention_scaling,
            self.squares.shape[0],
            WIDTH=self.hidden,
            PADDED=power_of_two(self.hidden),
            FREQUENCIES=self.head_dim // 2,
        )

    def query_key_value(self, number: int, weight: Tensor) -> Tensor:
        """The queries, (tokens, heads, head_dim). Keys and values go to the cache."""
        from toolkit.triton_products import query_key_value_kernel

        query = self.empty(self.heads, self.head_dim)
        keys, values = self.paged.cache.keys[number], self.paged.cache.values[number]
        grid, partial, sizes = self.sizes(weight)
        query_key_value_kernel[grid](
            query,
            keys,
            values,
            self.paged.slot_mapping,
            self.angles,
            self.scaled,
            weight,
            self.squares,
            partial,
            self.arrived,
            self.tokens,
            self.hidden,
            self.squares.shape[0],
            self.eps,
            self.heads,
            self.kv_heads,
            keys.stride(1),
            HEAD_DIM=self.head_dim,
            STREAM_TILES=power_of_two(self.squares.shape[0]),
            **sizes,
        )
        return query

    def attend(self, number: int, query: Tensor, scale: float) -> Tensor:
        keys, values, out = self.paged.cache.keys[number], self.paged.cache.values[number], torch.empty_like(query)
        # Beside a product that fills most of the GPU, but not all, the attention's small programs would gather on the
        # processors that it has left idle: on an H100 (8b) they took 39.5 us after an early start, and 31.8 without one
        # (behind cuBLAS).
        early = self.early and self.leaves_room(self.decoder.layers[number].self_attn.q_proj.weight)
        if self.paged.num_decode_rows > 0:
            triton_attention.decode(out, query, keys, values, self.paged, scale, self.arrived, early)
        if self.paged.num_decode_rows < self.tokens:
            triton_attention.prefill(out, query, keys, values, self.paged, scale)
        return out.flatten(1)

    def gate_up(self, weight: Tensor) -> Tensor:
        """silu(gate) * up, (tokens, intermediate)."""
        from toolkit.triton_products import gate_up_kernel

        out = self.empty(weight.shape[0] // 2)
        grid, partial, sizes = self.sizes(weight)
        gate_up_kernel[grid](
            out,
            self.scaled,
            weight,
            self.squares,
            partial,
            self.arrived,
            self.tokens,
            *weight.shape,
            self.squares.shape[0],
            self.eps,
            STREAM_TILES=power_of_two(self.squares.shape[0]),
            **sizes,
        )
        return out

    def add(self, x: Tensor, weight: Tensor, norm_weight: Tensor) -> None:
        """Add x @ weight.T to the residual stream, for which the norm with `norm_weight` comes next."""
        from toolkit.triton_products import add_kernel

        grid, partial, sizes = self.sizes(weight)
        add_kernel[grid](
            *(self.stream, self.scaled, self.squares, norm_weight, x, weight, partial, self.arrived, self.tokens),
            *weight.shape,
            **sizes,
        )

    def normalised(self, norm_weight: Tensor) -> Tensor:
        from toolkit.triton_ends import norm_kernel

        out = torch.empty_like(self.stream)
        sizes = {"WIDTH": self.hidden, "PADDED": power_of_two(self.hidden), "EARLY": self.early}
        norm_kernel[(self.tokens,)](out, self.stream, norm_weight, self.eps, launch_pdl=self.early, **sizes)
        return out

    def grid(self, weight: Tensor) -> tuple[int, int]:
        """(tiles, splits) of a product: one wave of programs, no more than processors, or else whole tiles."""
        rows, columns = weight.shape
        tiles = rows // TILE_N
        return tiles, max(1, min(self.processors // tiles, columns // LEAST_COLUMNS))

    def leaves_room(self, weight: Tensor) -> bool:
        """Whether a product leaves half of the processors idle."""
        return 2 * math.prod(self.grid(weight)) <= self.processors

    def sizes(self, weight: Tensor) -> tuple[tuple[int, int], Tensor, dict[str, Any]]:
        """Grid, room for partial sums, and what is fixed when the kernel is compiled. From shapes alone.

        A program that has a processor to itself has room for six stages of its pipeline. Where the products leave room,
        the next one's programs are there early, and look ahead: that takes 5 % off a step of 135m. On larger models it
        took nothing off, or made them slower, as did asking for the next product's weights at the end of each kernel.
        """
        tiles, splits = self.grid(weight)
        programs = tiles * splits
        partial_sums = programs * TILE_N * self.tile_t if splits > 1 else 1
        partial = torch.empty(partial_sums, dtype=torch.float32, device=self.device)
        sizes = {
            "SPLIT": splits > 1,
            "TILE_T": self.tile_t,
            "TILE_N": TILE_N,
            "TILE_K": 128 if weight.shape[1] % 128 == 0 else 64,
            "AHEAD": 256 if self.early and self.leaves_room(weight) else 0,
            "EARLY": self.early,
            "launch_pdl": self.early,
            "num_warps": 4,
            "num_stages": 6 if programs <= self.processors else 4,
        }
        return (tiles, splits), partial, sizes
