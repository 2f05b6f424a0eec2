"""Which models the engines can run: what paged attention in this course computes, and what it leaves out.

A listed architecture passes the keyword arguments of `forward` on to its attention, unchanged, in every layer (that is
how the block table gets there), and needs nothing but plain causal attention. tests/toolkit/test_models.py checks each.
"""

from transformers import PreTrainedConfig

from toolkit.errors import UserError

SUPPORTED = ("llama", "mistral", "qwen2", "qwen3", "smollm3", "granite", "olmo2")

# Rotary embeddings whose frequencies change with the longest row of a batch: an answer would depend on its neighbours.
BATCH_DEPENDENT_ROPE = ("dynamic", "longrope")


def refuse_architecture(architecture: str | None, label: str) -> None:
    """Raise a `UserError` unless this `model_type` is one of the supported ones; `label` is the model in words."""
    if architecture not in SUPPORTED:
        raise UserError(
            f"{label}: its architecture {architecture!r} is not supported; take a model of one of these: "
            f"{', '.join(SUPPORTED)}"
        )


def refuse_unsupported(config: PreTrainedConfig, label: str) -> None:
    """Raise a `UserError` naming what a model of a supported architecture needs and the engines do not have."""
    layer_types = getattr(config, "layer_types", None)
    if layer_types:
        slides = any(kind != "full_attention" for kind in layer_types)
    else:
        slides = getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)
    if slides:
        raise UserError(
            f"{label}: it uses sliding-window attention, which the engines of this course do not have; "
            "take a model whose attention is full in every layer"
        )
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope in BATCH_DEPENDENT_ROPE:
        raise UserError(
            f"{label}: its rotary embedding {rope!r} depends on the longest row of the batch, "
            "so answers would not be independent; take a model with another one"
        )
