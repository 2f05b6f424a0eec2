"""The metrics add up."""

import pytest

from ch08_full_engine.metrics import Metrics
from tests.ch08_full_engine.full_runs import NUM_BLOCKS, Watch, engine_on
from tests.simulated import MAX_TOKENS, PROMPTS, expected, needs_simulator


def test_without_a_step_there_is_no_idle_share():
    """A new engine has nothing to divide by, and its summary can be made all the same."""
    assert Metrics().idle_share is None
    summary = Metrics().summary()
    assert summary["steps"] == 0 and summary["first_token_ms_p50"] is None and summary["inter_token_ms_p99"] is None


def test_latencies_are_summed_up_by_two_percentiles():
    """Of 1 to 200 ms, half do not exceed 100 and 99 in a hundred do not exceed 198."""
    metrics = Metrics()
    metrics.first_token_ms.extend(range(200, 0, -1))
    summary = metrics.summary()
    assert (summary["first_token_ms_p50"], summary["first_token_ms_p99"]) == (100, 198)


@needs_simulator
@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_run_adds_up(asynchronous: bool):
    """Tokens, ends by reason, latencies, blocks: after a run with a cancel and an EOS each figure is right."""
    engine = engine_on(asynchronous=asynchronous)
    engine.book.eos_ids = {expected()[2][3]}
    watch = Watch(engine).add_prompts(ignore_eos=True)
    watch.add("ends early", PROMPTS[2])
    watch.run(steps=6)
    assert engine.cancel("5")
    watch.run()
    metrics, tokens = engine.metrics, sum(map(len, watch.tokens.values()))
    assert metrics.tokens == tokens, f"{tokens} tokens were handed out; the metrics say {metrics.tokens}"
    assert metrics.finished == {"length": len(PROMPTS) - 1, "eos": 1, "cancelled": 1}, f"ends: {metrics.finished}"
    assert metrics.steps == engine.num_steps, f"{engine.num_steps} steps were run and committed, not {metrics.steps}"
    started = sum(bool(got) for got in watch.tokens.values())
    assert len(metrics.first_token_ms) == started, "one time to a first token for each request that got one"
    assert len(metrics.inter_token_ms) == tokens - started, "one gap before each later token"
    assert min(metrics.first_token_ms) > 0 and min(metrics.inter_token_ms) > 0
    assert (metrics.waiting, metrics.running, metrics.free_blocks) == (0, 0, NUM_BLOCKS), "the engine is idle"
    summary = metrics.summary()
    assert summary["finished_length"] == len(PROMPTS) - 1 and summary["tokens"] == tokens


@needs_simulator
def test_time_is_divided_as_the_virtual_clock_has_it():
    """Host work, waiting, device and idle time agree with the clock: asynchronous no idle time, synchronous a lot."""
    from toolkit import simgpu

    shares = {}
    for asynchronous in (True, False):
        engine = engine_on(asynchronous=asynchronous)
        start = simgpu.now_ms()
        Watch(engine).add_prompts().run()
        metrics, total = engine.metrics, simgpu.now_ms() - start
        assert metrics.host_ms + metrics.waiting_ms == pytest.approx(total), (
            f"the host works {metrics.host_ms:.2f} ms and waits {metrics.waiting_ms:.2f}; the run took {total:.2f}"
        )
        assert metrics.device_ms + metrics.idle_ms < total, (
            "the device's time between first and last step is less than all"
        )
        shares[asynchronous] = metrics.idle_share
    assert shares[True] < 0.05 < shares[False], f"idle shares, asynchronous and not: {shares}"


@needs_simulator
def test_a_pause_is_nobodys_idle_time():
    """Between two loads the engine has nothing to do; that time does not count as idle."""
    from toolkit import simgpu

    engine = engine_on()
    for name in ("a", "b"):
        watch = Watch(engine)
        watch.add(name, PROMPTS[0])
        watch.run()
        simgpu.host_work(5000, "a long pause")
    assert engine.metrics.idle_share < 0.1, f"idle share {engine.metrics.idle_share:.0%}: the pause was counted"
    assert engine.metrics.tokens == 2 * MAX_TOKENS


@needs_simulator
def test_queues_are_shown_while_they_are_full():
    """During a run the figures say who waits, who runs, and how many blocks are left."""
    engine = engine_on(max_rows=3)
    watch = Watch(engine).add_prompts()
    watch.step()
    metrics = engine.metrics
    assert (metrics.running, metrics.waiting) == (3, len(PROMPTS) - 3)
    assert metrics.free_blocks == engine.scheduler.blocks.num_free_blocks < NUM_BLOCKS
    watch.run()


@needs_simulator
def test_shared_tokens_are_counted():
    """A second request with the same prompt of 14 tokens shares three blocks of four."""
    engine = engine_on()
    prompt = [*range(3, 17)]
    for name in ("a", "b"):
        watch = Watch(engine)
        watch.add(name, prompt)
        watch.run()
    assert engine.metrics.shared_tokens == 12, f"shared tokens: {engine.metrics.shared_tokens}"
