import json

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from benchmarks.bare import BarePlan, BareSite, run_bare
from benchmarks.contest import Ratio
from benchmarks.federation import app
from benchmarks.hospitals import Hospitals, recipe_with
from benchmarks.setting import load_setting
from benchmarks.split import Split, measure
from benchmarks.stock import StockRuntime
from fl_assets.federation.rounds import RoundReport, SiteReport
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.site.partitions import PARTS, load_manifest, load_part
from fl_assets_tests.thorough import only_thorough

TRAININGS = ("MLP, 5 local epochs", "LR, 5 local epochs", "LR, 1 local epoch")


def site(name, rows, seed):
    random = np.random.default_rng(seed)
    X = random.normal(size=(rows, 3)).astype(np.float32)
    y = (random.random(rows) < 1 / (1 + np.exp(-X[:, 0]))).astype(np.float32)
    tensors = torch.from_numpy(X), torch.from_numpy(y)
    return BareSite(name, *tensors, *tensors)


def plan(**changes):
    sgd = torch.optim.SGD, {"lr": 0.5, "momentum": 0.9}
    return BarePlan(
        **{
            "hidden": (),
            "optimizer": sgd,
            "rounds": 20,
            "epochs": 1,
            "batch_size": 100,
            "prevalence": 0.3,
            "seed": 0,
            **changes,
        }
    )


def test_the_bare_loop_with_whole_batches_is_gradient_descent_on_the_pooled_rows():
    sites = [site("hospital-a", 60, 0), site("hospital-b", 90, 1)]
    found = run_bare(sites, plan())
    X = np.concatenate([s.X.numpy() for s in sites]).astype(np.float64)
    y = np.concatenate([s.y.numpy() for s in sites])
    X = np.column_stack([X, np.ones(150)])
    weights = np.array([0, 0, 0, np.log(0.3 / 0.7)])
    for _ in range(20):
        # One step from fresh momentum at each site, averaged by rows.
        weights = weights - 0.5 * X.T @ (1 / (1 + np.exp(-X @ weights)) - y) / 150
    np.testing.assert_allclose(found.weights, weights, atol=1e-5)
    assert len(found.history) == 40


