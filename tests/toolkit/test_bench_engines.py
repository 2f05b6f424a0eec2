"""The comparison's engines, run for real where there is no GPU: transformers' on the CPU, ours on the simulated GPU."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import transformers.modeling_flash_attention_utils as flash_utils
from transformers import PreTrainedModel

from toolkit import device
from toolkit.commands.bench import cases, flash_for_transformers, theirs
from toolkit.commands.bench.__main__ import main
from toolkit.commands.bench.cases import Case
from toolkit.commands.bench.engine_runner import EngineSpec, Models, NotHere
from toolkit.commands.bench.flash_for_transformers import FLASH, Attention, best_attention, paged, use_torch_flash
from toolkit.commands.bench.ours import OurEngine
from toolkit.commands.bench.settings import settings
from toolkit.commands.bench.theirs import TheirEngine
from toolkit.commands.host_work import HostWork
from toolkit.errors import UserError
from toolkit.recordings import read_recording

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a smaller edition for machines without a GPU")

EQUAL = Case("tiny", "equal", 10, 259, smoke=True)
RAGGED = Case("tiny", "ragged", 24, 259, smoke=True)
MIXED = Case("tiny", "mixed", 16, 259, smoke=True)


def right_tokens(case: Case) -> list[list[int]]:
    """What `generate` answers, cut behind the first token that ends a sequence."""
    model = Models("cpu").get("tiny", changed=False)
    model.generation_config.eos_token_id = None
    outputs = []
    for item in case.items:
        ids = torch.tensor([item.prompt_ids])
        mask = torch.ones_like(ids)  # or the prompts' zeros are taken for padding
        full = model.generate(ids, attention_mask=mask, max_new_tokens=item.max_tokens, do_sample=False, pad_token_id=0)
        tokens = full[0, len(item.prompt_ids) :].tolist()
        ends = [i for i, token in enumerate(tokens) if token in case.eos_ids]
        outputs.append(tokens[: ends[0] + 1] if ends else tokens)
    return outputs


@without_gpu
@pytest.mark.parametrize("name", ["ours-sync", "ours-async", pytest.param("transformers-sync", marks=pytest.mark.long)])
def test_each_side_serves_every_workload(name, monkeypatch):
    """All at once, arriving over time, ended by tokens: the right tokens, each with its moment, twice in a row."""
    monkeypatch.setattr(cases, "EOS_ONE_IN", 9)
    if name.startswith("ours"):
        device.accelerator.reset("eager", on_race="raise")
    models, who = Models("cpu"), EngineSpec.named(name)
    engine = (OurEngine if who.engine == "ours" else TheirEngine)(who, models)
    for case in (EQUAL, replace(EQUAL, new_tokens=4), replace(EQUAL, smoke=False, batch=6), RAGGED):
        right = right_tokens(case)
        engine.prepare(case)
        for _ in range(2):
            # The other side has used the model in between.
            models.get("tiny", changed=False).set_attn_implementation("eager")
            run = engine.run(case)
            assert run.outputs == right, f"{name}, {case}: not the tokens of generate"
            assert all(stamps == sorted(stamps) for stamps in run.stamps) and min(run.ttft_ms) > 0
            assert [round(due - run.due[0], 6) for due in run.due] == [round(time, 6) for time in case.arrivals]
            assert run.active is None if name.startswith("transformers") else 0 < run.active <= 1
            assert run.steps >= case.new_tokens if case.workload == "equal" else run.steps > 0
    assert any(len(output) < item.max_tokens for output, item in zip(right, RAGGED.items, strict=True)), (
        "none ended early"
    )
    assert engine.attention
    engine.close()


@without_gpu
def test_our_activity_comes_from_the_timeline():
    """Asynchronous, a batch is always on the device; synchronous, the host's turns are missing."""
    device.accelerator.reset("eager", on_race="raise")
    seen = {}
    for mode in ("sync", "async"):
        engine = OurEngine(EngineSpec.named(f"ours-{mode}"), Models("cpu"))
        case = replace(EQUAL, new_tokens=240)
        engine.prepare(case)
        seen[mode] = engine.activity(case)
        assert not engine.engine.has_work
    assert seen["async"].gpu_active > 0.99 > 0.9 > seen["sync"].gpu_active, seen
    assert seen["async"].device_ms > 1 and seen["async"].host_ms > 0.1 and seen["async"].kernel_active is None


