"""Chooses whose code the tests run, before any test module is imported, and says so in pytest's header.

COURSE_CODE=mine tests the learner's my/; not set, or COURSE_CODE=solutions, the reference in solutions/.
"""

import os

# No test may need a download; and a tokenizer's own threads must not outlive a fork.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import gc  # noqa: E402
import random  # noqa: E402
from collections.abc import Iterator  # noqa: E402

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

from tests import slow  # noqa: E402
from toolkit import course  # noqa: E402
from toolkit.errors import UserError  # noqa: E402

# The models of the tests are tiny: handing their work to a second thread costs more than it saves.
torch.set_num_threads(1)
# How quick a busy machine makes an example says nothing about the code that is tested, a learner's least of all.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_configure() -> None:
    # A runner that has chosen already (a check, a planted mistake) stands.
    if course.current() is None:
        try:
            course.use(os.environ.get("COURSE_CODE") or "solutions")
        except UserError as error:
            raise pytest.UsageError(str(error)) from None


def pytest_report_header() -> str:
    choice = course.current()
    assert choice is not None
    return f"These tests run {choice.describe()}."


@pytest.hookimpl(tryfirst=True)  # before `-m` asks for the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, and skip what needs a GPU where there is none."""
    slow.mark(items)
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs an NVIDIA GPU, and torch sees none here")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Every test starts from the same random state, whatever ran before it."""
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def no_garbage() -> None:
    """What earlier tests left on the device is freed before this test, and not while it compares memory."""
    gc.collect()


@pytest.fixture(autouse=True)
def torch_cuda_in_exercises(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where there is no GPU, an exercise that calls torch.cuda.stream and its like is told what to write instead."""
    if torch.cuda.is_available() or request.node.get_closest_marker("exercise") is None:
        yield
        return
    from tests.helpers import torch_cuda_refused

    with torch_cuda_refused():
        yield
