"""Alert rules and the dashboard: accepted, and about metrics that exist, by labels that those have."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import pytest
import yaml

from proxy.api.files import AROUND
from proxy.config import Files, Limits, Server
from proxy.metrics import TABLE
from tests.server import CLEAN, ROOT

RULES = ROOT / "deploy/prometheus/rules.yml"
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())
ALERTS = {rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
EVERY = [*QUERIES, *(rule["expr"] for rule in ALERTS.values())]

SCRAPED = "instance"  # the label that Prometheus gives every series
LABELS = {f"pictor_{row.name}": {*row.labels, SCRAPED} for row in TABLE} | {
    f"pictor_{row.name}{tail}": {*row.labels, SCRAPED, "le"}
    for row in TABLE if row.kind == "histogram" for tail in ("_bucket", "_sum", "_count")
}  # fmt: skip
SELECTOR = re.compile(r"(pictor_\w+)(?:\{([^}]*)\})?")
GROUPING = re.compile(r"\bby \(([^)]*)\)")


@pytest.mark.parametrize("query", EVERY)
def test_queries_name_what_exists(query: str) -> None:
    found = SELECTOR.findall(query)
    assert found
    for name, matchers in found:
        used = {*re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)}
        grouped = {label.strip() for labels in GROUPING.findall(query) for label in labels.split(",")}
        assert name in LABELS
        assert used <= LABELS[name]
        assert not grouped or grouped & LABELS[name]
    every = set().union(*(LABELS[name] for name, _ in found))
    assert {label.strip() for labels in GROUPING.findall(query) for label in labels.split(",")} <= every


def test_legends_and_texts_name_labels_that_are_there() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            grouped = {label.strip() for labels in GROUPING.findall(target["expr"]) for label in labels.split(",")}
            assert {*re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])} <= grouped, panel["title"]
    for name, rule in ALERTS.items():
        grouped = {label.strip() for labels in GROUPING.findall(rule["expr"]) for label in labels.split(",")}
        assert {*re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])} <= grouped, name


def test_panels_are_told_apart_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


# ---- Docker Compose

COMPOSE = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
EXAMPLE = (ROOT / "deploy/compose/env.example").read_text().splitlines()
SET = {"PICTOR_SECRET": "x" * 44, "POSTGRES_PASSWORD": "p", "PICTOR_STORE_KEY": "k", "PICTOR_STORE_SECRET": "s"}
VALUES = {**dict(line.split("=", 1) for line in EXAMPLE if not line.startswith("#")), **SET}


def filled(text: str) -> str:
    """As Compose reads it: `${NAME:?}` must have a value, `${NAME:-}` may have none."""
    for name, must in re.findall(r"\$\{(\w+):([?-])\}", text):
        assert VALUES[name] or must == "-"
    return re.sub(r"\$\{(\w+):[?-]\}", lambda found: VALUES[found[1]], text)


def test_compose_configuration_is_taken(tmp_path: Path) -> None:
    (mounted,) = (each for each in SERVICES["pictor"]["volumes"] if each.endswith(":/pictor/config.yaml:ro"))
    given = {name: filled(value) for name, value in SERVICES["pictor"]["environment"].items()}
    path = ROOT / "deploy/compose" / mounted.partition(":")[0]
    assert {*re.findall(r"\$\{(\w+)\}", path.read_text())} <= given.keys()
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "check", "--config", str(path)],
        cwd=ROOT, env={**CLEAN, **given}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "http://0.0.0.0:8000, 0 keys, and those made with `pictor keys create`" in done.stdout


def test_compose_services_fit_each_other() -> None:
    config = yaml.safe_load((ROOT / "deploy/compose/config.yaml").read_text())
    environment = SERVICES["pictor"]["environment"]
    assert {*SERVICES["pictor"]["depends_on"], *SERVICES["nginx"]["depends_on"]} < SERVICES.keys()
    assert urlsplit(environment["PICTOR_REDIS"]).hostname in SERVICES
    assert "@postgres/" in environment["PICTOR_DATABASE"]
    assert {"POSTGRES_USER": "pictor", "POSTGRES_DB": "pictor"}.items() <= SERVICES["postgres"]["environment"].items()
    networks = [each["subnet"] for each in COMPOSE["networks"]["default"]["ipam"]["config"]]
    assert config["server"]["trusted_proxies"] == networks
    named = {each.partition(":")[0] for one in SERVICES.values() for each in one.get("volumes", ())}
    assert {each for each in named if not each.startswith("./")} == COMPOSE["volumes"].keys()
    assert all((ROOT / "deploy/compose" / each).exists() for each in named if each.startswith("./"))
    assert int(SERVICES["pictor"]["stop_grace_period"].removesuffix("s")) > Server().drain_seconds


def test_both_examples_of_nginx_say_the_same() -> None:
    lines = [
        {line.strip() for line in text.splitlines() if re.match(r" +(proxy_(?!pass)|client_)", line)}
        for text in (
            (ROOT / "docs/operations.md").read_text().partition("```nginx")[2].partition("```")[0],
            (ROOT / "deploy/compose/nginx.conf").read_text(),
        )
    ]
    assert lines[0] == lines[1]
    (most,) = (int(line.split()[1].removesuffix("m;")) for line in lines[0] if line.startswith("client_max"))
    assert most << 20 > max(Files().upload_bytes, Limits().body_bytes) + AROUND


# ---- Prometheus


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if not found:
        pytest.skip("promtool is needed: install prometheus, as `make test` does where it may")
    return found


def check(promtool: str, *command: str, folder: Path = ROOT) -> None:
    done = subprocess.run([promtool, *command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules(promtool: str) -> None:
    assert len(ALERTS) == 11
    check(promtool, "check", "rules", str(RULES))


def test_prometheus_takes_the_example(promtool: str, tmp_path: Path) -> None:
    """The configuration that the documents show."""
    shown = re.findall(r"```yaml\n(scrape_configs:.*?)```", (ROOT / "docs/operations.md").read_text(), re.DOTALL)
    (tmp_path / "prometheus.yml").write_text("".join(shown))
    shutil.copy(RULES, tmp_path)
    check(promtool, "check", "config", "--syntax-only", "prometheus.yml", folder=tmp_path)


def test_prometheus_takes_the_dashboards_queries(promtool: str, tmp_path: Path) -> None:
    """Each as a recording rule, with a value for what Grafana fills in."""
    filled = [re.sub(r"\$__(?:rate_interval|range)", "5m", query).replace("$provider", ".*") for query in QUERIES]
    rules = [{"record": f"panel:query{number}", "expr": query} for number, query in enumerate(filled)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    check(promtool, "check", "rules", "rules.yml", folder=tmp_path)


Series: TypeAlias = list[dict[str, str]]


def grows(**series: int) -> Series:
    """The counters of `SERIES`, each growing by so many a minute."""
    return [{"series": SERIES[name], "values": f"0+{step}x90"} for name, step in series.items()]


def stays(**series: int) -> Series:
    """The same, each staying at a value."""
    return [{"series": SERIES[name], "values": f"{value}+0x90"} for name, value in series.items()]


SERIES = {
    "refused": 'pictor_jobs_total{provider="a",outcome="policy"}',
    "made": 'pictor_jobs_total{provider="a",outcome="ok"}',
    "unpriced": 'pictor_unpriced_jobs_total{provider="a",model="m"}',
    "gone": 'pictor_clients_gone_total{route="/v1/images/edits"}',
    "good": 'pictor_http_requests_total{route="/v1/images/edits",method="POST",status="200"}',
    "limited": 'pictor_http_requests_total{route="/v1/images/edits",method="POST",status="429"}',
    "broken": 'pictor_http_requests_total{route="/v1/images/edits",method="POST",status="502"}',
    "queued": 'pictor_jobs_queued{provider="a"}',
    "open": 'pictor_breaker_open{target="a/m"}',
    "up": 'pictor_database_up{instance="a:8000"}',
    "waiting": 'pictor_ledger_waiting{instance="a:8000"}',
    "alone": 'pictor_limits_degraded{instance="a:8000"}',
    "spent": 'pictor_limited_total{tier="trial",limit="budget"}',
    "hasty": 'pictor_limited_total{tier="trial",limit="images"}',
    "unkept": 'pictor_store_failures_total{backend="s3"}',
}


def moves(name: str) -> Series:
    """A gauge that is zero now and then."""
    return [{"series": SERIES[name], "values": "1 1 1 1 0 " * 18}]


STORIES: dict[str, tuple[Series, Series, dict[str, str]]] = {
    "PictorRefusals": (grows(refused=3, made=7), grows(refused=1, made=9), {"provider": "a"}),
    "PictorUnpricedJobs": (grows(unpriced=1), stays(unpriced=5), {"provider": "a", "model": "m"}),
    "PictorClientsGone": (grows(gone=1, good=10), grows(gone=1, good=100), {"route": "/v1/images/edits"}),
    "PictorQueueStuck": (stays(queued=2), moves("queued"), {"provider": "a"}),
    "PictorBreakerOpen": (stays(open=1), stays(open=0), {"target": "a/m"}),
    "PictorDatabaseDown": (stays(up=0), stays(up=1), {"instance": "a:8000"}),
    "PictorLedgerWaiting": (stays(waiting=3), moves("waiting"), {"instance": "a:8000"}),
    "PictorLimitsDegraded": (stays(alone=1), stays(alone=0), {"instance": "a:8000"}),
    "PictorBudgetRefusals": (grows(spent=1), grows(hasty=1), {"tier": "trial"}),
    "PictorStoreFailures": (grows(unkept=1), stays(unkept=1), {"backend": "s3"}),
    "PictorServerErrors": (grows(broken=1, good=9), grows(limited=5, good=9), {}),
}
"""Alert -> series at which it fires, series at which it does not, and the labels that it has."""


def test_every_alert_has_a_story() -> None:
    assert STORIES.keys() == ALERTS.keys()
    told = (ROOT / "docs/metrics.md").read_text()
    assert all(f"`{name}`" in told for name in ALERTS)


def test_alerts_fire_when_they_should(promtool: str, tmp_path: Path) -> None:
    def story(name: str, series: Series, expected: list[dict[str, Any]]) -> dict[str, Any]:
        asked = {"eval_time": "80m", "alertname": name, "exp_alerts": expected}
        return {"interval": "1m", "input_series": series, "alert_rule_test": [asked]}

    tests = []
    for name, (bad, good, labels) in STORIES.items():
        fired = {"exp_labels": {**labels, **ALERTS[name]["labels"]}, "exp_annotations": {"summary": said(name, labels)}}
        tests += [story(name, bad, [fired]), story(name, good, [])]
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": tests}))
    check(promtool, "test", "rules", "test.yml", folder=tmp_path)


SHARES = {"PictorRefusals": "30%", "PictorClientsGone": "10%", "PictorServerErrors": "10%"}


def said(name: str, labels: dict[str, str]) -> str:
    """The alert's text for those labels."""
    text: str = ALERTS[name]["annotations"]["summary"]
    for label, value in labels.items():
        text = text.replace(f"{{{{ $labels.{label} }}}}", value)
    return text.replace("{{ $value | humanizePercentage }}", SHARES.get(name, ""))