def test_the_bare_loop_trains_hidden_layers_for_all_its_epochs():
    only = site("hospital-a", 80, 0)
    adam = torch.optim.Adam, {"lr": 0.01}
    found = run_bare([only], plan(hidden=(4,), optimizer=adam, rounds=1, epochs=7))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    nn.init.constant_(model[-1].bias, float(np.log(0.3 / 0.7)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(7):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(only.X)[:, 0], only.y).backward()
        optimizer.step()
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    np.testing.assert_allclose(found.weights, weights, atol=1e-5)


@pytest.fixture(scope="module")
def setting(small_csv):
    return load_setting(str(small_csv))


@pytest.fixture(scope="module")
def result(small_csv):
    asked = ["--data", small_csv, "--rounds", 2, "--turns", 1, "--part", "ratios"]
    asked += ["--part", "scaling", "--hospitals", 2, "--hospitals", 4, "--format", "json"]
    return CliRunner().invoke(app, list(map(str, asked)), catch_exceptions=False)


@pytest.fixture(scope="module")
def document(result):
    return json.loads(result.stdout)


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("side", ["autograd", "shipped"])
def test_all_sides_train_the_same_model_and_validate_it_alike(document, training, side):
    found = document["parts"]["ratios"][training]["differences"][side]
    assert found.keys() == {"weights", "validation loss", "validation AUROC", "training loss"}
    assert all(gap <= 1e-6 for gap in found.values())


def test_the_exit_code_says_whether_every_bar_holds(document, result):
    assert document["parts"].keys() == {"ratios", "scaling"}
    assert len(document["bars"]) == 4 * len(TRAININGS) + 2
    assert result.exit_code == (0 if all(bar["passed"] for bar in document["bars"]) else 1)


def test_a_bar_is_on_the_median_ratio_of_cpu_time(document):
    bars = {bar["name"]: bar for bar in document["bars"]}
    for training, found in document["parts"]["ratios"].items():
        (turn,) = found["turns"]
        for side in ("autograd", "shipped"):
            bar = bars[f"{training}, {side}: ratio of CPU time"]
            assert bar["figure"] == pytest.approx(turn[side]["cpu"] / turn["bare"]["cpu"])
    assert Ratio.of([2.0, 3.0, 8.0], [1.0, 2.0, 2.0]) == Ratio(2.0, 1.5, 4.0, 2.0)


def test_every_size_has_the_same_rows_in_each_hospital(document, setting):
    scaling = document["parts"]["scaling"]
    assert scaling["rows"] == len(setting.rows) // 4
    few, many = (scaling["seconds_by_hospital"][n] for n in ("2", "4"))
    assert document["bars"][-2]["figure"] == pytest.approx(many / few)
    assert scaling["loading"]["cpu"] > 0


@pytest.mark.parametrize(("rows", "sizes"), [(None, [500, 500, 500]), (51, [51, 51, 51])])
def test_virtual_hospitals_share_the_rows_and_none_twice(setting, tmp_path, rows, sizes):
    hospitals = Hospitals.virtual(setting, 3, tmp_path, rows)
    held = []
    for store in hospitals.stores.values():
        manifest = load_manifest(store)
        held.append([i for part in PARTS for i in load_part(store, manifest, part)["id"]])
    assert [len(own) for own in held] == sizes
    assert len({i for own in held for i in own}) == sum(sizes)


def report(round_, seconds, aggregation, gap, sites):
    common = dict.fromkeys(("examples", "validation_examples"), 1) | {"train_loss": 0.1}
    common |= {"validation_loss": None, "validation_auroc": None, "partitions": "v"}
    return RoundReport(
        round=round_,
        rounds=2,
        sites={n: SiteReport(seconds=s, **common) for n, s in zip("ab", sites, strict=True)},
        dropouts={},
        seconds=seconds,
        aggregation=aggregation,
        gap=gap,
        sent=0,
        received=0,
    )


def test_the_seconds_of_a_run_are_split_without_rest_or_overlap():
    # 2 s, round 1, 0.5 s between the rounds, round 2, 1 s.
    rounds = [report(1, 4.0, 0.25, None, (1.0, 3.0)), report(2, 6.0, 0.5, 0.75, (2.0, 1.0))]
    found = Split.of(13.5, rounds)
    assert (found.ends, found.training, found.aggregation) == (3.0, 5.0, 0.75)
    assert (found.other, found.between) == (4.25, 0.5)
    parts = found.ends + found.training + found.aggregation + found.other + found.between
    assert parts == found.total
    assert (found.a_round.median, found.a_round.max) == (5.25, 6.5)
    assert (found.idle.median, found.idle.max) == (2.75, 4.5)
    assert found.gap.median == 0.75
    assert Split.of(7.0, rounds[:1]).gap is None


def test_a_measured_run_has_all_its_parts(setting, tmp_path):
    hospitals = Hospitals.virtual(setting, 3, tmp_path)
    found = measure(InProcessRuntime(), hospitals.job(recipe_with("fedavg-lr", rounds=3)))
    parts = (found.ends, found.training, found.aggregation, found.other, found.between)
    assert min(parts) > 0
    assert sum(parts) == pytest.approx(found.total)


@only_thorough
@pytest.mark.services
def test_flower_as_it_comes_trains_the_same_model(setting, tmp_path):
    hospitals = Hospitals.of_consortium(setting, tmp_path)
    recipe = recipe_with("fedavg-lr", rounds=1)
    stock, ours = (r.run(hospitals.job(recipe)) for r in (StockRuntime(), InProcessRuntime()))
    for name, weights in ours.weights.items():
        np.testing.assert_allclose(stock.weights[name], weights, atol=1e-6)
