"""The bug museum, exercises 8.6 to 8.13: memory, copies, streams and graphs.

For each bug there is a test that it fails, and others that its wrong repairs fail: waiting for everything makes every
race go away, and the overlap with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from ch02_continuous_batching import SamplingParams
from ch06_graphs import bucket_sizes
from ch06_graphs.build import build as chapter6
from ch07_carry_over.build import build as chapter7
from tests.causes import has_result, likely
from tests.ch06_graphs.toy_forward import graphs_are_found
from tests.ch08_full_engine.museum_runs import (
    POLICIES,
    add_prompts,
    assert_all_tokens_right,
    assert_overlap,
    engine_on,
    exhibit,
    run_on,
)
from tests.simulated import (
    MAX_TOKENS,
    PROMPTS,
    assert_no_race,
    assert_tokens_right,
    expected,
    needs_simulator,
    run_simulated,
)
from toolkit.device import accelerator
from toolkit.forward import Sizes

pytestmark = needs_simulator
every_policy = pytest.mark.parametrize("policy", POLICIES)


# --- 8.6 ---


@pytest.mark.exercise("8.6")
@every_policy
def test_inputs_arrive_as_they_were_packed(policy: str):
    """Every batch computes what was packed for it, and the tokens are right in whatever order the device runs."""
    seen = run_simulated(exhibit("lean_buffers"), policy)
    assert_no_race(seen)
    assert_tokens_right(seen, policy)


@pytest.mark.exercise("8.6")
def test_the_buffers_share_their_pinned_inputs():
    """Half of the pinned memory is what the engine is for."""
    first, second = engine_on(exhibit("lean_buffers")).executor.pool.buffers
    own = [name for name in first.host_inputs if first.host_inputs[name] is not second.host_inputs[name]]
    assert not own, f"the IO buffers have pinned tensors of their own for {own}: right, and twice the pinned memory"


@pytest.mark.exercise("8.6")
def test_the_pinned_inputs_stay_the_same():
    """No batch gets pinned memory of its own: after a run the inputs are the tensors that were there before it."""
    engine = engine_on(exhibit("lean_buffers"))
    buffers = engine.executor.pool.buffers
    before = [dict(each.host_inputs) for each in buffers]
    add_prompts(engine)
    run_on(engine)
    pairs = [
        (name, old[name], each.host_inputs[name]) for old, each in zip(before, buffers, strict=True) for name in old
    ]
    new = {name for name, old, now in pairs if old is not now}
    assert not new, (
        f"after a run the pinned tensors of {sorted(new)} are others than before it: pinned memory for each batch is "
        "more than the engine had, not half of it"
    )


@pytest.mark.exercise("8.6")
def test_lean_buffers_overlap():
    """The engine with half of the pinned memory is as fast as the one with all of it."""
    assert_overlap(run_simulated(exhibit("lean_buffers")), chapter7)


# --- 8.7 ---


@pytest.mark.exercise("8.7")
@every_policy
def test_verdicts_are_read_when_they_are_there(policy: str):
    """No batch is refused, since all ids are good, and no verdict is read while its copy may be under way."""
    engine = engine_on(exhibit("guarded_ids"), policy)
    add_prompts(engine)
    refused, outputs = "", {}
    try:
        run_on(engine, outputs)
    except RuntimeError as error:
        refused = f"a good batch was refused ({error}), and "
    races = [str(race) for race in accelerator.races()]
    assert not races and not refused, (
        f"under the policy {policy!r} {refused}there are {len(races)} races; the first one:\n{[*races, 'none'][0]}"
    )
    assert_all_tokens_right(outputs)


@pytest.mark.exercise("8.7")
def test_a_bad_id_is_refused():
    """The check still checks: an id that is not in the vocabulary ends the run with an error."""
    engine = engine_on(exhibit("guarded_ids"), "eager")
    engine.executor.vocabulary = 3
    add_prompts(engine)
    with pytest.raises(RuntimeError, match="not in the vocabulary"):
        run_on(engine)


@pytest.mark.exercise("8.7")
def test_guarded_ids_overlap():
    """Checking the ids costs nothing: the host waits for the ids, and for nothing else."""
    assert_overlap(run_simulated(exhibit("guarded_ids")), chapter7)


# --- 8.8 ---


@pytest.mark.exercise("8.8")
def test_the_meter_makes_nobody_wait():
    """With the meter the engine is as fast as without, and the host waits for the sampled ids only."""
    assert_overlap(run_simulated(exhibit("context_meter")), chapter7)


@pytest.mark.exercise("8.8")
def test_the_meter_is_right():
    """The longest context is that of the longest prompt with all its tokens but the last, and the tokens are right."""
    engine = engine_on(exhibit("context_meter"))
    add_prompts(engine)
    outputs = run_on(engine)
    races = [str(race) for race in accelerator.races()]
    assert not races, f"{len(races)} races; the first one:\n{races[0]}"
    longest = max(len(prompt) for prompt in PROMPTS) + 7
    assert engine.executor.longest_context == longest, (
        f"the longest row that was in a batch had {longest} tokens; the meter says {engine.executor.longest_context}"
    )
    assert_all_tokens_right(outputs)


@pytest.mark.exercise("8.8")
def test_the_meter_remembers_the_longest():
    """The longest request stands between two shorter ones, and ends before them: the meter keeps its length."""
    engine = engine_on(exhibit("context_meter"))
    for name, length, max_tokens in (("short", 3, 8), ("long", 14, 2), ("last", 2, 8)):
        engine.add_request(name, list(range(3, 3 + length)), SamplingParams(max_tokens=max_tokens))
    run_on(engine)
    assert engine.executor.longest_context == 15, (
        "rows of up to 15 tokens were in a batch, in its middle and in the first two batches only; the meter says "
        f"{engine.executor.longest_context}"
    )


# --- 8.9 ---


@pytest.mark.exercise("8.9")
def test_poison_makes_nobody_wait():
    """Over poisoned buffers the engine is as fast as over clean ones, and the host waits for the sampled ids only."""
    assert_overlap(run_simulated(exhibit("poisoned_ids")), chapter7)


@pytest.mark.exercise("8.9")
@every_policy
def test_no_poison_reaches_a_request(policy: str):
    """The tokens are right in whatever order the device runs, and no id is read before it is written."""
    seen = run_simulated(exhibit("poisoned_ids"), policy)
    assert_no_race(seen)
    assert_tokens_right(seen, policy)


@pytest.mark.exercise("8.9")
def test_the_buffers_start_with_poison():
    """Before any batch has used them, the host sides of both IO buffers hold no token."""
    engine = engine_on(exhibit("poisoned_ids"))
    poison = exhibit("poisoned_ids", "UNWRITTEN")
    ids = [buffers.host_ids.tolist() for buffers in engine.executor.pool.buffers]
    assert ids == [[poison] * 6] * 2, f"both buffers' host ids should be all {poison} at the start; they are {ids}"
    dtypes = {buffers.host_ids.dtype for buffers in engine.executor.pool.buffers}
    assert dtypes == {torch.int64}, f"the host ids are int64, as on the device; with the poison they are {dtypes}"


@pytest.mark.exercise("8.9")
def test_the_poison_still_works():
    """Once their ids were read the buffers hold poison again, and reading them a second time is an error."""
    engine = engine_on(exhibit("poisoned_ids"))
    add_prompts(engine)
    run_on(engine)
    poison = exhibit("poisoned_ids", "UNWRITTEN")
    ids = [buffers.host_ids.tolist() for buffers in engine.executor.pool.buffers]
    assert ids == [[poison] * 6] * 2, (
        f"all ids were read, so both buffers' host ids should be all {poison} again; they are {ids}"
    )
    with pytest.raises(RuntimeError, match="read before they were written"):
        engine.executor.pool.buffers[0].read_ids(1)


# --- 8.10 ---


def archived(policy: str) -> tuple[dict[str, torch.Tensor], list[str]]:
    """What the archive holds after a run in which blocks are reused soon, and the races."""
    engine = engine_on(exhibit("kv_archive"), policy, num_blocks=26, max_rows=4)
    add_prompts(engine)
    outputs = run_on(engine)
    accelerator.synchronize()
    assert_all_tokens_right(outputs)
    return {name: kept.clone() for name, kept in engine.archive.items()}, [str(race) for race in accelerator.races()]


@pytest.mark.exercise("8.10")
@every_policy
def test_the_archive_holds_the_requests_own_keys_and_values(policy: str):
    """What is archived is the same in whatever order the device runs: no block is overwritten while it is saved."""
    kept, races = archived(policy)
    wrong = [name for name, right in archived("eager")[0].items() if not torch.equal(kept[name], right)]
    assert len(kept) == len(PROMPTS), f"{len(PROMPTS)} requests ended; archived are {sorted(kept)}"
    assert not races and not wrong, (
        f"under the policy {policy!r} the archive {f'is wrong for requests {wrong}' if wrong else 'is right by luck'}; "
        f"the first of {len(races)} races:\n"
        f"{races[0] if races else 'none was found'}"
    )


@pytest.mark.exercise("8.10")
def test_the_archive_overlaps():
    """Saving keeps nobody waiting: the run takes hardly longer than one without an archive."""
    assert_overlap(run_simulated(exhibit("kv_archive")), chapter7)


# --- 8.11 ---


@pytest.mark.exercise("8.11")
@every_policy
def test_narrow_ids_arrive_whole(policy: str):
    """The ids that come home are those that were sampled, in whatever order the device runs."""
    seen = run_simulated(exhibit("narrow_ids"), policy)
    assert_no_race(seen)
    assert_tokens_right(seen, policy)


@pytest.mark.exercise("8.11")
def test_narrow_ids_overlap():
    """Narrowing costs nothing: the host waits for the ids, and for nothing else."""
    assert_overlap(run_simulated(exhibit("narrow_ids")), chapter7)


@pytest.mark.exercise("8.11")
def test_ids_come_home_in_32_bits():
    """Half the bytes is what the engine is for."""
    engine = engine_on(exhibit("narrow_ids"))
    dtypes = {buffers.host_ids.dtype for buffers in engine.executor.pool.buffers}
    assert dtypes == {torch.int32}, f"the pinned ids are int32; they are {dtypes}"


# --- 8.12 ---


def foreign_writes(engine: Any, requests: Sequence[tuple[list[int], int]] = ()) -> list[str]:
    """Run the prompts, or these prompts and numbers of tokens; a line for each step that changed the cache where none
    of its tokens belongs."""
    found, run, cache = [], engine.executor.run, engine.executor.forward.storage
    size, trash = engine.entrance.config.block_size, engine.entrance.config.num_blocks

    def watch(batch: Any, buffers: Any) -> None:
        before = cache.cpu()
        run(batch, buffers)
        own = {*batch.inputs.slot_mapping.tolist(), *range(trash * size, (trash + 1) * size)}
        owners = {block: r.request_id for r in engine.scheduler.running for block in r.block_table}
        for place in sorted(changed_places(before, cache.cpu()) - own):
            owner = f"request {owners[place // size]!r}" if place // size in owners else "nobody"
            found.append(
                f"step {batch.step}, a batch of {len(batch.rows)} rows: it wrote into block {place // size}, offset "
                f"{place % size}, which belongs to {owner} and to no token of this step"
            )

    engine.executor.run = watch
    for i, (prompt, max_tokens) in enumerate(requests or [(prompt, MAX_TOKENS) for prompt in PROMPTS]):
        engine.add_request(str(i), prompt, SamplingParams(max_tokens=max_tokens))
    run_on(engine)
    return found


def changed_places(before: torch.Tensor, after: torch.Tensor) -> set[int]:
    """The token positions of the cache, counted from block 0, that differ; (2, layers, blocks, block_size, ...)."""
    differ = (before != after).flatten(4).any(dim=4).flatten(0, 1).any(dim=0)
    return set(differ.flatten().nonzero().flatten().tolist())


@pytest.mark.exercise("8.12")
def test_a_step_writes_where_its_tokens_belong():
    """A step changes the cache at the places of its own tokens and in the trash block, and nowhere else."""
    found = foreign_writes(engine_on(exhibit("quick_load")))
    assert not found, (
        f"{len(found)} times a step wrote where none of its tokens belongs; the first: {found[0]}. A graph is captured "
        "for a bucket of rows: those beyond the batch run, too. Where do their inputs come from?"
    )


@pytest.mark.exercise("8.12")
def test_every_padding_row_writes_into_the_trash_block():
    """Many requests that come and end: batches with several padding rows, of which none writes elsewhere."""
    engine = engine_on(exhibit("quick_load"), max_rows=16, num_blocks=60)
    lengths = [2 + 3 * (i % 5) for i in range(24)]
    found = foreign_writes(engine, [(PROMPTS[i % len(PROMPTS)], tokens) for i, tokens in enumerate(lengths)])
    assert not found, (
        f"{len(found)} times a step wrote where none of its tokens belongs; the first: {found[0]}. There may be "
        "several rows beyond the batch"
    )


@pytest.mark.exercise("8.12")
def test_quick_load_gives_the_right_tokens():
    """The tokens equal those of generate: no request finds somebody else's keys and values in its blocks."""
    seen = run_simulated(exhibit("quick_load"))
    assert_no_race(seen)
    wrong = [i for i, (mine, right) in enumerate(zip(seen.outputs, expected(), strict=True)) if mine != right]
    foreign = foreign_writes(engine_on(exhibit("quick_load"))) if wrong else []
    cause = likely(
        (bool(foreign), "steps wrote into blocks that are not their own"),
        otherwise="no step wrote into blocks that are not its own, so is each row what was packed for it",
    )
    assert not wrong, (
        f"the tokens of requests {wrong} differ from generate's, with no race: {cause}. "
        f"Request {wrong[0]} got {seen.outputs[wrong[0]]}, right is {expected()[wrong[0]]}"
    )


