"""What torch's own operator schemas say about an operation: what it writes, whether it is a view, and so on."""

import functools
from collections.abc import Callable
from typing import Any

import torch

_ALSO_VIEWS = {"_unsafe_view", "_reshape_alias", "lift_fresh", "lift"}
_ALLOCATES = {"empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided", "empty_permuted"}


class Schema:
    """Facts about one operator overload.

    Attributes:
        name: "mm", "copy_", ...
        written: for each argument that the operation writes, its position and its name.
        view: the result shares the argument's memory; nothing is computed.
        allocates: the result's values are undefined.
        reshapes: it changes a tensor's shape or memory in place.
        random: it draws random numbers.
        host_reads: the host needs values from the device to go on (a result's shape, or a Python number).
        on_cpu: it can be done on the CPU. (Some operations are for GPUs only.)
        composite: it is defined by simpler operations alone.
        takes_generator: it has an argument `generator`.
        all_returns_written: everything it returns is one of its written arguments.
    """

    def __init__(self, func: torch._ops.OpOverload) -> None:
        schema, tags = func._schema, func.tags
        returns = schema.returns
        self.name = schema.name.removeprefix("aten::").replace("_local_scalar_dense", "item")
        self.written = [
            (place, each.name)
            for place, each in enumerate(schema.arguments)
            if each.alias_info is not None and each.alias_info.is_write
        ]
        aliases = [each.alias_info for each in returns]
        self.view = self.name in _ALSO_VIEWS or any(each is not None and not each.is_write for each in aliases)
        self.all_returns_written = all(each is not None and each.is_write for each in aliases)
        self.allocates = self.name in _ALLOCATES
        self.reshapes = torch.Tag.inplace_view in tags
        self.random = torch.Tag.nondeterministic_seeded in tags
        returns_values = bool(returns) and not any("Tensor" in str(each.type) for each in returns)
        self.host_reads = returns_values or torch.Tag.dynamic_output_shape in tags
        self.on_cpu = torch._C._dispatch_has_computed_kernel_for_dispatch_key(func.name(), "CPU")
        self.composite = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
        self.takes_generator = any(each.name == "generator" for each in schema.arguments)

    def written_arguments(self, args: tuple, kwargs: dict) -> list[Any]:
        """The tensors (and lists of tensors) among the arguments that the operation writes."""
        found = (args[place] if place < len(args) else kwargs.get(name) for place, name in self.written)
        return [each for each in found if each is not None]


@functools.cache
def schema_of(func: torch._ops.OpOverload) -> Schema:
    return Schema(func)


def map_tensors(change: Callable[[torch.Tensor], Any], value: Any) -> Any:  # noqa: ANN401 (arguments are of any type)
    """`value` with every tensor in it, at any depth of lists, tuples and dicts, replaced by `change(tensor)`."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)([map_tensors(change, each) for each in value])
    if isinstance(value, dict):
        return {key: map_tensors(change, each) for key, each in value.items()}
    return value


def tensors_in(value: Any) -> list[torch.Tensor]:  # noqa: ANN401 (arguments are of any type)
    """Every tensor in `value`, in order."""
    found: list[torch.Tensor] = []
    _collect(value, found)
    return found


def _collect(value: Any, found: list[torch.Tensor]) -> None:  # noqa: ANN401 (arguments are of any type)
    if isinstance(value, torch.Tensor):
        found.append(value)
    elif isinstance(value, (list, tuple)):
        for each in value:
            _collect(each, found)
    elif isinstance(value, dict):
        for each in value.values():
            _collect(each, found)
