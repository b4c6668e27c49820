"""Runs under differential privacy: what is spent, what leaves, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fl_assets.consortium import PrivacyBudget
from fl_assets.coordinator.guarantee import guarantee
from fl_assets.federation import client_app
from fl_assets.federation.job import FederationError, FederationJob
from fl_assets.federation.participant import BadRunNameError, Participant
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.federation.strategies.consortium import QuorumNotReachedError, SitesRefuseError
from fl_assets.learning.models import model_for
from fl_assets.privacy import accounting
from fl_assets.privacy.events import MechanismEvent
from fl_assets.privacy.ledger import Ledger
from fl_assets.privacy.ledger_entries import LedgerHead
from fl_assets.settings import Settings
from fl_assets.site.egress import EgressLog
from fl_assets.site.spending import OtherWeightsError, RoundNotReservedError
from fl_assets_tests.federation.conftest import MakeJob
from fl_assets_tests.federation.test_resumption import killed_after

ROUNDS = 3
PRIVATE: dict[str, Any] = {
    "privacy": {"epsilon": 1.0, "clip": 1.0, "minimum_rows": 20},
    "optimizer": {"kind": "sgd", "lr": 0.5},
    "rounds": ROUNDS,
    "average_rounds": 2,
}
SITES = ("hospital-a", "hospital-b", "hospital-c")
NO_UNPROTECTED = PrivacyBudget()


def with_budget(job: FederationJob, budget: PrivacyBudget = NO_UNPROTECTED) -> FederationJob:
    return job.model_copy(update={"budgets": dict.fromkeys(job.sites, budget)})


def ledger(world: Settings, name: str) -> Ledger:
    return Ledger(world.site_store(name), name)


def kinds(world: Settings, name: str) -> list[str]:
    return [entry.act.kind for entry in ledger(world, name).entries()]


def test_a_run_states_what_it_cost_and_tells_nothing_else(
    make_job: MakeJob, world: Settings
) -> None:
    job = with_budget(make_job(**PRIVATE))
    history = InProcessRuntime().run(job).history
    assert [report.train_loss for report in history.rounds] == [None] * ROUNDS
    assert [report.validation_auroc for report in history.rounds] == [None] * ROUNDS
    sigma = accounting.noise_multiplier(1.0, 1e-5, 1.0, ROUNDS)
    for name in SITES:
        final = history.final[name]
        assert (final.examples, final.loss, final.auroc, final.threshold) == (0, None, None, None)
        told = final.privacy
        assert told is not None
        assert told.epsilon == pytest.approx(1.0, rel=1e-6)
        assert told.epsilon <= 1.0
        assert told.lifetime == told.epsilon
        assert told.replace_one == pytest.approx(2.155, abs=0.01)
        assert (told.noise_multiplier, told.steps, told.noise) == (sigma, ROUNDS, "secure")
        assert (told.cap, told.unprotected_runs) == (3.0, 0)
        assert told.head == ledger(world, name).head()
        assert kinds(world, name) == ["reserve", "settle"]
        log = [e for e in EgressLog(world.site_store(name)).entries() if e.run == job.run]
        assert [entry.kind for entry in log] == [
            "reservation",
            *["update"] * ROUNDS,
            "evaluation",
        ]


def test_two_runs_draw_different_noise_and_are_composed(make_job: MakeJob, world: Settings) -> None:
    first, second = (
        InProcessRuntime().run(with_budget(make_job(run, **PRIVATE))) for run in ("one", "two")
    )
    assert not np.array_equal(first.weights["0.weight"], second.weights["0.weight"])
    told = second.history.final["hospital-a"].privacy
    assert told is not None
    assert told.epsilon == pytest.approx(1.0, rel=1e-6)
    assert told.lifetime == pytest.approx(1.465, abs=0.001)


def test_noised_figures_are_told_where_the_recipe_pays_for_them(
    make_job: MakeJob, world: Settings
) -> None:
    asked = PRIVATE | {"privacy": PRIVATE["privacy"] | {"evaluation_epsilon": 0.5}}
    # So much noise on so few patients leaves no threshold now and then: not with this seed.
    job = with_budget(make_job(**asked)).model_copy(update={"noise_seed": 1})
    final = InProcessRuntime().run(job).history.final["hospital-a"]
    assert final.examples > 0
    assert final.threshold is not None
    assert kinds(world, "hospital-a") == ["reserve", "charge", "settle"]
    told = final.privacy
    assert told is not None
    # Not 1: the figures were released as well.
    both = [
        MechanismEvent(noise_multiplier=accounting.noise_multiplier(e, 1e-5, 1.0, n), steps=n)
        for e, n in ((1.0, ROUNDS), (0.5, 1))
    ]
    assert told.epsilon == pytest.approx(accounting.epsilon(both, 1e-5), rel=1e-6)
    assert told.epsilon > 1.1
    assert told.lifetime == told.epsilon
    assert told.steps == ROUNDS
    said = guarantee(job.recipe, {"hospital-a": told})
    assert said.startswith("(1, 1e-05)-differential privacy at every hospital")
    assert "the updates of the training" in said
    assert "everything" not in said
    assert f"hospital-a {told.epsilon:.4g}" in said


def test_figures_beyond_the_budget_are_withheld_and_the_model_is_kept(
    make_job: MakeJob, world: Settings
) -> None:
    asked = PRIVATE | {"privacy": PRIVATE["privacy"] | {"evaluation_epsilon": 3.0}}
    job = with_budget(make_job(**asked), PrivacyBudget(epsilon=1.5))
    final = InProcessRuntime().run(job).history.final["hospital-a"]
    assert (final.examples, final.threshold) == (0, None)
    assert kinds(world, "hospital-a") == ["reserve", "refuse", "settle"]


def test_a_seed_of_the_node_makes_the_noise_predictable_and_is_stated(make_job: MakeJob) -> None:
    job = with_budget(make_job(**PRIVATE)).model_copy(update={"noise_seed": 1})
    result = InProcessRuntime().run(job)
    told = result.history.final["hospital-a"].privacy
    assert told is not None
    assert told.noise == "predictable"


def test_the_run_that_would_pass_the_cap_is_refused_before_a_row_is_read(
    make_job: MakeJob, world: Settings
) -> None:
    tight = PrivacyBudget(epsilon=1.4)
    InProcessRuntime().run(with_budget(make_job("one", **PRIVATE), tight))
    # Whoever opened the rows would find none.
    for name in SITES:
        folder = Path(world.site_store(name).uri.removeprefix("file://"))
        for rows in folder.rglob("*.parquet"):
            rows.unlink()
    with pytest.raises(QuorumNotReachedError) as caught:
        InProcessRuntime().run(with_budget(make_job("two", **PRIVATE), tight))
    for name in SITES:
        arithmetic = f"{name}: run two asks 1.00, lifetime would be 1.47 of 1.40, "
        assert arithmetic in str(caught.value)
        assert kinds(world, name) == ["reserve", "settle", "refuse"]


def test_a_hospital_that_refuses_costs_the_others_nothing(
    make_job: MakeJob, world: Settings
) -> None:
    job = with_budget(make_job(**PRIVATE))
    job = job.model_copy(
        update={"budgets": job.budgets | {"hospital-b": PrivacyBudget(epsilon=0.5)}}
    )
    with pytest.raises(SitesRefuseError) as caught:
        InProcessRuntime().run(job)
    text = str(caught.value)
    assert text.startswith("round 1 is refused by hospital-b, so the quorum of 3 cannot be reached")
    assert "\nhospital-b: run run asks 1.00, lifetime would be 1.00 of 0.50, 0.50 left" in text
    assert "lower `quorum`" not in text
    assert kinds(world, "hospital-b") == ["refuse"]
    for name in ("hospital-a", "hospital-c"):
        assert kinds(world, name) == ["reserve", "settle"]
        assert ledger(world, name).spent_events() == ()
        assert "update" not in [e.kind for e in EgressLog(world.site_store(name)).entries()]


def test_without_the_one_that_refuses_the_others_train_where_the_quorum_allows(
    make_job: MakeJob, world: Settings
) -> None:
    job = with_budget(make_job(quorum=2, **PRIVATE))
    job = job.model_copy(
        update={"budgets": job.budgets | {"hospital-b": PrivacyBudget(epsilon=0.5)}}
    )
    history = InProcessRuntime().run(job).history
    assert all(set(r.sites) == {"hospital-a", "hospital-c"} for r in history.rounds)
    assert all(set(r.dropouts) == {"hospital-b"} for r in history.rounds)


def test_a_cohort_that_is_too_small_reserves_nothing(make_job: MakeJob, world: Settings) -> None:
    asked = PRIVATE | {"privacy": {"epsilon": 1.0, "minimum_rows": 100_000}}
    with pytest.raises(QuorumNotReachedError, match="fewer than the 100000 that the recipe asks"):
        InProcessRuntime().run(with_budget(make_job(**asked)))
    assert kinds(world, "hospital-a") == []


def test_a_hospital_has_a_floor_of_its_own(make_job: MakeJob, world: Settings) -> None:
    """The recipe, which comes with the coordinator's message, cannot lower it."""
    asked = PRIVATE | {"privacy": {"epsilon": 1.0, "minimum_rows": 1}}
    strict = PrivacyBudget(minimum_rows=50_000)
    with pytest.raises(QuorumNotReachedError, match="fewer than the 50000"):
        InProcessRuntime().run(with_budget(make_job(**asked), strict))
    assert kinds(world, "hospital-a") == []


