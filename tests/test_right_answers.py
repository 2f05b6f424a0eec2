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
ANSWERS = {
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


@pytest.mark.parametrize("name", ANSWERS)
def test_a_right_answer_is_accepted(name):
    """All tests of its exercise pass."""
    results = results_of(ANSWERS[name])
    refused = [f"{result.test}: {result.message}" for result in results if result.outcome != "passed"]
    assert results and not refused, "\n".join(refused)
