"""The audit from training to promotion: what is stored, what is logged, whom it stops."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from sklearn.metrics import roc_auc_score

from fl_assets.coordinator import documents
from fl_assets.coordinator.audit import (
    MembershipAudit,
    audit_key,
    audit_release,
    load_audit,
    pool,
)
from fl_assets.coordinator.audit_gates import audit_gates
from fl_assets.coordinator.audit_report import audit_plot, audit_table
from fl_assets.coordinator.comparison import compare
from fl_assets.coordinator.decision import GateResult
from fl_assets.coordinator.evaluation import evaluate_release
from fl_assets.coordinator.preprocessors import build_preprocessors
from fl_assets.coordinator.promotion import promote
from fl_assets.coordinator.training import load_release, train
from fl_assets.federation.recipe import load_recipe
from fl_assets.federation.runtimes.base import build_runtime
from fl_assets.privacy.attacks import Attack
from fl_assets.privacy.score_counts import AuditCounts, ScoreCounts
from fl_assets.settings import Settings
from fl_assets.site.audit import SiteAudit
from fl_assets.site.egress import EgressLog
from fl_assets.site.profile import load_profile
from fl_assets.tracking.models import CHAMPION, Registry
from fl_assets.tracking.runs import Tracking
from fl_assets_tests.world import build_world

LIMIT = 0.65
BY_HEART = {
    "model": {"kind": "mlp", "hidden": [64, 32]},
    "optimizer": {"kind": "adam", "lr": 0.003},
    "rounds": 3,
    "local_epochs": 60,
    "batch_size": 64,
}


def changed(audit: MembershipAudit, where: tuple[str, str], **figures: Any) -> MembershipAudit:
    """The audit with other figures for every attack on a subject's group."""
    findings = [
        f.model_copy(update={"result": f.result.model_copy(update=figures)})
        if (f.subject, f.group) == where and f.result is not None
        else f
        for f in audit.findings
    ]
    return audit.model_copy(update={"findings": tuple(findings)})


def failed(settings: Settings, audit: MembershipAudit | None = None) -> list[GateResult]:
    """The audit's gates that small-lr does not pass, with another audit in its place."""
    store = settings.coordinator_store()
    if audit is not None:
        documents.save(store, audit_key("small-lr"), audit)
    gates = audit_gates(store, load_release(store, "small-lr"), LIMIT)
    return [gate for gate in gates if not gate.passed]


def test_the_main_job_audits_every_recipe_of_its_routine(finished_world: Settings) -> None:
    store = finished_world.coordinator_store()
    for recipe in ("small-lr", "small-mlp"):
        found, release = load_audit(store, recipe), load_release(store, recipe)
        assert found.is_of(release)
        assert found.partitions == {n: m.version for n, m in release.hospitals.items()}
        assert found.claimed_epsilon is None
        assert len(found.findings) == 8
        assert found.control.exceeds(LIMIT)
    assert failed(finished_world) == []
    kinds = [e.kind for e in EgressLog(finished_world.site_store("hospital-a")).entries()]
    assert kinds.count("audit") == 2


def test_auditing_again_gives_the_same_document(finished_world: Settings) -> None:
    before = load_audit(finished_world.coordinator_store(), "small-mlp")
    assert audit_release(finished_world, "small-mlp").fingerprint == before.fingerprint


def test_counts_of_the_hospitals_are_judged_together() -> None:
    """Against scikit-learn on the cells of all hospitals; one tells nothing of its positives."""
    empty = ScoreCounts(members=(0, 0, 0), others=(0, 0, 0))
    loss, ratio = Attack.LOSS_THRESHOLD, Attack.LIKELIHOOD_RATIO

    def site(positives: ScoreCounts | None, negatives: ScoreCounts) -> SiteAudit:
        told = {} if positives is None else {loss: empty, ratio: positives}
        counts = AuditCounts(positives=told, negatives={loss: empty, ratio: negatives})
        return SiteAudit(partitions="p", candidate=counts, control=None)

    a = site(
        ScoreCounts(members=(1, 2, 9), others=(4, 1, 0)),
        ScoreCounts(members=(20, 20, 30), others=(9, 8, 7)),
    )
    b = site(None, ScoreCounts(members=(3, 3, 3), others=(5, 5, 5)))
    silent = SiteAudit(partitions="p", candidate=None, control=None)
    found = {f.name: f.result for f in pool([a, b, silent])}

    positives = found["candidate/positives/likelihood_ratio"]
    everybody = found["candidate/everybody/likelihood_ratio"]
    assert positives is not None
    assert everybody is not None
    for result, members, others in (
        (positives, (1, 2, 9), (4, 1, 0)),
        (everybody, (24, 25, 42), (18, 14, 12)),
    ):
        y = [1] * sum(members) + [0] * sum(others)
        score = [cell for side in (members, others) for cell in range(3) for _ in range(side[cell])]
        assert result.auroc == pytest.approx(roc_auc_score(y, score))
    assert found["candidate/positives/loss_threshold"] is None
    assert found["control/everybody/likelihood_ratio"] is None


def test_figures_and_plot_are_in_the_models_mlflow_run(finished_world: Settings) -> None:
    store = finished_world.coordinator_store()
    found, release = load_audit(store, "small-lr"), load_release(store, "small-lr")
    client = Tracking(finished_world.tracking_uri, "any").client
    logged = client.get_run(release.mlflow_run).data.metrics
    control = found.control.result
    assert control is not None
    assert logged["audit/control/positives/likelihood_ratio/auroc"] == pytest.approx(control.auroc)
    assert logged["audit/epsilon"] == pytest.approx(found.epsilon)
    plots = {Path(file.path).name for file in client.list_artifacts(release.mlflow_run, "plots")}
    assert "attack_roc.png" in plots