@without_gpu
def test_the_hosts_work_counts_while_the_batch_is_full():
    """Under a mixed load these are the steps in which others wait for a place: neither the first nor the last ones."""
    device.accelerator.reset("eager", on_race="raise")
    engine = OurEngine(EngineSpec.named("ours-async"), Models("cpu"))
    engine.prepare(MIXED)
    counted, in_step = [], HostWork.step

    def step(self):
        counted.append((len(self.engine.scheduler.running), len(self.engine.scheduler.waiting)))
        return in_step(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HostWork, "step", step)
        run = engine.run(MIXED)
    assert run.outputs == right_tokens(MIXED)
    assert 0 < len(counted) < run.steps and min(waiting for _, waiting in counted) > 0, counted
    assert max(waiting for _, waiting in counted) == 2 * MIXED.rows, "from the step on that follows the first ones in"
    # On the virtual clock a step of chapter 9 costs 0.8 + 0.5 ms, 0.002 for each row, and what its calls take.
    assert 1.3 < run.host_ms < 1.6, run.host_ms
    assert engine.run(replace(EQUAL, new_tokens=4)).host_ms is None, "no request waits"
    engine.close()


@pytest.mark.long
@without_gpu
def test_their_activity_is_taken_while_all_rows_decode(monkeypatch):
    """Timeline and profiler look on for their steps, and the rest is served; requests that end too early are told."""
    looked = []

    def look(work):
        before = engine.manager.current_batch
        work()
        looked.append((before, engine.manager.current_batch))
        return 0.5

    monkeypatch.setattr(theirs, "kernel_share", look)
    monkeypatch.setattr(theirs, "start_profiler", lambda: None)
    engine = TheirEngine(EngineSpec.named("transformers-sync"), Models("cpu"))
    engine.prepare(replace(EQUAL, new_tokens=300))
    seen = engine.activity(replace(EQUAL, new_tokens=300))
    assert seen.kernel_active == 0.5 and 0 < seen.gpu_active < 1 and seen.device_ms > 0 and seen.host_ms is None
    [(before, after)] = looked
    assert before >= theirs.SETTLE_STEPS + theirs.TIMELINE_STEPS and after - before >= theirs.PROFILED_STEPS, looked
    assert "compute_batch" not in vars(engine.manager.batch_processor.model_runner), "the markers are gone"
    with pytest.raises(RuntimeError, match="ended while the GPU was watched"):
        engine.activity(replace(EQUAL, new_tokens=90))
    engine.close()


@without_gpu
def test_what_needs_a_gpu_says_so():
    """transformers' asynchronous mode and our compiled forward: left out, not failed."""
    for name in ("transformers-async", "ours-async-compiled"):
        who = EngineSpec.named(name)
        with pytest.raises(NotHere, match="GPU"):
            (OurEngine if who.engine == "ours" else TheirEngine)(who, Models("cpu")).prepare(EQUAL)


def plain_varlen(
    q,
    k,
    v,
    cu_seqlens_q,
    cu_seqlens_k,
    max_seqlen_q,
    max_seqlen_k,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
):
    """What torch's FlashAttention-2 computes, for machines without it."""
    assert causal and tuple(window_size) == (-1, -1)
    out = torch.zeros_like(q)
    starts_q, starts_k = cu_seqlens_q.tolist(), cu_seqlens_k.tolist()
    for a, b, c, d in zip(starts_q, starts_q[1:], starts_k, starts_k[1:], strict=False):
        mask = torch.ones(b - a, d - c, dtype=torch.bool).tril(d - c - (b - a))
        row = (t.transpose(0, 1)[None] for t in (q[a:b], k[c:d], v[c:d]))
        out[a:b] = F.scaled_dot_product_attention(*row, mask, scale=softmax_scale, enable_gqa=True)[0].transpose(0, 1)
    return out


