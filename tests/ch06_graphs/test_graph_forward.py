"""Exercises 6.2 to 6.4: capture, the right graph, one pool. With a forward of a few operations.

Those that look at the race detector, at simulated spans or at the simulated allocator need the simulated GPU; the
others run on CUDA as well.
"""

import pytest
import torch

from tests.ch06_graphs.toy_forward import FULL, ROWS, TEMPORARY, Toy, expected_ids
from tests.simulated import needs_simulator
from tests.words import counted
from toolkit.device import accelerator


def only_report(toy: Toy) -> str:
    races = accelerator.races()
    return f"{counted(len(races), 'race')}; the first one:\n{races[0]}" if races else ""


# --- 6.2: capture ---


def captured(toy: Toy, rows: int = 2) -> object:
    from ch06_graphs import decode_step

    graph = toy.tested.capture(toy.inputs[0], toy.outputs[0], decode_step(FULL, rows, greedy=True))
    assert hasattr(graph, "replay"), f"capture must return the graph; it returned {graph!r:.80}"
    return graph


@pytest.mark.both
@pytest.mark.exercise("6.2")
def test_the_step_is_run_once_before_it_is_captured():
    """The forward is called eagerly first, to warm up, and then once more to be recorded."""
    toy = Toy(on_race="collect")
    captured(toy)
    seen = ["recorded" if capturing else "run" for _, capturing, _ in toy.calls]
    assert "recorded" in seen, f"the step must be called inside `with accelerator.graph(...)`; its calls: {seen}"
    assert seen[0] == "run" and seen.count("recorded") == 1, (
        f"the step's calls were: {seen}; wanted: run, recorded. Without a warm-up CUDA would load kernels and make "
        "workspaces during the capture, where it may refuse to"
    )
    sizes = {sizes for sizes, _, _ in toy.calls}
    assert len(sizes) == 1, (
        f"the step was called with {len(sizes)} different sizes: {sizes}. Warm up what is captured; other sizes may "
        "use other kernels"
    )


@pytest.mark.both
@pytest.mark.exercise("6.2")
def test_the_warm_up_is_on_the_capturing_stream():
    """Both calls of the step are on the stream `capturing`, so that what the first one prepares serves the second."""
    toy = Toy(on_race="collect")
    captured(toy)
    reason = "libraries keep a workspace for each stream, and the allocator keeps memory apart by stream"
    for _, capturing, stream in toy.calls:
        where = "inside accelerator.graph, which takes the stream as stream=" if capturing else "for the warm-up"
        assert stream == toy.tested.capturing, (
            f"the step was called {where}, on the stream {getattr(stream, 'name', stream)!r}, which is not "
            f"self.capturing; both calls belong on self.capturing: {reason}"
        )


@needs_simulator
@pytest.mark.exercise("6.2")
def test_the_warm_up_waits_for_the_inputs():
    """The inputs were written on another stream: the warm-up is ordered behind that, so there is no race."""
    toy = Toy(on_race="collect")
    captured(toy)
    assert not accelerator.races(), only_report(toy)
    writer = accelerator.Stream(name="writer")
    with accelerator.stream(writer):
        toy.inputs[0]["input_ids"].add_(1)
        captured(toy)
    assert not accelerator.races(), (
        "capture was called with another stream as the current one, which has written the inputs. "
        f"`capturing` has to wait for the stream that is current when capture is called: {only_report(toy)}"
    )


@pytest.mark.both
@pytest.mark.exercise("6.2")
def test_a_graph_computes_what_its_inputs_hold_at_replay():
    """A replay runs the recorded step on what the input tensors hold then, and leaves the ids in the output."""
    toy = Toy()
    graph = captured(toy)
    accelerator.synchronize()
    toy.inputs[0]["input_ids"].add_(5)
    toy.outputs[0].zero_()
    graph.replay()
    seen = toy.outputs[0].tolist()
    assert seen == [5020, 6020, 0, 0], (
        f"the inputs are 5 and 6, captured for 2 rows, so the ids are 5020 and 6020 and the rest stays 0; seen {seen}"
        + ". Nothing was written into the output: self.step, which copies the ids there, is what has to be recorded"
        * (not any(seen))
    )


