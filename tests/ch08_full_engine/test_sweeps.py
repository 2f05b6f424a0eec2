"""What may happen to a request, swept over every step of a run: the tokens stay generate's, and nothing is left over.

Every run keeps books (toolkit.commands.ledger): each token is compared as it comes, each request gets exactly one
terminal output, and at the end the engine must hold nothing. A race raises. The policies of the simulated GPU take
turns.
"""

import pytest

from ch02_continuous_batching import RequestStatus, SamplingParams, Scheduler
from ch06_graphs import GraphForward, on_accelerator
from tests.ch08_full_engine.full_runs import full_engine
from tests.ch08_full_engine.scripted import MAX_TOKENS, PROMPTS, Scripted, expected, text_of
from tests.simulated import needs_simulator
from toolkit.errors import UserError

pytestmark = needs_simulator

POLICIES = ["lazy", "random:1", "eager", "random:2", "threads", "random:3"]
both_orders = pytest.mark.parametrize("asynchronous", [True, False], ids=["asynchronous", "synchronous"])
sharing_or_not = pytest.mark.parametrize("prefix_sharing", [True, False], ids=["shared", "unshared"])
POOLS = {"roomy": 40, "tight": 9}  # blocks; in the tight one requests throw each other out all the time
LAST_STEP = 17  # no run in which nothing happens takes more; a test makes sure of it


def pool_for(number: int, prefix_sharing: bool) -> int:
    """The pools take turns; each step is swept in one of them with sharing and in the other without."""
    return POOLS["tight" if number % 2 == int(prefix_sharing) else "roomy"]


# --- nothing happens ---


