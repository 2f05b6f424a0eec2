"""The full engine as a whole: generate's tokens in every situation, shared prefixes, and text."""

import pytest

from ch02_continuous_batching import FinishReason, SamplingParams
from ch02_continuous_batching.build import build as build_ch02
from ch08_full_engine import FullEngine, PrefixBlockManager
from tests.ch08_full_engine.full_runs import NUM_BLOCKS, Watch, engine_on, params
from tests.helpers import random_prompts, reference_outputs, shared_reference, tiny_model, tiny_tokenizer
from tests.simulated import (
    MAX_TOKENS,
    PROMPTS,
    assert_no_race,
    assert_tokens_right,
    expected,
    needs_simulator,
    run_simulated,
)
from toolkit.errors import UserError

pytestmark = needs_simulator
POLICIES = ["eager", "lazy", "threads", *(f"random:{seed}" for seed in range(6))]


# --- cold start, steady state, drain ---


@pytest.mark.parametrize("policy", POLICIES)
def test_right_under_every_policy(policy: str):
    """The tokens of generate, in whatever order that CUDA's rules allow the device runs."""
    run = run_simulated(FullEngine, policy)
    assert_no_race(run)
    assert_tokens_right(run, policy)


def test_an_engine_may_start_with_an_empty_queue():
    """Steps of an engine without requests return nothing, launch nothing and cost nothing."""
    engine = engine_on()
    for _ in range(3):
        assert engine.step() == [] and not engine.has_work and engine.num_steps == 0
    Watch(engine).add_prompts(2).run().assert_tokens(expected())
    for _ in range(3):
        assert engine.step() == [], "after the last request, too"


def test_cold_start_steady_state_drain():
    """One batch in flight after the first step, one between all later ones, two at most, and none at the end."""
    engine = engine_on()
    launched = []
    launch = engine.executor.launch
    engine.executor.launch = lambda batch: (launched.append(len(engine.in_flight) + 1), launch(batch))[1]
    watch = Watch(engine).add_prompts(3)
    assert watch.step() == [] and len(engine.in_flight) == 1, "cold start: something is launched, nothing committed"
    assert len(watch.step()) == 3 and len(engine.in_flight) == 1, "steady state: launch N + 1, commit N"
    watch.run()
    assert max(launched) == 2, f"batches in flight while launching: {launched}"
    assert not engine.in_flight, "drain: nothing is left in flight"


def test_requests_that_come_one_by_one():
    """One arrival at each step, also when the engine has just run dry: the tokens of generate."""
    engine = engine_on("random:1")
    watch = Watch(engine)
    for i, prompt in enumerate(PROMPTS):
        watch.add(str(i), prompt, max_tokens=1 + i % 3)
        watch.step()
    watch.run()
    watch.assert_tokens([right[: 1 + i % 3] for i, right in enumerate(expected())])


@pytest.mark.parametrize("prefix_sharing", [True, False])
@pytest.mark.parametrize("policy", ["fcfs", "prefill_first"])
def test_right_under_preemption(policy: str, prefix_sharing: bool):
    """Too few blocks for all requests, small chunks: none loses or repeats a token."""
    for num_blocks in (8, 11):
        limits = {"num_blocks": num_blocks, "policy": policy, "token_budget": 12}
        run = run_simulated(FullEngine, "random:5", prefix_sharing=prefix_sharing, **limits)
        assert_no_race(run)
        assert run.outputs == expected()


def test_sampled_tokens_are_those_of_chapter_2():
    """Sampled and greedy requests side by side: the same tokens as the synchronous engine of chapter 2 gives."""
    chosen = [SamplingParams(max_tokens=MAX_TOKENS, temperature=0.9 * (i % 2), top_k=i, seed=i) for i in range(6)]
    engines = [engine_on("lazy"), build_ch02(tiny_model(), num_blocks=80, block_size=4)]
    seen = []
    for engine in engines:
        for i, one in enumerate(chosen):
            engine.add_request(str(i), PROMPTS[i], one)
        ends = {}
        while engine.has_work:
            ends |= {output.request_id: output.output_ids for output in engine.step() if output.finish_reason}
        seen.append(ends)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("end", range(0, MAX_TOKENS, 2))
