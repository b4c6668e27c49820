"""What may run in a hospital's namespace: the chart's own policy, whose expressions are evaluated.

No image can be pulled, so that nothing runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fl_assets.cluster.api import ClusterApi, ClusterApiError
from fl_assets.cluster.client import connect
from fl_assets.cluster.manifests import PodJob, group_name, job_manifest
from fl_assets.consortium import Cluster, PodResources
from fl_assets.federation.deployment.pod_site import SitePodArguments
from fl_assets.settings import Settings
from fl_assets_tests.cluster.fakekube import FakeKube
from fl_assets_tests.cluster.fakekube.errors import ApiError
from fl_assets_tests.cluster.installed import SITE_IMAGE, installed, prepare
from fl_assets_tests.world import settings_of

pytestmark = pytest.mark.services

ME, PLACE = "hospital-a", "fl-hospital-a"
TRAINING = "federated-learning"
CLI = ["python", "-m", "fl_assets.cli", "doctor"]
Alter = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def settings(_pristine_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("admission")
    file = "consortium.yaml"
    (home / file).write_text((_pristine_world / file).read_text())
    return prepare(settings_of(home))


@pytest.fixture(scope="module")
def kube(settings: Settings) -> Iterator[FakeKube]:
    with FakeKube() as cluster:
        cluster.apply(*installed(settings))
        yield cluster


@pytest.fixture
def api(kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> ClusterApi:
    """With the coordinator's rights."""
    monkeypatch.setenv("KUBECONFIG", kube.kubeconfig_for(TRAINING, "coordinator"))
    return ClusterApi(connect())


def task(**changes: Any) -> PodJob:
    """A task of a hospital's."""
    pod = PodJob(
        group=group_name("admission"),
        component="task",
        namespace=PLACE,
        account="site",
        image=SITE_IMAGE,
        command=("python", "-m", "fl_assets.site", "answer", ME, "0123456789abcdef" * 2),
        resources=PodResources(),
        run="r",
        hospital=ME,
    )
    return replace(pod, **changes)


def site(**changes: Any) -> PodJob:
    """A hospital's part of a training."""
    arguments = SitePodArguments(
        hospital=ME, superlink="10.0.0.7:9092", secrets=Path("/etc/fla/run"), start_seconds=600
    )
    arguments = arguments.model_copy(update=changes)
    module = "fl_assets.federation.deployment.pod_site"
    command = ("python", "-m", module, arguments.model_dump_json())
    return task(component="site", command=command, secret=True, retries=3)


@pytest.mark.parametrize("pod", [task(), site()], ids=["task", "training"])
def test_what_the_project_makes_is_let_in_as_job_and_as_pod(
    api: ClusterApi, kube: FakeKube, pod: PodJob
) -> None:
    api.create(job_manifest(Cluster(), pod))
    kube.until(lambda: kube.objects("Pod", PLACE, **{"job-name": pod.name}))


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (task(image="registry/evil:1"), "has the image of the release, registry/site:1"),
        (task(account="default"), "has its account, site"),
        (task(command=["python", "-c", "import os", "x"]), "the project's own commands"),
        (task(command=["sh", "-c", "cat /data", "x"]), "the project's own commands"),
        (task(command=CLI), "the project's own commands"),
        (task(command=[*task().command[:4], "hospital-b", "0" * 32]), "for that hospital"),
        (task(command=[*task().command[:5], "../../etc"]), "the project's own commands"),
        (site(hospital="hospital-b"), "for that hospital"),
        (site(superlink="10.0.0.7:443"), "the project's own commands"),
        (site(superlink="evil.example:9092"), "the project's own commands"),
        (site(secrets=Path("/tmp")), "the project's own commands"),
    ],
)
def test_another_program_is_refused_to_the_coordinator(
    api: ClusterApi, pod: PodJob, words: str
) -> None:
    with pytest.raises(ClusterApiError, match=words) as caught:
        api.create(job_manifest(Cluster(), pod))
    assert "nothing but this release's own pods: after an upgrade start" in str(caught.value)


