"""Our question of Dagster's staleness gives the answer that its UI shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from fl_assets.definitions import build
from fl_assets.defs.staleness import Staleness
from fl_assets.settings import Settings
from fl_assets.site.intake import INCOMING

PARTS = dg.StaticPartitionsDefinition(["a", "b"])


def definitions(code_version: str = "1", version: str = "v1") -> dg.Definitions:
    @dg.asset(code_version=code_version, partitions_def=PARTS)
    def upstream() -> dg.MaterializeResult:
        return dg.MaterializeResult(data_version=dg.DataVersion(version))

    @dg.asset(code_version="1", deps=[upstream])
    def downstream() -> dg.MaterializeResult:
        return dg.MaterializeResult(data_version=dg.DataVersion("d"))

    return dg.Definitions([upstream, downstream])


def materialise(
    instance: dg.DagsterInstance, found: dg.Definitions, asset: str, partition: str | None = None
) -> None:
    found.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey(asset)], partition_key=partition
    )


def test_what_makes_an_asset_stale(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        first = definitions()
        assert not Staleness(instance, first).is_fresh("upstream", "a")

        for part in ("a", "b"):
            materialise(instance, first, "upstream", part)
        materialise(instance, first, "downstream")
        assert Staleness(instance, first).is_fresh("upstream", "a")
        assert Staleness(instance, first).is_fresh("downstream")

        # The same content again, under any number of runs, makes nothing stale ...
        materialise(instance, first, "upstream", "a")
        assert Staleness(instance, first).is_fresh("downstream")
        # ... new content of one partition does ...
        materialise(instance, definitions(version="v2"), "upstream", "a")
        assert not Staleness(instance, first).is_fresh("downstream")
        # ... and new code makes exactly that asset stale.
        materialise(instance, first, "downstream")
        changed = definitions(code_version="2")
        assert not Staleness(instance, changed).is_fresh("upstream", "b")
        assert Staleness(instance, changed).is_fresh("downstream")


Change = Callable[[dict[str, Any], dict[str, Any]], None]
HOSPITALS = ("hospital-a", "hospital-b", "hospital-c")


def stale_of(instance: dg.DagsterInstance, found: dg.Definitions) -> set[str]:
    """Every stale asset, a partitioned one by ``asset/partition``."""
    judge, graph = Staleness(instance, found), found.resolve_asset_graph()
    stale = set()
    for key in graph.get_all_asset_keys():
        name, definition = key.to_user_string(), graph.get(key).partitions_def
        # No test needs the sweep, and nobody made it.
        if name == "recipe_sweep":
            continue
        keys = (
            definition.get_partition_keys(dynamic_partitions_store=instance)
            if definition
            else [None]
        )
        stale |= {
            "/".join(filter(None, (name, part))) for part in keys if not judge.is_fresh(name, part)
        }
    return stale


def everywhere(*assets: str) -> set[str]:
    return {f"{asset}/{hospital}" for asset in assets for hospital in HOSPITALS}


CHANGES: dict[str, tuple[Change, set[str]]] = {
    "nothing": (lambda consortium, cohort: None, set()),
    "intake rules": (
        lambda consortium, cohort: consortium.update(intake={"max_quarantined": 0.5}),
        everywhere("hospital_records"),
    ),
    "split": (
        lambda consortium, cohort: consortium["split"].update(train=0.6, test=0.3),
        everywhere("hospital_partitions"),
    ),
    "disclosure floor": (
        lambda consortium, cohort: consortium.update(minimum_cell=6),
        everywhere("hospital_profile"),
    ),
    "contract": (
        lambda consortium, cohort: cohort.update(missing_markers=["N/A", "?"]),
        {"raw_dataset", "validated_dataset", "preprocessor"}
        | everywhere("hospital_uploads", "hospital_records"),
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_change_marks_exactly_what_it_changes(
    case: str, finished_world: Settings, instance: dg.DagsterInstance
) -> None:
    change, expected = CHANGES[case]
    file = finished_world.consortium_file
    consortium = yaml.safe_load(file.read_text())
    shipped = (resources.files("fl_assets.cohorts") / "stroke.yaml").read_text()
    cohort = yaml.safe_load(shipped)
    change(consortium, cohort)
    if cohort != yaml.safe_load(shipped):
        (file.parent / "changed.yaml").write_text(yaml.safe_dump(cohort, sort_keys=False))
        consortium["cohort"] = "changed.yaml"
    file.write_text(yaml.safe_dump(consortium))

    assert stale_of(instance, build(dataclasses.replace(finished_world))) == expected


def test_new_rows_of_one_hospital_mark_its_own_partition_alone(
    finished_world: Settings, instance: dg.DagsterInstance
) -> None:
    store = finished_world.site_store("hospital-b")
    (upload,) = store.list(INCOMING)
    store.put(upload.key, b"".join(store.get(upload.key).splitlines(keepends=True)[:-9]))
    materialise(instance, build(finished_world), "hospital_records", "hospital-b")

    assert stale_of(instance, build(finished_world)) == {"hospital_partitions/hospital-b"}


def test_new_code_of_the_records_marks_their_partitions_alone(
    finished_world: Settings, instance: dg.DagsterInstance
) -> None:
    def bumped(spec: dg.AssetSpec) -> dg.AssetSpec:
        assert str(spec.code_version).startswith("2.")
        return spec.replace_attributes(code_version=f"3{str(spec.code_version)[1:]}")

    found = build(finished_world).map_resolved_asset_specs(
        func=bumped, selection=dg.AssetSelection.assets("hospital_records")
    )

    assert stale_of(instance, found) == everywhere("hospital_records")
