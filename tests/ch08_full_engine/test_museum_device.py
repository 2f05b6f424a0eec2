"""The bug museum, exercises 8.6 to 8.11: memory, copies and streams.

For each bug there is a test that it fails, and others that its wrong repairs fail: waiting for everything makes every
race go away, and the overlap with it.
"""

from functools import cache
from typing import Any

import pytest
import torch

from ch02_continuous_batching import SamplingParams
from ch07_carry_over.build import build as chapter7
from tests.causes import has_result
from tests.ch08_full_engine.museum_runs import (
    BLOCK_SIZE,
    POLICIES,
    add_prompts,
    assert_all_tokens_right,
    assert_overlap,
    engine_on,
    exhibit,
    run_on,
    slow_copies,
)
from tests.helpers import shared_reference
from tests.simulated import (
    PROMPTS,
    assert_no_race,
    assert_tokens_right,
    expected,
    needs_simulator,
    run_simulated,
)
from tests.words import counted, must_raise
from toolkit.device import accelerator

pytestmark = needs_simulator
every_policy = pytest.mark.parametrize("policy", POLICIES)


# --- 8.6 ---


@pytest.mark.exercise("8.6")
@every_policy
def test_inputs_arrive_as_they_were_packed(policy: str):
    """Every batch computes what was packed for it, and the tokens are right in whatever order the device runs."""
    seen = run_simulated(exhibit("lean_buffers"), policy, costs=slow_copies())
    assert_no_race(seen)
    assert_tokens_right(seen, policy)


@pytest.mark.exercise("8.6")
def test_the_buffers_share_their_pinned_inputs():
    """Half of the pinned memory is what the engine is for."""
    first, second = engine_on(exhibit("lean_buffers")).executor.pool.buffers
    own = [name for name in first.host_inputs if first.host_inputs[name] is not second.host_inputs[name]]
    assert not own, (
        f"each of the IO buffers has pinned tensors of its own for {own}: {len(own)} of {len(first.host_inputs)} "
        "inputs are pinned twice, and the engine is there to pin each once"
    )


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
@pytest.mark.overlap
def test_lean_buffers_overlap():
    """The engine with half of the pinned memory is as fast as the one with all of it."""
    assert_overlap(run_simulated(exhibit("lean_buffers")), chapter7)


# --- 8.7 ---


@pytest.mark.exercise("8.7")
@every_policy
def test_verdicts_are_read_when_they_are_there(policy: str):
    """No batch is refused, since all ids are good, and no verdict is read while its copy may be under way."""
    engine = engine_on(exhibit("guarded_ids"), policy, slow_copies())
    add_prompts(engine)
    refused, outputs = "", {}
    try:
        run_on(engine, outputs)
    except RuntimeError as error:
        refused = f"a good batch was refused ({error}), and "
    races = [str(race) for race in accelerator.races()]
    assert not races and not refused, f"under the policy {policy!r}: {refused}" + (
        f"{counted(len(races), 'race')}; the first one:\n{races[0]}" if races else "no race was found"
    )
    assert_all_tokens_right(outputs)


@pytest.mark.exercise("8.7")
def test_a_bad_id_is_refused():
    """The device still checks: an id that is not in the vocabulary when its batch is launched is refused."""
    engine = engine_on(exhibit("guarded_ids"), "eager")
    executor, whole, launch = engine.executor, engine.executor.vocabulary, engine.executor.launch

    def launch_with_few_ids(batch: Any) -> Any:
        executor.vocabulary = 3
        try:
            return launch(batch)
        finally:
            executor.vocabulary = whole

    executor.launch = launch_with_few_ids
    add_prompts(engine)
    sampled = max(max(tokens) for tokens in expected())
    otherwise = (
        f"`vocabulary` was 3 while batches were launched, and {whole} again while they were waited for. Ids up to "
        f"{sampled} were sampled, and no batch was refused. The device compares them, behind the forward, and the host "
        "reads its verdicts: is a verdict computed, copied out and looked at?"
    )
    with must_raise(RuntimeError, "not in the vocabulary", otherwise):
        run_on(engine)


@pytest.mark.exercise("8.7")
@pytest.mark.overlap
def test_guarded_ids_overlap():
    """Checking the ids costs nothing: the host waits for the ids, and for nothing else."""
    assert_overlap(run_simulated(exhibit("guarded_ids")), chapter7)


# --- 8.8 ---


@pytest.mark.exercise("8.8")
@pytest.mark.overlap
def test_the_meter_makes_nothing_wait():
    """With the meter the engine is as fast as without, and the host waits for the sampled ids only."""
    assert_overlap(run_simulated(exhibit("context_meter")), chapter7)


@pytest.mark.exercise("8.8")
def test_the_meter_is_right():
    """The longest context is that of the longest prompt with all its tokens but the last, and the tokens are right."""
    engine = engine_on(exhibit("context_meter"))
    add_prompts(engine)
    outputs = run_on(engine)
    races = [str(race) for race in accelerator.races()]
    assert not races, f"{counted(len(races), 'race')}; the first one:\n{races[0]}"
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
@pytest.mark.overlap
def test_poison_makes_nothing_wait():
    """Over poisoned buffers the engine is as fast as over clean ones, and the host waits for the sampled ids only."""
    assert_overlap(run_simulated(exhibit("poisoned_ids")), chapter7)