def first(pod: dict[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = pod["containers"][0]
    return container


SECRET = {"name": "run", "secret": {"secretName": "coordinators-own"}}
CODE = "/opt/venv/lib/python3.11/site-packages/fl_assets"


@pytest.mark.parametrize(
    ("alter", "words"),
    {
        "arguments": (lambda p: first(p).update(args=["x"]), "own commands"),
        "no command": (lambda p: first(p).pop("command"), "own commands"),
        "second container": (
            lambda p: p["containers"].append({**first(p), "name": "other"}),
            "fakekube runs exactly one container",
        ),
        "token": (lambda p: p.update(automountServiceAccountToken=True), "no token of the"),
        "secret": (lambda p: p["volumes"].append(SECRET), "own volumes"),
        "other ConfigMap": (
            lambda p: p["volumes"][1]["configMap"].update(name="mine"),
            "own volumes",
        ),
        "file by another name": (
            lambda p: p["volumes"][1]["configMap"].update(items=[{"key": "a", "path": "b"}]),
            "own volumes",
        ),
        "token of another audience": (
            lambda p: p["volumes"].append(
                {
                    "name": "aws-iam-token",
                    "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]},
                }
            ),
            "own volumes",
        ),
        "files over the code": (
            lambda p: first(p)["volumeMounts"][1].update(mountPath=CODE),
            "volumes where the project puts them",
        ),
        "a part of a volume": (
            lambda p: first(p)["volumeMounts"][1].update(subPath="x"),
            "volumes where the project puts them",
        ),
        "policy of another": (
            lambda p: first(p)["env"][2].update(value="/tmp/consortium.yaml"),
            "own environment",
        ),
        "no policy": (lambda p: first(p)["env"].pop(2), "own environment"),
        "code by a variable": (
            lambda p: first(p)["env"].append({"name": "PYTHONPATH", "value": "/tmp"}),
            "own environment",
        ),
        "role of another": (
            lambda p: first(p)["env"].append({"name": "AWS_ROLE_ARN", "value": "arn"}),
            "own environment",
        ),
        "a secret's variable": (
            lambda p: first(p)["env"][4].update(
                valueFrom={"secretKeyRef": {"name": "s", "key": "k"}}
            ),
            "own environment",
        ),
        "settings of another": (
            lambda p: first(p)["envFrom"].append({"secretRef": {"name": "mine"}}),
            "from ConfigMap fla-environment alone",
        ),
        "hook": (
            lambda p: first(p).update(
                lifecycle={"postStart": {"exec": {"command": ["sh", "-c", "x"]}}}
            ),
            "neither hooks nor probes",
        ),
        "probe": (
            lambda p: first(p).update(livenessProbe={"exec": {"command": ["sh"]}}),
            "neither hooks nor probes",
        ),
        "working directory": (
            lambda p: first(p).update(workingDir="/etc/fla/run"),
            "working directory of its own",
        ),
        "log as last words": (
            lambda p: first(p).update(terminationMessagePolicy="FallbackToLogsOnError"),
            "says why it ended",
        ),
        "file as last words": (
            lambda p: first(p).update(terminationMessagePath="/tmp/rows.csv"),
            "says why it ended",
        ),
        "names": (
            lambda p: p.update(hostAliases=[{"ip": "1.2.3.4", "hostnames": ["s3"]}]),
            "finds names as the cluster does",
        ),
    }.values(),
)
def test_what_would_make_the_program_another_is_refused(
    api: ClusterApi, alter: Alter, words: str
) -> None:
    manifest = job_manifest(Cluster(), task())
    alter(manifest["spec"]["template"]["spec"])
    with pytest.raises(ClusterApiError, match=words):
        api.create(manifest)


def test_the_secret_of_another_job_is_not_to_be_had(api: ClusterApi) -> None:
    manifest = job_manifest(Cluster(), site())
    manifest["spec"]["template"]["spec"]["volumes"][2]["secret"]["secretName"] = site().name
    with pytest.raises(ClusterApiError, match="own volumes"):
        api.create(manifest)


def test_people_may_run_fla_at_a_hospital_and_nothing_else(kube: FakeKube) -> None:
    kube.apply(job_manifest(Cluster(), task(command=CLI)))
    for pod in (task(command=["sh", "-c", "a", "b"]), task(command=CLI, image="registry/evil:1")):
        with pytest.raises(ApiError, match="denied request"):
            kube.apply(job_manifest(Cluster(), pod))


def pod_of(job: PodJob) -> dict[str, Any]:
    """A Job's pod, as it is made if somebody makes it by hand."""
    template = deepcopy(job_manifest(Cluster(), job)["spec"]["template"])
    meta = {**template["metadata"], "name": job.name, "namespace": PLACE}
    return {"apiVersion": "v1", "kind": "Pod", **template, "metadata": meta}


def test_a_pod_may_have_what_eks_adds_for_the_accounts_role(kube: FakeKube) -> None:
    pod = pod_of(task())
    container = first(pod["spec"])
    container["env"] += [
        {"name": name, "value": "x"}
        for name in ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_STS_REGIONAL_ENDPOINTS")
    ]
    token = {"audience": "sts.amazonaws.com", "path": "token"}
    sources = [{"serviceAccountToken": token}]
    pod["spec"]["volumes"].append({"name": "aws-iam-token", "projected": {"sources": sources}})
    folder = "/var/run/secrets/eks.amazonaws.com/serviceaccount"
    container["volumeMounts"].append({"name": "aws-iam-token", "mountPath": folder})
    kube.apply(pod)


def test_a_pod_without_a_job_is_held_to_the_same(kube: FakeKube) -> None:
    with pytest.raises(ApiError, match="has the image of the release"):
        kube.apply(pod_of(task(image="registry/evil:1")))


def test_a_pod_of_the_release_before_is_still_tidied_up(kube: FakeKube) -> None:
    pod = pod_of(task())
    name = pod["metadata"]["name"]
    kube.apply(pod)
    image = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "admitted-pods", "namespace": PLACE},
    }
    try:
        kube.apply({**image, "data": {"image": "registry/site:2"}})
        # Its node is the last that anybody writes into its spec.
        (now,) = kube.until(
            lambda: [
                each
                for each in kube.objects("Pod", PLACE)
                if each["metadata"]["name"] == name and each["spec"].get("nodeName")
            ]
        )
        now["metadata"]["labels"]["seen"] = "yes"
        # Whatever the node says of it meanwhile.
        del now["metadata"]["resourceVersion"]
        kube.apply(now)
        with pytest.raises(ApiError, match="registry/site:2"):
            kube.apply(pod_of(task()))
    finally:
        kube.apply({**image, "data": {"image": SITE_IMAGE}})


def test_without_the_parameter_nothing_is_let_in(kube: FakeKube, settings: Settings) -> None:
    kube.apply(
        *(
            {**item, "metadata": {**item["metadata"], "name": "fl-hospital-x"}}
            for item in installed(settings)
            if item["kind"] == "Namespace" and item["metadata"]["name"] == PLACE
        )
    )
    manifest = job_manifest(Cluster(), task(namespace="fl-hospital-x"))
    with pytest.raises(ApiError, match="no params found"):
        kube.apply(manifest)


def test_the_policy_is_for_hospitals_alone(api: ClusterApi, kube: FakeKube) -> None:
    server = task(namespace=TRAINING, account="server", image="registry/server:1", hospital=None)
    api.create(job_manifest(Cluster(), server))
