"""A search over real little federations: resumed, refused, and never on a test row."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fl_assets.coordinator.preprocessors import build_preprocessors
from fl_assets.coordinator.sweep import SweepResult, Trial, search
from fl_assets.coordinator.training import NoSiteReadyError, train, validation_auroc
from fl_assets.federation.job import load_result
from fl_assets.federation.recipe import Recipe
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.federation.sweep import Sweep, SweepError, load_sweep, varied
from fl_assets.settings import Settings
from fl_assets.site.egress import EgressLog
from fl_assets.site.partitions import load_manifest
from fl_assets.site.profile import load_profile
from fl_assets_tests.world import build_world, settings_of


def with_preprocessors(settings: Settings) -> Settings:
    names = settings.consortium.hospital_names
    profiles = {name: load_profile(settings.site_store(name)) for name in names}
    build_preprocessors(settings.coordinator_store(), settings.cohort, profiles)
    return settings


@pytest.fixture
def ready(world: Settings) -> Settings:
    return with_preprocessors(world)


@pytest.fixture
def asked(ready: Settings) -> tuple[Sweep, Recipe]:
    return load_sweep(ready.recipes, "small")


def updates(settings: Settings) -> int:
    """Messages of trial federations that left the first hospital, as its own log counts them."""
    entries = EgressLog(settings.site_store("hospital-a")).entries()
    return sum(entry.run.startswith("sweep-") for entry in entries)


def test_the_best_trial_is_a_training_of_its_recipe(
    ready: Settings, asked: tuple[Sweep, Recipe]
) -> None:
    sweep, base = asked
    result = search(ready, sweep, base)

    assert [trial.number for trial in result.trials] == [0, 1, 2]
    assert len({str(trial.values) for trial in result.trials}) == 3
    best = result.trials[result.best]
    assert best.objective == max(trial.objective or 0 for trial in result.trials)
    release = train(ready, varied(base, best.values, "test"), InProcessRuntime(), {})
    history = load_result(ready.coordinator_store(), release.run).history
    assert validation_auroc(history) == best.objective


def test_a_sweep_is_bound_by_the_hospitals_budgets(
    asked: tuple[Sweep, Recipe], tmp_path: Path
) -> None:
    """A search trains as well, and a hospital that wants privacy wants it there too."""
    strict = build_world(tmp_path, privacy_budget={"epsilon": 2.0})
    with pytest.raises(SweepError, match="allows no run without"):
        search(with_preprocessors(strict), *asked)
    assert "update" not in {e.kind for e in EgressLog(strict.site_store("hospital-a")).entries()}


def test_an_interrupted_sweep_goes_on_as_if_it_had_not_stopped(
    ready: Settings, asked: tuple[Sweep, Recipe], tmp_path: Path
) -> None:
    sweep, base = asked
    shutil.copytree(ready.home, tmp_path / "other")
    uninterrupted = search(settings_of(tmp_path / "other"), sweep, base)

    def stop(trial: Trial) -> None:
        if trial.number == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(ready, sweep, base, observe=stop)
    told: list[Trial] = []
    resumed = search(ready, sweep, base, observe=told.append)

    assert resumed == uninterrupted
    assert told == list(resumed.trials)
    # No round was done twice.
    assert updates(ready) == updates(settings_of(tmp_path / "other"))


def test_more_trials_go_on_and_other_inputs_or_fresh_begin_anew(
    ready: Settings, asked: tuple[Sweep, Recipe]
) -> None:
    sweep, base = asked
    first = search(ready, sweep.model_copy(update={"trials": 1}), base)
    work = updates(ready)
    more = search(ready, sweep.model_copy(update={"trials": 2, "description": "x"}), base)
    assert more.trials[:1] == first.trials
    assert more.inputs == first.inputs
    two = updates(ready)
    assert two > work

    again = search(ready, sweep.model_copy(update={"trials": 1}), base, fresh=True)
    assert again.trials == first.trials
    assert updates(ready) == two + work
    other = search(
        ready, sweep.model_copy(update={"trials": 1}), base.model_copy(update={"rounds": 1})
    )
    assert other.inputs != first.inputs


def test_no_test_row_is_ever_read(ready: Settings, asked: tuple[Sweep, Recipe]) -> None:
    for name in ready.consortium.hospital_names:
        store = ready.site_store(name)
        store.delete(load_manifest(store).files["test"].key)
    assert search(ready, *asked).best >= 0


def test_a_loss_is_minimised(ready: Settings, asked: tuple[Sweep, Recipe]) -> None:
    sweep, base = asked
    result = search(ready, sweep.model_copy(update={"objective": "validation_loss"}), base)
    losses = [trial.objective or 0 for trial in result.trials]
    assert result.trials[result.best].objective == min(losses)


def test_a_trial_that_fails_is_kept_out_and_tried_again(
    ready: Settings, asked: tuple[Sweep, Recipe]
) -> None:
    """A quorum of four hospitals, of which there are three."""
    space = {"quorum": {"choices": [1, 4]}}
    sweep = Sweep.model_validate(asked[0].model_dump() | {"space": space, "trials": 4, "seed": 1})
    result = search(ready, sweep, asked[1])
    failed = [trial for trial in result.trials if trial.failure is not None]
    assert failed
    assert all("needs 4" in (trial.failure or "") for trial in failed)
    assert all(trial.values["quorum"] == 4 for trial in failed)
    assert "quorum: 1" in result.recipe
    folder = f"sweeps/small/{result.inputs}/"
    stored = ready.coordinator_store().list(folder)
    assert len(stored) == len(result.trials) - len(failed)


def test_a_sweep_of_which_every_trial_fails(ready: Settings, asked: tuple[Sweep, Recipe]) -> None:
    base = asked[1].model_copy(update={"quorum": 4})
    with pytest.raises(SweepError, match=r"every trial of sweep small failed, the first one: "):
        search(ready, asked[0], base)


def test_without_hospitals(world: Settings, tmp_path: Path) -> None:
    empty = settings_of(tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    shutil.copy(world.consortium_file, empty.consortium_file)
    with pytest.raises(NoSiteReadyError, match="run `fla demo` first"):
        search(empty, *load_sweep(world.recipes, "small"))


def test_nothing_of_a_trial_but_its_figures_is_kept(
    ready: Settings, asked: tuple[Sweep, Recipe]
) -> None:
    result: SweepResult = search(ready, *asked)
    keys = [info.key for info in ready.coordinator_store().list("")]
    folder = f"sweeps/small/{result.inputs}/"
    assert [key for key in keys if key.startswith(folder)]
    assert not [key for key in keys if key.startswith("runs/")]
