from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fl_assets.cohorts.spec import CategoryColumn, CohortSpec, load_cohort
from fl_assets.config import ConfigFileError, parse_yaml_model
from fl_assets.learning.features import Preprocessor

ASTHMA = Path(__file__).parent / "asthma.yaml"


@pytest.fixture
def document() -> dict[str, Any]:
    """The YAML of a cohort that fits, without a recipe for rows."""
    loaded: dict[str, Any] = yaml.safe_load(ASTHMA.read_text())
    del loaded["synthetic"]
    return loaded


def parse(document: dict[str, Any]) -> CohortSpec:
    return parse_yaml_model(yaml.safe_dump(document, sort_keys=False), CohortSpec, "cohort")


def test_the_shipped_cohort(stroke: CohortSpec) -> None:
    assert len(stroke.columns) == 10
    assert stroke.file_columns[0] == "id"
    assert stroke.file_columns[-1] == "stroke"
    assert [column.name for column in stroke.numbers] == ["age", "avg_glucose_level", "bmi"]
    gender = stroke.column("gender")
    assert isinstance(gender, CategoryColumn)
    assert gender.coded == ("Male",)
    with pytest.raises(KeyError):
        stroke.column("shoe_size")


def test_an_unknown_cohort_lists_the_known() -> None:
    with pytest.raises(ConfigFileError, match=r"'diabetes': use one of stroke or the path"):
        load_cohort("diabetes")


