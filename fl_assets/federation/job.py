"""A federated training job and its result, in the form that every runtime takes and gives."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from fl_assets.config import StrictModel
from fl_assets.consortium import PrivacyBudget
from fl_assets.errors import FlAssetsError
from fl_assets.federation.recipe import Recipe
from fl_assets.federation.rounds import Phase, RoundReport
from fl_assets.federation.site_config import SiteConfig
from fl_assets.federation.statement import PrivacyStatement
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.weights import Weights, weights_from_bytes, weights_to_bytes
from fl_assets.storage import Access, SiteStore
from fl_assets.storage.documents import load_document


class FederationError(FlAssetsError):
    """A federated run that did not end with a model."""


class FederationJob(StrictModel):
    """One federated training.

    Attributes:
        run: name of the run in logs, stores and messages.
        recipe: what to train and how.
        preprocessor: from raw columns to features, the same at every site.
        sites: URI of each hospital's store, by hospital.
        output: URI of the coordinator's store; the result goes under ``runs/<run>/``.
        tracking_uri, mlflow_run: where rounds are logged as they end; nowhere if None.
        progress: whether to show a line per round.
        metrics_port: where the server process serves Prometheus metrics during the run, on
            loopback; nowhere if None or 0. One that is taken costs the metrics, not the run.
        resume: go on from the last checkpoint of a run of this name, if it left one.
        keep_checkpoints: of the last rounds; older ones are deleted, and all when the run ends.
        witnesses: the head of each hospital's ledger that the coordinator saw last, as JSON. A
            ledger without it was rolled back, and its site refuses.
        access, budgets, noise_seed: for the nodes of hospitals that this machine plays, see
            :class:`fl_assets.federation.site_config.SiteConfig`; no message carries them. Without
            a budget such a hospital has the default one, which allows no unprotected run.
    """

    run: str
    recipe: Recipe
    preprocessor: Preprocessor
    sites: dict[str, str]
    output: str
    tracking_uri: str | None = None
    mlflow_run: str | None = None
    progress: bool = False
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    resume: bool = True
    keep_checkpoints: Annotated[int, Field(ge=1)] = 2
    witnesses: dict[str, str] = Field(default={})
    access: dict[str, Access] = Field(default={})
    budgets: dict[str, PrivacyBudget] = Field(default={})
    noise_seed: int | None = None

    def run_config(self) -> dict[str, bool | float | int | str]:
        """What the server and every client get to know, in Flower's flat form.

        The stores and budgets of the sites are not in it: a site has its own from its node's
        config.
        """
        return {
            "run": self.run,
            "recipe": self.recipe.model_dump_json(),
            "preprocessor": self.preprocessor.model_dump_json(),
            "output": self.output,
            "tracking-uri": self.tracking_uri or "",
            "mlflow-run": self.mlflow_run or "",
            "progress": self.progress,
            "metrics-port": self.metrics_port or 0,
            "resume": self.resume,
            "keep-checkpoints": self.keep_checkpoints,
            "witnesses": json.dumps(self.witnesses),
        }

    def nodes(self) -> dict[str, SiteConfig]:
        """Return the config of each hospital's node, for a runtime that plays the hospitals."""
        return {
            name: SiteConfig(
                hospital=name,
                store=store,
                access=self.access.get(name, Access()),
                budget=self.budgets.get(name, PrivacyBudget()),
                noise_seed=self.noise_seed,
            )
            for name, store in sorted(self.sites.items())
        }


class FinalReport(StrictModel):
    """How the last global model does on a site's validation rows.

    Attributes:
        examples: validation rows.
        loss, auroc: None where the metric does not exist.
        threshold: the operating threshold that the site would choose, None without one.
        personal_loss, personal_auroc: of the hospital's own model, None where it has none.
        privacy: what the run cost the hospital's patients, in the hospital's own words.
    """

    examples: int
    loss: float | None
    auroc: float | None
    threshold: float | None
    personal_loss: float | None = None
    personal_auroc: float | None = None
    privacy: PrivacyStatement | None = None


class FederationHistory(StrictModel):
    """Everything of a finished run but the weights.

    Attributes:
        rounds: of training, in order.
        final: the last model's validation, by hospital.
        pretraining: its rounds, in order; empty where the recipe asks for none.
        resumed: rounds of training after which the run was taken up again; 0 while it was still
            in pre-training. An attempt that ended before its first round did is not among them.
    """

    rounds: tuple[RoundReport, ...]
    final: dict[str, FinalReport]
    pretraining: tuple[RoundReport, ...] = ()
    resumed: tuple[int, ...] = ()

    def with_rounds(self, phase: Phase, reports: Sequence[RoundReport]) -> FederationHistory:
        """Return this history with further rounds of a phase."""
        field = "rounds" if phase == "training" else "pretraining"
        return self.model_copy(update={field: (*getattr(self, field), *reports)})

    @property
    def by_phase(self) -> Iterator[tuple[Phase, RoundReport]]:
        """Every round with the phase that it belongs to, in order."""
        yield from (("pretraining", report) for report in self.pretraining)
        yield from (("training", report) for report in self.rounds)

    @property
    def participants(self) -> dict[str, str]:
        """Partition version of every hospital that took part in any round."""
        return {
            name: site.partitions
            for _, report in self.by_phase
            for name, site in report.sites.items()
        }


@dataclass(frozen=True)
class FederationResult:
    """A finished run: the global weights by parameter name, and its history."""

    weights: Weights
    history: FederationHistory


def save_result(store: SiteStore, run: str, result: FederationResult) -> None:
    """Store a result under ``runs/<run>/``; the history goes last and marks it complete."""
    store.put(f"runs/{run}/weights.npz", weights_to_bytes(result.weights))
    store.put(f"runs/{run}/history.json", result.history.model_dump_json(indent=2).encode())


def load_result(store: SiteStore, run: str) -> FederationResult:
    """Load a stored result.

    Raises:
        ObjectNotFoundError: the run left none, so it did not finish.
    """
    history = load_document(store, f"runs/{run}/history.json", FederationHistory)
    return FederationResult(weights_from_bytes(store.get(f"runs/{run}/weights.npz")), history)