def test_the_table_has_a_row_per_attack_and_what_does_not_exist_is_a_dash(
    finished_world: Settings,
) -> None:
    found = load_audit(finished_world.coordinator_store(), "small-lr")
    table = audit_table(found)
    assert len(table.rows) == 8
    assert "claimed epsilon: none" in table.caption
    nothing = found.model_copy(
        update={"findings": tuple(f.model_copy(update={"result": None}) for f in found.findings)}
    )
    assert {cell for row in audit_table(nothing).rows for cell in row[3:]} == {None}
    assert audit_plot(nothing).png.startswith(b"\x89PNG")


def test_without_an_audit_of_this_very_version_there_is_no_promotion(
    finished_world: Settings,
) -> None:
    store = finished_world.coordinator_store()
    found = load_audit(store, "small-lr")
    for stale in ({"version": "99"}, {"run": "another-run"}):
        (gate,) = failed(finished_world, found.model_copy(update=stale))
        assert gate.gate == "audited version"
    store.delete(audit_key("small-lr"))
    (gate,) = failed(finished_world)
    assert (gate.gate, gate.found) == ("audited version", "not audited")


def test_an_attack_that_misses_the_control_speaks_for_nobody(finished_world: Settings) -> None:
    found = load_audit(finished_world.coordinator_store(), "small-lr")
    blind = changed(found, ("control", "positives"), auroc=0.7, auroc_low=0.6, auroc_high=0.8)
    (gate,) = failed(finished_world, blind)
    assert gate.gate == "attack on the over-fitted control"
    unseen = [
        f.model_copy(update={"result": None}) if f.group == "positives" else f
        for f in found.findings
    ]
    (gate,) = failed(finished_world, found.model_copy(update={"findings": tuple(unseen)}))
    assert (gate.gate, gate.found) == ("attack on the over-fitted control", "not available")


@pytest.mark.parametrize("group", ["everybody", "positives"])
def test_what_an_attack_shows_above_the_limit_stops_a_candidate(
    finished_world: Settings, group: str
) -> None:
    found = load_audit(finished_world.coordinator_store(), "small-lr")
    exposed = changed(found, ("candidate", group), auroc=0.7, auroc_low=0.66, auroc_high=0.74)
    (gate,) = failed(finished_world, exposed)
    assert gate.gate == f"attack on membership, {group}"
    assert gate.found == "0.700 [0.660, 0.740]"
    # A high estimate of few people shows nothing.
    unsure = changed(found, ("candidate", group), auroc=0.8, auroc_low=0.5, auroc_high=0.95)
    assert failed(finished_world, unsure) == []


def test_an_epsilon_above_the_claim_stops_a_candidate(finished_world: Settings) -> None:
    found = load_audit(finished_world.coordinator_store(), "small-lr")
    shown = changed(found, ("candidate", "positives"), epsilon=1.3)
    assert failed(finished_world, shown) == []
    assert failed(finished_world, shown.model_copy(update={"claimed_epsilon": 1.4})) == []
    (gate,) = failed(finished_world, shown.model_copy(update={"claimed_epsilon": 1.2}))
    assert (gate.gate, gate.found) == ("epsilon that an attack shows", "1.30")
    # What the control gives away is not the candidate's.
    control = changed(found, ("control", "positives"), epsilon=9.0)
    assert failed(finished_world, control.model_copy(update={"claimed_epsilon": 1.2})) == []


def test_a_network_that_knows_its_patients_by_heart_is_not_promoted(
    tmp_path: Path, tracking: Tracking
) -> None:
    """End to end: trained by the federation, attacked at the hospitals, refused by the gates."""
    settings = build_world(
        tmp_path,
        rows=2000,
        hospitals=[{"name": "hospital-a"}, {"name": "hospital-b"}],
        promotion={"min_auroc": 0.0, "min_gain_over_age_only": -1.0, "max_ece": 1.0},
        privacy_budget={"unprotected_runs": True},
    )
    # A real consortium compares no pooled baselines, which are not the matter here.
    config = yaml.safe_load(settings.consortium_file.read_text())
    settings.consortium_file.write_text(yaml.safe_dump(config | {"simulated": False}))
    (settings.recipes / "small-mlp.yaml").unlink()
    recipe = settings.recipes / "small-lr.yaml"
    recipe.write_text(yaml.safe_dump(BY_HEART))
    settings = dataclasses.replace(settings)
    profiles = {n: load_profile(settings.site_store(n)) for n in ("hospital-a", "hospital-b")}
    build_preprocessors(settings.coordinator_store(), settings.cohort, profiles)

    train(settings, load_recipe(recipe), build_runtime("inprocess"), {})
    evaluate_release(settings, "small-lr")
    found = audit_release(settings, "small-lr")
    compare(settings)
    decision = promote(settings)

    assert {g.gate for g in decision.gates if not g.passed} == {"attack on membership, positives"}
    registry = Registry(
        Tracking(settings.tracking_uri, settings.consortium.name), settings.model_name
    )
    assert registry.alias(CHAMPION) is None
    results = {f.attack: f.result for f in found.of("candidate", "positives")}
    lira = results[Attack.LIKELIHOOD_RATIO]
    assert lira is not None
    assert lira.auroc > 0.8
    assert lira.others > 10