def test_a_path_starts_at_the_base(tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_bytes(ASTHMA.read_bytes())
    assert load_cohort("mine.yml", tmp_path) == load_cohort(str(ASTHMA))
    with pytest.raises(ConfigFileError, match="cannot be read"):
        load_cohort("mine.yml", tmp_path / "elsewhere")


def test_the_contract_version_is_about_rows_and_not_their_source(document: dict[str, Any]) -> None:
    spec = parse(document)
    assert load_cohort(str(ASTHMA)).version == spec.version
    assert parse({**document, "kaggle": {"handle": "a/b", "file": "c"}}).version == spec.version
    document["columns"][0]["range"] = [0, 99]
    assert parse(document).version != spec.version


def test_the_contract_goes_through_json(stroke: CohortSpec) -> None:
    again = CohortSpec.model_validate_json(stroke.contract.model_dump_json())
    assert again == stroke.contract
    assert again.version == stroke.version


Change = Callable[[dict[str, Any]], Any]

BAD: dict[str, tuple[Change, str]] = {
    "unknown key": (lambda d: d.update(colour="red"), "colour: unknown key"),
    "unknown key of a column": (lambda d: d["columns"][0].update(uint="x"), "uint: unknown key"),
    "unknown kind": (lambda d: d["columns"][0].update(kind="date"), "columns.0: "),
    "no columns": (lambda d: d.update(columns=[], groups={}), "columns: "),
    "column twice": (
        lambda d: d["columns"][1].update(name="years"),
        "columns named more than once: years",
    ),
    "column called like the id": (
        lambda d: d.update(id_column="years"),
        "columns named more than once: years",
    ),
    "column called like the label": (
        lambda d: d["label"].update(column="season"),
        "columns named more than once: season",
    ),
    "reserved name": (
        lambda d: d.update(id_column="_line"),
        "must not start with an underscore: _line",
    ),
    "column in no group": (lambda d: d["groups"].update(who=["years"]), "see allergy"),
    "column in two groups": (
        lambda d: d["groups"].update(what=["season", "peak_flow", "years"]),
        "a column in two groups",
    ),
    "range upside down": (lambda d: d["columns"][0].update(range=[9, 1]), "must ascend"),
    "clip upside down": (
        lambda d: d["columns"][0]["public"].update(low=200),
        "low 200 must be below high 100",
    ),
    "scale zero": (lambda d: d["columns"][0]["public"].update(scale=0), "public.scale: "),
    "bins unordered": (lambda d: d["columns"][0].update(bins=[0, 50, 25, 101]), "bins must ascend"),
    "bins twice": (lambda d: d["columns"][0].update(bins=[0, 50, 50, 101]), "bins must ascend"),
    "bins start late": (
        lambda d: d["columns"][0].update(bins=[1, 50, 101]),
        "bins 1 to 101 must cover the range 0 to 100",
    ),
    "bins end early": (
        lambda d: d["columns"][0].update(bins=[0, 50, 99.5]),
        "bins 0 to 99.5 must cover the range 0 to 100",
    ),
    "nullable without fill": (
        lambda d: d["columns"][3]["public"].pop("fill"),
        "a nullable column needs public.fill",
    ),
    "strange reference": (
        lambda d: d["columns"][2].update(reference="summer"),
        "summer not among the categories",
    ),
    "strange ignored": (
        lambda d: d["columns"][2].update(ignored=["summer"]),
        "summer not among the categories",
    ),
    "one category": (lambda d: d["columns"][2].update(categories=["spring"]), "categories: "),
    "category that means missing": (
        lambda d: d.update(missing_markers=["", "winter"]),
        "season: 'winter' cannot stand for winter and for a missing value",
    ),
    "no missing marker": (lambda d: d.update(missing_markers=[]), "missing_markers: "),
    "prevalence in percent": (lambda d: d["label"].update(prevalence=20), "label.prevalence: "),
    "age is no column": (lambda d: d.update(age_column="age"), "age_column: age not among"),
    "age is no number": (lambda d: d.update(age_column="season"), "age_column: season not among"),
    "risk flag is no flag": (lambda d: d.update(risk_flags=["years"]), "risk_flags: years not"),
    "subgroup is no column": (lambda d: d.update(subgroups=["sex"]), "subgroups: sex not among"),
    "one code for both": (
        lambda d: d["label"].update(positive=[1, 2], negative=["2.0"]),
        "label: codes: '2.0' cannot stand for positive and for negative",
    ),
    "no code": (lambda d: d["label"].update(positive=[]), "label.positive: "),
    "code of no category": (
        lambda d: d["columns"][2].update(codes={"1": "summer"}),
        "summer not among the categories",
    ),
    "code that is another category": (
        lambda d: d["columns"][2].update(codes={"winter": "spring"}),
        "'winter' cannot stand for spring and for winter",
    ),
    "code of two categories": (
        lambda d: d["columns"][2].update(codes={"1": "spring", "01": "winter"}),
        "'01' cannot stand for spring and for winter",
    ),
    "code that means missing": (
        lambda d: d["columns"][2].update(codes={"?": "spring"}),
        "season: '?' cannot stand for spring and for a missing value",
    ),
    "code that means missing in the column": (
        lambda d: d["columns"][1].update(positive=["-9"], missing_markers=[-9]),
        "allergy: '-9' cannot stand for positive and for a missing value",
    ),
    "label that means missing": (
        lambda d: d["label"].update(negative=["?"]),
        "attack: '?' cannot stand for negative and for a missing value",
    ),
    "a truth of YAML's": (
        lambda d: d["columns"][2].update(categories=[True, False], reference=True),
        "put it in quotes",
    ),
    "order beside a header": (
        lambda d: d.update(file_order=["years"]),
        "file_order is for files without a header: say header: false as well",
    ),
    "order without a column": (
        lambda d: d.update(header=False, file_order=["patient", "years"]),
        "file_order must hold each column once; see allergy, attack, peak_flow, season",
    ),
    "order with a column twice": (
        lambda d: d.update(
            header=False,
            file_order=["patient", "years", "years", "allergy", "season", "peak_flow", "attack"],
        ),
        "file_order must hold each column once; see a column named twice",
    ),
    "no word on the id": (lambda d: d.pop("id_column"), "id_column: Field required"),
    "the name of rows without id": (
        lambda d: (d.update(id_column=None), d["label"].update(column="row_id")),
        "row_id is what rows are called where id_column is null",
    ),
    "subgroup per number": (lambda d: d.update(subgroups=["years"]), "subgroups: years not among"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_cohort_is_explained(case: str, document: dict[str, Any]) -> None:
    change, explanation = BAD[case]
    change(document)
    with pytest.raises(ConfigFileError) as caught:
        parse(document)
    assert explanation in str(caught.value)


DERIVED: dict[str, tuple[list[dict[str, Any]], str | None]] = {
    "each kind": (
        [
            {"kind": "missing", "name": "m", "of": "peak_flow"},
            {"kind": "bins", "name": "b", "of": "years", "edges": [0, 18, 65]},
            {"kind": "ratio", "name": "r", "of": ["peak_flow", "years"]},
            {"kind": "product", "name": "p", "of": ["r", "season=winter"]},
            {"kind": "product", "name": "q", "of": ["p", "allergy"]},
        ],
        None,
    ),
    "no such column": ([{"kind": "missing", "name": "m", "of": "x"}], "derived m cannot use x"),
    "bins of a category": (
        [{"kind": "bins", "name": "b", "of": "season", "edges": [0, 1]}],
        "derived b cannot use season",
    ),
    "edges unordered": (
        [{"kind": "bins", "name": "b", "of": "years", "edges": [5, 1]}],
        "edges must ascend",
    ),
    "ratio of a category": (
        [{"kind": "ratio", "name": "r", "of": ["years", "season"]}],
        "derived r cannot use season",
    ),
    "product of a category": (
        [{"kind": "product", "name": "p", "of": ["years", "season"]}],
        "derived p cannot use season",
    ),
    "product of bins": (
        [
            {"kind": "bins", "name": "b", "of": "years", "edges": [0, 18]},
            {"kind": "product", "name": "p", "of": ["b", "allergy"]},
        ],
        "derived p cannot use b",
    ),
    "product of a later one": (
        [
            {"kind": "product", "name": "p", "of": ["m", "allergy"]},
            {"kind": "missing", "name": "m", "of": "peak_flow"},
        ],
        "derived p cannot use m",
    ),
    "name of a column": (
        [{"kind": "missing", "name": "years", "of": "peak_flow"}],
        "derived years: the name is taken",
    ),
    "name twice": (
        [{"kind": "missing", "name": "m", "of": "peak_flow"}] * 2,
        "derived m: the name is taken",
    ),
}


@pytest.mark.parametrize("case", DERIVED)
def test_derived_features(case: str, document: dict[str, Any]) -> None:
    document["derived"], explanation = DERIVED[case]
    if explanation is not None:
        with pytest.raises(ConfigFileError) as caught:
            parse(document)
        assert explanation in str(caught.value)
        return
    # What the spec accepts, the preprocessor can compute, one name per column of the matrix.
    import pandas as pd

    preprocessor = Preprocessor.public(parse(document))
    rows = pd.DataFrame(
        {"years": [10.0, 70.0], "allergy": [1, 0], "season": ["winter", "spring"]},
    ).assign(peak_flow=[400.0, None])
    X = preprocessor.transform(rows)
    assert X.shape == (2, len(preprocessor.feature_names))
    assert preprocessor.feature_names[-2:] == ["p", "q"]
    assert X[:, -2].tolist() == [40.0, 0.0]


def test_what_a_spec_does_not_use_leaves_no_trace_in_its_version(
    document: dict[str, Any], stroke: CohortSpec
) -> None:
    # Models and partitions of existing consortia name this version.
    assert stroke.version == "852a087255e6"
    plain = parse(document)
    document["header"] = True
    document["label"] |= {"positive": ["1"], "negative": [0]}
    document["columns"][2]["codes"] = {}
    assert parse(document).version == plain.version
    document["columns"][2]["codes"] = {1: "spring"}
    assert parse(document).version != plain.version


def test_codes_may_be_numbers_in_the_yaml(document: dict[str, Any]) -> None:
    document["missing_markers"] = ["", -9]
    document["label"] |= {"positive": [2], "negative": [1]}
    document["columns"][1] |= {"positive": ["Y", 1], "negative": ["N", 0]}
    document["columns"][2]["codes"] = {1: "spring", 2: "autumn"}
    spec = parse(document)
    assert spec.canonical("attack", "2") == "1"
    assert spec.canonical("allergy", "N") == "0"
    assert spec.canonical("season", "02") == "autumn"
    assert spec.canonical("years", "-9.0") is None


def test_columns_of_a_cohort_without_ids(document: dict[str, Any]) -> None:
    document["id_column"] = None
    spec = parse(document)
    assert spec.key_column == "row_id"
    assert spec.frame_columns == ["row_id", *spec.file_columns]
    assert spec.file_columns == ["years", "allergy", "season", "peak_flow", "attack"]
    assert CohortSpec.model_validate_json(spec.contract.model_dump_json()) == spec.contract
