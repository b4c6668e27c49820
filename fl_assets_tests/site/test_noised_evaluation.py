from __future__ import annotations

import hashlib
import math

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.consortium import PrivacyBudget
from fl_assets.learning.configs import (
    BCEConfig,
    LocalTraining,
    LogisticRegressionConfig,
    OptimizerConfig,
)
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.training import predict
from fl_assets.privacy.configs import PrivacyConfig
from fl_assets.privacy.ledger import BudgetExceededError, Ledger
from fl_assets.privacy.ledger_entries import Charge
from fl_assets.privacy.noise import SeededNoise
from fl_assets.site.egress import EgressLog
from fl_assets.site.evaluation import SiteEvaluation, evaluate_model
from fl_assets.site.noised_evaluation import noised_figures, noised_test, noised_validation
from fl_assets.site.noised_release import NoisedRelease
from fl_assets.site.partitions import load_manifest
from fl_assets.site.training import WITHHELD, SiteTrainer, Validation
from fl_assets.storage import FolderStore, ObjectNotFoundError
from fl_assets_tests.site.conftest import put_parts

PLAN = LocalTraining(
    model=LogisticRegressionConfig(),
    loss=BCEConfig(),
    optimizer=OptimizerConfig(kind="sgd", lr=0.1),
    epochs=20,
    batch_size=32,
    proximal_mu=0.0,
    seed=3,
)


@pytest.fixture(scope="session")
def preprocessor(stroke: CohortSpec) -> Preprocessor:
    return Preprocessor.public(stroke)


def release(epsilon: float, cap: float = 500.0, seed: int | None = None) -> NoisedRelease:
    noise = None if seed is None else SeededNoise(seed)
    found = noised_figures(
        PrivacyConfig(epsilon=1.0, evaluation_epsilon=epsilon),
        "hospital-a",
        PrivacyBudget(epsilon=cap),
        noise,
    )
    assert found is not None
    return found


def charges(store: FolderStore) -> list[Charge]:
    acts = [entry.act for entry in Ledger(store, "hospital-a").entries()]
    return [act for act in acts if isinstance(act, Charge)]


