"""Every tensor that is made names its dtype and its device: torch's defaults are the caller's, not ours."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAKERS = {"arange", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "scalar_tensor", "tensor"}
MAKERS |= {"zeros", "as_tensor", "empty_strided", "logspace", "randperm", "tril_indices", "triu_indices"}
NAMED = {"dtype", "device"}


def unnamed(source: str) -> Iterator[str]:
    """Calls of torch's makers of tensors that leave out one of the two: "line: name lacks dtype"."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MAKERS):
            continue
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "torch":
            given = {keyword.arg for keyword in node.keywords}
            lacking = sorted(NAMED - given)
            if lacking and None not in given:  # None: named together, `**INT64`
                yield f"{node.lineno}: torch.{node.func.attr} lacks {' and '.join(lacking)}"


def test_every_new_tensor_names_its_dtype_and_device():
    found = [
        f"{path.relative_to(ROOT)}:{call}"
        for folder in ("solutions", "toolkit")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for call in unnamed(path.read_text(encoding="utf-8"))
    ]
    assert not found, "with another default dtype or device these are other tensors:\n" + "\n".join(found)


def test_the_search_finds_them():
    source = "x = torch.ones(3)\ny = torch.full((2,), 1.0, device='cpu')\nz = torch.zeros(1, dtype=d, device=e)"
    assert list(unnamed(source)) == ["1: torch.ones lacks device and dtype", "2: torch.full lacks dtype"]
