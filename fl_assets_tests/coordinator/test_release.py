import pytest
from pydantic import ValidationError

import fl_assets
from fl_assets.coordinator.release import ReleaseRecord, RoundRecord
from fl_assets.federation.recipe import Recipe
from fl_assets.learning.configs import MLPConfig
from fl_assets.settings import Settings
from fl_assets.site.partitions import load_manifest


def release(world: Settings) -> ReleaseRecord:
    recipe = Recipe(name="small-mlp", model=MLPConfig(hidden=(4,)))
    names = world.consortium.hospital_names
    return ReleaseRecord(
        model="m",
        version="3",
        run="small-mlp-0123",
        mlflow_run="0" * 32,
        code_version=fl_assets.__version__,
        recipe=recipe,
        recipe_hash=recipe.hash,
        contract=world.cohort.version,
        preprocessor="p",
        hospitals={name: load_manifest(world.site_store(name)) for name in names},
        rounds=(RoundRecord(round=1, participants=tuple(names[:2]), dropouts={names[2]: "late"}),),
        threshold=0.08,
        validation={names[0]: 0.8, names[1]: None},
    )


def test_a_release_survives_json_and_leads_back_to_every_file(world: Settings) -> None:
    found = ReleaseRecord.model_validate_json(release(world).model_dump_json(indent=2))

    assert found == release(world)
    assert found.recipe.hash == found.recipe_hash
    for name, manifest in found.hospitals.items():
        assert set(manifest.files) == {"train", "validation", "test"}
        for file in manifest.files.values():
            assert len(file.sha256) == 64
            assert world.site_store(name).exists(file.key)


def test_a_release_says_what_it_does_not_guarantee(world: Settings) -> None:
    assert release(world).privacy.startswith("none: no noise was added")
    assert "SHA-256" in release(world).seeds


def test_a_release_of_another_shape_is_refused(world: Settings) -> None:
    with pytest.raises(ValidationError, match="epsilon"):
        ReleaseRecord.model_validate(release(world).model_dump() | {"epsilon": 1.0})
