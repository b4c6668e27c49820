"""Trainings as Jobs of a fake cluster, under the rights that the chart gives.

Those that train to the end start a dozen processes each; the ordinary suite has one such test, of
the whole way from Dagster (``test_kubernetes_dagster.py``).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fl_assets.cluster.api import ClusterApiError
from fl_assets.federation.deployment.pod_server import RUN_BEGINS
from fl_assets.federation.job import FederationJob, FederationResult
from fl_assets.federation.runtimes.base import KubernetesConfig, NoImageError, build_runtime
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.federation.runtimes.kubernetes import KubernetesRuntime, TrainingPodError
from fl_assets.learning.weights import weights_to_bytes
from fl_assets.settings import Settings
from fl_assets_tests.cluster.fakekube import FakeKube
from fl_assets_tests.cluster.installed import (
    IMAGES,
    SERVER_IMAGE,
    SITE_IMAGE,
    installed,
    prepare,
    processes_in,
)
from fl_assets_tests.federation.conftest import MakeJob
from fl_assets_tests.federation.deployment.processes import environment_of, wait_for
from fl_assets_tests.world import settings_of

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

HOSPITALS = ("hospital-a", "hospital-b", "hospital-c")
TRAINING = "federated-learning"


@pytest.fixture(scope="module")
def settings(_pristine_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("cluster") / "world"
    shutil.copytree(_pristine_world, home)
    return prepare(settings_of(home), deadline_seconds=240, start_seconds=60)


@pytest.fixture(scope="module")
def kube(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeKube]:
    identities = {(f"fl-{name}", "site"): {"AWS_ROLE_ARN": f"role of {name}"} for name in HOSPITALS}
    identities[(TRAINING, "server")] = {"AWS_ROLE_ARN": "role of the server"}
    with FakeKube(
        images=IMAGES,
        identities=identities,
        host_paths=[tmp_path_factory.getbasetemp()],
    ) as cluster:
        cluster.apply(*installed(settings))
        yield cluster
    assert cluster.processes() == []


@pytest.fixture(autouse=True)
def _as_coordinator(kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("KUBECONFIG", kube.kubeconfig_for(TRAINING, "coordinator"))
    before = len(kube.requests)
    yield
    kube.wait_gone(seconds=20)
    wait_for(lambda: not processes_in(kube))
    # What it may not do it does not try, and it never reads a hospital's log or a Secret.
    asked = kube.requests[before:]
    assert {request.account for request in asked} <= {"federated-learning/coordinator"}
    assert not [request for request in asked if request.code in (401, 403)]
    assert not [r for r in asked if "log" in r.resource and r.namespace != TRAINING]


class Story:
    """What a run says; something happens when it first says certain words."""

    def __init__(self, on: dict[str, Callable[[], None]] | None = None) -> None:
        self.lines: list[str] = []
        self._on = on or {}

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        for words in [words for words in self._on if words in line]:
            self._on.pop(words)()

    def __str__(self) -> str:
        return "\n".join(self.lines)


def train(
    settings: Settings, job: FederationJob, story: Story, images: Any = (), **cluster: Any
) -> FederationResult:
    site, server = images or (SITE_IMAGE, SERVER_IMAGE)
    changed = settings.whole_consortium.cluster.model_copy(update=cluster)
    return KubernetesRuntime(KubernetesConfig(changed, site, server, say=story)).run(job)


def bits(result: FederationResult) -> bytes:
    return weights_to_bytes(result.weights)


def in_process(job: FederationJob) -> FederationResult:
    return InProcessRuntime().run(job.model_copy(update={"run": f"{job.run}-reference"}))


def pod_of(kube: FakeKube, namespace: str) -> str:
    """The name of the newest pod of a namespace."""
    return str(kube.objects("Pod", namespace)[-1]["metadata"]["name"])


@pytest.mark.infra
def test_three_hospitals_train_to_the_same_bits_each_as_itself(
    kube: FakeKube, settings: Settings, make_job: MakeJob
) -> None:
    job = make_job("pods", settings, rounds=3)
    seen: dict[str, set[str]] = {}

    def look() -> None:
        for pid in processes_in(kube):
            module = re.search(r"deployment\.(\w+)", Path(f"/proc/{pid}/cmdline").read_text())
            if module is not None:
                role = environment_of(pid).get("AWS_ROLE_ARN", "")
                seen.setdefault(module[1], set()).add(role)
        secrets = {s["metadata"]["namespace"]: set(s["data"]) for s in kube.objects("Secret")}
        assert secrets == {f"fl-{name}": {"ca.pem", "node.key"} for name in HOSPITALS} | {
            TRAINING: {"ca.pem", "server.pem", "server.key", "job.json", "nodes.json"}
        }

    story = Story({RUN_BEGINS: look})
    result = train(settings, job, story)

    assert bits(result) == bits(in_process(job))
    assert [set(report.sites) for report in result.history.rounds] == [set(HOSPITALS)] * 3
    # Who talks to another machine has no right on a row.
    assert seen["supernode"] == seen["superlink"] == {""}
    assert seen["pod_site"] == {f"role of {name}" for name in HOSPITALS}
    assert seen["executor"] == seen["pod_site"] | seen["pod_server"]
    assert seen["pod_server"] == {"role of the server"}
    assert "server: the run is over" in story.lines


@pytest.mark.infra
@pytest.mark.faults
def test_a_killed_hospital_comes_back_and_a_killed_server_is_named_and_its_run_goes_on(
    kube: FakeKube, settings: Settings, make_job: MakeJob
) -> None:
    job = make_job("killed", settings, rounds=30, quorum=2, local_epochs=8)
    job = job.model_copy(update={"progress": True})

    def kill(namespace: str) -> None:
        kube.kill_pod(namespace, kube.objects("Pod", namespace)[-1]["metadata"]["name"])

    story = Story({RUN_BEGINS: lambda: kill("fl-hospital-b"), "round 15": lambda: kill(TRAINING)})
    with pytest.raises(TrainingPodError, match=r"coordinator's server pod.*was killed \(SIGKILL\)"):
        train(settings, job, story)
    kube.wait_gone(seconds=20)

    story = Story({RUN_BEGINS: lambda: kill("fl-hospital-c")})
    result = train(settings, job, story)
    assert result.history.resumed
    there = ["hospital-c" in report.sites for report in result.history.rounds]
    assert there[0]
    assert there[-1], str(story)
    assert re.search(r"server: round 30 of 30  3 sites", str(story))


@pytest.mark.infra
@pytest.mark.faults
def test_a_hospital_that_runs_out_of_memory_before_the_run_ends_it_in_words(
    kube: FakeKube, settings: Settings, make_job: MakeJob
) -> None:
    def strike() -> None:
        wait_for(lambda: kube.objects("Pod", "fl-hospital-c")[-1]["status"]["phase"] == "Running")
        kube.oom_kill("fl-hospital-c", pod_of(kube, "fl-hospital-c"))

    story = Story({"waiting for": strike})
    with pytest.raises(
        TrainingPodError,
        match=r"hospital-c's site pod in namespace fl-hospital-c: it ran out of memory \(limit 2Gi"
        r"\): raise `memory`",
    ):
        train(settings, make_job("memory", settings), story, retries=0)


@pytest.mark.infra
@pytest.mark.faults
def test_what_the_server_app_raises_reaches_the_caller(
    kube: FakeKube, settings: Settings, make_job: MakeJob
) -> None:
    job = make_job("diverges", settings, rounds=3, optimizer={"lr": 1e30})
    with pytest.raises(TrainingPodError, match=r"RunFailedError: QuorumNotReachedError: round \d"):
        train(settings, job, Story())


@pytest.mark.faults
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"images": (SITE_IMAGE, "registry/none:1")},
            r"the coordinator's server pod .* the image registry/none:1 cannot be pulled: .*"
            r"push it, correct FLA_SITE_IMAGE or FLA_SERVER_IMAGE",
        ),
        (
            {"images": ("registry/none:1", SERVER_IMAGE)},
            r"did not create Job .* in namespace fl-hospital-a: .* has the image of the release, "
            r"registry/site:1; a hospital's namespace takes nothing but this release's own pods",
        ),
        (
            {"hospital_namespace": "bare-{hospital}"},
            r"its service account is missing: .*serviceaccount \"site\" not found; the chart",
        ),
        (
            {"hospital_namespace": "blank-{hospital}"},
            r"its container lacks configuration: .*fla-environment.*; the chart fl-consortium",
        ),
        (
            {"node_selector": {"fl/pool": "none"}, "start_seconds": 1},
            r"did not start within 1 s: no node takes it: .*node_selector",
        ),
        (
            {"deadline_seconds": 2},
            r"it was not done after 2 s: raise deadline_seconds in consortium.yaml's `cluster`",
        ),
    ],
    ids=["server image", "image of no release", "account", "config map", "node", "deadline"],
)
def test_what_is_wrong_around_a_training_is_said_and_nothing_is_left(
    kube: FakeKube,
    settings: Settings,
    make_job: MakeJob,
    change: dict[str, Any],
    words: str,
) -> None:
    for prefix, drop in {
        "bare": ("ServiceAccount", "site"),
        "blank": ("ConfigMap", "fla-environment"),
    }.items():
        kube.apply(
            *(
                _moved(manifest, prefix)
                for manifest in installed(settings)
                if "fl-hospital-" in str(manifest["metadata"])
                and "Policy" not in manifest["kind"]
                and (manifest["kind"], manifest["metadata"]["name"]) != drop
            )
        )
    with pytest.raises((TrainingPodError, ClusterApiError), match=f"(?s){words}"):
        train(settings, make_job("wrong", settings), Story(), **change)


def _moved(manifest: dict[str, Any], prefix: str) -> dict[str, Any]:
    meta = {
        key: value.replace("fl-hospital", f"{prefix}-hospital") if isinstance(value, str) else value
        for key, value in manifest["metadata"].items()
    }
    return {**manifest, "metadata": meta}


def test_images_that_are_not_set_are_named(settings: Settings) -> None:
    bare = settings_of(settings.home)
    with pytest.raises(NoImageError, match="set FLA_SITE_IMAGE and FLA_SERVER_IMAGE to the names"):
        build_runtime("kubernetes", kubernetes=lambda: KubernetesConfig.of(bare))
