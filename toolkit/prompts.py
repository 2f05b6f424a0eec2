"""Prompts from a JSON Lines file: one `{"prompt": "..."}` a line, made into the tokens that the model expects.

    prompts = load_prompts(None, tokenizer, max_context=8192, new_tokens=32)  # None: the course's own 32

A file with a broken line is refused as a whole, before any work is done, with the file and the line in the message.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from toolkit.errors import UserError

SHIPPED = Path(__file__).with_name("prompts.jsonl")


@dataclass(frozen=True)
class Prompt:
    """What the user wrote, and what the model reads: the same inside the model's chat template."""

    text: str
    token_ids: list[int]


def load_prompts(
    path: str | Path | None, tokenizer: PreTrainedTokenizerBase, *, max_context: int, new_tokens: int
) -> list[Prompt]:
    """Read a file of prompts.

    Args:
        path: the file, or None for the prompts that come with the course.
        tokenizer: its chat template is applied where it has one; a base model gets the plain text.
        max_context: tokens that the model can attend to, prompt and answer together.
        new_tokens: the length of the answer that has to fit in.

    Raises `UserError` with file and line for whatever cannot be used. Blank lines are skipped, other keys ignored.
    """
    file = SHIPPED if path is None else Path(path)
    try:
        lines = file.expanduser().read_bytes().split(b"\n")
    except (OSError, RuntimeError, ValueError) as error:  # the last two: a user that is not there, no path at all
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"prompts {str(file)[:200]!r}: cannot read it: {reason}") from None
    prompts = []
    for number, line in enumerate(lines, start=1):
        where = f"{file}:{number}"
        try:
            text = line.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{where}: not UTF-8 (byte {error.start + 1} of the line); save the file as UTF-8"
            ) from None
        if not text.strip():
            continue
        prompt = parse_line(text, where)
        token_ids = encode(prompt, tokenizer, where)
        if len(token_ids) + new_tokens > max_context:
            raise UserError(
                f"{where}: {len(token_ids)} tokens and {new_tokens} new ones exceed the model's {max_context}; "
                "shorten the prompt or ask for fewer tokens"
            )
        prompts.append(Prompt(prompt, token_ids))
    if not prompts:
        raise UserError(f'prompts {file}: no prompts in it; write one a line, as {{"prompt": "..."}}')
    return prompts


def parse_line(line: str, where: str) -> str:
    """The prompt of one line of the file."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError):
            reason = f"{error.msg} at column {error.colno}"
        else:  # Python reads no number of more than some thousand digits, and no deeper nesting than it calls
            reason = "nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
        raise UserError(f'{where}: not JSON ({reason}); a line reads {{"prompt": "..."}}') from None
    if not isinstance(entry, dict) or "prompt" not in entry:
        raise UserError(f'{where}: no "prompt" in it; a line reads {{"prompt": "..."}}')
    prompt = entry["prompt"]
    if not isinstance(prompt, str):
        raise UserError(f'{where}: "prompt" is {type(prompt).__name__}, not text; put it in quotation marks')
    if not prompt.strip():
        raise UserError(f"{where}: the prompt is empty; write one, or take the line out")
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise UserError(f"{where}: the prompt has half a surrogate pair (\\ud800 to \\udfff); take it out") from None
    return prompt


def encode(prompt: str, tokenizer: PreTrainedTokenizerBase, where: str) -> list[int]:
    """The tokens of a prompt, as the user's turn of a chat if the model was trained for chats.

    A chat template is a program that comes with the model, so it may fail in any way. Raises `UserError` if it does,
    and where there is no token in the end.
    """
    try:
        if tokenizer.chat_template is None:
            token_ids = tokenizer(prompt)["input_ids"]
        else:
            # The template writes the special tokens itself; encoding its text in a second step would add another BOS.
            messages = [{"role": "user", "content": prompt}]
            encoding: Any = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
            token_ids = encoding["input_ids"]
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
        what = "tokenizer" if tokenizer.chat_template is None else "chat template"
        raise UserError(
            f"{where}: the model's {what} cannot take this prompt ({reason}); take another model"
        ) from error
    if not token_ids:
        raise UserError(f"{where}: the model's tokenizer makes no token of this prompt; write another one")
    return token_ids
