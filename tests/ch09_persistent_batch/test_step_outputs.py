"""Exercise 9.7: objects are made for those who look."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from ch02_continuous_batching import FinishReason, RequestOutput
from ch09_persistent_batch import Rows, StepOutputs
from tests.causes import has_result, likely
from tests.ch09_persistent_batch.seated import array, seats_with

NAMES = "abcd"
END = RequestOutput("b", (71,), FinishReason.EOS, (71,))
CANCELLED = RequestOutput("x", (), FinishReason.CANCELLED)


def outputs_with(special: dict[int, RequestOutput]) -> StepOutputs:
    """Of a step with rows of a, b, c and d, whose tokens are 70 to 73. By now c and d have a's and b's seats."""
    seats, requests = seats_with(*[4] * len(NAMES))
    numbers = array(*(each.seat for each in requests))
    rows = Rows.of(seats, numbers, numbers * 0 + 4, numbers * 0 + 1, numbers >= 0)
    seats.requests[numbers[:2]] = requests[2:]
    return StepOutputs(rows, array(70, 71, 72, 73), numbers * 0 + 5, special, kept=(CANCELLED,))


def one_by_one(outputs: StepOutputs) -> Iterator[RequestOutput]:
    made = outputs.one_by_one()
    has_result(made, "one_by_one")
    return iter(made)


def words(output: object) -> str:
    """An output in short, such as ('a', (70,))."""
    if not isinstance(output, RequestOutput):
        return repr(output)
    reason = f", {output.finish_reason.value}" if output.finish_reason else ""
    return f"({output.request_id!r}, {output.new_token_ids}{reason})"


@pytest.mark.exercise("9.7")
def test_an_output_for_each_row():
    """The row's request and its token, in the order of the rows."""
    seen, right = [*one_by_one(outputs_with({}))], [RequestOutput(name, (70 + i,)) for i, name in enumerate(NAMES)]
    names = [each.request_id for each in seen]
    assert seen == right, f"should be {', '.join(map(words, right))}; seen {', '.join(map(words, seen))}. " + likely(
        (not seen, "Nothing was made: a row without an output in `special` gets one of its request and its token"),
        (seen[:1] == [CANCELLED], "The first one is of `kept`: __iter__ hands those out already"),
        (names[:1] == ["c"], "a's seat has another holder by now, c: `rows.requests` says who had it then"),
        (names == [*NAMES], "The requests are right: look at the tokens, each in a tuple of one"),
    )


@pytest.mark.exercise("9.7")
def test_a_special_output_is_handed_out_as_it_is():
    """In the place of its row, whatever seat that has; and at every look."""
    outputs = outputs_with({1: END})
    seen = [*one_by_one(outputs)]
    at = [i for i, each in enumerate(seen) if each is END]
    assert at == [1], (
        f"`special` has an output for row 1, b's: it should be handed out there and nowhere else; seen "
        f"{', '.join(map(words, seen))}. "
        + likely(
            (CANCELLED in seen, "The one of `kept` is not of a row: __iter__ hands those out"),
            (not at, "It was not: its keys are the numbers of the rows, from 0"),
            (len(at) == 1, "It is in another place: the keys of `special` count the rows from 0"),
        )
    )
    assert 1 in outputs.special, (
        "after one look at the outputs the special one is gone from `special`: the next look, or `ended`, would not "
        "find it. Read it, and leave it there"
    )
    assert outputs.special == {1: END}, (
        f"after one look `special` has outputs for the rows {[*outputs.special]}, before it only for row 1: looking is "
        "to leave no objects behind"
    )


@pytest.mark.exercise("9.7")
def test_a_token_is_an_int_of_python():
    """As in all other engines; numpy's own numbers are no ints, and json for instance refuses them."""
    ids = [each.new_token_ids for each in one_by_one(outputs_with({}))]
    assert ids, "no output was made for four rows"
    kinds = {type(token).__name__ for each in ids for token in (each if isinstance(each, tuple) else [each])}
    assert kinds == {"int"}, (
        f"the type of the tokens should be int; seen {', '.join(kinds)}: tolist() makes ints of them"
    )


@pytest.mark.exercise("9.7")
def test_an_output_is_made_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    """One at a time: who looks at the first output only does not pay for the others."""
    outputs, made = outputs_with({}), []
    init = RequestOutput.__init__

    def counting(self: RequestOutput, *arguments: object, **fields: object) -> None:
        made.append(arguments)
        init(self, *arguments, **fields)

    monkeypatch.setattr(RequestOutput, "__init__", counting)
    assert next(one_by_one(outputs), None) is not None, "no output was made for four rows"
    assert len(made) <= 1, (
        f"only the first output was asked for, and {len(made)} were made. With `yield` a function makes one, and goes "
        "on when the next one is asked for"
    )


def test_the_ends_are_found_without_the_others():
    text = RequestOutput("d", (73,), new_text="d")
    outputs = replace(outputs_with({1: END, 3: text}), kept=(CANCELLED,))
    assert outputs.ended == [CANCELLED, END]
    assert len(outputs) == 5 and outputs[0] is CANCELLED and outputs[-1] is text and outputs == [*outputs]
