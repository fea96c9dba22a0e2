"""Every metric, in one table. Label values are known when the configuration is loaded, or belong to a closed set.

Names are an interface: a renamed metric keeps its old name for one minor version. Seconds, bytes and USD are in the
name. No key, user, address, prompt, file or task is ever a label: those numbers live in the history.

With several workers the client library's multiprocess mode is on (`PROMETHEUS_MULTIPROC_DIR`, set by `proxy.serve`
before this module is imported), and any worker answers for all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, TypeAlias

import msgspec
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped; they double the series and nobody asks for them

Phase: TypeAlias = Literal["queue", "submit", "wait", "download", "convert", "store"]

SECONDS = (0.05, 0.25, 1, 2.5, 5, 10, 15, 20, 30, 45, 60, 80, 100, 125, 180, 300, 600)
"""60 is where nginx and ALB cut, 100 and 125 where Cloudflare does, 300 and 600 are our own deadlines."""

BYTES = (1 << 10, 16 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20)
SERIES = 2_000  # label tuples that one metric may have in a process

OTHER = "other"


class Row(msgspec.Struct, frozen=True):
    """One metric."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = SECONDS
    mode: Literal["livesum", "max", "livemostrecent"] = "livesum"  # of a gauge over several workers


TABLE: tuple[Row, ...] = (
    Row("http_requests_total", "counter", ("route", "method", "status"), "Requests answered, by route template."),
    Row("http_request_seconds", "histogram", ("route",), "Time from a request's first byte to its answer's last."),
    Row("http_in_flight", "gauge", ("route",), "Requests that are being answered."),
    Row("http_request_bytes", "histogram", ("route",), "Size of request bodies.", BYTES),
    Row("http_response_bytes", "histogram", ("route",), "Size of answer bodies.", BYTES),
    Row("clients_gone_total", "counter", ("route",), "Clients that left before their answer."),
    Row("jobs_total", "counter", ("op", "provider", "model", "outcome"), "Jobs ended, after fan-out and fallback."),
    Row("job_seconds", "histogram", ("op", "provider", "model"), "Time of jobs that made something."),
    Row("phase_seconds", "histogram", ("provider", "phase"), "Where the time of a job goes."),
    Row("jobs_running", "gauge", ("provider",), "Jobs that are under way at their provider."),
    Row("jobs_queued", "gauge", ("provider",), "Jobs that wait for a place at their provider."),
    Row("queue_oldest_seconds", "gauge", ("provider",), "Age of the oldest job that waits for a place.", mode="max"),
    Row("video_seconds_total", "counter", ("provider", "model"), "Seconds of video made."),
    Row("pictures_total", "counter", ("op", "provider", "model", "tier"), "Pictures made, by delivered size."),
    Row("tokens_total", "counter", ("provider", "model", "direction", "modality"), "Tokens that providers counted."),
    Row("cost_usd_total", "counter", ("provider", "model"), "Money spent, in USD."),
    Row("unpriced_jobs_total", "counter", ("provider", "model"), "Jobs whose price is not known."),
    Row("wasted_usd_total", "counter", ("provider", "reason"), "Money spent on what nobody got, in USD."),
    Row("upstream_calls_total", "counter", ("provider", "call", "result"), "Calls to providers."),
    Row("upstream_seconds", "histogram", ("provider", "call"), "Time of calls to providers, until read whole."),
    Row("retries_total", "counter", ("provider", "call", "reason"), "Calls made again."),
    Row("fallbacks_total", "counter", ("alias", "reason"), "Jobs handed to an alias's next target."),
    Row("breaker_open", "gauge", ("target",), "1 while a target is passed over after failures.", mode="max"),
    Row("params_changed_total", "counter", ("provider", "param", "action"), "Wishes converted, left out, or refused."),
    Row("auth_failures_total", "counter", ("reason",), "Requests without a good key."),
    Row("fetch_refused_total", "counter", ("source", "reason"), "Addresses that were not fetched."),
    Row("limited_total", "counter", ("tier", "limit"), "Calls refused for a limit or a budget of their key."),
    Row("results_recovered_total", "counter", ("how",), "Kept results that were asked for again: by key, or retry."),
    Row("cache_hits_total", "counter", ("how",), "Calls answered without a call to a provider: kept, or joined."),
    Row("ledger_waiting", "gauge", (), "Rows that are not written yet."),
    Row("database_up", "gauge", (), "1 while the database answers.", mode="livemostrecent"),
    Row("limits_degraded", "gauge", (), "Processes that limit by their share, as what they share is away."),
    Row("webhooks_total", "counter", ("result",), "Tries to tell clients of the ends of their tasks."),
    Row("store_failures_total", "counter", ("backend",), "Made pictures that could not be kept."),
    Row("stored_bytes_total", "counter", ("backend",), "Bytes of made pictures stored."),
    Row("stored_files_total", "counter", ("backend",), "Made pictures stored."),
    Row("swept_total", "counter", ("what",), "What was past its time and has been deleted."),
    Row("config_reloads_total", "counter", ("result",), "Configuration reloads."),
    Row("config_loaded_seconds", "gauge", (), "When the configuration was loaded, Unix time.", mode="livemostrecent"),
    Row("series_refused_total", "counter", ("metric",), "Observations folded into `other`: too many label tuples."),
    Row("build_info", "gauge", ("version", "python"), "1; what runs here.", mode="max"),
)


