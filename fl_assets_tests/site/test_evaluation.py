from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.learning.configs import LogisticRegressionConfig
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.metrics import Metric, threshold_at_specificity
from fl_assets.site.egress import EgressLog
from fl_assets.site.evaluation import (
    SiteEvaluation,
    age_score,
    evaluate_model,
    fit_local,
    labels,
)
from fl_assets.site.partitions import PARTS, load_manifest, load_part
from fl_assets.site.personal import save_personal
from fl_assets.storage import FolderStore, ObjectNotFoundError
from fl_assets_tests.site.conftest import put_parts


@pytest.fixture(scope="session")
def preprocessor(stroke: CohortSpec) -> Preprocessor:
    return Preprocessor.public(stroke)


def by_glucose(X: NDArray[np.float32]) -> NDArray[np.float64]:
    """A model that knows one column."""
    return 1 / (1 + np.exp(-X[:, GLUCOSE].astype(np.float64)))


GLUCOSE = 10


def evaluate(store: FolderStore, preprocessor: Preprocessor, minimum: int = 5) -> SiteEvaluation:
    assert preprocessor.feature_names[GLUCOSE] == "avg_glucose_level"
    return evaluate_model(
        store, preprocessor, by_glucose, threshold=0.6, minimum=minimum, run="run-1"
    )


def test_figures_are_those_of_the_test_rows(
    dealt: FolderStore, stroke: CohortSpec, preprocessor: Preprocessor
) -> None:
    manifest = load_manifest(dealt)
    test = load_part(dealt, manifest, "test")
    found = evaluate(dealt, preprocessor)
    assert found.partitions == manifest.version
    assert found.evaluation is not None
    assert found.evaluation.n == len(test)
    assert found.evaluation.positives == test["stroke"].sum()
    assert found.evaluation.threshold == 0.6
    expected = roc_auc_score(test["stroke"], test["avg_glucose_level"].clip(50, 300))
    assert found.evaluation.auroc == pytest.approx(expected, abs=1e-6)
    assert found.age_only_auroc == pytest.approx(roc_auc_score(test["stroke"], test["age"]))


def test_subgroups(dealt: FolderStore, stroke: CohortSpec, preprocessor: Preprocessor) -> None:
    test = load_part(dealt, load_manifest(dealt), "test")
    test = test.assign(score=by_glucose(preprocessor.transform(test)))
    found = evaluate(dealt, preprocessor, minimum=5).subgroups
    assert list(found) == ["gender", "hypertension", "smoking_status"]
    seen = set()
    for column, groups in found.items():
        for name, rows in test.groupby(column):
            if len(rows) < 5:
                assert str(name) not in groups
                continue
            group = groups[str(name)]
            assert group.n == len(rows)
            positives = rows["stroke"].sum()
            seen.add(5 <= positives <= len(rows) - 5)
            if 5 <= positives <= len(rows) - 5:
                expected = roc_auc_score(rows["stroke"], rows["score"])
                assert group.auroc == pytest.approx(expected, abs=1e-6)
            else:
                assert group.auroc is None
    assert seen == {True, False}


def test_the_floor_of_subgroups(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame, preprocessor: Preprocessor
) -> None:
    gender = ["Male"] * 4 + ["Other"] * 5 + ["Female"] * 191
    label = [0] * 4 + [0] * 5 + [1] * 4 + [0] * 187
    test = patients.iloc[:200].assign(gender=gender, stroke=np.array(label, dtype="int8"))
    put_parts(store, stroke, test=test)
    groups = evaluate(store, preprocessor).subgroups["gender"]
    assert {name: group.n for name, group in groups.items()} == {"Female": 191, "Other": 5}
    assert [group.auroc for group in groups.values()] == [None, None]
    groups = evaluate(store, preprocessor, minimum=4).subgroups["gender"]
    assert {name: group.auroc is None for name, group in groups.items()} == {
        "Female": False,
        "Male": True,
        "Other": True,
    }


@pytest.mark.parametrize("rows", [0, 4])
def test_too_few_rows_say_nothing(
    rows: int,
    store: FolderStore,
    stroke: CohortSpec,
    patients: pd.DataFrame,
    preprocessor: Preprocessor,
) -> None:
    put_parts(store, stroke, test=patients.iloc[:rows])
    assert evaluate(store, preprocessor) == SiteEvaluation(
        partitions=load_manifest(store).version,
        evaluation=None,
        age_only_auroc=None,
        subgroups={},
    )
    assert [entry.kind for entry in EgressLog(store).entries()] == ["evaluation"]


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_has_no_auroc(
    label: int,
    store: FolderStore,
    stroke: CohortSpec,
    patients: pd.DataFrame,
    preprocessor: Preprocessor,
) -> None:
    put_parts(store, stroke, test=patients[patients["stroke"] == label].iloc[:50])
    found = evaluate(store, preprocessor)
    assert found.evaluation is not None
    assert found.evaluation.n == 50
    assert found.evaluation.auroc is None
    assert found.evaluation.roc == []
    assert found.age_only_auroc is None
    assert found.evaluation.brier > 0
    assert {g.auroc for groups in found.subgroups.values() for g in groups.values()} == {None}


