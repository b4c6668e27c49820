from pathlib import Path
from typing import Any

import pytest

from fl_assets.config import ConfigFileError, load_yaml_model, parse_yaml_model
from fl_assets.consortium import Consortium, Hospital, SplitFractions, UnknownHospitalError
from fl_assets_tests.conftest import REPOSITORY

GOOD: dict[str, Any] = {
    "name": "test",
    "cohort": "stroke",
    "split": {"salt": "long enough"},
    "hospitals": [{"name": "a"}, {"name": "b"}],
}


def make(**changes: Any) -> Consortium:
    return Consortium.model_validate(GOOD | changes)


def refused(**changes: Any) -> str:
    import yaml

    with pytest.raises(ConfigFileError) as caught:
        parse_yaml_model(yaml.safe_dump(GOOD | changes), Consortium, "consortium.yaml")
    return str(caught.value)


def test_the_shipped_file_fits() -> None:
    shipped = load_yaml_model(REPOSITORY / "consortium.yaml", Consortium)
    assert shipped.hospital_names == ["hospital-a", "hospital-b", "hospital-c"]
    assert shipped.simulated


def test_without_a_word_a_consortium_is_real() -> None:
    assert not make().simulated


def test_hospitals_keep_the_order_of_the_file() -> None:
    names = ["c", "a", "b"]
    assert make(hospitals=[{"name": n} for n in names]).hospital_names == names


def test_adding_a_hospital_is_one_entry() -> None:
    more = make(hospitals=[*GOOD["hospitals"], {"name": "c"}])
    assert more.hospital("c") == Hospital(name="c")
    assert more.bucket_uri("c", Path("/data")) == "file:///data/sites/c"


@pytest.mark.parametrize(
    ("number", "first", "last"),
    [(1, "hospital-1", "hospital-1"), (100, "hospital-001", "hospital-100")],
)
def test_virtual_hospitals_are_one_number(number: int, first: str, last: str) -> None:
    found = make(simulated=True, hospitals=number)
    names = found.hospital_names
    assert (len(names), names[0], names[-1]) == (number, first, last)
    assert names == sorted(names)
    assert {hospital.share for hospital in found.hospitals} == {1.0}
    # Dagster passes it on as JSON.
    assert Consortium.model_validate_json(found.model_dump_json()) == found


def test_a_real_consortium_names_its_hospitals() -> None:
    told = refused(hospitals=100)
    assert "hospitals: 100 is a number" in told
    assert "`simulated: true`" in told


@pytest.mark.parametrize("number", [0, -3, True, 2.5])
def test_no_number_of_hospitals(number: object) -> None:
    assert "hospitals: " in refused(simulated=True, hospitals=number)


def test_an_unknown_hospital() -> None:
    with pytest.raises(UnknownHospitalError, match=r"'x'.* a, b"):
        make().hospital("x")
    with pytest.raises(UnknownHospitalError):
        make().bucket_uri("x", Path("/data"))


@pytest.mark.parametrize("name", ["a", "hospital-1", "0", "x" * 63])
def test_names_that_buckets_roles_and_partitions_can_have(name: str) -> None:
    assert Hospital(name=name).name == name


@pytest.mark.parametrize(
    "name", ["", "A", "a_b", "-a", "a-", "a.b", "a/b", "ä", "a b", "a\n", "x" * 64, "../a"]
)
def test_names_that_they_cannot_have(name: str) -> None:
    assert "hospitals.0.name: " in refused(hospitals=[{"name": name}])
    assert "  name: " in refused(name=name)


def test_two_hospitals_of_one_name() -> None:
    assert "two hospitals are named a" in refused(hospitals=[{"name": "a"}, {"name": "a"}])


def test_a_consortium_needs_a_hospital() -> None:
    assert "hospitals: " in refused(hospitals=[])


@pytest.mark.parametrize(
    ("parts", "ok"),
    [
        ({"train": 0.6, "validation": 0.2, "test": 0.2}, True),
        ({"train": 0.1, "validation": 0.2, "test": 0.7}, True),
        ({"train": 0.6, "validation": 0.2, "test": 0.3}, False),
        ({"train": 0.8, "validation": 0.0, "test": 0.2}, False),
        ({"train": 1.2, "validation": 0.1, "test": -0.3}, False),
    ],
)
def test_fractions(parts: dict[str, float], ok: bool) -> None:
    if ok:
        assert make(split={"salt": "long enough", **parts}).split.test == parts["test"]
    else:
        assert "split" in refused(split={"salt": "long enough", **parts})


def test_a_short_salt_is_no_key() -> None:
    assert "split.salt: " in refused(split={"salt": "short"})
    assert SplitFractions(salt="12345678").train == 0.7


def test_a_bucket_of_its_own() -> None:
    found = make(
        bucket="s3://all/{hospital}",
        hospitals=[{"name": "a"}, {"name": "b", "bucket": "s3://only-b"}],
    )
    assert found.bucket_uri("a", Path("/x")) == "s3://all/a"
    assert found.bucket_uri("b", Path("/x")) == "s3://only-b"


def test_hospitals_never_share_a_bucket() -> None:
    assert "a and b share one bucket" in refused(bucket="s3://one")
    two = [{"name": n, "bucket": "s3://same"} for n in "ab"]
    assert "a and b share one bucket" in refused(hospitals=two)
    # Alone, a hospital may have any.
    assert make(bucket="s3://one", hospitals=[{"name": "a"}]).bucket == "s3://one"


@pytest.mark.parametrize("pattern", ["s3://{site}", "s3://{", "s3://{}", "s3://{hospital.x}"])
def test_a_pattern_with_strange_braces(pattern: str) -> None:
    assert "{home} and {hospital}" in refused(bucket=pattern)
    assert "hospitals.0.bucket: " in refused(hospitals=[{"name": "a", "bucket": pattern}])


def test_a_home_with_spaces_becomes_a_valid_uri(tmp_path: Path) -> None:
    from fl_assets.storage import open_store

    store = open_store(make().bucket_uri("a", tmp_path / "my data #1"))
    store.put("x", b"1")
    assert (tmp_path / "my data #1/sites/a/x").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"minimum_cell": 0}, "minimum_cell"),
        ({"simulation": {"split": "iid"}}, "simulation.split"),
        ({"simulation": {"alpha": 0}}, "simulation.alpha"),
        ({"hospitals": [{"name": "a", "share": 0}]}, "hospitals.0.share"),
        ({"promotion": {"min_auroc": 1.5}}, "promotion.min_auroc"),
        ({"promotion": {"min_sites": 0}}, "promotion.min_sites"),
        ({"hospital": []}, "hospital: unknown key"),
    ],
)
def test_a_bad_field_is_named(changes: dict[str, Any], field: str) -> None:
    assert f"  {field}" in refused(**changes)
