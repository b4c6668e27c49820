import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from fl_assets.federation.job import (
    FederationHistory,
    FederationJob,
    FederationResult,
    FinalReport,
    load_result,
    save_result,
)
from fl_assets.federation.rounds import RoundReport, SiteReport
from fl_assets.storage import FolderStore, ObjectNotFoundError
from fl_assets_tests.federation.conftest import MakeJob

WEIGHTS = {
    "0.weight": np.array([[0.1, np.float32(1e-40), -3e38]], dtype=np.float32),
    "0.bias": np.array([7.0], dtype=np.float32),
    "empty": np.empty((0, 3), dtype=np.float32),
}


def round_report(round_: int, **partitions: str) -> RoundReport:
    sites = {
        name: SiteReport(
            examples=10,
            train_loss=0.5,
            validation_examples=0,
            validation_loss=None,
            validation_auroc=None,
            seconds=0.1,
            partitions=version,
        )
        for name, version in partitions.items()
    }
    return RoundReport(
        round=round_,
        rounds=2,
        sites=sites,
        dropouts={"c": "late"},
        seconds=1,
        aggregation=0.1,
        gap=None,
        sent=1,
        received=2,
    )


def history() -> FederationHistory:
    final = FinalReport(examples=3, loss=0.5, auroc=None, threshold=None)
    return FederationHistory(
        rounds=(round_report(1, a="v1"), round_report(2, b="v2")), final={"a": final}
    )


def test_a_result_survives_and_its_history_marks_it_complete(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    save_result(store, "r1", FederationResult(WEIGHTS, history()))

    found = load_result(store, "r1")

    assert found.history == history()
    assert found.history.participants == {"a": "v1", "b": "v2"}
    assert found.weights["0.bias"].tolist() == [7.0]
    store.delete("runs/r1/history.json")
    with pytest.raises(ObjectNotFoundError, match=r"runs/r1/history\.json"):
        load_result(store, "r1")


def test_a_history_knows_the_phase_of_every_round() -> None:
    early = round_report(1, a="v1", d="v4")
    found = history().model_copy(update={"pretraining": (early,)})
    late = round_report(3, a="v1")

    longer = found.with_rounds("training", [late]).with_rounds("pretraining", [])

    phases = ["pretraining", "training", "training", "training"]
    assert list(longer.by_phase) == list(zip(phases, [early, *history().rounds, late], strict=True))
    # Whoever took part in pre-training alone is in the model as well.
    assert longer.participants == {"a": "v1", "b": "v2", "d": "v4"}
    assert found.rounds == history().rounds


def test_a_history_of_before_there_were_phases_can_be_read() -> None:
    old = history().model_dump(exclude={"pretraining", "resumed"})
    assert FederationHistory.model_validate(old) == history()


class FullStore(FolderStore):
    """Has room for weights and nothing else."""

    def put(self, key: str, data: bytes) -> object:
        if not key.endswith("weights.npz"):
            raise OSError("disk full")
        return super().put(key, data)


def test_weights_are_stored_before_the_history(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk full"):
        save_result(FullStore(tmp_path), "r1", FederationResult(WEIGHTS, history()))
    assert [info.key for info in FolderStore(tmp_path).list()] == ["runs/r1/weights.npz"]


def test_a_job_survives_json(make_job: MakeJob) -> None:
    job = make_job()
    assert FederationJob.model_validate_json(job.model_dump_json()) == job


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_metrics_port_is_one(make_job: MakeJob, port: int) -> None:
    asked = make_job().model_dump() | {"metrics_port": port}
    with pytest.raises(ValidationError, match="metrics_port"):
        FederationJob.model_validate(asked)


def test_the_run_config_tells_no_site_where_another_one_is(make_job: MakeJob) -> None:
    job = make_job()
    config = job.run_config()
    assert all(isinstance(value, bool | int | float | str) for value in config.values())
    for uri in job.sites.values():
        assert uri not in json.dumps(config)
