"""Reading prompts: what the shipped ones are, what the model gets to read, and one clear line for each broken file."""

import json

import pytest

from toolkit.commands.prompt_options import parse_arguments
from toolkit.errors import UserError
from toolkit.models.byte_tokenizer import byte_tokenizer
from toolkit.prompts import SHIPPED, load_prompts


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


@pytest.fixture
def write(tmp_path):
    """Write a prompts file of these bytes or lines; returns its path."""

    def write_file(content):
        path = tmp_path / "prompts.jsonl"
        path.write_bytes(content if isinstance(content, bytes) else "\n".join(content).encode())
        return path

    return write_file


def test_the_shipped_prompts_are_32_different_ones_of_clearly_different_lengths(tokenizer):
    prompts = load_prompts(None, tokenizer, max_context=4096, new_tokens=32)
    words = sorted(len(prompt.text.split()) for prompt in prompts)
    assert len({prompt.text for prompt in prompts}) == 32
    assert words[0] <= 6 and words[-1] >= 100 and len(set(words)) >= 16, f"lengths in words: {words}"
    assert all(set(json.loads(line)) == {"prompt"} for line in SHIPPED.read_text("utf-8").splitlines())


def test_the_chat_template_is_applied(write, tokenizer):
    (prompt,) = load_prompts(write(['{"prompt": "Hé"}']), tokenizer, max_context=100, new_tokens=10)
    assert prompt.text == "Hé"
    assert tokenizer.decode(prompt.token_ids) == "<|im_start|>user\nHé<|im_end|>\n<|im_start|>assistant\n"


def test_a_base_model_reads_the_plain_text(write):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    (prompt,) = load_prompts(write(['{"prompt": "Hé"}']), tokenizer, max_context=100, new_tokens=10)
    assert tokenizer.decode(prompt.token_ids) == "Hé"


def test_blank_lines_other_keys_windows_line_ends_and_a_byte_order_mark_do_no_harm(write, tokenizer):
    content = b'\xef\xbb\xbf{"prompt": "one", "id": 7}\r\n\r\n{"prompt": "two"}\r\n'
    prompts = load_prompts(write(content), tokenizer, max_context=100, new_tokens=10)
    assert [prompt.text for prompt in prompts] == ["one", "two"]


def test_a_prompt_that_just_fits_is_taken_and_one_token_more_is_not(write, tokenizer):
    file = write(['{"prompt": "four"}'])
    length = len(load_prompts(file, tokenizer, max_context=100, new_tokens=10)[0].token_ids)
    assert load_prompts(file, tokenizer, max_context=length + 10, new_tokens=10)
    with pytest.raises(UserError, match=rf"prompts\.jsonl:1: {length} tokens and 11 new ones exceed the model's"):
        load_prompts(file, tokenizer, max_context=length + 10, new_tokens=11)


GOOD = b'{"prompt": "good"}\n'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (GOOD + b"What is this?\n", r":2: not JSON \(Expecting value at column 1\)"),
        (GOOD + b'{"prompt": "cut off', r":2: not JSON"),
        (GOOD + b"[" * 100_000, r":2: not JSON"),
        (GOOD + b'{"text": "wrong key"}\n', r':2: no "prompt" in it'),
        (GOOD + b'["a list"]\n', r':2: no "prompt" in it'),
        (GOOD + b'{"prompt": 3}\n', r':2: "prompt" is int, not text'),
        (GOOD + b'{"prompt": null}\n', r':2: "prompt" is NoneType, not text'),
        (GOOD + b'\n{"prompt": " \\n"}\n', r":3: the prompt is empty"),
        (GOOD + b'{"prompt": "caf\xe9"}\n', r":2: not UTF-8 \(byte 16 of the line\)"),
        (GOOD + b'{"prompt": "\\ud800"}\n', r":2: the prompt has half a surrogate pair"),
        (GOOD + b'{"prompt": "' + b"long " * 200 + b'"}\n', r":2: \d+ tokens and 10 new ones exceed the model's 512"),
        (b"", r"no prompts in it"),
        (b"\n \n", r"no prompts in it"),
    ],
)
def test_a_broken_file_is_refused_with_file_and_line(write, tokenizer, content, says):
    file = write(content)
    with pytest.raises(UserError, match=says) as caught:
        load_prompts(file, tokenizer, max_context=512, new_tokens=10)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value), "the message must be one line"


def test_a_file_that_cannot_be_read(tmp_path, tokenizer):
    with pytest.raises(UserError, match="cannot read it: No such file or directory"):
        load_prompts(tmp_path / "missing.jsonl", tokenizer, max_context=512, new_tokens=10)
    with pytest.raises(UserError, match="cannot read it"):
        load_prompts(tmp_path, tokenizer, max_context=512, new_tokens=10)


# --- what comes with a model, or is no file at all

TEMPLATES = {
    "broken": "{{",
    "raising": "{{ raise_exception('only\nfor tools') }}",
    "without what it asks for": "{{ messages[5].content }}",
    "dividing by zero": "{{ 1 / 0 }}",
    "a number": 5,
    "a dict without a default": {"tool_use": "x"},
    "empty": "",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_chat_template_that_fails_is_one_line(write, name):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATES[name]
    with pytest.raises(UserError, match=r"prompts\.jsonl:1: the model's ") as caught:
        load_prompts(write(['{"prompt": "good"}']), tokenizer, max_context=100, new_tokens=10)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_of_several_chat_templates_the_default_one_is_taken(write):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = {"default": "<{{ messages[0].content }}>", "tool_use": "x"}
    (prompt,) = load_prompts(write(['{"prompt": "good"}']), tokenizer, max_context=100, new_tokens=10)
    assert tokenizer.decode(prompt.token_ids) == "<good>"


@pytest.mark.parametrize("line", ['{{"prompt": "good", "id": {}}}', '{{"prompt": {}}}', "{}", "[{}]"])
def test_a_number_of_too_many_digits_is_refused_with_its_line(write, tokenizer, line):
    file = write(['{"prompt": "good"}', line.format("9" * 5000)])
    with pytest.raises(UserError, match=r":2: not JSON \(a number has too many digits\)"):
        load_prompts(file, tokenizer, max_context=100, new_tokens=10)


@pytest.mark.parametrize("path", ["~nouser/x", "a" * 300, "a\0b", "", "/"], ids=lambda path: repr(path)[:12])
def test_a_path_that_leads_nowhere(path, tokenizer):
    with pytest.raises(UserError, match="cannot read it: ") as caught:
        load_prompts(path, tokenizer, max_context=100, new_tokens=10)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("tokens", ["9" * 5000, "9" * 10, "0", "²", "-1", "1e3", "", "nan", "1_0 0"])
def test_tokens_that_are_no_usable_number(monkeypatch, tokens):
    monkeypatch.setattr("sys.argv", ["run", f"--tokens={tokens}"])
    with pytest.raises(UserError, match="TOKENS is ") as caught:
        parse_arguments("run", "")
    assert len(str(caught.value)) < 150
