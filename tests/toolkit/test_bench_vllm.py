"""vLLM in the comparison, where there is no vLLM: the process, its protocol and its troubles, with a stand-in."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from toolkit.commands.bench import __main__ as bench
from toolkit.commands.bench import vllm_engine, vllm_process
from toolkit.commands.bench.__main__ import engines_for, main
from toolkit.commands.bench.cases import Case, make_cases
from toolkit.commands.bench.engine_runner import NAMES, EngineSpec, NotHere
from toolkit.commands.bench.vllm_engine import VllmEngine, vllm_config
from toolkit.commands.bench.vllm_process import VllmError, VllmProcess, VllmPython
from toolkit.errors import UserError
from toolkit.models.shapes import SHAPES
from toolkit.recordings import read_recording

FAKE = Path(__file__).with_name("fake_vllm")
CASE = Case("tiny", "equal", 12, 259, smoke=True)
ASYNC = EngineSpec.named("vllm-async")


@pytest.fixture
def python(tmp_path):
    """Makes a program that stands for the Python that has vLLM; it prints something before anything else."""

    def make(trouble="", has_vllm=True):
        site = tmp_path / "site"
        for name in ("torch.py", "vllm.py"):
            (site / name).parent.mkdir(exist_ok=True)
            (site / name).write_bytes((FAKE / name).read_bytes())
        if has_vllm:
            (site / "vllm-0.1.dist-info").mkdir(exist_ok=True)
            (site / "vllm-0.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.1\n")
        program = tmp_path / "python-with-vllm"
        lines = [
            "#!/bin/sh",
            f"export PYTHONPATH='{site}' FAKE_VLLM='{trouble}'",
            "printf 'a greeting of the cluster'",
            f"exec '{sys.executable}' \"$@\"",
        ]
        program.write_text("\n".join(lines) + "\n")
        program.chmod(0o755)
        return VllmPython(str(program), required=True, folder=tmp_path / "vllm")

    return make


@pytest.fixture
def started(python):
    """Makes an engine; whatever is still running at the end is ended."""
    engines = []

    def make(trouble="", who=ASYNC, **changes):
        engines.append(VllmEngine(who, replace(python(trouble), **changes)))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def is_alive(process: VllmProcess) -> bool:
    return process.process.poll() is None


@pytest.mark.parametrize("trouble", ["", "noise"])
def test_a_case_is_served(started, trouble):
    """Each prompt's own tokens, each token with its moment; whatever is printed in between is no answer."""
    engine = started(trouble)
    engine.prepare(CASE)
    run = engine.run(CASE)
    firsts = [item.prompt_ids[-1] for item in CASE.items]
    assert run.outputs == [list(range(first, first + 12)) for first in firsts]
    assert all(stamps == sorted(stamps) and stamps[0] > 0 for stamps in run.stamps)
    assert run.ttft_ms == sorted(run.ttft_ms) and len(set(run.ttft_ms)) == 4, "one prompt a step"
    assert run.steps == 15 and run.active is None, "12 tokens, and the last request starts 3 steps later"


def test_what_a_row_says_of_it(started):
    """Kernel, version and options; the numbers of processes is what vLLM was told."""
    for name, expected in (("vllm-async", "True 1"), ("vllm-sync-split", "False 2")):
        engine = started(who=EngineSpec.named(name))
        engine.prepare(CASE)
        mode, processes = expected.split()
        assert engine.attention == "FLASH_ATTN, version 3"
        assert engine.details["version"] == "vllm 0.1, torch 0.1"
        assert engine.details["options"] == (
            f"async_scheduling={mode} compilation=3 cuda_graphs=FULL{processes} max_num_seqs=4 "
            "max_num_batched_tokens=16384 v2_runner=None"
        )


def test_one_start_serves_what_fits(started):
    """Shorter cases and fewer rows use the engine that is there; a larger case gets a new one, and the old one ends."""
    engine = started()
    large = Case("tiny", "equal", 600, 259, batch=6)
    engine.prepare(large)
    first = engine.process
    for case in (replace(large, new_tokens=20), replace(large, batch=2), replace(large, batch=2, new_tokens=1800)):
        engine.prepare(case)
        assert engine.process is first, case
        assert len(engine.run(replace(case, new_tokens=4)).outputs) == case.rows
    for case in (replace(large, batch=7, new_tokens=20), replace(large, batch=7, new_tokens=700)):
        before = engine.process
        engine.prepare(case)
        assert engine.process is not before and not is_alive(before) and is_alive(engine.process), case


