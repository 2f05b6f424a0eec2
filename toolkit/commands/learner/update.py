"""Brings the course's changes into my/: `make update`, or `python -m toolkit.commands.learner.update`.

A file that the learner has not changed is replaced. In one that they have, both sides' changes are merged, starting
from the file as it was shipped before, which is kept in my/.base. Where both changed the same lines, an exercise file
gets both versions with marks around them; where both changed the same cells, a lesson stays, and the new one is laid
beside it. Nothing is written before all of it is worked out (plan.py). Each file is written whole, what it held before
is in my/.backup, and a second call finishes what was interrupted.
"""

import argparse
from pathlib import Path

from toolkit.choice import MINE, ROOT
from toolkit.commands.learner.folder import BASE, RELEASE, Backup, remove, write
from toolkit.commands.learner.plan import Plan, Step
from toolkit.commands.learner.shipped import shipped
from toolkit.commands.learner.start import ensure_made
from toolkit.errors import exit_cleanly
from toolkit.files import write_whole


def update(root: Path = ROOT) -> int:
    """Update my/, print what was done, and return the exit code: 1 where the learner has something to decide."""
    if ensure_made(root):
        return 0
    release = shipped(root)
    plan = Plan(root, release)
    steps = plan.steps()
    backup = Backup(root)
    for step in steps:
        if step.text != plan.mine.get(step.name):
            backup.keep(step.name)
    for step in steps:
        carry_out(step, plan, root)
    write_whole(root / MINE / BASE / RELEASE, release.record)
    news = [step for step in steps if step.says]
    for step in news:
        print(f"{MINE}/{step.name}: {step.says}")
    if backup.folder.is_dir():
        print(f"What was there before is in {backup}")
    elif not news:
        print(f"{MINE}/ is up to date")
    return int(any(step.is_open for step in news))


def carry_out(step: Step, plan: Plan, root: Path) -> None:
    """Bring a file of my/, and then its base, to what they should be."""
    for path, text, there in (
        (root / MINE / step.name, step.text, plan.mine.get(step.name)),
        (root / MINE / BASE / step.name, step.base, plan.base.get(step.name)),
    ):
        if text is None:
            remove(path)
        elif text != there:
            write(path, text)


def main() -> int:
    argparse.ArgumentParser(
        prog="python -m toolkit.commands.learner.update", description=(__doc__ or "").split("\n")[0]
    ).parse_args()
    return update()


if __name__ == "__main__":
    exit_cleanly(main)