def test_a_delta_that_would_let_a_whole_row_out_reserves_nothing(
    make_job: MakeJob, world: Settings
) -> None:
    asked = PRIVATE | {"privacy": PRIVATE["privacy"] | {"delta": 9e-3}}
    with pytest.raises(QuorumNotReachedError, match=r"delta 0.009 is above one over \d+ training"):
        InProcessRuntime().run(with_budget(make_job(**asked)))
    assert kinds(world, "hospital-a") == []


@pytest.mark.parametrize("run", ["x/rounds", "..", "", "a b", "-"])
def test_a_run_whose_name_leads_elsewhere_in_the_store_is_refused(
    make_job: MakeJob, world: Settings, run: str
) -> None:
    job = with_budget(make_job(**PRIVATE))
    with pytest.raises(BadRunNameError):
        Participant(
            job.nodes()["hospital-a"],
            world.site_store("hospital-a"),
            run=run,
            recipe=job.recipe,
            preprocessor=job.preprocessor,
            checkpoints=2,
        )
    assert kinds(world, "hospital-a") == []


def test_a_run_without_privacy_is_refused_unless_the_hospital_allows_it(
    make_job: MakeJob, world: Settings
) -> None:
    with pytest.raises(QuorumNotReachedError, match="allows no run without"):
        InProcessRuntime().run(with_budget(make_job("plain")))
    InProcessRuntime().run(with_budget(make_job("plain"), PrivacyBudget(unprotected_runs=True)))
    assert kinds(world, "hospital-a") == ["refuse", "unprotected"]


