"""The difference of two functions, as lessons show it."""

from toolkit.source_diff import source_diff


def before(model: str) -> list[str]:
    """One docstring."""
    parts = [model]
    parts.append("blocks")
    parts.append("scheduler")
    parts.append("executor")
    return parts


def after(model: str) -> list[str]:
    """Another one,

    of several lines.
    """
    parts = [model]
    parts.append("blocks")
    parts.append("scheduler")
    parts.append("executor with events")
    return parts


def test_only_what_differs_is_shown():
    """Names of the functions and their bodies count, docstrings do not; one line around each change."""
    assert source_diff(before, after).splitlines() == [
        "  ...",
        "-def before(model: str) -> list[str]:",
        "+def after(model: str) -> list[str]:",
        "     parts = [model]",
        "  ...",
        '     parts.append("scheduler")',
        '-    parts.append("executor")',
        '+    parts.append("executor with events")',
        "     return parts",
    ]


def test_equal_functions_differ_in_nothing():
    assert source_diff(before, before) == ""
