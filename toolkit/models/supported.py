"""Which models the engines can run: what paged attention in this course computes, and what it leaves out.

A listed architecture passes the keyword arguments of `forward` on to its attention, unchanged, in every layer (that is
how the block table gets there), and needs nothing but plain causal attention. tests/toolkit/test_models.py checks each.
All others are refused, and so is a model of a listed one whose configuration asks for more: it would run, and answer
wrong. `load_model` asks before it reads any weights; every engine asks when it is made, since a model may come from
anywhere.
"""

import transformers
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from toolkit.errors import UserError

SUPPORTED = ("llama", "mistral", "qwen2", "qwen3", "smollm3", "granite", "olmo2")

# What the code of a listed architecture, or the cache that goes with it, would take to be another kind of model.
PLAIN = {"is_causal": True, "is_encoder_decoder": False, "return_dict": True, "attention_chunk_size": None}

# Rotary embeddings whose frequencies are the same for every batch.
FIXED_ROPE = ("default", "linear", "llama3", "yarn", "proportional")
# Two that are not. "longrope" has two sets: when the longest row of a batch passes the original context, all rows of
# the batch get the second one; below that it is as good as fixed. "dynamic" looks at the longest row in every forward,
# on the host, which a captured graph cannot.
BATCH_DEPENDENT_ROPE = ("dynamic", "longrope")


def served_length(model: PreTrainedModel, max_length: int | None = None) -> int:
    """How many tokens a request may have, prompt and output together: the model's context, or `max_length` if less.

    Every engine calls this first. Raises `UserError` if the engines cannot serve this model right up to there.
    """
    label = f"model {type(model).__name__}"
    config = getattr(model, "config", None)
    refuse_architecture(getattr(config, "model_type", None), label)
    expected = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model.config.model_type]
    if not isinstance(model, getattr(transformers, expected)):
        raise UserError(f"{label}: it is no {expected}; give the engine one, with its head and without a wrapper")
    length = min(model.config.max_position_embeddings, max_length or model.config.max_position_embeddings)
    refuse_unsupported(model.config, label, length)
    refuse_placement(model, label)
    return length


def refuse_architecture(architecture: str | None, label: str) -> None:
    """Raise a `UserError` unless this `model_type` is one of the supported ones; `label` is the model in words."""
    if architecture not in SUPPORTED:
        raise UserError(
            f"{label}: its architecture {repr(architecture)[:60]} is not supported; take a model of one of these: "
            f"{', '.join(SUPPORTED)}"
        )


def refuse_unsupported(config: PreTrainedConfig, label: str, length: int | None = None) -> None:
    """Raise a `UserError` naming what a model of a supported architecture needs and the engines do not have.

    Args:
        length: of the longest request, in tokens; by default the model's whole context.
    """
    for key, plain in PLAIN.items():
        if getattr(config, key, plain) is not plain:
            raise UserError(
                f"{label}: {key} in its configuration is {str(getattr(config, key))[:40]}, and the engines of this "
                f"course need {plain}; take another model"
            )
    if other := other_attention(config):
        raise UserError(
            f"{label}: it uses {other}, which the engines of this course do not have; "
            "take a model whose attention is full in every layer"
        )
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type", "default")
    original = rope.get("original_max_position_embeddings") or 0
    if kind in FIXED_ROPE or (kind == "longrope" and original >= (length or config.max_position_embeddings)):
        return
    if kind not in BATCH_DEPENDENT_ROPE:
        raise UserError(
            f"{label}: its rotary embedding {str(kind)[:40]!r} is none of {', '.join(FIXED_ROPE)}; "
            "take a model with one of these"
        )
    raise UserError(
        f"{label}: its rotary embedding {kind!r} depends on the longest row of the batch, "
        "so answers would not be independent; take a model with another one"
        + f", or give the engine max_length={original} at most"
        * (kind == "longrope")
    )


def other_attention(config: PreTrainedConfig) -> str:
    """The attention that any layer has instead of full attention, in words; "" if all of them have full attention."""
    sliding = "sliding-window attention"
    layer_types = getattr(config, "layer_types", None)
    if layer_types and config.model_type != "mistral":  # mistral's code does not look at them
        others = sorted({str(kind) for kind in layer_types} - {"full_attention"})
        return ", ".join(sliding if kind == "sliding_attention" else kind for kind in others)
    window = getattr(config, "sliding_window", None)
    return sliding if window is not None and getattr(config, "use_sliding_window", True) else ""


def refuse_placement(model: PreTrainedModel, label: str) -> None:
    """Raise a `UserError` where the weights are not in one place, or the layers not numbered as the KV cache is."""
    devices = sorted({str(parameter.device) for parameter in model.parameters()})
    if len(devices) > 1 or devices == ["meta"]:
        raise UserError(f"{label}: its weights are on {' and '.join(devices)}; load all of them onto one device")
    numbers = [module.layer_idx for module in model.modules() if hasattr(module, "layer_idx")]
    if numbers != [*range(model.config.num_hidden_layers)]:
        raise UserError(
            f"{label}: its attention layers have the numbers {str(numbers)[:60]}, and config.num_hidden_layers is "
            f"{model.config.num_hidden_layers}; each needs its own number (layer_idx), counted from 0"
        )