def test_ends_that_cannot_be_foreseen(end: int):
    """An end-of-sequence token at any place: the request ends with it, and the row that ran too far is dropped."""
    engine = engine_on("random:2")
    eos = expected()[2][end]
    engine.book.eos_ids = {eos}
    watch = Watch(engine).add_prompts().run()
    watch.assert_tokens([right[: right.index(eos) + 1] if eos in right else right for right in expected()])


def test_the_compiler_is_for_gpus():
    """On the simulated GPU `compiled` is refused with a plain sentence."""
    with pytest.raises(UserError, match="compiled: the simulated GPU has no compiler"):
        engine_on(compiled=True)


@pytest.mark.parametrize("option", ["asynchronous", "prefix_sharing", "compiled"])
def test_options_are_true_or_false(option: str):
    """The word "no" would count as true."""
    with pytest.raises(UserError, match=f"{option} is 'no'; it is True or False"):
        engine_on(**{option: "no"})


def test_a_bad_request_is_refused_and_no_other_notices():
    """Unknown tokens, a name in use, an empty prompt, impossible lengths: a clear error each, and the others go on."""
    engine = engine_on(num_blocks=12, max_length=40)
    watch = Watch(engine).add_prompts(2).run(steps=2)
    bad = [
        ("new", [5, 96], {}, "token 96 is none of the model's 0 to 95"),
        ("new", [-1], {}, "token -1"),
        ("1", [5], {}, "request 1: this name is in use"),
        ("new", [], {}, "no tokens"),
        ("new", [5] * 60, {}, "exceed the context of 40"),
        ("new", [5], {"max_tokens": 48}, "exceed the context of 40"),
        ("new", [5], {"stop": ("x",)}, "stop strings need a tokenizer"),
    ]
    for name, prompt, values, words in bad:
        with pytest.raises(UserError, match=words):
            engine.add_request(name, prompt, SamplingParams(**({"max_tokens": 4} | values)))
    watch.run().assert_tokens(expected())


# --- shared prefixes ---

COMMON = [*range(3, 3 + 22)]  # five blocks of four, and two tokens


def alone(prompt: list[int]) -> list[int]:
    return reference_outputs(shared_reference(), [prompt], MAX_TOKENS)[0]


def computed(engine: FullEngine) -> list[tuple[str, int, int]]:
    """Notes (request, start, tokens) of each row from now on."""
    rows: list[tuple[str, int, int]] = []
    launch = engine.executor.launch

    def noting(batch):
        rows.extend((row.request.request_id, row.start, row.num_tokens) for row in batch.rows)
        return launch(batch)

    engine.executor.launch = noting
    return rows


@pytest.mark.exercise("8.1")
@pytest.mark.parametrize("first_has_ended", [False, True], ids=["while both run", "after the first has ended"])
def test_a_prefix_is_computed_once(first_has_ended: bool):
    """The second request starts behind five shared blocks, and gets the tokens that it would get alone."""
    engine = engine_on("random:4")
    rows = computed(engine)
    watch = Watch(engine)
    watch.add("first", [*COMMON, 60])
    watch.run(steps=None if first_has_ended else 3)
    watch.add("second", [*COMMON, 70, 71])
    watch.run()
    starts = [start for name, start, _ in rows if name == "second"]
    errors = [end.error for end in watch.ended.values() if end.error]
    assert starts and starts[0] == 20, (
        f"five blocks of the first request hold 20 common tokens; the second one starts at {starts[:1]} {errors}"
    )
    for name, prompt in (("first", [*COMMON, 60]), ("second", [*COMMON, 70, 71])):
        assert watch.tokens[name] == alone(prompt), f"with a shared prefix, the {name} request's tokens are wrong"


