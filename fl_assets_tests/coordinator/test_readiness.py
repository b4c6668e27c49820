"""Where a hospital's data stand on the way from an upload to a training."""

from __future__ import annotations

import pytest

from fl_assets.coordinator.polling import poll
from fl_assets.coordinator.readiness import HospitalState, hospital_state
from fl_assets.settings import Settings
from fl_assets.site import intake, partitions, profile
from fl_assets.storage import SiteStore


def test_each_step_that_is_behind_is_named(world: Settings) -> None:
    store = world.site_store("hospital-a")
    ready = hospital_state(store)
    manifest = partitions.load_manifest(store)
    assert ready == HospitalState(manifest.version, manifest.files["train"].rows)

    (upload,) = store.list(intake.INCOMING)
    lines = store.get(upload.key).splitlines(keepends=True)
    store.put(upload.key, b"".join(lines[:-20]))
    intake.collect_records(store, world.cohort)
    assert hospital_state(store).hold == "its partitions are behind its records"

    partitions.build_partitions(store, world.cohort, world.consortium.split)
    assert hospital_state(store).hold == "its profile is behind its partitions"

    profile.build_profile(store, world.cohort, world.consortium.minimum_cell, "test")
    again = hospital_state(store)
    assert again.hold is None
    assert again.rows < ready.rows


def test_a_blocked_intake_and_a_hospital_without_anything(world: Settings) -> None:
    store = world.site_store("hospital-a")
    block(store)
    found = hospital_state(store)
    assert found.hold == "1 of its uploads block its records"
    assert found.partitions is not None

    for key in (profile.MANIFEST, partitions.MANIFEST):
        store.delete(key)
    assert hospital_state(store) == HospitalState(hold="it has no partitions yet")


@pytest.mark.faults
@pytest.mark.parametrize("key", [intake.INTAKE, intake.MANIFEST, partitions.MANIFEST])
def test_a_document_that_cannot_be_read_holds_back_its_hospital_by_name(
    world: Settings, key: str
) -> None:
    world.site_store("hospital-a").put(key, b'{"SECRET": 1}')
    names = world.consortium.hospital_names
    found = poll(names, lambda name: hospital_state(world.site_store(name)), 10)
    assert set(found.answers) == set(names) - {"hospital-a"}
    assert f"{key!r} cannot be read" in found.failures["hospital-a"]
    assert "SECRET" not in found.failures["hospital-a"]


def block(store: SiteStore) -> None:
    report = intake.load_intake(store).model_copy(update={"blocked": {"incoming/x.csv": "why"}})
    store.put(intake.INTAKE, report.model_dump_json().encode())