@pytest.mark.faults
@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("round_", range(1, ROUNDS + 1))
def test_a_run_that_is_resumed_is_charged_once_and_ends_as_it_would_have(
    make_job: MakeJob, world: Settings, round_: int, told: bool
) -> None:
    seeded = {"noise_seed": 7}
    whole = InProcessRuntime().run(
        with_budget(make_job("run", **PRIVATE)).model_copy(update=seeded)
    )
    for name in SITES:
        folder = Path(world.site_store(name).uri.removeprefix("file://"))
        shutil.rmtree(folder / "ledger")
        (folder / "ledger-anchor.json").unlink()
        for left in ("answers", "egress", ".versions"):
            shutil.rmtree(folder / left, ignore_errors=True)
    job = with_budget(make_job("run", **PRIVATE)).model_copy(update=seeded)
    with killed_after("training", round_, told):
        InProcessRuntime().run(job)
    assert kinds(world, "hospital-a") == ["reserve"]
    # The sites' processes are new too, and find everything in their stores. Equal bits say that
    # each of their steps had its noise: one without would have led elsewhere.
    client_app._sites.clear()
    resumed = InProcessRuntime().run(job)
    for name, weights in whole.weights.items():
        np.testing.assert_array_equal(resumed.weights[name], weights)
    for name in SITES:
        assert kinds(world, name) == ["reserve", "settle"]
        assert ledger(world, name).account("run").spent[0].steps == ROUNDS  # type: ignore[union-attr]


