"""Puts a release into a git repository of its own, whose history never held more than is released."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from toolkit.errors import UserError

MARK = "RELEASED.md"  # at the top of a release; its first line says up to which chapter
FIRST_LINE = "# Solutions up to chapter {upto}"
AUTHOR = {"user.name": "The course", "user.email": "course@example.org", "commit.gpgsign": "false"}


def tracked_files(root: Path) -> list[str]:
    """The files of the course's own repository, as far as they are there."""
    if shutil.which("git") is None:
        raise UserError("a release needs git, which is not installed")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, encoding="utf-8")
    names = [name for name in done.stdout.split("\0") if name and (root / name).is_file()]
    if done.returncode or not names:
        raise UserError(f"{root} is no git repository, so it isn't known what belongs to the course; clone it with git")
    return names


def released_before(target: Path) -> int | None:
    """Up to which chapter a folder holds a release; None for a folder that is empty or not there.

    Raises:
        UserError: something else is in it.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    if target.is_dir() and (target / ".git").exists() and (target / MARK).is_file():
        found = re.match(FIRST_LINE.format(upto=r"(\d+)"), (target / MARK).read_text(encoding="utf-8"))
        if found:
            return int(found[1])
    raise UserError(f"{target} is neither empty nor a release; name another folder: make release UPTO=5 TO=../class")


def publish(files: Mapping[str, bytes], executable: set[str], target: Path, message: str) -> bool:
    """Make the folder hold these files and nothing else that git knows, and commit; False if nothing has changed.

    Args:
        executable: names of files that can be run.
    """
    target.mkdir(parents=True, exist_ok=True)
    if not (target / ".git").exists():
        git(target, "init", "--quiet", "--initial-branch=main")
    for name in git(target, "ls-files", "-z").split("\0"):
        if name and name not in files:
            (target / name).unlink(missing_ok=True)
    try:
        for name, content in files.items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            if name in executable:
                path.chmod(0o755)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}; call it again, which goes on") from None
    git(target, "add", "--all", "--force", "--pathspec-from-file=-", given="\n".join(sorted(files)))
    git(target, "add", "--update")
    if not git(target, "status", "--porcelain", "--untracked-files=no"):
        return False
    git(target, "commit", "--quiet", "--message", message)
    return True


def git(target: Path, *arguments: str, given: str = "") -> str:
    settings = [part for key, value in AUTHOR.items() for part in ("-c", f"{key}={value}")]
    # A hook of the caller's has variables that name another repository.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        ["git", *settings, *arguments],
        cwd=target,
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    if done.returncode:
        raise UserError(f"git {arguments[0]} in {target} failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout
