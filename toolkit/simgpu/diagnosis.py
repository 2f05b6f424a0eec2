"""Why an edge is missing: the usual mistakes with events, told from what was recorded and waited for.

A race says that nothing orders two operations. Often there is an event and a wait, and one of them is in the wrong
place. Each sentence here is given only where the records show what it says. In a sentence "the first" and "the second"
are the operations of the report.
"""

from collections.abc import Callable, Iterable

from toolkit.simgpu.ordering import Actor, Record, Wait


def diagnose(
    stream: Actor, number: int, when: int, waiter: Actor, streams: Iterable[Actor], is_needed: Callable[[Wait], bool]
) -> tuple[str, bool]:
    """What went wrong, in one sentence; "" if nothing was recorded or waited for that could tell.

    Args:
        stream, number, when: the first operation: its stream, its number there, its place in the program.
        waiter: whose operation the second one is. It is being issued now.
        streams: all streams.
        is_needed: whether the second operation needs a wait of its actor for something else that it touches.

    Returns:
        the sentence, and whether it is the whole cause: if not, a wait that is still to come may say more.
    """
    behind = stream.record_behind(number)
    waits = [each for each in waiter.waits.values() if each.when > when]
    idle = [each for each in waits if waiter.last_work < each.when and not is_needed(each)]
    cause = _recorded_too_early(stream, waiter, waits) or _recorded_elsewhere(stream, when, waiter, waits, behind)
    if behind is None:
        cause = cause or _never_recorded(waiter, waits)
        return cause or _another_event(waiter, idle, behind), bool(cause)
    cause = cause or _waited_too_early(stream, waiter, behind) or _recorded_again(stream, number, waiter, waits)
    return (
        cause
        or _another_waits(stream, number, waiter, streams)
        or _another_event(waiter, idle, behind)
        or _not_waited_for(waiter, waits, behind)
    ), bool(cause)


def diagnose_late(number: int, waiter: Actor, wait: Wait) -> str:
    """The same for a race that was found before: does `waiter` wait now for what should have come before its operation?

    Args:
        number: of the first operation, on the stream that `wait` is about.
    """
    if wait.record is None or not wait.record.is_first_behind(number):
        return ""
    what = "the event behind the first" if wait.event is not None else f"the stream {wait.record.stream.name}"
    return (
        f"{_who(waiter)} does wait for {what}, but only after the second: {wait.site.first_line}. A wait holds back "
        "what comes after it"
    )


def _recorded_too_early(stream: Actor, waiter: Actor, waits: list[Wait]) -> str:
    for each in waits:
        if each.record is not None and each.record.stream is stream:
            return (
                f"{_who(waiter)} did wait for an event of {stream.name}, but for one recorded before the first: "
                f"{_at(each.record)}"
            )
    return ""


def _waited_too_early(stream: Actor, waiter: Actor, behind: Record) -> str:
    for each in (waiter.waits.get(stream), waiter.waits.get(None)):
        if each is not None and each.event is behind.event and each.when < behind.when:
            return (
                f"{_who(waiter)} did wait for the event behind the first, but before it was recorded, which is no wait "
                f"for it: {each.site.first_line}"
            )
    return ""


def _recorded_again(stream: Actor, number: int, waiter: Actor, waits: list[Wait]) -> str:
    first_record = {each.event: each.when for each in reversed(stream.records) if each.covers >= number}
    for each in waits:
        if each.record is not None and first_record.get(each.event, each.record.when) < each.record.when:
            return (
                f"{_who(waiter)} did wait for the event behind the first, but it had been recorded again by then, on "
                f"{each.record.stream.name}, not on {stream.name}: {_at(each.record)}. A wait is for the last record; "
                "record() without a stream means the current one"
            )
    return ""


def _never_recorded(waiter: Actor, waits: list[Wait]) -> str:
    for each in waits:
        if each.record is None:
            return (
                f"{_who(waiter)} did wait for an event, but for one that was never recorded, which is no wait: "
                f"{each.site.first_line}"
            )
    return ""


def _recorded_elsewhere(stream: Actor, when: int, waiter: Actor, waits: list[Wait], behind: Record | None) -> str:
    for each in waits:
        record = each.record
        if record is None or record.event is None or (behind is not None and behind.when < record.when):
            continue
        if record.last_work < when < record.when:
            return (
                f"{_who(waiter)} did wait for an event that was recorded after the first, but on {record.stream.name}, "
                f"not on {stream.name}: {_at(record)}. record() without a stream means the current one"
            )
    return ""


def _another_waits(stream: Actor, number: int, waiter: Actor, streams: Iterable[Actor]) -> str:
    for each in streams:
        wait = each.waits.get(stream)
        if each is waiter or wait is None or wait.record is None:
            continue
        if wait.record.is_first_behind(number) and each.last_work < wait.when:
            return (
                f"{_who(each)} waits for the event behind the first, and has been given nothing since; "
                f"{_who(waiter)} does not wait for it: {wait.site.first_line}"
            )
    return ""


def _another_event(waiter: Actor, idle: list[Wait], behind: Record | None) -> str:
    """idle: the waits since the first that have served nothing yet. One that has is right where it is."""
    for each in reversed(idle):
        if each.record is not None:
            other = each.record.stream.name
            what = f"the stream {other}" if each.event is None else f"an event recorded on {other}"
            needed = f". The event behind the first is another one: {_at(behind)}" if behind is not None else ""
            return f"{_who(waiter)} did wait, but for {what}, at {_at(each.record)}{needed}"
    return ""


def _not_waited_for(waiter: Actor, waits: list[Wait], behind: Record) -> str:
    missed = f"an event is recorded behind the first, but {_who(waiter)} does not wait for it: {_at(behind)}"
    for each in waits:
        if each.record is None:
            return f"{missed}. The event that it waits for had not been recorded by then: {each.site.first_line}"
    return missed


def _who(actor: Actor) -> str:
    return "the host" if actor.name == "host" else actor.name


def _at(record: Record) -> str:
    return record.site.first_line
