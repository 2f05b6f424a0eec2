"""python -m tests.toolkit.simgpu.transformers_tokens: how many requests get wrong tokens in transformers' own batching.

The table in docs/simulator.md (Code that was not written here).
"""

import logging

from tests.toolkit.simgpu.transformers_batching import generate
from toolkit import simgpu

POLICIES = ("eager", "lazy", "random:1", "random:2", "random:3", "random:4")


def count(right, policy, use_async, graphs):
    """Requests with wrong tokens, or "fails"."""
    try:
        with simgpu.as_cuda(policy, on_race="collect"):
            tokens = generate("cuda", use_async, graphs)
    except RuntimeError:
        return "fails"
    return sum(tokens[name] != right[name] for name in right)


def main():
    logging.disable(logging.CRITICAL)
    right = generate("cpu")
    print(f"| of {len(right)} requests | {' | '.join(POLICIES)} |\n|{'---|' * (len(POLICIES) + 1)}")
    for use_async in (False, True):
        for graphs in (False, True):
            mode = f"{'a' if use_async else ''}synchronous{', graphs' if graphs else ''}"
            found = (str(count(right, policy, use_async, graphs)) for policy in POLICIES)
            print(f"| {mode} | {' | '.join(found)} |")


if __name__ == "__main__":
    main()
