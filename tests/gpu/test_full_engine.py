"""The full engine on a GPU: the library's tokens, no hidden wait, and integrity whatever happens in flight."""

import copy
import random
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from ch02_continuous_batching import Batch, SamplingParams
from ch04_events.build import build as chapter_4
from ch05_double_buffering.build import build as chapter_5
from ch06_graphs.build import build as chapter_6
from ch07_carry_over.build import build as chapter_7
from ch08_full_engine import FullEngine
from tests.ch08_full_engine import test_sweeps as sweeps
from tests.ch08_full_engine.scripted import PROMPTS, Scripted, expected, new_engine
from tests.gpu.bfloat16 import engine_model, gaps, library_model, merged_model
from tests.helpers import tiny_model
from toolkit.commands.ledger import Ledger
from toolkit.paged_attention import attention_kernel_name

pytestmark = pytest.mark.gpu


def random_prompts(name: str, count: int, longest: int, seed: int = 0) -> list[list[int]]:
    """Of unequal lengths; every other one begins with the same 20 tokens."""
    rng, vocabulary = random.Random(seed), library_model(name).config.vocab_size
    common = [rng.randrange(3, vocabulary) for _ in range(20)]
    own = [[rng.randrange(3, vocabulary) for _ in range(rng.randint(1, longest))] for _ in range(count)]
    return [common + prompt if i % 2 else prompt for i, prompt in enumerate(own)]


def answers_of(engine: Any, prompts: list[list[int]], max_tokens: int) -> list[list[int]]:
    ledger = Ledger()
    for i, prompt in enumerate(prompts):
        engine.add_request(str(i), prompt, SamplingParams(max_tokens=max_tokens, ignore_eos=True))
        ledger.add(str(i))
    answers: dict[str, list[int]] = {}
    while engine.has_work:
        outputs = engine.step()
        ledger.take(outputs)
        answers |= {out.request_id: list(out.output_ids) for out in outputs if out.finish_reason is not None}
    ledger.check_idle(engine)
    assert ledger.ended == {"length": len(prompts)}, f"ends: {dict(ledger.ended)}"
    return [answers[str(i)] for i in range(len(prompts))]


# --- the library's tokens ---

SIZES = {  # model -> (prompts, longest, new tokens, limits: prompts come in chunks, and some requests are preempted)
    "small": (12, 90, 60, {"num_blocks": 60, "block_size": 16, "max_rows": 8, "token_budget": 64, "max_length": 192}),
    "1b": (6, 300, 32, {"num_blocks": 80, "block_size": 16, "max_rows": 4, "token_budget": 256, "max_length": 400}),
}


@pytest.mark.parametrize("asynchronous", [True, False], ids=["asynchronous", "synchronous"])
@pytest.mark.parametrize("compiled", [False, True], ids=["as loaded", "merged and compiled"])
@pytest.mark.parametrize("name", SIZES)
def test_the_librarys_model_would_have_taken_these_tokens(name: str, compiled: bool, asynchronous: bool):
    """In bfloat16, forced upon the library's model, each token is the most likely one or as good as that."""
    count, longest, new_tokens, limits = SIZES[name]
    prompts = random_prompts(name, count, longest)
    model = (merged_model if compiled else engine_model)(name)
    engine = FullEngine(model, asynchronous=asynchronous, compiled=compiled, **limits)
    if torch.cuda.get_device_capability() >= (8, 0):
        assert attention_kernel_name(engine.executor.forward.storage) == "triton paged attention"
    answers = answers_of(engine, prompts, new_tokens)
    seen = gaps(name, prompts, answers)
    warnings.warn(f"{name}, gaps to the library's best tokens: {seen}", stacklevel=1)
    seen.assert_small()
    mixed_up = gaps(name, prompts, answers[1:] + answers[:1])
    assert mixed_up.mean > 1, f"somebody else's answer must look wrong, or this test sees nothing: {mixed_up}"


def test_where_generate_goes_another_way_it_was_nearly_a_tie():
    """At the first token at which `generate` and the engine differ, the library finds both about equally likely."""
    count, longest, new_tokens, limits = SIZES["small"]
    prompts = random_prompts("small", count, longest)
    answers = answers_of(FullEngine(engine_model("small"), **limits), prompts, new_tokens)
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([prompt], device="cuda")
        result = library_model("small").generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, do_sample=False
        )
        theirs = result[0, len(prompt) :].tolist()
        if theirs != answer:
            first = next(i for i in range(new_tokens) if theirs[i] != answer[i])
            gaps("small", [prompt], [answer[: first + 1]]).assert_small()


@pytest.mark.parametrize("prefix_sharing", [True, False], ids=["shared", "unshared"])
@pytest.mark.parametrize("asynchronous", [True, False], ids=["asynchronous", "synchronous"])
def test_float32_equals_generate(asynchronous: bool, prefix_sharing: bool):
    """In float32 the tokens are exactly those that `generate` gives on the CPU; arrivals by step, roomy and tight."""
    for num_blocks in sweeps.POOLS.values():
        Scripted(asynchronous=asynchronous, prefix_sharing=prefix_sharing, num_blocks=num_blocks).run()


