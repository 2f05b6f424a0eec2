"""What a model folder must hold before a model is made of it: sizes that make sense, and no weights that stay unread.

The library believes config.json. With -1 layers it makes a model without any, with 10 ** 9 of them it fills the memory,
and an adapter or a bias that config.json does not mention is left out without a word: the answers would be another
model's.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from toolkit.errors import UserError

SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
)
MAY_BE_NULL = ("num_key_value_heads", "head_dim")  # then they follow from the others
MUST_BE_POSITIVE = ("rope_theta", "factor", "logits_scaling", "rms_norm_eps")

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PLAIN_NUMBERS = ("F64", "F32", "F16", "BF16")
SAME_WEIGHTS_AGAIN = "consolidated"  # how Mistral's own tools name them


def read_config(file: Path, label: str) -> dict[str, Any]:
    """config.json as it is written, or a `UserError` if it cannot be read or one of its numbers makes no sense."""
    written = read_object(file, label)
    for key, value in numbers(written):
        if value in (math.inf, -math.inf) or value != value or (key in MUST_BE_POSITIVE and not value > 0):
            raise UserError(f"{label}: {key} in its config.json is {shown(value)}; that is no value for it")
    for key in SIZES:
        size = written.get(key, 1)
        if size is None and key in MAY_BE_NULL:
            continue
        if type(size) is not int or not 1 <= size < 2**31:
            raise UserError(
                f"{label}: {key} in its config.json is {shown(size)}; a size is a whole number from 1 to {2**31 - 1}"
            )
    return written


def read_object(file: Path, label: str) -> dict[str, Any]:
    """The object in a JSON file of a model folder, or a `UserError` that names the file."""
    try:
        written = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # a number of too many digits is a plain ValueError
        raise UserError(f"{label}: cannot read its {file.name}: {str(error).partition(';')[0]}") from None
    if not isinstance(written, dict):
        raise UserError(f"{label}: its {file.name} holds a {type(written).__name__}, not an object in braces")
    return written


def numbers(value: dict[str, Any]) -> Iterator[tuple[str, int | float]]:
    """All numbers of an object of JSON with their keys, those of inner objects too."""
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from numbers(inner)
        for each in inner if isinstance(inner, list) else [inner]:
            if isinstance(each, (int, float)):
                yield key, each


def shown(value: object) -> str:
    """A value for a message, not longer than 40 characters."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def refuse_heads(config: PreTrainedConfig, label: str) -> None:
    """Raise a `UserError` where the numbers of heads and the sizes do not fit each other."""
    heads, kv_heads, hidden = config.num_attention_heads, config.num_key_value_heads, config.hidden_size
    if getattr(config, "head_dim", None) is None and hidden % heads:
        raise UserError(f"{label}: its hidden_size {hidden} is no multiple of its {heads} attention heads")
    if heads % kv_heads:
        raise UserError(f"{label}: its {heads} attention heads are no multiple of its {kv_heads} key and value heads")


def refuse_tokenizer(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, label: str) -> None:
    """Raise a `UserError` for a tokenizer with tokens that the model does not know."""
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= config.vocab_size:
        raise UserError(
            f"{label}: its tokenizer has tokens up to {largest}, and the model knows those below {config.vocab_size} "
            "(vocab_size in config.json); take the tokenizer that the model was trained with"
        )


def refuse_unread(folder: Path, label: str) -> None:
    """Raise a `UserError` for files with weights that the library would not read."""
    for name in ADAPTER_FILES:
        if (folder / name).exists():
            raise UserError(
                f"{label}: there is an adapter in it ({name}), which would not be applied; merge it into the weights "
                "(peft: merge_and_unload), or take it out of the folder"
            )
    if (folder / WEIGHTS).exists():
        read = {WEIGHTS}
    elif (folder / INDEX).exists():
        named = read_object(folder / INDEX, label).get("weight_map")
        if not isinstance(named, dict):
            raise UserError(f"{label}: its {INDEX} has no weight_map, so it does not say which weights are where")
        read = {str(name) for name in named.values()}
    else:
        raise UserError(f"{label}: it has no weights (*.safetensors), or no {INDEX} that names their files")
    source = WEIGHTS if WEIGHTS in read else INDEX
    for file in sorted(folder.glob("*.safetensors")):
        if file.name not in read and not file.name.startswith(SAME_WEIGHTS_AGAIN):
            raise UserError(
                f"{label}: {file.name} would not be read, since there is {source}, which does not name it; "
                "take it out of the folder if it belongs to something else"
            )


def refuse_much_larger(config: PreTrainedConfig, folder: Path, label: str) -> None:
    """Raise a `UserError` where config.json describes a model more than twice as large as the weights on disk.

    What is missing is found by name when the weights are loaded, but only after the whole model was made. The weights
    must be floating-point numbers of 16 bits or more: others would need factors to be multiplied with.
    """
    present = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:  # reads the file's header alone
            for name in tensors.keys():  # noqa: SIM118 (no dict)
                weight = tensors.get_slice(name)
                present += math.prod(weight.get_shape())
                if weight.get_dtype() not in PLAIN_NUMBERS:
                    raise UserError(f"{label}: {name} is in {weight.get_dtype()}; take weights that are not quantised")
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = config.num_attention_heads + config.num_key_value_heads
    layer = config.hidden_size * (2 * heads * head_dim + 3 * config.intermediate_size)
    needed = config.vocab_size * config.hidden_size + config.num_hidden_layers * layer
    if needed > 2 * present:
        raise UserError(
            f"{label}: its config.json describes a model of {needed:.2g} parameters, and its files hold {present:.2g}; "
            "they do not belong together"
        )
