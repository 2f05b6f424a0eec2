"""The set-up, run for real on a tiny repository whose "torch" is an empty wheel, so that no network is needed."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from toolkit import bootstrap

REPOSITORY = Path(bootstrap.__file__).resolve().parent.parent


def write_wheel(folder: Path, name: str, version: str) -> None:
    """A wheel with nothing in it but its metadata."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"]))


@pytest.fixture(scope="module")
def empty_venv(tmp_path_factory):
    """An environment with nothing but pip. Making one takes seconds, so the tests that can start from a copy."""
    folder = tmp_path_factory.mktemp("template") / ".venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder


@pytest.fixture
def repository(tmp_path):
    """A repository with the real bootstrap.py, asking for a torch that lies in its folder wheels/."""
    (tmp_path / "toolkit").mkdir()
    for name in ("__init__.py", "bootstrap.py", "bootstrap_offline.py"):
        shutil.copy(Path(bootstrap.__file__).with_name(name), tmp_path / "toolkit" / name)
    (tmp_path / "requirements.txt").write_text("-c constraints.txt\ntorch==1.0\n")
    (tmp_path / "constraints.txt").write_text("")
    write_wheel(tmp_path / "wheels", "torch", "1.0")
    return tmp_path


@pytest.fixture
def repository_with_venv(repository, empty_venv):
    """The same with an environment of the reader's own, which has no stamp."""
    shutil.copytree(empty_venv, repository / ".venv", symlinks=True)
    return repository


def set_up(repository: Path, *call: str, driver: bool = False) -> subprocess.CompletedProcess:
    """Run bootstrap.py, or another call, as the Makefile does; pip is confined to wheels/, a driver is there or not."""
    commands = repository / "commands"
    commands.mkdir(exist_ok=True)
    if driver:
        (commands / "nvidia-smi").write_text("#!/bin/sh\n")
        (commands / "nvidia-smi").chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(repository / "wheels")}
    environment["PATH"] = os.pathsep.join([str(commands), environment["PATH"]])
    script, *arguments = call or ("bootstrap.py",)
    return subprocess.run(
        [sys.executable, str(repository / "toolkit" / script), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=repository,
    )


def installed(repository: Path) -> str:
    return bootstrap.installed_torch(repository / ".venv")


no_driver_here = pytest.mark.skipif(
    sys.platform != "linux" or bootstrap.has_nvidia_driver(), reason="about Linux machines without an NVIDIA driver"
)


@no_driver_here
def test_without_a_driver_the_cpu_build_is_taken_and_a_second_call_does_nothing(repository):
    write_wheel(repository / "wheels", "torch", "1.0+cpu")
    first = set_up(repository)
    assert first.returncode == 0, f"the set-up failed:\n{first.stdout}{first.stderr}"
    assert installed(repository) == "1.0+cpu", "without a driver the CPU build should have been preferred"
    assert "took torch's CPU build, 1.0+cpu" in first.stdout, "the set-up did not say which build it took"

    shutil.rmtree(repository / "wheels")  # whatever would install now would fail
    second = set_up(repository)
    assert (second.returncode, second.stdout, second.stderr) == (0, "", ""), (
        "a finished set-up should be silent and idle"
    )


@pytest.mark.long
@no_driver_here
def test_where_no_cpu_build_can_be_had_the_ordinary_one_is_taken(repository_with_venv):
    done = set_up(repository_with_venv)
    assert done.returncode == 0, f"the set-up failed:\n{done.stdout}{done.stderr}"
    assert installed(repository_with_venv) == "1.0"
    assert "took torch's ordinary build, 1.0 " in done.stdout, "the set-up did not say which build it took"


def test_with_a_driver_no_cpu_build_is_looked_for(repository_with_venv):
    write_wheel(repository_with_venv / "wheels", "torch", "1.0+cpu")
    done = set_up(repository_with_venv, driver=True)
    assert done.returncode == 0, f"the set-up failed:\n{done.stdout}{done.stderr}"
    assert "looking for" not in done.stdout, "with a driver there must be no search for a CPU build"


@pytest.mark.long
def test_an_interrupted_set_up_is_made_afresh(repository_with_venv):
    venv = repository_with_venv / ".venv"
    (venv / "leftover").touch()
    (venv / ".course-stamp").write_text(bootstrap.UNFINISHED)
    done = set_up(repository_with_venv, driver=True)
    assert done.returncode == 0, f"the set-up failed:\n{done.stdout}{done.stderr}"
    assert not (venv / "leftover").exists(), "an unfinished .venv was believed instead of made again"
    assert bootstrap.is_finished(repository_with_venv, venv)


def test_an_environment_of_the_readers_own_and_changed_pins_are_completed_in_place(repository_with_venv):
    mine = repository_with_venv / ".venv" / "mine"
    mine.touch()
    assert set_up(repository_with_venv, driver=True).returncode == 0
    assert installed(repository_with_venv) == "1.0"
    assert mine.exists(), "a reader's own environment was thrown away"

    (repository_with_venv / "requirements.txt").write_text("torch==2.0\n")
    for _ in range(2):  # as without a network: the earlier version stays, however often it is tried
        assert set_up(repository_with_venv, driver=True).returncode == 1
        assert installed(repository_with_venv) == "1.0" and mine.exists()

    write_wheel(repository_with_venv / "wheels", "torch", "2.0")
    changed = set_up(repository_with_venv, driver=True)
    assert changed.returncode == 0, changed.stderr
    assert installed(repository_with_venv) == "2.0", "changed pins were not installed"
    assert mine.exists(), "for changed pins there is no need to throw the environment away"


def test_a_failure_shows_the_last_lines_of_pip_and_is_not_taken_for_success(repository_with_venv):
    shutil.rmtree(repository_with_venv / "wheels")
    for attempt in ("first", "second"):
        failed = set_up(repository_with_venv, driver=True)
        assert failed.returncode == 1, f"the {attempt} set-up reported success with nothing to install from"
        assert "No matching distribution found for torch==1.0" in failed.stderr
        assert "Traceback" not in failed.stderr


@pytest.fixture
def finished(repository):
    """A repository whose .venv looks finished: an interpreter, its configuration, and the stamp for both."""
    venv = repository / ".venv"
    python = bootstrap.venv_python(venv)
    python.parent.mkdir(parents=True)
    python.touch()
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.7\n")
    (venv / ".course-stamp").write_text(bootstrap.expected_stamp(repository, venv))
    assert bootstrap.is_finished(repository, venv)
    return repository


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("requirements.txt", "torch==2.0\n"),
        ("constraints.txt", "numpy==1.0\n"),
        (".venv/pyvenv.cfg", "home = /usr/bin\nversion = 3.12.1\n"),
        (".venv/.course-stamp", bootstrap.UNFINISHED),
    ],
)
def test_a_finished_environment_is_no_longer_believed_when_this_changes(finished, file, text):
    (finished / file).write_text(text)
    assert not bootstrap.is_finished(finished, finished / ".venv"), f"a change of {file} went unnoticed"