# --- 8.13 ---


@dataclass(frozen=True)
class Replay:
    """A decode step: what it needed, and what the graph that was replayed for it was captured for.

    Attributes:
        own_buffers: whether that graph was captured over the batch's own IO buffers.
    """

    needs: Sizes
    has: Sizes
    own_buffers: bool


def replays_by_width(monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, list[int]], list[Replay]]:
    """Run the prompts. Returns the tokens, and what was replayed."""
    forward = exhibit("narrow_graphs", "TwoWidths")
    capture, launch = forward.capture, forward.launch
    needed: list[tuple[Any, Sizes]] = []
    replays: list[Replay] = []

    def note_capture(self: Any, inputs: Any, output: Any, captured: Sizes) -> Any:
        has_result(self.key(output, captured), "key(output, sizes)")
        graph = capture(self, inputs, output, captured)
        replay = graph.replay

        def note_replay() -> None:
            of_batch, needs = needed[-1]
            replays.append(Replay(needs, captured, own_buffers=of_batch is output))
            replay()

        graph.replay = note_replay
        return graph

    def note_launch(self: Any, inputs: Any, output: Any, sizes: Sizes) -> None:
        needed.append((output, sizes))
        with graphs_are_found(self):
            launch(self, inputs, output, sizes)

    monkeypatch.setattr(forward, "capture", note_capture)
    monkeypatch.setattr(forward, "launch", note_launch)
    engine = engine_on(exhibit("narrow_graphs"), max_rows=6, num_blocks=60)
    add_prompts(engine)
    return run_on(engine), replays


