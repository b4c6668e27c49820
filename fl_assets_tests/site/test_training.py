from __future__ import annotations

import hashlib
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score
from torch import Tensor

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.learning.configs import (
    BCEConfig,
    LocalTraining,
    LogisticRegressionConfig,
    MLPConfig,
    OptimizerConfig,
    WeightedBCEConfig,
)
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.models import model_for
from fl_assets.site.partitions import Part, load_manifest, load_part
from fl_assets.site.training import NoTrainingRowsError, SiteTrainer, Validation
from fl_assets.storage import FolderStore, ObjectNotFoundError
from fl_assets_tests.site.conftest import put_parts

PLAN = LocalTraining(
    model=MLPConfig(hidden=(8,)),
    loss=BCEConfig(),
    optimizer=OptimizerConfig(kind="adam", lr=0.01),
    epochs=2,
    batch_size=32,
    proximal_mu=0.1,
    seed=3,
)


@pytest.fixture(scope="session")
def preprocessor(stroke: CohortSpec) -> Preprocessor:
    return Preprocessor.public(stroke)


@pytest.fixture(scope="session")
def start(preprocessor: Preprocessor) -> dict[str, Tensor]:
    """Global weights to begin with."""
    return model_for(PLAN.model, preprocessor, 3).state_dict()