def test_the_profiler_looks_on(started):
    """While all rows decode; the share is read from the trace; requests that end too early are told."""
    engine = started()
    engine.prepare(CASE)
    seen = engine.activity(replace(CASE, new_tokens=200))
    assert seen.kernel_active == 0.75 and seen.gpu_active is None and seen.host_ms is None
    assert not list(engine.vllm.folder.glob("*trace*"))
    with pytest.raises(VllmError, match="RuntimeError: the requests ended while the GPU was watched"):
        engine.activity(replace(CASE, new_tokens=40))


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (
            "dies",
            r"ended with exit status 3; its log, \S+, ends: .*most recent call last\): \| CUDA error: an illegal",
        ),
        ("hangs", r"the answer to 'run' did not come within 0.5 s; its log, \S+, ends: .*FlashAttention version 3"),
        ("refuses", r"^ValueError: No available memory for the cache blocks. \(its log: \S+vllm-async-tiny.log\)$"),
        ("small cache", r"RuntimeError: its KV cache has room for 16 tokens, and 304 are needed"),
        ("overrules", r"RuntimeError: it overruled async_scheduling=True"),
        ("no gpu", r"RuntimeError: it needs an NVIDIA GPU, and its torch sees none"),
    ],
)
def test_troubles_are_told_in_one_line(started, monkeypatch, trouble, says):
    """What happened, and the end of the log or where it is; the process is gone."""
    monkeypatch.setattr(vllm_engine, "RUN_SECONDS", 0.5 if trouble == "hangs" else 60.0)
    engine = started(trouble)
    with pytest.raises(VllmError, match=says) as caught:
        engine.prepare(CASE)
    assert "\n" not in str(caught.value)
    assert engine.process.ended and not is_alive(engine.process)
    engine.close()


def test_it_is_left_out_where_it_was_not_asked_for(started):
    """Named on the command line it is an error; otherwise it cannot run here, which is a note."""
    with pytest.raises(NotHere, match="it needs an NVIDIA GPU"):
        started("no gpu", required=False).prepare(CASE)


def test_an_orderly_end(started):
    """Closed, vLLM is shut down and the process ends by itself; closing twice does nothing."""
    engine = started()
    engine.prepare(CASE)
    process = engine.process
    for _ in range(2):
        engine.close()
    assert process.process.returncode == 0 and "shut down" in process.log.read_text()


def test_it_ends_with_the_process_that_started_it(python):
    """The end of its input ends it, in the middle of a run and with all that it has started."""
    process = VllmProcess(python("hangs").path, python("hangs").folder / "log")
    process.ask("start", 60.0, **start_arguments(process.log.parent))
    process.write('{"do": "run", "prompts": [[1]], "new_tokens": 2}\n')
    assert is_alive(process)
    process.stdin.close()
    assert process.process.wait(20) == -9
    with pytest.raises(VllmError, match="ended with exit status -9"):
        process.ask("run", 20.0, prompts=[[1]], new_tokens=1)


def start_arguments(folder: Path) -> dict:
    arguments = {"kv_cache_memory_bytes": 2**20, "async_scheduling": True, "max_num_seqs": 1, "max_model_len": 64}
    return {
        "folder": str(folder / "tiny"),
        "config": {},
        "processes": 1,
        "cache_tokens": 16,
        "arguments": arguments,
    }


def test_its_memory_is_what_the_case_needs(started, monkeypatch):
    """A share of the GPU for weights, cache and some work space; refused before the start if less is free."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (40 * 2**30, 80 * 2**30))
    monkeypatch.setattr(vllm_engine, "release_memory", lambda: None)
    asked = {}

    def never(python, log):
        raise VllmError("not started")

    monkeypatch.setattr(vllm_engine, "VllmProcess", never)
    engine = started()
    monkeypatch.setattr(engine, "share", lambda held: asked.update(held=held) or VllmEngine.share(engine, held))
    with pytest.raises(VllmError, match="not started"):
        engine.start(Case("8b", "equal", 1024, 128256))
    # 15.0 GiB of weights, and 32 rows of 1,088 + 16 tokens of 128 KiB.
    assert asked["held"] / 2**30 == pytest.approx(14.96 + 32 * 1104 * 128 / 2**20, abs=0.01)
    with pytest.raises(VllmError, match="needs 41 GiB of the GPU's memory and 40 are free; name fewer engines or rows"):
        engine.start(Case("8b", "equal", 256, 128256, batch=550))


def test_it_gets_the_shape_of_the_others():
    """The configuration that vLLM reads is the shape that our model has."""
    for name in ("8b", "1b"):
        made, shape = vllm_config(name), SHAPES[name]
        assert made["architectures"] == ["LlamaForCausalLM"] and made["rope_theta"] == 500000.0
        for key in ("hidden_size", "num_hidden_layers", "num_key_value_heads", "head_dim", "vocab_size"):
            assert made[key] == getattr(shape, key), key
        assert made["tie_word_embeddings"] == (name == "1b")


# --- the option ---


def test_a_program_that_is_none(tmp_path):
    """Not there, not to be run, or a folder: one line, before anything is started."""
    (tmp_path / "plain.txt").write_text("text")
    for option in ("/no/such/python", str(tmp_path / "plain.txt"), str(tmp_path)):
        with pytest.raises(UserError, match="is no program; give the Python that has vLLM") as caught:
            VllmPython.find(option, required=False)
        assert "\n" not in str(caught.value)


def test_a_program_without_vllm(tmp_path, python, monkeypatch, capsys):
    """A Python without vLLM, another program, a broken one: an error where vLLM was named, else a note."""
    monkeypatch.setattr(vllm_process, "FOLDER", tmp_path / "vllm")
    broken = tmp_path / "broken"
    broken.write_bytes(b"\0\1\2")
    broken.chmod(0o755)
    programs = {
        python(has_vllm=False).path: "has no vLLM",
        "true": "its process ended with exit status 0",
        str(broken): "broken cannot be started: Exec format error",
    }
    for option, says in programs.items():
        with pytest.raises(UserError, match=f"^--vllm: .*{says}") as caught:
            VllmPython.find(option, required=True)
        assert "\n" not in str(caught.value)
        assert VllmPython.find(option, required=False) is None
        out = capsys.readouterr().out
        assert out.startswith("note: vLLM is left out: ") and says in out and out.count("\n") == 1
    assert VllmPython.find(python().path, required=False) is not None


def test_a_log_that_cannot_be_written(tmp_path, python):
    """One line that names the file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(VllmError, match="file/log cannot be written: (Not a directory|File exists)"):
        VllmProcess(python().path, tmp_path / "file" / "log")