@pytest.fixture
def lent_kernel(monkeypatch):
    """transformers as it finds torch's kernel; afterwards as it was."""
    monkeypatch.setattr(flash_utils, "_lazy_imports", flash_utils._lazy_imports)
    monkeypatch.setattr(flash_utils, "_loaded_implementation", None)
    monkeypatch.setattr(PreTrainedModel, "_flash_attn_can_dispatch", PreTrainedModel._flash_attn_can_dispatch)
    if not torch.cuda.is_available():
        monkeypatch.setattr(flash_for_transformers, "torch_flash_varlen", plain_varlen)
    yield
    flash_utils._loaded_implementation = None


@pytest.mark.long
@without_gpu
def test_the_lent_kernel_is_what_transformers_calls(monkeypatch, lent_kernel):
    """This release of transformers finds the kernel where it is put, and answers with it as with its own attention."""
    calls = []

    def counted(*arguments, **options):
        calls.append(len(arguments))
        return plain_varlen(*arguments, **options)

    monkeypatch.setattr(flash_for_transformers, "torch_flash_varlen", counted)
    # It looks at the parameters' names, and leaves out what the kernel does not take.
    counted.__wrapped__ = plain_varlen
    use_torch_flash()

    def lent(model):
        model.set_attn_implementation(paged(FLASH))
        return Attention(paged(FLASH), "lent", graphs=False, decode_path=False)

    monkeypatch.setattr(theirs, "best_attention", lent)
    engine = TheirEngine(EngineSpec.named("transformers-sync"), Models("cpu"))
    engine.prepare(EQUAL)
    calls.clear()
    assert engine.run(EQUAL).outputs == right_tokens(EQUAL)
    assert len(calls) == 2 * engine.manager.current_batch, "once in each of the two layers and each forward"
    engine.close()


def test_a_release_that_is_built_differently(monkeypatch, lent_kernel):
    """Where the place for the kernel is gone, that is said, and nothing is half changed."""
    monkeypatch.delattr(flash_utils, "_lazy_imports")
    with pytest.raises(RuntimeError, match="has no _lazy_imports"):
        use_torch_flash()


@without_gpu
def test_the_check_of_the_kernel(monkeypatch, lent_kernel):
    """A right kernel passes; one that is not causal, or mixes rows up, does not."""
    check = flash_for_transformers.check_kernel
    check(torch.device("cpu"))
    for wrong in (
        lambda q, *rest, **options: plain_varlen(q.flip(0), *rest, **options),
        lambda q, k, v, starts_q, starts_k, *rest, **options: plain_varlen(
            q, k, v, starts_q, starts_q, *rest, **options
        ),
    ):
        monkeypatch.setattr(flash_for_transformers, "torch_flash_varlen", wrong)
        with pytest.raises(RuntimeError, match="differs from plain attention"):
            check(torch.device("cpu"))


@without_gpu
def test_on_a_cpu_transformers_has_a_mask():
    """No flash kernel, no graphs; the name says what it is."""
    attention = best_attention(Models("cpu").get("tiny", changed=False))
    assert attention.kernel == "torch sdpa with a mask" and not attention.graphs


@pytest.mark.gpu
def test_lent_kernel_on_a_gpu(lent_kernel):
    """torch's own FlashAttention-2 computes what plain attention does."""
    flash_for_transformers.check_kernel(torch.device("cuda"))


