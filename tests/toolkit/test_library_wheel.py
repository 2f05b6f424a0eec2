"""The library as a user gets it: built with pip, installed, and run by a process that cannot see this repository."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import textwrap
import tomllib
import urllib.request
import zipfile
from pathlib import Path

import pytest

from tests.toolkit.test_readme import README
from toolkit.commands.library.gather import gather, place
from toolkit.course import ROOT
from toolkit.models import load_model

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
COMMANDS = sorted(PROJECT["scripts"])
MODEL = "a-folder-or/name-on-the-hub"  # as the README calls it


def pip(*arguments, **options) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder that the wheel is installed in, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--target", folder, wheel)
    return folder


def run(installed: Path, folder: Path, *command: str) -> subprocess.CompletedProcess:
    """Run a command of Python's that finds the library, and not the repository."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "COURSE_CODE": "mine"}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def tiny():
    return load_model("tiny")


@pytest.fixture
def model_folder(tiny, tmp_path) -> Path:
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_the_wheel_holds_one_package_and_all_of_it(wheel):
    """One top-level name, the modules that were gathered and the file of prompts, each readable, without markers.

    Building it has left nothing in the repository.
    """
    with zipfile.ZipFile(wheel) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" not in name}
        (top_level,) = (name for name in archive.namelist() if name.endswith("/top_level.txt"))
        assert archive.read(top_level) == b"stepahead\n"
    modules = {place(name, module).as_posix() for name, module in gather(ROOT).items()}
    assert texts.keys() == modules | {"stepahead/toolkit/prompts.jsonl"}
    for name, text in texts.items():
        assert "SOLUTION" not in text, name
        if name.endswith(".py"):
            compile(text, name, "exec")
            assert not re.search(r"^\s*(from|import) (toolkit|solutions|ch\d\d_)", text, re.M), name
    left = ("build/lib", "dist", "stepahead", "stepahead.egg-info")  # build/ itself may hold the site
    assert not [name for name in left if (ROOT / name).exists()]
    assert "stepahead/ch09_persistent_batch/build.py" in modules and "stepahead/toolkit/simgpu/clock.py" in modules


RACE = """
def {name}():
    import torch

    side, x = torch.cuda.Stream(), torch.ones(8, device="cuda")
    with torch.cuda.stream(side):
        x.sum()
"""


def test_pytest_offers_the_simulated_gpu_and_loads_it_only_if_asked_to(installed, tmp_path):
    """By the wheel's entry point, without -p. A run that does not ask for it must not wait for torch."""
    (tmp_path / "test_plain.py").write_text(
        "import sys\n\n\ndef test_plain():\n    assert 'torch' not in sys.modules\n"
    )
    (tmp_path / "test_race.py").write_text(RACE.format(name="test_race"))
    done = run(installed, tmp_path, "-m", "pytest", "-q", "test_plain.py")
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout
    done = run(installed, tmp_path, "-m", "pytest", "-q", "--simgpu", "test_race.py")
    assert done.returncode == 1 and "FAILED test_race.py::test_race - Failed: RACE on (8,)" in done.stdout, done.stdout


@pytest.mark.long
def test_the_simulated_gpu_runs_a_program(installed, tmp_path):
    (tmp_path / "program.py").write_text(RACE.format(name="main") + "\n\nmain()\n")
    done = run(installed, tmp_path, "-m", "stepahead.toolkit.simgpu", "--seeds", "1", "--html", "pages", "program.py")
    assert done.returncode == 1 and "simgpu: 1 race, 1 missing edge" in done.stderr, done.stderr
    assert "1st writes" in (tmp_path / "pages" / "random-0.html").read_text()


# Runs the README's lines, and asks every command for help, in one process; prints what came of it as JSON.
PROBE = """
import importlib.util, io, json, sys
from contextlib import redirect_stdout
from importlib import metadata
code, printed, help = sys.argv[1], [], {}
exec(code, {"print": lambda *words: printed.append(words)})
for command in metadata.entry_points(group="console_scripts"):
    if command.name.startswith("stepahead"):
        sys.argv = [command.name, "--help"]
        with redirect_stdout(io.StringIO()) as out:
            try:
                command.load()()
            except SystemExit as end:
                help[command.name] = [end.code, out.getvalue()]
course = [name for name in ("toolkit", "solutions", "ch09_persistent_batch") if importlib.util.find_spec(name)]
import stepahead
print(json.dumps([printed, help, course, stepahead.__version__, "matplotlib" in sys.modules]))
"""


def readme_code() -> str:
    section = README.partition("\n## Use it as a library\n")[2].partition("\n## ")[0]
    return textwrap.dedent("".join(re.findall(r"^(?:    .*)?\n", section, re.M))).strip("\n")


