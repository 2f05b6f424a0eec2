"""`x.data = y` where one is ordinary, and the other pinned or on the device: x becomes a tensor of y's kind.

torch's own assignment would give an ordinary tensor the memory that a shell hasn't got.
"""

from typing import Any

import torch

from toolkit.simgpu.patches import Patches
from toolkit.simgpu.tensors import Shell

_ORDINARY: Any = torch._C.TensorBase.data  # type: ignore[attr-defined]
_SHELLS: Any = Shell.data


def allow(patches: Patches) -> None:
    """Let a program move tensors by assigning to their `.data`."""
    patches.set(torch.Tensor, "data", property(_ORDINARY.__get__, _assign))
    patches.set(Shell, "data", property(_SHELLS.fget, _assign))


def _assign(x: torch.Tensor, y: torch.Tensor) -> None:
    if not isinstance(x, Shell) and not isinstance(y, Shell):
        _ORDINARY.__set__(x, y)
    elif isinstance(x, Shell) and type(x) is type(y):
        _SHELLS.fset(x, y)
    else:
        _swap(x, y)


def _swap(x: torch.Tensor, y: torch.Tensor) -> None:
    """Raises NotImplementedError where a graph of autograd, or a weak reference, holds on to x as it is."""
    twin = y.detach()
    if isinstance(x, torch.nn.Parameter):
        twin = torch.nn.Parameter(twin, x.requires_grad)
    try:
        torch.utils.swap_tensors(x, twin)
    except RuntimeError as error:
        what = "x.data = y between host and device, where something holds on to x"
        raise NotImplementedError(f"simgpu: {what} ({error})") from None
