"""Requests about models on a hospital's rows."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from fl_assets.config import StrictModel
from fl_assets.learning.features import Preprocessor
from fl_assets.privacy.configs import PrivacyConfig
from fl_assets.site.audit import SiteAudit, audit_model
from fl_assets.site.comparison import SiteComparison, compare_models
from fl_assets.site.egress import EgressLog
from fl_assets.site.evaluation import SiteEvaluation, evaluate_model, fit_local, not_evaluated
from fl_assets.site.model_data import ModelData
from fl_assets.site.noised_evaluation import noised_figures
from fl_assets.site.shadows import ShadowPlan
from fl_assets.site.tasks.base import Request, Site


class LocalBaseline(StrictModel):
    """What a hospital reaches alone.

    Attributes:
        evaluation: of its model on its test rows.
        chosen: the configuration that tuning on its validation rows chose; empty without a model.
    """

    evaluation: SiteEvaluation
    chosen: dict[str, Any]


class FitBaseline(Request[LocalBaseline]):
    """Fit a model to the hospital's own rows alone, and evaluate it there.

    Attributes:
        seed: of the fit.
    """

    task: Literal["baseline"] = "baseline"
    seed: int

    def perform(self, site: Site) -> LocalBaseline:
        """The model does not leave the hospital."""
        preprocessor = Preprocessor.public(site.cohort)
        alone = fit_local(site.store, preprocessor, self.seed)
        if alone is None:
            return LocalBaseline(evaluation=not_evaluated(site.store), chosen={})
        found = evaluate_model(
            site.store,
            preprocessor,
            alone.scores,
            threshold=None,
            minimum=site.consortium.minimum_cell,
            run=self.run,
        )
        # The figures are in the log already.
        chosen = json.dumps(alone.params, sort_keys=True).encode()
        EgressLog(site.store).release("evaluation", self.run, chosen, "what tuning chose")
        return LocalBaseline(evaluation=found, chosen=alone.params)


class EvaluateModel(Request[SiteEvaluation]):
    """Evaluate a model on the hospital's test rows.

    Attributes:
        model: to evaluate.
        personal: whether its run left the hospitals models of their own to compare it with.
        privacy: of its recipe, which may want the figures noised.
    """

    task: Literal["evaluate"] = "evaluate"
    model: ModelData
    personal: bool = False
    privacy: PrivacyConfig | None = None

    def perform(self, site: Site) -> SiteEvaluation:
        """As :func:`fl_assets.site.evaluation.evaluate_model`."""
        consortium, model = site.consortium, self.model.of_cohort(site.cohort)
        return evaluate_model(
            site.store,
            model.preprocessor,
            model.scorer,
            threshold=model.threshold,
            minimum=consortium.minimum_cell,
            run=self.run,
            personal=self.model.config if self.personal else None,
            noised=noised_figures(self.privacy, site.hospital, consortium.budget(site.hospital)),
        )


class CompareModels(Request[SiteComparison]):
    """Compare two models row by row on the hospital's test rows."""

    task: Literal["compare"] = "compare"
    a: ModelData
    b: ModelData

    def perform(self, site: Site) -> SiteComparison:
        """As :func:`fl_assets.site.comparison.compare_models`."""
        a, b = self.a.of_cohort(site.cohort), self.b.of_cohort(site.cohort)
        minimum = site.consortium.minimum_cell
        return compare_models(site.store, a, b, minimum=minimum, run=self.run)


class AuditModel(Request[SiteAudit]):
    """Attack a model on the rows that it was trained on.

    Attributes:
        model: to attack.
        plan: of its recipe.
        trained_on: version of the hospital's partitions whose training rows it saw.
    """

    task: Literal["audit"] = "audit"
    model: ModelData
    plan: ShadowPlan
    trained_on: str

    def perform(self, site: Site) -> SiteAudit:
        """As :func:`fl_assets.site.audit.audit_model`."""
        return audit_model(
            site.store,
            site.hospital,
            self.model.of_cohort(site.cohort),
            self.plan,
            trained_on=self.trained_on,
            minimum=site.consortium.minimum_cell,
            run=self.run,
        )


ModelRequest = Annotated[
    FitBaseline | EvaluateModel | CompareModels | AuditModel, Field(discriminator="task")
]
"""All that a hospital may be asked about models."""
