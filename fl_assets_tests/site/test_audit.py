"""The audit at a site: who is attacked with what, and what leaves."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.learning.configs import (
    BCEConfig,
    LocalTraining,
    LogisticRegressionConfig,
    MLPConfig,
    OptimizerConfig,
)
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.training import predict
from fl_assets.privacy.attacks import Attack
from fl_assets.privacy.audit import AttackResult, judge
from fl_assets.privacy.score_counts import AuditCounts, ScoreCounts, total
from fl_assets.site import audit
from fl_assets.site.audit import PartitionsMovedOnError, SiteAudit, attack_control, audit_model
from fl_assets.site.comparison import TrainedModel
from fl_assets.site.egress import EgressLog
from fl_assets.site.partitions import deal_parts, load_manifest
from fl_assets.site.shadows import ShadowPlan, ShadowTraining
from fl_assets.site.training import Features, load_features
from fl_assets.storage import FolderStore
from fl_assets_tests.site.conftest import FRACTIONS, put_parts

LINEAR = ShadowPlan(
    training=LocalTraining(
        model=LogisticRegressionConfig(),
        loss=BCEConfig(),
        optimizer=OptimizerConfig(lr=0.03, momentum=0.9),
        epochs=1,
        batch_size=32,
        proximal_mu=0.0,
        seed=42,
    ),
    rounds=20,
)
BY_HEART = ShadowPlan(
    training=LINEAR.training.model_copy(
        update={
            "model": MLPConfig(hidden=(64, 32)),
            "optimizer": OptimizerConfig(kind="adam", lr=3e-3),
            "epochs": 60,
        }
    )
)


def trained(store: FolderStore, spec: CohortSpec, plan: ShadowPlan) -> TrainedModel:
    """A model that the hospital trained on its training rows."""
    preprocessor = Preprocessor.public(spec)
    rows = load_features(store, load_manifest(store), "train", preprocessor)
    everyone = np.ones(len(rows.X), dtype=bool)
    model = ShadowTraining(plan, preprocessor).train(rows, everyone, seed=1)

    def score(X: NDArray[np.float32]) -> NDArray[np.float64]:
        return predict(model, torch.from_numpy(X))

    return TrainedModel(preprocessor, score, 0.5)


def audited(
    store: FolderStore, spec: CohortSpec, plan: ShadowPlan = LINEAR, minimum: int = 5
) -> SiteAudit:
    return audit_model(
        store,
        "hospital-a",
        trained(store, spec, plan),
        plan,
        trained_on=load_manifest(store).version,
        minimum=minimum,
        run="run-1",
        shadows=4,
    )


def of_positives(counts: AuditCounts | None) -> AttackResult:
    assert counts is not None
    found = judge(counts.positives[Attack.LIKELIHOOD_RATIO])
    assert found is not None
    return found


def test_members_are_the_training_rows_and_others_the_test_rows(
    dealt: FolderStore, stroke: CohortSpec
) -> None:
    found = audited(dealt, stroke)
    manifest = load_manifest(dealt)
    assert found.partitions == manifest.version
    assert found.candidate is not None
    for attack in Attack:
        counts = total([found.candidate.positives[attack], found.candidate.negatives[attack]])
        assert sum(counts.members) == manifest.files["train"].rows
        assert sum(counts.others) == manifest.files["test"].rows


def test_a_model_that_knows_its_rows_by_heart_is_told_from_one_that_does_not(
    dealt: FolderStore, stroke: CohortSpec
) -> None:
    careful, by_heart = audited(dealt, stroke), audited(dealt, stroke, BY_HEART)
    assert of_positives(by_heart.candidate).auroc_low > 0.65
    assert of_positives(careful.candidate).auroc_low < 0.6
    for found in (careful, by_heart):
        assert of_positives(found.control).auroc_low > 0.65
    assert careful.control == by_heart.control


def test_only_counts_of_enough_people_leave_and_they_are_logged(
    dealt: FolderStore, stroke: CohortSpec
) -> None:
    found = audited(dealt, stroke, minimum=7)
    tables: list[ScoreCounts] = []
    for counts in (found.candidate, found.control):
        assert counts is not None
        tables += [*counts.positives.values(), *counts.negatives.values()]
    assert len(tables) == 8
    for table in tables:
        people = np.add(table.members, table.others)
        assert people[people > 0].min() >= 7
    (entry,) = EgressLog(dealt).entries()
    assert (entry.kind, entry.run) == ("audit", "run-1")
    assert entry.sha256 == hashlib.sha256(found.model_dump_json().encode()).hexdigest()


def test_the_same_audit_gives_the_same_counts(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    put_parts(store, stroke, train=patients[:200], test=patients[200:300])
    first = audited(store, stroke)
    for info in store.list("audits/"):
        store.delete(info.key)
    assert audited(store, stroke) == first


def test_the_control_is_attacked_once_per_partitions(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    attacked: list[int] = []

    def counted(rows: Features, preprocessor: Preprocessor, hospital: str) -> AuditCounts:
        attacked.append(len(rows.X))
        return attack_control(rows, preprocessor, hospital)

    monkeypatch.setattr(audit, "attack_control", counted)
    put_parts(store, stroke, train=patients[:200], test=patients[200:300])
    first = audited(store, stroke)
    assert audited(store, stroke, BY_HEART).control == first.control
    assert attacked == [300]
    put_parts(store, stroke, train=patients[:200], test=patients[200:290])
    audited(store, stroke)
    assert attacked == [300, 290]


def test_too_few_positives_to_be_told_are_held_back(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    """Four in training are hidden in the profile; the control must not tell them either."""
    positive = patients[patients["stroke"] == 1]
    negative = patients[patients["stroke"] == 0]
    train = pd.concat([positive[:4], negative[:200]])
    put_parts(store, stroke, train=train, test=pd.concat([positive[4:14], negative[200:260]]))
    found = audited(store, stroke)
    for counts in (found.candidate, found.control):
        assert counts is not None
        assert counts.positives == {}
        assert sum(total(counts.negatives.values()).members) > 0


def test_a_handful_of_rows_is_not_attacked(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    put_parts(store, stroke, train=patients[:19], test=patients[19:60])
    found = audited(store, stroke)
    assert found.candidate is None
    assert found.control is None


def test_members_of_other_partitions_are_not_guessed(
    dealt: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    model, before = trained(dealt, stroke, LINEAR), load_manifest(dealt).version
    put_parts(dealt, stroke, train=patients[:100], test=patients[100:])
    with pytest.raises(PartitionsMovedOnError, match=rf"trained on {before}.*train the recipe"):
        audit_model(dealt, "hospital-a", model, LINEAR, trained_on=before, minimum=5, run="run-1")
    assert EgressLog(dealt).entries() == []


@pytest.mark.real_data
def test_on_the_stroke_data_the_control_is_caught_and_the_recipes_model_is_not(
    store: FolderStore, stroke: CohortSpec, real_patients: pd.DataFrame
) -> None:
    """All patients at one hospital; the bar for the over-fitted network is 0.85."""
    parts = deal_parts(real_patients["id"], FRACTIONS)
    put_parts(store, stroke, **{part: real_patients[parts == part] for part in ("train", "test")})
    found = audited(store, stroke)
    control, careful = of_positives(found.control), of_positives(found.candidate)
    assert control.auroc >= 0.85
    assert control.auroc_low > 0.8
    assert careful.auroc_low < 0.56
    assert careful.auroc < 0.65
    # The average hides the exposure of the few.
    assert found.control is not None
    everybody = judge(
        total(
            c[Attack.LIKELIHOOD_RATIO] for c in (found.control.positives, found.control.negatives)
        )
    )
    assert everybody is not None
    assert everybody.auroc < 0.6
