"""Attributes of torch's modules replaced for a while, and put back."""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

_MISSING = object()


class Patches:
    """Replaced attributes, and what they were."""

    def __init__(self) -> None:
        self._before: list[tuple[object, str, object]] = []

    def set(self, owner: object, name: str, value: object) -> None:
        """Replace (or add) one attribute of a module or class."""
        self._before.append((owner, name, vars(owner).get(name, _MISSING)))
        setattr(owner, name, value)

    def undo(self) -> None:
        """Put everything back."""
        while self._before:
            owner, name, value = self._before.pop()
            if value is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


def refusing(name: str) -> Callable[..., NoReturn]:
    """A function that stands for what is not modelled.

    Raises:
        NotImplementedError: when it is called, with its name.
    """

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:  # noqa: ANN401 (whatever it is called with)
        raise NotImplementedError(f"simgpu does not model {name}")

    refuse.__name__ = refuse.__qualname__ = name.rpartition(".")[2]
    return refuse


def public_functions(module: ModuleType) -> list[str]:
    """The functions and classes that a module offers; its submodules and constants are left out."""
    names = getattr(module, "__all__", None) or [each for each in vars(module) if not each.startswith("_")]
    found = ((each, vars(module).get(each)) for each in names)
    return [each for each, value in found if callable(value) and not isinstance(value, ModuleType)]
