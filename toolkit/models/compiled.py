"""torch.compile for the parts of a model between the attentions: fewer kernels, and so fewer passes over memory.

A decoder layer launched operation by operation runs some 30 small kernels beside its matrix products: a normalisation
alone is six of them, each reads its input from memory and writes its output there. torch.compile fuses such chains into
one kernel each; the matrix products stay with cuBLAS.

What is compiled is one layer, not the model ("regional compilation"): all layers have the same code, so they share one
compilation, which takes seconds instead of minutes. The number of tokens is a symbol in the compiled code, so
steps of any size share it too. Two sizes are compiled apart, a few seconds each: one token, since torch treats the
size 1 as special, and as many tokens as heads, if that is the first size it sees. Measured on an H100 (8b with merged
projections, 32 rows, 128 tokens each): 6.7 ms a step, 6 to 12 s for the first; with fixed sizes 6.9 ms, and 3 s for
every size.

The attention over the cache stays outside (`torch.compiler.disable` in toolkit/paged_attention.py): the compiler ends
one piece before it and begins another behind it. Nothing is lost by that, because nothing could be fused across, and
much is won: the attention may read its layer's number, which differs from layer to layer, and launch its own kernels.

What the compiler cannot do, to draw the small kernels into the products and the attention, is written by hand for the
steps where it counts: of few tokens, on GPUs that can do it, of models whose projections are merged (fused.py).
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel

from toolkit.models.fused import fits, fuse


def compile_forward(model: PreTrainedModel, backend: str | Callable[..., Any] = "inductor") -> Callable[[], None]:
    """Give the decoder the quickest forward that this model and its device can have, in place.

    Compiling itself happens in the first forward of more than a few tokens, and again in the first one with a single
    token. So run both once before anything is timed; a capture runs its step once before anyway. Merge projections
    first, if at all. Compiling a compiled model changes nothing.

    Args:
        model: switched to paged attention, now or later; on the GPU, or on the CPU where there is a C++ compiler.
        backend: torch.compile's.

    Returns:
        undo: a function that puts the model's own forwards back.
    """
    undo_layers = compile_layers(model, backend)
    undo_fused = fuse(model) if fits(model) else None

    def undo() -> None:
        undo_layers()
        if undo_fused:
            undo_fused()

    return undo


def compile_layers(model: PreTrainedModel, backend: str | Callable[..., Any] = "inductor") -> Callable[[], None]:
    """Compile the decoder layers and the last normalisation, and nothing else. See `compile_forward`."""
    decoder = model.get_decoder()
    parts = [*decoder.layers, decoder.norm]
    for part in parts:
        if "forward" not in vars(part):
            part.forward = torch.compile(part.forward, dynamic=True, backend=backend)

    def undo() -> None:
        for part in parts:
            vars(part).pop("forward", None)

    return undo
