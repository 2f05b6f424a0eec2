"""The request book: each request is entered once, and struck out with its one last output."""

import pytest

from ch02_continuous_batching import FinishReason, Request, SamplingParams
from ch02_continuous_batching.build import build
from tests.helpers import tiny_model, tiny_tokenizer


@pytest.fixture
def book():
    return build(tiny_model(), tiny_tokenizer(), num_blocks=20, block_size=4).book


def running(book, name: str) -> Request:
    """A request that the scheduler has let in."""
    request = book.add(name, [5, 6, 7], SamplingParams(stop="%"))
    book.scheduler.schedule()
    return request


def test_a_request_has_one_last_output(book):
    """A second one would give a caller two ends, or end a later request of the same name."""
    request = running(book, "a")
    request.finish_reason = FinishReason.LENGTH
    book.last_output(request)
    with pytest.raises(RuntimeError, match="request a has had its last output already"):
        book.last_output(request)
    later = book.add("a", [8, 9], SamplingParams())
    with pytest.raises(RuntimeError, match="request a has had its last output already"):
        book.last_output(request)
    assert book.requests == {"a": later}, "the later request of that name is still there"


def test_a_last_output_has_a_reason(book):
    """A request is ended with a reason; until then it stays in the book."""
    request = running(book, "a")
    with pytest.raises(RuntimeError, match="request a has no finish_reason yet"):
        book.last_output(request)
    assert book.requests == {"a": request}


def test_the_pieces_of_the_text_make_the_whole(book):
    """Before chapter 8 the text comes in one piece, with the last output, cut before the stop string."""
    request = running(book, "a")
    request.output_ids = [33, 34, 5, 35]  # "AB%C" in the tests' tokenizer
    request.finish_reason = FinishReason.STOP
    output = book.last_output(request)
    assert (output.text, output.new_text) == ("AB", "AB")


def test_a_request_that_fails_ends_at_once(book):
    """Its blocks come back, its rows in flight are out of date, and its output waits for the step to return it."""
    request, other = running(book, "a"), running(book, "b")
    epoch = request.epoch
    book.fail(request, "it could not be")
    assert (request.epoch, request.block_table) == (epoch + 1, []) and book.scheduler.running == [other]
    assert [(output.request_id, output.error) for output in book.outputs] == [("a", "it could not be")]
    assert book.requests == {"b": other}
