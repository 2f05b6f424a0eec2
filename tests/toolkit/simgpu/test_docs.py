"""docs/simulator.md lists every ordering rule that is tested, and no other."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_table_of_rules_is_complete():
    tests = re.findall(r"^def (test_\w+)", (Path(__file__).parent / "test_ordering_rules.py").read_text(), re.M)
    listed = re.findall(r"\| `(test_\w+)` \|", (ROOT / "docs" / "simulator.md").read_text())
    assert listed == tests


def test_every_module_is_in_the_reading_order():
    text = (ROOT / "docs" / "simulator.md").read_text()
    modules = {path.name for path in (ROOT / "toolkit" / "simgpu").glob("*.py")} - {"__init__.py", "overhead.py"}
    assert {name for name in modules if f"`{name}`" not in text} == set()
