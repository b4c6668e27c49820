"""A hospital that leaves, on a finished world: its models, its partition, what the others do."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest
import yaml

from fl_assets.consortium import UnknownHospitalError
from fl_assets.coordinator import withdrawal
from fl_assets.coordinator.erased import TAG as ERASED
from fl_assets.coordinator.erased import mark_erased
from fl_assets.coordinator.lineage import open_registry, registered_versions
from fl_assets.coordinator.prediction import score
from fl_assets.coordinator.preprocessors import build_preprocessors
from fl_assets.coordinator.promotion import promote
from fl_assets.coordinator.status import consortium_status
from fl_assets.coordinator.training import load_release, ready_sites, train
from fl_assets.coordinator.withdrawal import (
    NotWithdrawnError,
    WithdrawnDataError,
    consequences,
    load_withdrawal,
    readmit,
    withdraw,
)
from fl_assets.defs.outside import inputs_changed
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.settings import Settings
from fl_assets.site.profile import load_profile
from fl_assets.site.receipts import load_receipts
from fl_assets.tracking.models import CHAMPION, NoChampionError, input_example
from fl_assets.tracking.runs import Tracking

HOSPITAL = "hospital-c"


def anew(settings: Settings) -> Settings:
    """The same settings, as a later process reads them."""
    return dataclasses.replace(settings)


def tags(settings: Settings, tag: str) -> dict[str, str | None]:
    return {v.version: v.tags.get(tag) for v in registered_versions(open_registry(settings))}


def test_its_models_are_blocked_and_its_partition_is_closed(finished_world: Settings) -> None:
    registry = open_registry(finished_world)
    champion = registry.alias(CHAMPION)
    assert champion is not None
    released = {v.version: v.release for v in registered_versions(registry)}
    assert all(r is not None and HOSPITAL in r.hospitals for r in released.values())

    done = withdraw(finished_world, HOSPITAL)

    assert {v.version for v in done.versions} == set(released)
    assert done.champion == str(champion.version)
    assert registry.aliases() == {}
    assert set(tags(finished_world, withdrawal.TAG).values()) == {HOSPITAL}
    left = anew(finished_world)
    assert left.withdrawn == {HOSPITAL}
    assert left.consortium.hospital_names == ["hospital-a", "hospital-b"]
    assert left.whole_consortium.hospital_names == ["hospital-a", "hospital-b", HOSPITAL]
    assert set(ready_sites(left)) == {"hospital-a", "hospital-b"}
    # Its own data are its own affair.
    assert left.site_store(HOSPITAL).list("records/")
    assert load_receipts(left.site_store(HOSPITAL)) == []


def test_doing_it_again_changes_nothing(finished_world: Settings) -> None:
    first = withdraw(finished_world, HOSPITAL)
    assert withdraw(anew(finished_world), HOSPITAL) == first
    assert load_withdrawal(finished_world.coordinator_store(), HOSPITAL) == first


def test_a_blocked_version_is_neither_promoted_nor_used(finished_world: Settings) -> None:
    withdraw(finished_world, HOSPITAL)
    left = anew(finished_world)
    with pytest.raises(WithdrawnDataError, match=f"trained on data of {HOSPITAL}"):
        promote(left)
    assert open_registry(left).aliases() == {}
    row = input_example(left.cohort)
    with pytest.raises(NoChampionError, match=f"champion until {HOSPITAL}"):
        score(left, row, CHAMPION)
    with pytest.raises(WithdrawnDataError, match="withdrew from the consortium"):
        score(left, row, "1")
    # Somebody who moves an alias by hand does not get round it.
    open_registry(left).set_alias("mine", "1")
    with pytest.raises(WithdrawnDataError):
        score(left, row, "mine")


@pytest.mark.parametrize(
    ("asset", "partition"),
    [("preprocessor", None), ("centralized_baseline", None), ("federated_model", "small-lr")],
)
def test_what_was_made_with_it_is_made_anew(
    finished_world: Settings, asset: str, partition: str | None
) -> None:
    """Dagster sees no change: a partition that is gone changes no version of the others."""
    assert not inputs_changed(finished_world, asset, partition)
    withdraw(finished_world, HOSPITAL)
    assert inputs_changed(anew(finished_world), asset, partition)
    readmit(anew(finished_world), HOSPITAL)
    assert not inputs_changed(anew(finished_world), asset, partition)


def test_a_model_that_is_trained_without_it_is_free(finished_world: Settings) -> None:
    withdraw(finished_world, HOSPITAL)
    left = anew(finished_world)
    store, staying = left.coordinator_store(), ["hospital-a", "hospital-b"]
    profiles = {name: load_profile(left.site_store(name)) for name in staying}
    build_preprocessors(store, left.cohort, profiles)
    recipe = load_release(store, "small-lr").recipe

    release = train(left, recipe, InProcessRuntime(), {})

    assert sorted(release.hospitals) == staying
    assert tags(left, withdrawal.TAG)[release.version] is None
    assert not inputs_changed(left, "federated_model", "small-lr")
    assert release.version not in {v.version for v in withdraw(left, HOSPITAL).versions}


def test_what_a_training_under_way_makes_is_blocked_by_doing_it_again(
    finished_world: Settings,
) -> None:
    withdraw(finished_world, HOSPITAL)
    registry = open_registry(finished_world)
    # A training that had begun before registers its model afterwards.
    late = next(iter(registered_versions(registry)))
    run_id = registry.versions()[0].run_id
    source = registry.versions()[0].source
    assert run_id is not None
    assert source is not None
    version = registry.register(run_id, source, {"recipe": late.recipe})
    registry.set_alias(CHAMPION, version)

    done = withdraw(anew(finished_world), HOSPITAL)

    assert version in {v.version for v in done.versions}
    assert registry.aliases() == {}


def test_a_version_without_release_record_may_hold_anybody(finished_world: Settings) -> None:
    registry = open_registry(finished_world)
    run = registry.tracking.client.create_run(registry.tracking.experiment_id())
    source = registry.versions()[0].source
    assert source is not None
    lost = registry.register(str(run.info.run_id), source, {})
    done = withdraw(finished_world, HOSPITAL)
    assert [v.partitions for v in done.versions if v.version == lost] == [None]


def test_readmission_frees_what_no_other_withdrawal_blocks(finished_world: Settings) -> None:
    withdraw(finished_world, HOSPITAL)
    withdraw(anew(finished_world), "hospital-a")
    assert set(tags(finished_world, withdrawal.TAG).values()) == {f"hospital-a, {HOSPITAL}"}

    assert readmit(anew(finished_world), HOSPITAL) == []
    assert set(tags(finished_world, withdrawal.TAG).values()) == {"hospital-a"}
    freed = readmit(anew(finished_world), "hospital-a")
    assert freed == sorted(tags(finished_world, withdrawal.TAG), key=int)
    assert set(tags(finished_world, withdrawal.TAG).values()) == {None}
    back = anew(finished_world)
    assert back.consortium == back.whole_consortium
    assert promote(back).promoted
    with pytest.raises(NotWithdrawnError):
        readmit(anew(finished_world), HOSPITAL)


def test_readmission_frees_no_model_with_an_erased_patient(finished_world: Settings) -> None:
    withdraw(finished_world, HOSPITAL)
    seen, *others = sorted(tags(finished_world, withdrawal.TAG), key=int)
    open_registry(finished_world).tag(seen, ERASED, "2026-01-31")
    assert readmit(anew(finished_world), HOSPITAL) == others


def test_consequences_name_what_so_few_hospitals_cannot_do(finished_world: Settings) -> None:
    recipe = {
        "model": {"kind": "logistic_regression"},
        "quorum": 3,
        "rounds": 1,
    }
    (finished_world.recipes / "needs-three.yaml").write_text(yaml.safe_dump(recipe))
    masked = recipe | {"quorum": None, "secure_aggregation": {}}
    (finished_world.recipes / "masked.yaml").write_text(yaml.safe_dump(masked))

    found = consequences(finished_world, HOSPITAL)

    assert found.staying == ("hospital-a", "hospital-b")
    assert found.retrain == ("small-lr", "small-mlp")
    assert found.commands == ["fla demo"]
    assert [w.split(":")[0] for w in found.warnings] == [
        "recipe masked masks sums, which needs three hospitals",
        "recipe needs-three asks for a quorum of 3",
    ]
    withdraw(finished_world, HOSPITAL)
    one = consequences(anew(finished_world), "hospital-b")
    assert one.staying == ("hospital-a",)
    assert "1 hospitals are left and promotion.min_sites asks for 2" in one.warnings[0]
    # Looking is not doing.
    assert anew(finished_world).withdrawn == {HOSPITAL}


def test_experiments_are_to_be_run_by_name(finished_world: Settings) -> None:
    config = yaml.safe_load(finished_world.consortium_file.read_text())
    finished_world.consortium_file.write_text(yaml.safe_dump(config | {"routine": ["small-lr"]}))
    found = consequences(anew(finished_world), HOSPITAL)
    assert found.commands == ["fla run small-mlp", "fla demo"]


def test_nobody_withdraws_whom_nobody_knows(finished_world: Settings) -> None:
    with pytest.raises(UnknownHospitalError):
        withdraw(finished_world, "hospital-z")
    assert not finished_world.coordinator_store().list("withdrawn/")


def test_models_that_saw_an_erased_patient_are_tagged_with_the_first_day(
    finished_world: Settings,
) -> None:
    release = load_release(finished_world.coordinator_store(), "small-lr")
    dealt = release.hospitals[HOSPITAL].version
    day = datetime(2026, 3, 4, tzinfo=UTC)

    marked = mark_erased(finished_world, HOSPITAL, {dealt: day, "another": day})

    assert {m.version for m in marked} == set(tags(finished_world, ERASED))
    assert any(CHAMPION in m.aliases for m in marked)
    later = {dealt: datetime(2026, 5, 6, tzinfo=UTC)}
    assert mark_erased(finished_world, HOSPITAL, later) == marked
    assert set(tags(finished_world, ERASED).values()) == {"2026-03-04"}
    assert mark_erased(finished_world, HOSPITAL, {"another": day}) == []


def test_a_model_that_saw_an_erased_patient_is_not_promoted_and_the_champion_warned_of(
    finished_world: Settings,
) -> None:
    promote(finished_world)
    assert consortium_status(finished_world).warnings == ()
    release = load_release(finished_world.coordinator_store(), "small-lr")
    dealt = {release.hospitals[HOSPITAL].version: datetime(2026, 3, 4, tzinfo=UTC)}
    for _ in range(2):
        mark_erased(finished_world, HOSPITAL, dealt)

    champion = open_registry(finished_world).alias(CHAMPION)
    assert champion is not None
    assert champion.description is not None
    assert champion.description.count("who was erased on 2026-03-04") == 1
    status = consortium_status(finished_world)
    assert {r.erased_since for r in status.recipes if r.version} == {"2026-03-04"}
    (warning,) = status.warnings
    assert f"champion, version {champion.version}, was trained on data that held" in warning
    decision = promote(finished_world)
    assert [g.found for g in decision.gates if not g.passed] == ["erased on 2026-03-04"]
    assert not decision.promoted
    again = open_registry(finished_world).alias(CHAMPION)
    assert again is not None
    assert "| erased on 2026-03-04 | FAILED |" in str(again.description)


def test_a_version_without_release_record_may_have_seen_an_erased_patient(
    finished_world: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tracking, "read_text", lambda *_: None)
    day = datetime(2026, 3, 4, tzinfo=UTC)
    marked = mark_erased(finished_world, HOSPITAL, {"any": day})
    assert len(marked) == len(open_registry(finished_world).versions()) > 0
    assert set(tags(finished_world, ERASED).values()) == {"2026-03-04"}
    assert mark_erased(finished_world, HOSPITAL, {}) == []
