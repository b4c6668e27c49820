import logging
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fl_assets.federation import mlflow_rounds
from fl_assets.federation.job import FederationHistory
from fl_assets.federation.mlflow_rounds import RoundLogger, replay, round_metrics
from fl_assets.federation.rounds import RoundReport, SiteReport
from fl_assets.tracking.runs import Tracking, TrackingError
from fl_assets_tests.tracking.servers import free_port, serving, silent_server

SITE = ("train_loss", "validation_loss", "validation_auroc", "seconds", "participated")
ROUND = (
    *("train_loss", "validation_loss", "validation_auroc"),
    *("sites", "dropouts", "rejected"),
    *("round_seconds", "aggregation_seconds", "gap_seconds", "bytes_sent", "bytes_received"),
)
ABSENT = {"late": "no reply", "liar": "not finite"}


def report(round_: int, sites: int = 2, auroc: float | None = 0.75) -> RoundReport:
    return RoundReport(
        round=round_,
        rounds=3,
        sites={
            f"hospital-{place}": SiteReport(
                examples=10 + place,
                train_loss=round_ + place / 10,
                validation_examples=5,
                validation_loss=0.5 / round_,
                validation_auroc=auroc,
                seconds=0.1,
                partitions="p",
            )
            for place in range(sites)
        },
        dropouts=ABSENT,
        rejected=("liar",),
        seconds=1.5,
        aggregation=0.25,
        gap=None if round_ == 1 else 0.125,
        sent=100,
        received=200,
    )


def history(tracking: Tracking, run_id: str, name: str) -> dict[int, float]:
    return {m.step: m.value for m in tracking.client.get_metric_history(run_id, name)}


def test_every_figure_of_every_round_and_hospital_arrives(tracking: Tracking) -> None:
    with tracking.run("r", {}) as run_id:
        logger = RoundLogger(tracking.uri, run_id)
        for round_ in (1, 2, 3):
            logger(report(round_), "training")
        logger.close()

    expected = {*ROUND, *(f"hospital-{p}/{n}" for p in (0, 1) for n in SITE)}
    expected |= {f"{name}/participated" for name in ABSENT}
    assert set(tracking.client.get_run(run_id).data.metrics) == expected
    for round_ in (1, 2, 3):
        for metric in round_metrics(report(round_), "training"):
            assert history(tracking, run_id, metric.key)[round_] == metric.value
    assert history(tracking, run_id, "hospital-1/train_loss") == {1: 1.1, 2: 2.1, 3: 3.1}
    assert history(tracking, run_id, "dropouts") == {1: 2.0, 2: 2.0, 3: 2.0}
    assert history(tracking, run_id, "rejected") == {1: 1.0, 2: 1.0, 3: 1.0}
    assert history(tracking, run_id, "hospital-0/participated") == {1: 1.0, 2: 1.0, 3: 1.0}
    assert history(tracking, run_id, "late/participated") == {1: 0.0, 2: 0.0, 3: 0.0}
    assert history(tracking, run_id, "gap_seconds") == {2: 0.125, 3: 0.125}
    assert history(tracking, run_id, "train_loss")[2] == report(2).train_loss


def test_pretraining_has_names_of_its_own() -> None:
    training = {metric.key for metric in round_metrics(report(2), "training")}
    pretraining = {metric.key for metric in round_metrics(report(2), "pretraining")}
    assert pretraining == {f"pretraining/{name}" for name in training}


def test_a_finished_run_is_told_as_it_would_have_been(tracking: Tracking) -> None:
    done = FederationHistory(
        rounds=tuple(report(round_, sites=40) for round_ in (1, 2, 3)),
        final={},
        pretraining=(report(1),),
    )
    with tracking.run("live", {}) as live:
        logger = RoundLogger(tracking.uri, live)
        for phase, each in done.by_phase:
            logger(each, phase)
        logger.close()
    with tracking.run("later", {}) as later:
        replay(done, tracking.uri, later)

    names = set(tracking.client.get_run(live).data.metrics)
    assert names == set(tracking.client.get_run(later).data.metrics)
    assert "pretraining/train_loss" in names
    for name in names:
        assert history(tracking, later, name) == history(tracking, live, name)