def digest(weights: dict[str, Tensor]) -> str:
    parts = [weights[name].numpy().tobytes() for name in sorted(weights)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_a_round_is_the_same_in_every_trainer(
    dealt: FolderStore, preprocessor: Preprocessor, start: dict[str, Tensor]
) -> None:
    first, second = (SiteTrainer("a", dealt, PLAN, preprocessor) for _ in range(2))
    one = first.train_round(start, 1)
    # The second has another past, and the global random state has moved.
    second.train_round(start, 7)
    torch.rand(3)
    two = second.train_round(start, 1)
    assert digest(one.weights) == digest(two.weights)
    assert (one.loss, one.validation, one.examples) == (two.loss, two.validation, two.examples)


CODE = """
import hashlib, sys, torch
from fl_assets.learning.configs import LocalTraining
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.models import model_for
from fl_assets.site.training import SiteTrainer
from fl_assets.storage import open_store
torch.rand(5)
preprocessor = Preprocessor.model_validate_json(sys.argv[3])
plan = LocalTraining.model_validate_json(sys.argv[2])
start = model_for(plan.model, preprocessor, 3).state_dict()
trainer = SiteTrainer("a", open_store(sys.argv[1]), plan, preprocessor)
weights = trainer.train_round(start, 4).weights
parts = [weights[name].numpy().tobytes() for name in sorted(weights)]
print(hashlib.sha256(b"".join(parts)).hexdigest())
"""


def test_a_round_is_the_same_in_another_process(
    dealt: FolderStore, preprocessor: Preprocessor, start: dict[str, Tensor]
) -> None:
    here = SiteTrainer("a", dealt, PLAN, preprocessor).train_round(start, 4)
    asked = [dealt.uri, PLAN.model_dump_json(), preprocessor.model_dump_json()]
    there = subprocess.run(
        [sys.executable, "-c", CODE, *asked], capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == digest(here.weights)


def test_every_hospital_round_and_seed_shuffles_anew(
    dealt: FolderStore, preprocessor: Preprocessor, start: dict[str, Tensor]
) -> None:
    a, b = (SiteTrainer(name, dealt, PLAN, preprocessor) for name in "ab")
    other = SiteTrainer("a", dealt, PLAN.model_copy(update={"seed": 4}), preprocessor)
    updates = [
        a.train_round(start, 1),
        a.train_round(start, 2),
        b.train_round(start, 1),
        other.train_round(start, 1),
    ]
    assert len({digest(update.weights) for update in updates}) == 4


def test_an_update_is_not_changed_by_the_next_round(
    dealt: FolderStore, preprocessor: Preprocessor, start: dict[str, Tensor]
) -> None:
    trainer = SiteTrainer("a", dealt, PLAN, preprocessor)
    before = digest(start)
    update = trainer.train_round(start, 1)
    told = digest(update.weights)
    trainer.train_round(update.weights, 2)
    trainer.validate(start)
    assert digest(update.weights) == told
    assert digest(start) == before != told


def test_training_helps_and_counts_its_rows(
    dealt: FolderStore, preprocessor: Preprocessor, start: dict[str, Tensor]
) -> None:
    trainer = SiteTrainer("a", dealt, PLAN, preprocessor)
    weights, losses = start, []
    for round_ in range(1, 6):
        update = trainer.train_round(weights, round_)
        weights = update.weights
        losses.append(update.loss)
    assert losses[-1] < losses[0]
    manifest = load_manifest(dealt)
    assert update.examples == manifest.files["train"].rows
    assert update.seconds > 0
    assert trainer.rows.partitions == manifest.version


def test_fine_tuning_goes_on_from_the_weights_that_came_in(
    dealt: FolderStore, preprocessor: Preprocessor, start: dict[str, Tensor]
) -> None:
    trainer = SiteTrainer("a", dealt, PLAN, preprocessor)
    before = digest(start)
    tuned = trainer.fine_tune(start, 3, 0.001)
    trainer.train_round(start, 1)
    assert digest(start) == before
    # The same in every trainer, and a smaller step than the plan's rate takes.
    again = SiteTrainer("a", dealt, PLAN, preprocessor)
    assert digest(again.fine_tune(start, 3, 0.001)) == digest(tuned)
    far = trainer.fine_tune(start, 3, None)

    def distance(weights: dict[str, Tensor]) -> float:
        return sum(float((w - start[name]).square().sum()) for name, w in weights.items())

    assert 0 < distance(tuned) < distance(far)
    assert digest(trainer.fine_tune(start, 3, PLAN.optimizer.lr)) == digest(far)


def test_the_loss_is_the_plans(
    dealt: FolderStore, preprocessor: Preprocessor, start: dict[str, Tensor]
) -> None:
    """A weight on label 1 pulls every probability up."""
    plan = PLAN.model_copy(update={"loss": WeightedBCEConfig(positive_weight=20)})
    weighted = SiteTrainer("a", dealt, plan, preprocessor).train_round(start, 1).weights
    trainer = SiteTrainer("a", dealt, PLAN, preprocessor)
    plain = trainer.train_round(start, 1).weights
    weighted_threshold, plain_threshold = (
        trainer.validate(weights).threshold for weights in (weighted, plain)
    )
    assert weighted_threshold is not None
    assert plain_threshold is not None
    assert weighted_threshold > plain_threshold


def test_validation_is_of_the_weights_that_came_in(
    dealt: FolderStore, preprocessor: Preprocessor, stroke: CohortSpec
) -> None:
    plan = PLAN.model_copy(update={"model": LogisticRegressionConfig()})
    trainer = SiteTrainer("a", dealt, plan, preprocessor)
    weights = model_for(plan.model, preprocessor, 0).state_dict()
    weights["0.weight"] = torch.linspace(-1, 1, weights["0.weight"].numel())[None]
    rows = load_part(dealt, load_manifest(dealt), "validation")
    X, y = preprocessor.transform(rows).astype(float), rows["stroke"].to_numpy()
    logits = X @ weights["0.weight"].numpy().astype(float).T + float(weights["0.bias"])
    scores = 1 / (1 + np.exp(-logits[:, 0]))
    for found in (trainer.train_round(weights, 1).validation, trainer.validate(weights)):
        assert found.examples == len(rows)
        assert found.loss == pytest.approx(log_loss(y, scores), abs=1e-5)
        assert found.auroc == pytest.approx(roc_auc_score(y, scores), abs=1e-3)
    # The threshold leaves a fifth of the healthy above.
    assert trainer.train_round(weights, 1).validation.threshold is None
    threshold = trainer.validate(weights).threshold
    assert threshold is not None
    healthy = scores[y == 0]
    assert (healthy < threshold).sum() == math.ceil(0.8 * len(healthy))


def test_a_trainer_keeps_the_partitions_it_began_with(
    dealt: FolderStore,
    preprocessor: Preprocessor,
    start: dict[str, Tensor],
    stroke: CohortSpec,
    patients: pd.DataFrame,
) -> None:
    trainer = SiteTrainer("a", dealt, PLAN, preprocessor)
    first = trainer.train_round(start, 1)
    put_parts(dealt, stroke, train=patients.iloc[:50], test=patients.iloc[50:])
    assert digest(trainer.train_round(start, 1).weights) == digest(first.weights)
    assert trainer.rows.partitions != load_manifest(dealt).version
    assert SiteTrainer("a", dealt, PLAN, preprocessor).train_round(start, 1).examples == 50


def test_no_training_rows(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame, preprocessor: Preprocessor
) -> None:
    put_parts(store, stroke, validation=patients.iloc[:10], test=patients.iloc[10:])
    with pytest.raises(NoTrainingRowsError, match="hospital-x has no training row in partitions"):
        SiteTrainer("hospital-x", store, PLAN, preprocessor)


def test_no_partitions(store: FolderStore, preprocessor: Preprocessor) -> None:
    with pytest.raises(ObjectNotFoundError):
        SiteTrainer("a", store, PLAN, preprocessor)


def test_no_validation_rows(
    store: FolderStore,
    stroke: CohortSpec,
    patients: pd.DataFrame,
    preprocessor: Preprocessor,
    start: dict[str, Tensor],
) -> None:
    put_parts(store, stroke, train=patients.iloc[:40], test=patients.iloc[40:])
    trainer = SiteTrainer("a", store, PLAN, preprocessor)
    nothing = Validation(examples=0, loss=None, auroc=None, threshold=None)
    assert trainer.train_round(start, 1).validation == nothing
    assert trainer.validate(start) == nothing


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_in_validation(
    label: int,
    store: FolderStore,
    stroke: CohortSpec,
    patients: pd.DataFrame,
    preprocessor: Preprocessor,
    start: dict[str, Tensor],
) -> None:
    rows = patients[patients["stroke"] == label].iloc[:20]
    put_parts(store, stroke, train=patients.iloc[:40], validation=rows)
    found = SiteTrainer("a", store, PLAN, preprocessor).validate(start)
    assert found.examples == 20
    assert found.loss is not None
    assert found.auroc is None
    assert (found.threshold is None) == (label == 1)


def test_training_reads_no_test_row(
    store: FolderStore,
    stroke: CohortSpec,
    patients: pd.DataFrame,
    preprocessor: Preprocessor,
    start: dict[str, Tensor],
) -> None:
    frames: dict[Part, pd.DataFrame] = {
        "train": patients.iloc[:40],
        "validation": patients.iloc[40:60],
        "test": patients.iloc[60:],
    }
    put_parts(store, stroke, **frames)
    store.delete(load_manifest(store).files["test"].key)
    assert SiteTrainer("a", store, PLAN, preprocessor).train_round(start, 1).examples == 40
