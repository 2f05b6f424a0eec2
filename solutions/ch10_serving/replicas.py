"""The application on N replicas, with Ray Serve: an ingress that listens, and replicas that have an engine each.

    client --HTTP--> Serve's proxy --> Ingress --> router --> Replica (the whole application, and its engine)
                                                        \\--> Replica

*Least loaded*: Serve's router takes two replicas at random and sends the request to the one that has fewer requests
("power of two choices"). That is nearly as good as looking at all of them, and takes two look-ups however many there
are. affine_router.py has another policy.

*Back-pressure*: a replica has at most `max_ongoing_requests` at a time, twice its engine's rows. If it had many more,
they would wait inside the engine that they were sent to first; so they wait in front of the router instead, and go to
whichever replica is free first. At most `max_queued_requests` wait there; the next one is refused with status 429.

*Autoscaling*: in place of `num_replicas`, a deployment can have `autoscaling_config=AutoscalingConfig(min_replicas=1,
max_replicas=8, target_ongoing_requests=N)`. Serve then adds up the requests that run and those that wait, and divides
by N, the number with which a replica has its best throughput at a latency that is still good: somewhat below the
engine's rows, for a full engine makes the next request wait. Going up takes `upscale_delay_s` (30 s) and the time to
load a model, so autoscaling follows the day, not a burst. Going down takes `downscale_delay_s` (600 s): a replica that
goes takes the prefixes in its blocks with it.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

from ray import serve
from ray.exceptions import RayActorError
from ray.serve.config import RequestRouterConfig
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Message

from ch10_serving.app import create_app
from ch10_serving.asgi_call import HttpRequest, call_asgi
from ch10_serving.ingress import Ingress
from ch10_serving.local_ray import first_line, keep_to_loopback
from ch10_serving.serve import LOCAL_NAMES
from ch10_serving.service import Service
from ch10_serving.settings import Limits
from ch10_serving.watchdog import PATIENCE, Watchdog
from toolkit.errors import UserError

APPLICATION, REPLICA = "serving", "Replica"
AFFINE = "ch10_serving.affine_router:AffineRouter"
GRACE = 20.0  # seconds that a replica has to end its requests when it is stopped; also one that does not answer
QUIET = {"log_level": "WARNING", "enable_access_log": False}


class Replica:
    """The application with its engine, in a process of its own."""

    async def __init__(self, make: Callable[[], Service], patience: float) -> None:  # type: ignore[misc] # Serve awaits it
        keep_to_loopback()
        service = make()
        self.app = create_app(service, Limits(), LOCAL_NAMES)
        self.service = service
        self.stack = AsyncExitStack()
        await self.stack.enter_async_context(service.running())
        self.watchdog = Watchdog(service.server, patience)

    async def http(self, request: HttpRequest) -> AsyncIterator[Message]:
        async for message in call_asgi(self.app, request):
            yield message

    def check_health(self) -> None:
        """Asked by Serve every few seconds. A replica that raises, or does not answer, three times is replaced."""
        if trouble := self.service.trouble():
            raise RuntimeError(trouble)


def build_ingress() -> Starlette:
    """The ingress, in its own process; Serve calls this there."""
    keep_to_loopback()
    replicas: DeploymentHandle = serve.get_deployment_handle(REPLICA, APPLICATION)
    replicas = replicas.options(method_name="http", stream=True)

    async def call(request: HttpRequest) -> AsyncIterator[Message]:
        response: Any = replicas.remote(request)
        try:
            async for message in response:
                yield message
        finally:
            response.cancel()  # changes nothing if it has ended

    ingress = Ingress(call, (RayActorError, DeploymentUnavailableError), (BackPressureError,), Limits().body)
    return Starlette(routes=[Mount("/", ingress)])  # which starts and ends as Serve expects it


def deploy(
    make: Callable[[], Service],
    replicas: int,
    resources: dict[str, float],
    rows: int,
    port: int,
    *,
    affine: bool = False,
    waiting: int = Limits().waiting,
    patience: float = PATIENCE,
    health_period: float = 5.0,
) -> None:
    """Start the replicas and listen on 127.0.0.1. Ray has been started. Returns when requests can come.

    Args:
        make: makes a replica's service, in its process.
        resources: of each replica.
        rows: requests that an engine runs in a step.
        affine: requests that begin alike go to the same replica; see affine_router.py.
        waiting: requests that may wait in front of the replicas.
        patience: see Watchdog. health_period: seconds between two questions to each replica.

    Raises UserError if a replica cannot start.
    """
    router = RequestRouterConfig(request_router_class=AFFINE) if affine else RequestRouterConfig()
    engines = serve.deployment(
        Replica,
        name=REPLICA,
        num_replicas=replicas,
        max_ongoing_requests=2 * rows,
        max_queued_requests=waiting,
        max_constructor_retry_count=1,
        ray_actor_options=resources,
        request_router_config=router,
        health_check_period_s=health_period,
        health_check_timeout_s=2 * health_period,
        graceful_shutdown_timeout_s=GRACE,
    )
    front = serve.deployment(
        serve.ingress(build_ingress)(),
        name="Ingress",
        max_ongoing_requests=Limits().connections,
        ray_actor_options={"num_cpus": 0},
    )
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    application = front.bind(engines.bind(make, patience))
    try:
        serve.run(application, name=APPLICATION, route_prefix="/", logging_config=QUIET)
    except RuntimeError as error:
        statuses = serve.status().applications[APPLICATION].deployments.values()
        told = "\n".join(status.message for status in statuses) or str(error)
        raise UserError(f"the replicas cannot start: {first_line(RuntimeError(told))}") from error


def stop() -> None:
    """End the replicas; those that have requests first serve them to their ends, for GRACE seconds at most."""
    serve.shutdown()
