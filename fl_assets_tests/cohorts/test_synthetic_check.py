"""A recipe that does not fit its cohort is refused when the cohort is loaded."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.config import ConfigFileError, parse_yaml_model

Document = dict[str, Any]
TEXT = (Path(__file__).parent / "asthma.yaml").read_text()


def load(document: Document) -> CohortSpec:
    return parse_yaml_model(yaml.safe_dump(document, sort_keys=False), CohortSpec, "asthma.yaml")


@pytest.fixture
def document() -> Document:
    loaded: Document = yaml.safe_load(TEXT)
    return loaded


def test_fits_as_shipped(document: Document) -> None:
    assert load(document).synthetic is not None


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("columns", 0, "kind"), "poisson", r"synthetic\.columns\.0.*poisson"),
        (("columns", 0, "name"), "months", r"synthetic\.columns: months"),
        (("columns", 1, "name"), "years", r"no generator for allergy"),
        (("columns", 1, "kind"), "category", r"synthetic\.columns\.1.*scores"),
        (("columns", 1, "score", "offset"), 1, r"synthetic\.columns\.1\.flag\.score\.offset: unkn"),
        (("columns", 1, "score", "by", "peak_flow"), {1: 0}, r"allergy: uses peak_flow"),
        (("columns", 1, "score", "by", "height"), {1: 0}, r"allergy: uses height"),
        (("columns", 1, "score", "by", "years"), {5: 0, 1: 1}, r"allergy: the knots of years"),
        (("columns", 1, "score", "by", "years"), {"old": 1}, r"allergy: the knots of years"),
        (("columns", 1, "score", "by", "years"), {}, r"allergy: the knots of years"),
        (("columns", 2, "scores", "summer"), {}, r"season\.scores: .*summer"),
        (("columns", 2, "scores", "winter", "by"), {"allergy": {2: 1}}, r"season: 2\.0 not among"),
        (("columns", 3, "high"), 901, r"peak_flow: draws values outside the range"),
        (("label", "height"), {1: 0}, r"synthetic\.label: uses height"),
        (("label", "season"), {"summer": 1}, r"synthetic\.label: summer not among"),
        (("missing", 0, "name"), "height", r"synthetic\.missing\.height"),
        (("missing", 0, "name"), "years", r"synthetic\.missing\.years: .*not nullable"),
        (("missing", 0, "marker"), "none", r"peak_flow\.marker: 'none'"),
        (("missing", 0, "score", "by"), {"height": {1: 0}}, r"missing\.peak_flow: uses height"),
        (("noise",), 1, r"synthetic\.noise: unknown key"),
    ],
)
def test_misfit_is_named(
    document: Document, path: tuple[str | int, ...], value: object, message: str
) -> None:
    target: Any = document["synthetic"]
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(ConfigFileError, match=message):
        load(document)


def test_a_column_drawn_twice_is_named(document: Document) -> None:
    columns = document["synthetic"]["columns"]
    columns.append(columns[0])
    with pytest.raises(ConfigFileError, match="more than one generator for years"):
        load(document)


def test_generator_of_the_wrong_kind_is_named(document: Document) -> None:
    document["synthetic"]["columns"][1] = {
        "kind": "piecewise",
        "name": "allergy",
        "pieces": [{"low": 0, "high": 1, "weight": 1}],
    }
    with pytest.raises(ConfigFileError, match="allergy: generator piecewise cannot draw a flag"):
        load(document)


def test_risk_flags_must_be_flags(document: Document) -> None:
    document["risk_flags"] = ["season"]
    with pytest.raises(ConfigFileError, match="risk_flags: season"):
        load(document)
