from __future__ import annotations

import json

from fl_assets.coordinator import documents
from fl_assets.coordinator.audit import audit_key, load_audit
from fl_assets.settings import Settings
from fl_assets_tests.cli.fla import Fla


def test_audit_shows_the_attacks_and_what_the_gates_say(fla: Fla, finished_world: Settings) -> None:
    shown = fla.over(finished_world)("audit", "small-lr")
    assert shown.code == 0
    for text in ("over-fitted control", "LiRA", "positives", "passed  audited version: 1"):
        assert text in shown.out
    assert "FAILED" not in shown.out

    answer = json.loads(fla.over(finished_world)("audit", "small-lr", "--format", "json").out)
    stored = load_audit(finished_world.coordinator_store(), "small-lr")
    assert answer.pop("gates")[0]["passed"] is True
    assert answer == stored.model_dump(mode="json")


def test_an_audit_of_another_version_is_none(fla: Fla, finished_world: Settings) -> None:
    store = finished_world.coordinator_store()
    older = load_audit(store, "small-lr").model_copy(update={"version": "0"})
    documents.save(store, audit_key("small-lr"), older)
    (finished_world.recipes / "new.yaml").write_text("model: {kind: logistic_regression}\n")
    for recipe in ("small-lr", "new"):
        refused = fla.over(finished_world)("audit", recipe)
        assert refused.code == 1
        assert f"`fla run {recipe}` does it" in " ".join(refused.err.split())


def test_an_audit_of_what_is_no_recipe(fla: Fla, finished_world: Settings) -> None:
    refused = fla.over(finished_world)("audit", "nope")
    assert refused.code == 1
    assert "it has small-lr, small-mlp" in " ".join(refused.err.split())