@pytest.mark.exercise("8.1")
def test_blocks_have_two_owners_while_both_run():
    """The same block numbers stand in both tables, and are freed when the second of the two has ended."""
    engine = engine_on()
    watch = Watch(engine)
    watch.add("first", [*COMMON, 60])
    watch.run(steps=3)
    watch.add("second", [*COMMON, 70], max_tokens=3)
    watch.step()
    assert not watch.ended, f"both run; ended has {[end.error for end in watch.ended.values()]}"
    first, second = engine.book.requests["first"], engine.book.requests["second"]
    tables = f"the tables are {first.block_table} and {second.block_table}"
    assert first.block_table[:5] == second.block_table[:5], f"the first five blocks are common; {tables}"
    assert set(first.block_table[5:]).isdisjoint(second.block_table[5:]), f"what is not common is not shared; {tables}"
    watch.run()


@pytest.mark.exercise("8.1")
def test_a_block_has_no_name_before_its_step_is_committed():
    """Launched is not written: a request that comes while the prefix is in flight computes it itself."""
    engine = engine_on()
    rows = computed(engine)
    watch = Watch(engine)
    watch.add("first", [*COMMON, 60])
    watch.step()
    assert not engine.scheduler.blocks.name_of, "the first batch is in flight, and its blocks have names already"
    watch.add("second", [*COMMON, 70])
    watch.run()
    starts = [start for name, start, _ in rows if name == "second"]
    errors = [end.error for end in watch.ended.values() if end.error]
    assert starts and starts[0] == 0, (
        f"nothing was committed, so nothing can be shared; it starts at {starts[:1]} {errors}"
    )
    seen, right = watch.tokens["second"], alone([*COMMON, 70])
    assert seen == right, f"the second request got {seen}; alone it gets {right}"


@pytest.mark.exercise("8.1")
def test_a_preempted_request_comes_back_with_its_own_blocks():
    """Preemption takes the blocks away, not what is in them: as long as no request needs them, they are found again."""
    engine = engine_on()
    rows = computed(engine)
    watch = Watch(engine)
    watch.add("only", [*COMMON])
    watch.run(steps=4)
    assert not watch.ended, f"it runs; ended has {[end.error for end in watch.ended.values()]}"
    engine.scheduler.preempt(engine.book.requests["only"])
    del rows[:]
    watch.run()
    errors = [end.error for end in watch.ended.values() if end.error]
    assert rows and rows[0][1] >= 20, f"it should start again behind its full blocks; first rows: {rows[:2]} {errors}"
    seen, right = watch.tokens["only"], alone(COMMON)
    assert seen == right, f"preempted once, the request got {seen}; alone it gets {right}"