@pytest.mark.parametrize(
    ("installed", "broken", "taken", "decode_path"),
    [
        ({3, 2}, set(), "flash_attention_3", True),
        ({3, 2}, {"flash_attention_3"}, "flash_attention_2", True),
        (set(), set(), "flash_attention_2", False),
        (set(), {"flash_attention_2"}, "sdpa", False),
        ({2}, {"flash_attention_2"}, "sdpa", False),
    ],
)
def test_the_best_attention_on_a_gpu(installed, broken, taken, decode_path, monkeypatch, lent_kernel):
    """Packages first, then torch's own kernel, then a mask; what is installed and does not work is passed over."""
    for version in (2, 3):
        answer = version in installed
        name = f"is_flash_attn_{version}_available"
        monkeypatch.setattr(flash_for_transformers, name, lambda kernels_fallback_ok, answer=answer: answer)
    monkeypatch.setattr(flash_for_transformers, "check_kernel", lambda device: None)
    tried = []

    def switch(name):
        tried.append(name)
        if name.removeprefix("paged|") in broken:
            raise ImportError("the wheel is for another GPU")

    attention = best_attention(SimpleNamespace(device=torch.device("cuda"), set_attn_implementation=switch))
    assert attention.implementation == tried[-1] == paged(taken), tried
    assert attention.decode_path == decode_path and attention.graphs == (taken != "sdpa")


def test_settings_for_a_gpu():
    """Room for every request, our limits; small padding where sizes repeat; a block table only for kernels with one."""
    gathered = Attention("", "", graphs=True, decode_path=False)
    who = EngineSpec.named("transformers-async")
    for workload, tokens, interval in (("equal", 1024, 4096), ("article", 8192, 32768), ("ragged", 512, 0)):
        case = Case("8b", workload, tokens, 128256)
        made = settings(case, who, gathered)
        assert made.use_async_batching and made.use_cuda_graph and made.max_blocks_per_request == 0
        assert (made.max_requests_per_batch, made.max_batch_tokens) == (32, 512)
        assert made.num_blocks * 256 >= 32 * (case.longest + 256) and made.kv_padding_interval_size == interval
        table = settings(case, who, replace(gathered, decode_path=True)).max_blocks_per_request
        assert table % 2 == 0 and table * 256 > case.longest
    assert (
        settings(EQUAL, EngineSpec.named("transformers-sync"), replace(gathered, graphs=False)).use_cuda_graph is None
    )


@pytest.mark.long
@without_gpu
def test_without_a_gpu_it_is_a_smoke_test(tmp_path, monkeypatch, capsys):
    """The whole command: everything runs, output and recording say that nothing was measured, exit code 0."""
    monkeypatch.setattr(sys, "argv", ["bench", "--rounds", "1", "--folder", str(tmp_path)])
    code, out = main(), capsys.readouterr().out
    assert code == 0, out
    assert out.startswith("SMOKE TEST") and out.count("SMOKE TEST") == 2
    recording = read_recording(tmp_path / "simulated" / "peers.json")
    assert recording["command"] == f"make bench BENCH='--rounds 1 --folder {tmp_path}'"
    rows = recording["rows"]
    assert {row["clock"] for row in rows} == {"none: smoke test"}
    seen = {(row["engine"], row["mode"], row["workload"]) for row in rows}
    engines = (("ours", "sync"), ("ours", "async"), ("transformers", "sync"))
    assert seen == {(*engine, workload) for engine in engines for workload in ("equal", "ragged", "mixed")}
    assert {row["same_tokens"] for row in rows if row["workload"] == "equal"} == {1.0}, "fp32: all engines agree"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--engines", "vllm"], "--engines: 'vllm' is none of ours-sync"),
        (["--workload", "chat"], "--workload: 'chat' is none of equal, ragged, mixed, article"),
        (["--rounds", "0"], "--rounds: 0: take at least 1"),
        (["--rows", "32;64"], "--rows: '32;64' is no list of numbers such as 32,256"),
        (["--rows", "32,0"], "--rows: 0: take at least 1"),
        (["--vllm", "/no/such/python"], "--vllm: '/no/such/python' is no program; give the Python that has vLLM"),
    ],
)
def test_wrong_options_are_refused_in_one_line(arguments, complaint, monkeypatch):
    """A user's error, before anything is loaded or written."""
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(UserError, match=complaint) as caught:
        main()
    assert "\n" not in str(caught.value)
