"""/metrics: what the server and its engine say of themselves, in the text format of Prometheus.

Nothing is counted twice: the engine's own figures (chapter 8's Metrics) are read when they are asked for. What only the
server can know is counted here: answers by status, and the times as clients see them, on the real clock. Where the GPU
is simulated, the engine's idle share is that of the virtual clock.

All figures are of one engine. Through Ray Serve (replicas.py) a call of /metrics goes to one replica, whichever the
router takes, and shows that one's. A Prometheus that watches all replicas needs a way to each, and there is none here.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ch08_full_engine import FullEngine
from ch10_serving.admission import Admission

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
PATHS = ("/v1/completions", "/v1/chat/completions", "/v1/models", "/health", "/metrics")


class EngineFigures(Collector):
    """Reads the engine and the door when Prometheus asks."""

    def __init__(self, engine: FullEngine, admission: Admission) -> None:
        self.engine, self.admission = engine, admission

    def collect(self) -> Iterable[Metric]:
        figures = self.engine.metrics
        running = min(figures.running, self.admission.inside)
        yield GaugeMetricFamily("engine_requests_running", "Requests that own blocks.", running)
        queue = self.admission.inside - running
        yield GaugeMetricFamily("engine_requests_waiting", "Requests in the queue, of HTTP and of the engine.", queue)
        blocks = self.engine.scheduler.blocks
        yield GaugeMetricFamily("engine_kv_blocks", "Blocks of the KV cache.", blocks.num_blocks)
        yield GaugeMetricFamily("engine_kv_blocks_free", "Blocks that can be had.", blocks.num_free_blocks)
        yield CounterMetricFamily("engine_steps", "Committed steps.", figures.steps)
        yield CounterMetricFamily("engine_tokens", "Tokens handed out.", figures.tokens)
        shared = figures.shared_tokens
        yield CounterMetricFamily("engine_shared_tokens", "Tokens not computed, since a block held them.", shared)
        if figures.idle_share is not None:
            idle = "Share of the time in which there was work and the device did none."
            yield GaugeMetricFamily("engine_idle_share", idle, figures.idle_share)
        ended = CounterMetricFamily("engine_requests_ended", "Requests that have ended.", labels=["reason"])
        for reason, count in sorted(figures.finished.items()):
            ended.add_metric([reason], count)
        yield ended


class HttpMetrics:
    """What the server counts.

    Attributes:
        registry: all figures, the engine's too. One for each application, since a process may have several.
    """

    def __init__(self, engine: FullEngine, admission: Admission) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(EngineFigures(engine, admission))
        labels = ["path", "status"]
        self.answers = Counter("http_answers", "Answers that were begun.", labels, registry=self.registry)
        self.prompt_tokens = Counter("http_prompt_tokens", "Tokens of prompts.", registry=self.registry)
        self.first_token = Histogram(
            "http_first_token_seconds",
            "From a request's arrival to its first token.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.between_tokens = Histogram(
            "http_between_tokens_seconds",
            "From one token of a request to its next, the mean over each request.",
            buckets=SECONDS,
            registry=self.registry,
        )

    def ended(self, since: float, first: float, now: float, num_tokens: int) -> None:
        """A request has ended that came at `since` and had its first token at `first`."""
        if num_tokens > 0:
            self.first_token.observe(first - since)
        if num_tokens > 1:
            self.between_tokens.observe((now - first) / (num_tokens - 1))


class CountedAnswers:
    """Counts every answer by path and status; the outermost layer of the application."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in PATHS else "other"

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.answers.labels(path, message["status"]).inc()
            await send(message)

        await self.app(scope, receive, counted)
