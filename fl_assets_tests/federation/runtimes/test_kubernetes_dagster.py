"""Trainings of Dagster runs that are pods themselves, launched by K8sRunLauncher."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from kubernetes import client, config

from fl_assets.coordinator.preprocessors import build_preprocessors, load_preprocessors
from fl_assets.coordinator.training import load_release
from fl_assets.federation.deployment.pod_server import RUN_BEGINS
from fl_assets.federation.job import FederationJob, load_result
from fl_assets.federation.recipe import load_recipe
from fl_assets.federation.runtimes.base import Runtime
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.federation.runtimes.processes import ProcessesRuntime
from fl_assets.learning.weights import weights_to_bytes
from fl_assets.settings import Settings
from fl_assets.site.profile import load_profile
from fl_assets_tests.cluster.dagster_runs import (
    ROLE,
    TRAINING,
    await_run,
    cluster_of,
    instance_of,
    launch,
    messages,
    status,
)
from fl_assets_tests.cluster.fakekube import FakeKube
from fl_assets_tests.cluster.installed import SITE_IMAGE, installed, prepare, processes_in
from fl_assets_tests.federation.deployment.processes import environment_of, wait_for
from fl_assets_tests.thorough import only_thorough
from fl_assets_tests.world import settings_of

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

OURS = {"app.kubernetes.io/name": "fl-assets"}
SHIPPED = Path(__file__).parents[3] / "recipes"
SUCCESS, FAILURE, CANCELED = (
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
)
RETRY = dg.DagsterEventType.STEP_UP_FOR_RETRY


@pytest.fixture(scope="module")
def settings(_pristine_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("cluster") / "world"
    shutil.copytree(_pristine_world, home)
    settings = prepare(settings_of(home))
    shutil.copyfile(SHIPPED / "fedavg-lr.yaml", settings.recipes / "fedavg-lr.yaml")
    lr = yaml.safe_load((settings.recipes / "small-lr.yaml").read_text())
    for name, changes in {
        "endless": {"rounds": 10_000},
        "lasting": {"rounds": 30, "local_epochs": 8, "quorum": 2},
    }.items():
        (settings.recipes / f"{name}.yaml").write_text(yaml.safe_dump(lr | changes))
    profiles = {
        name: load_profile(settings.site_store(name)) for name in settings.consortium.hospital_names
    }
    build_preprocessors(settings.coordinator_store(), settings.cohort, profiles)
    return settings


@pytest.fixture(scope="module")
def kube(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeKube]:
    with cluster_of(settings, tmp_path_factory.getbasetemp()) as found:
        yield found


@pytest.fixture(scope="module")
def instance(settings: Settings, kube: FakeKube) -> Iterator[dg.DagsterInstance]:
    with instance_of(settings, kube) as found:
        yield found


@pytest.fixture
def _mended(settings: Settings, kube: FakeKube) -> Iterator[None]:
    """What a test breaks of the cluster is whole again after it."""
    images, text = dict(kube.images), settings.consortium_file.read_text()
    yield
    kube.images.update(images)
    settings.consortium_file.write_text(text)
    kube.apply(*installed(settings))


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


@pytest.mark.parametrize(
    ("recipe", "elsewhere"),
    [
        pytest.param("small-lr", InProcessRuntime, marks=only_thorough),
        pytest.param("fedavg-lr", ProcessesRuntime, marks=pytest.mark.infra),
    ],
)
def test_a_run_of_dagster_trains_at_the_hospitals(
    settings: Settings,
    kube: FakeKube,
    instance: dg.DagsterInstance,
    recipe: str,
    elsewhere: Callable[[], Runtime],
) -> None:
    before = len(kube.requests)
    run = launch(instance, kube, recipe)
    seen: dict[str, set[str]] = {}
    await_run(instance, run, lambda: look_for_roles(kube, seen))
    said = messages(instance, run)
    assert status(instance, run) == SUCCESS, said
    found = load_recipe(settings.recipes / f"{recipe}.yaml")
    assert f"server: {RUN_BEGINS}" in said
    assert f"server: round {found.rounds} of {found.rounds}  3 sites" in said

    store = settings.coordinator_store()
    release = load_release(store, recipe)
    job = FederationJob(
        run=f"{recipe}-elsewhere",
        recipe=found,
        preprocessor=load_preprocessors(store).of(found),
        sites={name: settings.site_uri(name) for name in release.hospitals},
        output=settings.coordinator_uri,
        budgets=settings.consortium.budgets,
    )
    expected = elsewhere().run(job)
    assert weights_to_bytes(load_result(store, release.run).weights) == weights_to_bytes(
        expected.weights
    )
    # Each hospital's code is itself, and its link to the server has no right on a row.
    hospitals = set(release.hospitals)
    assert len(hospitals) == 3
    assert seen == {"pod_site": hospitals, "executor": hospitals, "supernode": set()}
    # Of the hospitals' namespaces the run has had what the chart allows, and not more.
    asked = [r for r in kube.requests[before:] if r.account == f"{TRAINING}/coordinator"]
    assert {r.namespace for r in asked} == {TRAINING, *map("fl-{}".format, release.hospitals)}
    assert not [r for r in asked if r.code == 403]
    wait_for(lambda: not kube.leftovers(**OURS))


def miss_an_account(settings: Settings, kube: FakeKube) -> None:
    with config.new_client_from_config(kube.kubeconfig) as connection:
        core = client.CoreV1Api(connection)
        core.delete_namespaced_service_account("site", "fl-hospital-b")


def shorten_the_deadline(settings: Settings, kube: FakeKube) -> None:
    text = yaml.safe_load(settings.consortium_file.read_text())
    text["cluster"]["deadline_seconds"] = 2
    settings.consortium_file.write_text(yaml.safe_dump(text))


def lose_the_image(settings: Settings, kube: FakeKube) -> None:
    del kube.images[SITE_IMAGE]


def cancel(instance: dg.DagsterInstance, kube: FakeKube, run: str) -> None:
    await_run(instance, run, lambda: RUN_BEGINS in messages(instance, run))
    assert status(instance, run) == dg.DagsterRunStatus.STARTED, messages(instance, run)
    (server,) = kube.objects("Job", TRAINING, **OURS)
    assert server["metadata"]["labels"]["fl/run"] == run
    # Were the run's pod to die without a word, the server would go with it.
    assert server["metadata"]["ownerReferences"][0]["kind"] == "Pod"
    assert instance.run_launcher.terminate(run)


def kill_a_hospital(instance: dg.DagsterInstance, kube: FakeKube, run: str) -> None:
    await_run(instance, run, lambda: RUN_BEGINS in messages(instance, run))
    (pod,) = kube.objects("Pod", "fl-hospital-b")
    kube.kill_pod("fl-hospital-b", pod["metadata"]["name"])


def nothing(*_: object) -> None:
    pass


@pytest.mark.faults
@pytest.mark.usefixtures("_mended")
@pytest.mark.parametrize(
    ("recipe", "before", "strike", "end", "words"),
    [
        pytest.param(
            "endless", nothing, cancel, CANCELED, "termination request", id="cancelled run"
        ),
        *(
            pytest.param(*case, id=name, marks=pytest.mark.infra)
            for name, case in {
                "killed hospital": (
                    "lasting",
                    nothing,
                    kill_a_hospital,
                    SUCCESS,
                    r"hospital-b's site pod in namespace fl-hospital-b: it was killed \(SIGKILL\)"
                    r".* another is started.* sites, 1 out.*round 30 of 30  3 sites",
                ),
                "account": (
                    "endless",
                    miss_an_account,
                    nothing,
                    FAILURE,
                    r"hospital-b's site pod .* its service account is missing: .*serviceaccount "
                    r'"site" not found; the chart fl-consortium makes it',
                ),
                "deadline": (
                    "endless",
                    shorten_the_deadline,
                    nothing,
                    FAILURE,
                    r"it was not done after 2 s: raise deadline_seconds in consortium.yaml's",
                ),
                "image": (
                    "endless",
                    lose_the_image,
                    nothing,
                    FAILURE,
                    r"hospital-\w's site pod .* the image registry/site:1 cannot be pulled: .*"
                    r"push it, correct FLA_SITE_IMAGE",
                ),
            }.items()
        ),
    ],
)
def test_what_befalls_a_run_is_said_in_its_log_and_nothing_is_left(
    settings: Settings,
    kube: FakeKube,
    instance: dg.DagsterInstance,
    recipe: str,
    before: Callable[[Settings, FakeKube], None],
    strike: Callable[[dg.DagsterInstance, FakeKube, str], None],
    end: dg.DagsterRunStatus,
    words: str,
) -> None:
    before(settings, kube)
    run = launch(instance, kube, recipe)
    strike(instance, kube, run)
    await_run(instance, run)
    said = messages(instance, run)
    assert status(instance, run) == end, said
    assert re.search(words, said, re.DOTALL), said
    # What may have been a passing trouble is tried three times.
    retries = [e for e in instance.all_logs(run) if e.dagster_event_type == RETRY]
    assert len(retries) == (2 if end == FAILURE else 0), said
    wait_for(lambda: not processes_in(kube))
    kube.wait_gone(**OURS)


@pytest.mark.infra
@pytest.mark.faults
@pytest.mark.usefixtures("_mended")
@pytest.mark.parametrize(("pod_is_gone", "seconds"), [(True, 90), (False, 75)])
def test_a_run_that_is_killed_without_a_word_leaves_nothing_for_long(
    settings: Settings,
    kube: FakeKube,
    instance: dg.DagsterInstance,
    pod_is_gone: bool,
    seconds: float,
) -> None:
    text = yaml.safe_load(settings.consortium_file.read_text())
    # The hospitals give up a minute after the server; whatever is left then goes by its deadline.
    text["cluster"] |= {"ttl_seconds": 5, "deadline_seconds": 240 if pod_is_gone else 60}
    settings.consortium_file.write_text(yaml.safe_dump(text))
    run = launch(instance, kube, "endless")
    await_run(instance, run, lambda: RUN_BEGINS in messages(instance, run))
    (pod,) = kube.objects("Pod", TRAINING, **{"dagster/run-id": run})
    name = pod["metadata"]["name"]
    kube.kill_pod(TRAINING, name)
    if pod_is_gone:
        # With its node, or because somebody deleted it: the server's Job goes along.
        with config.new_client_from_config(kube.kubeconfig) as connection:
            client.CoreV1Api(connection).delete_namespaced_pod(
                name, TRAINING, grace_period_seconds=0
            )
    kube.wait_gone(seconds, **OURS)
    wait_for(lambda: not processes_in(kube))
