import json

import kubernetes_validate
import pytest
import yaml

from deploy.values import consortium_values
from fl_assets.consortium import Cluster
from fl_assets_tests.cluster.installed import admission
from fl_assets_tests.cluster.rbac import CHART, rbac_objects
from fl_assets_tests.infra import given
from fl_assets_tests.infra.tool import run, tool

pytestmark = pytest.mark.infra

HOSPITALS = ("north", "south")
NAMESPACES = {"mlops", "federated-learning", "fl-north", "fl-south"}

COGNITO = {
    "type": "cognito",
    "userPoolARN": "arn:aws:cognito-idp:eu-central-1:1:userpool/p",
    "userPoolClientID": "client",
    "userPoolDomain": "sign-in",
}
INGRESS = {
    "enabled": True,
    "hosts": {
        "dagster": "dagster.acme.org",
        "mlflow": "mlflow.acme.org",
        "dashboard": "dashboard.acme.org",
    },
    "certificateArn": "arn:aws:acm:eu-central-1:1:certificate/c",
    "subnets": ["acme-public-a", "acme-public-b"],
    "auth": COGNITO,
}
LOAD_BALANCERS = ["10.0.0.0/20", "10.0.16.0/20"]


@pytest.fixture(scope="session")
def values(tmp_path_factory):
    consortium, _ = given.write(tmp_path_factory.mktemp("values"))
    return consortium_values(consortium, given.outputs(), given.TAG)


def template(values, folder):
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    return run(
        tool("helm"), "template", "fl-consortium", str(CHART), "--namespace", "mlops",
        "--values", str(file), "--kube-version", "1.35.0",
    )  # fmt: skip


@pytest.fixture(scope="session")
def objects(values, tmp_path_factory):
    """The chart with everything in it switched on."""
    return rendered(with_ingress(values), tmp_path_factory.mktemp("rendered"))


def with_ingress(values, **ingress):
    """Ways in from outside, to the dashboard as well."""
    return {
        **values,
        "network": {**values["network"], "loadBalancers": LOAD_BALANCERS},
        "ingress": {**INGRESS, **ingress},
        "dashboard": {**values["dashboard"], "enabled": True},
    }


def rendered(values, folder):
    done = template(values, folder)
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def of(objects, kind, namespace=None):
    return [
        item
        for item in objects
        if item["kind"] == kind and namespace in (None, item["metadata"].get("namespace"))
    ]


def named(objects, kind, namespace, name):
    (found,) = (i for i in of(objects, kind, namespace) if i["metadata"]["name"] == name)
    return found


def test_every_object_is_valid(objects):
    for item in objects:
        # None is of a kind that another chart brings, and that a first deployment would not know.
        kubernetes_validate.validate(item, "1.35", strict=True)


def test_no_two_objects_are_the_same(objects):
    keys = [(i["kind"], i["metadata"].get("namespace"), i["metadata"]["name"]) for i in objects]
    assert len(keys) == len(set(keys))


