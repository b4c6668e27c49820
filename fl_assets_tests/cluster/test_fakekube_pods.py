"""The kubelet of the fake cluster: what a pod's process gets, and where it runs."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from kubernetes import client

from fl_assets_tests.cluster.fakekube import FakeKube
from fl_assets_tests.cluster.objects import IMAGE, Manifest, named, pod, role_for
from fl_assets_tests.cluster.observing import ended, events, log_of, status, waits_for

ENVIRONMENT = ("python", "-c", "import json, os; print(json.dumps(dict(os.environ)))")
TRAINING = {
    "nodeSelector": {"fl/pool": "training"},
    "tolerations": [{"key": "fl/training", "operator": "Equal", "value": "true"}],
}


@pytest.fixture(autouse=True)
def image(kube: FakeKube) -> None:
    kube.images[IMAGE] = {"FROM_IMAGE": "yes"}


def test_a_pod_begins_with_a_clean_environment(
    kube: FakeKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-tests")
    kube.identities[("default", "default")] = {"AWS_ROLE_ARN": "arn:of-the-pod"}
    found = json.loads(log_of(kube, *ENVIRONMENT, automountServiceAccountToken=False))
    # Python itself may add the locale.
    assert set(found) - {"LC_CTYPE"} == {
        "PATH",
        "HOME",
        "FLA_TERMINATION_LOG",
        "FAKEKUBE_POD",
        "FROM_IMAGE",
        "AWS_ROLE_ARN",
    }


def test_every_account_has_its_own_identity(kube: FakeKube) -> None:
    kube.apply(named("ServiceAccount", "site", "default"))
    kube.identities[("default", "site")] = {"AWS_ROLE_ARN": "arn:site"}
    kube.apply(pod("other", *ENVIRONMENT))
    mine = json.loads(log_of(kube, *ENVIRONMENT, serviceAccountName="site"))
    assert mine["AWS_ROLE_ARN"] == "arn:site"
    kube.until(lambda: kube.objects("Pod")[0]["status"]["phase"] == "Succeeded")
    assert "AWS_ROLE_ARN" not in kube.logs("default", "other")


def test_environment_from_everywhere(kube: FakeKube) -> None:
    kube.apply(
        named("ConfigMap", "settings", "default", data={"REGION": "eu", "LEVEL": "1"}),
        named("Secret", "keys", "default", stringData={"TOKEN": "t", "word": "w"}),
    )

    def ref(kind: str, **fields: str) -> Manifest:
        return {kind: fields}

    values = {
        "WORD": ref("secretKeyRef", name="keys", key="word"),
        "SETTING": ref("configMapKeyRef", name="settings", key="REGION"),
        "NAME": ref("fieldRef", fieldPath="metadata.name"),
        "LABEL": ref("fieldRef", fieldPath="metadata.labels['fl/run']"),
        "ADDRESS": ref("fieldRef", fieldPath="status.podIP"),
        "ACCOUNT": ref("fieldRef", fieldPath="spec.serviceAccountName"),
    }
    env: list[Manifest] = [{"name": name, "valueFrom": value} for name, value in values.items()]
    env += [
        {"name": "LEVEL", "value": "2"},
        {"name": "JOINED", "value": "$(NAME)/$(LEVEL)/$$(NAME)/$(ABSENT)"},
    ]
    manifest = pod(
        "p",
        *ENVIRONMENT,
        "$(JOINED)",
        env=env,
        envFrom=[{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "keys"}}],
    )
    manifest["metadata"]["labels"] = {"fl/run": "r1"}
    kube.apply(manifest)
    assert ended(kube)["reason"] == "Completed"
    found = json.loads(kube.logs("default", "p"))
    assert (
        found.items()
        >= {
            "REGION": "eu",
            "LEVEL": "2",
            "TOKEN": "t",
            "WORD": "w",
            "SETTING": "eu",
            "NAME": "p",
            "LABEL": "r1",
            "ADDRESS": status(kube)["podIP"],
            "ACCOUNT": "default",
            "JOINED": "p/2/$(NAME)/$(ABSENT)",
        }.items()
    )


def test_volumes_are_files_at_the_paths_that_the_pod_is_told(
    kube: FakeKube, tmp_path: Path
) -> None:
    (tmp_path / "host").write_text("host")
    kube.apply(
        named("Secret", "run", "default", stringData={"node.key": "key"}),
        named("ConfigMap", "consortium", "default", data={"consortium.yaml": "c", "x.yaml": "x"}),
    )
    sources = [
        {"serviceAccountToken": {"path": "token"}},
        {"configMap": {"name": "consortium", "items": [{"key": "x.yaml", "path": "y/x.yaml"}]}},
    ]
    volumes: dict[str, tuple[str, Manifest]] = {
        "run": ("/etc/fla/run", {"secret": {"secretName": "run", "defaultMode": 0o400}}),
        "consortium": ("/etc/fla", {"configMap": {"name": "consortium"}}),
        "tmp": ("/tmp", {"emptyDir": {}}),
        "all": ("/all", {"projected": {"sources": sources}}),
    }
    code = (
        "cat /etc/fla/run/node.key $FLA_CONSORTIUM /all/y/x.yaml; stat -c %a /etc/fla/run/node.key;"
        f"echo made > /tmp/made; cat $TMPDIR/made {tmp_path}/host; echo /tmpx /opt/tmp $URI"
    )
    shown = log_of(
        kube,
        "sh",
        "-c",
        code,
        env=[
            {"name": "FLA_CONSORTIUM", "value": "/etc/fla/consortium.yaml"},
            {"name": "URI", "value": f"sqlite:///{tmp_path}/x.db"},
        ],
        volumes=[{"name": name, **source} for name, (_, source) in volumes.items()],
        volumeMounts=[{"name": name, "mountPath": path} for name, (path, _) in volumes.items()],
    )
    assert shown == f"keycx400\nmade\nhost/tmpx /opt/tmp sqlite:///{tmp_path}/x.db\n"


def test_a_missing_secret_is_waited_for(kube: FakeKube) -> None:
    kube.apply(
        pod(
            "p",
            "cat",
            "/s/k",
            volumes=[{"name": "s", "secret": {"secretName": "late"}}],
            volumeMounts=[{"name": "s", "mountPath": "/s"}],
        )
    )
    waits_for(kube, "ContainerCreating")
    why = 'MountVolume.SetUp failed for volume "s" : secret "late" not found'
    kube.until(lambda: ("FailedMount", why) in events(kube), lambda: events(kube))
    kube.apply(named("Secret", "late", "default", stringData={"k": "v"}))
    assert ended(kube)["exitCode"] == 0
    assert kube.logs("default", "p") == "v"


def test_a_missing_value_is_a_config_error_until_it_comes(kube: FakeKube) -> None:
    source = {"configMapKeyRef": {"name": "late", "key": "k"}}
    kube.apply(pod("p", "true", env=[{"name": "K", "valueFrom": source}]))
    assert waits_for(kube, "CreateContainerConfigError") == 'configmap "late" not found'
    kube.apply(named("ConfigMap", "late", "default", data={"k": "v"}))
    assert ended(kube)["exitCode"] == 0


def test_an_unknown_image_is_pulled_again_and_again(kube: FakeKube) -> None:
    kube.apply(pod("p", "true", image="registry.example/absent:1"))
    assert "registry.example/absent:1: not found" in waits_for(kube, "ErrImagePull")
    waits_for(kube, "ImagePullBackOff")
    assert status(kube)["phase"] == "Pending"
    kube.until(lambda: {"Failed", "BackOff"} <= {reason for reason, _ in events(kube)})
    kube.images["registry.example/absent:1"] = {}
    assert ended(kube)["exitCode"] == 0


def test_a_pod_that_fits_no_node_says_why(kube: FakeKube) -> None:
    kube.apply(pod("p", "true", nodeSelector=TRAINING["nodeSelector"]))
    kube.until(lambda: events(kube))
    assert events(kube) == [
        (
            "FailedScheduling",
            "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, "
            "1 node(s) had untolerated taint {fl/training: true}.",
        )
    ]
    (scheduled,) = status(kube)["conditions"]
    assert (scheduled["status"], scheduled["reason"]) == ("False", "Unschedulable")


def test_a_pod_that_tolerates_the_taint_runs_on_the_training_node(kube: FakeKube) -> None:
    log_of(kube, "true", **TRAINING)
    assert kube.objects("Pod")[0]["spec"]["nodeName"] == "training-1"


# The Python client takes seconds to import.
ASK = """
import base64, json, os, ssl, urllib.request
config = json.load(open(os.environ["KUBECONFIG"]))
server, token = config["clusters"][0]["cluster"], config["users"][0]["user"]["token"]
authority = base64.b64decode(server["certificate-authority-data"]).decode()
url = server["server"] + "/api/v1/namespaces/default/pods"
request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
answer = urllib.request.urlopen(request, context=ssl.create_default_context(cadata=authority))
print([item["metadata"]["name"] for item in json.load(answer)["items"]])
"""


def test_a_pod_has_the_rights_of_its_account(kube: FakeKube) -> None:
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}
    kube.apply(*role_for("default", "default", [rule]))
    assert log_of(kube, "python", "-c", ASK) == "['p']\n"
    assert kube.requests[-1].account == "default/default"


SERVER = """
import socket, sys
server = socket.create_server((sys.argv[1], 9092))
print("up", flush=True)
while True:
    connection, _ = server.accept()
    connection.sendall(sys.argv[2].encode() + connection.recv(10))
    connection.close()
