"""The model card of a candidate (Mitchell et al. 2019, "Model Cards for Model Reporting")."""

from __future__ import annotations

from fl_assets.coordinator.audit import audit_of
from fl_assets.coordinator.audit_report import shown
from fl_assets.coordinator.decision import Promotion
from fl_assets.coordinator.evaluation import ModelEvaluation
from fl_assets.coordinator.release import ReleaseRecord
from fl_assets.learning.metrics import Metric
from fl_assets.privacy.attacks import Attack
from fl_assets.reporting.text import interval
from fl_assets.settings import Settings


def model_card(settings: Settings, decision: Promotion, found: ModelEvaluation) -> str:
    """Return the card as Markdown: what the model is, for whom, how good, what it is not."""
    release, cohort = decision.candidate, settings.cohort
    sites = "\n".join(
        f"| {name} | {e.n} | {e.positives} | {interval(e)} | {e.brier:.4f} | {e.ece:.4f} |"
        if (e := site.evaluation) is not None
        else f"| {name} | too few | n/a | n/a | n/a | n/a |"
        for name, site in found.sites.items()
    )
    behind = f"{found.behind(Metric.AUROC)} of {len(found.sites)} hospitals"
    gates = "\n".join(
        f"| {g.gate} | {g.asked} | {g.found} | {'passed' if g.passed else 'FAILED'} |"
        for g in decision.gates
    )
    auroc, age = found.mean(Metric.AUROC), found.gain_over_age_only
    noised = found.noised
    noise = f" Noised, epsilon {noised.epsilon:g} at each hospital." if noised else ""
    return f"""# {release.model} version {release.version}

**What it is.** Recipe `{release.recipe.name}` ({release.recipe.description}), trained on
{cohort.title} by {len(release.hospitals)} hospitals over {len(release.rounds)} rounds. Patient
rows stayed at their hospitals.

**Use.** Input: raw columns {", ".join(cohort.column_names)}. Output: probability of
`{cohort.label.column}` and a flag from {release.threshold:.4f} up, the operating point that leaves
a fifth of the healthy above it on validation rows.

**How good.** Mean AUROC over {behind} {_show(auroc)}, {_show(age, sign=True)} over age
alone.{noise}

| hospital | test rows | positives | AUROC [95 %] | Brier | ECE |
|---|---|---|---|---|---|
{sites}

**Gates.**

| gate | asked | found | verdict |
|---|---|---|---|
{gates}

**Privacy.** {release.privacy}. {_audited(settings, release)}

**What it is not.** No clinical validation: evaluated on held-out rows of the same hospitals. An
AUROC behind which stand a handful of positives says little; read its interval.

**Where it came from.** Run `{release.run}`, MLflow run `{release.mlflow_run}`, recipe
`{release.recipe_hash}`, contract `{release.contract}`, preprocessor `{release.preprocessor}`,
fl_assets {release.code_version}. The release record names every partition file by its SHA-256.
"""


def _audited(settings: Settings, release: ReleaseRecord) -> str:
    audit = audit_of(settings.coordinator_store(), release)
    if audit is None:
        return "Nobody has audited this version."
    attacks = [f for f in audit.of("candidate") if f.attack is Attack.LIKELIHOOD_RATIO]
    found = ", ".join(f"{finding.group} {shown(finding)}" for finding in attacks)
    return f"An attack on who was trained on (LiRA; AUROC, 0.5 is chance) found: {found}."


def _show(figure: float | None, sign: bool = False) -> str:
    if figure is None:
        return "not available"
    return f"{figure:+.4f}" if sign else f"{figure:.4f}"