def test_named_without_the_option(monkeypatch):
    """A caller who names vLLM must say where it is."""
    monkeypatch.setattr(sys, "argv", ["bench", "--engines", "ours-async,vllm-async-split"])
    with pytest.raises(UserError, match="^--engines: vllm-async-split needs --vllm, the Python that has vLLM$"):
        main()


def test_who_takes_part(monkeypatch, python):
    """vLLM where it is there and takes part in that workload; beside it, and with many rows, fewer others."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    equal, many, ragged, _ = make_cases(["8b"], ["equal"], [256], {"8b": 9}, [32, 256])[::-1] + make_cases(
        ["8b"], ["ragged", "article"], [], {"8b": 9}
    )

    def names(case, asked, vllm):
        return [str(who) for who in engines_for(case, asked, vllm)]

    there = python()
    assert names(equal, [], None) == list(NAMES[:6]) and "vllm-async" in names(equal, [], there)
    assert names(many, [], there) == ["ours-sync-compiled", "ours-async-compiled", "vllm-async"]
    assert names(ragged, [], there) == names(ragged, [], None) == names(ragged, [*bench.RAGGED_ENGINES], there)
    assert names(equal, ["vllm-sync-split"], there) == ["vllm-sync-split"] and not names(ragged, ["vllm-sync"], there)


@pytest.mark.long
@pytest.mark.skipif(torch.cuda.is_available(), reason="a smaller edition for machines without a GPU")
def test_the_whole_command(tmp_path, python, monkeypatch, capsys):
    """vLLM beside ours: its rows are written with what they are of, and the recording does not say where vLLM lies."""
    monkeypatch.setattr(vllm_process, "FOLDER", tmp_path / "vllm")
    words = ["--engines", "ours-async,vllm-async,vllm-sync-split", "--workload", "equal,ragged", "--rounds", "2"]
    words += ["--folder", str(tmp_path)]
    for option in (["--vllm", python().path], [f"--vllm={python().path}"]):
        monkeypatch.setattr(sys, "argv", ["bench", *option, *words])
        code, out = main(), capsys.readouterr().out
        assert code == 0, out
        recording = read_recording(tmp_path / "simulated" / "peers.json")
        assert "PYTHON --engines" in recording["command"] and python().path not in recording["command"]
    seen = {(row["engine"], row["mode"], row["processes"], row["workload"]): row for row in recording["rows"]}
    theirs = {("vllm", "async", 1, "equal"), ("vllm", "sync", 2, "equal")}
    assert set(seen) == theirs | {("ours", "async", 1, "equal"), ("ours", "async", 1, "ragged")}
    for key in theirs:
        assert seen[key]["version"] == "vllm 0.1, torch 0.1" and seen[key]["compiled"] and seen[key]["rounds"] == 2
        assert seen[key]["same_tokens"] is None, "weights of its own"
    assert "vllm sync, compiled, two processes" in out


@pytest.mark.long
@pytest.mark.skipif(torch.cuda.is_available(), reason="a smaller edition for machines without a GPU")
@pytest.mark.parametrize("named", [True, False])
def test_the_command_where_vllm_cannot_start(tmp_path, python, monkeypatch, capsys, named):
    """Our rows are there all the same; the exit code says whether vLLM was wanted."""
    monkeypatch.setattr(vllm_process, "FOLDER", tmp_path / "vllm")
    words = ["--vllm", python("no gpu").path, "--workload", "equal", "--rounds", "1", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["bench", *words, *["--engines", "ours-async,vllm-async"] * named])
    code, printed = main(), capsys.readouterr()
    assert code == named
    engines = {row["engine"] for row in read_recording(tmp_path / "simulated" / "peers.json")["rows"]}
    assert engines == ({"ours"} if named else {"ours", "transformers"})
    if named:
        assert "error: vllm-async, tiny, equal, 4 rows, 12 new tokens: VllmError: RuntimeError: it needs" in printed.err
    else:
        assert "note: vllm-async is left out: RuntimeError: it needs an NVIDIA GPU" in printed.out
