"""Trainings of Dagster runs that are pods themselves, launched by K8sRunLauncher."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from fl_assets.coordinator.preprocessors import build_preprocessors, load_preprocessors
from fl_assets.coordinator.training import load_release
from fl_assets.federation.deployment.pod_server import RUN_BEGINS
from fl_assets.federation.job import FederationJob, load_result
from fl_assets.federation.recipe import load_recipe
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.learning.weights import weights_to_bytes
from fl_assets.settings import Settings
from fl_assets.site.profile import load_profile
from fl_assets_tests.cluster.fakekube import FakeKube
from fl_assets_tests.cluster.installed import (
    RUN_IMAGE,
    SERVER_IMAGE,
    SITE_IMAGE,
    installed,
    prepare,
    processes_in,
)
from fl_assets_tests.federation.deployment.processes import HERE, environment_of, wait_for
from fl_assets_tests.world import settings_of

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

TRAINING = "federated-learning"
FINISHED = {
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
}
PATIENCE = 200.0  # half a minute on an idle machine
ROLE = "AWS_ROLE_ARN"
# As chart fl-consortium demands it of every pod.
RESTRICTED = {
    "allow_privilege_escalation": False,
    "capabilities": {"drop": ["ALL"]},
    "run_as_non_root": True,
    "seccomp_profile": {"type": "RuntimeDefault"},
}


@pytest.fixture(scope="module")
def settings(_pristine_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("cluster") / "world"
    shutil.copytree(_pristine_world, home)
    settings = prepare(settings_of(home))
    slow = {"rounds": 10_000, "description": "It is cancelled."}
    lr = yaml.safe_load((settings.recipes / "small-lr.yaml").read_text())
    (settings.recipes / "endless.yaml").write_text(yaml.safe_dump(lr | slow))
    profiles = {
        name: load_profile(settings.site_store(name)) for name in settings.consortium.hospital_names
    }
    build_preprocessors(settings.coordinator_store(), settings.cohort, profiles)
    return settings


@pytest.fixture(scope="module")
def kube(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeKube]:
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
    with FakeKube(
        images={SITE_IMAGE: {}, SERVER_IMAGE: {}, RUN_IMAGE: run},
        identities={(f"fl-{n}", "site"): {ROLE: n} for n in settings.consortium.hospital_names},
        host_paths=[tmp_path_factory.getbasetemp()],
    ) as cluster:
        cluster.apply(*installed(settings))
        cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "dagster-instance", "namespace": TRAINING},
                "data": {"dagster.yaml": "{}"},
            }
        )
        yield cluster
    assert cluster.processes() == []


@pytest.fixture(scope="module")
def instance(settings: Settings, kube: FakeKube) -> Iterator[dg.DagsterInstance]:
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
        "run_launcher": {
            "module": "dagster_k8s",
            "class": "K8sRunLauncher",
            "config": launcher,
        },
        "run_coordinator": {
            "module": "dagster._core.run_coordinator",
            "class": "DefaultRunCoordinator",
        },
    }
    (folder / "dagster.yaml").write_text(yaml.safe_dump(config))
    with dg.DagsterInstance.from_config(str(folder)) as found:
        yield found


def launch(instance: dg.DagsterInstance, kube: FakeKube, recipe: str) -> str:
    """Launch a training; return the id of its Dagster run."""
    module = "fl_assets_tests.federation.runtimes.cluster_job"
    tags = f'{{"dagster/partition": "{recipe}"}}'
    command = [sys.executable, "-m", "dagster", "job", "launch", "-m", module, "-j", "train"]
    subprocess.run(
        [*command, "--tags", tags],
        env={**os.environ, **kube.images[RUN_IMAGE]},
        check=True,
        capture_output=True,
        text=True,
    )
    return instance.get_runs(limit=1)[0].run_id


def look_for_roles(kube: FakeKube, seen: dict[str, set[str]]) -> None:
    """Note as whom the processes of hospitals' pods run now, by module."""
    for module in ("pod_site", "executor", "supernode"):
        seen.setdefault(module, set())
    for pid in processes_in(kube):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text()
            role = environment_of(pid).get(ROLE)
        except OSError:
            continue
        found = re.search(r"deployment\.(\w+)", command)
        if found is not None and role is not None:
            seen.setdefault(found[1], set()).add(role)


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


def test_a_run_of_dagster_trains_at_the_hospitals(
    settings: Settings, kube: FakeKube, instance: dg.DagsterInstance
) -> None:
    run = launch(instance, kube, "small-lr")
    seen: dict[str, set[str]] = {}
    await_run(instance, run, lambda: look_for_roles(kube, seen))
    said = messages(instance, run)
    assert status(instance, run) == dg.DagsterRunStatus.SUCCESS, said
    assert f"server: {RUN_BEGINS}" in said
    assert "server: round 3 of 3  3 sites" in said

    store = settings.coordinator_store()
    release = load_release(store, "small-lr")
    recipe = load_recipe(settings.recipes / "small-lr.yaml")
    job = FederationJob(
        run="reference",
        recipe=recipe,
        preprocessor=load_preprocessors(store).of(recipe),
        sites={name: settings.site_uri(name) for name in release.hospitals},
        output=settings.coordinator_uri,
        budgets=settings.consortium.budgets,
    )
    expected = InProcessRuntime().run(job)
    assert weights_to_bytes(load_result(store, release.run).weights) == weights_to_bytes(
        expected.weights
    )
    # Each hospital's code is itself, and its link to the server has no right on a row.
    hospitals = set(release.hospitals)
    assert seen == {"pod_site": hospitals, "executor": hospitals, "supernode": set()}
    # Of the hospitals' namespaces the run has had what the chart allows, and not more.
    asked = [r for r in kube.requests if r.account == f"{TRAINING}/coordinator"]
    assert {r.namespace for r in asked} == {TRAINING, *map("fl-{}".format, release.hospitals)}
    assert not [r for r in asked if r.code == 403]
    wait_for(lambda: not kube.leftovers(**{"app.kubernetes.io/name": "fl-assets"}))


@pytest.mark.faults
def test_a_run_that_is_cancelled_leaves_nothing(
    kube: FakeKube, instance: dg.DagsterInstance
) -> None:
    run = launch(instance, kube, "endless")
    await_run(instance, run, lambda: RUN_BEGINS in messages(instance, run))
    assert status(instance, run) == dg.DagsterRunStatus.STARTED, messages(instance, run)
    (server,) = [job for job in kube.objects("Job", TRAINING) if "fl/group" in str(job["metadata"])]
    assert server["metadata"]["labels"]["fl/run"] == run
    # Were the run's pod to die without a word, the server would go with it.
    assert server["metadata"]["ownerReferences"][0]["kind"] == "Pod"

    assert instance.run_launcher.terminate(run)
    await_run(instance, run)
    assert status(instance, run) == dg.DagsterRunStatus.CANCELED
    wait_for(lambda: not processes_in(kube))
    kube.wait_gone(**{"app.kubernetes.io/name": "fl-assets"})
