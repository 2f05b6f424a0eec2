"""Exercise 8.1: blocks with names and several owners."""

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ch02_continuous_batching import Request, RequestStatus, Row, SamplingParams
from ch08_full_engine import PrefixBlockManager, PrefixScheduler
from tests.words import counted

pytestmark = pytest.mark.exercise("8.1")
SIZE = 4


def request(tokens: list[int], name: str = "r") -> Request:
    return Request(name, list(tokens), SamplingParams(), arrival=0)


def written(blocks: PrefixBlockManager, tokens: list[int], name: str = "r") -> Request:
    """A request whose whole prompt was computed in one step, and that step was committed."""
    made = request(tokens, name)
    blocks.allocate(made, len(tokens))
    made.num_computed_tokens = len(tokens)
    blocks.mark_written(Row(made, 0, 0, len(tokens), True))
    return made


def shared(blocks: PrefixBlockManager, tokens: list[int], name: str = "s") -> Request:
    made = request(tokens, name)
    blocks.share_prefix(made)
    return made


def name_of(blocks: PrefixBlockManager, block: int) -> bytes:
    """The name of a block that is full."""
    assert block in blocks.name_of, (
        f"block {block} is full, the row that filled it was committed, and name_of has no name for it: it has "
        f"{counted(len(blocks.name_of), 'name')}, and block_of {len(blocks.block_of)}"
    )
    return blocks.name_of[block]


def give_back(blocks: PrefixBlockManager, made: Request) -> None:
    """`free`, and a look at the books: each block without an owner is in one place, by whether it has a name."""
    blocks.free(made)
    free, reusable, named = list(blocks.free_blocks), list(blocks.reusable), set(blocks.name_of)
    twice = sorted({block for block in free if free.count(block) > 1} | (set(free) & set(reusable)))
    assert not twice, f"the blocks {twice} are free twice: free_blocks is {free}, reusable is {reusable}"
    nameless = sorted(set(reusable) - named)
    assert not nameless, f"the blocks {nameless} are in reusable, and have no name: those belong to free_blocks"
    kept = sorted(set(free) & named)
    assert not kept, f"a block in free_blocks has a name: {kept}. Those belong to reusable"


def test_a_common_beginning_is_shared():
    """Two full blocks of the first request are in the second one's table; it has that many tokens computed."""
    blocks = PrefixBlockManager(16, SIZE)
    first = written(blocks, [*range(10)])
    for block in first.block_table[:2]:
        name_of(blocks, block)
    second = shared(blocks, [*range(9), 70, 71])
    assert second.block_table == first.block_table[:2], (
        f"both begin with the tokens 0 to 8, so they share the two full blocks {first.block_table[:2]}; "
        f"the second one's table is {second.block_table}"
    )
    assert second.num_computed_tokens == 8, (
        f"two shared blocks hold 8 tokens, which count as computed; num_computed_tokens is {second.num_computed_tokens}"
    )
    owners = [blocks.owners[block] for block in first.block_table]
    assert owners == [2, 2, 1], f"owners of the first request's three blocks: {owners}; two of them are shared"


def test_a_different_token_makes_another_name():
    """One token that differs in the first block, and nothing behind it is shared: a name stands for the whole chain."""
    blocks = PrefixBlockManager(16, SIZE)
    written(blocks, [*range(10)])
    second = shared(blocks, [99, *range(1, 10)])
    assert second.block_table == [] and second.num_computed_tokens == 0, (
        f"the first token differs, so no key behind it is the same; shared were {second.block_table}"
    )


def test_the_last_token_is_left_to_compute():
    """A prompt that is known to its end shares all but the block with its last token: something has to be sampled."""
    blocks = PrefixBlockManager(16, SIZE)
    first = written(blocks, [*range(8)])
    second = shared(blocks, [*range(8)])
    assert second.block_table == first.block_table[:1], (
        f"8 tokens, all known: the last one must be computed, so only the first block is shared; shared were "
        f"{counted(len(second.block_table), 'block')}, and "
        f"{counted(8 - second.num_computed_tokens, 'token is', 'tokens are')} left to compute"
    )


def test_sharing_ends_at_the_first_gap():
    """Of a chain whose second block has lost its name, only the first block is shared."""
    blocks = PrefixBlockManager(16, SIZE)
    first = written(blocks, [*range(13)])
    lost = first.block_table[1]
    del blocks.block_of[name_of(blocks, lost)], blocks.name_of[lost]
    second = shared(blocks, [*range(13)])
    assert second.block_table == first.block_table[:1], (
        f"the block behind the first one has lost its name, so the first one alone is shared; shared were "
        f"{second.block_table}, of {first.block_table}"
        + ": a block table has no gaps, so sharing must stop there"
        * (len(second.block_table) > 1)
    )


