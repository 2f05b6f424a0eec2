"""Programs written for torch.cuda, unchanged, on the simulated GPU: the names of torch.cuda mean it for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from toolkit.simgpu import control, place
from toolkit.simgpu.autocast import register_autocast
from toolkit.simgpu.checkpoints import allow_checkpoints
from toolkit.simgpu.clock import Costs
from toolkit.simgpu.cuda_names import rename
from toolkit.simgpu.data_swaps import allow
from toolkit.simgpu.device_arguments import translate
from toolkit.simgpu.patches import Patches


@contextmanager
def as_cuda(policy: str = "eager", *, on_race: str = "raise", costs: Costs | None = None) -> Iterator[None]:
    """Begin a new run in which "cuda" is the simulated GPU, and torch.cuda, torch.accelerator and torch.Stream mean it.

    Names that a program has imported before (`from torch.cuda import Stream`) stay what they were, so import it inside.
    When it ends, the host waits for the device.

    Args:
        policy, on_race, costs: as for `reset`.

    Raises:
        RuntimeError: it is under way already.
        NotImplementedError: later, from whatever the program uses and is not modelled.
    """
    if place.type_name() == "cuda":
        raise RuntimeError("as_cuda() is under way already, and cannot be nested")
    control.reset(policy, on_race=on_race, costs=costs)
    register_autocast()
    patches = Patches()
    swapped = torch.__future__.get_swap_module_params_on_conversion()
    try:
        place.use("cuda")
        rename(patches)
        translate(patches)
        allow(patches)
        allow_checkpoints(patches)
        # module.cuda() keeps the parameters that an optimizer may already have: on CUDA by assigning to their .data.
        torch.__future__.set_swap_module_params_on_conversion(True)
        yield
    finally:
        patches.undo()
        torch.__future__.set_swap_module_params_on_conversion(swapped)
        place.use("sim")
        control.reset("eager")
