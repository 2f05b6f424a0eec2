"""From requests to token ids, with a tokenizer that puts a token of its own in front of a text."""

import threading

import pytest
from tokenizers.processors import TemplateProcessing

from ch10_serving.prompts import PromptReader
from ch10_serving.wire import ChatRequest, CompletionRequest
from toolkit.models.byte_tokenizer import byte_tokenizer

BEGINNING = 1


@pytest.fixture
def reader() -> PromptReader:
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", BEGINNING)]
    )
    return PromptReader(tokenizer, max_length=100, vocab_size=259)


def test_a_text_begins_as_the_model_expects_it(reader):
    """The tokenizer's own first token is there for texts, and not for token ids, which are taken as they are."""
    [text, ids] = reader.read(CompletionRequest(model="", prompt=["Hi", [70, 71]]))
    assert text[0] == BEGINNING and reader.tokenizer.decode(text[1:]) == "Hi"
    assert ids == [70, 71]


def test_a_template_has_written_the_first_token_already(reader):
    """With the tokenizer's it would be there twice."""
    [ids] = reader.read(ChatRequest(model="", messages=[{"role": "user", "content": "Hi"}]))
    assert ids[0] == BEGINNING and ids[1] != BEGINNING
    assert reader.tokenizer.decode(ids) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_other_threads_run_while_a_long_text_is_read(reader):
    """The engine's thread is one of them: the lock of Python is not held from the first byte to the last."""
    reader.max_length = 10**6
    turns, is_read = 0, threading.Event()

    def engine() -> None:
        nonlocal turns
        while not is_read.wait(0.001):
            turns += 1

    thread = threading.Thread(target=engine)
    encode = reader.tokenizer.backend_tokenizer.encode_batch

    class Backend:
        @staticmethod
        def encode_batch(*arguments, **options):
            """Counted are the turns of the other thread within this call alone."""
            before = turns
            result = encode(*arguments, **options)
            taken.append(turns - before)
            return result

    taken: list[int] = []
    text = "The sea is everything. " * 25000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(reader.tokenizer), "backend_tokenizer", Backend)
        thread.start()
        [ids] = reader.read(CompletionRequest(model="", prompt=text))
        is_read.set()
        thread.join()
    assert len(ids) == len(text) + 1
    assert sum(taken) >= 5, f"while the text was read, the other thread had {sum(taken)} turns of a millisecond"
