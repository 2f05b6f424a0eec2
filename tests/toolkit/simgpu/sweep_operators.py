"""PyTorch's own samples of its operators, on the simulated GPU and on the CPU: does any give a wrong number silently?

    python -m tests.toolkit.simgpu.sweep_operators [POLICY]

Takes some minutes. Prints how many calls agreed, were refused with NotImplementedError, failed with another error, or
were WRONG, and the operators of the last three kinds. Sparse layouts and random operators are left out.
"""

import collections
import sys
import types
import unittest
import warnings
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map

from toolkit import simgpu

# torch's collection of samples imports a test helper of this name, and uses nothing of it here.
sys.modules.setdefault("expecttest", types.ModuleType("expecttest")).TestCase = unittest.TestCase  # type: ignore[attr-defined]

SAMPLES = 6  # of each operator and dtype
UNDEFINED = ("empty", "new_empty")  # results without values


def to_device(value: Any) -> Any:
    return tree_map(lambda each: each.to("sim") if isinstance(each, torch.Tensor) else each, value)


def clone(value: Any) -> Any:
    return tree_map(lambda each: each.clone() if isinstance(each, torch.Tensor) else each, value)


def agree(one: Any, other: Any, compare_values: bool) -> bool:
    if not isinstance(one, torch.Tensor):
        return not isinstance(one, (bool, int, float)) or one == other or one != one
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return not compare_values or torch.allclose(one.to(torch.complex128), other.to(torch.complex128), 1e-4, 1e-5, True)


def judge(operator: Any, sample: Any) -> str:
    """Run one sample on both devices."""
    arguments = (sample.input, *sample.args)
    try:
        torch.manual_seed(0)
        expected = tree_flatten(operator.op(*clone(arguments), **sample.kwargs))[0]
    except Exception:
        return "refused by the CPU"
    try:
        got = tree_flatten(operator.op(*to_device(arguments), **to_device(sample.kwargs)))[0]
        simgpu.synchronize()
        got = [each.cpu() if isinstance(each, torch.Tensor) else each for each in got]
    except NotImplementedError:
        return "refused"
    except Exception:
        return "failed"
    values = not operator.name.startswith(UNDEFINED)
    same = len(expected) == len(got) and all(agree(*pair, values) for pair in zip(expected, got, strict=True))
    return "agreed" if same else "WRONG"


def main() -> None:
    from torch.testing._internal.common_methods_invocations import op_db

    warnings.simplefilter("ignore")
    policy = sys.argv[1] if len(sys.argv) > 1 else "lazy"
    counts: collections.Counter[str] = collections.Counter()
    names = collections.defaultdict(set)
    for operator in op_db:
        for dtype in (torch.float32, torch.int64):
            if dtype not in operator.dtypes:
                continue
            for sample in list(operator.sample_inputs("cpu", dtype, requires_grad=False))[:SAMPLES]:
                tensors = tree_flatten((sample.input, sample.args, sample.kwargs))[0]
                if any(isinstance(each, torch.Tensor) and each.layout != torch.strided for each in tensors):
                    continue
                if sample.kwargs.get("device") is not None:
                    continue
                simgpu.reset(policy)
                with torch.no_grad():
                    outcome = judge(operator, sample)
                counts[outcome] += 1
                names[outcome].add(operator.name)
    print(dict(counts))
    for outcome in ("WRONG", "failed", "refused"):
        print(f"{outcome}: {', '.join(sorted(names[outcome])) or 'none'}")


if __name__ == "__main__":
    main()
