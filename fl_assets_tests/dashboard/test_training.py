import pytest

from fl_assets.coordinator.training import load_history, load_release
from fl_assets.dashboard.training import curves
from fl_assets.federation.job import FederationHistory
from fl_assets.settings import Settings
from fl_assets_tests.dashboard.conftest import Open, cells, said
from fl_assets_tests.federation.test_checkpoints import checkpoint, of
from fl_assets_tests.federation.test_job import round_report


def test_every_round_of_a_recipe_is_drawn(finished_world: Settings, open_page: Open) -> None:
    store = finished_world.coordinator_store()
    release = load_release(store, "small-lr")
    history = load_history(store, release)

    app = open_page(finished_world, "Training")

    assert f"Version {release.version}" in app.markdown[0].value
    drawn = curves(history)
    assert len(app.get("vega_lite_chart")) == len(drawn) == 4
    last = history.rounds[-1]
    assert list(drawn["loss"].index) == [1, 2, 3]
    assert drawn["loss"]["training"].iloc[-1] == last.train_loss
    assert drawn["seconds"]["whole round"].iloc[-1] == last.seconds
    site = last.sites["hospital-a"].validation_auroc
    assert drawn["validation AUROC"]["hospital-a"].iloc[-1] == pytest.approx(site)
    # It has a single class, so that there is no such figure.
    assert drawn["validation AUROC"]["hospital-b"].isna().all()
    assert drawn["dropouts"]["hospitals"].sum() == 0


def test_a_run_that_has_not_ended_is_drawn_by_its_checkpoints(
    empty_world: Settings, open_page: Open
) -> None:
    store = empty_world.coordinator_store()
    done = checkpoint(2)
    late = done.history.rounds[1].model_copy(update={"dropouts": {"b": "it was late"}})
    history = FederationHistory(rounds=(done.history.rounds[0], late), final={})
    of(store, "big-1a2b").save(done)
    before = [info.key for info in store.list()]
    of(store, "big-1a2b").save(type(done)("training", 2, done.weights, done.state, history))

    app = open_page(empty_world, "Training")

    assert app.selectbox[0].options == ["big-1a2b"]
    assert "`big-1a2b` has not ended" in said(app)
    assert cells(app) == [[["1", "c", "late"], ["2", "b", "it was late"]]]
    assert [info.key for info in store.list()] == before


def test_a_hospital_that_was_away_leaves_a_gap() -> None:
    first = round_report(1, a="v1", b="v1")
    there = first.sites["b"].model_copy(update={"validation_auroc": 0.75})
    first = first.model_copy(update={"sites": {**first.sites, "b": there}})
    rounds = (first, round_report(2, a="v1"))
    drawn = curves(FederationHistory(rounds=rounds, final={}))
    assert list(drawn["validation AUROC"]["b"].isna()) == [False, True]
    assert list(drawn["dropouts"]["hospitals"]) == [1, 1]