@pytest.mark.both
@pytest.mark.exercise("6.2")
def test_temporaries_come_from_the_pool():
    """What the step allocates while it is captured lies in its pool, not in one of the graph's own."""
    toy = Toy()
    graph = captured(toy)
    assert graph.pool() == toy.tested.pool, (
        "the graph got a pool of its own: give the capture pool=self.pool, or every graph keeps its temporaries for "
        "itself"
    )


# --- 6.3: the right graph ---


@pytest.mark.both
@pytest.mark.exercise("6.3")
def test_every_capture_has_a_key_of_its_own():
    """Two sets of IO buffers, three buckets, greedy and sampled: 12 graphs, and none has taken another one's place."""
    toy = Toy().capture_all()
    captured, left = len(toy.captures), len(toy.tested.graphs)
    assert captured == left == 12, (
        f"2 sets of IO buffers x 3 buckets x (greedy, sampled) make 12 graphs; captured: {captured}, left: {left}"
        + ". Keys that are the same for two captures lose one of them: the buffers (their output's address), the rows "
        "and greedy all belong in" * (left < captured)
    )


@pytest.mark.both
@pytest.mark.exercise("6.3")
@pytest.mark.parametrize(("rows", "bucket"), [(1, 1), (2, 2), (3, 4), (4, 4)])
def test_a_batch_replays_its_bucket(rows: int, bucket: int):
    """A decode step of n rows is computed by the smallest graph with room for n, and the first n ids are right."""
    Toy().capture_all().check_ids(0, rows)


@pytest.mark.both
@pytest.mark.exercise("6.3")
@pytest.mark.parametrize(("rows", "samples"), [(2, 1), (4, 2)])
def test_rows_that_do_not_sample_need_room_too(rows: int, samples: int):
    """The last chunk but one of a prompt may be a single token: a row that decodes and does not sample yet."""
    Toy().capture_all().check_ids(0, rows, samples=samples)


@pytest.mark.both
@pytest.mark.exercise("6.3")
def test_greedy_and_sampled_have_graphs_of_their_own():
    """What is captured for greedy takes the most likely token; a sampled batch must not replay it, nor the reverse."""
    toy = Toy().capture_all()
    for greedy in (True, False, True):
        toy.check_ids(0, 2, greedy)


@pytest.mark.both
@pytest.mark.exercise("6.3")
def test_all_buffers_have_graphs_of_their_own():
    """A graph is bound to addresses: launching reads its buffers' inputs and writes its buffers' ids."""
    toy = Toy().capture_all()
    for number in (0, 1, 0):
        toy.check_ids(number, 2)


@needs_simulator
@pytest.mark.exercise("6.3")
@pytest.mark.parametrize(("rows", "samples", "greedy"), [(3, 3, True), (4, 4, False), (2, 1, True), (3, 1, False)])
def test_a_decode_step_is_one_launch(rows: int, samples: int, greedy: bool):
    """A decode step, greedy or sampled, queues one operation and calls no Python of the forward."""
    toy = Toy().capture_all()
    before, waited = len(accelerator.spans()), len(accelerator.synchronisations())
    toy.launch(0, rows, greedy, samples)
    assert not toy.calls, (
        f"a decode step of {counted(rows, 'row')}, {samples} of which sample, greedy={greedy}, was launched "
        "operation by operation; replay its graph instead"
    )
    seen = [span.name for span in accelerator.spans()[before:]]
    waits = [f"{wait.what} at {wait.site}" for wait in accelerator.synchronisations()[waited:]]
    assert not waits, f"a step is queued and not waited for; the host waited in {waits[0]}"
    assert seen == ["graph replay"], f"one launch, a graph replay, was wanted; the device got {seen}"


