import json

import kubernetes.client
import kubernetes_validate
import pytest
import yaml
from dagster import DagsterInvalidConfigError, DagsterRun
from dagster._core.instance.ref import InstanceRef
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import construct_dagster_k8s_job

from deploy.values import HELM_VALUES, charts
from fl_assets_tests.cluster.fakekube.pod_security import violations
from fl_assets_tests.infra import given
from fl_assets_tests.infra.charts import (
    THIRD_PARTY,
    closed,
    defaults,
    kubernetes_objects,
    kubernetes_schema,
    merged,
    ours,
    schema_file,
    switched_on,
    unknown_keys,
    validator,
)
from fl_assets_tests.infra.dagster_chart import dagster_yaml
from fl_assets_tests.infra.tool import ROOT


def schema_errors(chart, values):
    schema = json.loads(schema_file(f"{chart}.values.schema.json").read_text())
    return [
        f"{'.'.join(map(str, error.path))}: {error.message}"
        for error in validator(schema).iter_errors(values)
    ]


@pytest.mark.parametrize("chart", ["dagster", "mlflow"])
def test_values_fit_the_schema_of_their_chart(chart):
    assert schema_errors(chart, merged(chart)) == []


def test_the_schemas_find_what_does_not_fit():
    values = merged("dagster")
    values["dagsterWebserver"]["replicaCount"] = "two"
    values["dagsterDaemon"]["podSecurityContext"]["runAsUser"] = "root"
    values["runLauncher"]["config"]["k8sRunLauncher"]["job_namespace"] = "x"
    assert len(schema_errors("dagster", values)) >= 3


def keys_without_a_place(values):
    schema = json.loads(schema_file("dagster.values.schema.json").read_text())
    errors = validator(closed(schema)).iter_errors(values)
    return [e.message for e in errors if e.validator == "additionalProperties"]


def test_dagsters_schema_has_a_place_for_every_key_lists_included():
    # It leaves most of its objects open, so that a misspelt key would be silently of no effect.
    values = ours("dagster")
    assert keys_without_a_place(values) == []
    values["dagster-user-deployments"]["deployments"][0]["nodeSelectr"] = {}
    assert "nodeSelectr" in "".join(keys_without_a_place(values))


@pytest.mark.parametrize("chart", THIRD_PARTY)
def test_the_chart_knows_every_key(chart):
    assert unknown_keys(ours(chart), defaults(chart)) == []


def test_the_walk_over_the_keys_finds_a_misspelt_one():
    values = {"dagsterWebserverr": {}, "dagsterDaemon": {"runMonitoring": {"enable": True}}}
    assert unknown_keys(values, defaults("dagster")) == [
        "dagsterWebserverr",
        "dagsterDaemon.runMonitoring.enable",
    ]
    deployments = {"dagster-user-deployments": {"deployments": [{"dagsterApiGrpcArg": []}]}}
    assert unknown_keys(deployments, defaults("dagster")) == [
        "dagster-user-deployments.deployments.0.dagsterApiGrpcArg"
    ]


@pytest.mark.parametrize("chart", THIRD_PARTY)
def test_security_contexts_and_resources_are_those_of_kubernetes(chart):
    for kind, value in kubernetes_objects(ours(chart)):
        assert list(validator(kubernetes_schema(kind)).iter_errors(value)) == []


@pytest.mark.parametrize("chart", charts(), ids=lambda chart: chart["name"])
def test_the_version_of_every_chart_is_pinned(chart):
    if "path" in chart:
        assert (ROOT / chart["path"] / "Chart.yaml").is_file()
    else:
        assert all(part.isdigit() for part in chart["version"].split("."))
        assert (HELM_VALUES / f"{chart['name']}.yaml").is_file()


def test_dagsters_chart_is_that_of_the_dagster_in_the_image():
    version = next(chart["version"] for chart in charts() if chart["name"] == "dagster")
    assert f"dagster=={version}\n" in (ROOT / "requirements.lock").read_text()


def test_every_values_file_is_of_a_chart():
    files = {path.stem for path in HELM_VALUES.glob("*.yaml")} - {"versions"}
    assert files == set(THIRD_PARTY)


@pytest.fixture
def instance_ref(tmp_path, monkeypatch):
    """Dagster's own reading of the dagster.yaml that the values lead to, outside a cluster."""

    def read(values):
        document = yaml.safe_load(dagster_yaml(values))
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(
            "{apiVersion: v1, kind: Config, current-context: c, "
            "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}], "
            "users: [{name: u, user: {}}], contexts: [{name: c, context: {cluster: c, user: u}}]}"
        )
        document["run_launcher"]["config"] |= {
            "load_incluster_config": False,
            "kubeconfig_file": str(kubeconfig),
        }
        (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(document))
        return InstanceRef.from_dir(str(tmp_path))

    for name, value in {
        "DAGSTER_HOME": "/opt/dagster/dagster_home",
        "DAGSTER_K8S_INSTANCE_CONFIG_MAP": "dagster-instance",
        "DAGSTER_K8S_PG_PASSWORD_SECRET": "dagster-postgresql-secret",
        "DAGSTER_K8S_PIPELINE_RUN_ENV_CONFIGMAP": "dagster-pipeline-env",
    }.items():
        monkeypatch.setenv(name, value)
    return read


