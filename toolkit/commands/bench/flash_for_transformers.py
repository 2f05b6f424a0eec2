"""The best attention that transformers' continuous batching can use on this machine, and its name for the rows.

Its continuous batching wants FlashAttention, from the flash-attn package or from the Hub through the kernels package.
Where neither can be had it falls back to "sdpa" with a mask, which is several times slower: no fair opponent. But torch
brings a FlashAttention-2 kernel of its own, with the same meaning for packed sequences. So where nothing better is
there, that kernel is put into the library's place for it.

What torch's kernel cannot do everywhere is read the cache through a block table. So transformers gathers each request's
keys and values into one piece first, as it does for every step that is not pure decode; the packages' own kernels spare
it that, and are taken wherever they are installed.
"""

from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
import transformers
import transformers.modeling_flash_attention_utils as flash_utils
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

FLASH = "flash_attention_2"


@dataclass(frozen=True)
class Attention:
    """An attention that continuous batching can use.

    Attributes:
        implementation: what `set_attn_implementation` is given.
        kernel: for the row, in words.
        graphs: it needs no mask, so that CUDA graphs are worth while.
        decode_path: it reads the cache through a block table.
    """

    implementation: str
    kernel: str
    graphs: bool
    decode_path: bool


def best_attention(model: PreTrainedModel) -> Attention:
    """Find the quickest attention that this model can use here, and switch the model to it."""
    if model.device.type != "cuda":
        return _switched(model, Attention(paged("sdpa"), "torch sdpa with a mask", graphs=False, decode_path=False))
    packages = ((3, is_flash_attn_3_available), (2, is_flash_attn_2_available))
    for version, available in packages:
        if not available(kernels_fallback_ok=True):
            continue
        name = f"flash_attention_{version}"
        try:
            return _switched(model, Attention(paged(name), f"FlashAttention-{version}, package", True, True))
        except Exception as error:  # the Hub cannot be reached, a wheel for another GPU: take the next best
            print(f"note: transformers has {name}, but it cannot be used: {str(error).splitlines()[0]}")
    try:
        use_torch_flash()
        check_kernel(model.device)
        return _switched(model, Attention(paged(FLASH), "torch's FlashAttention-2, gathered cache", True, False))
    except Exception as error:  # a release of either library that is built differently
        print(f"note: torch's FlashAttention-2 cannot be given to transformers: {str(error).splitlines()[0]}")
    return _switched(model, Attention(paged("sdpa"), "torch sdpa with a mask", graphs=False, decode_path=False))


def paged(name: str) -> str:
    """The name of an implementation for a paged cache: with a prefix in older releases, since about 5.20 without."""
    prefixed = f"paged|{name}"
    return prefixed if prefixed in ALL_ATTENTION_FUNCTIONS.valid_keys() else name


def _switched(model: PreTrainedModel, attention: Attention) -> Attention:
    model.set_attn_implementation(attention.implementation)
    return attention


def torch_flash_varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
) -> Tensor:
    """`flash_attn_varlen_func` of the flash-attn package, by torch's kernel.

    Args:
        q: (tokens, heads, head_dim), packed; k, v: (key tokens, kv_heads, head_dim).
        cu_seqlens_q, cu_seqlens_k: (rows + 1,) int32, where each row's tokens start.
        causal: aligned at the last tokens, where a row has more keys than queries.
        window_size: only the whole context, (-1, -1).

    Returns:
        (tokens, heads, head_dim).
    """
    if tuple(window_size) != (-1, -1):
        raise NotImplementedError("torch's kernel is lent to transformers for full attention only")
    return torch.ops.aten._flash_attention_forward(
        q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, 0.0, causal, False, scale=softmax_scale
    )[0]


def use_torch_flash() -> None:
    """Let transformers find torch's kernel where it looks for the flash-attn package.

    Raises:
        RuntimeError: this release of transformers does not look where 5.17 to 5.23 do.
    """
    for owner, name in ((flash_utils, "_lazy_imports"), (PreTrainedModel, "_flash_attn_can_dispatch")):
        if not hasattr(owner, name):
            raise RuntimeError(f"transformers {transformers.__version__} has no {name}")

    def torch_functions(*arguments: object, **options: object) -> tuple[object, ...]:
        # Without padding and for sequences of equal length; packed; through a block table; padding and unpadding.
        return None, torch_flash_varlen, None, None, None

    flash_utils._lazy_imports = torch_functions  # type: ignore[assignment]
    flash_utils._loaded_implementation = None  # whatever was found, or not found, before
    PreTrainedModel._flash_attn_can_dispatch = lambda self, *arguments, **options: True  # type: ignore[method-assign]
    if flash_utils.lazy_import_flash_attention(FLASH)[0][1] is not torch_flash_varlen:
        raise RuntimeError(f"transformers {transformers.__version__} takes its kernel from elsewhere")


def check_kernel(device: torch.device, dtype: torch.dtype = torch.bfloat16) -> None:
    """Compare the kernel with plain attention on three small rows.

    Raises:
        RuntimeError: they differ by more than the dtype explains.
    """
    generator = torch.Generator(device).manual_seed(0)
    queries, keys = [1, 3, 5], [40, 3, 17]

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device, dtype=torch.float32).to(dtype)

    q, k, v = random(sum(queries), 8, 64), random(sum(keys), 2, 64), random(sum(keys), 2, 64)
    q_starts, k_starts = (torch.tensor([0, *accumulate(n)], device=device, dtype=torch.int32) for n in (queries, keys))
    seen = torch_flash_varlen(q, k, v, q_starts, k_starts, max(queries), max(keys), causal=True)
    for few, many, a, b in zip(queries, keys, accumulate(queries), accumulate(keys), strict=True):
        mask = torch.ones(few, many, dtype=torch.bool, device=device).tril(many - few)
        row_q, row_k, row_v = (
            t.float().transpose(0, 1)[None] for t in (q[a - few : a], k[b - many : b], v[b - many : b])
        )
        right = F.scaled_dot_product_attention(row_q, row_k, row_v, attn_mask=mask, enable_gqa=True)[0].transpose(0, 1)
        worst = (seen[a - few : a].float() - right).abs().max().item()
        if not worst < 0.03:
            raise RuntimeError(f"torch's FlashAttention-2 differs from plain attention by {worst:.3f}")
