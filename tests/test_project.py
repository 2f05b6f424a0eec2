"""What a project that others carry on says of itself: one version, readable settings, commands that exist."""

import json
import re
import shutil
import tomllib

import pytest
import yaml

from tests.run_make import run_make
from toolkit.course import ROOT

SETTINGS = sorted(
    str(path.relative_to(ROOT))
    for pattern in (".github/**/*.yml", ".pre-commit-config.yaml", "CITATION.cff")
    for path in ROOT.glob(pattern)
)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_the_same_everywhere():
    """The package's, the citation's, and the newest one in the list of changes."""
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    newest = re.search(r"^## (\d+\.\d+\.\d+)", read("docs/CHANGELOG.md"), re.M)
    assert yaml.safe_load(read("CITATION.cff"))["version"] == version
    assert newest is not None and newest[1] == version


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_can_be_read(name: str):
    assert isinstance(yaml.safe_load(read(name)), dict)


def test_the_public_ci_runs_what_the_readme_says():
    """Linux runs `.ci/run`; where there is no make, the line of the README for it."""
    jobs = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]
    linux, others = (["".join(step.get("run", "")) for step in jobs[name]["steps"]] for name in ("linux", "others"))
    assert ".ci/run" in linux
    command = '-m pytest -m "not long and not slow"'
    assert any(command in line for line in others) and command in read("README.md")
    systems = {entry["os"].partition("-")[0] for entry in jobs["others"]["strategy"]["matrix"]["include"]}
    assert systems == {"ubuntu", "macos", "windows"}


def test_make_targets_named_for_contributors_exist():
    """In the guides for people and for assistants, and in the templates."""
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.M))
    for name in ("docs/CONTRIBUTING.md", "AGENTS.md", ".github/pull_request_template.md", *SETTINGS):
        named = set(re.findall(r"`make ([a-z-]+)", read(name))) | set(
            re.findall(r"^    make ([a-z-]+)", read(name), re.M)
        )
        assert named <= targets, f"{name}: there is no make {', '.join(sorted(named - targets))}"


def test_the_containers_use_what_is_there():
    """The devcontainer does the set-up by the course's own script; the image is made from files that exist."""
    assert json.loads(read(".devcontainer/devcontainer.json"))["postCreateCommand"] == "python3 toolkit/bootstrap.py"
    copied = re.search(r"^COPY (\S+) (\S+) \./$", read("binder/Dockerfile"), re.M)
    assert copied is not None and all((ROOT / name).is_file() for name in copied.groups())


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_make_help_lists_a_learners_targets_first():
    """Every target has its line, in one of three lists; what a README's reader needs is in the first."""
    shown = run_make("help").stdout
    first, second, third = (re.findall(r"^  make ([a-z-]+) +\S", part, re.M) for part in shown.split("\n\n"))
    assert shown.startswith("To learn") and "\n\nTo work on the course itself:\n" in shown
    assert second == ["wheelhouse", "collect", "release"]
    assert {*first, *second, *third} == set(re.search(r"^\.PHONY: (.*)$", read("Makefile"), re.M)[1].split())
    assert {"lab", "check", "watch", "hint", "progress", "reset", "update", "start", "run", "test"} <= set(first)
    assert {"exercises", "lessons", "figures", "lint", "soak", "site", "test-long"} <= set(third)


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
@pytest.mark.parametrize(
    ("target", "variable", "flag"),
    [
        ("run", "MODEL", "--model"),
        ("serve", "HOST", "--host"),
        ("run-ray", "ANSWERS", "--answers"),
        ("hint", "GUESS", "--guess"),
        ("report", "NAME", "--name"),
        ("collect", "FOLDER", "toolkit.commands.classroom.collect"),
        ("release", "TO", "--to"),
    ],
)
def test_make_hands_over_what_was_typed(target: str, variable: str, flag: str):
    """With an apostrophe, spaces and quotes in it, as a sentence or the name of a folder may have."""
    typed = 'it\'s "here"; and there'
    shown = "VENV=printf '%s|'", "RAY=printf '%s|'"
    done = run_make(target, "EX=8.6", f"{variable}={typed}", "PYTHON=true", *shown)
    assert done.returncode == 0 and f"{flag}|{typed}|" in done.stdout, done.stdout + done.stderr
