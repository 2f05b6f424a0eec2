"""What the simulated GPU is called: "sim", and "cuda" in a program that `as_cuda` runs.

torch knows it as "sim" only. While it is called "cuda", its tensors say that they are there, and functions that are
given that device are given the other one (see device_arguments.py).
"""

from typing import Any

import torch


class _Place:
    name = "sim"


def use(name: str) -> None:
    """Call the device `name` from now on: "sim" or "cuda"."""
    _Place.name = name


def type_name() -> str:
    """ "sim" or "cuda"."""
    return _Place.name


def name() -> str:
    """ "sim:0" or "cuda:0"."""
    return f"{_Place.name}:0"


def for_torch(device: Any) -> Any:  # noqa: ANN401 (whatever may stand in the place of a device)
    """ "cuda", "cuda:0" and their torch.device become "sim"; all else stays what it is.

    Raises:
        RuntimeError: a second device.
    """
    kind, _, index = str(device).partition(":") if isinstance(device, (str, torch.device)) else ("", "", "")
    if kind != "cuda":
        return device
    if index not in ("", "0"):
        raise RuntimeError(f"CUDA error: invalid device ordinal ({device}, but there is only cuda:0)")
    return torch.device("sim:0")