def test_only_full_blocks_get_a_name():
    """A prompt in chunks of 3, 2 and 6 tokens: a block is named by the row that fills it, not before."""
    blocks = PrefixBlockManager(16, SIZE)
    made = request([*range(11)])
    blocks.allocate(made, 11)
    seen = []
    for start, count in ((0, 3), (3, 2), (5, 6)):
        blocks.mark_written(Row(made, 0, start, count, False))
        seen.append([blocks.name_of.get(block) is not None for block in made.block_table])
    assert seen == [[False] * 3, [True, False, False], [True, True, False]], (
        f"after 3, 5 and 11 of 11 tokens, 0, 1 and 2 blocks of 4 are full; named were {seen}"
    )


def test_a_decode_row_fills_a_block():
    """The token that completes a block names it, generated tokens included."""
    blocks = PrefixBlockManager(16, SIZE)
    made = written(blocks, [*range(7)])
    made.output_ids += [70]
    blocks.mark_written(Row(made, 0, 7, 1, True))
    assert made.block_table[1] in blocks.name_of, (
        "tokens 4 to 7 are written, so the second block is full; it has no name"
    )
    second = shared(blocks, [*range(7), 70, 71])
    assert second.block_table == made.block_table, (
        f"a prompt that begins with prompt and output shares both blocks, {made.block_table}; shared were "
        f"{second.block_table}"
    )


def test_the_same_content_keeps_its_first_block():
    """Two requests fill blocks with the same tokens at the same time: the name stays with the first one's."""
    blocks = PrefixBlockManager(16, SIZE)
    first, second = written(blocks, [*range(5)], "a"), written(blocks, [*range(5)], "b")
    name = name_of(blocks, first.block_table[0])
    assert blocks.block_of[name] == first.block_table[0] and second.block_table[0] not in blocks.name_of, (
        f"the name should stay with block {first.block_table[0]}; block_of says {blocks.block_of[name]}, and named are "
        f"{sorted(blocks.name_of)}. A name that has a block keeps it, or two blocks end up with one name"
    )


def test_generated_tokens_are_shared_too():
    """A request comes back after a preemption: the blocks that its own output has filled are found again."""
    blocks = PrefixBlockManager(8, SIZE)
    made = written(blocks, [*range(5)])
    made.output_ids += [70, 71, 72, 73]
    blocks.allocate(made, 9)
    blocks.mark_written(Row(made, 0, 5, 4, True))
    table = list(made.block_table)
    nameless = [block for block in table[:2] if block not in blocks.name_of]
    assert not nameless, (
        f"5 prompt tokens and 4 generated ones have filled the blocks {table[:2]}; nameless: {nameless}"
    )
    give_back(blocks, made)
    blocks.share_prefix(made)
    assert made.block_table == table[:2], (
        f"5 prompt tokens and 4 generated ones have filled the blocks {table[:2]}; shared were {made.block_table}"
        + ". All tokens that the host knows count, not the prompt alone" * (made.block_table == table[:1])
    )


def test_shared_tokens_are_counted_once():
    """`num_shared_tokens` grows by what a request was let in with; the scheduler sees to it."""
    blocks = PrefixBlockManager(8, SIZE)
    scheduler = PrefixScheduler(blocks, max_rows=4, token_budget=16)
    give_back(blocks, written(blocks, [*range(9)]))
    scheduler.add(request([*range(9)]))
    scheduler.schedule()
    assert blocks.num_shared_tokens == 8, (
        f"one request was let in with two shared blocks of 4; num_shared_tokens is {blocks.num_shared_tokens}"
        + ". PrefixScheduler counts them, when it has let the request in: share_prefix need not"
        * (blocks.num_shared_tokens == 16)
    )


def test_blocks_of_others_stay_theirs():
    """A request ends while another one shares its blocks: these stay owned, the rest can be had again."""
    blocks = PrefixBlockManager(8, SIZE)
    first = written(blocks, [*range(10)])
    second = shared(blocks, [*range(10)])
    give_back(blocks, first)
    assert [blocks.owners[block] for block in second.block_table] == [1, 1], (
        f"the second request still owns {second.block_table}; owners: {dict(blocks.owners)}"
    )
    assert blocks.num_free_blocks == 6, (
        f"2 of 8 blocks belong to the second request; free are {blocks.num_free_blocks}"
        + ". A block goes back only when its last owner leaves" * (blocks.num_free_blocks > 6)
    )
    give_back(blocks, second)
    assert blocks.num_free_blocks == 8, f"no block has an owner; free are {blocks.num_free_blocks} of 8"