class ByAge:
    """A model that knows age, and counts how often it is asked."""

    def __init__(self, preprocessor: Preprocessor) -> None:
        self._age = preprocessor.feature_names.index("age")
        self.asked = 0

    def __call__(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        self.asked += 1
        return 1 / (1 + np.exp(4.2 - 1.8 * X[:, self._age].astype(np.float64)))


def evaluate(
    store: FolderStore, preprocessor: Preprocessor, noised: NoisedRelease, run: str = "run-1"
) -> SiteEvaluation:
    scorer = ByAge(preprocessor)
    return evaluate_model(
        store, preprocessor, scorer, threshold=0.1, minimum=5, run=run, noised=noised
    )


def test_a_recipe_says_whether_figures_are_noised() -> None:
    budget = PrivacyBudget(epsilon=2.0, delta=1e-6)
    assert noised_figures(None, "a", budget) is None
    assert noised_figures(PrivacyConfig(epsilon=1.0), "a", budget) is None
    asked = PrivacyConfig(epsilon=1.0, delta=1e-7, evaluation_epsilon=0.3)
    assert noised_figures(asked, "a", budget) == NoisedRelease("a", budget, 0.3, 1e-7)


class TestTestRows:
    def test_with_epsilon_the_figures_near_the_exact_ones(
        self, dealt: FolderStore, preprocessor: Preprocessor
    ) -> None:
        exact = evaluate_model(
            dealt, preprocessor, ByAge(preprocessor), threshold=0.1, minimum=5, run="run-1"
        )
        found = evaluate(dealt, preprocessor, release(100.0, seed=1))
        assert exact.evaluation is not None
        assert found.evaluation is not None
        assert found.partitions == exact.partitions
        assert found.evaluation.n == exact.evaluation.n
        assert found.evaluation.positives == pytest.approx(exact.evaluation.positives, abs=1)
        assert found.evaluation.auroc == pytest.approx(exact.evaluation.auroc, abs=0.03)
        assert found.evaluation.brier == pytest.approx(exact.evaluation.brier, abs=0.003)
        assert found.evaluation.log_loss == pytest.approx(exact.evaluation.log_loss, abs=0.01)
        assert found.evaluation.majority_rate == pytest.approx(
            exact.evaluation.majority_rate, abs=0.005
        )
        assert found.age_only_auroc == pytest.approx(exact.age_only_auroc, abs=0.03)

    def test_what_needs_rows_is_left_out(
        self, dealt: FolderStore, preprocessor: Preprocessor
    ) -> None:
        found = evaluate(dealt, preprocessor, release(1.0))
        assert found.noised == release(1.0).told(math.sqrt(2))
        assert (found.subgroups, found.personal) == ({}, None)
        evaluation = found.evaluation
        assert evaluation is not None
        assert (evaluation.roc, evaluation.calibration, evaluation.threshold) == ([], [], None)
        assert (evaluation.auroc_low, evaluation.auprc, evaluation.sensitivity) == (None,) * 3

    def test_no_exact_figure_leaves(self, dealt: FolderStore, preprocessor: Preprocessor) -> None:
        exact = evaluate_model(
            dealt, preprocessor, ByAge(preprocessor), threshold=0.1, minimum=5, run="run-1"
        )
        assert exact.evaluation is not None
        for seed in range(5):
            run = f"run-{seed}"
            found = evaluate(dealt, preprocessor, release(0.5, seed=seed), run)
            said = found.model_dump_json()
            figures = exact.evaluation.model_dump() | {"age": exact.age_only_auroc}
            # Not those that are a share of the rows, which many counts could be by chance.
            names = ("auroc", "auprc", "brier", "log_loss", "ece", "age")
            assert [name for name in names if len(str(figures[name])) > 9] == list(names)
            assert [name for name in names if str(figures[name]) in said] == []
            assert found.evaluation is not None
            assert found.evaluation.positives != exact.evaluation.positives
        entry = EgressLog(dealt).entries()[-1]
        assert (entry.kind, entry.run, entry.detail) == ("evaluation", "run-4", "test rows")
        assert entry.sha256 == hashlib.sha256(said.encode()).hexdigest()

    def test_one_row_is_in_one_count_by_score_and_one_by_age(
        self, store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
    ) -> None:
        """The sensitivity that is charged, by what is stored with next to no noise."""
        preprocessor = Preprocessor.public(stroke)

        def sums(rows: pd.DataFrame) -> NDArray[np.float64]:
            put_parts(store, stroke, test=rows)
            terms = NoisedRelease("a", PrivacyBudget(epsilon=1e9), 1e6, 1e-5, SeededNoise(0))
            noised_test(
                store, load_manifest(store), preprocessor, ByAge(preprocessor), terms, "run"
            )

            def stored() -> NDArray[np.float64]:
                raise AssertionError

            key = f"evaluation/run/test/{load_manifest(store).version}"
            return terms.sums(store, key, stored, 1.0, run="run", what="")

        few = patients.iloc[:60]
        whole = sums(few)
        assert whole.sum() == pytest.approx(120, abs=0.1)
        for row in (0, 17, 59):
            moved = np.linalg.norm(sums(few.drop(few.index[row])) - whole)
            assert moved == pytest.approx(math.sqrt(2), abs=0.02)

    def test_it_is_charged_once_and_told_again(
        self, dealt: FolderStore, preprocessor: Preprocessor
    ) -> None:
        first = evaluate(dealt, preprocessor, release(1.0))
        scorer = ByAge(preprocessor)
        again = evaluate_model(
            dealt,
            preprocessor,
            scorer,
            threshold=0.9,
            minimum=5,
            run="run-1",
            noised=release(1.0, cap=0.1),
        )
        assert again == first
        assert scorer.asked == 0
        (charge,) = charges(dealt)
        assert (charge.run, charge.epsilon) == ("run-1", 1.0)
        assert "test rows" in charge.what
        assert len(EgressLog(dealt).entries()) == 2
        # Another run has another model.
        assert evaluate(dealt, preprocessor, release(1.0), "run-2") != first
        assert [c.run for c in charges(dealt)] == ["run-1", "run-2"]

    @pytest.mark.faults
    def test_without_budget_no_row_is_opened(
        self, dealt: FolderStore, preprocessor: Preprocessor
    ) -> None:
        dealt.delete(load_manifest(dealt).files["test"].key)
        with pytest.raises(BudgetExceededError, match=r"asks 1\.00, lifetime would be 1\.00 of"):
            evaluate(dealt, preprocessor, release(1.0, cap=0.5))
        assert EgressLog(dealt).entries() == []
        with pytest.raises(ObjectNotFoundError, match=r"test\.parquet"):
            evaluate(dealt, preprocessor, release(1.0))

    @pytest.mark.parametrize("rows", [0, 4])
    def test_on_too_few_rows_nothing_is_spent(
        self,
        rows: int,
        store: FolderStore,
        stroke: CohortSpec,
        patients: pd.DataFrame,
        preprocessor: Preprocessor,
    ) -> None:
        put_parts(store, stroke, test=patients.iloc[:rows])
        found = evaluate(store, preprocessor, release(1.0))
        assert (found.evaluation, found.age_only_auroc, found.noised) == (None, None, None)
        assert charges(store) == []

    def test_age_ranks_by_its_public_bins(
        self, store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
    ) -> None:
        rows = patients.iloc[:200]
        put_parts(store, stroke, test=rows)
        preprocessor = Preprocessor.public(stroke)
        found = evaluate(store, preprocessor, release(100.0, seed=2))
        bins = pd.cut(rows["age"], list(stroke.numbers[0].bins), right=False).cat.codes
        assert found.age_only_auroc == pytest.approx(roc_auc_score(rows["stroke"], bins), abs=0.02)


class TestValidationRows:
    @pytest.fixture
    def trainer(self, dealt: FolderStore, preprocessor: Preprocessor) -> SiteTrainer:
        trainer = SiteTrainer("hospital-a", dealt, PLAN, preprocessor)
        update = trainer.train_round(trainer.model.state_dict(), 1)
        trainer.model.load_state_dict(update.weights)
        return trainer

    def validate(
        self, store: FolderStore, trainer: SiteTrainer, noised: NoisedRelease | None, run: str = "r"
    ) -> Validation:
        return noised_validation(
            store, trainer.rows, trainer.model, noised, run=run, prevalence=0.049
        )

    def test_with_epsilon_the_figures_near_the_exact_ones(
        self, dealt: FolderStore, trainer: SiteTrainer
    ) -> None:
        exact = trainer.validate(trainer.model.state_dict())
        found = self.validate(dealt, trainer, release(100.0, seed=1))
        assert found.examples == exact.examples
        assert found.loss == pytest.approx(exact.loss, abs=0.01)
        assert found.auroc == pytest.approx(exact.auroc, abs=0.03)
        assert found.auroc != exact.auroc
        # The threshold leaves about a fifth of the healthy above it.
        rows = trainer.rows.validation
        scores = predict(trainer.model, rows.X)[rows.y.numpy() == 0]
        assert found.threshold is not None
        assert np.mean(scores < found.threshold) == pytest.approx(0.8, abs=0.05)

    def test_it_is_charged_once_and_told_again(
        self, dealt: FolderStore, trainer: SiteTrainer
    ) -> None:
        first = self.validate(dealt, trainer, release(1.0))
        with torch.no_grad():
            for weight in trainer.model.parameters():
                weight.zero_()
        assert self.validate(dealt, trainer, release(1.0)) == first
        (charge,) = charges(dealt)
        assert (charge.run, charge.epsilon) == ("r", 1.0)
        assert "validation rows" in charge.what
        assert self.validate(dealt, trainer, release(1.0), run="r2") != first
        assert len(charges(dealt)) == 2

    def test_without_an_epsilon_it_is_withheld(
        self, dealt: FolderStore, trainer: SiteTrainer
    ) -> None:
        assert self.validate(dealt, trainer, None) == WITHHELD
        assert charges(dealt) == []

    def test_what_cannot_be_paid_for_is_refused(
        self, dealt: FolderStore, trainer: SiteTrainer
    ) -> None:
        with pytest.raises(BudgetExceededError):
            self.validate(dealt, trainer, release(1.0, cap=0.9))
        assert dealt.list("noised/") == []

    def test_without_rows_nothing_is_spent(
        self, store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
    ) -> None:
        put_parts(store, stroke, train=patients.iloc[:50])
        trainer = SiteTrainer("hospital-a", store, PLAN, Preprocessor.public(stroke))
        assert self.validate(store, trainer, release(1.0)) == WITHHELD
        assert charges(store) == []

    def test_test_and_validation_rows_are_charged_apart(
        self, dealt: FolderStore, trainer: SiteTrainer, preprocessor: Preprocessor
    ) -> None:
        self.validate(dealt, trainer, release(1.0), run="run-1")
        evaluate(dealt, preprocessor, release(1.0))
        assert len(charges(dealt)) == 2
