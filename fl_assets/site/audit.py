"""The audit at a site: an attack on a model by the hospital whose rows it was trained on.

The training rows are the members, the test rows, which no training sees, are not. The shadow models
of the attack are trained here on both and never leave; what leaves are counts of people by attack
score. They are exact, so they lie outside the epsilon of a private recipe.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from fl_assets.config import StrictModel
from fl_assets.errors import FlAssetsError
from fl_assets.learning.configs import BCEConfig, LocalTraining, MLPConfig, OptimizerConfig
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.inputs import Bools
from fl_assets.learning.training import derive_seed, predict
from fl_assets.privacy.attacks import confidence
from fl_assets.privacy.score_counts import AuditCounts, count_attacks
from fl_assets.site import partitions
from fl_assets.site.comparison import TrainedModel
from fl_assets.site.egress import EgressLog
from fl_assets.site.shadows import ShadowPlan, ShadowTraining
from fl_assets.site.training import Features, load_features
from fl_assets.storage import ObjectNotFoundError, SiteStore
from fl_assets.storage.documents import load_document

SHADOWS = 16

CONTROL = ShadowPlan(
    training=LocalTraining(
        model=MLPConfig(hidden=(64, 32)),
        loss=BCEConfig(),
        optimizer=OptimizerConfig(kind="adam", lr=3e-3),
        epochs=150,
        batch_size=64,
        proximal_mu=0.0,
        seed=0,
    )
)
"""The positive control: a network that knows its rows by heart, so that an attack that does not
catch it is known to be blind."""

CONTROL_SHADOWS = 8

FEWEST_ROWS = 20
"""Below this a half of the rows may be empty."""


class PartitionsMovedOnError(FlAssetsError):
    """The hospital's partitions are not those that the model was trained on."""

    def __init__(self, hospital: str, found: str, trained_on: str) -> None:
        super().__init__(
            f"{hospital} has partitions {found} and the model was trained on {trained_on}, so "
            "nobody can tell its members any more: train the recipe anew, then audit it"
        )


class SiteAudit(StrictModel):
    """What a hospital says of attacks; only counts, the floor applied.

    Attributes:
        partitions: version of the partitions behind it.
        candidate: attacks on the model; None where there are too few rows.
        control: the same attacks on an over-fitted network of the hospital's own.
    """

    partitions: str
    candidate: AuditCounts | None
    control: AuditCounts | None


def audit_model(
    store: SiteStore,
    hospital: str,
    model: TrainedModel,
    plan: ShadowPlan,
    *,
    trained_on: str,
    minimum: int,
    run: str,
    shadows: int = SHADOWS,
) -> SiteAudit:
    """Attack a model on the hospital's rows and log the release.

    Args:
        store: the hospital's.
        hospital: name; with the recipe's seed it seeds the shadow models.
        model: to be attacked.
        plan: of its recipe.
        trained_on: version of the partitions whose training rows it saw.
        minimum: smallest number of people that a released cell may stand for. Where the training
            rows of label 1 are fewer, nothing of that label leaves: the profile hides their number.
        run: of the model, for the egress log.
        shadows: shadow models, an even number of at least 4.

    Raises:
        PartitionsMovedOnError: the hospital has other partitions now.
    """
    manifest = partitions.load_manifest(store)
    if manifest.version != trained_on:
        raise PartitionsMovedOnError(hospital, manifest.version, trained_on)
    candidate = control = None
    if manifest.files["train"].rows >= max(minimum, FEWEST_ROWS):
        rows, member = _open_rows(store, manifest, model.preprocessor)
        y = rows.y.numpy()
        # Together with the evaluation the counts tell how many members have label 1.
        told = int(np.count_nonzero(y[member])) >= minimum
        target = confidence(y, model.scorer(rows.X.numpy()))
        seed = derive_seed(plan.training.seed, hospital, "audit")
        against = ShadowTraining(plan, model.preprocessor).confidences(rows, shadows, seed)
        candidate = count_attacks(y, member, target, *against).floored(minimum, told)
        public = Preprocessor.public(model.preprocessor.cohort)
        control = _control(store, hospital, manifest, public).floored(minimum, told)
    found = SiteAudit(partitions=manifest.version, candidate=candidate, control=control)
    EgressLog(store).release("audit", run, found.model_dump_json().encode(), "counts")
    return found


def _open_rows(
    store: SiteStore, manifest: partitions.PartitionManifest, preprocessor: Preprocessor
) -> tuple[Features, Bools]:
    """Open the rows that the model saw, then those that it did not; which is which, [n]."""
    train, test = (load_features(store, manifest, p, preprocessor) for p in ("train", "test"))
    rows = Features(torch.cat([train.X, test.X]), torch.cat([train.y, test.y]))
    return rows, np.arange(len(rows.X)) < len(train.X)


def _control(
    store: SiteStore,
    hospital: str,
    manifest: partitions.PartitionManifest,
    preprocessor: Preprocessor,
) -> AuditCounts:
    """Attack the positive control; the same for all recipes, so the site keeps the outcome."""
    version = "\x1f".join(
        [manifest.version, preprocessor.version, CONTROL.model_dump_json(), str(CONTROL_SHADOWS)]
    )
    key = f"audits/control-{hashlib.sha256(version.encode()).hexdigest()[:16]}.json"
    try:
        return load_document(store, key, AuditCounts)
    except ObjectNotFoundError:
        found = attack_control(_open_rows(store, manifest, preprocessor)[0], preprocessor, hospital)
    store.put(key, found.model_dump_json().encode())
    return found


def attack_control(rows: Features, preprocessor: Preprocessor, hospital: str) -> AuditCounts:
    """Over-fit a network to half of the rows [n, d] and attack it with others like it."""
    training = ShadowTraining(CONTROL, preprocessor)
    seed = derive_seed(hospital, "control")
    member = np.random.default_rng(seed).random(len(rows.X)) < 0.5
    y = rows.y.numpy()
    target = confidence(y, predict(training.train(rows, member, seed), rows.X))
    return count_attacks(y, member, target, *training.confidences(rows, CONTROL_SHADOWS, seed))
