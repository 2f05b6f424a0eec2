"""A pytest plugin: the modules of the full engine are those of solutions/engine_in_one_file.py.

    pytest -p tests.one_file_plugin tests/ch08_full_engine/test_sweeps.py

All names in that file are different, so one module can stand for each of the modules that it was made of.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from toolkit.commands.one_file import TARGET, in_order
from toolkit.course import ROOT

NAME = "engine_in_one_file"


class OneFile(MetaPathFinder, Loader):
    """Finds the one file wherever one of its parts is imported. Other modules of the chapters are found as ever."""

    def __init__(self) -> None:
        spec = importlib.util.spec_from_file_location(NAME, ROOT / TARGET)
        assert spec is not None
        assert spec.loader is not None
        self.module = importlib.util.module_from_spec(spec)
        sys.modules[NAME] = self.module
        spec.loader.exec_module(self.module)
        self.parts = {module.name for module in in_order(ROOT)}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in self.parts else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module with all names of the file. `sys.modules` wants one of its own for each name."""
        module = ModuleType(spec.name)
        module.__dict__.update({name: value for name, value in vars(self.module).items() if not name.startswith("__")})
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Everything is there."""


def pytest_configure() -> None:
    finder = OneFile()
    packages = {part.partition(".")[0] for part in finder.parts}
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