"""
CLIENT = """
import socket, sys, time
deadline = time.monotonic() + 10
while True:
    try:
        connection = socket.create_connection((sys.argv[1], 9092))
        break
    except ConnectionRefusedError:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.02)
connection.sendall(b"!")
print(connection.recv(10).decode())
"""


def test_two_services_of_one_port_lead_each_to_its_own_pod(
    kube: FakeKube, core: client.CoreV1Api
) -> None:
    addresses = {}
    for name in ("a", "b"):
        address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
        server = pod(f"server-{name}", "python", "-c", SERVER, "$(POD_IP)", name, env=[address])
        server["metadata"]["labels"] = {"app": name}
        spec = {"selector": {"app": name}, "ports": [{"port": 9092}]}
        kube.apply(server, named("Service", name, "default", spec=spec))
        addresses[name] = core.read_namespaced_service(name, "default").spec.cluster_ip
    assert log_of(kube, "python", "-c", CLIENT, addresses["b"]) == "b!\n"


def test_a_server_at_every_address_is_reached_at_its_services(
    kube: FakeKube, core: client.CoreV1Api
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = pod("server", "python", "-c", SERVER.replace("9092", str(port)), "0.0.0.0", "s")
    spec = {"selector": {"app": "s"}, "ports": [{"port": port}]}
    kube.apply(server, named("Service", "s", "default", spec=spec))
    address = core.read_namespaced_service("s", "default").spec.cluster_ip
    code = CLIENT.replace("9092", str(port))
    assert log_of(kube, "python", "-c", code, address) == "s!\n"
