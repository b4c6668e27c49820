"""Private recipes from the coordinator's side: attempts, witnesses, release records."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fl_assets.coordinator.preprocessors import build_preprocessors
from fl_assets.coordinator.training import is_current, load_release, train
from fl_assets.federation import client_app
from fl_assets.federation.recipe import Recipe
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.federation.strategies.consortium import QuorumNotReachedError
from fl_assets.federation.witnesses import load_witness, save_witness
from fl_assets.privacy.ledger import Ledger
from fl_assets.privacy.ledger_entries import LedgerHead
from fl_assets.settings import Settings
from fl_assets.site.profile import load_profile
from fl_assets_tests.federation.test_resumption import killed_after
from fl_assets_tests.world import build_world

# Two runs of epsilon 1 compose to 1.47, three to 1.84.
CAP = 1.6


@pytest.fixture
def strict(tmp_path: Path) -> Settings:
    """A consortium whose hospitals allow private runs alone."""
    settings = build_world(tmp_path, privacy_budget={"epsilon": CAP})
    profiles = {n: load_profile(settings.site_store(n)) for n in settings.consortium.hospital_names}
    build_preprocessors(settings.coordinator_store(), settings.cohort, profiles)
    return settings


@pytest.fixture
def recipe() -> Recipe:
    return Recipe.model_validate(
        {
            "name": "private",
            "model": {"kind": "logistic_regression"},
            "rounds": 2,
            "privacy": {"epsilon": 1.0, "minimum_rows": 20},
            "features": {"age": 1.0, "hypertension": 0.5},
        }
    )


def kinds(settings: Settings, name: str) -> list[str]:
    return [e.act.kind for e in Ledger(settings.site_store(name), name).entries()]


def test_training_the_same_again_costs_nothing_until_it_is_asked_for_anew(
    strict: Settings, recipe: Recipe
) -> None:
    first = train(strict, recipe, InProcessRuntime(), {})
    again = train(strict, recipe, InProcessRuntime(), {})
    assert (again.run, again.version) == (first.run, first.version)
    assert kinds(strict, "hospital-a") == ["reserve", "settle"]

    anew = train(strict, recipe, InProcessRuntime(), {"dagster.run_id": "abcdef0123"}, fresh=True)
    assert anew.run == f"{first.run}-abcdef01"
    assert is_current(strict, recipe, anew)
    assert not is_current(strict, recipe, first)
    assert train(strict, recipe, InProcessRuntime(), {}).run == anew.run
    assert kinds(strict, "hospital-a") == ["reserve", "settle"] * 2


def test_a_retry_of_a_new_training_is_not_charged_again(strict: Settings, recipe: Recipe) -> None:
    class Cut(InProcessRuntime):
        def run(self, job):  # type: ignore[no-untyped-def]
            super().run(job)
            raise ConnectionError

    tags = {"dagster.run_id": "abcdef0123"}
    with pytest.raises(ConnectionError):
        train(strict, recipe, Cut(), tags, fresh=True)
    assert train(strict, recipe, InProcessRuntime(), {}).run.endswith("-abcdef01")
    assert kinds(strict, "hospital-a") == ["reserve", "settle"]


def test_a_new_training_that_was_cut_off_is_the_one_that_goes_on(
    strict: Settings, recipe: Recipe
) -> None:
    class Cut(InProcessRuntime):
        def run(self, job):  # type: ignore[no-untyped-def]
            with killed_after("training", 1):
                super().run(job)
            raise ConnectionError

    first = train(strict, recipe, InProcessRuntime(), {})
    assert is_current(strict, recipe, load_release(strict.coordinator_store(), "private"))
    with pytest.raises(ConnectionError):
        train(strict, recipe, Cut(), {"dagster.run_id": "abcdef0123"}, fresh=True)
    assert not is_current(strict, recipe, load_release(strict.coordinator_store(), "private"))
    client_app._sites.clear()
    assert train(strict, recipe, InProcessRuntime(), {}).run == f"{first.run}-abcdef01"
    assert is_current(strict, recipe, load_release(strict.coordinator_store(), "private"))
    assert kinds(strict, "hospital-a") == ["reserve", "settle"] * 2


def test_retraining_until_the_cap_ends_in_a_refusal_with_its_arithmetic(
    strict: Settings, recipe: Recipe
) -> None:
    train(strict, recipe, InProcessRuntime(), {})
    train(strict, recipe, InProcessRuntime(), {}, fresh=True)
    with pytest.raises(QuorumNotReachedError) as caught:
        train(strict, recipe, InProcessRuntime(), {}, fresh=True)
    arithmetic = "asks 1.00, lifetime would be 1.84 of 1.60, 0.55 left at delta 1e-05"
    assert arithmetic in str(caught.value)
    # The recipe still stands for the model that it has.
    assert is_current(strict, recipe, load_release(strict.coordinator_store(), "private"))
    entry = Ledger(strict.site_store("hospital-b"), "hospital-b").entries()[-1]
    assert entry.act.kind == "refuse"
    assert arithmetic in entry.act.reason


def test_the_release_record_says_what_every_hospital_spent(
    strict: Settings, recipe: Recipe
) -> None:
    release = train(strict, recipe, InProcessRuntime(), {})
    assert load_release(strict.coordinator_store(), "private") == release
    assert release.threshold == strict.cohort.label.prevalence
    assert release.privacy.startswith("(1, 1e-05)-differential privacy at every hospital")
    assert set(release.spending) == set(strict.consortium.hospital_names)
    for statement in release.spending.values():
        assert statement.epsilon == pytest.approx(1.0, rel=1e-6)
        assert (statement.steps, statement.cap) == (2, CAP)


def test_the_coordinator_is_a_witness_against_a_ledger_that_is_put_back(
    strict: Settings, recipe: Recipe, tmp_path: Path
) -> None:
    folder = Path(strict.site_store("hospital-a").uri.removeprefix("file://"))
    shutil.copytree(folder, tmp_path / "before")
    train(strict, recipe, InProcessRuntime(), {})
    seen = load_witness(strict.coordinator_store(), "hospital-a")
    assert seen == Ledger(strict.site_store("hospital-a"), "hospital-a").head()
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "before", folder)
    with pytest.raises(QuorumNotReachedError, match="cut or rolled back"):
        train(strict, recipe, InProcessRuntime(), {}, fresh=True)


@pytest.mark.faults
def test_it_is_one_from_the_first_round_on_also_of_a_run_that_never_ends(
    strict: Settings, recipe: Recipe, tmp_path: Path
) -> None:
    """Put back to before it, such a run would leave no trace of what it released."""
    folder = Path(strict.site_store("hospital-a").uri.removeprefix("file://"))
    shutil.copytree(folder, tmp_path / "before")
    with killed_after("training", 1):
        train(strict, recipe, InProcessRuntime(), {})
    assert kinds(strict, "hospital-a") == ["reserve"]
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "before", folder)
    client_app._sites.clear()
    with pytest.raises(QuorumNotReachedError, match="cut or rolled back"):
        train(strict, recipe, InProcessRuntime(), {}, fresh=True)


def test_a_witness_is_never_replaced_by_an_older_one(strict: Settings) -> None:
    store = strict.coordinator_store()
    newer, older = (LedgerHead(sequence=k, digest=f"{k}" * 64) for k in (5, 4))
    for head in (newer, older, None):
        save_witness(store, "hospital-a", head)
        assert load_witness(store, "hospital-a") == newer