def test_every_namespace_takes_restricted_pods_alone(objects):
    spaces = {item["metadata"]["name"]: item["metadata"] for item in of(objects, "Namespace")}
    assert set(spaces) == NAMESPACES
    for space in spaces.values():
        assert space["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        # An uninstalled release must not take the namespace's data along.
        assert space["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_every_account_has_its_own_role_and_no_token(objects):
    accounts = {
        (i["metadata"]["namespace"], i["metadata"]["name"]): i
        for i in of(objects, "ServiceAccount")
    }
    roles = {
        key: item["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].rpartition("/")[2]
        for key, item in accounts.items()
    }
    assert roles == {
        ("mlops", "dagster"): "acme-coordinator",
        ("mlops", "mlflow"): "acme-mlflow",
        ("federated-learning", "coordinator"): "acme-coordinator",
        ("federated-learning", "server"): "acme-server",
        ("fl-north", "site"): "acme-north-site",
        ("fl-south", "site"): "acme-south-site",
    }
    assert not any(item["automountServiceAccountToken"] for item in accounts.values())


def rights(objects):
    """Who may do what where: (namespace, account, resource, verb)."""
    found = set()
    for binding in of(objects, "RoleBinding"):
        namespace = binding["metadata"]["namespace"]
        role = named(objects, "Role", namespace, binding["roleRef"]["name"])
        for subject in binding["subjects"]:
            who = f"{subject['namespace']}/{subject['name']}"
            for rule in role["rules"]:
                for resource in rule["resources"]:
                    found |= {(namespace, who, resource, verb) for verb in rule["verbs"]}
    return found


def test_the_rights_are_these_and_no_others(objects):
    def grant(namespace, who, table):
        return {
            (namespace, who, resource, verb)
            for resource, verbs in table.items()
            for verb in verbs.split()
        }

    run_pod = "federated-learning/coordinator"
    expected = grant(
        "federated-learning",
        run_pod,
        {
            "jobs": "create get list deletecollection",
            "pods": "get list",
            "pods/log": "get",
            "events": "list",
            "services": "create get",
            "secrets": "create",
        },
    ) | grant(
        "federated-learning",
        "mlops/dagster",
        {
            "jobs": "create get list delete",
            "jobs/status": "get",
            "pods": "get list delete",
            "pods/log": "get",
            "events": "list",
        },
    )
    for hospital in HOSPITALS:
        # Neither logs nor a look into a secret.
        expected |= grant(
            f"fl-{hospital}",
            run_pod,
            {
                "jobs": "create get list deletecollection",
                "pods": "get list",
                "events": "list",
                "secrets": "create",
            },
        )
    assert rights(objects) == expected
    assert not of(objects, "ClusterRole")
    assert not of(objects, "ClusterRoleBinding")


def test_the_rights_without_helm_are_the_charts(objects):
    assert rights(rbac_objects(Cluster(), HOSPITALS)) == rights(objects)


def test_the_admission_policy_without_helm_is_the_charts(objects):
    for expected in admission():
        (found,) = of(objects, expected["kind"])
        assert found["metadata"]["name"] == expected["metadata"]["name"]
        assert found["spec"] == expected["spec"]
    for hospital in HOSPITALS:
        parameter = named(objects, "ConfigMap", f"fl-{hospital}", "admitted-pods")["data"]
        assert parameter == {"image": f"{given.outputs()['repositories']['site']}:{given.TAG}"}


def policy(objects, namespace, name):
    return named(objects, "NetworkPolicy", namespace, name)["spec"]


@pytest.mark.parametrize("namespace", sorted(NAMESPACES))
def test_nothing_goes_in_or_out_unless_it_is_said(objects, namespace):
    assert policy(objects, namespace, "default-deny") == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }


@pytest.mark.parametrize("hospital", HOSPITALS)
def test_a_hospital_reaches_names_aws_and_the_server_alone(objects, hospital):
    policies = [item["spec"] for item in of(objects, "NetworkPolicy", f"fl-{hospital}")]
    assert not [rule for policy in policies for rule in policy.get("ingress", [])]
    ports = {
        (target.get("ipBlock", {}).get("cidr", "pods"), port["port"])
        for policy in policies
        for rule in policy.get("egress", [])
        for target in rule["to"]
        for port in rule["ports"]
    }
    agent = ("169.254.170.23/32", 80)
    assert ports == {("pods", 53), ("0.0.0.0/0", 443), ("pods", 9092), agent}
    ((target,),) = (rule["to"] for rule in policy(objects, f"fl-{hospital}", "to-server")["egress"])
    assert target == {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "federated-learning"}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/component": "server"}},
    }


def test_the_server_takes_sites_of_hospitals_alone(objects):
    rules = policy(objects, "federated-learning", "server")["ingress"]
    sources = {
        (
            source["namespaceSelector"]["matchLabels"]["fl/part"],
            tuple(source["podSelector"]["matchLabels"].values()),
            rule["ports"][0]["port"],
        )
        for rule in rules
        for source in rule["from"]
    }
    assert sources == {("hospital", ("site",), 9092), ("mlops", ("prometheus",), 9464)}
    # The labels that it goes by are those of the namespaces.
    parts = {
        i["metadata"]["name"]: i["metadata"]["labels"]["fl/part"] for i in of(objects, "Namespace")
    }
    assert parts["fl-north"] == parts["fl-south"] == "hospital"


def test_the_dashboard_reads_as_the_coordinator_and_reaches_no_other_pod(objects):
    pod = named(objects, "Deployment", "mlops", "dashboard")["spec"]["template"]
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    account = named(objects, "ServiceAccount", "mlops", spec["serviceAccountName"])
    role = account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
    assert role == given.outputs()["roles"]["coordinator"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["image"] == f"{given.outputs()['repositories']['dashboard']}:{given.TAG}"
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }

    others = policy(objects, "mlops", "mlops")["podSelector"]["matchExpressions"]
    (without,) = others
    assert (without["operator"], without["values"]) == ("NotIn", ["dashboard"])
    assert pod["metadata"]["labels"][without["key"]] == "dashboard"
    vpc = [{"ipBlock": {"cidr": "10.0.0.0/16"}}]
    own = policy(objects, "mlops", "dashboard")
    assert own["podSelector"]["matchLabels"] == pod["metadata"]["labels"]
    assert own["ingress"] == [{"from": vpc, "ports": [{"protocol": "TCP", "port": 8501}]}]
    assert own["egress"] == [{"to": vpc, "ports": [{"protocol": "TCP", "port": 443}]}]


def test_the_dashboard_is_behind_the_ingress_by_its_service(objects):
    service = named(objects, "Service", "mlops", "dashboard")["spec"]
    labels = named(objects, "Deployment", "mlops", "dashboard")["spec"]["template"]["metadata"]
    assert (service["type"], service["selector"]) == ("ClusterIP", labels["labels"])
    (ingress,) = of(objects, "Ingress")
    backends = {
        rule["host"]: path["backend"]["service"]
        for rule in ingress["spec"]["rules"]
        for path in rule["http"]["paths"]
    }
    (port,) = service["ports"]
    assert backends["dashboard.acme.org"] == {"name": "dashboard", "port": {"number": port["port"]}}


@pytest.mark.parametrize(
    "broken",
    [
        # A host, and no dashboard behind it.
        {"ingress": INGRESS, "network": {"vpc": ["10.0.0.0/16"], "loadBalancers": LOAD_BALANCERS}},
        {"dashboard": {"enabled": True}},
        {"dashboard": {"enabled": True, "image": "r/dashboard:latest"}},
    ],
    ids=str,
)
def test_a_dashboard_that_cannot_run_is_not_rendered(values, tmp_path, broken):
    done = template({**values, **broken}, tmp_path)
    assert done.returncode != 0
    assert "dashboard" in done.stderr


@pytest.mark.parametrize("namespace", sorted(NAMESPACES))
def test_a_service_cannot_open_a_namespace_to_the_world(objects, namespace):
    hard = named(objects, "ResourceQuota", namespace, "quota")["spec"]["hard"]
    assert hard["services.loadbalancers"] == hard["services.nodeports"] == "0"
    assert ("limits.memory" in hard) == (namespace != "mlops")
    assert named(objects, "LimitRange", namespace, "defaults")


def test_hospitals_are_told_nothing_of_mlflow(objects):
    for namespace in NAMESPACES:
        told = named(objects, "ConfigMap", namespace, "fla-environment")["data"]
        assert told["AWS_REGION"] == "eu-central-1"
        assert told["FLA_COORDINATOR"] == given.outputs()["coordinator_uri"]
        assert ("MLFLOW_TRACKING_URI" in told) == (not namespace.startswith("fl-"))
        consortium = named(objects, "ConfigMap", namespace, "consortium")["data"]
        assert consortium == {"consortium.yaml": given.CONSORTIUM}


def test_dagster_is_told_the_runtime_and_its_images(objects):
    registry = given.outputs()["repositories"]
    for namespace in ("mlops", "federated-learning"):
        told = named(objects, "ConfigMap", namespace, "fla-dagster")["data"]
        assert told["FLA_RUNTIME"] == "kubernetes"
        assert told["FLA_SITE_IMAGE"] == f"{registry['site']}:{given.TAG}"
        assert told["FLA_SERVER_IMAGE"] == f"{registry['server']}:{given.TAG}"
        assert told["FLA_UPLOAD_QUEUE"] == given.outputs()["upload_queue_url"]


def test_the_ingress_is_internal_and_asks_who_is_there(objects):
    (ingress,) = of(objects, "Ingress")
    notes = {
        key.removeprefix("alb.ingress.kubernetes.io/"): value
        for key, value in ingress["metadata"]["annotations"].items()
    }
    assert notes["scheme"] == "internal"
    assert notes["subnets"] == "acme-public-a,acme-public-b"
    assert json.loads(notes["listen-ports"]) == [{"HTTPS": 443}]
    assert notes["auth-type"] == "cognito"
    assert json.loads(notes["auth-idp-cognito"]) == {
        key: value for key, value in COGNITO.items() if key != "type"
    }
    assert notes["auth-on-unauthenticated-request"] == "authenticate"
    assert {rule["host"] for rule in ingress["spec"]["rules"]} == set(INGRESS["hosts"].values())


@pytest.mark.parametrize(
    "broken",
    [
        {"auth": {}},
        {"auth": {"type": "none"}},
        {"auth": {**COGNITO, "userPoolDomain": ""}},
        {"certificateArn": ""},
        {"subnets": []},
        {"hosts": {}},
    ],
    ids=str,
)
def test_an_ingress_without_authentication_or_tls_is_not_rendered(values, tmp_path, broken):
    done = template(with_ingress(values, **broken), tmp_path)
    assert done.returncode != 0
    assert "ingress" in done.stderr


@pytest.mark.parametrize(
    "broken",
    [
        {"hospitals": []},
        {"hospitalls": []},
        {"images": {"site": "r/site:latest", "server": "r/server:1"}},
        {"images": {"site": "r/site", "server": "r/server:1"}},
        {"roles": {"coordinator": "admin"}},
        {"environment": {"AWS_REGION": "x", "FLA_COORDINATOR": "file:///tmp"}},
    ],
    ids=str,
)
def test_values_that_do_not_fit_are_refused(values, tmp_path, broken):
    assert template({**values, **broken}, tmp_path).returncode != 0


def test_what_is_switched_off_is_not_there(values, tmp_path):
    off = rendered({**values, "monitoring": {"enabled": False}}, tmp_path)
    kinds = {item["kind"] for item in off}
    assert not kinds & {"Ingress", "ServiceMonitor", "Service", "Secret", "Deployment"}