@pytest.mark.long
def test_the_readmes_lines_and_the_commands_help(installed, model_folder, tiny, tmp_path):
    """Ten lines give the tokens that `generate` gives; nothing of the repository is found or needed."""
    code = readme_code()
    assert len([line for line in code.splitlines() if line]) <= 10 and MODEL in code
    done = run(installed, tmp_path, "-c", PROBE, code.replace(MODEL, str(model_folder)))
    assert done.returncode == 0, done.stderr[-2000:]
    printed, shown, course, version, has_matplotlib = json.loads(done.stdout)
    for name, prompt in {"sea": "The sea is", "sky": "The sky is"}.items():
        assert "".join(text for request, text in printed if request == name) == answer(tiny, prompt, 32)
    assert sorted(shown) == COMMANDS
    for command, (code, text) in shown.items():
        assert code == 0 and text.startswith(f"usage: {command} ")
    assert course == [] and version == PROJECT["version"] and not has_matplotlib


def answer(tiny, prompt: str, tokens: int) -> str:
    """What transformers' own `generate` says, greedy."""
    inputs = tiny.tokenizer(prompt, return_tensors="pt")
    output = tiny.model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
    return tiny.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.long
def test_the_command_answers_prompts(installed, model_folder, tmp_path):
    """As it lies in the user's bin folder: each prompt once, as JSON Lines, in whatever order they end."""
    prompts = ["One", "Two two", "Three three three"]
    (tmp_path / "my.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    done = run(
        *(installed, tmp_path, installed / "bin" / "stepahead-run"),
        *("--model", str(model_folder), "--prompts", "my.jsonl", "--tokens", "4"),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = sorted(map(json.loads, done.stdout.splitlines()), key=lambda line: line["number"])
    assert [line["prompt"] for line in lines] == prompts
    assert {line["finish_reason"] for line in lines} <= {"length", "eos"}
    assert "tokens in" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tokens", "0"], "TOKENS is '0'"),
        (["--model", "no/such/folder"], "model 'no/such/folder': there is no such folder"),
        (["--model", "tiny", "--prompts", "nowhere.jsonl"], "prompts 'nowhere.jsonl': cannot read it"),
    ],
)
def test_bad_input_is_one_line(installed, tmp_path, arguments, words):
    done = run(installed, tmp_path, installed / "bin" / "stepahead-run", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {words}") and done.stderr.count("\n") == 1


@pytest.mark.long
def test_the_command_serves(installed, model_folder, tmp_path):
    """It says where it listens, answers as `generate` does, and ends with Ctrl-C."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, installed / "bin" / "stepahead-serve", "--model", str(model_folder), "--port", "0"]
    server = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        said = ""
        while "Ctrl-C" not in said:
            said = server.stderr.readline()
            assert said, "it has ended"
        address = re.search(r"http://\S+", said)[0]
        body = {"model": "model", "prompt": "The sea is", "max_tokens": 8, "temperature": 0}
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{address}/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=120) as answered:
            (choice,) = json.load(answered)["choices"]
        server.send_signal(signal.SIGINT)
        assert server.wait(120) == 0
    finally:
        server.kill()
        server.communicate()
    whole = load_model(str(model_folder))
    assert choice["text"] == answer(whole, "The sea is", 8)


def test_without_the_extra_the_server_says_what_is_missing(installed, tmp_path):
    """One line; the interface and the other command need none of it."""
    code = "import sys; sys.modules['fastapi'] = None; from stepahead.serve import main; sys.argv = ['x']; main()"
    done = run(installed, tmp_path, "-c", code)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: stepahead-serve needs fastapi; ") and done.stderr.count("\n") == 1


def backend(hook: str, folder: Path) -> subprocess.CompletedProcess:
    """Call a function of the build backend as pip does, and print what it returns."""
    code = f"import sys; from toolkit.commands.library import backend; print(backend.{hook}(sys.argv[1]))"
    return subprocess.run([sys.executable, "-c", code, folder], cwd=ROOT, capture_output=True, text=True)


def test_an_editable_installation_is_refused_in_one_line(tmp_path):
    done = backend("build_editable", tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("error: stepahead is made from ")
    assert done.stderr.endswith("use: pip install .\n") and done.stderr.count("\n") == 1


@pytest.mark.long
def test_an_sdist_can_be_installed(wheel, tmp_path):
    """It brings all that the wheel is made from, and the wheel made from it is the same."""
    done = backend("build_sdist", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    sdist = tmp_path / done.stdout.splitlines()[-1]
    with tarfile.open(sdist) as archive:
        assert not [name for name in archive.getnames() if "__pycache__" in name or name.endswith(".pyc")]
    pip("install", "--no-deps", "--no-build-isolation", "--target", tmp_path / "site", sdist, cwd=tmp_path)
    with zipfile.ZipFile(io.BytesIO(wheel.read_bytes())) as archive:
        for name in archive.namelist():
            if ".dist-info/" not in name:
                assert (tmp_path / "site" / name).read_bytes() == archive.read(name), name