@pytest.mark.both
@pytest.mark.exercise("6.3")
def test_a_step_with_prompts_is_launched_eagerly():
    """A step in which some row computes several tokens has a shape of its own: it is run by `step`, on this stream."""
    from dataclasses import replace

    toy = Toy().capture_all()
    mixed = replace(FULL, tokens=4, rows=3, samples=3, num_decode_rows=2, max_query_length=2)
    with accelerator.stream(toy.compute):
        toy.tested.launch(toy.inputs[0], toy.outputs[0], mixed)
    sizes = [sizes for sizes, _, _ in toy.calls]
    assert sizes == [mixed], (
        "a step of 3 rows, one of them with 2 tokens, must not replay a graph of decode rows (one token each): call "
        f"self.step with its own sizes; the forward was called with {sizes}"
    )
    streams = [stream for _, _, stream in toy.calls]
    assert streams == [toy.compute], "self.step was called, and not on the stream that was current"
    accelerator.synchronize()
    seen, expected = toy.outputs[0][:3].tolist(), expected_ids(0, 3, 3)
    assert seen == expected, (
        f"the step's own ids are {expected}, seen {seen}: a graph was replayed behind it, for decode rows, and has "
        "written over them. A step is either replayed or run by self.step"
    )


# --- 6.4: one pool ---


def growth(sets: int = 2) -> list[int]:
    """Bytes that each set's graphs add to what the allocator holds, with large temporaries."""
    toy = Toy(temporary=TEMPORARY)
    grown = []
    for inputs, output in list(zip(toy.inputs, toy.outputs, strict=True))[:sets]:
        accelerator.synchronize()
        accelerator.empty_cache()
        before = accelerator.memory_reserved()
        toy.tested.capture_all(inputs, output, FULL)
        accelerator.empty_cache()
        grown.append(accelerator.memory_reserved() - before)
    return grown


@needs_simulator
@pytest.mark.exercise("6.4")
@pytest.mark.usefixtures("no_garbage")
def test_the_second_set_needs_hardly_any_memory():
    """All graphs take their temporaries from one pool: a second set's graphs fit into what the first one's left."""
    first, second = growth()
    one = ROWS * TEMPORARY * 4
    assert first > one, f"the largest bucket alone needs temporaries of {one:,} bytes; its graphs hold {first:,}"
    assert second < 0.05 * first, (
        f"the graphs of the first IO buffers hold {first:,} bytes, the second set's another {second:,}. They can "
        "use the same memory: one pool for all captures, made once, and all captures on one stream"
    )


@needs_simulator
@pytest.mark.exercise("6.4")
@pytest.mark.usefixtures("no_garbage")
def test_greedy_and_sampled_share_too():
    """Within one set, too, graphs of the same size use the same memory."""
    first = growth(sets=1)[0]
    sizes = [rows * TEMPORARY * 4 for rows in (4, 2, 1)]
    assert first < 2.6 * sum(sizes), (
        f"six graphs of one set hold {first:,} bytes; the temporaries of one graph for each bucket are about "
        f"{2 * sum(sizes):,}. Does every graph have a pool of its own?"
    )


@pytest.mark.both
@pytest.mark.exercise("6.4")
def test_every_bucket_is_captured_largest_first():
    """Each set's captures go from the largest bucket to the smallest, greedy and sampled each."""
    from ch06_graphs import decode_step

    toy = Toy()
    toy.tested.capture_all(toy.inputs[0], toy.outputs[0], FULL)
    seen = [(sizes.rows, sizes.greedy) for sizes, capturing, _ in toy.calls if capturing]
    assert sorted(seen) == sorted((rows, greedy) for rows in (1, 2, 4) for greedy in (True, False)), (
        f"IO buffers of 4 rows need the buckets 1, 2 and 4, each for greedy and for sampled; captured were {seen}"
    )
    rows = [rows for rows, _ in seen]
    assert rows == sorted(rows, reverse=True), (
        f"the buckets were captured in the order {rows}; the largest first, greedy and sampled, so that the smaller "
        "ones fit into its memory"
    )
    for sizes, _, _ in toy.calls:
        wanted = decode_step(FULL, sizes.rows, sizes.greedy)
        assert sizes == wanted, f"captured was {sizes}; decode_step makes {wanted} of the full step for this bucket"


