"""Promotion: the best candidate, every gate read anew, then the alias."""

from __future__ import annotations

from fl_assets.consortium import PromotionGates
from fl_assets.coordinator import documents
from fl_assets.coordinator.audit_gates import audit_gates
from fl_assets.coordinator.comparison import load_comparison
from fl_assets.coordinator.decision import KEY, GateResult, Promotion
from fl_assets.coordinator.erased import erased_versions
from fl_assets.coordinator.evaluation import ModelEvaluation
from fl_assets.coordinator.lineage import open_registry
from fl_assets.coordinator.model_card import model_card
from fl_assets.coordinator.release import ReleaseRecord
from fl_assets.coordinator.training import load_release, ready_sites
from fl_assets.coordinator.withdrawal import WithdrawnDataError
from fl_assets.errors import FlAssetsError
from fl_assets.learning.metrics import Metric
from fl_assets.settings import Settings
from fl_assets.tracking.models import CANDIDATE, CHAMPION, Registry, input_example
from fl_assets.tracking.runs import Tracking
from fl_assets.tracking.served_model import PROBABILITY


class NoCandidateError(FlAssetsError):
    """No recipe was trained and evaluated."""

    def __init__(self) -> None:
        super().__init__(
            "there is no candidate: materialise federated_model and federated_evaluation of a "
            "recipe, then model_comparison"
        )


def promote(settings: Settings) -> Promotion:
    """Choose the best candidate, read every gate anew and move the aliases.

    The candidate is the recipe with the best mean AUROC on **validation** rows; the gates look at
    test rows, which had no say in the choice. ``candidate`` always moves, ``champion`` only if
    every gate is passed; otherwise the old champion stays.

    Raises:
        NoCandidateError: nothing was trained and evaluated.
        WithdrawnDataError: the best candidate has data of a hospital that has withdrawn.
    """
    store = settings.coordinator_store()
    models = [m.evaluation for m in load_comparison(store).of_kind("federated")]
    if not models:
        raise NoCandidateError
    best = max(models, key=lambda m: (_known_first(m.validation_auroc), m.model))
    release = load_release(store, best.model)
    left = sorted(release.hospitals.keys() & settings.withdrawn)
    if left:
        raise WithdrawnDataError(release.version, left, "`fla demo` trains and compares anew")
    registry = Registry(
        Tracking(settings.tracking_uri, settings.consortium.name), settings.model_name
    )
    before = registry.alias(CHAMPION)
    decision = Promotion(
        candidate=release,
        gates=tuple(check_gates(settings, release, best)),
        previous=str(before.version) if before else None,
    )
    registry.describe(release.version, release.mlflow_run, model_card(settings, decision, best))
    registry.set_alias(CANDIDATE, release.version)
    if decision.promoted:
        registry.set_alias(CHAMPION, release.version)
    documents.save(store, KEY, decision)
    return decision


def try_champion(settings: Settings) -> float:
    """Load the champion from the registry and return its risk for the made-up example patient.

    Raises:
        NoChampionError: there is none.
    """
    tracking = Tracking(settings.tracking_uri, settings.consortium.name)
    champion = Registry(tracking, settings.model_name).load(CHAMPION)
    return float(champion.predict(input_example(settings.cohort))[PROBABILITY].iloc[0])


def check_gates(
    settings: Settings, release: ReleaseRecord, evaluation: ModelEvaluation
) -> list[GateResult]:
    """Return every gate's verdict on a release."""
    gates = settings.consortium.promotion
    ranked, calibrated = (
        f"mean over {evaluation.behind(metric)} of {len(evaluation.sites)} hospitals"
        for metric in (Metric.AUROC, Metric.ECE)
    )
    return [
        GateResult(
            gate="evaluated version",
            asked=release.version,
            found=str(evaluation.version),
            passed=evaluation.version == release.version,
        ),
        _floor(f"AUROC, {ranked}", gates.min_auroc, evaluation.mean(Metric.AUROC)),
        _floor("AUROC over age alone", gates.min_gain_over_age_only, evaluation.gain_over_age_only),
        _ceiling(f"calibration error, {calibrated}", gates.max_ece, evaluation.mean(Metric.ECE)),
        _sites(gates, release),
        _partitions(settings, release),
        _erased(settings, release),
        *audit_gates(settings.coordinator_store(), release, gates.max_membership_auc),
    ]


def _known_first(figure: float | None) -> tuple[bool, float]:
    return figure is not None, figure or 0.0


def _floor(gate: str, floor: float, found: float | None) -> GateResult:
    passed = found is not None and found >= floor
    return GateResult(gate=gate, asked=f"at least {floor:g}", found=_show(found), passed=passed)


def _ceiling(gate: str, ceiling: float, found: float | None) -> GateResult:
    passed = found is not None and found <= ceiling
    return GateResult(gate=gate, asked=f"at most {ceiling:g}", found=_show(found), passed=passed)


def _show(figure: float | None) -> str:
    return "not available" if figure is None else f"{figure:.4f}"


def _sites(gates: PromotionGates, release: ReleaseRecord) -> GateResult:
    present = len(release.rounds[-1].participants)
    return GateResult(
        gate="hospitals in the last round",
        asked=f"at least {gates.min_sites}",
        found=str(present),
        passed=present >= gates.min_sites,
    )


def _erased(settings: Settings, release: ReleaseRecord) -> GateResult:
    """A model that saw somebody who was erased since is not promoted."""
    since = erased_versions(open_registry(settings)).get(release.version)
    return GateResult(
        gate="no patient of it erased since",
        asked="none",
        found="none" if since is None else f"erased on {since}",
        passed=since is None,
    )


def _partitions(settings: Settings, release: ReleaseRecord) -> GateResult:
    """A model may only be promoted while the data it was trained on are the current ones."""
    current = ready_sites(settings)
    changed = [
        name
        for name, manifest in release.hospitals.items()
        if name not in current or current[name].version != manifest.version
    ]
    return GateResult(
        gate="trained on current partitions",
        asked="every hospital",
        found=f"changed at {', '.join(changed)}" if changed else "every hospital",
        passed=not changed,
    )
