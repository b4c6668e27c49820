"""Ways into the chart's namespaces and out of them: network policies, ingress, monitoring."""

import json

import pytest

from deploy.values import consortium_values, read_overrides
from fl_assets_tests.cluster.rbac import CHART
from fl_assets_tests.infra import given
from fl_assets_tests.infra.charts import merge, ours
from fl_assets_tests.infra.test_manifests import (
    INGRESS,
    LOAD_BALANCERS,
    NAMESPACES,
    named,
    of,
    policy,
    rendered,
    template,
    with_ingress,
)
from fl_assets_tests.infra.tool import ROOT

pytestmark = pytest.mark.infra


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    consortium, _ = given.write(tmp_path_factory.mktemp("values"))
    return consortium_values(consortium, given.outputs(), given.TAG)


@pytest.fixture(scope="module")
def objects(values, tmp_path_factory):
    """With an ingress."""
    return rendered(with_ingress(values), tmp_path_factory.mktemp("rendered"))


def open_to(objects, port):
    """Ranges from which a port of Dagster's namespace is reached."""
    rules = policy(objects, "mlops", "mlops")["ingress"]
    return {
        source["ipBlock"]["cidr"]
        for rule in rules
        for source in rule["from"]
        if "ipBlock" in source and port in [each["port"] for each in rule["ports"]]
    }


def test_no_pod_gets_past_the_load_balancers_login(objects, values, tmp_path):
    (vpc,) = values["network"]["vpc"]
    without = rendered(values, tmp_path)
    for port in (3000, 5000):
        # Where the load balancer is and no pod; without one it is nowhere.
        assert open_to(objects, port) == set(LOAD_BALANCERS)
        assert open_to(without, port) == set()
    assert open_to(objects, 10250) == {vpc}


@pytest.mark.parametrize("namespace", sorted(NAMESPACES))
def test_https_goes_anywhere_but_to_the_pods(values, objects, namespace, tmp_path):
    _, https = policy(objects, namespace, "dns-and-aws")["egress"]
    assert https["to"] == [{"ipBlock": {"cidr": "0.0.0.0/0", "except": values["network"]["vpc"]}}]
    network = {**values["network"], "aws": ["52.95.0.0/16"], "endpoints": ["10.0.32.0/24"]}
    narrow = rendered({**values, "network": network}, tmp_path)
    _, https = policy(narrow, namespace, "dns-and-aws")["egress"]
    assert [peer["ipBlock"] for peer in https["to"]] == [
        {"cidr": "52.95.0.0/16"},
        {"cidr": "10.0.32.0/24"},
    ]


def test_an_ingress_without_ranges_of_its_own_is_not_rendered(values, tmp_path):
    done = template({**values, "ingress": INGRESS}, tmp_path)
    assert done.returncode != 0
    assert "loadBalancers" in done.stderr


def test_the_example_of_overrides_fits_the_chart(values, tmp_path):
    overrides = read_overrides(ROOT / "examples/eks/overrides.yaml")
    assert set(overrides) == {"fl-consortium"}
    objects = rendered(merge(values, overrides["fl-consortium"]), tmp_path)
    assert len(of(objects, "Ingress")) == 1


def test_the_controller_may_read_the_login_and_no_other_secret(values, tmp_path):
    site = "https://login.acme.org"
    endpoints = ("issuer", "authorizationEndpoint", "tokenEndpoint", "userInfoEndpoint")
    oidc = {"type": "oidc", "secretName": "ingress-oidc", **dict.fromkeys(endpoints, site)}
    objects = rendered(with_ingress(values, auth=oidc), tmp_path)
    role = named(objects, "Role", "mlops", "ingress-login")
    assert role["rules"] == [
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": ["ingress-oidc"],
            "verbs": ["get", "list", "watch"],
        }
    ]
    (subject,) = named(objects, "RoleBinding", "mlops", "ingress-login")["subjects"]
    assert (subject["namespace"], subject["name"]) == (
        "kube-system",
        ours("aws-load-balancer-controller")["serviceAccount"]["name"],
    )


def test_prometheus_finds_the_trainings(objects):
    (monitor,) = ours("kube-prometheus-stack")["prometheus"]["additionalServiceMonitors"]
    service = named(objects, "Service", "federated-learning", "training-metrics")
    assert monitor["namespaceSelector"]["matchNames"] == [service["metadata"]["namespace"]]
    wanted = monitor["selector"]["matchLabels"].items()
    assert wanted <= service["metadata"]["labels"].items()
    (endpoint,), (port,) = monitor["endpoints"], service["spec"]["ports"]
    assert (endpoint["port"], endpoint["scheme"]) == (port["name"], "https")
    dashboard = named(objects, "ConfigMap", "mlops", "dashboard-trainings")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(dashboard["data"]["trainings.json"]) == json.loads(
        (CHART / "files/dashboard.json").read_text()
    )
    told = named(objects, "ConfigMap", "federated-learning", "fla-dagster")["data"]
    assert told["FLA_METRICS_PORT"] == str(port["port"])