class Metrics:
    """The metrics of one server.

    `allow` bounds the labels `provider`, `model`, `alias` and `target` to what the configuration names; whatever else
    comes is counted as `other`.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._known: dict[str, frozenset[str]] = {}
        self._metrics = {row.name: self._make(row) for row in TABLE}
        self._rows = {row.name: row for row in TABLE}
        self._seen: dict[str, set[tuple[str, ...]]] = {row.name: set() for row in TABLE}
        self._child = lru_cache(8192)(self._labelled)

    def _make(self, row: Row) -> Counter | Gauge | Histogram:
        name = f"pictor_{row.name}"
        match row.kind:
            case "counter":
                return Counter(name.removesuffix("_total"), row.help, row.labels, registry=self.registry)
            case "gauge":
                return Gauge(name, row.help, row.labels, registry=self.registry, multiprocess_mode=row.mode)
            case "histogram":
                return Histogram(name, row.help, row.labels, registry=self.registry, buckets=row.buckets)

    def allow(self, **values: Iterable[str]) -> None:
        """The values that these labels may have from now on."""
        self._known |= {label: frozenset(known) for label, known in values.items()}
        self._child.cache_clear()

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        """Add to a counter or gauge; a gauge may go down."""
        self._child(name, labels).inc(by)  # type: ignore[union-attr]  # a histogram has no inc; TABLE says which is which

    def set(self, name: str, *labels: str, to: float) -> None:
        """Set a gauge."""
        self._child(name, labels).set(to)  # type: ignore[union-attr]  # as above

    def observe(self, name: str, *labels: str, value: float) -> None:
        """One observation of a histogram."""
        self._child(name, labels).observe(value)  # type: ignore[union-attr]  # as above

    def _labelled(self, name: str, labels: tuple[str, ...]) -> Counter | Gauge | Histogram:
        metric = self._metrics[name]
        if not labels:
            return metric
        bounded = tuple(
            value if known is None or value in known else OTHER
            for value, known in zip(labels, map(self._known.get, self._rows[name].labels), strict=True)
        )
        seen = self._seen[name]
        if bounded not in seen:
            if len(seen) >= SERIES:
                self.count("series_refused_total", name)
                bounded = (OTHER,) * len(bounded)
            seen.add(bounded)
        return metric.labels(*bounded)

    def text(self) -> bytes:
        """What Prometheus scrapes; of all workers where there are several."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        every = CollectorRegistry()
        MultiProcessCollector(every)  # type: ignore[no-untyped-call]  # the library leaves it untyped
        return generate_latest(every)


SIZE_CLASSES = ("1k", "2k", "4k")


def tier(width: int, height: int) -> str:
    """The size class of a delivered picture: 1k up to 1.5 megapixels, 2k up to 6, 4k beyond."""
    pixels = width * height
    return "1k" if pixels <= 1_500_000 else "2k" if pixels <= 6_000_000 else "4k"
