import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmarks.bare import BareSite, run_bare
from benchmarks.rounds import app


def site(name, rows, seed):
    random = np.random.default_rng(seed)
    X = random.normal(size=(rows, 3)).astype(np.float32)
    y = (random.random(rows) < 1 / (1 + np.exp(-X[:, 0]))).astype(np.float32)
    tensors = torch.from_numpy(X), torch.from_numpy(y)
    return BareSite(name, *tensors, *tensors)


def test_the_bare_loop_with_whole_batches_is_gradient_descent_on_the_pooled_rows():
    sites = [site("hospital-a", 60, 0), site("hospital-b", 90, 1)]
    found = run_bare(sites, rounds=20, batch_size=100, lr=0.5, momentum=0.9, prevalence=0.3, seed=0)
    X = np.concatenate([s.X.numpy() for s in sites]).astype(np.float64)
    y = np.concatenate([s.y.numpy() for s in sites])
    X = np.column_stack([X, np.ones(150)])
    weights = np.array([0, 0, 0, np.log(0.3 / 0.7)])
    for _ in range(20):
        # One step from fresh momentum at each site, averaged by rows.
        weights = weights - 0.5 * X.T @ (1 / (1 + np.exp(-X @ weights)) - y) / 150
    np.testing.assert_allclose(found.weights, weights, atol=1e-5)
    assert len(found.history) == 40


@pytest.fixture(scope="module")
def document(small_csv):
    asked = ["--data", str(small_csv), "--rounds", "3", "--turns", "2", "--goal", "1000"]
    result = CliRunner().invoke(app, [*asked, "--format", "json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_both_sides_train_the_same_model_and_validate_it_alike(document):
    assert document["rounds"] == 3
    assert document["differences"].keys() == {
        "weights",
        "validation loss",
        "validation AUROC",
        "training loss",
    }
    assert all(gap <= 1e-6 for gap in document["differences"].values())


def test_the_ratio_is_the_median_over_the_turns(document):
    for side in ("product", "mlflow"):
        for clock in ("cpu", "wall"):
            ratios = [turn[side][clock] / turn["bare"][clock] for turn in document["turns"]]
            found = document["ratios"][side][clock]
            assert found["median"] == pytest.approx(np.median(ratios))
            assert (found["low"], found["high"]) == (min(ratios), max(ratios))
    assert document["bars"][0]["figure"] == document["ratios"]["product"]["cpu"]["median"]


def test_the_parts_add_up_to_the_whole(document):
    for turn in document["turns"]:
        assert turn["parts"]["training and validation"]["wall"] > 0
        assert turn["parts"]["egress log"]["wall"] > 0
        whole = sum(part["wall"] for part in turn["parts"].values())
        assert whole == pytest.approx(turn["product"]["wall"])


def test_a_ratio_above_the_goal_fails(small_csv):
    asked = ["--data", str(small_csv), "--rounds", "1", "--turns", "1", "--goal", "0.01"]
    result = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert result.exit_code == 1
    assert "FAIL  median ratio of CPU time" in result.stdout
    assert "pass  difference of the final weights" in result.stdout
