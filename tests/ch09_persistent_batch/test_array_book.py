"""Exercise 9.6: a step's tokens go to their requests all at once."""

import numpy as np
import pytest

from ch09_persistent_batch import ArrayBook, ArrayTexts
from tests.causes import likely
from tests.ch09_persistent_batch.array_results import is_array, stay
from tests.ch09_persistent_batch.no_loop import has_no_loop, many_seats
from tests.ch09_persistent_batch.seated import array, scheduler_with, seats_with

EOS = {5, 9}


def book_over(seats) -> ArrayBook:
    scheduler, _ = scheduler_with()
    return ArrayBook(seats, scheduler, ArrayTexts(None, True), EOS)


def book_in_flight():
    """A book over requests a, b and c, each with a token to be committed. For a another step was launched since.

    So a's `computed` and `promised` are one ahead of b's and c's, which have their last token in flight.
    """
    seats, requests = seats_with(4, 6, 5)
    numbers = [each.seat for each in requests]
    seats.computed[numbers], seats.promised[numbers] = (5, 6, 5), (6, 7, 6)
    return book_over(seats), *numbers


@pytest.mark.exercise("9.6")
def test_each_token_goes_behind_what_its_seat_knows():
    """At place `known` of its seat's tokens, and nowhere else."""
    book, a, b, c = book_in_flight()
    s = book.seats
    before = s.tokens.copy()
    arguments = array(c, a), array(71, 72)
    book.append(*arguments)
    seen = {tuple(place): int(s.tokens[tuple(place)]) for place in np.argwhere(s.tokens != before).tolist()}
    right = {(c, 5): 71, (a, 4): 72}
    assert seen == right, (
        f"c (seat {c}) knows 5 tokens and gets 71, a (seat {a}) knows 4 and gets 72: tokens[seat, place] should become "
        f"{right}; changed are {seen}. "
        + likely(
            (
                seen == {(c, 5): 71, (a, 5): 72},
                "a has another step in flight, so its `computed` and `promised` are ahead: the next place is `known`",
            ),
            ((c, 4) in seen, "That is the last token that is known: the next place is `known` itself"),
            ((c, 6) in seen, "That is one too far: was `known` raised already?"),
        )
    )
    stay({"seats": [c, a], "token_ids": [71, 72]}, "append", *arguments)


@pytest.mark.exercise("9.6")
def test_the_seats_know_one_token_more():
    """Those that got a token, and by one; their new lengths are returned."""
    book, a, b, c = book_in_flight()
    s = book.seats
    seen = is_array(book.append(array(c, a), array(71, 72)), "append", "i", 2).tolist()
    assert s.known[[a, b, c]].tolist() == [5, 6, 6], (
        f"known was 4, 6 and 5 for a, b and c, and a and c got a token: should be [5, 6, 6]; seen "
        f"{s.known[[a, b, c]].tolist()}. "
        + likely(
            (
                s.known[[a, b, c]].tolist() == [4, 6, 5],
                "It is as before. (`known[seats]` is a copy: what is added to it is not added to `known`.)",
            ),
            (s.known[b] != 6, "b got none: raise the lengths of `seats` only"),
        )
    )
    assert seen == [6, 5], f"append should return the new lengths, of c and a: [6, 5]; it returned {seen}"


@pytest.mark.exercise("9.6")
@pytest.mark.parametrize("name", ["computed", "promised"])
def test_what_was_raised_at_scheduling_stays(name: str):
    """`computed` and `promised` say what is on its way, and that has been noted when the row was scheduled."""
    book, a, b, c = book_in_flight()
    before = getattr(book.seats, name)[[a, b, c]].tolist()
    book.append(array(c, a), array(71, 72))
    seen = getattr(book.seats, name)[[a, b, c]].tolist()
    assert seen == before, (
        f"append changed {name}: it was {before} for a, b and c, should stay so, and is {seen}. It was raised when the "
        "row was scheduled (ArrayScheduler.take)"
    )


@pytest.mark.exercise("9.6")
@pytest.mark.parametrize("eos", [EOS, {9}, set()])
def test_whose_token_ends_the_sequence(eos: set[int]):
    """Any of the model's end-of-sequence tokens does, unless the request ignores that; a model may have none.

    Tokens 5, 6, 9, 9 have just been appended. With its 6 the second request has reached its limit; the last one ignores
    the end of the sequence.
    """
    seats, requests = seats_with(4, 4, 4, 4)
    book, tokens = book_over(seats), array(5, 6, 9, 9)
    book.eos_ids = eos
    numbers = array(*(each.seat for each in requests))
    seats.tokens[numbers, 4] = tokens
    seats.known[numbers] = 5
    seats.limit[numbers[1]] = 5
    seats.heeds_eos[:] = True
    seats.heeds_eos[numbers[3]] = False
    before = {"seats": numbers.tolist(), "token_ids": tokens.tolist()}
    try:
        ended = book.ends_with_eos(numbers, tokens)
    except ValueError as error:
        if "broadcast" not in str(error):
            raise
        pytest.fail(
            f"{error}. There are 4 tokens and {len(eos)} end-of-sequence tokens, and each of the 4 is to be looked up "
            "among those: np.isin"
        )
    seen = is_array(ended, "ends_with_eos", "b", 4).tolist()
    is_eos = np.isin(tokens, [*eos])
    right = [5 in eos, False, 9 in eos, False]
    assert seen == right, (
        f"the newest tokens are 5, 6, 9, 9, the end-of-sequence tokens {sorted(eos)}, and the last request ignores "
        f"them: should be {right}, seen {seen}. "
        + likely(
            (
                seen == (is_eos & ~seats.heeds_eos[numbers]).tolist() and any(seen),
                "heeds_eos is True for those whom the token ends",
            ),
            (
                eos == EOS and seen in ([True, False, False, False], [False, False, True, False]),
                "The model has two end-of-sequence tokens, and either of them ends a sequence",
            ),
            (seen == is_eos.tolist(), "heeds_eos is False for the last request"),
            (
                seen == (is_eos & seats.heeds_eos[:4]).tolist(),
                f"heeds_eos[:4] is of the seats 0 to 3; these requests are in the seats {numbers.tolist()}",
            ),
            (seen[1], "The second has reached its limit; that is another end, which commit_tokens asks for itself"),
        )
    )
    stay(before, "ends_with_eos", numbers, tokens)


@pytest.mark.exercise("9.6")
@pytest.mark.parametrize("name", ["append", "ends_with_eos"])
def test_a_commit_without_a_loop(name: str):
    """For more rows Python runs no more lines."""

    def prepared(rows: int):
        seats, numbers = many_seats(rows, known=6, promised=7, heeds_eos=True)
        book = book_over(seats)
        return lambda: getattr(book, name)(numbers, np.arange(rows))

    has_no_loop(name, prepared)


def test_an_output_has_the_text_that_is_wanted_and_others_wait_for_it():
    """stream_text=False watches those with stop strings only."""
    texts = ArrayTexts(object(), stream_text=False)  # type: ignore[arg-type]
    _, requests = scheduler_with(4, 4)
    requests[1].params.__dict__["stop"] = ("x",)
    assert [texts.watches(each) for each in requests] == [False, True]
    assert ArrayTexts(object(), stream_text=True).watches(requests[0])  # type: ignore[arg-type]
    assert not ArrayTexts(None, stream_text=True).watches(requests[1])
