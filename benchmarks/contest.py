"""The two sides of the round benchmark: the product in process, and the bare loop."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.bare import BareResult, BareSite, run_bare
from benchmarks.setting import RECIPES, deal_folds, load_setting, write_sites
from fl_assets.federation.job import FederationJob, FederationResult
from fl_assets.federation.recipe import Recipe, load_recipe
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.learning.features import Preprocessor
from fl_assets.site.egress import EgressLog
from fl_assets.site.partitions import load_manifest
from fl_assets.site.training import SiteTrainer, load_features
from fl_assets.storage import SiteStore
from fl_assets.tracking.runs import Tracking

FOLDS, SEED = 5, 0
Result = TypeVar("Result")


@dataclass(frozen=True)
class Seconds:
    """What something took, on the clock and of the processor."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Turn:
    """One run of each kind, next to each other.

    Attributes:
        product, mlflow, bare: without and with logging to MLflow, and the plain loop.
        parts: of ``product``, by name.
    """

    product: Seconds
    mlflow: Seconds
    bare: Seconds
    parts: dict[str, Seconds]


class Contest:
    """The two sides on one fold of a data set.

    Args:
        data: as of ``--data``.
        rounds: of training; the recipe's where None.
        home: an empty folder for stores and MLflow.
    """

    def __init__(self, data: str | None, rounds: int | None, home: Path) -> None:
        setting = load_setting(data)
        recipe = load_recipe(RECIPES / "fedavg-lr.yaml")
        self.recipe = Recipe.model_validate(
            recipe.model_dump() | {"rounds": rounds or recipe.rounds}
        )
        self.origin = setting.origin
        self._preprocessor = Preprocessor.public(setting.spec)
        self._stores = write_sites(setting, next(deal_folds(setting, FOLDS, SEED)), home / "sites")
        self._sites = [self._bare_site(name, self._stores[name]) for name in sorted(self._stores)]
        self._output = (home / "coordinator").as_uri()
        self._tracking = Tracking(f"sqlite:///{home}/mlflow.db", "benchmark")
        self._runs = 0

    def _bare_site(self, name: str, store: SiteStore) -> BareSite:
        manifest = load_manifest(store)
        train, validation = (
            load_features(store, manifest, part, self._preprocessor)
            for part in ("train", "validation")
        )
        return BareSite(name, train.X, train.y, validation.X, validation.y)

    def product(self) -> FederationResult:
        """Run the recipe through the product."""
        return InProcessRuntime().run(self._job({}))

    @contextmanager
    def mlflow(self) -> Iterator[Callable[[], FederationResult]]:
        """Yield the same with every round logged to a SQLite MLflow; its run is already open."""
        with self._tracking.run("rounds", {}) as mlflow_run:
            logged = {"tracking_uri": self._tracking.uri, "mlflow_run": mlflow_run}
            yield lambda: InProcessRuntime().run(self._job(logged))

    def bare(self) -> BareResult:
        """Run the plain loop."""
        recipe = self.recipe
        return run_bare(
            self._sites,
            rounds=recipe.rounds,
            batch_size=recipe.batch_size,
            lr=recipe.optimizer.lr,
            momentum=recipe.optimizer.momentum,
            prevalence=self._preprocessor.cohort.label.prevalence,
            seed=recipe.seed,
        )

    def _job(self, logged: Mapping[str, str]) -> FederationJob:
        self._runs += 1
        return FederationJob(
            run=f"benchmark-{self._runs}",
            recipe=self.recipe,
            preprocessor=self._preprocessor,
            sites={name: store.uri for name, store in self._stores.items()},
            output=self._output,
            **logged,
        )


def take_turn(contest: Contest) -> tuple[Turn, FederationResult, BareResult]:
    """Run every side once."""
    with _parts() as parts:
        federated, product = _timed(contest.product)
    parts["messages, aggregation, result"] = Seconds(
        wall=product.wall - sum(part.wall for part in parts.values()),
        cpu=product.cpu - sum(part.cpu for part in parts.values()),
    )
    plain, bare = _timed(contest.bare)
    with contest.mlflow() as run:
        _, mlflow = _timed(run)
    return Turn(product, mlflow, bare, parts), federated, plain


def _timed(
    action: Callable[[], Result], cpu: Callable[[], float] = time.process_time
) -> tuple[Result, Seconds]:
    start, busy = time.perf_counter(), cpu()
    result = action()
    return result, Seconds(time.perf_counter() - start, cpu() - busy)


@contextmanager
def _parts() -> Iterator[dict[str, Seconds]]:
    """Time the sites' work while the block runs; the wrappers cost microseconds a round."""
    watched = {
        "opening the sites' rows": (SiteTrainer, "__init__"),
        "training and validation": (SiteTrainer, "train_round"),
        "final validation": (SiteTrainer, "validate"),
        "egress log": (EgressLog, "release"),
    }
    spent: dict[str, list[Seconds]] = defaultdict(list)
    found: dict[str, Seconds] = {}
    originals = {name: getattr(kind, method) for name, (kind, method) in watched.items()}

    def watch(name: str) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            # Of this thread alone: each site's message has one of its own.
            result, took = _timed(lambda: originals[name](*args, **kwargs), time.thread_time)
            spent[name].append(took)
            return result

        return wrapper

    try:
        for name, (kind, method) in watched.items():
            setattr(kind, method, watch(name))
        yield found
    finally:
        for name, (kind, method) in watched.items():
            setattr(kind, method, originals[name])
            found[name] = Seconds(sum(s.wall for s in spent[name]), sum(s.cpu for s in spent[name]))


def differences(federated: FederationResult, plain: BareResult) -> dict[str, float]:
    """Return the largest absolute differences between the two sides, by what they are in."""
    weights = np.concatenate([w.ravel() for w in federated.weights.values()])
    figures = np.array(
        [
            [site.validation_loss, site.validation_auroc, site.train_loss]
            for report in federated.history.rounds
            for _, site in sorted(report.sites.items())
        ],
        dtype=np.float64,
    )
    # A site without a positive has no AUROC on either side.
    gaps = np.nanmax(np.abs(figures - np.array(plain.history)), axis=0)
    names = ("validation loss", "validation AUROC", "training loss")
    apart = dict(zip(names, map(float, gaps), strict=True))
    return {"weights": float(np.abs(weights - plain.weights).max()), **apart}
