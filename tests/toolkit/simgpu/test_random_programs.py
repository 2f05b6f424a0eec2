"""300 random programs: the detector agrees with an independent oracle, on correct programs and with an edge removed."""

import pytest

from tests.toolkit.simgpu.random_programs import Edge, Op, conflict, generate, races, run

PROGRAMS, CHUNKS = 300, 10


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_correct_programs_are_silent_and_give_the_same_numbers_under_every_policy(chunk):
    for seed in range(chunk, PROGRAMS, CHUNKS):
        program = generate(seed)
        assert races(program) == [], f"program {seed}: the generator is wrong"
        expected, reports = run(program, "eager")
        assert reports == [], f"program {seed}: false alarm\n{reports[0]}\n{program}"
        for policy in ("lazy", f"random:{seed}", "threads")[: 3 if seed % 5 == 0 else 2]:
            numbers, reports = run(program, policy)
            assert numbers == expected, f"program {seed}: other numbers under {policy}\n{program}"
            assert reports == [], f"program {seed}: false alarm under {policy}"


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_with_an_edge_removed_the_report_names_it_or_none_was_needed(chunk):
    needed = 0
    for seed in range(chunk, PROGRAMS, CHUNKS):
        program = generate(seed)
        edges = [place for place, step in enumerate(program) if isinstance(step, Edge)]
        for removed in edges[:: max(1, len(edges) // 3)]:
            broken = program[:removed] + program[removed + 1 :]
            expected = {(first.actor, second.actor) for first, second in races(broken)}
            _, reports = run(broken, "eager")
            named = {(each.first.lane, each.second.lane) for each in reports}
            assert bool(named) == bool(expected), f"program {seed} without step {removed}: {reports} but {expected}"
            assert named <= expected, f"program {seed} without step {removed}: {named} but only {expected} race"
            edge = program[removed]
            if (edge.before, edge.after) in expected:
                needed += 1
                assert (edge.before, edge.after) in named, f"program {seed} without {edge}: only {named} reported"
    assert needed > 10, "too few programs in which the removed edge mattered"


def test_a_racing_program_gives_other_numbers_under_some_policy():
    """The races are real: of the programs that lost a needed edge, many come out wrong on an unlucky device."""
    wrong = broken_programs = 0
    for seed in range(40):
        program = generate(seed)
        expected, _ = run(program, "eager")
        edges = [place for place, step in enumerate(program) if isinstance(step, Edge)]
        for removed in edges[:2]:
            broken = program[:removed] + program[removed + 1 :]
            if races(broken):
                broken_programs += 1
                wrong += any(run(broken, policy)[0] != expected for policy in ("lazy", "random:1", "random:2"))
    assert wrong > broken_programs // 3, f"only {wrong} of {broken_programs}"


def test_the_oracle_knows_a_race():
    write, read = Op("a", ("x", "left"), ("y", "left")), Op("b", ("y", "all"), ("z", "all"))
    apart = Op("b", ("y", "right"), ("z", "right"))
    assert conflict(write, read) and not conflict(write, apart)
    assert races([write, read]) == [(write, read)]
    assert races([write, Edge("a", "b"), read]) == races([write, apart]) == []
