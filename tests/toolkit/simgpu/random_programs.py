"""Random programs over streams, events and buffers, with an oracle that knows which pairs of operations race.

A program is a list of steps. `Op` touches some regions of some buffers, on a stream or on the host. `Edge` makes a
stream (or the host) wait for another stream. The generator adds an edge wherever two operations conflict and nothing
orders them yet, so a generated program is correct; taking one edge out may or may not break it.

The oracle shares nothing with the detector: it draws the happens-before graph operation by operation, asks which
operations can reach which, and compares regions element by element.
"""

import random
from dataclasses import dataclass

import torch

from toolkit import simgpu

HOST = "host"
STREAMS = ("a", "b", "c")
ROWS, COLUMNS = 4, 6
REGIONS = {
    "all": (slice(None), slice(None)),
    "left": (slice(None), slice(0, 3)),
    "right": (slice(None), slice(3, 6)),
    "even rows": (slice(0, 4, 2), slice(None)),
    "odd rows": (slice(1, 4, 2), slice(None)),
    "last row": (slice(3, 4), slice(None)),
}
Place = tuple[str, str]  # buffer, region


@dataclass(frozen=True)
class Op:
    """On `actor`: what `reads` holds is added to three times what `writes` holds. Buffers "p..." are pinned, "d..."
    device."""

    actor: str
    reads: Place
    writes: Place


@dataclass(frozen=True)
class Edge:
    """What `after` does from here on waits for what `before` has been given so far."""

    before: str
    after: str


def generate(seed: int, length: int = 12) -> list[Op | Edge]:
    """A correct program with about `length` operations."""
    rng = random.Random(seed)
    program: list[Op | Edge] = []
    while sum(isinstance(step, Op) for step in program) < length:
        op = _random_op(rng)
        while pair := next((pair for pair in races([*program, op])), None):
            program.append(Edge(pair[0].actor, pair[1].actor))
        program.append(op)
    return program


def _random_op(rng: random.Random) -> Op:
    actor = rng.choice((*STREAMS, *STREAMS, HOST))
    region = rng.choice(list(REGIONS))
    if actor == HOST:
        return Op(HOST, (rng.choice("pq"), region), (rng.choice("pq"), region))
    # A region keeps its shape when both sides are the same; copies between host and device go through whole tensors.
    kind = rng.choice(("kernel", "kernel", "kernel", "h2d", "d2h"))
    if kind == "kernel":
        return Op(actor, (rng.choice("xyz"), region), (rng.choice("xyz"), region))
    host, device = rng.choice("pq"), rng.choice("xyz")
    return Op(actor, (host, "all"), (device, "all")) if kind == "h2d" else Op(actor, (device, "all"), (host, "all"))


# --- the oracle ------------------------------------------------------------------------------------------------------


def _elements(place: Place) -> set[tuple[str, int]]:
    grid = torch.arange(ROWS * COLUMNS).view(ROWS, COLUMNS)
    return {(place[0], each) for each in grid[REGIONS[place[1]]].flatten().tolist()}


ELEMENTS = {(buffer, region): _elements((buffer, region)) for buffer in "pqxyz" for region in REGIONS}


def conflict(one: Op, other: Op) -> bool:
    """Do they touch a common element, at least one writing it?"""
    return bool(
        ELEMENTS[one.writes] & (ELEMENTS[other.writes] | ELEMENTS[other.reads])
        or ELEMENTS[one.reads] & ELEMENTS[other.writes]
    )


def races(program: list[Op | Edge]) -> list[tuple[Op, Op]]:
    """Every pair of conflicting operations that nothing orders, by place in the program."""
    earlier: list[set[int]] = []  # for each step, the places of all steps that happen before it
    last: dict[str, set[int]] = {actor: set() for actor in (*STREAMS, HOST)}  # what each actor's next step follows
    found = []
    for place, step in enumerate(program):
        if isinstance(step, Edge):
            last[step.after] = last[step.after] | last[step.before] | last[HOST]
            earlier.append(set())
            continue
        before = set(last[step.actor] | last[HOST])  # every launch comes after what the host has done or waited for
        earlier.append(before)
        for past in range(place):
            other = program[past]
            if isinstance(other, Op) and other.actor != step.actor and past not in before and conflict(other, step):
                found.append((other, step))
        last[step.actor] = before | {place}
    return found


# --- running ---------------------------------------------------------------------------------------------------------


def run(program: list[Op | Edge], policy: str) -> tuple[list[list[list[int]]], list[simgpu.Race]]:
    """Run a program; returns what all buffers hold at the end, and the races that the detector reported."""
    simgpu.reset(policy, on_race="collect")
    streams = {name: simgpu.Stream(name=name) for name in STREAMS}
    start = torch.arange(ROWS * COLUMNS).view(ROWS, COLUMNS)
    buffers = {name: (start + 100 * place).pin_memory() for place, name in enumerate("pq")}
    buffers |= {name: (start + 1000 * place).to("sim") for place, name in enumerate("xyz")}
    for step in program:
        if isinstance(step, Edge):
            if step.after == HOST:
                streams[step.before].record_event().synchronize()
            elif step.before != HOST:  # a stream always comes after what the host did
                streams[step.after].wait_event(streams[step.before].record_event())
            continue
        source, target = (buffers[buffer][REGIONS[region]] for buffer, region in (step.reads, step.writes))
        if step.actor == HOST:
            torch.add(source, target, alpha=3, out=target)
            continue
        with simgpu.stream(streams[step.actor]):
            if (step.reads[0] in "pq") or (step.writes[0] in "pq"):
                target.copy_(source, non_blocking=True)
            else:
                torch.add(source, target, alpha=3, out=target)
    simgpu.synchronize()
    return [buffer.tolist() for buffer in buffers.values()], simgpu.races()
