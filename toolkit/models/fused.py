"""The decoder of a Llama model in five kernels a layer, for steps of few tokens.

torch.compile makes some 12 kernels of a layer (toolkit/models/compiled.py): the matrix products stay with cuBLAS, the
attention is a call that it does not look into, and what lies between them cannot move into either. In decode each of
those small kernels costs more than its work: it waits for the one before and fills the GPU again. Written by hand, a
layer is

    1. q, k and v: normalisation, product, rotary embedding, write to the cache
    2. attention
    3. product, sum with the residual stream
    4. gate and up: normalisation, product, silu(gate) * up
    5. product, sum with the residual stream

On an H100, 32 rows of 600 tokens, a step of compiled and of fused layers takes (figures/data/h100/step_profile.json)

    8b    7.10 and 6.86 ms, which is 1.20 and 1.16 times its floor, with 469 and 173 kernels
    1b    1.78 and 1.51 ms,          1.70 and 1.44 times,           with 245 and 93
    135m  1.50 and 0.89 ms,          6.3 and 3.7 times,             with 411 and 163

That was recorded when attention started early in all of them, which cost 8b and 1b time (few_tokens.py).

The library's model runs all other steps, those of more than FEW_TOKENS tokens, whose products are better with cuBLAS.
(With 64 tokens this is 5 % quicker for 8b and 9 % for 1b.) vLLM and SGLang fuse in the same way, in model code of their
own.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from toolkit import triton_attention
from toolkit.models.few_tokens import FewTokens
from toolkit.models.merge import Merged
from toolkit.models.supported import FIXED_ROPE, other_attention
from toolkit.paged_cache import PagedBatch

FEW_TOKENS = 64
ARCHITECTURES = ("llama", "mistral")  # their layers are the same
SHARED_MEMORY = 200 * 2**10  # bytes that a program of the largest tiles takes on its processor


def fits(model: PreTrainedModel) -> bool:
    """Whether `fuse` can take this model: its layers are Llama's with merged projections, and this GPU has the means.

    Those are what NVIDIA's data-centre GPUs have from compute capability 9.0 on: early starts, and much shared memory.
    """
    config, decoder = model.config, model.get_decoder()
    if config.model_type not in ARCHITECTURES or config.hidden_act != "silu":
        return False
    if other_attention(config) or not triton_attention.available(model.device):
        return False
    properties = torch.cuda.get_device_properties(model.device)
    if properties.major < 9 or properties.shared_memory_per_multiprocessor < SHARED_MEMORY:
        return False
    for layer in decoder.layers:
        attention, mlp = layer.self_attn, layer.mlp
        products = (attention.q_proj, attention.o_proj, mlp.gate_proj, mlp.down_proj)
        if [type(product) for product in products] != [Merged, nn.Linear] * 2:
            return False
        if any(product.bias is not None or any(size % 64 for size in product.weight.shape) for product in products):
            return False
    head_dim = decoder.layers[0].self_attn.head_dim
    if config.rope_parameters["rope_type"] not in FIXED_ROPE or 2 * len(decoder.rotary_emb.inv_freq) != head_dim:
        return False
    return triton_attention.supports(torch.empty(0, head_dim, dtype=model.dtype, device="meta"))


def fuse(model: PreTrainedModel) -> Callable[[], None]:
    """Let steps of few tokens over the paged cache run in fused kernels; nothing changes if they do already.

    Returns a function that undoes it.
    """
    decoder = model.get_decoder()
    library = decoder.forward
    if "forward" in vars(decoder):
        return lambda: None

    def forward(
        input_ids: Tensor,
        position_ids: Tensor,
        paged: PagedBatch | None = None,
        **others: Any,  # noqa: ANN401 (whatever the library's model passes on)
    ) -> BaseModelOutputWithPast:
        if paged is None or input_ids.shape[1] > FEW_TOKENS:
            others |= {} if paged is None else {"paged": paged}
            return library(input_ids=input_ids, position_ids=position_ids, **others)
        hidden = FewTokens(model, input_ids[0], position_ids[0], paged).run()
        return BaseModelOutputWithPast(last_hidden_state=hidden[None])

    decoder.forward = torch.no_grad()(forward)

    def undo() -> None:
        vars(decoder).pop("forward", None)

    return undo
