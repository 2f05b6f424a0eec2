"""The metrics add up."""

import pytest

from ch02_continuous_batching import FinishReason, RequestOutput
from ch08_full_engine import FullEngine, Metrics
from tests.ch08_full_engine.full_runs import NUM_BLOCKS, Watch, engine_on, params
from tests.interrupts import interrupt, lines_of
from tests.simulated import MAX_TOKENS, PROMPTS, expected, needs_simulator
from toolkit.commands.ledger import leftovers


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
def test_a_pause_is_not_idle_time():
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


# --- latencies are taken from what a step returns ---


@needs_simulator
@pytest.mark.parametrize("asynchronous", [True, False])
def test_latencies_are_those_that_a_caller_sees(asynchronous: bool):
    """From `add_request` to the return of the step with the first token, and from one such return to the next."""
    from toolkit import simgpu

    engine = engine_on(asynchronous=asynchronous)
    engine.add_request("0", PROMPTS[0], params())
    times, tokens = [simgpu.now_ms()], []
    while engine.has_work:
        for output in engine.step():
            times.append(simgpu.now_ms())
            tokens += output.new_token_ids
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    assert tokens == expected()[0]
    assert list(engine.metrics.first_token_ms) == pytest.approx(gaps[:1])
    assert list(engine.metrics.inter_token_ms) == pytest.approx(gaps[1:])


@needs_simulator
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_a_name_that_is_used_again_at_once(steps: int):
    """The first request's end is not out yet when the second comes: each gets its own figures."""
    from toolkit import simgpu

    engine = engine_on()
    engine.add_request("0", PROMPTS[0], params())
    outputs = [output for _ in range(steps) for output in engine.step()]
    before = len(engine.metrics.first_token_ms), len(engine.metrics.inter_token_ms)
    simgpu.host_work(5000, "a long wait")
    assert engine.cancel("0")
    engine.add_request("0", PROMPTS[1], params())
    came = simgpu.now_ms()
    while len(engine.metrics.first_token_ms) == before[0]:
        outputs += engine.step()
    assert engine.metrics.first_token_ms[-1] == pytest.approx(simgpu.now_ms() - came), "counted from the first one's"
    while engine.has_work:
        outputs += engine.step()
    metrics = engine.metrics
    assert metrics.finished == {"cancelled": 1, "length": 1}, f"ends: {metrics.finished}"
    assert metrics.tokens == sum(len(output.new_token_ids) for output in outputs)
    assert len(metrics.inter_token_ms) == before[1] + MAX_TOKENS - 1
    assert max(metrics.inter_token_ms) < 5000, "from the first request's last token to the second's first one"
    assert not metrics._open, f"no request is left, and there are times of {list(metrics._open)}"


@needs_simulator
def test_an_output_without_an_entry_costs_a_figure_only():
    """An interrupt has lost when a request came: it is served like any other, and not counted; the next one is."""
    engine = engine_on()
    watch = Watch(engine).add_prompts(2).run(steps=3)
    counted = engine.metrics.tokens
    engine.metrics._open.clear()
    watch.run().assert_tokens(expected())
    assert engine.metrics.tokens == counted and not engine.metrics.finished
    watch.add("2", PROMPTS[2])
    watch.run().assert_tokens(expected())
    assert engine.metrics.tokens == counted + MAX_TOKENS and engine.metrics.finished == {"length": 1}


def test_an_output_of_no_known_request():
    """An output with a token and an end, of a request that the metrics never heard of."""
    metrics = Metrics()
    metrics._output(RequestOutput("?", (5,), FinishReason.LENGTH, (5,)), now=1.0)
    assert not metrics._open and not metrics.first_token_ms and not metrics.inter_token_ms


@needs_simulator
@pytest.mark.parametrize("again", [False, True], ids=["one", "name used again"])
def test_an_interrupt_while_figures_are_taken(again: bool):
    """Ctrl-C at each line of the metrics, in a step that brings an end: tokens come, and nothing is left over."""

    def before_the_end() -> FullEngine:
        engine = engine_on()
        engine.add_request("0", PROMPTS[0], params(max_tokens=2))
        for _ in range(2):
            engine.step()
        if again:
            engine.cancel("0")
            engine.add_request("0", PROMPTS[1], params(max_tokens=2))
        return engine

    lines = [line for line in lines_of(before_the_end().step) if line[0].co_filename.endswith("metrics.py")]
    assert len(lines) > 20
    for line in lines:
        engine = before_the_end()
        assert interrupt(engine.step, line, KeyboardInterrupt())
        ends = []
        while engine.has_work:
            ends += [output for output in engine.step() if output.finish_reason is not None]
        assert len(ends) == 1 + again and list(ends[-1].output_ids) == expected()[int(again)][:2]
        assert not leftovers(engine), f"interrupted at {line[0].co_filename}:{line[1]}: {leftovers(engine)}"


@needs_simulator
def test_events_of_steps_that_were_taken_back_do_not_pile_up():
    """Every fourth launch fails behind its forward, and the engine is never idle meanwhile."""
    engine = engine_on()
    copy_out, count = engine.executor.copy_out, iter(range(1000))

    def failing(*arguments):
        if next(count) % 4 == 3:
            raise RuntimeError("made up")
        copy_out(*arguments)

    engine.executor.copy_out = failing
    watch = Watch(engine)
    watch.add("0", PROMPTS[0], max_tokens=40)
    kept = []
    while not watch.ended:
        watch.step()
        kept.append(len(engine.metrics._events))
    assert next(count) > 40 and max(kept) <= 3, f"events of so many steps are kept: {kept}"