def test_dagster_accepts_the_file_that_the_values_lead_to(instance_ref):
    reference = instance_ref(merged("dagster"))

    assert type(reference.run_launcher).__name__ == "K8sRunLauncher"
    assert type(reference.run_coordinator).__name__ == "QueuedRunCoordinator"
    # The coordinator's own settings are silent on it: the instance's are laid over them.
    assert reference.settings["concurrency"]["runs"]["tag_concurrency_limits"] == [
        {"key": "dagster/partition", "value": {"applyLimitPerUniqueValue": True}, "limit": 1}
    ]
    assert type(reference.compute_log_manager).__name__ == "NoOpComputeLogManager"
    storages = (reference.run_storage_data, reference.event_storage_data)
    for storage in (*storages, reference.schedule_storage_data):
        database = yaml.safe_load(storage.config_yaml)["postgres_db"]
        assert database["hostname"] == given.outputs()["database_host"]
        assert database["params"] == {"sslmode": "require"}
        # dagster-postgres is in the image, and knows the class.
        assert storage.class_name.startswith("Postgres")
        __import__(storage.module_name)
    # A bad upload stays bad however often it is read.
    assert reference.settings["run_retries"]["retry_on_asset_or_op_failure"] is False


def test_dagster_refuses_what_does_not_fit(instance_ref):
    values = merged("dagster")
    values["runLauncher"]["config"]["k8sRunLauncher"]["jobNamespace"] = ["x"]
    with pytest.raises(DagsterInvalidConfigError):
        _ = instance_ref(values).run_launcher


def test_a_run_is_a_restricted_pod_of_the_coordinator(instance_ref):
    launcher = instance_ref(merged("dagster")).run_launcher
    context = K8sContainerContext.create_for_run(
        DagsterRun(job_name="train"), launcher, include_run_tags=False
    )
    job = construct_dagster_k8s_job(
        job_config=context.get_k8s_job_config("registry/dagster:1", launcher),
        args=["dagster", "api", "execute_run"],
        job_name="dagster-run-1",
        component="run_worker",
        user_defined_k8s_config=context.run_k8s_config,
    )
    manifest = kubernetes.client.ApiClient().sanitize_for_serialization(job)
    kubernetes_validate.validate(manifest, "1.35", strict=True)
    pod = manifest["spec"]["template"]["spec"]

    assert context.namespace == given.outputs()["namespace"]
    assert pod["serviceAccountName"] == "coordinator"
    assert violations(pod) == []
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["nodeSelector"] == {"fl/pool": "training"}
    # By this label the network policies let it to the database and to the API server.
    assert manifest["spec"]["template"]["metadata"]["labels"]["fl/part"] == "run"
    sources = {source["configMapRef"]["name"] for source in pod["containers"][0]["envFrom"]}
    assert sources == {"dagster-pipeline-env", "fla-environment", "fla-dagster"}


@pytest.mark.parametrize("part", ["dagsterWebserver", "dagsterDaemon"])
def test_dagsters_own_pods_are_restricted(part):
    values = ours("dagster")[part]
    pod = {
        "securityContext": values["podSecurityContext"],
        "volumes": values["volumes"],
        "containers": [{"name": part, "securityContext": values["securityContext"]}],
    }
    assert violations(pod) == []


def test_the_code_server_and_mlflow_are_restricted():
    (code,) = ours("dagster")["dagster-user-deployments"]["deployments"]
    mlflow = merged("mlflow")
    for values in (code, mlflow):
        container = {"name": "it", "securityContext": values["securityContext"]}
        assert (
            violations({"securityContext": values["podSecurityContext"], "containers": [container]})
            == []
        )
    # Else a launched run would have the code server's namespace and account.
    assert code["includeConfigInLaunchedRuns"] == {"enabled": False}


def walk(node, at=()):
    if isinstance(node, dict):
        for key, value in node.items():
            yield from walk(value, (*at, key))
    elif isinstance(node, list):
        for item in node:
            yield from walk(item, at)
    else:
        yield at, node


@pytest.mark.parametrize("chart", THIRD_PARTY)
def test_nothing_is_open_to_the_world_or_secret(chart):
    names = ("password", "secret", "token", "accesskey")
    # The names of Secrets and of the keys in them, the token of a pod, and which Secrets are seen.
    harmless = {
        "postgresqlSecretName", "celeryConfigSecretName", "passwordKey", "existingSecret",
        "userKey", "keyOfAccessKeyId", "keyOfSecretAccessKey", "bearerTokenFile",
        "secretFieldSelector",
    }  # fmt: skip
    # What the chart brings along is deployed as well.
    for at, value in walk(switched_on(merged(chart))):
        assert value not in ("LoadBalancer", "NodePort", "internet-facing"), at
        assert not str(value).endswith(":latest"), at
        if at[-1] == "tag":
            # Without one it is that of the chart, whose version is pinned.
            assert value != "latest", at
        if any(name in at[-1].lower() for name in names) and at[-1] not in harmless:
            assert value in ("", True, False, None), at
    # An image of ours has no other version than the one that is named.
    assert [at for at, value in walk(ours(chart)) if at[-1] == "tag" and not value] == []


def test_the_walk_leaves_out_what_is_switched_off_alone():
    values = {
        "flower": {"service": {"type": "NodePort"}, "enabled": False},
        "x": [{"enabled": True}],
    }
    assert list(walk(switched_on(values))) == [(("x", "enabled"), True)]


def test_services_have_the_ports_of_their_pods():
    # EKS applies network policies to both.
    assert ours("dagster")["dagsterWebserver"]["service"]["port"] == 3000
    mlflow = merged("mlflow")["service"]
    assert mlflow["port"] == mlflow["containerPort"]
    grafana = merged("kube-prometheus-stack")["grafana"]["service"]
    assert grafana["port"] == grafana["targetPort"]
