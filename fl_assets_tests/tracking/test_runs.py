import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from fl_assets.tracking.runs import RUN_TAG, Tracking, TrackingError

NOBODY = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def status(tracking: Tracking, run_id: str) -> str:
    return str(tracking.client.get_run(run_id).info.status)


def test_a_run_is_finished_with_its_block(tracking: Tracking) -> None:
    with tracking.run("my-run", {"fla.recipe": "r"}) as run_id:
        assert status(tracking, run_id) == "RUNNING"
    run = tracking.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "my-run"
    assert run.data.tags[RUN_TAG] == "my-run"
    assert run.data.tags["fla.recipe"] == "r"


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_a_run_fails_with_its_block(tracking: Tracking, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, tracking.run("my-run", {}) as run_id:
        raise error
    assert caught.value is error
    assert status(tracking, run_id) == "FAILED"


def test_mlflow_going_down_does_not_hide_why_the_block_failed(
    tracking: Tracking, caplog: pytest.LogCaptureFixture
) -> None:
    def go_down_and_fail() -> None:
        tracking.client = MlflowClient(NOBODY)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"), tracking.run("my-run", {}):
        go_down_and_fail()
    assert "was not told" in caplog.text


def test_mlflow_going_down_at_the_end_of_a_good_block_is_an_error(tracking: Tracking) -> None:
    with pytest.raises(TrackingError), tracking.run("my-run", {}):
        tracking.client = MlflowClient(NOBODY)


def test_runs_share_an_experiment_whose_artifacts_are_beside_the_database(
    tracking: Tracking, tmp_path: Path
) -> None:
    first = tracking.experiment_id()
    assert tracking.experiment_id() == first
    location = tracking.client.get_experiment(first).artifact_location
    assert location == (tmp_path / "mlartifacts").as_uri()


def test_runs_that_start_together_create_one_experiment(tracking: Tracking) -> None:
    together = threading.Barrier(4)

    def find(_: int) -> str:
        own = Tracking(tracking.uri, "contested")
        together.wait(30)
        return own.experiment_id()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(find, range(4)))) == 1


def test_what_is_logged_can_be_read(tracking: Tracking) -> None:
    with tracking.run("my-run", {}) as run_id:
        tracking.log(
            run_id,
            params={"rounds": 3, "model.hidden": (64, 32)},
            metrics={"auroc": 0.75, "absent": None, "zero": 0.0},
            tags={"note": "x"},
        )
        tracking.log(run_id)
    data = tracking.client.get_run(run_id).data
    assert data.params == {"rounds": "3", "model.hidden": "(64, 32)"}
    assert data.metrics == {"auroc": 0.75, "zero": 0.0}
    assert data.tags["note"] == "x"


def test_a_data_set_is_a_version_and_a_count(tracking: Tracking) -> None:
    with tracking.run("my-run", {}) as run_id:
        tracking.log_dataset(run_id, "hospital-a", "0123456789abcdef", 1190, "s3://a/site")
    (found,) = tracking.client.get_run(run_id).inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest) == ("hospital-a", "0123456789abcdef")
    assert json.loads(found.dataset.source) == {"uri": "s3://a/site"}
    assert {t.key: t.value for t in found.tags} == {
        "mlflow.data.context": "training",
        "rows": "1190",
    }


def test_an_mlflow_that_is_down_is_named_with_the_cure() -> None:
    tracking = Tracking(NOBODY, "e")
    with pytest.raises(TrackingError, match=f"MLflow at {NOBODY} failed.*bring MLflow back"):
        tracking.experiment_id()
    with pytest.raises(TrackingError), tracking.run("r", {}):
        raise AssertionError("the block must not be entered")
    with pytest.raises(TrackingError):
        tracking.log("0" * 32, metrics={"x": 1.0})


def test_a_database_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(TrackingError, match="sqlite:///"):
        Tracking(f"sqlite:///{tmp_path}/file/mlflow.db", "e")


def test_a_password_in_the_uri_is_not_shown() -> None:
    message = str(TrackingError("postgresql://fla:secret@db/mlflow", OSError("down")))
    assert "secret" not in message
    assert "postgresql://db/mlflow" in message
