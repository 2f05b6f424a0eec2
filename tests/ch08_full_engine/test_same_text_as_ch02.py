"""The text that chapter 8 makes piece by piece is the text that chapter 2 makes at the end, whatever the tokenizer."""

import random

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from ch02_continuous_batching import FinishReason
from ch02_continuous_batching.build import build as build_ch02
from ch08_full_engine import TextStream
from tests.ch08_full_engine.full_runs import Watch, engine_on, params
from tests.helpers import VOCABULARY, tiny_model, tiny_tokenizer
from tests.simulated import PROMPTS, needs_simulator
from toolkit.models.byte_tokenizer import byte_tokenizer

SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = "é😀ß\ufffd".encode()
WORDS = ["▁", "▁a", "▁b", "a", "b", "é", "\ufffd", "▁▁", ".", "▁.", "n't", "##ing", "END", "▁END"]
LLAMA = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]


def word_tokenizer(decoder: object, kind: str = "bpe", size: int = 0, **options: object) -> PreTrainedTokenizerFast:
    """Three special tokens, bytes as <0x00> to <0xFF> (in a small one letters and those of BYTES), and WORDS."""
    byte_values = range(256) if not size else sorted({*BYTES, *range(ord("A"), ord("z"))})
    tokens = SPECIAL + [f"<0x{value:02X}>" for value in byte_values] + WORDS
    tokens += [chr(0x4E00 + i) for i in range(size - len(tokens))]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    made = {
        "bpe": lambda: models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, unk_token="<unk>"),
        "unigram": lambda: models.Unigram([(token, -1.0) for token in tokens], unk_id=0, byte_fallback=True),
        "words": lambda: models.WordLevel(vocabulary, unk_token="<unk>"),
        "pieces": lambda: models.WordPiece(vocabulary, unk_token="<unk>"),
    }
    tokenizer = Tokenizer(made[kind]())
    if decoder is not None:
        tokenizer.decoder = decoder
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **options)


TOKENIZERS = {
    "llama 2": lambda: word_tokenizer(decoders.Sequence(LLAMA)),
    "gemma": lambda: word_tokenizer(decoders.Sequence(LLAMA[:3])),
    "unigram": lambda: word_tokenizer(decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()]), "unigram"),
    "words": lambda: word_tokenizer(None, "words"),
    "words, cleaned up": lambda: word_tokenizer(None, "words", clean_up_tokenization_spaces=True),
    "pieces": lambda: word_tokenizer(decoders.WordPiece(), "pieces"),
    "bytes": byte_tokenizer,
}


def random_tokens(tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> list[int]:
    """Words, characters of several bytes whole and broken, stray bytes, special and unknown tokens, in any order."""
    vocabulary = tokenizer.get_vocab()
    spelled = (
        [vocabulary[f"<0x{value:02X}>"] for value in BYTES] if "<0x00>" in vocabulary else tokenizer("é😀").input_ids
    )
    words = [vocabulary[word] for word in WORDS if word in vocabulary] or list(vocabulary.values())
    ids: list[int] = []
    for _ in range(rng.randint(1, 12)):
        start = rng.randrange(len(spelled))
        choices = [
            [rng.choice(words)],
            spelled[start : start + rng.randint(1, 4)],
            [rng.randrange(len(vocabulary) + 2)],
        ]
        ids += rng.choice(choices)
    return ids


def chapter_2(tokenizer: PreTrainedTokenizerFast, ids: list[int], stop: tuple[str, ...]) -> tuple[int, str, bool]:
    """How many tokens are taken, the text, and whether a stop string ended it: everything is decoded at every token."""
    for count in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:count], skip_special_tokens=True)
        found = [text.index(each) for each in stop if each in text]
        if found:
            return count, text[: min(found)], True
    return len(ids), text, False


