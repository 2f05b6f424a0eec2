"""The set-up beside a hosted notebook, such as Colab's: `python toolkit/bootstrap_beside.py`

What the host has stays as it is: all of it becomes pip's constraints, whatever pip's other wishes. So nothing that a
running kernel has loaded already (numpy) and nothing that fits the host's driver (torch) is replaced. Two packages are
the exception, where the host's are older than the course needs: transformers, and its tokenizers.
"""

import importlib.metadata
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
REPLACED = {"transformers", "tokenizers"}
FOR_DEVELOPERS = {"jupyter", "jupyterlab", "mypy", "pytest-xdist", "ruff", "setuptools"}  # or what the host is itself


def wanted(repository: Path) -> list[str]:
    """The packages of requirements.txt, without its pins; with the ranges of pyproject.toml where there are some."""
    text = (repository / "requirements.txt").read_text(encoding="utf-8")
    names = re.findall(r"^([\w.-]+)==", text, re.MULTILINE)
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ranges = {re.split(r"[<>=]", line)[0]: line for line in project["dependencies"]}
    return [ranges.get(name, name) for name in names if name not in FOR_DEVELOPERS]


def installed() -> list[str]:
    """What is there, as constraints for pip."""
    found = importlib.metadata.distributions()
    pins = {each.name.lower(): f"{each.name}=={each.version}" for each in found if each.name}
    return sorted(pin for name, pin in pins.items() if name not in REPLACED)


def install(packages: list[str], constraints: list[str]) -> str | None:
    """Let pip add the packages. Returns pip's first line about an error, None if all went well."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "constraints.txt"
        path.write_text("\n".join(constraints) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", str(path)]
        done = subprocess.run([*command, *packages], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]
    return None if done.returncode == 0 else (lines or [f"exit code {done.returncode}"])[0]


def main() -> int:
    before = {each.name: each.version for each in importlib.metadata.distributions()}
    print("installing what this machine lacks; what it has stays as it is", flush=True)
    failure = install(wanted(REPOSITORY), installed())
    if failure is not None:
        print(f"error: set-up: what the course needs does not fit what is installed here: {failure}", file=sys.stderr)
        return 1
    after = {each.name: each.version for each in importlib.metadata.distributions()}
    changed = [f"{name} {version}" for name, version in sorted(after.items()) if before.get(name) != version]
    print("installed: " + (", ".join(changed) or "nothing, all was there"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
