"""Exercise 8.3: text as it comes, and never more than is certain."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ch08_full_engine import TextStream, held_back
from tests.causes import likely
from tests.helpers import tiny_tokenizer
from tests.words import counted
from toolkit.errors import UserError
from toolkit.models.byte_tokenizer import byte_tokenizer

BYTES = byte_tokenizer()


@pytest.mark.exercise("8.3")
@pytest.mark.parametrize(
    ("text", "stop", "right"),
    [
        ("one, tw", ("two",), 2),
        ("one", ("two",), 0),
        ("one t", ("two", " too"), 2),
        ("aaa", ("aaab",), 3),
        ("xab", ("abc", "b!"), 2),
        ("xb", ("abc", "b!"), 1),
        ("", ("abc",), 0),
        ("abc", (), 0),
        ("a", ("a b c d e",), 1),
        ("longer than any of them a b", ("a b c",), 3),
        ("one, TW", ("two",), 0),
    ],
)
def test_held_back(text: str, stop: tuple[str, ...], right: int):
    """How much of a text's end may still become a stop string, in eleven examples."""
    seen = held_back(text, stop)
    assert seen == right, (
        f"of {text!r} the last {counted(right, 'character')} may become one of {stop}; held_back says {seen}. "
        "Take the longest end that some stop string begins with"
    )


def push_all(pieces: list[str], stop: tuple[str, ...]) -> tuple[TextStream, list[str]]:
    """The stream after all pieces (until it stops), and its text after each."""
    stream, shown = TextStream(None, stop), [""]
    for piece in pieces:
        stream.push_text(piece)
        shown.append(stream.text)
        if stream.stopped:
            break
    return stream, shown


@pytest.mark.exercise("8.3")
def test_a_stop_string_over_three_pieces():
    """What comes before a stop string is shown, nothing of it, and nothing of what comes behind it."""
    stream, shown = push_all(["one ", "S", "TO", "P two"], ("STOP",))
    cause = likely(
        (stream.text == "one ", "the text ends before the stop string, and `stopped` was not set"),
        otherwise="the stop string came in three pieces and was not found",
    )
    assert stream.stopped, cause
    cause = likely(
        (
            shown[1] == "" and held_back("one ", ("STOP",)) == 0,
            ". Of the first piece nothing is held back: counted from the end of a text, a bound of 0 is its beginning",
        )
    )
    assert shown == ["", "one ", "one ", "one ", "one "], (
        f"shown after each piece: {shown}; it should stay at 'one '{cause}"
    )
    assert stream.pending == "", f"still pending: {stream.pending!r}; nothing behind a stop string is kept"


@pytest.mark.exercise("8.3")
def test_a_beginning_that_comes_to_nothing_is_shown():
    """Characters that might have become a stop string are shown as soon as they cannot any more."""
    stream, shown = push_all(["ST", "ILL"], ("STOP",))
    assert shown == ["", "", "STILL"] and not stream.stopped, (
        f"shown after each piece: {shown}; 'ST' is held back until 'ILL' says that it is no STOP"
    )


@pytest.mark.exercise("8.3")
def test_the_first_of_several_stop_strings_counts():
    """Two stop strings in one piece: the text ends before the one that comes first in the text."""
    stream, _ = push_all(["red blue green"], ("green", "blue"))
    assert stream.text == "red ", f"'blue' comes first, so the text is 'red '; it is {stream.text!r}"


@pytest.mark.exercise("8.3")
def test_overlapping_stop_strings():
    """With "ab" and "abc" the shorter one decides; with "abc" and "bd" both beginnings are held back."""
    stream, shown = push_all(["xa", "b", "c"], ("abc", "ab"))
    assert stream.stopped and shown == ["", "x", "x"], f"'ab' is complete with the second piece; shown: {shown}"
    stream, shown = push_all(["xab", "d"], ("abc", "bd"))
    assert stream.stopped and shown == ["", "x", "xa"], f"'xab' may become x + abc or xa + bd; shown: {shown}"


@pytest.mark.exercise("8.3")
def test_without_stop_strings_nothing_is_held_back():
    """Everything is shown at once."""
    _, shown = push_all(["o", "n", "e"], ())
    assert shown == ["", "o", "on", "one"], f"without stop strings nothing has to wait; shown: {shown}"


def oracle(text: str, stop: tuple[str, ...]) -> str:
    """The longest beginning of a text without stop strings that no continuation can take back, found by trying."""
    for length in range(len(text) + 1):
        if any(each.startswith(text[length:]) for each in stop):
            return text[:length]
    return text