def test_no_row_ever_writes_into_a_block_with_a_name():
    """Over-run rows included: with ends at every place, each written block is nameless and has one owner."""
    for end in range(MAX_TOKENS):
        engine = engine_on(num_blocks=16, token_budget=12)
        blocks, launch = engine.scheduler.blocks, engine.executor.launch
        assert isinstance(blocks, PrefixBlockManager)

        def checking(batch, blocks=blocks, launch=launch):
            for row in batch.rows:
                for position in range(row.start, row.start + row.num_tokens):
                    block = row.request.block_table[position // 4]
                    assert block not in blocks.name_of and blocks.owners[block] == 1, (
                        f"request {row.request.request_id} writes position {position} into block {block}; it has the "
                        f"owners {blocks.owners[block]} and the name {blocks.name_of.get(block)}"
                    )
            return launch(batch)

        engine.executor.launch = checking
        engine.book.eos_ids = {expected()[2][end]}
        watch = Watch(engine).add_prompts()
        watch.add("again", PROMPTS[2])
        watch.run()
        assert not any(output.error for output in watch.ended.values()), [o.error for o in watch.ended.values()]
        assert watch.tokens["again"] == watch.tokens["2"]


@pytest.mark.parametrize("policy", ["lazy", "random:8"])
def test_many_with_common_beginnings(policy: str):
    """Twenty prompts over four beginnings, few blocks, arrivals in between: sharing changes no token."""
    beginnings = random_prompts(4, seed=5, shortest=8, longest=16)
    ends = random_prompts(20, seed=6, shortest=1, longest=5)
    prompts = [beginnings[i % 4] + end for i, end in enumerate(ends)]
    seen = {}
    for prefix_sharing in (True, False):
        engine = engine_on(policy, num_blocks=24, prefix_sharing=prefix_sharing)
        watch = Watch(engine)
        for i, prompt in enumerate(prompts):
            watch.add(str(i), prompt)
            watch.run(steps=i % 3)
        watch.run()
        seen[prefix_sharing] = watch.tokens
        assert (engine.metrics.shared_tokens > 40) == prefix_sharing, f"shared tokens: {engine.metrics.shared_tokens}"
    assert seen[True] == seen[False]


# --- text ---


@pytest.mark.parametrize("asynchronous", [True, False])
def test_text_and_stop_strings_are_those_of_chapter_2(asynchronous: bool):
    """Stop strings taken from the right answers, one to three letters long: tokens, reason and text of chapter 2."""
    tokenizer = tiny_tokenizer()
    texts = [tokenizer.decode(right) for right in expected()]
    cases = [(text[2:3], text[3:5], text[4:7]) for text in texts]
    plain = build_ch02(tiny_model(), tokenizer, num_blocks=80, block_size=4)
    full = engine_on(tokenizer=tokenizer, asynchronous=asynchronous)
    for stop in zip(*cases, strict=True):
        watch = Watch(full)
        for i, prompt in enumerate(PROMPTS):
            plain.add_request(str(i), prompt, params(stop=(stop[i],)))
            watch.add(str(i), prompt, stop=(stop[i],))
        right = {}
        while plain.has_work:
            right |= {out.request_id: out for out in plain.step() if out.finish_reason is not None}
        watch.run()
        for name, output in watch.ended.items():
            expected_end = right[name].output_ids, right[name].finish_reason, right[name].text
            assert (output.output_ids, output.finish_reason, output.text) == expected_end, f"request {name}"


def test_text_streams_with_the_tokens():
    """One letter per token and no stop string: each output brings the letter of its token."""
    tokenizer = tiny_tokenizer()
    engine = engine_on(tokenizer=tokenizer)
    engine.add_request("0", PROMPTS[0], params())
    pieces = [output.new_text for _ in range(20) for output in engine.step()]
    assert pieces == [tokenizer.decode([token], skip_special_tokens=True) for token in expected()[0]]


class Picky:
    """A tokenizer that streams, and fails at an output as a whole if a certain token is in it."""

    def __init__(self, token: int) -> None:
        self.tokenizer = tiny_tokenizer()
        self.backend_tokenizer = self.tokenizer.backend_tokenizer
        self.token = token

    def decode(self, ids, skip_special_tokens=True):
        if self.token in ids:
            raise ValueError(f"what is {self.token}?")
        return self.tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)


def test_trouble_with_the_end_of_a_text_ends_nothing_else():
    """The tokenizer cannot decode one request's output as a whole: that one says so, and each has all tokens."""
    engine = engine_on(tokenizer=Picky(expected()[3][-1]))
    watch = Watch(engine).add_prompts().run()
    watch.assert_tokens(expected())
    assert "no text for the last tokens" in watch.ended["3"].error
    assert watch.ended["0"].text and not watch.ended["0"].error


def test_trouble_with_a_token_ends_its_request_alone():
    """A stream that fails in the middle ends its own request with ERROR; the others do not notice."""
    tokenizer = tiny_tokenizer()
    engine = engine_on(tokenizer=tokenizer)
    watch = Watch(engine).add_prompts()
    text = engine.book.texts.streams[engine.book.requests["4"]]
    step, count = text.decoder.step, iter(range(99))

    class Failing:
        def step(self, backend, token_id):
            if next(count) == 3:
                raise RuntimeError("made up")
            return step(backend, token_id)

    text.decoder = Failing()
    watch.run().assert_tokens(expected(), besides=("4",))
    end = watch.ended["4"]
    assert end.finish_reason is FinishReason.ERROR and "made up" in end.error and len(end.output_ids) == 4
    assert engine.scheduler.blocks.num_free_blocks == NUM_BLOCKS