def test_the_content_outlives_the_request():
    """After a request has ended, a new one with the same beginning shares its blocks; no other gets them then."""
    blocks = PrefixBlockManager(4, SIZE)
    first = written(blocks, [*range(9)])
    table = list(first.block_table)
    give_back(blocks, first)
    second = shared(blocks, [*range(9)])
    assert second.block_table == table[:2], f"the two full blocks {table[:2]} were kept; shared: {second.block_table}"
    assert blocks.num_free_blocks == 2, (
        f"2 of 4 blocks are owned again, so 2 are free; num_free_blocks is {blocks.num_free_blocks}"
        + f". Still in `reusable` are {list(blocks.reusable)}: who takes a block out of it must remove it there"
        * any(block in blocks.reusable for block in second.block_table)
    )
    other = request([*range(50, 58)], "other")
    blocks.allocate(other, 8)
    assert not set(other.block_table) & set(second.block_table), (
        f"blocks {set(other.block_table) & set(second.block_table)} were handed out, and belong to another request"
    )


def test_the_beginning_is_kept_longest():
    """When blocks run out, the end of an ended sequence loses its content first: its beginning is asked for more."""
    blocks = PrefixBlockManager(3, SIZE)
    first = written(blocks, [*range(12)])
    table = list(first.block_table)
    give_back(blocks, first)
    blocks.allocate(request([90]), 1)
    assert table[0] in blocks.name_of and table[2] not in blocks.name_of, (
        f"one of the blocks {table} had to go, the last one of the sequence; still named: {sorted(blocks.name_of)}"
        + ". Give the end back first" * (table[0] not in blocks.name_of and table[2] in blocks.name_of)
    )


def test_nameless_blocks_go_first():
    """A block with content is handed out only when there is no other."""
    blocks = PrefixBlockManager(4, SIZE)
    give_back(blocks, written(blocks, [*range(5)]))
    blocks.allocate(request([90]), 3 * SIZE)
    assert len(blocks.name_of) == 1, (
        "5 tokens have filled one block of four, three stayed nameless, and three were asked for: the named one "
        f"stays; named are {sorted(blocks.name_of)}"
    )


def test_a_request_that_must_wait_owns_nothing():
    """The scheduler shares a prefix to see whether a request fits; if it does not, all is as before."""
    blocks = PrefixBlockManager(8, SIZE)
    scheduler = PrefixScheduler(blocks, max_rows=4, token_budget=16)
    first = written(blocks, [*range(9)])
    first.status = RequestStatus.RUNNING
    scheduler.running.append(first)
    scheduler.tokens_in_step = 16  # no budget is left in this step
    waiting = Request("w", [*range(9)], SamplingParams(), arrival=1)
    scheduler.add(waiting)
    assert not scheduler._admit(waiting, []), "there is no budget left, and the request was let in"
    assert waiting.block_table == [] and waiting.num_computed_tokens == 0, (
        f"the request waits on and owns nothing; it has the blocks {waiting.block_table} and "
        f"{waiting.num_computed_tokens} computed tokens"
    )
    owners = [blocks.owners[block] for block in first.block_table]
    assert owners == [1, 1, 1], f"the one who waits owns nothing, so the blocks have one owner each; owners: {owners}"


# --- any order of arrivals, steps, ends, cancels and preemptions ---


