"""The bug museum, exercises 8.12 and 8.13: what graphs read and write beside a batch, and which graph is replayed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch

from ch02_continuous_batching import SamplingParams
from ch06_graphs import bucket_sizes
from ch06_graphs.build import build as chapter6
from tests.causes import likely
from tests.ch06_graphs.toy_forward import graphs_are_found
from tests.ch08_full_engine.museum_runs import add_prompts, assert_overlap, engine_on, exhibit, run_on
from tests.simulated import MAX_TOKENS, PROMPTS, assert_no_race, expected, needs_simulator, run_simulated
from tests.words import counted
from toolkit.device import accelerator
from toolkit.forward import Sizes

pytestmark = needs_simulator


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
            owner = f"request {owners[place // size]!r}" if place // size in owners else "no request"
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
        f"{counted(len(found), 'time')} a step wrote where none of its tokens belongs; the first: {found[0]}. A "
        "graph is captured "
        "for a bucket of rows: those beyond the batch run, too. Where do their inputs come from?"
    )


@pytest.mark.exercise("8.12")
def test_every_padding_row_writes_into_the_trash_block():
    """Many requests that come and end: batches with several padding rows, of which none writes elsewhere."""
    engine = engine_on(exhibit("quick_load"), max_rows=16, num_blocks=60)
    lengths = [2 + 3 * (i % 5) for i in range(24)]
    found = foreign_writes(engine, [(PROMPTS[i % len(PROMPTS)], tokens) for i, tokens in enumerate(lengths)])
    assert not found, (
        f"{counted(len(found), 'time')} a step wrote where none of its tokens belongs; the first: {found[0]}. There "
        "may be "
        "several rows beyond the batch"
    )


@pytest.mark.exercise("8.12")
def test_padding_rows_have_the_shape_of_padding():
    """Behind the last row of a batch, what shapes rows is padding, whatever an earlier batch has left there."""
    engine = engine_on(exhibit("quick_load"), max_rows=16, num_blocks=60)
    found: list[str] = []

    def watch(buffers: Any, load: Callable[[Any], None], inputs: Any) -> None:
        load(inputs)
        for name in ("query_start_loc", "seq_lens", "logits_indices"):
            used = len(getattr(inputs, name))
            left, padding = (each[used:].tolist() for each in (buffers.host_inputs[name], buffers.padding[name]))
            if left != padding:
                found.append(
                    f"{name} holds {left} behind a batch of {len(inputs.seq_lens)} rows, and padding is {padding}"
                )

    for buffers in engine.executor.pool.buffers:
        buffers.load = partial(watch, buffers, buffers.load)
    for i in range(24):
        engine.add_request(str(i), PROMPTS[i % len(PROMPTS)], SamplingParams(max_tokens=2 + 3 * (i % 5)))
    run_on(engine)
    assert not found, (
        f"{counted(len(found), 'time')} a row beyond the batch had the shape of an earlier one: {found[0]}. A graph "
        "runs "
        "these rows, too, and looks for their tokens where these numbers say"
    )


@pytest.mark.exercise("8.12")
def test_the_launch_stays_quick():
    """What no kernel looks at behind a batch's last row is not written: that is what these buffers are for."""
    engine = engine_on(exhibit("quick_load"), max_rows=16, num_blocks=60)
    needed = {"query_start_loc", "seq_lens", "logits_indices", "slot_mapping", "block_table"}
    left, written = -7, set()

    def watch(buffers: Any, load: Callable[[Any], None], inputs: Any) -> None:
        behind = {
            name: buffers.host_inputs[name][len(values) :]
            for name, values in inputs.tensors().items()
            if name not in needed
        }
        for tensor in behind.values():
            tensor.fill_(left)
        load(inputs)
        written.update(name for name, tensor in behind.items() if (tensor != left).any())

    for buffers in engine.executor.pool.buffers:
        buffers.load = partial(watch, buffers, buffers.load)
    for i in range(4):
        engine.add_request(str(i), PROMPTS[i % len(PROMPTS)], SamplingParams(max_tokens=2 + i))
    run_on(engine)
    assert not written, (
        f"behind a batch's last row, padding was written into {', '.join(sorted(written))} as well. These are read for "
        "padding rows only, whose results are never looked at: that cleans all and takes the quick launch back"
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


KEY = "buffers, rows and columns of the bucket, greedy"


@dataclass(frozen=True)
class Replay:
    """A decode step: what it needed, and what the graph that was replayed for it was captured for.

    Attributes:
        own_buffers: whether that graph was captured over the batch's own IO buffers.
    """

    needs: Sizes
    has: Sizes
    own_buffers: bool


@dataclass
class Noted:
    """What a TwoWidths did.

    Attributes:
        launched: the greedy decode steps, which replay graphs; each with its output.
        replays: what was replayed for them.
    """

    launched: list[tuple[Any, Sizes]]
    replays: list[Replay]

    def check_buffers_and_rows(self) -> None:
        """Every step has replayed a graph of its own IO buffers that computes all of its rows."""
        steps = f"of {counted(len(self.replays), 'decode step')} replayed a graph that"
        foreign = sum(not replay.own_buffers for replay in self.replays)
        assert not foreign, (
            f"{foreign} {steps} was captured over the other IO buffers, so it read another batch's inputs. How does a "
            "launch find its graph?"
        )
        few = [(replay.needs.rows, replay.has.rows) for replay in self.replays if replay.has.rows < replay.needs.rows]
        assert not few, (
            f"{len(few)} {steps} computes too few rows: one had {few[0][0]}, and its graph was captured for "
            f"{few[0][1]}. How does a launch find its graph?"
        )


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Noted:
    """From now on a TwoWidths notes what it replays, however it keeps its graphs."""
    forward = exhibit("narrow_graphs", "TwoWidths")
    capture, launch = forward.capture, forward.launch
    noted = Noted([], [])

    def note_capture(self: Any, inputs: Any, output: Any, captured: Sizes) -> Any:
        graph = capture(self, inputs, output, captured)
        replay = graph.replay

        def note_replay() -> None:
            of_batch, needs = noted.launched[-1]
            noted.replays.append(Replay(needs, captured, own_buffers=of_batch is output))
            replay()

        graph.replay = note_replay
        return graph

    def note_launch(self: Any, inputs: Any, output: Any, sizes: Sizes) -> None:
        assert None not in self.graphs, (
            "a graph was kept under the key None: is `return` missing in key(output, sizes)?"
        )
        if sizes.is_decode and sizes.greedy:
            noted.launched.append((output, sizes))
        with graphs_are_found(self, KEY):
            launch(self, inputs, output, sizes)

    monkeypatch.setattr(forward, "capture", note_capture)
    monkeypatch.setattr(forward, "launch", note_launch)
    return noted


@pytest.mark.exercise("8.13")
def test_a_graph_is_as_wide_as_its_batch(noted: Noted):
    """A batch replays a graph whose block table holds its longest context; short ones replay a narrow graph."""
    engine = engine_on(exhibit("narrow_graphs"), max_rows=6, num_blocks=60)
    add_prompts(engine)
    outputs = run_on(engine)
    replays = noted.replays
    assert len(replays) == len(noted.launched), (
        f"{counted(len(noted.launched), 'greedy decode step was', 'greedy decode steps were')} launched, and "
        f"{counted(len(replays), 'captured graph was', 'captured graphs were')} replayed for them"
    )
    noted.check_buffers_and_rows()
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


class Capture(NamedTuple):
    """What a graph was captured for."""

    buffers: int
    rows: int
    width: int

    def __str__(self) -> str:
        return f"{counted(self.rows, 'row')} and {counted(self.width, 'column')} in IO buffers {self.buffers}"


@pytest.mark.exercise("8.13")
def test_every_capture_is_found_again():
    """Whatever the size of the IO buffers: a step of each captured size replays the graph captured for it."""
    accelerator.reset("eager")
    outputs = [torch.zeros(1, dtype=torch.int64) for _ in range(2)]
    for full_width in range(2, 80):
        forward = exhibit("narrow_graphs", "TwoWidths")(lambda *_: None, torch.zeros(1))
        captured: list[Capture] = []
        replayed: list[Capture] = []
        forward.capture = partial(note_capture, outputs, captured, replayed)
        for output in outputs:
            forward.capture_all({}, output, decode_sizes(64, full_width))
        for index, output in enumerate(outputs):
            for rows in bucket_sizes(64):
                for width in (-(-full_width // 16), full_width):
                    wanted, before = Capture(index, rows, width), len(replayed)
                    with graphs_are_found(forward, KEY):
                        forward.launch({}, output, decode_sizes(rows, width))
                    assert len(replayed) > before, f"a step of {wanted} replayed no captured graph"
                    assert replayed[-1] == wanted, (
                        f"a step of {wanted} replayed the graph of {replayed[-1]}. "
                        + likely(
                            (wanted not in captured, "No graph was captured for the step"),
                            otherwise="The step's own graph was captured, too: has another one taken its place?",
                        )
                    )


def note_capture(
    outputs: list[torch.Tensor], captured: list[Capture], replayed: list[Capture], _: Any, output: Any, sizes: Sizes
) -> SimpleNamespace:
    """Stands for TwoWidths.capture: note what is captured, and give a graph that notes its replays."""
    number = next(i for i, each in enumerate(outputs) if each is output)
    captured.append(Capture(number, sizes.rows, sizes.width))
    return SimpleNamespace(replay=partial(replayed.append, captured[-1]))


def decode_sizes(rows: int, width: int) -> Sizes:
    return Sizes(rows, rows, rows, width, num_decode_rows=rows, max_query_length=1, greedy=True)


@pytest.mark.exercise("8.13")
@pytest.mark.parametrize("policy", ["lazy", "random:1"])
def test_two_widths_give_the_right_tokens(policy: str, noted: Noted):
    """The tokens equal those of generate, for short and for long contexts."""
    seen = run_simulated(exhibit("narrow_graphs"), policy, max_rows=4)
    noted.check_buffers_and_rows()
    assert_no_race(seen)
    wrong = [i for i, (mine, right) in enumerate(zip(seen.outputs, expected(), strict=True)) if mine != right]
    assert not wrong, (
        f"the tokens of requests {wrong} differ from generate's, with no race. The prompts have "
        f"{[len(prompt) for prompt in PROMPTS]} tokens: which of them are long, and which graph do their batches "
        "replay?"
    )


@pytest.mark.long
@pytest.mark.overlap
def test_the_museums_engines_are_as_fast_as_their_chapters():
    """With graphs, too: chapter 6's engine and the museum's take the same simulated time."""
    for module in ("quick_load", "narrow_graphs"):
        assert_overlap(run_simulated(exhibit(module), max_rows=2), chapter6, max_rows=2)
