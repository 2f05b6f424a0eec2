"""pytest -p toolkit.simgpu.pytest_plugin --simgpu: every test gets a fresh simulated GPU, and fails on a race.

The tests are written for torch.cuda. "cuda" is the simulated GPU from before they are collected, so that marks such as
`skipif(not torch.cuda.is_available())` see it. Streams, events and graphs last for one test: those of a module, or of a
fixture of wider scope, are refused in the next.
"""

from collections.abc import Generator
from contextlib import ExitStack

import pytest

_session = pytest.StashKey[ExitStack]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simgpu")
    if group.options:  # those of the installed package, which has loaded this module
        return
    group.addoption("--simgpu", action="store_true", help="run the tests on the simulated GPU; a race fails a test")
    group.addoption(
        "--simgpu-policy", default="eager", metavar="POLICY", help="eager (the default), lazy, random:SEED or threads"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--simgpu"):
        from toolkit.simgpu.as_cuda import as_cuda  # a process that can use CUDA refuses it, so only when asked for

        config.stash[_session] = ExitStack()
        config.stash[_session].enter_context(as_cuda(config.getoption("--simgpu-policy"), on_race="collect"))


def pytest_unconfigure(config: pytest.Config) -> None:
    if _session in config.stash:
        config.stash[_session].close()


def pytest_report_header(config: pytest.Config) -> str | None:
    if _session not in config.stash:
        return None
    return f"simgpu: cuda is simulated, policy {config.getoption('--simgpu-policy')}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if _session in item.config.stash:
        from toolkit.simgpu import control

        control.reset(item.config.getoption("--simgpu-policy"), on_race="collect")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    if _session not in item.config.stash:
        return (yield)
    from toolkit.simgpu import control, streams

    try:
        result = yield
        streams.synchronize()
    except BaseException:  # the test's own failure; the races may be why
        item.add_report_section("call", "simgpu", control.describe_races())
        raise
    if races := control.describe_races():
        pytest.fail(races, pytrace=False)
    return result