@pytest.mark.exercise("8.9")
@every_policy
def test_no_poison_reaches_a_request(policy: str):
    """The tokens are right in whatever order the device runs, and no id is read before it is written."""
    seen = run_simulated(exhibit("poisoned_ids"), policy, costs=slow_copies())
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
    otherwise = f"both buffers hold {poison}, which no batch has written, and read_ids(1) hands it out without an error"
    with must_raise(RuntimeError, "read before they were written", otherwise):
        engine.executor.pool.buffers[0].read_ids(1)


# --- 8.10 ---


def archived(policy: str) -> tuple[dict[str, torch.Tensor], list[str]]:
    """What the archive holds after a run in which blocks are reused soon, and the races."""
    engine = engine_on(exhibit("kv_archive"), policy, slow_copies(), num_blocks=12, max_rows=4)
    add_prompts(engine)
    outputs = run_on(engine)
    accelerator.synchronize()
    assert_all_tokens_right(outputs)
    for name, kept in engine.archive.items():
        has_result(kept, f"the copy of request {name!r}, save(blocks),")
    return {name: kept.clone() for name, kept in engine.archive.items()}, [str(race) for race in accelerator.races()]


@cache
def own_keys_and_values(prompt: int) -> torch.Tensor:
    """What the library's own model computes for a prompt and its tokens but the last, which is never computed.

    (tokens, 2, layers, kv_heads, head_dim), as the archive has them within a block.
    """
    model = shared_reference()
    ids = [*PROMPTS[prompt], *expected()[prompt][:-1]]
    with torch.no_grad():
        layers = model(torch.tensor([ids]), use_cache=True).past_key_values.layers
    return torch.stack([torch.stack([layer.keys[0], layer.values[0]]) for layer in layers], dim=1).permute(
        3, 0, 1, 2, 4
    )


def what_is_wrong(name: str, kept: torch.Tensor) -> str:
    """In which the archived blocks of a request differ from its own keys and values; "" if they do not."""
    right, size = own_keys_and_values(int(name)), BLOCK_SIZE
    needed, block = -(-len(right) // size), (*right.shape[1:3], size, *right.shape[3:])
    if kept.shape[1:] != block:
        return (
            f"a block is (2, layers, block_size, kv_heads, head_dim), here {block}; saved is {tuple(kept.shape)} in all"
        )
    if len(kept) < needed:
        return (
            f"its {len(right)} tokens fill {needed} blocks, and {counted(len(kept), 'block was', 'blocks were')} saved"
        )
    seen = kept.permute(0, 3, 1, 2, 4, 5).flatten(0, 1)
    same = [bool(torch.allclose(a, b, atol=1e-4)) for a, b in zip(seen, right, strict=False)]
    if all(same):
        return ""
    wrong = [position for position, is_same in enumerate(same) if not is_same]
    place = next(
        (
            f"there are those of request {str(i)!r} at position {position}"
            for i in range(len(PROMPTS))
            for position, other in enumerate(own_keys_and_values(i))
            if torch.allclose(seen[wrong[0]], other, atol=1e-4)
        ),
        "there are some that no request has computed",
    )
    return f"{len(wrong)} of its {len(right)} positions hold others than its own, the first of them {wrong[0]}: {place}"


@pytest.mark.exercise("8.10")
@every_policy
def test_the_archive_holds_the_requests_own_keys_and_values(policy: str):
    """Archived are a request's own keys and values, all of them and in order, whatever the device runs first."""
    kept, races = archived(policy)
    missing = sorted({str(i) for i in range(len(PROMPTS))} - set(kept))
    assert not missing, f"{len(PROMPTS)} requests have ended; the archive has nothing of {missing}"
    wrong = {name: what for name in sorted(kept) if (what := what_is_wrong(name, kept[name]))}
    first = "; ".join(f"request {name!r}: {what}" for name, what in list(wrong.items())[:1])
    assert not races and not wrong, (
        f"under the policy {policy!r} the archive is "
        + (f"wrong for requests {list(wrong)}. {first}. " if wrong else "right by luck: ")
        + (f"{counted(len(races), 'race')}; the first one:\n{races[0]}" if races else "No race was found")
    )


@pytest.mark.exercise("8.10")
@pytest.mark.overlap
def test_the_archive_overlaps():
    """Saving keeps no request waiting: the run takes hardly longer than one without an archive."""
    assert_overlap(run_simulated(exhibit("kv_archive")), chapter7)


# --- 8.11 ---


@pytest.mark.exercise("8.11")
@every_policy
def test_narrow_ids_arrive_whole(policy: str):
    """The ids that come home are those that were sampled, in whatever order the device runs."""
    seen = run_simulated(exhibit("narrow_ids"), policy, costs=slow_copies())
    assert_no_race(seen)
    assert_tokens_right(seen, policy)


@pytest.mark.exercise("8.11")
@pytest.mark.overlap
def test_narrow_ids_overlap():
    """Narrowing costs nothing: the host waits for the ids, and for nothing else."""
    assert_overlap(run_simulated(exhibit("narrow_ids")), chapter7)


@pytest.mark.exercise("8.11")
def test_ids_come_home_in_32_bits():
    """Half the bytes is what the engine is for."""
    engine = engine_on(exhibit("narrow_ids"))
    dtypes = {buffers.host_ids.dtype for buffers in engine.executor.pool.buffers}
    assert dtypes == {torch.int32}, f"the pinned ids are int32; they are {dtypes}"