@pytest.mark.faults
def test_a_round_that_is_asked_again_gets_the_same_answer_and_no_new_noise(
    make_job: MakeJob, world: Settings
) -> None:
    job = with_budget(make_job("run", **PRIVATE))
    shared = model_for(job.recipe.model, job.preprocessor, job.recipe.seed).state_dict()
    others = {name: weight + 1 for name, weight in shared.items()}

    def restarted() -> Participant:
        return Participant(
            job.nodes()["hospital-a"],
            world.site_store("hospital-a"),
            run=job.run,
            recipe=job.recipe,
            preprocessor=job.preprocessor,
            checkpoints=2,
        )

    first, again = (restarted().train(shared, 1) for _ in range(2))
    assert all(torch.equal(first.weights[name], again.weights[name]) for name in shared)
    with pytest.raises(OtherWeightsError):
        restarted().train(others, 1)
    with pytest.raises(RoundNotReservedError):
        restarted().train(shared, ROUNDS + 1)
    assert kinds(world, "hospital-a") == ["reserve"]


def test_a_finished_run_cannot_be_trained_again_under_its_name(
    make_job: MakeJob, world: Settings
) -> None:
    job = with_budget(make_job("run", **PRIVATE))
    InProcessRuntime().run(job)
    client_app._sites.clear()
    with pytest.raises(FederationError, match="is closed in the ledger and can release nothing"):
        InProcessRuntime().run(job.model_copy(update={"resume": False}))
    assert kinds(world, "hospital-a") == ["reserve", "settle"]


def test_a_ledger_that_was_rolled_back_is_refused_by_the_coordinators_witness(
    make_job: MakeJob, world: Settings, tmp_path: Path
) -> None:
    folder = Path(world.site_store("hospital-a").uri.removeprefix("file://"))
    before = tmp_path / "before"
    InProcessRuntime().run(with_budget(make_job("one", **PRIVATE)))
    shutil.copytree(folder, before)
    told = InProcessRuntime().run(with_budget(make_job("two", **PRIVATE)))
    head = told.history.final["hospital-a"].privacy.head  # type: ignore[union-attr]
    assert isinstance(head, LedgerHead)
    # The whole bucket as it was: nothing in it knows better.
    shutil.rmtree(folder)
    shutil.copytree(before, folder)
    job = with_budget(make_job("three", **PRIVATE))
    job = job.model_copy(update={"witnesses": {"hospital-a": head.model_dump_json()}})
    with pytest.raises(QuorumNotReachedError, match="ledger"):
        InProcessRuntime().run(job)


def test_no_message_carries_budget_or_noise_seed(make_job: MakeJob) -> None:
    job = with_budget(make_job(**PRIVATE)).model_copy(update={"noise_seed": 424242})
    assert "424242" not in json.dumps(job.run_config())
    assert "unprotected" not in json.dumps(job.run_config())
