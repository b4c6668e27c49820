from __future__ import annotations

import yaml

from fl_assets.coordinator.catalogue import catalogue, catalogue_table
from fl_assets.coordinator.evaluation import load_evaluation
from fl_assets.coordinator.training import load_release
from fl_assets.learning.metrics import Metric
from fl_assets.settings import Settings


def test_before_any_training(world: Settings) -> None:
    entries = catalogue(world)
    assert [entry.name for entry in entries] == ["small-lr", "small-mlp"]
    assert all((e.version, e.up_to_date, e.mean_test_auroc) == (None,) * 3 for e in entries)


def test_a_trained_recipe_and_what_an_edit_does(finished_world: Settings) -> None:
    store = finished_world.coordinator_store()
    lr = catalogue(finished_world)[0]
    assert lr.version == load_release(store, "small-lr").version
    assert lr.up_to_date is True
    assert lr.mean_test_auroc == load_evaluation(store, "small-lr").mean(Metric.AUROC)

    file = finished_world.recipes / "small-lr.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"rounds": 9}))
    assert catalogue(finished_world)[0].up_to_date is False


def test_an_evaluation_of_an_older_model_is_not_shown(finished_world: Settings) -> None:
    store = finished_world.coordinator_store()
    release = load_release(store, "small-lr").model_copy(update={"version": "17"})
    store.put("releases/small-lr.json", release.model_dump_json().encode())
    entry = catalogue(finished_world)[0]
    assert (entry.version, entry.mean_test_auroc) == ("17", None)


def test_a_wrong_file_has_its_error_and_no_row(world: Settings) -> None:
    (world.recipes / "broken.yaml").write_text("model: {kind: forest}\n")
    entries = catalogue(world)
    assert "forest" in str(entries[0].error)
    assert [row[0] for row in catalogue_table(entries).rows] == ["small-lr", "small-mlp"]