@pytest.mark.parametrize("name", TOKENIZERS)
def test_any_tokens_of_any_tokenizer(name: str):
    """300 random sequences, half of them with stop strings: the same text, ended at the same token, and no error."""
    tokenizer, rng = TOKENIZERS[name](), random.Random(name)
    for _ in range(300):
        ids, stop = random_tokens(tokenizer, rng), ()
        whole = tokenizer.decode(ids, skip_special_tokens=True)
        if whole and rng.random() < 0.5:
            starts = [rng.randrange(len(whole)) for _ in range(rng.randint(1, 3))]
            stop = tuple(whole[start : start + rng.randint(1, 3)] for start in starts)
            stop = tuple(each for each in stop if "\ufffd" not in each)
        stream, pieces, count = TextStream(tokenizer, stop), "", 0
        for count, token_id in enumerate(ids, start=1):  # noqa: B007 (used after the loop)
            stream.push(token_id)
            pieces += stream.take()
            if stream.stopped:
                break
        stream.finish(ids[:count])
        pieces += stream.take()
        assert stream.error == "" and pieces == stream.text
        right = chapter_2(tokenizer, ids, stop)
        assert (count, stream.text, stream.stopped) == right, f"tokens {ids}, stop strings {stop}"


def test_a_run_of_byte_tokens_is_shown_at_its_end():
    """With byte fallback one stray byte turns the whole run into signs for that, so nothing of a run is shown early."""
    tokenizer = TOKENIZERS["llama 2"]()
    vocabulary = tokenizer.get_vocab()
    stream, seen = TextStream(tokenizer), []
    for token in ["▁a", "<0xC3>", "<0xA9>", "<0xC3>", "b", "<0xC3>", "<0xA9>", "b"]:
        stream.push(vocabulary[token])
        seen.append(stream.take())
    assert seen == ["a", "", "", "", "\ufffd\ufffd\ufffdb", "", "", "éb"] and stream.error == ""


# --- both engines ---


def both_engines(tokenizer, eos: set[int], **values):
    """The last output of each of PROMPTS in chapter 2 and in chapter 8, as pairs."""
    engine = build_ch02(tiny_model(), tokenizer, num_blocks=80, block_size=4)
    engine.book.eos_ids = eos
    simple = engine.generate(PROMPTS, params(**values))
    full = engine_on(tokenizer=tokenizer)
    full.book.eos_ids = eos
    watch = Watch(full).add_prompts(**values).run()
    return [(output, watch.ended[str(i)]) for i, output in enumerate(simple)]


@needs_simulator
@pytest.mark.parametrize("stop", [(), ("é",), ("a", "b.", "\u4e10")])
def test_a_model_that_writes_stray_bytes(stop: tuple[str, ...]):
    """Most tokens of this vocabulary are bytes or words: every request ends as in chapter 2, none with an error."""
    tokenizer = word_tokenizer(decoders.Sequence(LLAMA), size=VOCABULARY)
    pairs = both_engines(tokenizer, set(), max_tokens=40, stop=stop)
    for simple, full in pairs:
        assert (full.finish_reason, full.output_ids, full.text) == (
            simple.finish_reason,
            simple.output_ids,
            simple.text,
        )
        assert full.finish_reason is not FinishReason.ERROR and full.error == ""
    if not stop:
        assert any("\ufffd" in full.text for _, full in pairs), "no stray byte was written, so nothing is tested"


@needs_simulator
def test_an_end_of_sequence_token_that_is_the_stop_string():
    """The token is ordinary text for the tokenizer: the reason is EOS, and the text ends before it, in both engines."""
    tokenizer = tiny_tokenizer()
    first = both_engines(tokenizer, set())[0][0].output_ids
    eos = first[4]
    for stop in ((chr(32 + eos),), (chr(32 + first[3]) + chr(32 + eos),), (chr(32 + eos), "never")):
        simple, full = both_engines(tokenizer, {eos}, stop=stop)[0]
        assert simple.finish_reason is full.finish_reason is FinishReason.EOS
        assert simple.output_ids == full.output_ids == first[: first.index(eos) + 1]
        assert simple.text == full.text and stop[0] not in full.text


@needs_simulator
def test_two_stop_strings_that_end_together():
    """Both end with the same token: the text ends before the one that begins first, whichever is named first."""
    tokenizer = tiny_tokenizer()
    first = both_engines(tokenizer, set())[0][0]
    long, short = first.text[2:5], first.text[4:5]
    for stop in ((long, short), (short, long)):
        simple, full = both_engines(tokenizer, set(), stop=stop)[0]
        right = first.text[: min(first.text.index(long), first.text.index(short))]
        assert simple.text == full.text == right, f"stop strings {stop} in {first.text!r}"
