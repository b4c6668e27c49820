"""Runs of Dagster that are pods of a fake cluster, launched by K8sRunLauncher."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import yaml

from fl_assets.settings import Settings
from fl_assets_tests.cluster.fakekube import FakeKube
from fl_assets_tests.cluster.installed import (
    IMAGES,
    RUN_IMAGE,
    SERVER_IMAGE,
    SITE_IMAGE,
    installed,
)
from fl_assets_tests.federation.deployment.processes import HERE

TRAINING = "federated-learning"
ROLE = "AWS_ROLE_ARN"
FINISHED = {
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
}
PATIENCE = 250.0  # half a minute on an idle machine
# As chart fl-consortium demands it of every pod.
RESTRICTED = {
    "allow_privilege_escalation": False,
    "capabilities": {"drop": ["ALL"]},
    "run_as_non_root": True,
    "seccomp_profile": {"type": "RuntimeDefault"},
}


@contextmanager
def cluster_of(settings: Settings, base: Path) -> Iterator[FakeKube]:
    """A cluster with a consortium and with what a run of Dagster needs.

    Args:
        settings: of :func:`fl_assets_tests.cluster.installed.prepare`.
        base: folder whose paths are the same in pods.
    """
    run = HERE | {
        "DAGSTER_HOME": str(settings.home / "dagster"),
        "FLA_HOME": str(settings.home),
        "FLA_RECIPES": str(settings.recipes),
        "FLA_CONSORTIUM": str(settings.consortium_file),
        "FLA_COORDINATOR": settings.coordinator_uri,
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
        "FLA_RUNTIME": "kubernetes",
        "FLA_SITE_IMAGE": SITE_IMAGE,
        "FLA_SERVER_IMAGE": SERVER_IMAGE,
    }
    instance = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "dagster-instance", "namespace": TRAINING},
        "data": {"dagster.yaml": "{}"},
    }
    with FakeKube(
        images=IMAGES | {RUN_IMAGE: run},
        identities={(f"fl-{n}", "site"): {ROLE: n} for n in settings.consortium.hospital_names},
        host_paths=[base],
    ) as cluster:
        cluster.apply(*installed(settings), instance)
        yield cluster
    assert cluster.processes() == []


@contextmanager
def instance_of(settings: Settings, kube: FakeKube) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance, whose launcher has the account that it has on a cluster."""
    folder = settings.home / "dagster"
    folder.mkdir()
    launcher = {
        "service_account_name": "coordinator",
        "job_image": RUN_IMAGE,
        "job_namespace": TRAINING,
        "instance_config_map": "dagster-instance",
        "dagster_home": str(folder),
        "load_incluster_config": False,
        "kubeconfig_file": kube.kubeconfig_for("mlops", "dagster"),
        "run_k8s_config": {
            "container_config": {"security_context": RESTRICTED},
            "pod_spec_config": {"automount_service_account_token": True},
        },
    }
    config = {
        "telemetry": {"enabled": False},
        "run_launcher": {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": launcher},
        "run_coordinator": {
            "module": "dagster._core.run_coordinator",
            "class": "DefaultRunCoordinator",
        },
    }
    (folder / "dagster.yaml").write_text(yaml.safe_dump(config))
    with dg.DagsterInstance.from_config(str(folder)) as found:
        yield found


def launch(instance: dg.DagsterInstance, kube: FakeKube, partition: str, job: str = "train") -> str:
    """Launch a job of ``cluster_job.py``, a training by default; return the id of its run."""
    module = "fl_assets_tests.federation.runtimes.cluster_job"
    tags = f'{{"dagster/partition": "{partition}"}}'
    command = [sys.executable, "-m", "dagster", "job", "launch", "-m", module, "-j", job]
    subprocess.run(
        [*command, "--tags", tags],
        env={**os.environ, **kube.images[RUN_IMAGE]},
        check=True,
        capture_output=True,
        text=True,
    )
    return instance.get_runs(limit=1)[0].run_id


def messages(instance: dg.DagsterInstance, run: str) -> str:
    """What a run's event log says, with the reasons of failures."""
    said = []
    for entry in instance.all_logs(run):
        event = entry.dagster_event
        said.append(entry.user_message or entry.message)
        if event is not None and event.is_step_failure:
            said.append(str(event.step_failure_data.error_display_string))
    return "\n".join(said)


def status(instance: dg.DagsterInstance, run: str) -> dg.DagsterRunStatus:
    found = instance.get_run_by_id(run)
    assert found is not None
    return found.status


def await_run(
    instance: dg.DagsterInstance, run: str, reached: Callable[[], object] = lambda: False
) -> None:
    """Wait until a run is over, or something else is so."""
    end, never = time.monotonic() + PATIENCE, threading.Event()
    while not reached() and status(instance, run) not in FINISHED:
        assert time.monotonic() < end, messages(instance, run)
        never.wait(0.1)
