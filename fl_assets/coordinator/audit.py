"""The audit of a recipe's latest model: attacked at the hospitals, judged on pooled counts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Literal

from fl_assets.config import StrictModel
from fl_assets.coordinator import documents
from fl_assets.coordinator.release import ReleaseRecord
from fl_assets.coordinator.sites import sites_of
from fl_assets.coordinator.trained import released_model
from fl_assets.coordinator.training import load_release
from fl_assets.federation.job import load_result
from fl_assets.federation.recipe import Recipe
from fl_assets.privacy.attacks import Attack
from fl_assets.privacy.audit import AttackResult, judge
from fl_assets.privacy.score_counts import AuditCounts, ScoreCounts, total
from fl_assets.settings import Settings
from fl_assets.site.audit import SiteAudit
from fl_assets.site.shadows import ShadowPlan
from fl_assets.site.tasks.models import AuditModel
from fl_assets.storage import SiteStore
from fl_assets.tracking.runs import Tracking

Subject = Literal["candidate", "control"]
Group = Literal["everybody", "positives"]
SUBJECTS: tuple[Subject, ...] = ("candidate", "control")
GROUPS: tuple[Group, ...] = ("everybody", "positives")


class Finding(StrictModel):
    """What one attack shows.

    Attributes:
        subject: the model, or the over-fitted network of the positive control.
        group: all rows, or those of label 1, whose exposure an average hides.
        attack: which.
        result: over the hospitals that tell; None without members or without others.
    """

    subject: Subject
    group: Group
    attack: Attack
    result: AttackResult | None

    @property
    def name(self) -> str:
        """In MLflow."""
        return f"{self.subject}/{self.group}/{self.attack}"

    def exceeds(self, limit: float) -> bool:
        """Tell whether the attack is shown to exceed a limit: its whole interval lies above."""
        return self.result is not None and self.result.auroc_low > limit


class MembershipAudit(StrictModel):
    """The audit of one model.

    Attributes:
        recipe, version, run: of the model; an audit of another version says nothing of this one.
        partitions: version by hospital.
        claimed_epsilon: of the recipe, None without privacy.
        delta: of the claim, 0 without.
        findings: of every attack on every group.
    """

    recipe: str
    version: str
    run: str
    partitions: dict[str, str]
    claimed_epsilon: float | None
    delta: float
    findings: tuple[Finding, ...]

    @property
    def fingerprint(self) -> str:
        """Content hash, 16 hex digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def of(self, subject: Subject, group: Group | None = None) -> list[Finding]:
        """Return the findings about the model or the control, on a group or on all."""
        return [f for f in self.findings if f.subject == subject and group in (None, f.group)]

    def is_of(self, release: ReleaseRecord) -> bool:
        """Tell whether it is the audit of that very model."""
        return (self.version, self.run) == (release.version, release.run)

    @property
    def control(self) -> Finding:
        """What LiRA shows of the over-fitted network's positives.

        The control is caught where that exceeds the limit of a candidate: an instrument that would
        let the over-fitted network pass cannot speak for the candidate.
        """
        positives = self.of("control", "positives")
        return next(f for f in positives if f.attack is Attack.LIKELIHOOD_RATIO)

    @property
    def epsilon(self) -> float | None:
        """Largest lower bound that an attack on the model shows, None where there was no attack."""
        return max((f.result.epsilon for f in self.of("candidate") if f.result), default=None)


def audit_key(recipe: str) -> str:
    """Where the audit of a recipe's latest model is in the coordinator's store."""
    return f"audits/{recipe}.json"


def load_audit(store: SiteStore, recipe: str) -> MembershipAudit:
    """Return the last audit of a recipe.

    Raises:
        ObjectNotFoundError: there was none.
    """
    return documents.load(store, audit_key(recipe), MembershipAudit)


def find_audit(store: SiteStore, recipe: str) -> MembershipAudit | None:
    """Return the last audit of a recipe, None where there was none."""
    return load_audit(store, recipe) if store.exists(audit_key(recipe)) else None


def audit_of(store: SiteStore, release: ReleaseRecord) -> MembershipAudit | None:
    """Return the audit of a release, None where there is none of this very version."""
    audit = find_audit(store, release.recipe.name)
    return audit if audit is not None and audit.is_of(release) else None


def audit_release(settings: Settings, recipe: str) -> MembershipAudit:
    """Have every hospital that trained the latest model attack it; pool and store the outcome.

    Raises:
        ObjectNotFoundError: the recipe was never trained.
        OutdatedModelError: the preprocessor is not the one it was trained with.
        PartitionsMovedOnError: a hospital has other partitions than the model was trained on.
    """
    store = settings.coordinator_store()
    release = load_release(store, recipe)
    model = released_model(store, release, load_result(store, release.run))
    plan = shadow_plan(release.recipe)
    requests = {
        name: AuditModel(run=release.run, model=model, plan=plan, trained_on=manifest.version)
        for name, manifest in release.hospitals.items()
    }
    sites = sites_of(settings).ask_all(requests)
    privacy = release.recipe.privacy
    delta = privacy.delta if privacy else 0.0
    found = MembershipAudit(
        recipe=recipe,
        version=release.version,
        run=release.run,
        partitions={name: site.partitions for name, site in sites.items()},
        claimed_epsilon=privacy.epsilon if privacy else None,
        delta=delta,
        findings=tuple(pool(list(sites.values()), delta)),
    )
    documents.save(store, audit_key(recipe), found)
    return found


def shadow_plan(recipe: Recipe) -> ShadowPlan:
    """Return what a hospital needs to know of a recipe to repeat it alone."""
    return ShadowPlan(
        training=recipe.local_training,
        rounds=recipe.rounds,
        average_rounds=recipe.average_rounds,
        privacy=recipe.privacy,
    )


def pool(sites: Sequence[SiteAudit], delta: float = 0.0) -> Iterator[Finding]:
    """Yield what every attack shows on the hospitals' counts together.

    Args:
        sites: what each hospital released.
        delta: at which epsilon is bounded.
    """
    for subject, group, attack in product(SUBJECTS, GROUPS, Attack):
        released: list[AuditCounts | None] = [getattr(site, subject) for site in sites]
        counts = [c for site in released if site for c in _of_group(site, group, attack)]
        result = judge(total(counts), delta, len(GROUPS) * len(Attack)) if counts else None
        yield Finding(subject=subject, group=group, attack=attack, result=result)


def _of_group(counts: AuditCounts, group: Group, attack: Attack) -> list[ScoreCounts]:
    tables = [counts.positives, counts.negatives] if group == "everybody" else [counts.positives]
    return [table[attack] for table in tables if attack in table]


def log_audit(settings: Settings, found: MembershipAudit) -> ReleaseRecord:
    """Add the figures to the model's MLflow run.

    Returns:
        The release whose run it is.

    Raises:
        TrackingError: MLflow could not be reached.
    """
    release = load_release(settings.coordinator_store(), found.recipe)
    figures: dict[str, float | None] = {"audit/epsilon": found.epsilon}
    for finding in found.findings:
        if finding.result is not None:
            figures[f"audit/{finding.name}/auroc"] = finding.result.auroc
            figures[f"audit/{finding.name}/hits"] = finding.result.hits
    Tracking(settings.tracking_uri, settings.consortium.name).log(
        release.mlflow_run, metrics=figures
    )
    return release
