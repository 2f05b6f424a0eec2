"""Fewer and larger matrix products: q, k, v as one, gate and up as one. An optional step after a model is loaded.

In decode a product of few rows with a weight matrix takes as long as reading the matrix. A small matrix, such as k's,
is over before the whole GPU is at work, so one product with the three matrices stacked takes less time than three.

The library's model code stays as it is and still calls q_proj, k_proj and v_proj, in this order. What it finds there is
different: `q_proj` computes the stacked product, returns the first part, and leaves the others for `k_proj` and
`v_proj` to hand out. The results are equal up to rounding: the sums are the same, perhaps added in another order.

vLLM, SGLang and nano-vllm merge in the same way, in model code of their own (QKVParallelLinear and
MergedColumnParallelLinear).
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from toolkit.errors import UserError
from toolkit.models.supported import SUPPORTED


class Merged(nn.Module):
    """Stands in for the first of several linear layers that get the same input; computes them all.

    Attributes:
        weight: (sum of the layers' output sizes, inputs). bias: (the same sum,), or None.
        waiting: the parts that the other layers have not fetched yet. It is empty between two calls of the model, so a
            captured graph leaves nothing of its pool behind.
    """

    def __init__(self, layers: list[nn.Linear]) -> None:
        super().__init__()
        with torch.no_grad():
            self.weight = nn.Parameter(torch.cat(tuple(layer.weight for layer in layers)), requires_grad=False)
            biases = [layer.bias for layer in layers if layer.bias is not None]
            self.bias = nn.Parameter(torch.cat(tuple(biases)), requires_grad=False) if biases else None
        self.sizes = [layer.out_features for layer in layers]
        self.waiting: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        first, *others = nn.functional.linear(x, self.weight, self.bias).split(self.sizes, dim=-1)
        self.waiting = others
        return first


class Fetch(nn.Module):
    """Stands in for one of the other layers: hands out the next part of what `Merged` has just computed."""

    def __init__(self, merged: Merged) -> None:
        super().__init__()
        self.source = (merged,)  # in a tuple, so that its weight does not count as this module's too

    def forward(self, x: Tensor) -> Tensor:
        source = self.source[0]
        part, source.waiting = source.waiting[0], source.waiting[1:]
        return part


def merge_projections(model: PreTrainedModel) -> None:
    """Merge the projections of every layer of a model, in place.

    Layer by layer: the old weights of one layer are released before the next one's are copied, so the memory needed
    beside the model is that of one layer. Merging twice changes nothing. The model can no longer be saved as an
    ordinary model folder, since its weights have other names.

    Raises:
        UserError: the architecture is not one of toolkit.models.supported, or its layers are not plain linear ones.
    """
    kind = model.config.model_type
    if kind not in SUPPORTED:
        raise UserError(f"projections of a {kind!r} model cannot be merged; known are: {', '.join(SUPPORTED)}")
    for number, layer in enumerate(model.get_decoder().layers):
        merge(layer.self_attn, ["q_proj", "k_proj", "v_proj"], f"{kind}, layer {number}")
        merge(layer.mlp, ["gate_proj", "up_proj"], f"{kind}, layer {number}")
        if model.device.type == "cuda":
            torch.cuda.empty_cache()  # the freed pieces are too small for the next layer's merged weights


def merge(owner: nn.Module, names: list[str], label: str) -> None:
    """Replace the linear layers `names` of a module, which are called in this order with the same input."""
    layers = [getattr(owner, name) for name in names]
    if isinstance(layers[0], Merged):
        return
    plain = [layer for layer in layers if type(layer) is nn.Linear]
    if len(plain) < len(layers) or len({layer.bias is None for layer in plain}) > 1:
        found = ", ".join(f"{name} is a {type(layer).__name__}" for name, layer in zip(names, layers, strict=True))
        raise UserError(f"{label}: only linear layers, all with or all without bias, can be merged; {found}")
    merged = Merged(plain)
    setattr(owner, names[0], merged)
    for name in names[1:]:
        setattr(owner, name, Fetch(merged))
