"""The options of a command that runs a model on a file of prompts."""

import argparse

from toolkit.errors import UserError


def parse_arguments(prog: str, description: str) -> argparse.Namespace:
    """The options as given on the command line: model, prompts, tokens.

    Args:
        prog: how the command is called.
        description: what it does, for --help.

    Raises:
        UserError: `tokens` is no number of tokens.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--model", default="default", help="default, tiny, a model folder, or a name on the Hub")
    parser.add_argument("--prompts", help='a file with one {"prompt": "..."} a line; the course has 32 of its own')
    parser.add_argument("--tokens", default="32", help="new tokens per prompt")
    options = parser.parse_args()
    # No context is longer than nine digits, and Python makes no number of some thousand.
    if not options.tokens.isdecimal() or len(options.tokens) > 9 or int(options.tokens) == 0:
        raise UserError(f"TOKENS is {options.tokens[:40]!r}; give the number of new tokens per prompt, 1 to 999999999")
    options.tokens = int(options.tokens)
    return options