@pytest.mark.exercise("8.3")
@settings(max_examples=400, deadline=None)
@given(
    pieces=st.lists(st.text("abc", min_size=0, max_size=3), max_size=12),
    stop=st.lists(st.text("abc", min_size=1, max_size=4), max_size=3).map(tuple),
)
def test_shown_is_what_is_certain(pieces: list[str], stop: tuple[str, ...]):
    """Any text in any pieces, any stop strings: as much as can be is shown, up to the first stop string."""
    stream, shown = push_all(pieces, stop)
    whole = ""
    for i, text in enumerate(shown[1:]):
        whole += pieces[i]
        found = [whole.index(each) for each in stop if each in whole]
        right = whole[: min(found)] if found else oracle(whole, stop)
        assert text == right, f"of {whole!r} with the stop strings {stop}, {right!r} is certain; shown is {text!r}"
        assert stream.stopped or not found, f"{whole!r} contains one of {stop}, and the stream goes on"
    for earlier, later in zip(shown, shown[1:], strict=False):
        assert later.startswith(earlier), f"{earlier!r} had been shown, and then {later!r}: text was taken back"


# --- the whole stream, tokens in and text out ---


def stream_tokens(tokenizer, ids: list[int], stop: tuple[str, ...] = ()) -> tuple[TextStream, str]:
    """The stream at its end, and all that was taken from it, piece by piece."""
    stream, taken = TextStream(tokenizer, stop), ""
    for token_id in ids:
        stream.push(token_id)
        taken += stream.take()
    stream.finish(ids)
    return stream, taken + stream.take()


ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=20) | st.text("aé€😀👩‍👩‍👧\u0301", max_size=20)


@settings(max_examples=200, deadline=None)
@given(text=ANY_TEXT)
def test_any_text_byte_by_byte(text: str):
    """One token per byte, emoji and accents included: the pieces together are the text, none is half a character."""
    ids = BYTES.encode(text)
    stream, taken = stream_tokens(BYTES, ids)
    assert stream.text == taken == BYTES.decode(ids, skip_special_tokens=True), (
        f"streamed {taken!r}, kept {stream.text!r}, decoded {text!r}"
    )


@settings(max_examples=200, deadline=None)
@given(ids=st.lists(st.integers(0, 258), max_size=40))
def test_any_tokens_even_if_they_are_no_text(ids: list[int]):
    """Bytes that make no character, special tokens among them: the same text as decoding the whole."""
    stream, taken = stream_tokens(BYTES, ids)
    assert stream.text == taken == BYTES.decode(ids, skip_special_tokens=True)


@settings(max_examples=200, deadline=None)
@given(text=ANY_TEXT, data=st.data())
@example(text="<|im_start|>", data=None)  # hypothesis tries what it finds in the code, too
def test_a_stop_string_of_any_characters(text: str, data: st.DataObject):
    """Whatever part of the text is the stop string, the text ends before its first occurrence."""
    if not text or any(name in text for name in BYTES.get_added_vocab()):
        return  # the name of a special token is that token, and no text
    start = data.draw(st.integers(0, len(text) - 1))
    stop = text[start : data.draw(st.integers(start + 1, len(text)))]
    if "\ufffd" in stop:
        return  # the sign for broken bytes; a broken character is not shown before its end
    stream, taken = stream_tokens(BYTES, BYTES.encode(text), (stop,))
    assert stream.stopped and stream.text == taken == text[: text.index(stop)]


def test_a_character_is_shown_when_its_last_byte_is_there():
    """The four bytes of an emoji bring nothing, nothing, nothing, and then all of it."""
    stream, seen = TextStream(BYTES), []
    for token_id in BYTES.encode("é😀"):
        stream.push(token_id)
        seen.append(stream.take())
    assert seen == ["", "é", "", "", "", "😀"], f"pieces: {seen}"


def test_the_end_releases_what_was_held_back():
    """A request that ends by length with half a stop string pending: the caller gets these characters after all."""
    tokenizer = tiny_tokenizer()
    stream, taken = stream_tokens(tokenizer, tokenizer.encode("one ST"), ("STOP",))
    assert stream.text == taken == "one ST" and not stream.stopped


def test_half_a_character_at_the_end_becomes_the_sign_for_it():
    """The first byte of a character that never gets its second one."""
    ids = BYTES.encode("aé")[:-1]
    stream, taken = stream_tokens(BYTES, ids)
    assert stream.text == taken == "a\ufffd"


def test_trouble_with_a_token_is_kept_as_an_error():
    """A tokenizer that fails at a token, or at the end, raises nothing: the stream says what is wrong."""
    stream = TextStream(BYTES)
    stream.push(-5)
    assert "no text for token -5" in stream.error

    class Failing:
        backend_tokenizer = BYTES.backend_tokenizer

        def decode(self, *arguments, **keywords):
            raise ValueError("worn out")

    stream = TextStream(Failing())
    stream.push(70)
    stream.finish([70])
    assert "worn out" in stream.error and stream.text


def test_without_a_tokenizer_there_is_no_text():
    """Tokens go in and no text comes out."""
    stream, taken = stream_tokens(None, [1, 2, 3])
    assert stream.text == taken == stream.error == ""


def test_a_slow_tokenizer_is_refused():
    """A tokenizer without a backend of the tokenizers library cannot stream; the message says so."""

    class SlowTokenizer:
        pass

    with pytest.raises(UserError, match="SlowTokenizer has no fast backend"):
        TextStream(SlowTokenizer())
