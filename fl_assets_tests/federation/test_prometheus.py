from __future__ import annotations

import logging
import socket
import urllib.request
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from fl_assets.federation.checkpoints import Checkpoint, Checkpoints
from fl_assets.federation.deployment.pki import Authority
from fl_assets.federation.prometheus import HOST, RoundMetrics, TlsEndpoint, serving
from fl_assets.federation.rounds import RoundReport, SiteReport
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets_tests.federation.conftest import MakeJob
from fl_assets_tests.tracking.servers import free_port

RUN = {"recipe": "fedavg-lr", "run": "fedavg-lr-1"}
TRAINING = RUN | {"phase": "training"}


def report(round_: int, loss: float, auroc: float | None, **dropouts: str) -> RoundReport:
    site = SiteReport(
        examples=10,
        train_loss=loss,
        validation_examples=5,
        validation_loss=0.5,
        validation_auroc=auroc,
        seconds=0.1,
        partitions="p",
    )
    return RoundReport(
        round=round_,
        rounds=3,
        sites={"hospital-a": site, "hospital-b": site},
        dropouts=dropouts,
        rejected=tuple(name for name, cause in dropouts.items() if cause == "not finite"),
        seconds=0.2 * round_,
        aggregation=0.001,
        gap=None,
        sent=300,
        received=200,
    )


Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def figure(found: Figures, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def scrape(port: int) -> Figures:
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


@pytest.fixture
def metrics() -> RoundMetrics:
    return RoundMetrics(*RUN.values(), ["hospital-a", "hospital-b", "hospital-c"])


def test_a_scrape_says_what_happened_so_far(metrics: RoundMetrics) -> None:
    port = free_port()
    with serving(metrics, port):
        before = scrape(port)
        metrics(report(1, 0.5, 0.7, **{"hospital-c": "late"}), "training")
        first = scrape(port)
        metrics(report(2, 0.4, None, **{"hospital-c": "not finite"}), "training")
        second = scrape(port)

    absent = RUN | {"hospital": "hospital-c"}
    assert figure(before, "fl_dropouts_total", **absent) == 0
    assert figure(first, "fl_dropouts_total", **absent) == 1
    assert figure(second, "fl_dropouts_total", **absent) == 2
    assert figure(first, "fl_update_rejected_total", **absent) == 0
    assert figure(second, "fl_update_rejected_total", **absent) == 1
    assert figure(second, "fl_dropouts_total", **RUN, hospital="hospital-a") == 0
    assert figure(first, "fl_rounds_total", **TRAINING) == 1
    assert figure(second, "fl_rounds_total", **TRAINING) == 2
    assert figure(second, "fl_sites_active", **TRAINING) == 2
    assert figure(first, "fl_train_loss", **TRAINING) == 0.5
    assert figure(second, "fl_train_loss", **TRAINING) == 0.4
    # A round without a figure leaves the last one that there was.
    assert figure(second, "fl_global_auroc", **RUN) == pytest.approx(0.7)
    assert figure(second, "fl_bytes_sent_total", **TRAINING) == 600
    assert figure(second, "fl_bytes_received_total", **TRAINING) == 400
    assert figure(second, "fl_round_duration_seconds_count", **TRAINING) == 2
    assert figure(second, "fl_round_duration_seconds_sum", **TRAINING) == pytest.approx(0.6)
    assert figure(second, "fl_round_duration_seconds_bucket", **TRAINING, le="0.3") == 1


def test_the_phases_are_told_apart(metrics: RoundMetrics) -> None:
    metrics(report(1, 9.0, None), "pretraining")
    metrics(report(1, 0.5, 0.7), "training")
    value = metrics.registry.get_sample_value
    assert value("fl_train_loss", RUN | {"phase": "pretraining"}) == 9.0
    assert value("fl_train_loss", TRAINING) == 0.5
    assert value("fl_rounds_total", TRAINING) == 1


def test_nobody_else_can_reach_it_and_the_port_is_free_afterwards(metrics: RoundMetrics) -> None:
    port = free_port()
    for _ in range(2):
        with serving(metrics, port):
            assert not is_free(port)
            with socket.socket() as everywhere:
                # Taken on loopback alone, so another address of this machine still has it.
                everywhere.bind(("127.0.0.2", port))
        assert is_free(port)


def test_beyond_this_machine_it_is_served_by_tls_alone(
    metrics: RoundMetrics, tmp_path: Path
) -> None:
    # Another address of this machine stands for that of a pod.
    host, port = "127.0.0.2", free_port()
    files = Authority().issue(tmp_path, host)
    public = TlsEndpoint(host, str(files.certificate), str(files.key))
    with serving(metrics, port, public):
        assert is_free(port)
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://{host}:{port}/metrics", timeout=5)
        answer = requests.get(f"https://{host}:{port}/metrics", verify=str(files.ca), timeout=5)
    assert "fl_dropouts_total" in answer.text


def test_it_ends_with_a_run_that_fails(metrics: RoundMetrics) -> None:
    port = free_port()
    with pytest.raises(RuntimeError, match="training"), serving(metrics, port):
        raise RuntimeError("training")
    assert is_free(port)


def test_a_port_that_is_taken_stops_nothing(
    metrics: RoundMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with caplog.at_level(logging.WARNING), serving(metrics, port):
            metrics(report(1, 0.5, 0.7), "training")
    assert f"{HOST}:{port} cannot be had (Address already in use): choose another metrics_port" in (
        caplog.text
    )
    assert metrics.registry.get_sample_value("fl_rounds_total", TRAINING) == 1


def test_a_run_can_be_watched(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    job = make_job(rounds=3).model_copy(update={"metrics_port": port})
    seen = []
    save = Checkpoints.save

    def scrape_and_save(self: Checkpoints, checkpoint: Checkpoint) -> None:
        # Before the observers hear of this round.
        seen.append(scrape(port))
        save(self, checkpoint)

    monkeypatch.setattr(Checkpoints, "save", scrape_and_save)
    result = InProcessRuntime().run(job)

    labels = {"recipe": job.recipe.name, "run": job.run}
    training = labels | {"phase": "training"}
    first, second = result.history.rounds[:2]
    assert ("fl_rounds_total", frozenset(training.items())) not in seen[0]
    assert [figure(found, "fl_rounds_total", **training) for found in seen[1:]] == [1, 2]
    assert figure(seen[2], "fl_sites_active", **training) == 3
    assert figure(seen[2], "fl_train_loss", **training) == second.train_loss
    assert figure(seen[2], "fl_global_auroc", **labels) == second.validation_auroc
    assert figure(seen[2], "fl_bytes_sent_total", **training) == first.sent + second.sent
    assert is_free(port)


def test_a_run_without_its_port_trains_all_the_same(
    make_job: MakeJob, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        job = make_job().model_copy(update={"metrics_port": other.getsockname()[1]})
        assert len(InProcessRuntime().run(job).history.rounds) == 2
    assert "no Prometheus metrics for this run" in caplog.text