def test_what_is_said_is_written_down(dealt: FolderStore, preprocessor: Preprocessor) -> None:
    said = evaluate(dealt, preprocessor).model_dump_json().encode()
    (entry,) = EgressLog(dealt).entries()
    assert (entry.kind, entry.run, entry.detail) == ("evaluation", "run-1", "test rows")
    assert entry.sha256 == hashlib.sha256(said).hexdigest()


def own_weights(preprocessor: Preprocessor) -> dict[str, torch.Tensor]:
    weight = torch.zeros(1, len(preprocessor.feature_names))
    weight[0, preprocessor.feature_names.index("age")] = 2.0
    return {"0.weight": weight, "0.bias": torch.tensor([-1.0])}


def beside(store: FolderStore, preprocessor: Preprocessor, run: str = "run-1") -> SiteEvaluation:
    return evaluate_model(
        store,
        preprocessor,
        by_glucose,
        threshold=0.6,
        minimum=5,
        run=run,
        personal=LogisticRegressionConfig(),
    )


def test_a_hospitals_own_model_stands_beside_the_global_one(
    dealt: FolderStore, preprocessor: Preprocessor
) -> None:
    save_personal(dealt, "run-1", own_weights(preprocessor))
    found = beside(dealt, preprocessor)
    plain = evaluate(dealt, preprocessor)
    assert found.model_copy(update={"personal": None}) == plain
    assert found.personal is not None
    manifest = load_manifest(dealt)
    test, validation = (load_part(dealt, manifest, part) for part in ("test", "validation"))
    area = found.personal.metrics[Metric.AUROC]
    assert plain.evaluation is not None
    assert area.a == plain.evaluation.auroc
    assert area.b == pytest.approx(roc_auc_score(test["stroke"], test["age"].clip(0, 120)))
    assert area.difference == pytest.approx(area.b - plain.evaluation.auroc)
    assert area.low is not None
    assert area.high is not None
    assert area.low < area.difference < area.high
    # Each at its own operating point; that of the hospital's model is from its validation rows.
    age = preprocessor.feature_names.index("age")
    scores, chosen_on = (
        1 / (1 + np.exp(1 - 2 * preprocessor.transform(rows)[:, age].astype(float)))
        for rows in (test, validation)
    )
    called = scores >= threshold_at_specificity(validation["stroke"].to_numpy(), chosen_on)
    expected = balanced_accuracy_score(test["stroke"], called)
    assert found.personal.metrics[Metric.BALANCED_ACCURACY].b == pytest.approx(expected)
    at_threshold = found.personal.metrics[Metric.BALANCED_ACCURACY].a
    assert at_threshold == plain.evaluation.balanced_accuracy


def test_only_aggregates_of_the_comparison_leave(
    dealt: FolderStore, preprocessor: Preprocessor
) -> None:
    save_personal(dealt, "run-1", own_weights(preprocessor))
    said = beside(dealt, preprocessor).model_dump_json().encode()
    (entry,) = EgressLog(dealt).entries()
    assert entry.sha256 == hashlib.sha256(said).hexdigest()


def test_a_hospital_without_an_own_model_of_the_run_has_none_beside(
    dealt: FolderStore, preprocessor: Preprocessor
) -> None:
    save_personal(dealt, "another-run", own_weights(preprocessor))
    assert beside(dealt, preprocessor).personal is None


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_gives_no_comparison(
    label: int,
    store: FolderStore,
    stroke: CohortSpec,
    patients: pd.DataFrame,
    preprocessor: Preprocessor,
) -> None:
    put_parts(store, stroke, test=patients[patients["stroke"] == label].iloc[:50])
    save_personal(store, "run-1", own_weights(preprocessor))
    found = beside(store, preprocessor)
    assert found.evaluation is not None
    assert found.personal is None


def test_no_partitions_yet(store: FolderStore, preprocessor: Preprocessor) -> None:
    with pytest.raises(ObjectNotFoundError):
        evaluate(store, preprocessor)


def test_age_as_a_score(stroke: CohortSpec, patients: pd.DataFrame) -> None:
    rows = patients.iloc[:3].assign(age=[0.0, 30.0, 120.0])
    assert age_score(rows, stroke).tolist() == [0.0, 0.25, 1.0]
    assert age_score(rows.assign(age=[np.nan, 30.0, 120.0]), stroke)[0] == 0.0
    assert labels(patients, stroke).tolist() == patients["stroke"].tolist()


def test_a_local_model_learns_from_its_own_training_rows(
    dealt: FolderStore, stroke: CohortSpec, preprocessor: Preprocessor
) -> None:
    manifest = load_manifest(dealt)
    train, validation, test = (load_part(dealt, manifest, part) for part in PARTS)
    X = preprocessor.transform(test)
    scores = fit_local(dealt, preprocessor, seed=0).scores(X)
    assert roc_auc_score(test["stroke"], scores) > 0.7

    # Other test rows change nothing, other training rows do.
    put_parts(dealt, stroke, train=train, validation=validation, test=test.iloc[:0])
    np.testing.assert_array_equal(scores, fit_local(dealt, preprocessor, seed=0).scores(X))
    put_parts(dealt, stroke, train=train.iloc[::2], validation=validation)
    assert np.abs(scores - fit_local(dealt, preprocessor, seed=0).scores(X)).max() > 1e-3