@pytest.mark.exercise("8.13")
def test_a_graph_is_as_wide_as_its_batch(monkeypatch: pytest.MonkeyPatch):
    """A batch replays a graph whose block table holds its longest context; short ones replay a narrow graph."""
    outputs, replays = replays_by_width(monkeypatch)
    foreign = sum(not replay.own_buffers for replay in replays)
    assert not foreign, (
        f"{foreign} of {len(replays)} decode steps replayed a graph that was captured over the other IO buffers, so it "
        "read another batch's inputs. How does a launch find its graph?"
    )
    few = [(replay.needs.rows, replay.has.rows) for replay in replays if replay.has.rows < replay.needs.rows]
    assert not few, (
        f"{len(few)} of {len(replays)} decode steps replayed a graph that computes too few rows: one had "
        f"{few[0][0]}, and its graph was captured for {few[0][1]}. How does a launch find its graph?"
    )
    cut = [(replay.needs.width, replay.has.width) for replay in replays if replay.has.width < replay.needs.width]
    widths = sorted({replay.has.width for replay in replays})
    wrong = [str(i) for i, right in enumerate(expected()) if outputs.get(str(i)) != right]
    assert not cut, (
        f"{len(cut)} of {len(replays)} decode steps replayed a graph that reads too little of the block table: one "
        f"needed {cut[0][0]} columns and its graph reads {cut[0][1]}, so its context was cut. Graphs of the widths "
        f"{widths} were replayed; requests {wrong} got wrong tokens. How does a launch find its graph?"
    )
    wide = [replay.has.width for replay in replays if replay.needs.width <= 4 < replay.has.width]
    assert not wide, (
        f"{len(wide)} of {len(replays)} decode steps needed at most 4 columns and replayed a graph that reads "
        f"{wide[0]}: right tokens, but the narrow graphs are there for these"
    )
    assert not wrong, f"the tokens of requests {wrong} differ from generate's"


