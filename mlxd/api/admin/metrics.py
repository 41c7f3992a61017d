"""`/metrics`: counters and histograms of requests, and the state of the server, for Prometheus.

Every value of a label comes from us: dialects, configured models and keys, names of errors.
"""

from collections.abc import Callable, Iterator
from typing import Literal, cast, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mlxd.errors import Cancelled
from mlxd.events import Failed, Finished, MissReason, Usage
from mlxd.status import RequestStatus, Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LONG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
"""Bounds in seconds of what takes as long as a request or a prompt."""
SHORT = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
"""Bounds in seconds of the time between two tokens."""

RequestOutcome = Literal["finished", "failed", "cancelled"]


def outcome_of(end: Finished | Failed | None) -> RequestOutcome:
    """What became of a request; one without an end was left by its client."""
    match end:
        case None:
            return "cancelled"
        case Failed(error=error):
            return "cancelled" if error.kind == Cancelled.__name__ else "failed"
        case Finished(reason=reason):
            return "cancelled" if reason == "cancelled" else "finished"


# A second series beside each counter, of the time when it began, is of no use here.
cast(Callable[[], None], disable_created_metrics)()


class Metrics:
    """What is counted as requests end; each server has its own registry."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._requests = Counter(
            "mlxd_requests",
            "Requests that the engine accepted, by how they ended.",
            ("dialect", "model", "finish"),
            registry=self._registry,
        )
        self._errors = Counter(
            "mlxd_request_errors",
            "Requests that were refused or failed, by the name of the error.",
            ("kind",),
            registry=self._registry,
        )
        self._tokens = Counter(
            "mlxd_tokens", "Tokens of requests that ended.", ("kind",), registry=self._registry
        )
        self._misses = Counter(
            "mlxd_prefix_cache_misses",
            "Prompts of which more could have been cached, by the reason why it was not.",
            ("reason",),
            registry=self._registry,
        )
        self._missed = Counter(
            "mlxd_prefix_cache_missed_tokens",
            "Their tokens that were computed.",
            ("reason",),
            registry=self._registry,
        )
        for reason in get_args(MissReason):
            # From the beginning: a rate is computed from a series that was 0 before.
            self._misses.labels(reason)
            self._missed.labels(reason)
        self._first = self._histogram("time_to_first_token", "From arrival to the first token.")
        self._between = self._histogram(
            "inter_token_latency", "Mean time between the tokens of an answer.", SHORT
        )
        self._queue = self._histogram("queue", "Waiting for a slot.")
        self._prefill = self._histogram("prefill", "Reading the prompt.")
        self._whole = self._histogram("request", "From arrival to the end.")

    def ended(self, status: RequestStatus, usage: Usage, end: Finished | Failed | None) -> None:
        """A request that was accepted is over."""
        finish = end.outcome if isinstance(end, Finished) else outcome_of(end)
        self._requests.labels(status.dialect, status.model, finish).inc()
        if isinstance(end, Failed) and finish == "failed":
            self._errors.labels(end.error.kind).inc()
        for kind, tokens in (
            ("prompt", usage.prompt),
            ("cached", usage.cached),
            ("completion", usage.completion),
            ("reasoning", usage.reasoning),
        ):
            self._tokens.labels(kind).inc(tokens)
        # Of the engine's figures: who has left has computed its prompt all the same.
        figures = status.figures
        if (note := figures.cache_note) is not None:
            self._misses.labels(note.reason).inc()
            computed = max(0, figures.prefilled_tokens - figures.cached_tokens)
            self._missed.labels(note.reason).inc(computed)
        self._queue.observe(status.queued)
        self._whole.observe(status.age)
        # A phase that was never come to has no duration, not one of zero.
        if status.phase != "queued":
            self._prefill.observe(status.prefill)
        if status.first_token:
            self._first.observe(status.first_token)
        if status.rate:
            self._between.observe(1 / status.rate)

    def refused(self, error: str) -> None:
        """A request was refused with the error of this name."""
        self._errors.labels(error).inc()

    def page(self, status: Callable[[], Status]) -> bytes:
        """Everything in Prometheus' text format, with the gauges of now."""
        # The gauges are asked for when a page is made; nothing keeps them up to date in between.
        now = CollectorRegistry(auto_describe=False)
        now.register(_Gauges(status))
        return generate_latest(self._registry) + generate_latest(now)

    def _histogram(self, name: str, text: str, bounds: tuple[float, ...] = LONG) -> Histogram:
        return Histogram(f"mlxd_{name}_seconds", text, buckets=bounds, registry=self._registry)