@pytest.mark.parametrize(
    ("new_tokens", "load", "compiled"),
    [(40, engine_model, False), (3000, engine_model, False), (3000, engine_model, True), (3000, merged_model, True)],
    ids=["short", "long", "long and compiled", "long, merged and compiled"],
)
def test_synchronous_and_asynchronous_are_equal_bit_for_bit(
    new_tokens: int, load: Callable[[str], Any], compiled: bool
):
    """Equal batches give equal tokens, in bfloat16 as well.

    The order of the steps does not show in the numbers, but which rows share a batch does: another number of rows is
    another shape, with other roundings. So here all requests are there from the start, and end by their length: then
    both orders make the same batches, step by step, and every token has to be the same.
    """
    prompts = random_prompts("small", 8, 60)
    model = copy.deepcopy(load("small"))  # compiled in place, once for both
    limits = {"block_size": 16, "max_rows": 8, "token_budget": 64, "max_length": 100 + new_tokens}
    limits["num_blocks"] = 8 * (limits["max_length"] // 16 + 1)

    def run(asynchronous: bool) -> tuple[list[Any], list[list[int]]]:
        options = {"asynchronous": asynchronous, "compiled": compiled, "prefix_sharing": False}
        engine = FullEngine(model, **options, **limits)
        batches, pack = [], engine.packer.pack

        def noting(step: int, rows: Any, previous: Batch | None) -> Batch:
            batches.append([(row.request.request_id, row.start, row.num_tokens) for row in rows])
            return pack(step, rows, previous)

        engine.packer.pack = noting
        return batches, answers_of(engine, prompts, new_tokens)

    batches, answers = run(asynchronous=False)
    asynchronous = run(asynchronous=True)
    assert asynchronous[0] == batches, "the two orders are to be compared with equal batches"
    pairs = zip(answers, asynchronous[1], strict=True)
    differences = [next((i for i, (a, b) in enumerate(zip(*pair, strict=True)) if a != b), None) for pair in pairs]
    assert not any(place is not None for place in differences), f"first different token of each request: {differences}"


# --- no hidden wait ---


def strict(launch: Callable[[Batch], Any]) -> Callable[[Batch], Any]:
    """In a launch, every operation that would make the host wait raises."""

    def run(batch: Batch) -> Any:
        torch.cuda.set_sync_debug_mode("error")
        try:
            return launch(batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return run


def raise_it(error: Exception) -> None:
    raise error


def in_full() -> FullEngine:
    limits = {"num_blocks": 60, "block_size": 16, "max_rows": 4, "token_budget": 32, "max_length": 128}
    return FullEngine(engine_model("small"), **limits)


BUILDS = {
    "chapter 4": chapter_4,
    "chapter 5": chapter_5,
    "chapter 6": chapter_6,
    "chapter 7": chapter_7,
    "chapter 7 over graphs": partial(chapter_7, graphs=True),
    "FullEngine": FullEngine,
    "in full": in_full,
}


@pytest.mark.parametrize("kind", BUILDS)
def test_no_launch_makes_the_host_wait(kind: str):
    """Prompts in chunks, decode and mixed steps, greedy and sampled: nothing in `launch` waits for the device."""
    if kind == "in full":
        engine = in_full()  # with Triton and graphs for mixed steps
    else:
        engine = BUILDS[kind](tiny_model().to("cuda"), num_blocks=60, block_size=4, max_rows=4, token_budget=12)
    engine.executor.launch = strict(engine.executor.launch)
    engine.recover = raise_it  # a full engine would start over
    for i, prompt in enumerate(PROMPTS):
        engine.add_request(str(i), prompt, SamplingParams(max_tokens=6, temperature=0.8 * (i == 1)))
        engine.step()
    while engine.has_work:
        engine.step()


# --- in flight ---


@pytest.mark.parametrize(
    ("num_blocks", "prefix_sharing"),
    [(sweeps.POOLS["tight"], True), (sweeps.POOLS["roomy"], False)],
    ids=["tight and shared", "roomy and unshared"],
)
def test_events_in_flight(num_blocks: int, prefix_sharing: bool):
    """Cancel, preempt, errors and names used again before every step, on one engine: all tokens right, nothing left."""
    engine = new_engine(num_blocks=num_blocks, prefix_sharing=prefix_sharing)
    for name, event in sweeps.EVENTS.items():
        for step in range(sweeps.LAST_STEP):
            try:
                Scripted(engine=engine).run(step, event)
            except (AssertionError, RuntimeError) as error:
                raise AssertionError(f"{name} before step {step}: {error}") from error


def test_ends_in_flight():
    """Each token of each answer ends its sequence once; what runs one step too far is dropped."""
    engine = new_engine(num_blocks=sweeps.POOLS["tight"])
    for token in sorted({token for answer in expected() for token in answer}):
        run = Scripted(engine=engine, eos=token)
        run.run()
        assert run.ledger.ended["eos"]


def test_a_storm_in_bfloat16():
    """Random arrivals, cancels, preemptions, with graphs and Triton: all tokens are what the library would take."""
    limits = {"num_blocks": 24, "block_size": 16, "max_rows": 8, "token_budget": 48, "max_length": 128}
    engine, ledger, rng = FullEngine(engine_model("small"), **limits), Ledger(), random.Random(5)
    waiting = random_prompts("small", 60, 50, seed=3)
    prompts, answers = {}, {}
    while waiting or engine.has_work:
        if waiting and rng.random() < 0.3:
            name = str(len(prompts))
            prompts[name] = waiting.pop()
            engine.add_request(name, prompts[name], SamplingParams(max_tokens=rng.randint(1, 40)))
            ledger.add(name)
        if engine.book.requests and rng.random() < 0.05:
            engine.cancel(rng.choice(list(engine.book.requests)))
        if engine.scheduler.running and rng.random() < 0.05:
            engine.scheduler.preempt(rng.choice(engine.scheduler.running))
        outputs = engine.step()
        ledger.take(outputs)
        answers |= {out.request_id: list(out.output_ids) for out in outputs if out.finish_reason is not None}
    ledger.check_idle(engine)
    assert len(answers) == 60 and ledger.ended["cancelled"] and not ledger.ended["error"]
    seen = gaps("small", [prompts[name] for name in answers], list(answers.values()))
    warnings.warn(f"storm, gaps to the library's best tokens: {seen}", stacklevel=1)
    seen.assert_small()