@both_orders
@sharing_or_not
@pytest.mark.parametrize("num_blocks", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("policy", ["fcfs", "prefill_first"])
def test_arrivals_by_step(asynchronous: bool, prefix_sharing: bool, num_blocks: int, policy: str):
    """Requests that come while others run: synchronous = asynchronous = generate, token for token."""
    for gpu_policy in POLICIES[:4] if asynchronous else ("lazy",):
        run = Scripted(
            gpu_policy, asynchronous=asynchronous, prefix_sharing=prefix_sharing, num_blocks=num_blocks, policy=policy
        )
        assert run.run() <= LAST_STEP, "the sweeps below would not reach the end of this run"
        assert run.ledger.ended == {"length": len(PROMPTS)}


@sharing_or_not
def test_arrivals_at_every_step(prefix_sharing: bool):
    """One more request, with a common beginning, comes before any step: also into an engine that is just idle."""
    for step in range(LAST_STEP + 2):
        run = Scripted(POLICIES[step % 6], prefix_sharing=prefix_sharing, num_blocks=pool_for(step, prefix_sharing))
        run.run(step, lambda run: run.add(0, "late"))
        assert run.ledger.ended == {"length": len(PROMPTS) + 1}


# --- something happens, before every step ---


def cancel(prompt: int):
    def event(run: Scripted) -> None:
        known = str(prompt) in run.engine.book.requests
        assert run.engine.cancel(str(prompt)) == known
        assert not run.engine.cancel(str(prompt)), "a second cancel finds no request"

    return event


def cancel_and_come_again(prompt: int):
    """The same name is used again at once, by another prompt: nothing of the first may reach the second."""

    def event(run: Scripted) -> None:
        if run.engine.cancel(str(prompt)):
            run.add((prompt + 1) % len(PROMPTS), str(prompt))

    return event


def cancel_all(run: Scripted) -> None:
    for name in list(run.engine.book.requests):
        assert run.engine.cancel(name)
    blocks = run.engine.scheduler.blocks
    assert blocks.num_free_blocks == blocks.num_blocks, "blocks are free at once"


def preempt(place: int):
    def event(run: Scripted) -> None:
        if len(run.running()) > place:
            run.engine.scheduler.preempt(run.running()[place])

    return event


def preempt_all(run: Scripted) -> None:
    for request in run.running():
        run.engine.scheduler.preempt(request)


def preempt_and_cancel(run: Scripted) -> None:
    """The same request loses its blocks in flight, and then its caller."""
    for request in run.running()[:1]:
        run.engine.scheduler.preempt(request)
        assert run.engine.cancel(request.request_id)


def cancel_the_oldest_preempt_the_rest(run: Scripted) -> None:
    if run.running():
        assert run.engine.cancel(run.running()[0].request_id)
    preempt_all(run)


def name_in_use(run: Scripted) -> None:
    """A name that is in use is refused, and nothing changes for its owner."""
    for name in list(run.engine.book.requests):
        with pytest.raises(UserError, match="in use"):
            run.engine.add_request(name, PROMPTS[0], run.params)


def a_step_raises(run: Scripted) -> None:
    """An error that leaves the device usable: all requests start over, from what the host knows."""
    executor, real = run.engine.executor, run.engine.executor.launch

    def failing(batch):
        executor.launch = real
        raise MemoryError("planted by the test")

    executor.launch = failing
    run.ledger.take(run.engine.step())
    executor.launch = real  # there may have been nothing to launch


def a_commit_raises(run: Scripted) -> None:
    executor, real = run.engine.executor, run.engine.executor.wait

    def failing(batch, buffers):
        executor.wait = real
        raise RuntimeError("planted by the test")

    executor.wait = failing
    run.ledger.take(run.engine.step())
    executor.wait = real


EVENTS = {
    "cancel_3": cancel(3),
    **{f"cancel_{i}_and_come_again": cancel_and_come_again(i) for i in (0, 2)},
    "cancel_all": cancel_all,
    "preempt_0": preempt(0),
    "preempt_all": preempt_all,
    "preempt_and_cancel": preempt_and_cancel,
    "cancel_the_oldest_preempt_the_rest": cancel_the_oldest_preempt_the_rest,
    "name_in_use": name_in_use,
    "a_step_raises": a_step_raises,
    "a_commit_raises": a_commit_raises,
}


def sweep(event, prefix_sharing: bool, asynchronous: bool) -> None:
    from toolkit.simgpu import RaceError

    for step in range(LAST_STEP):
        policy, num_blocks = POLICIES[step % 6], pool_for(step, prefix_sharing)
        run = Scripted(policy, asynchronous=asynchronous, prefix_sharing=prefix_sharing, num_blocks=num_blocks)
        try:
            run.run(step, event)
        except (AssertionError, RuntimeError, RaceError) as error:
            raise AssertionError(f"before step {step}, {num_blocks} blocks, GPU {policy}: {error}") from error


@pytest.mark.parametrize(
    "prefix_sharing", [True, pytest.param(False, marks=pytest.mark.long)], ids=["shared", "unshared"]
)
@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_an_event_at_every_step(event, prefix_sharing: bool):
    """Whenever it happens, all others get generate's tokens, and the one that it happens to gets no wrong one."""
    sweep(event, prefix_sharing, asynchronous=True)


@pytest.mark.parametrize("event", ["cancel_0_and_come_again", "preempt_all", "a_commit_raises"])
def test_an_event_at_every_step_in_the_synchronous_order(event: str):
    """The same with one batch at a time."""
    sweep(EVENTS[event], prefix_sharing=True, asynchronous=False)


def test_a_mistake_that_recovery_would_hide_is_seen_mutant(monkeypatch: pytest.MonkeyPatch):
    """A finished request keeps its epoch, so a row in flight is committed, fails, and the engine gets over it."""

    def finish(scheduler, request) -> None:
        scheduler.blocks.free(request)
        scheduler.running.remove(request)
        request.status = RequestStatus.FINISHED
        request.pending_samples = 0

    monkeypatch.setattr(Scheduler, "finish", finish)
    with pytest.raises((AssertionError, LookupError)):
        sweep(EVENTS["cancel_3"], prefix_sharing=True, asynchronous=True)


# --- ends that only the tokens bring ---


@pytest.mark.parametrize(
    ("prefix_sharing", "asynchronous"),
    [
        (True, True),
        pytest.param(False, True, marks=pytest.mark.long),
        pytest.param(True, False, marks=pytest.mark.long),
    ],
    ids=["shared", "unshared", "synchronous"],
)
@pytest.mark.parametrize("kind", ["eos", "stop"])
def test_an_end_at_every_token(kind: str, prefix_sharing: bool, asynchronous: bool):
    """Each token of each answer ends its sequence once, or completes a stop string: no token follows."""
    ends = {(token, text_of(answer[i : i + 2])) for answer in expected() for i, token in enumerate(answer)}
    for number, (token, text) in enumerate(sorted(ends)):
        way_to_end = {"eos": token} if kind == "eos" else {"stop": text}
        run = Scripted(
            POLICIES[number % 6],
            asynchronous=asynchronous,
            prefix_sharing=prefix_sharing,
            num_blocks=pool_for(number, prefix_sharing),
            **way_to_end,
        )
        run.run()
        assert run.ledger.ended[kind] > 0, f"{way_to_end} should have ended a request"


@sharing_or_not
def test_an_event_right_behind_an_end(prefix_sharing: bool):
    """While the row that runs too far is in flight: the others are preempted, and the name is used again at once."""
    for number, token in enumerate(sorted({token for answer in expected() for token in answer})):
        run = Scripted(POLICIES[number % 6], eos=token, prefix_sharing=prefix_sharing)
        for prompt in range(3):
            run.add(prompt)
        again = 0
        while run.engine.has_work:
            outputs = run.engine.step()
            run.ledger.take(outputs)
            for output in outputs:
                if output.finish_reason is not None and again < 4:
                    again += 1
                    preempt_all(run)
                    run.add((int(output.request_id) + again) % len(PROMPTS), output.request_id)
        assert again
        run.ledger.check_idle(run.engine)


# --- sampled ---


@sharing_or_not
@pytest.mark.parametrize("num_blocks", POOLS.values(), ids=POOLS)
def test_sampled_tokens_do_not_depend_on_the_order(num_blocks: int, prefix_sharing: bool):
    """With a temperature, requests that are there from the start get the same tokens, synchronous or not."""

    def tokens(policy: str, asynchronous: bool) -> dict[str, tuple[int, ...]]:
        run = Scripted(policy, asynchronous=asynchronous, prefix_sharing=prefix_sharing, num_blocks=num_blocks)
        for i, prompt in enumerate(PROMPTS):
            params = SamplingParams(max_tokens=MAX_TOKENS, temperature=[0.8, 1.2, 0.0][i % 3], top_k=20, seed=i)
            run.engine.add_request(str(i), prompt, params)
            run.ledger.add(str(i))
        ended = {}
        while run.engine.has_work:
            outputs = run.engine.step()
            run.ledger.take(outputs)
            ended |= {out.request_id: out.output_ids for out in outputs if out.finish_reason is not None}
        run.ledger.check_idle(run.engine)
        return ended

    synchronous = tokens("eager", asynchronous=False)
    assert synchronous["2"] == tuple(expected()[2]), "a greedy request among sampled ones gets generate's tokens"
    assert synchronous["0"] != tuple(expected()[0]), "with this temperature a token should differ from the greedy ones"
    for policy in POLICIES:
        assert tokens(policy, asynchronous=True) == synchronous, (
            f"{policy}: sampled tokens differ from synchronous ones"
        )


# --- with graphs ---


def graphed_engine(model, *arguments, **options):
    """The full engine with chapter 6's graphs, as on a GPU without the Triton kernels; here operation by operation."""
    make = full_engine(quickest_forward=lambda step, storage, token_budget: GraphForward(step, storage))
    return make(on_accelerator(model), *arguments, **options)


@pytest.mark.parametrize(
    ("policy", "step", "event"),
    [("lazy", None, None), ("random:4", 5, "cancel_0_and_come_again"), ("random:5", 7, "preempt_all")],
)
def test_with_graphs(policy: str, step: int | None, event: str | None):
    """Decode steps are replays of captured graphs, two IO buffers in turns: the same tokens, no race on their pool."""
    run = Scripted(policy, graphed_engine, max_rows=2, max_length=24)
    run.run(step, EVENTS.get(event))
    assert run.ledger.ended["length"] >= len(PROMPTS) - 1