@dataclass(frozen=True)
class Captured:
    """Stands for a graph: what it was captured for, as (number of the IO buffers, rows, columns)."""

    what: tuple[int, int, int]
    replayed: list[tuple[int, int, int]]

    def replay(self) -> None:
        self.replayed.append(self.what)


@pytest.mark.exercise("8.13")
def test_every_capture_is_found_again():
    """Whatever the size of the IO buffers: a step of each captured size replays the graph captured for it."""
    accelerator.reset("eager")
    outputs = [torch.zeros(1, dtype=torch.int64) for _ in range(2)]
    for full_width in range(2, 80):
        forward = exhibit("narrow_graphs", "TwoWidths")(lambda *_: None, torch.zeros(1))
        replayed: list[tuple[int, int, int]] = []

        def capture(_: Any, output: Any, sizes: Sizes, seen: list[Any] = replayed) -> Captured:
            number = next(i for i, each in enumerate(outputs) if each is output)
            return Captured((number, sizes.rows, sizes.width), seen)

        forward.capture = capture
        for output in outputs:
            forward.capture_all({}, output, decode_sizes(64, full_width))
        for index, output in enumerate(outputs):
            for rows in bucket_sizes(64):
                for width in (-(-full_width // 16), full_width):
                    forward.launch({}, output, decode_sizes(rows, width))
                    assert replayed[-1] == (index, rows, width), (
                        f"two captures have the same key: a step of {rows} rows and {width} columns in IO buffers "
                        f"{index} replayed the graph of {replayed[-1][1]} rows and {replayed[-1][2]} columns in IO "
                        f"buffers {replayed[-1][0]}. One has taken the place of the other, and a batch "
                        "replays a graph that reads too little, or too much"
                    )


def decode_sizes(rows: int, width: int) -> Sizes:
    return Sizes(rows, rows, rows, width, num_decode_rows=rows, max_query_length=1, greedy=True)


@pytest.mark.exercise("8.13")
@pytest.mark.parametrize("policy", ["lazy", "random:1"])
def test_two_widths_give_the_right_tokens(policy: str):
    """The tokens equal those of generate, for short and for long contexts."""
    seen = run_simulated(exhibit("narrow_graphs"), policy, max_rows=4)
    assert_no_race(seen)
    wrong = [i for i, (mine, right) in enumerate(zip(seen.outputs, expected(), strict=True)) if mine != right]
    assert not wrong, (
        f"the tokens of requests {wrong} differ from generate's, with no race. The prompts have "
        f"{[len(prompt) for prompt in PROMPTS]} tokens: which of them are long, and which graph do their batches "
        "replay?"
    )


def test_the_museums_engines_are_as_fast_as_their_chapters():
    """With graphs, too: chapter 6's engine and the museum's take the same simulated time."""
    for module in ("quick_load", "narrow_graphs"):
        assert_overlap(run_simulated(exhibit(module), max_rows=2), chapter6, max_rows=2)
