"""Masked sums in every runtime: the same model, and no single update at the server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from pydantic import ValidationError

from fl_assets.federation.client_app import app as client_app
from fl_assets.federation.flower_internals import PROCESS_TURN
from fl_assets.federation.job import FederationJob, FederationResult, load_result
from fl_assets.federation.masking_records import flat
from fl_assets.federation.participant import Participant
from fl_assets.federation.runtimes.base import RuntimeName, build_runtime
from fl_assets.federation.runtimes.inprocess import InProcessGrid, InProcessRuntime
from fl_assets.federation.server_app import app as server_app
from fl_assets.federation.strategies.secure import SecureSumFailedError
from fl_assets.privacy.masking.field import to_field
from fl_assets.settings import Settings
from fl_assets.storage import open_store
from fl_assets_tests.federation.conftest import MakeJob
from fl_assets_tests.federation.test_resumption import killed_after

MLP: dict[str, Any] = {"model": {"kind": "mlp", "hidden": [4]}}
SECURE: dict[str, Any] = {"secure_aggregation": {}}
STRATEGIES = [
    {"kind": "fedavg"},
    {"kind": "fedprox", "mu": 0.1},
    {"kind": "fedavgm"},
    {"kind": "fedadam"},
    {"kind": "fedyogi"},
    {"kind": "fedadagrad"},
]
NAMES = [
    name if name == "inprocess" else pytest.param(name, marks=pytest.mark.services)
    for name in get_args(RuntimeName)
    if name != "kubernetes"  # which needs a cluster, and runs what "processes" does
]


def gap(one: FederationResult, other: FederationResult) -> float:
    assert one.weights.keys() == other.weights.keys()
    return max(float(np.abs(w - other.weights[n]).max()) for n, w in one.weights.items())


def in_process(job: FederationJob) -> FederationResult:
    return InProcessRuntime().run(job)


@pytest.mark.parametrize("name", NAMES)
def test_a_masked_run_ends_with_the_model_of_a_plain_one(name: str, make_job: MakeJob) -> None:
    strategy = {"kind": "fedadam", "mu": 0.1}
    plain = in_process(make_job("plain", strategy=strategy, rounds=2, **MLP))
    job = make_job("masked", strategy=strategy, rounds=2, **MLP, **SECURE)
    found = build_runtime(name).run(job)
    assert gap(found, plain) < 1e-5
    for report, expected in zip(found.history.rounds, plain.history.rounds, strict=True):
        assert report.sites.keys() == expected.sites.keys()
        assert report.validation_loss == pytest.approx(expected.validation_loss, abs=1e-5)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: str(s["kind"]))
def test_every_strategy_that_takes_a_mean_takes_a_masked_one(
    strategy: dict[str, Any], make_job: MakeJob
) -> None:
    plain = in_process(make_job("plain", strategy=strategy, rounds=3, **MLP))
    assert gap(
        in_process(make_job("masked", strategy=strategy, rounds=3, **MLP, **SECURE)), plain
    ) < (1e-5)


@pytest.mark.parametrize("kind", ["median", "trimmed_mean", "krum"])
def test_a_strategy_that_looks_at_single_updates_is_refused(kind: str, make_job: MakeJob) -> None:
    with pytest.raises(ValidationError, match=f"{kind} looks at single updates"):
        make_job(strategy={"kind": kind}, **SECURE)


def test_federated_pretraining_is_masked_as_well(make_job: MakeJob) -> None:
    recipe: dict[str, Any] = {
        "model": {"kind": "embedding", "encoder": [6, 3]},
        "pretraining": {"rounds": 2},
        "personalisation": {"kind": "local_layers", "layers": "head"},
    }
    plain = in_process(make_job("plain", **recipe))
    found = in_process(make_job("masked", **recipe, **SECURE))
    assert gap(found, plain) < 1e-5
    assert [len(report.sites) for report in found.history.pretraining] == [3, 3]


def test_a_masked_run_goes_on_from_a_checkpoint(make_job: MakeJob) -> None:
    plain = in_process(make_job("plain", rounds=4, **MLP))
    job = make_job("masked", rounds=4, **MLP, **SECURE)
    with killed_after("training", 2):
        in_process(job)
    found = in_process(job)
    assert found.history.resumed == (2,)
    assert gap(found, plain) < 1e-5


class Overheard(InProcessGrid):
    """A server that keeps every message that reaches it."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.heard: list[Message] = []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        replies = list(super().send_and_receive(messages, timeout=timeout))
        self.heard += replies
        return replies


def arrays_heard(job: FederationJob) -> tuple[list[bytes], FederationResult]:
    """All the arrays and byte strings in the messages that reach the server."""
    config = job.run_config()
    with PROCESS_TURN:
        grid = Overheard(client_app, job.nodes(), config, 1)
        server_app(grid, Context(1, 1, {}, RecordDict(), config))
    found = []
    for message in grid.heard:
        content = message.content
        found += [a.numpy().tobytes() for r in content.array_records.values() for a in r.values()]
        values = [v for record in content.config_records.values() for v in record.values()]
        lists = [value for value in values if isinstance(value, list)]
        found += [each for value in lists for each in value if isinstance(each, bytes)]
    return found, load_result(open_store(job.output), job.run)


def test_no_single_update_reaches_the_server(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    updates: list[list[bytes]] = []
    real = Participant.train

    def train(self: Participant, shared: Any, round_: int) -> Any:
        update = real(self, shared, round_)
        before = flat({name: weight.numpy() for name, weight in shared.items()})
        after = flat({name: weight.numpy() for name, weight in update.weights.items()})
        weighted = to_field(update.examples * (after - before), 3, 32)
        arrays = [weight.numpy().tobytes() for weight in update.weights.values()]
        updates.append([weighted.tobytes(), after.tobytes(), *arrays])
        return update

    monkeypatch.setattr(Participant, "train", train)

    def betrayed(heard: list[bytes]) -> list[bool]:
        """Of each update whether anything of it is in a message; single numbers are by chance."""
        return [
            any(part in message for part in update if len(part) >= 16 for message in heard)
            for update in updates
        ]

    plain, expected = arrays_heard(make_job("plain", **MLP))
    assert betrayed(plain) == [True] * 6
    updates.clear()
    masked, found = arrays_heard(make_job("masked", **MLP, **SECURE))
    assert betrayed(masked) == [False] * 6
    assert gap(found, expected) < 1e-5


def test_a_site_that_fails_in_masked_sums_is_a_dropout_with_its_cause(
    make_job: MakeJob, world: Settings
) -> None:
    world.site_store("hospital-b").delete("partitions/manifest.json")
    plain = in_process(make_job("plain", quorum=2, **MLP))
    with pytest.raises(
        SecureSumFailedError, match=r"2 sites, and masked sums need 3.*hospital-b: ObjectNotF"
    ):
        in_process(make_job("masked", quorum=2, **MLP, **SECURE))
    assert set(plain.history.participants) == {"hospital-a", "hospital-c"}