class Device:
    """The KV cache as a list: for each position of each block the tokens that its key depends on, or None.

    Two batches are in flight at most, as in the engine; what a launch writes is written at once, since all use of the
    cache is in the order of the compute stream.
    """

    def __init__(self, num_blocks: int) -> None:
        self.blocks = PrefixBlockManager(num_blocks, SIZE)
        self.scheduler = PrefixScheduler(self.blocks, max_rows=3, token_budget=7)
        self.cache: list[tuple[int, ...] | None] = [None] * (num_blocks * SIZE)
        self.in_flight: list[list[Row]] = []
        self.count = 0

    def add(self, prompt: list[int], max_tokens: int) -> None:
        self.count += 1
        self.scheduler.add(Request(str(self.count), prompt, SamplingParams(max_tokens=max_tokens), arrival=self.count))

    @staticmethod
    def next_token(tokens: tuple[int, ...]) -> int:
        return (sum(tokens) + len(tokens)) % 4  # 0 ends a sequence

    def sequence(self, made: Request, length: int) -> tuple[int, ...]:
        """The first `length` tokens as the device knows them, those in flight included."""
        tokens = tuple(made.prompt_ids + made.output_ids)[:length]
        while len(tokens) < length:
            tokens += (self.next_token(tokens),)
        return tokens

    def step(self) -> None:
        rows = self.scheduler.schedule()
        if rows:
            self.launch(rows)
        if len(self.in_flight) == 2 or (self.in_flight and not rows):
            self.commit(self.in_flight.pop(0))

    def launch(self, rows: list[Row]) -> None:
        for row in rows:
            tokens = self.sequence(row.request, row.start + row.num_tokens)
            for position in range(row.start, len(tokens)):
                slot = self.blocks.slot(row.request, position)
                assert slot // SIZE not in self.blocks.name_of, (
                    f"request {row.request.request_id} writes position {position} into block {slot // SIZE}, which "
                    "has a name: others may read it"
                )
                self.cache[slot] = tokens[: position + 1]
        for row in rows:
            for position in range(row.start + row.num_tokens):
                seen = self.cache[self.blocks.slot(row.request, position)]
                right = self.sequence(row.request, position + 1)
                assert seen == right, (
                    f"request {row.request.request_id} reads at position {position} the key of {seen}, not of {right}"
                )
        self.in_flight.append(rows)

    def commit(self, rows: list[Row]) -> None:
        for row in rows:
            if row.epoch == row.request.epoch:
                self.blocks.mark_written(row)
        for row in rows:
            made = row.request
            if row.samples and row.epoch == made.epoch:
                made.pending_samples -= 1
                made.output_ids.append(self.next_token(self.sequence(made, made.num_tokens)))
                if made.output_ids[-1] == 0 or len(made.output_ids) == made.params.max_tokens:
                    self.scheduler.finish(made)

    def check(self) -> None:
        """The books agree with each other, and every name with what is in its block."""
        blocks = self.blocks
        tables = [block for made in self.scheduler.running for block in made.block_table]
        owned = {block: tables.count(block) for block in tables}
        said = {block: count for block, count in blocks.owners.items() if count}
        assert said == owned, f"owners says {said}; in the block tables stand {owned}"
        free, reusable = list(blocks.free_blocks), list(blocks.reusable)
        places = sorted([*free, *reusable, *owned])
        assert places == list(range(blocks.num_blocks)), (
            f"each block is nameless and free, or reusable, or owned, and in one place only; free {free}, reusable "
            f"{reusable}, owned {sorted(owned)}"
        )
        assert not set(free) & set(blocks.name_of), "a block in free_blocks has a name"
        assert set(reusable) <= set(blocks.name_of), "a block in reusable has no name"
        assert {name: block for block, name in blocks.name_of.items()} == blocks.block_of, "names and blocks disagree"
        for block, name in blocks.name_of.items():
            content = self.cache[block * SIZE + SIZE - 1]
            assert content is not None, f"block {block} has a name before anything was written into it"
            true_name = blocks.block_names(request(list(content)), len(content) // SIZE)[-1]
            assert len(content) % SIZE == 0 and name == true_name, (
                f"block {block} holds the keys of {content}, and is named after other tokens"
            )


PROMPTS = st.lists(st.integers(1, 2), min_size=1, max_size=14)
ADD = st.tuples(st.just("add"), PROMPTS, st.integers(1, 6))
OTHER = st.tuples(st.sampled_from(["step", "step", "step", "end", "preempt"]), st.integers(0, 9), st.none())


# Without looking for a smaller example, which can take minutes: the messages say what they have seen.
@settings(max_examples=200, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(num_blocks=st.integers(6, 14), operations=st.lists(ADD | OTHER, min_size=10, max_size=60))
def test_whatever_happens_names_and_owners_are_right(num_blocks: int, operations: list[tuple]):
    """Random arrivals, steps, cancels and preemptions: every read is right, and no block is lost or free twice."""
    device = Device(num_blocks)
    scheduler = device.scheduler
    for kind, what, more in operations:
        if kind == "add":
            device.add(what, more)
        elif kind == "step":
            device.step()
        elif scheduler.running:
            chosen = scheduler.running[what % len(scheduler.running)]
            scheduler.finish(chosen) if kind == "end" else scheduler.preempt(chosen)
        device.check()
    for _ in range(400):
        if not (scheduler.waiting or scheduler.running or device.in_flight):
            break
        device.step()
        device.check()
    free = device.blocks.num_free_blocks
    assert free == num_blocks, f"no request is left, and {free} of {num_blocks} blocks are free"
