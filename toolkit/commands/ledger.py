"""The books of an engine: what its callers were given, and what it may still hold when it is idle.

Invariant 6 of the engine: each request gets exactly one terminal output and no token after it, and when there is
nothing to do, all blocks are free. Tests and `make soak` keep a ledger beside the engine and compare.
"""

import gc
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

COMPLETE = ("length", "eos", "stop")  # reasons with which a request has got all its tokens


class LedgerError(AssertionError):
    """An engine gave a caller something wrong, or keeps something for no caller."""


@dataclass
class Entry:
    """One request, from its arrival to its terminal output.

    Attributes:
        right: the tokens that it gets if nothing happens to it; None if it is not known.
        tokens, text: what its outputs have brought so far.
    """

    right: tuple[int, ...] | None
    tokens: list[int] = field(default_factory=list)
    text: str = ""


class Ledger:
    """Compares every output with what its request should get.

    A name can be used again before the terminal output of its last user is out (a cancelled one's comes with the next
    step); so outputs belong to the oldest open request of their name.

    Attributes:
        open: requests without a terminal output, by name, the oldest first.
        ended: how many requests have ended, by reason.
        tokens: how many tokens came in all.
    """

    def __init__(self) -> None:
        self.open: dict[str, deque[Entry]] = {}
        self.ended: Counter[str] = Counter()
        self.tokens = 0

    def add(self, request_id: str, right: Sequence[int] | None = None) -> Entry:
        """A request was taken by the engine. `right`: its tokens, up to its own end. Returns what is booked of it."""
        entry = Entry(None if right is None else tuple(right))
        self.open.setdefault(request_id, deque()).append(entry)
        return entry

    def take(self, outputs: Sequence[Any]) -> None:
        """Book what a step has returned. Raises LedgerError at the first output that is wrong."""
        for output in outputs:
            self._take(output)

    def _take(self, output: Any) -> None:  # noqa: ANN401 (a RequestOutput, also of a learner's engine)
        name = output.request_id
        if name not in self.open:
            raise LedgerError(
                f"request {name} has had its terminal output (or never came), and gets one more with the tokens "
                f"{list(output.new_token_ids)}: commit drops a row in flight whose epoch is not the request's any more"
            )
        entry = self.open[name][0]
        entry.tokens += output.new_token_ids
        entry.text += getattr(output, "new_text", "")
        self.tokens += len(output.new_token_ids)
        if entry.right is not None and tuple(entry.tokens) != entry.right[: len(entry.tokens)]:
            raise LedgerError(
                f"request {name} has got the tokens {entry.tokens}; right are {list(entry.right)}: one is wrong, lost "
                "or doubled, or comes too late"
            )
        if output.finish_reason is not None:
            self._close(name, entry, output)

    def _close(self, name: str, entry: Entry, output: Any) -> None:  # noqa: ANN401
        reason = output.finish_reason.value
        if list(output.output_ids) != entry.tokens:
            raise LedgerError(
                f"request {name} ends with output_ids {list(output.output_ids)}, but its outputs brought {entry.tokens}"
            )
        if hasattr(output, "new_text") and output.text != entry.text:
            raise LedgerError(f"request {name} ends with the text {output.text!r}; its pieces make {entry.text!r}")
        if reason in COMPLETE and entry.right is not None and len(entry.tokens) != len(entry.right):
            raise LedgerError(
                f"request {name} ends ({reason}) with {len(entry.tokens)} tokens; right are {len(entry.right)}: "
                f"{list(entry.right)}"
            )
        self.ended[reason] += 1
        self.open[name].popleft()
        if not self.open[name]:
            del self.open[name]

    def check_idle(self, engine: Any) -> None:  # noqa: ANN401
        """Every request has had a terminal output, and the engine holds nothing. Raises LedgerError otherwise."""
        left = [*leftovers(engine), *kept_names(engine)]
        if self.open:
            left.insert(0, f"the requests {sorted(self.open)} got no terminal output")
        if left:
            raise LedgerError("the engine is idle, and yet: " + "; ".join(left))


def leftovers(engine: Any) -> list[str]:  # noqa: ANN401
    """What an idle engine still holds, in words; empty if all is well. For every engine from chapter 2 on."""
    blocks, book, metrics = engine.scheduler.blocks, engine.book, getattr(engine, "metrics", None)
    left = []
    if blocks.num_free_blocks != blocks.num_blocks:
        twice = ": some were given back twice" if blocks.num_free_blocks > blocks.num_blocks else ""
        left.append(f"it has {blocks.num_blocks} blocks, and {blocks.num_free_blocks} are free{twice}")
    free = Counter([*blocks.free_blocks, *getattr(blocks, "reusable", ())])
    wrong = sorted(block for block in {*free, *range(blocks.num_blocks)} if free[block] != 1)
    if wrong:
        left.append(f"each block is free once, but these are not: {wrong[:20]}")
    owners = getattr(blocks, "owners", {})
    counts = owners.items() if isinstance(owners, Mapping) else enumerate(owners)  # an array, in chapter 9
    owned = {block: count for block, count in counts if count}
    if owned:
        left.append(f"blocks have owners: {owned}")
    held = {
        "scheduler.waiting": engine.scheduler.waiting,
        "scheduler.running": engine.scheduler.running,
        "in_flight": engine.in_flight,
        "book.requests": book.requests,
        "book.outputs": book.outputs,
        "texts.streams": getattr(book.texts, "streams", ()),
        "metrics._open": getattr(metrics, "_open", ()),
        "metrics._events": getattr(metrics, "_events", ()),
    }
    left += [f"{name} holds {len(content)}" for name, content in held.items() if content]
    return left


def kept_names(engine: Any) -> list[str]:  # noqa: ANN401
    """Whether an idle engine still has names of requests' blocks, in words. The caller must keep no request alive."""
    names = getattr(engine.scheduler.blocks, "names", None)
    if not names:
        return []
    gc.collect()  # a request that is part of a circle of references goes only now
    return [f"the names of {len(names)} requests' blocks are kept"] if len(names) else []
