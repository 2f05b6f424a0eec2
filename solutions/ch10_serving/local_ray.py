"""Ray on this machine alone, for as long as a run takes.

Ray is made for many machines, and by default it listens on an address that others can reach: all who get through to it
can run any code. Here all of its processes listen on loopback only, each run has a secret of its own that they ask each
other for (other users of this machine can reach loopback, too), the dashboard is off, and nothing is reported home.

Ray counts CPUs and GPUs as *logical* resources, and schedules what fits. What does not fit waits, forever and without
a word, since in a cluster a machine may join at any time. On one machine none will, so `started` looks first.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch

from toolkit import course
from toolkit.errors import UserError

SETTINGS = {
    # Off Linux, Ray keeps to loopback by itself unless this is 1; with 0 it does so on Linux as well.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",  # what there is to say is said in one line; the rest is in files
    # Serve's proxy has five seconds to start otherwise. A busy machine takes longer, and what waits for it would fail.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    # No processes in reserve: each takes seconds of CPU to start, and there will be no work for it.
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
}


def engine_resources(engines: int, gpus: int | None = None, cores: int | None = None) -> dict[str, float]:
    """What one engine asks Ray for, as options of an actor: a GPU where there are any, otherwise a core.

    Args:
        engines: how many there will be.
        gpus, cores: what this machine has; by default what it says.

    Raises:
        UserError: there are not so many.
    """
    gpus = torch.cuda.device_count() if gpus is None else gpus
    cores = psutil.cpu_count() or 1 if cores is None else cores
    there, kind = (gpus, "GPU") if gpus else (cores, "core")
    if engines > there:
        have = f"this machine has {there} {kind}{'s' if there > 1 else ''}"
        raise UserError(f"{engines} engines need a {kind} each, and {have}; ask for fewer (REPLICAS={there})")
    return {"num_gpus": 1, "num_cpus": 1} if gpus else {"num_cpus": 1}


@contextmanager
def started(engines: int) -> Iterator[dict[str, float]]:
    """Ray runs inside, with room for so many engines; yields `engine_resources`.

    Logical CPUs are for counting only, so there are as many as are asked for, and two more: a replica may be started
    while the one whose place it takes still ends.

    Raises:
        UserError: Ray is not installed, cannot start, or there is no room.
    """
    resources = engine_resources(engines)
    os.environ.update(SETTINGS)  # before Ray is imported, for it reads some of them then
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
    except ImportError:
        raise UserError("Ray is not installed here; make run-ray and make serve-ray install it") from None
    try:
        ray.init(
            address="local",
            num_cpus=engines + 2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            runtime_env=for_workers(),
        )
    except Exception as error:  # it raises whatever it likes, mostly because the machine is too busy to start in time
        ray.shutdown()
        raise UserError(
            f"Ray cannot start: {first_line(error)} (its logs are in /tmp/ray/session_latest/logs)"
        ) from error
    try:
        yield resources
    finally:
        ray.shutdown()


def for_workers() -> dict[str, Any]:
    """What each of Ray's processes does first: find this repository, and run the same code of the chapters."""
    choice = course.current()
    assert choice is not None, "course.use comes first"
    code, chapter, fill = choice.code, choice.chapter, choice.fill

    def prepare() -> None:
        from toolkit import course

        course.use(code, chapter, fill)

    path = os.pathsep.join([str(choice.root), *filter(None, [os.environ.get("PYTHONPATH")])])
    one_thread = {"OMP_NUM_THREADS": "1"}  # of torch: with several engines on one host they would wait for each other
    return {"env_vars": {"PYTHONPATH": path} | one_thread, "worker_process_setup_hook": prepare}


def keep_to_loopback() -> None:
    """To be called in a replica before it has started: whatever Ray is told, Serve has each replica listen on all
    addresses, for calls that this chapter does not make. A test looks at who listens where.
    """
    from ray.serve._private import replica

    bind = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: bind(server, address.replace("[::]", "127.0.0.1"))


def first_line(error: BaseException) -> str:
    """What an error says, in one line: where a UserError is at the bottom of it, what that says."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return str(cause)
        cause = getattr(cause, "cause", None) or cause.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = next((line for line in reversed(lines) if "UserError: " in line), "")
    return named.partition("UserError: ")[2] or (lines[0] if lines else type(error).__name__)