def test_an_environment_whose_interpreter_is_gone_is_not_believed(finished):
    bootstrap.venv_python(finished / ".venv").unlink()
    assert not bootstrap.is_finished(finished, finished / ".venv")


def test_an_old_python_gets_one_clear_line(monkeypatch):
    """The file's first statements refuse an old Python; here they are run with its version number."""
    source = Path(bootstrap.__file__).read_text()
    monkeypatch.setattr(sys, "version_info", (3, 8, 18, "final", 0))
    with pytest.raises(SystemExit, match=r"^error: this is Python 3\.8 and the course needs 3\.11 or newer; [^\n]*$"):
        exec(compile(source, "bootstrap.py", "exec"), {"__name__": "bootstrap", "__file__": bootstrap.__file__})


def test_python_without_venv_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(bootstrap.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(bootstrap.SetUpError, match="sudo apt install python3-venv"):
        bootstrap.make_venv(tmp_path / ".venv")
    assert not (tmp_path / ".venv").exists()


def test_every_requirement_is_pinned_exactly():
    for name in ("requirements.txt", "constraints.txt"):
        for line in (REPOSITORY / name).read_text().splitlines():
            if line and not line.startswith(("#", "-c ")):
                assert "==" in line and "*" not in line, f"{name}: {line} is not an exact pin"


def test_importing_the_toolkit_does_not_import_torch():
    code = "import sys, toolkit, toolkit.bootstrap; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0, "toolkit imports torch"


def test_from_a_folder_of_wheels(repository_with_venv):
    """pip takes them from there and asks no index; the default model is kept while they are at hand."""
    stick = repository_with_venv.parent / "stick"
    shutil.move(repository_with_venv / "wheels", stick)
    (repository_with_venv / "toolkit" / "models").mkdir()
    model = "def default_model_folder():\n    import os\n    print('model from', os.environ['PIP_FIND_LINKS'])\n"
    (repository_with_venv / "toolkit" / "models" / "default.py").write_text(model)
    done = set_up(repository_with_venv, "bootstrap_offline.py", str(stick), driver=True)
    assert done.returncode == 0, f"the set-up failed:\n{done.stdout}{done.stderr}"
    assert installed(repository_with_venv) == "1.0"
    assert f"model from {stick}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "error: set-up: nowhere: no wheels are there; name the folder wheels"),
        ([], "error: set-up: name the folder wheels that make wheelhouse filled, and nothing else"),
        (["one", "two"], "error: set-up: name the folder wheels that make wheelhouse filled, and nothing else"),
    ],
)
def test_what_cannot_be_meant_is_one_line(repository, arguments, said):
    """And nothing has been begun."""
    done = set_up(repository, "bootstrap_offline.py", *arguments)
    assert done.returncode == 1 and done.stderr.startswith(said) and len(done.stderr.splitlines()) == 1
    assert not (repository / ".venv").exists()
