"""Grafana's dashboard of trainings asks for figures that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics_core import Metric

from fl_assets.federation.prometheus import RoundMetrics
from fl_assets_tests.federation.test_prometheus import report

FILE = Path(__file__).parents[2] / "charts/fl-consortium/files/dashboard.json"
METRIC = re.compile(r"\bfl_\w+")
GROUPING = re.compile(r"by \(([^)]*)\)")
VARIABLE = re.compile(r"\$(\w+)")


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


@pytest.fixture(scope="module")
def served() -> dict[str, set[str]]:
    """The labels of every figure of a training with a dropout and a rejected update."""
    metrics = RoundMetrics("fedavg-lr", "run", ["hospital-a"])
    metrics(report(1, 0.5, 0.7, **{"hospital-c": "not finite"}), "training")
    families: Iterator[Metric] = metrics.registry.collect()
    samples = [sample for family in families for sample in family.samples]
    return {sample.name: set(sample.labels) for sample in samples}


def queries(dashboard: dict[str, Any]) -> list[str]:
    variables = [each["query"]["query"] for each in dashboard["templating"]["list"]]
    return variables + [t["expr"] for panel in dashboard["panels"] for t in panel["targets"]]


def test_every_figure_that_is_asked_for_is_served(
    dashboard: dict[str, Any], served: dict[str, set[str]]
) -> None:
    for query in queries(dashboard):
        metrics = METRIC.findall(query)
        assert metrics, query
        for name in metrics:
            assert name in served, query
            labels = {
                label.strip() for found in GROUPING.findall(query) for label in found.split(",")
            }
            assert labels <= served[name], query


def test_what_a_legend_names_is_a_label_of_its_figure(
    dashboard: dict[str, Any], served: dict[str, set[str]]
) -> None:
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            (name, *_) = METRIC.findall(target["expr"])
            grouped = GROUPING.findall(target["expr"])
            kept = set(grouped[0].replace(" ", "").split(",")) if grouped else served[name]
            assert labels <= kept, panel["title"]


def test_every_variable_and_every_panel_is_there_once(dashboard: dict[str, Any]) -> None:
    known = {each["name"] for each in dashboard["templating"]["list"]} | {"__rate_interval"}
    for query in queries(dashboard):
        assert set(VARIABLE.findall(query)) <= known, query
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in dashboard["panels"]]
    assert len(places) == len(set(places))


def test_it_shows_rounds_loss_time_and_dropouts(dashboard: dict[str, Any]) -> None:
    asked = set(METRIC.findall(" ".join(queries(dashboard))))
    shown = {
        "fl_rounds_total",
        "fl_train_loss",
        "fl_round_duration_seconds_sum",
        "fl_dropouts_total",
    }
    assert shown <= asked
