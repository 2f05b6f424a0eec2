"""Between a step that was torn (interrupted twice) and the next one: what a caller does is not lost, nor doubled."""

from typing import Any

import pytest

from ch02_continuous_batching import FinishReason, SamplingParams
from ch02_continuous_batching.build import build as build_ch02
from ch08_full_engine import FullEngine
from tests.ch08_full_engine.full_runs import engine_on
from tests.helpers import reference_outputs, shared_reference, tiny_model
from tests.simulated import MAX_TOKENS, PROMPTS, expected, needs_simulator
from toolkit.commands.ledger import Ledger

pytestmark = needs_simulator


def torn_engine() -> tuple[FullEngine, Ledger]:
    """An engine with three requests, whose latest step was interrupted at its launch, and again while it was undone."""
    engine, ledger = engine_on(), Ledger()
    for i in range(3):
        engine.add_request(str(i), PROMPTS[i], SamplingParams(max_tokens=MAX_TOKENS))
        ledger.add(str(i), expected()[i])
    for _ in range(3):
        ledger.take(engine.step())
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(engine.executor, "launch", interrupted)
        patch.setattr(engine.executor, "drain", interrupted)
        engine.step()
    assert engine.torn and engine.has_work
    return engine, ledger


def interrupted(*arguments: Any) -> None:
    raise KeyboardInterrupt


def lost(*arguments: Any) -> None:
    raise RuntimeError("the device is lost")


def run_on(engine: FullEngine, ledger: Ledger) -> dict[str, FinishReason]:
    """Step until there is no work: all is booked, and the engine holds nothing. How each request ended."""
    ends: dict[str, FinishReason] = {}
    while engine.has_work:
        outputs = engine.step()
        ledger.take(outputs)
        ends |= {output.request_id: output.finish_reason for output in outputs if output.finish_reason}
    ledger.check_idle(engine)
    return ends


def test_the_next_step_goes_on():
    assert run_on(*torn_engine()) == dict.fromkeys("012", FinishReason.LENGTH)


def test_a_request_can_be_cancelled():
    engine, ledger = torn_engine()
    assert engine.cancel("1"), "the request runs"
    assert not engine.cancel("1"), "it has ended"
    ends = run_on(engine, ledger)
    assert ends == {"0": FinishReason.LENGTH, "1": FinishReason.CANCELLED, "2": FinishReason.LENGTH}, (
        f"request 1 was cancelled when a step had been torn; the requests ended so: {ends}"
    )


def test_a_request_can_be_added():
    engine, ledger = torn_engine()
    engine.add_request("3", PROMPTS[3], SamplingParams(max_tokens=MAX_TOKENS))
    ledger.add("3", expected()[3])
    assert run_on(engine, ledger) == dict.fromkeys("0123", FinishReason.LENGTH)


def test_generate_hands_out_its_own_and_keeps_the_others():
    """Also an output that waited for the torn step: it comes once."""
    engine, ledger = torn_engine()
    engine.cancel("1")
    prompt = [11, 12, 13]
    (end,) = engine.generate([prompt], SamplingParams(max_tokens=5))
    assert list(end.output_ids) == reference_outputs(shared_reference(), [prompt], 5)[0]
    assert run_on(engine, ledger)["1"] is FinishReason.CANCELLED


def test_generate_after_an_output_was_left_over():
    """An output was kept when the step was torn: generate must not hand it on twice."""
    engine, ledger = engine_on(), Ledger()
    for i in range(2):
        engine.add_request(str(i), PROMPTS[i], SamplingParams(max_tokens=MAX_TOKENS))
        ledger.add(str(i), expected()[i])
    engine.cancel("0")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(engine.executor, "launch", interrupted)
        patch.setattr(engine.executor, "drain", interrupted)
        engine.step()
    engine.generate([[11, 12, 13]], SamplingParams(max_tokens=5))
    ends = run_on(engine, ledger)
    assert ends == {"0": FinishReason.CANCELLED, "1": FinishReason.LENGTH}


@pytest.mark.parametrize("build", [build_ch02, FullEngine], ids=["ch02", "ch08"])
def test_there_is_work_though_every_request_had_ended_in_the_torn_step(build: Any):
    """Nothing waits, runs or is in flight, and yet the only request has not had its last output."""
    from toolkit import simgpu

    simgpu.reset("eager")
    engine, ledger = build(tiny_model(), num_blocks=80, block_size=4), Ledger()
    engine.add_request("0", PROMPTS[0], SamplingParams(max_tokens=1))
    ledger.add("0", expected()[0][:1])
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(engine.observers, "stepped", lambda scheduler, outputs, idle: idle and interrupted())
        patch.setattr(engine.executor, "drain", interrupted)
        while True:
            engine.step()
    assert engine.has_work, "its output was not returned, so there is work"
    assert run_on(engine, ledger) == {"0": FinishReason.LENGTH}


def test_there_is_work_though_the_torn_step_had_stopped_the_engine():
    """The device was found to be lost, and Ctrl-C came before any request was told: each of them still ends."""
    engine, ledger = engine_on(), Ledger()
    for i in range(2):
        engine.add_request(str(i), PROMPTS[i], SamplingParams(max_tokens=MAX_TOKENS))
        ledger.add(str(i), expected()[i])
    for _ in range(2):
        ledger.take(engine.step())

    def twice_interrupted(*arguments: Any) -> None:
        engine.executor.drain = interrupted
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(engine, "device_is_usable", lambda: False)
        patch.setattr(engine.executor, "launch", lost)
        patch.setattr(engine.book, "end", twice_interrupted)
        engine.step()
    del engine.executor.drain
    assert engine.stopped and engine.has_work, f"stopped: {engine.stopped!r}, has_work: {engine.has_work}"
    assert run_on(engine, ledger) == dict.fromkeys("01", FinishReason.LENGTH)
