"""`python -m toolkit.commands.soak`: see the package's docstring."""

import argparse
import random
from collections import Counter

import torch
from tqdm import tqdm

from toolkit.commands.soak.answers import Answers
from toolkit.commands.soak.stage import Soak, stages
from toolkit.course import use
from toolkit.errors import UserError, exit_cleanly


def soak(steps: int, seed: int) -> Counter[str]:
    """Run it all. Returns what has happened, by name. An error is what it is; a note says where it happened."""
    use("solutions")
    torch.set_num_threads(1)
    answers, rng, counts = Answers(), random.Random(seed), Counter[str]()
    parts, done = stages(seed), 0
    with tqdm(total=steps, unit="step", disable=None) as progress:
        for number, stage in enumerate(parts):
            count = steps // len(parts) + (number < steps % len(parts))
            try:
                for _ in Soak(stage, answers, rng, counts).run(count):
                    done += 1
                    progress.update()
            except BaseException as error:
                error.add_note(f"soak: seed {seed}, step {done} of {steps}, {stage}")
                raise
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit.commands.soak", description="A long random run of the full engine."
    )
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.steps < 1:
        raise UserError(f"--steps {options.steps}: a run has at least 1")
    counts = soak(options.steps, options.seed)
    happened = ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items()))
    print(f"soak: {options.steps:,} steps, seed {options.seed}: all tokens right, no leak, no race. {happened}")
    return 0


if __name__ == "__main__":
    exit_cleanly(main)
