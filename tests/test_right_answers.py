"""Right answers that differ from the reference: what counts is behaviour, so the tests have to accept them.

Each is the solution with some text replaced, and runs its exercise's tests in a process of its own, as mutants do.
"""

from dataclasses import dataclass

import pytest

from toolkit.commands.exercises.metadata import files_with_tests, load
from toolkit.commands.exercises.mutants import run_with
from toolkit.course import ROOT


@dataclass(frozen=True)
class Answer:
    """To an exercise; `changes` holds pairs of a text that is there once and what takes its place."""

    exercise: str
    changes: tuple[tuple[str, str], ...]


KEY = '''    def key(self, output: Tensor, sizes: Sizes) -> tuple[int | bool, ...]:
        """What tells the graphs apart."""
        # BEGIN SOLUTION 8.13
        # BUG return graph_key(output, sizes)
        return (*graph_key(output, sizes), sizes.width)
        # END SOLUTION
'''
TABLES = """        ends = more.cumsum()
        owner = np.repeat(seats, more)
        # Where in its table each new block goes: 0, 1, ... for each seat, counted from what it has.
        place = np.arange(ends[-1]) - np.repeat(ends - more - s.num_blocks[seats], more)
        s.tables[owner, place] = self.blocks.take(int(ends[-1]))
"""
MASKED_TABLES = """        row, extra = (np.arange(more.max()) < more[:, None]).nonzero()
        s.tables[seats[row], s.num_blocks[seats][row] + extra] = self.blocks.take(int(more.sum()))
"""
TABLES_IN_TURNS = """        for extra in range(int(more.max())):
            short = more > extra
            s.tables[seats[short], s.num_blocks[seats[short]] + extra] = self.blocks.take(int(short.sum()))
"""
HALVES = """            half = len(rows) // 2
            self.serve(rows[:half])
            self.serve(rows[half:])
"""
ALL_THAT_FIT = """            fit = int(np.searchsorted(missing.cumsum(), self.blocks.num_free_blocks, side="right"))
            self.take(rows[:fit], starts[:fit], counts[:fit], missing[:fit])
            self.serve(rows[fit : fit + 1])
            self.serve(rows[fit + 1 :])
"""
OUTPUTS = (
    "        for i, (request, token_id) in "
    "enumerate(zip(self.rows.requests.tolist(), self.token_ids.tolist(), strict=True)):\n"
    "            yield self.special[i] if i in self.special else RequestOutput(request.request_id, (token_id,))\n"
)
ROW_BY_ROW = """        special = dict(self.special)
        for i, row in enumerate(self.rows):
            yield special.get(i) or RequestOutput(row.request.request_id, (int(self.token_ids[i]),))
"""
EXPRESSION = """        return (
            self.special.get(i, RequestOutput(self.rows.requests[i].request_id, (self.token_ids[i].item(),)))
            for i in range(len(self.rows))
        )
"""
CROSSING = """    if lines.host_row_ms <= lines.forward_row_ms:
        return None
    return floor((lines.forward_ms - lines.host_ms) / (lines.host_row_ms - lines.forward_row_ms)) + 1
"""
COUNTED = "    return next((rows for rows in range(2, 100_000) if lines.host(rows) > lines.forward(rows)), None)\n"
ENOUGH = """    batch_ms = machine.host_ms + 2 * machine.copy_ms + machine.forward_ms
    return ceil(batch_ms / max(machine.host_ms, machine.copy_ms, machine.forward_ms))
"""
TRIED = """    number = 1
    while pace(machine, number + 1).step_ms < pace(machine, number).step_ms:
        number += 1
    return number
"""
LEND = """        done = accelerator.Event()
        done.record(reader)
        self.lent.append((done, tensor))
"""
SETTLE = "        self.lent = [(done, tensor) for done, tensor in self.lent if not done.query()]"
ANSWERS = {
    "more in flight, as long as that helps": Answer("5.4", ((ENOUGH, TRIED),)),
    "rows counted until the host is slower": Answer("9.8", ((CROSSING, COUNTED),)),
    "the event is recorded on a named stream": Answer(
        "4.3",
        (("        # BUG\n        loaded.record()\n", ""), ("# BUG loaded.record()", "loaded.record(streams.h2d)")),
    ),
    "a whole stream is waited for": Answer(
        "4.4",
        (
            (
                "        streams.d2h.wait_event(doubled)\n        numbers",
                "        streams.d2h.wait_stream(streams.compute)\n        numbers",
            ),
        ),
    ),
    "the event is told to wait": Answer("4.5", (("streams.h2d.wait_event(doubled)", "doubled.wait(streams.h2d)"),)),
    "one event, waited for twice": Answer(
        "4.6",
        (
            (
                "    loaded, filled = accelerator.Event(), accelerator.Event()",
                "    loaded = filled = accelerator.Event()",
            ),
            (
                "        # BUG ready.record()\n        loaded.record()",
                "        loaded.record()\n        streams.compute.wait_event(loaded)",
            ),
            (
                "        streams.compute.wait_event(loaded)\n        streams.compute.wait_event(filled)",
                "        streams.compute.wait_event(filled)",
            ),
        ),
    ),
    "the host waits for the stream": Answer("4.7", (("    fetched.synchronize()", "    streams.d2h.synchronize()"),)),
    "loans in a dictionary by their events": Answer(
        "6.5",
        (
            ("self.lent: list[Any] = []", "self.lent: dict[Any, Tensor] = {}"),
            (LEND, "        self.lent[reader.record_event()] = tensor\n"),
            (SETTLE, "        for done in [e for e in self.lent if e.query()]:\n            self.lent.pop(done)"),
        ),
    ),
    "a view keeps the memory as well": Answer(
        "6.5", (("self.lent.append((done, tensor))", "self.lent.append((done, tensor.view(-1)))"),)
    ),
    "a pipeline, stage by stage": Answer(
        "0.4",
        (
            (
                "    total_ms = one_step_ms + (num_steps - 1) * slowest_ms\n",
                "    total_ms = one_step_ms\n    for _ in range(num_steps - 1):\n        total_ms += slowest_ms\n",
            ),
        ),
    ),
    "positions looked up one by one, and a triangle": Answer(
        "2.6",
        (
            (
                "    return cache[block_table].flatten(0, 1)[:seq_len]\n",
                "    size = cache.shape[1]\n"
                "    return torch.stack([cache[block_table[p // size], p % size] for p in range(seq_len)])\n",
            ),
            (
                "    return key_position <= query_position[:, None]\n",
                "    return torch.ones(num_queries, seq_len, dtype=torch.bool).tril(seq_len - num_queries)\n",
            ),
        ),
    ),
    "rows in a list, without a heap": Answer(
        "2.7",
        (("heapq.heapreplace(free_at, free_at[0] + tokens)", "free_at[free_at.index(min(free_at))] += tokens"),),
    ),
    "the inputs' stream is waited for": Answer(
        "8.6", (("self.latest.h2d_done.synchronize()", "self.h2d.synchronize()"),)
    ),
    "the verdicts are copied before the event": Answer(
        "8.7",
        (
            ("def queue(self, batch: Batch, buffers", "def copy_out(self, batch: Batch, buffers"),
            ("super().queue(batch, buffers)", "super().copy_out(batch, buffers)"),
            ("            buffers.d2h_done.record()  # again", "            # again"),
        ),
    ),
    "an event behind what is saved": Answer(
        "8.10", (("compute.wait_stream(self.saving)", "compute.wait_event(self.saving.record_event())"),)
    ),
    "each of the buffers keeps its narrow ids": Answer(
        "8.11", (("narrow.record_stream(self.d2h)", "buffers.narrow = narrow"),)
    ),
    "graphs by width, without key": Answer(
        "8.13",
        (
            (KEY, ""),
            ("self.graphs[self.key(output, sizes)] =", "self.graphs.setdefault(width, {})[graph_key(output, sizes)] ="),
            (
                "self.graphs[self.key(output, replace(sizes, rows=rows, width=width))]",
                "self.graphs[width][graph_key(output, replace(sizes, rows=rows))]",
            ),
        ),
    ),
    "blocks by their numbers, counts one by one": Answer(
        "9.1",
        (
            (": self.num_blocks[seat]].copy()", "np.arange(self.num_blocks[seat])]"),
            (
                """        for column in (self.computed, self.known, self.promised, self.limit, self.num_blocks):
            column[seat] = 0
        self.epoch[seat] += 1
""",
                """        self.computed[seat] = self.known[seat] = self.promised[seat] = 0
        self.limit[seat] = self.num_blocks[seat] = self.tables[seat] = 0
        self.epoch[seat] += 2
""",
            ),
        ),
    ),
    "the budget as a difference of running sums": Answer(
        "9.2",
        (
            (
                "np.minimum(counts, np.maximum(self.budget_left - (counts.cumsum() - counts), 0))",
                "np.diff(np.clip(counts.cumsum(), 0, self.budget_left), prepend=0)",
            ),
        ),
    ),
    "new blocks by a mask": Answer("9.3", ((TABLES, MASKED_TABLES),)),
    "new blocks in as many turns as a row needs at most": Answer("9.3", ((TABLES, TABLES_IN_TURNS),)),
    "what fits at once, then the next one": Answer("9.4", ((HALVES, ALL_THAT_FIT),)),
    "the halves of all seats": Answer(
        "9.4", (("serve(rows[:half])", "serve(seats[:half])"), ("serve(rows[half:])", "serve(seats[half:])"))
    ),
    "what is carried is written over KEEP": Answer(
        "9.5",
        (
            (
                'at["carry_index"][:num] = np.where(positions < s.known[owner], KEEP, s.sampled_at[owner])',
                'at["carry_index"][:num], carried = KEEP, s.known[owner] <= positions\n'
                '        at["carry_index"][:num][carried] = s.sampled_at[owner[carried]]',
            ),
            ("block, offset = np.divmod(positions, size)", "block, offset = positions // size, positions % size"),
        ),
    ),
    "the newest token is read from its column": Answer(
        "9.6",
        (
            (
                "(token_ids[:, None] == eos).any(axis=1)",
                "np.isin(self.seats.tokens[seats, self.seats.known[seats] - 1], eos)",
            ),
        ),
    ),
    "counted first": Answer(
        "9.6",
        (
            ("        lengths: Array = s.known[seats] + 1\n", "        np.add.at(s.known, seats, 1)\n"),
            ("        s.known[seats] = lengths\n        return lengths\n", "        return s.known[seats]\n"),
            ("s.tokens[seats, lengths - 1] = token_ids", "s.tokens[seats, s.known[seats] - 1] = token_ids"),
        ),
    ),
    "a loop over the end-of-sequence tokens": Answer(
        "9.6",
        (
            (
                "(token_ids[:, None] == eos).any(axis=1)",
                "np.logical_or.reduce([token_ids == each for each in eos] or [np.zeros(len(seats), bool)])",
            ),
        ),
    ),
    "the rows one by one": Answer("9.7", ((OUTPUTS, ROW_BY_ROW),)),
    "a generator expression": Answer("9.7", ((OUTPUTS, EXPRESSION),)),
    "nothing, as an empty tuple": Answer("8.16", (("return []", "return ()"),)),
    "a key of its own form": Answer(
        "8.13",
        (
            (KEY, ""),
            ("self.graphs[self.key(output, sizes)] =", "self.graphs[id(output), rows, width] ="),
            (
                "self.graphs[self.key(output, replace(sizes, rows=rows, width=width))]",
                "self.graphs[id(output), rows, width]",
            ),
        ),
    ),
}


def results_of(answer):
    exercise = load()[answer.exercise]
    text = (ROOT / "solutions" / exercise.chapter / exercise.file).read_text(encoding="utf-8")
    for old, new in answer.changes:
        assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times in {exercise.file}, not once"
        text = text.replace(old, new)
    overlay = {(exercise.chapter, exercise.file): text}
    return run_with(ROOT, files_with_tests(exercise), overlay, (exercise.id,))


@pytest.mark.long
@pytest.mark.parametrize("name", ANSWERS)
def test_a_right_answer_is_accepted(name):
    """All tests of its exercise pass."""
    results = results_of(ANSWERS[name])
    refused = [f"{result.test}: {result.message}" for result in results if result.outcome != "passed"]
    assert results and not refused, "\n".join(refused)