def test_telling_it_to_an_mlflow_that_is_down_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    done = FederationHistory(rounds=(report(1),), final={})
    with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:1 failed"):
        replay(done, "http://127.0.0.1:1", "0" * 32)


def test_what_does_not_exist_is_left_out() -> None:
    names = {metric.key for metric in round_metrics(report(1, auroc=None), "training")}
    assert "validation_auroc" not in names
    assert "hospital-0/validation_auroc" not in names
    assert "validation_loss" in names


def test_a_round_of_hundreds_of_hospitals_fits(tracking: Tracking) -> None:
    with tracking.run("r", {}) as run_id:
        logger = RoundLogger(tracking.uri, run_id)
        logger(report(1, sites=300), "training")
        logger.close()
    assert (
        len(tracking.client.get_run(run_id).data.metrics)
        == 300 * len(SITE) + len(ABSENT) + len(ROUND) - 1
    )


def test_without_mlflow_a_training_goes_on_and_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "file").write_text("no folder")
    for uri in ("http://127.0.0.1:1", f"sqlite:///{tmp_path}/file/mlflow.db"):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            logger = RoundLogger(uri, "0" * 32)
            logger(report(1), "training")
            logger(report(2), "training")
            logger.close()
        expected = 2 * (2 * len(SITE) + len(ABSENT) + len(ROUND)) - 1
        assert f"{expected} metrics never reached MLflow; the run's history has them" in caplog.text


def test_an_mlflow_that_hangs_makes_no_round_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with silent_server() as uri:
        logger = RoundLogger(uri, "0" * 32)
        started = time.monotonic()
        for round_ in range(1, 201):
            logger(report(round_), "training")
        assert time.monotonic() - started < 1
        # What waits goes together: not a timeout for each of the rounds.
        logger.close()
        assert time.monotonic() - started < 20


def test_closing_returns_even_if_mlflow_never_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")
    monkeypatch.setattr(mlflow_rounds, "CLOSING_SECONDS", 0.2)
    with silent_server() as uri, caplog.at_level(logging.WARNING):
        logger = RoundLogger(uri, "0" * 32)
        logger(report(1), "training")
        started = time.monotonic()
        logger.close()
        assert time.monotonic() - started < 10
    assert "MLflow does not answer" in caplog.text


@pytest.fixture
def refused() -> Iterator[threading.Event]:
    """Set once MLflow did not take what it was sent."""
    event = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "took no metrics" in record.getMessage():
                event.set()

    listener = Listener()
    mlflow_rounds.log.addHandler(listener)
    yield event
    mlflow_rounds.log.removeHandler(listener)


def test_what_was_refused_goes_with_the_next_round(
    tracking: Tracking, tmp_path: Path, refused: threading.Event
) -> None:
    with tracking.run("r", {}) as run_id:
        pass
    place = tmp_path / "later"
    place.write_text("in the way")
    logger = RoundLogger(f"sqlite:///{place}/mlflow.db", run_id)
    logger(report(1), "training")
    assert refused.wait(60)
    place.unlink()
    place.mkdir()
    shutil.copyfile(tmp_path / "mlflow.db", place / "mlflow.db")
    logger(report(2), "training")
    logger.close()

    later = Tracking(f"sqlite:///{place}/mlflow.db", "test-experiment")
    assert history(later, run_id, "train_loss") == {r: report(r).train_loss for r in (1, 2)}


@pytest.mark.services
def test_a_server_that_comes_late_misses_nothing(
    tracking: Tracking, tmp_path: Path, refused: threading.Event
) -> None:
    with tracking.run("r", {}) as run_id:
        pass
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    logger = RoundLogger(url, run_id)
    logger(report(1), "training")
    logger(report(2), "training")
    assert refused.wait(60)
    command = ["server", "--backend-store-uri", tracking.uri, "--host", "127.0.0.1"]
    options = ["--port", str(port), "--workers", "1"]
    with serving([*command, *options], f"{url}/health", tmp_path / "server.log"):
        logger(report(3), "training")
        logger.close()

    for round_ in (1, 2, 3):
        for metric in round_metrics(report(round_), "training"):
            assert history(tracking, run_id, metric.key)[round_] == metric.value
