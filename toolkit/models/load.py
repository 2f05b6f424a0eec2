"""`load_model`: from a name to a model that is ready to run, on the device and in the dtype asked for."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from toolkit.errors import UserError
from toolkit.models.default import default_model_folder
from toolkit.models.pretrained import fetch_from_hub, from_folder
from toolkit.models.shapes import SHAPES, random_model


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode with its tokenizer (None where a random shape has none)."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    name: str
    description: str


def load_model(name: str, *, device: str = "cpu", dtype: torch.dtype | None = None) -> LoadedModel:
    """Load a model by name.

    Args:
        name: "default" (SmolLM2-135M-Instruct, downloaded at its first use), a shape with random weights ("tiny", "1b",
            "8b"), a local model folder, or a model's name on the Hugging Face Hub.
        device: such as "cpu", "cuda", "cuda:1".
        dtype: of the weights; by default float32 on the CPU and bfloat16 elsewhere.

    The attention implementation is "sdpa" until an engine sets its own. Raises `UserError` for whatever the user can
    mend: the name, the folder, the network, the device, its memory.
    """
    target = checked_device(device)
    if target.type == "cuda":
        # cuDNN's attention makes a plan for every new shape, and in decode every step has a new shape.
        torch.backends.cuda.enable_cudnn_sdp(False)
    dtype = dtype or (torch.float32 if target.type == "cpu" else torch.bfloat16)
    try:
        if name in SHAPES:
            model, tokenizer = random_model(name, target, dtype)
        else:
            model, tokenizer = from_folder(model_folder(name), name, dtype)
            torch.nn.Module.to(model, target)
    except torch.OutOfMemoryError:
        raise UserError(f"model {name}: it does not fit into the memory of {target}; take a smaller one") from None
    weights = sum(parameter.numel() for parameter in model.parameters())
    kind = f"{model.config.model_type}, random weights" if name in SHAPES else model.config.model_type
    return LoadedModel(
        model=model.eval(),
        tokenizer=tokenizer,
        name=name,
        description=f"{name} ({kind}, {weights / 1e6:,.1f} million parameters, {str(dtype).removeprefix('torch.')})",
    )


def checked_device(device: str) -> torch.device:
    """The torch device of that name, or a `UserError` where this machine has none."""
    try:
        target = torch.device(device)
    except (RuntimeError, TypeError):
        target = None
    if target is None or target.type not in ("cpu", "cuda"):
        raise UserError(f"device {str(device)[:40]!r}: torch knows no such device; take cpu or cuda")
    if target.type == "cuda":
        count = torch.cuda.device_count()
        if (target.index or 0) >= count:
            raise UserError(f"device {device!r}: torch sees {count} NVIDIA GPUs here; take another index, or cpu")
    return target


def model_folder(name: str) -> Path:
    """The folder that a name stands for, downloaded first if it has to be."""
    if name == "default":
        return default_model_folder()
    if not name.strip():
        raise UserError("the model's name is empty; give default, tiny, a folder or a name of the Hub (owner/name)")
    shown = name if len(name) <= 100 else f"{name[:100]}..."
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            return path
        if path.exists():
            raise UserError(f"model {shown}: this is a file; give the folder with config.json and *.safetensors")
    except PermissionError:
        raise UserError(f"model {shown}: this folder may not be read by you; change its permissions") from None
    except (OSError, RuntimeError, ValueError):
        pass  # no path at all: too long, of a user that is not there, or with a character that no path has
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", name, re.ASCII):
        raise UserError(f"model {shown!r}: there is no such folder, and it is no model name of the Hub (owner/name)")
    return fetch_from_hub(name)
