from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from fl_assets.coordinator.preprocessors import (
    NoProfileError,
    Preprocessors,
    build_preprocessors,
    load_preprocessors,
    pooled_fit_error,
)
from fl_assets.federation.recipe import Recipe
from fl_assets.learning.features import MomentsUnavailableError, Preprocessor
from fl_assets.settings import Settings
from fl_assets.site.pooling import NotSimulatedError
from fl_assets.site.profile import HospitalProfile, build_profile, load_profile
from fl_assets.storage import FolderStore, ObjectNotFoundError


def _recipe(preprocessor: str, **asked: object) -> Recipe:
    model = {"kind": "logistic_regression"}
    return Recipe.model_validate(
        {"name": "asked", "model": model, "preprocessor": preprocessor, **asked}
    )


@pytest.fixture
def profiles(world: Settings) -> dict[str, HospitalProfile]:
    return {name: load_profile(world.site_store(name)) for name in world.consortium.hospital_names}


def build(world: Settings, profiles: dict[str, HospitalProfile]) -> Preprocessors:
    return build_preprocessors(world.coordinator_store(), world.cohort, profiles)


def test_both_kinds(world: Settings, profiles: dict[str, HospitalProfile]) -> None:
    built = build(world, profiles)
    assert load_preprocessors(world.coordinator_store()) == built
    assert built.of(_recipe("public")) == Preprocessor.public(world.cohort)
    assert built.of(_recipe("moments")).kind == "moments"
    few = built.of(_recipe("public", features={"age": 1.0, "bmi_missing": 0.5}))
    assert few.feature_names == ["age", "bmi_missing"]
    assert built.withheld == ()
    assert built.profiles == {name: profile.version for name, profile in profiles.items()}


def test_moments_equal_the_pooled_fit(
    world: Settings, profiles: dict[str, HospitalProfile]
) -> None:
    # Also where a hospital withholds a column's moments, as one here does.
    assert any(None in profile.moments.values() for profile in profiles.values())
    assert pooled_fit_error(world, build(world, profiles)) <= 1e-9


def test_a_wrong_fit_is_found(world: Settings, profiles: dict[str, HospitalProfile]) -> None:
    one = {"hospital-a": profiles["hospital-a"]}
    wrong = build(world, one).model_copy(update={"profiles": build(world, profiles).profiles})
    assert pooled_fit_error(world, wrong) > 0.01


def test_a_column_that_nobody_tells(world: Settings, profiles: dict[str, HospitalProfile]) -> None:
    for name in profiles:
        profiles[name] = build_profile(world.site_store(name), world.cohort, 100_000, "run")
    built = build(world, profiles)
    assert built.moments is None
    assert built.of(_recipe("public")) == built.public
    with pytest.raises(MomentsUnavailableError, match="age, avg_glucose_level, bmi"):
        built.of(_recipe("moments"))
    assert pooled_fit_error(world, built) == 0


def test_the_version_is_about_what_features_become(
    world: Settings, profiles: dict[str, HospitalProfile]
) -> None:
    first = build(world, profiles)
    turned = dict(reversed(profiles.items()))
    assert build(world, turned).version == first.version
    del profiles["hospital-c"]
    assert build(world, profiles).version != first.version


def test_no_profile(tmp_path: Path, world: Settings) -> None:
    with pytest.raises(NoProfileError, match="hospital_profile"):
        build(world, {})
    with pytest.raises(ObjectNotFoundError):
        load_preprocessors(FolderStore(tmp_path / "empty"))


def test_real_rows_are_not_pooled(world: Settings, profiles: dict[str, HospitalProfile]) -> None:
    built = build(world, profiles)
    document = yaml.safe_load(world.consortium_file.read_text()) | {"simulated": False}
    world.consortium_file.write_text(yaml.safe_dump(document))
    with pytest.raises(NotSimulatedError):
        pooled_fit_error(dataclasses.replace(world), built)