def overlap_sets(toy: Toy) -> str:
    """Set 0's ids are copied out on d2h while set 1's graph runs, and the other way round. Returns the report."""
    from toolkit.device import new_stream

    d2h = new_stream("d2h")
    host = [torch.zeros(ROWS, dtype=torch.int64, pin_memory=True) for _ in range(2)]
    for number in (0, 1, 0, 1):
        toy.launch(number, 4)
        d2h.wait_stream(toy.compute)
        with accelerator.stream(d2h):
            host[number].copy_(toy.outputs[number], non_blocking=True)
        toy.launch(1 - number, 2)
        d2h.synchronize()
        toy.compute.synchronize()
    return only_report(toy)


@needs_simulator
@pytest.mark.exercise("6.4")
def test_ids_are_read_while_the_other_sets_graph_runs():
    """The sampled ids lie outside the pool: they may be copied out while the other set's graph uses the pool."""
    report = overlap_sets(Toy(on_race="collect").capture_all())
    assert not report, f"set 0's ids were copied out while set 1's graph ran, and the reverse: {report}"


@needs_simulator
@pytest.mark.exercise("6.3")
def test_graphs_take_turns_on_the_callers_stream():
    """Replays are queued on the current stream, one behind the other: two graphs of one pool never run at once."""
    toy = Toy(on_race="collect").capture_all()
    for number in (0, 1, 0, 1):
        toy.launch(number, 2)
    assert not accelerator.races(), f"four decode steps, queued on one stream: {only_report(toy)}"


# --- what the simulated GPU says of graphs that are used wrongly ---


@needs_simulator
def test_two_graphs_of_one_pool_at_once_are_reported():
    """Replayed on two streams that nothing orders, two sets' graphs overwrite each other's temporaries: a race."""
    toy = Toy(on_race="collect").capture_all()
    toy.launch(0, 2)
    toy.compute = accelerator.Stream(name="another")
    toy.launch(1, 2)
    assert "memory that two graphs of one pool share" in only_report(toy)


@needs_simulator
def test_ids_kept_in_the_pool_are_reported():
    """Ids that were allocated in a capture lie where another graph writes: copying them out meanwhile is a race."""
    toy = Toy(on_race="collect")
    for number in range(2):
        with accelerator.graph(accelerator.CUDAGraph(), pool=toy.tested.pool, stream=toy.tested.capturing):
            toy.outputs[number] = torch.zeros_like(toy.outputs[number])
        toy.tested.capture_all(toy.inputs[number], toy.outputs[number], FULL)
    accelerator.synchronize()
    assert "memory of a graph pool" in overlap_sets(toy)


@needs_simulator
def test_a_graph_that_reads_what_another_keeps_in_the_pool_is_wrong():
    """A tensor that one graph leaves in the pool holds another graph's temporaries by the time it is read."""
    toy = Toy().capture_all()
    first, second, kept_is = accelerator.CUDAGraph(), accelerator.CUDAGraph(), torch.zeros(ROWS, device="sim").long()
    with accelerator.graph(first, pool=toy.tested.pool, stream=toy.tested.capturing):
        kept = toy.inputs[1]["input_ids"] * 1
    with accelerator.graph(second, pool=toy.tested.pool, stream=toy.tested.capturing):
        kept_is.copy_(kept)
    first.replay()
    second.replay()
    assert kept_is.tolist() == [10, 11, 12, 13], "read at once, the kept tensor is still there"
    first.replay()
    toy.compute.wait_stream(accelerator.current_stream())
    toy.launch(0, 4)
    accelerator.current_stream().wait_stream(toy.compute)
    second.replay()
    assert kept_is.tolist() != [10, 11, 12, 13], "set 0's graph ran in between; its temporaries lie there"


@needs_simulator
def test_inputs_moved_after_the_capture_are_an_error():
    """A new tensor under the old name is at a new address, which the graph does not know: the replay says so."""
    toy = Toy().capture_all()
    toy.inputs[0]["input_ids"] = toy.inputs[0]["input_ids"] + 1
    with pytest.raises(accelerator.CaptureError, match="freed, or moved(.|\n)*copy_"):
        toy.launch(0, 2)
