"""Exercises 9.6 and 9.7: tokens go to their requests all at once; objects are made for those who look."""

from dataclasses import replace

import numpy as np
import pytest

from ch02_continuous_batching import FinishReason, RequestOutput
from ch09_persistent_batch import ArrayBook, ArrayTexts, Rows, StepOutputs
from tests.causes import has_result
from tests.ch09_persistent_batch.seated import array, scheduler_with

EOS = {5, 9}


def book_with(*prompt_lengths: int):
    """A book over a scheduler whose requests have run one step, to be committed."""
    scheduler, requests = scheduler_with(*prompt_lengths)
    book = ArrayBook(scheduler.seats, scheduler, ArrayTexts(None, True), EOS)
    scheduler.schedule()
    return book, requests


@pytest.mark.exercise("9.6")
def test_each_token_goes_behind_what_its_seat_knows():
    book, requests = book_with(4, 6, 5)
    s, (a, b, c) = book.seats, (each.seat for each in requests)
    lengths = book.append(array(c, a), array(71, 72))
    has_result(lengths, "append")
    assert lengths.tolist() == [6, 5], (
        f"c had 5 tokens and a 4: with one more 6 and 5; append returned {lengths.tolist()}"
    )
    assert (s.tokens[c, 5], s.tokens[a, 4]) == (71, 72), (
        f"c's token at place 5 should be 71 and a's at place 4 be 72; seen {s.tokens[c, 5]} and {s.tokens[a, 4]}"
    )
    assert s.known[[a, b, c]].tolist() == [5, 6, 6], (
        f"known should be 5, 6 and 6 for a, b (which got nothing) and c; seen {s.known[[a, b, c]].tolist()}"
    )


@pytest.mark.exercise("9.6")
@pytest.mark.parametrize("eos", [EOS, {9}, set()])
def test_whose_token_ends_the_sequence(eos: set[int]):
    """Any of the model's end-of-sequence tokens does, unless the request ignores that; a model may have none."""
    book, requests = book_with(4, 4, 4, 4)
    book.eos_ids = eos
    seats = array(*(each.seat for each in requests))
    book.seats.heeds_eos[seats[3]] = False
    seen = book.ends_with_eos(seats, array(5, 6, 9, 9))
    has_result(seen, "ends_with_eos")
    right = [5 in eos, False, 9 in eos, False]
    assert np.asarray(seen).dtype == np.bool_ and seen.tolist() == right, (
        f"tokens 5, 6, 9, 9 with the end-of-sequence tokens {sorted(eos)}, and the last request ignores them: should "
        f"be {right}, seen {seen.tolist()}"
    )


def outputs_for(*names: int, special: dict[int, RequestOutput]) -> StepOutputs:
    book, requests = book_with(4, 4, 4)
    seats = array(*(requests[i].seat for i in names))
    rows = Rows.of(book.seats, seats, array(*[4] * len(names)), array(*[1] * len(names)), seats >= 0)
    return StepOutputs(rows, array(*(70 + i for i in names)), array(*[5] * len(names)), special)


@pytest.mark.exercise("9.7")
def test_an_object_for_each_row():
    """The row's request and its token; a special output is handed out as it is, in its place."""
    end = RequestOutput("b", (71,), FinishReason.EOS, (71,))
    seen = list(outputs_for(0, 1, 2, special={1: end}))
    assert seen == [RequestOutput("a", (70,)), end, RequestOutput("c", (72,))], f"seen: {seen}"
    token = seen[0].new_token_ids[0]
    assert type(token) is int, (
        f"a token should be an int of Python's, as ever; it is a {type(token).__name__}: tolist()"
    )


@pytest.mark.exercise("9.7")
def test_nothing_is_made_before_somebody_asks():
    """One at a time: who looks at the first output only does not pay for the others."""
    outputs = outputs_for(0, 1, 2, special={})
    first = iter(outputs)
    seen = next(first)
    assert seen == RequestOutput("a", (70,)), f"the first of them is request 'a' with its token 70; seen: {seen}"
    object.__setattr__(outputs, "special", {1: "asked for late"})
    assert next(first) == "asked for late", "the outputs were all made for the first of them; `yield` makes one a time"


def test_the_ends_are_found_without_the_others():
    end = RequestOutput("b", (71,), FinishReason.EOS, (71,))
    text = RequestOutput("c", (72,), new_text="c")
    kept = RequestOutput("x", (), FinishReason.CANCELLED)
    outputs = replace(outputs_for(0, 1, 2, special={1: end, 2: text}), kept=(kept,))
    assert outputs.ended == [kept, end]
    assert len(outputs) == 4 and outputs[0] is kept and outputs[-1] is text and outputs == [*outputs]


def test_an_output_has_the_text_that_is_wanted_and_others_wait_for_it():
    """stream_text=False watches those with stop strings only."""
    texts = ArrayTexts(object(), stream_text=False)  # type: ignore[arg-type]
    _, requests = scheduler_with(4, 4)
    requests[1].params.__dict__["stop"] = ("x",)
    assert [texts.watches(each) for each in requests] == [False, True]
    assert ArrayTexts(object(), stream_text=True).watches(requests[0])  # type: ignore[arg-type]
    assert not ArrayTexts(None, stream_text=True).watches(requests[1])
