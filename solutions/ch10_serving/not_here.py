"""What the OpenAI API has and this server has not: logprobs, tools, penalties and more.

It is refused by its name, since an answer that looks as if it had been heeded is worse than none. Its neutral value,
which many clients send along, is let through, and so is null.
"""

from typing import Any, LiteralString

from pydantic_core import PydanticCustomError

# What is not here -> the values that ask for nothing.
NOT_HERE: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0, 0.0),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "name": (),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "presence_penalty": (0, 0.0),
    "reasoning_effort": ("none",),
    "refusal": (),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "tool_calls": ([],),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
    "web_search_options": (),
}


def refuse(message: LiteralString, **context: Any) -> PydanticCustomError:  # noqa: ANN401 (texts and numbers)
    """An error whose message goes to the caller; names in braces stand for values of `context`.

    Of the `context`, "param" is the parameter at fault, and "code" the error's code.
    """
    return PydanticCustomError("for_the_caller", message, context)


def without_what_is_not_here(body: Any) -> Any:  # noqa: ANN401 (whatever JSON holds)
    """The parameters that are to be looked at. Raises for the first one that is not here and asks for something."""
    if not isinstance(body, dict):
        return body
    for name, value in body.items():
        neutral = any(type(value) is type(each) and value == each for each in NOT_HERE.get(name, ()))
        if name in NOT_HERE and value is not None and not neutral:
            raise refuse(
                "{param}: this server does not have it; leave it out", param=name, code="unsupported_parameter"
            )
    return {name: value for name, value in body.items() if value is not None and name not in NOT_HERE}
