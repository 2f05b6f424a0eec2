"""Ray on one machine, as far as it can be looked at without Ray: what fits, and what an error says."""

import pytest

from ch10_serving.local_ray import engine_resources, first_line
from toolkit.errors import UserError


@pytest.mark.parametrize(
    "engines, gpus, cores, said",
    [
        (3, 0, 2, "3 engines need a core each, and this machine has 2 cores; ask for fewer (REPLICAS=2)"),
        (2, 0, 1, "2 engines need a core each, and this machine has 1 core; ask for fewer (REPLICAS=1)"),
        (9, 8, 64, "9 engines need a GPU each, and this machine has 8 GPUs; ask for fewer (REPLICAS=8)"),
    ],
)
def test_what_does_not_fit_is_said(engines: int, gpus: int, cores: int, said: str):
    """Ray itself would wait forever."""
    with pytest.raises(UserError) as caught:
        engine_resources(engines, gpus, cores)
    assert str(caught.value) == said


def test_an_engine_has_a_gpu_of_its_own():
    assert engine_resources(8, gpus=8, cores=2) == {"num_gpus": 1, "num_cpus": 1}
    assert engine_resources(2, gpus=0, cores=2) == {"num_cpus": 1}


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:
        return caught


class OfRay(Exception):
    """As Ray's: with what it was caused by in another process."""

    def __init__(self, text: str, cause: Exception | None) -> None:
        super().__init__(text)
        self.cause = cause


def test_errors_are_one_line():
    """What a UserError says, wherever it comes from: a cause, another process, or a traceback that was sent as text."""
    told = UserError("model x: there is none")
    assert first_line(raised(ValueError("a"), told)) == first_line(OfRay("a\nb", told)) == str(told)
    assert first_line(OfRay("Traceback:\n  File x\ntoolkit.errors.UserError: model x: there is none\n", None)) == str(
        told
    )
    assert first_line(ValueError("\n  first \n second")) == "first"
    assert first_line(ValueError()) == "ValueError"
