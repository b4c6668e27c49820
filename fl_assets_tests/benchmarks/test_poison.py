import json

import numpy as np
import pytest
import yaml
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from typer.testing import CliRunner

from benchmarks import attacks
from benchmarks.attacks import Attack, HostileApp
from benchmarks.poison import AGGREGATORS, FEDAVG, Cell, app, judge, with_sites
from benchmarks.setting import RECIPES, load_setting
from fl_assets.federation import rounds
from fl_assets.federation.flower_internals import identify_process
from fl_assets_tests.federation.little import answer, arrays_of, reply, values_of

SENT, OWN = (1.0, 2.0), (1.5, 1.0)


def sent_by(hospital, attack, monkeypatch, at=(1,)):
    """What leaves a hospital that trained honestly while hospital-b is hostile."""
    identify_process(1)
    monkeypatch.setattr(attacks, "client_app", lambda m, c: answer(m, reply(arrays_of(*OWN))))
    hostile = HostileApp("hospital-b", attack)
    context = Context(1, 5, {"hospital": hospital}, RecordDict(), {})
    found = []
    for round_ in at:
        config = ConfigRecord({rounds.RUN: "r", rounds.ROUND: round_, rounds.NONCE: f"n{round_}"})
        content = RecordDict({rounds.ARRAYS: arrays_of(*SENT), rounds.CONFIG: config})
        message = Message(content, dst_node_id=5, message_type="train")
        found.append(hostile(message, context).content)
    return found


@pytest.mark.parametrize(
    ("attack", "values"),
    [
        (Attack.NONE, [1.5, 1.0]),
        (Attack.SIGN_FLIP, [0.5, 3.0]),
        (Attack.SCALE, [51.0, -98.0]),
        (Attack.NAN, [np.nan, np.nan]),
        (Attack.SHAPE, [1.5, 1.0, 1.5, 1.0]),
    ],
)
def test_an_attack_is_what_it_is_called(attack, values, monkeypatch):
    (content,) = sent_by("hospital-b", attack, monkeypatch)
    np.testing.assert_allclose(values_of(content[rounds.ARRAYS]), values)


@pytest.mark.parametrize("attack", Attack)
def test_the_other_hospitals_stay_honest(attack, monkeypatch):
    first, second = sent_by("hospital-a", attack, monkeypatch, at=(1, 2))
    assert values_of(first[rounds.ARRAYS]) == values_of(second[rounds.ARRAYS]) == list(OWN)
    assert second[rounds.ABOUT][rounds.ROUND] == 2


def test_a_stale_reply_is_the_first_one_with_its_marks(monkeypatch):
    first, second = sent_by("hospital-b", Attack.STALE, monkeypatch, at=(1, 2))
    assert isinstance(first[rounds.ARRAYS], ArrayRecord)
    assert second == first
    assert second[rounds.ABOUT][rounds.ROUND] == 1


@pytest.fixture(scope="module")
def command(small_csv, tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "short-lr.yaml"
    recipe = yaml.safe_load((RECIPES / "fedavg-lr.yaml").read_text())
    path.write_text(yaml.safe_dump(recipe | {"rounds": 2}))
    options = {"--data": small_csv, "--recipe": path, "--repeats": 1, "--workers": 1}
    return [str(word) for option in options.items() for word in option]


@pytest.fixture(scope="module")
def document(command):
    result = CliRunner().invoke(app, [*command, "--format", "json"], catch_exceptions=False)
    found = json.loads(result.stdout)
    assert result.exit_code == (0 if all(bar["passed"] for bar in found["bars"]) else 1)
    return found


def test_what_no_hospital_could_send_is_refused_in_every_round(document):
    for repeat in document["repeats"]:
        for by_attack in repeat.values():
            assert {a: o["refused"] for a, o in by_attack.items()} | {"x100": None} == {
                "none": 0,
                "sign flip": 0,
                "x100": None,
                "NaN": 1,
                "wrong shape": 1,
                # All but the first, which is honest.
                "stale": 0.5,
            }


def test_a_loss_is_against_the_same_aggregator_in_the_same_repeat(document):
    cells = {(cell["aggregator"], cell["attack"]): cell for cell in document["cells"]}
    assert cells.keys() == {(name, a) for name in AGGREGATORS for a in Attack if a != "none"}
    for (name, attack), cell in cells.items():
        for loss, repeat in zip(cell["losses"], document["repeats"], strict=True):
            assert 0.5 < repeat[name]["none"]["auroc"] < 1
            assert loss == repeat[name]["none"]["auroc"] - repeat[name][attack]["auroc"]


def test_the_table_is_not_cut_off(command):
    shown = CliRunner().invoke(app, command, catch_exceptions=False).stdout
    assert "lost to wrong shape" in shown
    (flipped,) = (line for line in shown.splitlines() if "lost to sign flip" in line)
    assert flipped.count(" *") == 1
    assert "…" not in shown
    assert shown.count("pass  ") + shown.count("FAIL  ") == len(AGGREGATORS) * 5 - 1


def test_only_a_claim_has_a_bar():
    def cell(aggregator, attack, claimed):
        return Cell(aggregator, attack, [0.01, 0.05], 0.0, claimed)

    (bar,) = judge([cell(FEDAVG, Attack.SIGN_FLIP, False), cell("median", Attack.SIGN_FLIP, True)])
    assert bar.name == "AUROC lost by median to sign flip"
    assert bar.figure == pytest.approx(0.03)
    assert not bar.passed


def test_the_rows_are_dealt_anew_to_hospitals_of_equal_size(small_csv):
    setting = load_setting(str(small_csv))
    found = with_sites(setting, 4)
    names, counts = np.unique(found.hospital, return_counts=True)
    assert list(names) == found.consortium.hospital_names
    assert list(counts) == [len(setting.rows) / 4] * 4
