"""The API server of the fake cluster, asked by the real Python client."""

from __future__ import annotations

import base64
import json
import threading

import pytest
from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException

from fl_assets_tests.cluster.fakekube import FakeKube
from fl_assets_tests.cluster.objects import Manifest, job, named, pod


def config_map(name: str, labels: dict[str, str] | None = None, **data: str) -> Manifest:
    return named("ConfigMap", name, "default", labels=labels or {}, data=data)


def refusal(error: pytest.ExceptionInfo[ApiException]) -> Manifest:
    body = json.loads(error.value.body)
    assert (body["kind"], body["status"], body["code"]) == ("Status", "Failure", error.value.status)
    return body


def test_objects_get_a_uid_and_a_version_and_are_read_back(core: client.CoreV1Api) -> None:
    made = core.create_namespaced_config_map("default", config_map("a", x="1"))
    read = core.read_namespaced_config_map("a", "default")
    assert read.metadata.uid == made.metadata.uid
    assert read.metadata.resource_version == made.metadata.resource_version
    assert read.metadata.creation_timestamp
    assert read.data == {"x": "1"}


def test_a_generated_name_is_new_each_time(core: client.CoreV1Api) -> None:
    wanted = {"metadata": {"generateName": "map-"}}
    names = {core.create_namespaced_config_map("default", wanted).metadata.name for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("map-") and len(name) == 9 for name in names)


def test_plain_data_of_a_secret_is_encoded(core: client.CoreV1Api) -> None:
    core.create_namespaced_secret("default", named("Secret", "s", stringData={"k": "v"}))
    read = core.read_namespaced_secret("s", "default")
    assert base64.b64decode(read.data["k"]) == b"v"
    assert read.string_data is None


def test_merge_patches_and_replacements(core: client.CoreV1Api) -> None:
    core.create_namespaced_config_map("default", config_map("a", x="1", y="2"))
    patched = core.patch_namespaced_config_map("a", "default", {"data": {"x": None, "z": "3"}})
    assert patched.data == {"y": "2", "z": "3"}
    patched.data = {"only": "this"}
    assert core.replace_namespaced_config_map("a", "default", patched).data == {"only": "this"}
    with pytest.raises(ApiException) as error:
        core.replace_namespaced_config_map("a", "default", patched)
    assert refusal(error)["reason"] == "Conflict"


def test_what_is_not_there_and_what_is_there_already(core: client.CoreV1Api) -> None:
    with pytest.raises(ApiException) as error:
        core.read_namespaced_config_map("a", "default")
    assert refusal(error)["message"] == 'configmaps "a" not found'
    with pytest.raises(ApiException) as error:
        core.create_namespaced_config_map("nowhere", {"metadata": {"name": "a"}})
    assert refusal(error)["message"] == 'namespaces "nowhere" not found'
    core.create_namespaced_config_map("default", config_map("a"))
    with pytest.raises(ApiException) as error:
        core.create_namespaced_config_map("default", config_map("a"))
    assert refusal(error)["reason"] == "AlreadyExists"


def test_label_selectors(core: client.CoreV1Api) -> None:
    for name, labels in {
        "a": {"run": "1", "hospital": "x", "test": "yes"},
        "b": {"run": "1", "hospital": "y", "test": "yes"},
        "c": {"run": "2", "test": "yes"},
        "d": {"test": "yes"},
    }.items():
        core.create_namespaced_config_map("default", config_map(name, labels))
    expected = {
        "run=1": "ab",
        "run!=1": "cd",
        "run==1,hospital=x": "a",
        "hospital in (x, y)": "ab",
        "hospital notin (x)": "bcd",
        "hospital": "ab",
        "!hospital": "cd",
        "run in (2),!hospital": "c",
    }
    found = {}
    for selector in expected:
        items = core.list_namespaced_config_map("default", label_selector=f"test,{selector}").items
        found[selector] = "".join(item.metadata.name for item in items)
    assert found == expected
    with pytest.raises(ApiException) as error:
        core.list_namespaced_config_map("default", label_selector="run in 1")
    assert refusal(error)["code"] == 400


def test_field_selectors_and_those_that_the_api_does_not_have(core: client.CoreV1Api) -> None:
    for name in "ab":
        core.create_namespaced_config_map("default", config_map(name))
    found = core.list_namespaced_config_map("default", field_selector="metadata.name=b")
    assert [item.metadata.name for item in found.items] == ["b"]
    with pytest.raises(ApiException) as error:
        core.list_namespaced_pod("default", field_selector="spec.image=x")
    assert refusal(error)["message"] == 'field label not supported: "spec.image" of pods'


def test_a_collection_is_removed_by_its_labels(core: client.CoreV1Api) -> None:
    for name in "abc":
        core.create_namespaced_config_map("default", config_map(name, {"keep": str(name == "c")}))
    core.delete_collection_namespaced_config_map("default", label_selector="keep=False")
    left = core.list_namespaced_config_map("default").items
    assert [item.metadata.name for item in left] == ["c"]


def test_a_watch_tells_every_change_since_a_version(core: client.CoreV1Api) -> None:
    since = core.list_namespaced_config_map("default").metadata.resource_version
    core.create_namespaced_config_map("default", config_map("other"))
    core.create_namespaced_config_map("default", config_map("a", {"w": "1"}, x="1"))
    told = []
    stream = watch.Watch().stream(
        core.list_namespaced_config_map,
        "default",
        label_selector="w=1",
        resource_version=since,
        timeout_seconds=10,
    )
    for event in stream:
        told.append((event["type"], event["object"].metadata.name))
        if len(told) == 1:
            core.patch_namespaced_config_map("a", "default", {"data": {"x": "2"}})
        if len(told) == 2:
            core.delete_namespaced_config_map("a", "default")
        if len(told) == 3:
            break
    assert told == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


