"""Who may do what in the fake cluster: tokens, RBAC, pod security."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from fl_assets_tests.cluster.fakekube import FakeKube, Request
from fl_assets_tests.cluster.objects import RESTRICTED, Manifest, job, named, pod, role_for

RULES = [
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["mine"]},
]


@pytest.fixture
def connect(kube: FakeKube) -> Iterator[Callable[[str, str], client.ApiClient]]:
    with ExitStack() as stack:
        yield lambda namespace, account: stack.enter_context(
            config.new_client_from_config(kube.kubeconfig_for(namespace, account))
        )


@pytest.fixture
def coordinator(kube: FakeKube, connect: Any) -> client.ApiClient:
    """An account of its own namespace with a role in another one."""
    kube.apply(
        named("Namespace", "home"),
        named("Namespace", "hospital"),
        named("ServiceAccount", "coordinator", "home"),
        *role_for("hospital", "coordinator", RULES, home="home"),
    )
    return connect("home", "coordinator")


def test_what_a_role_names_is_allowed_and_nothing_else(
    kube: FakeKube, coordinator: client.ApiClient
) -> None:
    batch, core = client.BatchV1Api(coordinator), client.CoreV1Api(coordinator)
    batch.create_namespaced_job("hospital", job("j", "true", namespace="hospital"))
    assert len(batch.list_namespaced_job("hospital").items) == 1
    with pytest.raises(ApiException) as error:
        batch.delete_collection_namespaced_job("hospital")
    assert json.loads(error.value.body)["message"] == (
        'jobs.batch is forbidden: User "system:serviceaccount:home:coordinator" cannot '
        'deletecollection resource "jobs" in API group "batch" in the namespace "hospital"'
    )
    refused: list[Callable[[], object]] = [
        lambda: batch.list_namespaced_job("home"),
        batch.list_job_for_all_namespaces,
        lambda: core.list_namespaced_pod("hospital"),
        lambda: core.list_namespaced_secret("hospital"),
        core.list_namespace,
    ]
    for ask in refused:
        with pytest.raises(ApiException) as error:
            ask()
        assert error.value.status == 403
    assert kube.requests[0] == Request("create", "jobs", "hospital", "", "home/coordinator", 201)
    assert kube.requests[2] == Request(
        "deletecollection", "jobs", "hospital", "", "home/coordinator", 403
    )


def test_to_remove_a_collection_is_a_right_of_its_own(kube: FakeKube) -> None:
    kube.apply(
        named("Namespace", "home"),
        named("Namespace", "hospital"),
        named("ServiceAccount", "cleaner", "home"),
        *role_for(
            "hospital",
            "cleaner",
            [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["deletecollection"]}],
            home="home",
        ),
        job("j", "true", namespace="hospital"),
    )
    with config.new_client_from_config(kube.kubeconfig_for("home", "cleaner")) as connection:
        batch = client.BatchV1Api(connection)
        with pytest.raises(ApiException) as error:
            batch.delete_namespaced_job("j", "hospital")
        assert error.value.status == 403
        batch.delete_collection_namespaced_job("hospital")
    assert kube.objects("Job") == []


def test_a_subresource_needs_a_rule_of_its_own(
    kube: FakeKube, coordinator: client.ApiClient
) -> None:
    kube.images = {}
    kube.apply(pod("p", "true", namespace="hospital"))
    core = client.CoreV1Api(coordinator)
    with pytest.raises(ApiException) as error:
        core.read_namespaced_pod("p", "hospital")
    assert error.value.status == 403
    with pytest.raises(ApiException) as error:
        core.read_namespaced_pod_log("p", "hospital")
    # Allowed, and not there yet.
    assert error.value.status == 400


def test_a_rule_may_name_the_objects(kube: FakeKube, coordinator: client.ApiClient) -> None:
    for name in ("mine", "other"):
        kube.apply(named("Secret", name, "hospital", stringData={"k": "v"}))
    core = client.CoreV1Api(coordinator)
    assert core.read_namespaced_secret("mine", "hospital").data
    with pytest.raises(ApiException) as error:
        core.read_namespaced_secret("other", "hospital")
    assert error.value.status == 403


def test_the_token_of_a_missing_account_is_nobodys(kube: FakeKube, connect: Any) -> None:
    with pytest.raises(ApiException) as error:
        client.CoreV1Api(connect("default", "nobody")).list_namespaced_pod("default")
    assert error.value.status == 401
    kube.apply(named("ServiceAccount", "nobody", "default"))
    with pytest.raises(ApiException) as error:
        client.CoreV1Api(connect("default", "nobody")).list_namespaced_pod("default")
    assert error.value.status == 403


def test_cluster_roles_bind_groups_over_all_namespaces(kube: FakeKube, connect: Any) -> None:
    group = "rbac.authorization.k8s.io"
    rule = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["list"]}
    subject = {"apiGroup": group, "kind": "Group", "name": "system:serviceaccounts:default"}
    reference = {"apiGroup": group, "kind": "ClusterRole", "name": "reader"}
    api = {"apiVersion": f"{group}/v1"}
    kube.apply(
        {**named("ClusterRole", "reader", rules=[rule]), **api},
        {**named("ClusterRoleBinding", "readers", roleRef=reference, subjects=[subject]), **api},
    )
    core = client.CoreV1Api(connect("default", "default"))
    assert core.list_pod_for_all_namespaces().items == []
    with pytest.raises(ApiException) as error:
        core.read_namespaced_service_account("default", "default")
    assert error.value.status == 403


def restricted(kube: FakeKube) -> str:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kube.apply(named("Namespace", "hospital", labels=labels))
    return "hospital"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"runAsNonRoot": None}, "runAsNonRoot != true"),
        ({"allowPrivilegeEscalation": None}, "allowPrivilegeEscalation != false"),
        ({"capabilities": {"drop": ["NET_RAW"]}}, "unrestricted capabilities"),
        ({"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}, "unrestricted capabilities"),
        ({"seccompProfile": None}, "seccompProfile"),
        ({"privileged": True}, "privileged (container"),
        ({"runAsUser": 0}, "runAsUser=0"),
    ],
)
def test_a_restricted_namespace_refuses_pods_that_may_too_much(
    kube: FakeKube, change: Manifest, why: str
) -> None:
    namespace = restricted(kube)
    context = {k: v for k, v in {**RESTRICTED, **change}.items() if v is not None}
    kube.apply(job("j", "true", namespace=namespace, securityContext=context))
    event = kube.until(lambda: kube.objects("Event", namespace))[0]
    assert event["reason"] == "FailedCreate"
    assert event["involvedObject"]["name"] == "j"
    assert event["message"].startswith(
        'Error creating: pods "j-" is forbidden: violates PodSecurity "restricted:latest": ' + why
    )
    assert kube.objects("Pod", namespace) == []


def test_a_restricted_namespace_takes_restricted_pods(kube: FakeKube) -> None:
    namespace = restricted(kube)
    kube.apply(job("j", "true", namespace=namespace, securityContext=RESTRICTED))
    assert kube.until(lambda: kube.objects("Pod", namespace))
    # A volume of the node is none that restricted pods may have.
    volume = {"name": "node", "hostPath": {"path": "/"}}
    kube.apply(job("k", "true", namespace=namespace, securityContext=RESTRICTED, volumes=[volume]))
    told = lambda: [e["message"] for e in kube.objects("Event", namespace)]  # noqa: E731
    kube.until(lambda: any('(volume "node" uses hostPath)' in text for text in told()), told)