class _Gauges(Collector):
    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        for name, text, value in _gauges(status):
            yield GaugeMetricFamily(f"mlxd_{name}", text, value=value)
        for name, text, value in _counters(status):
            yield CounterMetricFamily(f"mlxd_{name}", text, value=value)
        tokens = CounterMetricFamily(
            "mlxd_key_tokens", "Tokens computed for each API key.", labels=("key",)
        )
        for key in status.engine.keys:
            tokens.add_metric([key.name], key.tokens)
        yield tokens


def _gauges(status: Status) -> Iterator[tuple[str, str, float]]:
    engine, figures, store = status.engine, status.engine.figures, status.store
    yield "requests_running", "Requests in prefill or decoding.", len(status.running)
    yield "requests_waiting", "Requests that wait for a slot.", len(status.waiting)
    yield "engine_up", "1 while the engine process takes requests.", engine.state == "ready"
    yield "engine_memory_bytes", "Memory that the engine uses.", figures.memory_used
    yield "engine_memory_peak_bytes", "The most it has used.", figures.memory_peak
    yield "engine_memory_limit_bytes", "The most it may use.", engine.memory_limit
    yield "engine_step_seconds", "Median time of the last decode steps.", engine.step_seconds
    yield "server_memory_bytes", "Resident memory of the server process.", status.server.memory
    yield "uptime_seconds", "Since the server started.", status.server.uptime
    yield "connections", "Open connections.", status.server.connections
    yield "conversations_active", "Conversations of the last minutes.", len(status.conversations)
    yield "models_loaded", "Models in memory.", sum(m.state == "loaded" for m in engine.models)
    yield "prefix_cache_entries", "KV prefixes in memory.", figures.prefix_entries
    yield "prefix_cache_bytes", "Memory of KV prefixes.", figures.prefix_bytes
    yield "prefix_cache_limit_bytes", "The most they may take.", figures.prefix_limit
    disk = figures.prefix_disk
    yield "prefix_disk_bytes", "KV prefixes on the disk.", disk.bytes
    yield "prefix_disk_entries", "Files of KV prefixes on the disk.", disk.entries
    yield "prefix_disk_limit_bytes", "The most they may take.", disk.limit
    yield "prefix_disk_written_today_bytes", "Written there today (UTC).", disk.written_today
    yield "store_bytes", "Size of the conversation store.", store.bytes
    yield "store_responses", "Responses in the store.", store.responses
    yield "store_conversations", "Conversations in the store.", store.conversations
    yield "store_up", "1 unless the store has a problem.", not store.problem


def _counters(status: Status) -> Iterator[tuple[str, str, float]]:
    figures = status.engine.figures
    yield "engine_restarts", "Times the engine process was replaced.", status.engine.restarts
    yield "prefix_cache_hits", "Prompts that began with a kept prefix.", figures.prefix_hits
    yield (
        "prefix_cache_hit_tokens",
        "Tokens that were not computed again.",
        figures.prefix_hit_tokens,
    )
    disk = figures.prefix_disk
    yield "prefix_disk_hits", "Prompts whose beginning came from the disk.", disk.hits
    yield "prefix_disk_hit_tokens", "Tokens that came from the disk.", disk.hit_tokens
    yield "prefix_disk_dropped", "Files of prefixes that were not written.", disk.dropped
    yield "prefix_disk_damaged", "Files of prefixes that were found damaged.", disk.damaged