def test_a_watch_without_a_version_begins_with_what_is_there(core: client.CoreV1Api) -> None:
    core.create_namespaced_config_map("default", config_map("a"))
    stream = watch.Watch().stream(core.list_namespaced_config_map, "default", timeout_seconds=1)
    assert [event["object"].metadata.name for event in stream] == ["a"]


@pytest.mark.parametrize(
    ("change", "field", "why"),
    [
        ({"backofLimit": 1}, "spec", "backofLimit"),
        ({"backoffLimit": "1"}, "spec.backoffLimit", "not of type"),
        ({"completionMode": "Indexed"}, "spec", "indexed"),
    ],
)
def test_an_invalid_job_is_refused_naming_the_field(
    batch: client.BatchV1Api, change: Manifest, field: str, why: str
) -> None:
    with pytest.raises(ApiException) as error:
        batch.create_namespaced_job("default", job("j", "true", spec=change))
    body = refusal(error)
    assert (body["code"], body["reason"]) == (422, "Invalid")
    assert body["message"].startswith(f'Job.batch "j" is invalid: {field}: ')
    assert why in body["message"]


@pytest.mark.parametrize(
    ("manifest", "field"),
    [
        (job("Bad_Name", "true"), "metadata.name"),
        (job("j" * 64, "true"), "metadata.name"),
        (job("j", "true", labels={"run": "a b"}), "metadata.labels"),
        (job("j", "true", labels={"run": "r" * 64}), "metadata.labels"),
        (job("j", "true", restartPolicy="Always"), "spec.template.spec.restartPolicy"),
        (job("j", "true", image=""), "spec.template.spec.containers[0].image"),
        (
            job("j", "true", volumeMounts=[{"name": "v", "mountPath": "/v"}]),
            "spec.template.spec.containers[0].volumeMounts[0].name",
        ),
    ],
)
def test_what_the_schemas_let_through_is_refused_too(
    batch: client.BatchV1Api, manifest: Manifest, field: str
) -> None:
    with pytest.raises(ApiException) as error:
        batch.create_namespaced_job("default", manifest)
    body = refusal(error)
    assert body["code"] == 422
    assert f" is invalid: {field}: " in body["message"]


def test_an_owner_of_another_namespace_is_refused(kube: FakeKube, core: client.CoreV1Api) -> None:
    kube.apply(named("Namespace", "other"))
    owner = core.create_namespaced_config_map("default", config_map("owner"))
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "owner",
        "uid": owner.metadata.uid,
    }
    owned = {"metadata": {"name": "owned", "ownerReferences": [reference]}}
    with pytest.raises(ApiException) as error:
        core.create_namespaced_config_map("other", owned)
    assert "metadata.ownerReferences[0]: the owner is in namespace default" in str(error.value.body)


def test_the_template_of_a_job_and_the_spec_of_a_pod_are_immutable(
    core: client.CoreV1Api, batch: client.BatchV1Api
) -> None:
    batch.create_namespaced_job("default", job("j", "true"))
    later = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "other"}]}}}}
    with pytest.raises(ApiException) as error:
        batch.patch_namespaced_job("j", "default", later)
    assert (
        refusal(error)["message"] == 'Job.batch "j" is invalid: spec.template: field is immutable'
    )
    core.create_namespaced_pod("default", pod("p", "true"))
    with pytest.raises(ApiException) as error:
        core.patch_namespaced_pod("p", "default", {"spec": {"activeDeadlineSeconds": 5}})
    assert refusal(error)["code"] == 422


def test_a_namespace_goes_with_all_that_is_in_it(kube: FakeKube, core: client.CoreV1Api) -> None:
    kube.apply(
        named("Namespace", "n"), {**config_map("a"), "metadata": {"name": "a", "namespace": "n"}}
    )
    assert [a["metadata"]["name"] for a in kube.objects("ServiceAccount", "n")] == ["default"]
    core.delete_namespace("n")
    names = lambda: [n["metadata"]["name"] for n in kube.objects("Namespace")]  # noqa: E731
    kube.until(lambda: "n" not in names(), names)
    assert kube.objects("ConfigMap", "n") == kube.objects("ServiceAccount", "n") == []


def test_many_clients_at_once_lose_nothing(core: client.CoreV1Api, kube: FakeKube) -> None:
    def make(number: int) -> None:
        for place in range(5):
            core.create_namespaced_config_map("default", config_map(f"m-{number}-{place}"))

    threads = [threading.Thread(target=make, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kube.objects("ConfigMap")) == 20
    versions = [item["metadata"]["resourceVersion"] for item in kube.objects("ConfigMap")]
    assert len(set(versions)) == 20


def test_services_get_an_address_of_this_machine(core: client.CoreV1Api) -> None:
    spec = {"selector": {"app": "a"}, "ports": [{"port": 9092}]}
    first, second = (
        core.create_namespaced_service("default", named("Service", name, spec=spec))
        for name in "ab"
    )
    assert first.spec.cluster_ip.startswith("127.96.")
    assert first.spec.cluster_ip != second.spec.cluster_ip
    assert first.spec.ports[0].target_port == 9092
