"""The dagster.yaml that Dagster's chart makes of its values.

Written after the chart's templates, which are on no registry that tests can reach. What our values
leave alone is left out.
"""

from typing import Any

import yaml

_SNAKE = {
    "containerConfig": "container_config",
    "podTemplateSpecMetadata": "pod_template_spec_metadata",
    "podSpecConfig": "pod_spec_config",
    "jobSpecConfig": "job_spec_config",
    "jobMetadata": "job_metadata",
}


def dagster_yaml(values: dict[str, Any]) -> str:
    """Return it for the chart's defaults merged with our values."""
    database = values["postgresql"]
    storage = {
        "postgres_db": {
            "username": database["postgresqlUsername"],
            "password": {"env": "DAGSTER_PG_PASSWORD"},
            "hostname": database["postgresqlHost"],
            "db_name": database["postgresqlDatabase"],
            "port": database["service"]["port"],
            "params": database["postgresqlParams"],
        }
    }
    daemon = values["dagsterDaemon"]
    queue = daemon["runCoordinator"]["config"]["queuedRunCoordinator"]
    monitoring = daemon["runMonitoring"]
    document = {
        "scheduler": {"module": "dagster.core.scheduler", "class": "DagsterDaemonScheduler"},
        **{
            key: {"module": f"dagster_postgres.{module}", "class": name, "config": storage}
            for key, module, name in (
                ("schedule_storage", "schedule_storage", "PostgresScheduleStorage"),
                ("run_storage", "run_storage", "PostgresRunStorage"),
                ("event_log_storage", "event_log", "PostgresEventLogStorage"),
            )
        },
        "run_launcher": _launcher(values),
        "run_coordinator": {
            "module": "dagster.core.run_coordinator",
            "class": daemon["runCoordinator"]["type"],
            "config": {
                "dequeue_use_threads": queue["dequeueUseThreads"],
                "dequeue_num_workers": queue["dequeueNumWorkers"],
            },
        },
        "compute_logs": {
            "module": "dagster.core.storage.noop_compute_log_manager",
            "class": values["computeLogManager"]["type"],
        },
        "run_monitoring": {
            "enabled": monitoring["enabled"],
            "start_timeout_seconds": monitoring["startTimeoutSeconds"],
            "max_resume_run_attempts": monitoring["maxResumeRunAttempts"],
            "poll_interval_seconds": monitoring["pollIntervalSeconds"],
        },
        "telemetry": values["telemetry"],
        "concurrency": {
            "runs": {
                "max_concurrent_runs": values["concurrency"]["runs"]["maxConcurrentRuns"],
                "tag_concurrency_limits": values["concurrency"]["runs"]["tagConcurrencyLimits"],
            }
        },
        **values["additionalInstanceConfig"],
    }
    if daemon["runRetries"]["enabled"]:
        document["run_retries"] = {
            "enabled": True,
            "max_retries": daemon["runRetries"]["maxRetries"],
        }
    return yaml.safe_dump(document)


def _launcher(values: dict[str, Any]) -> dict[str, Any]:
    given = values["runLauncher"]["config"]["k8sRunLauncher"]
    return {
        "module": "dagster_k8s",
        "class": values["runLauncher"]["type"],
        "config": {
            "load_incluster_config": given["loadInclusterConfig"],
            "job_namespace": given["jobNamespace"],
            "image_pull_policy": given["imagePullPolicy"],
            "service_account_name": values["global"]["serviceAccountName"],
            "dagster_home": {"env": "DAGSTER_HOME"},
            "instance_config_map": {"env": "DAGSTER_K8S_INSTANCE_CONFIG_MAP"},
            "postgres_password_secret": {"env": "DAGSTER_K8S_PG_PASSWORD_SECRET"},
            "env_config_maps": [
                {"env": "DAGSTER_K8S_PIPELINE_RUN_ENV_CONFIGMAP"},
                *(source["name"] for source in given["envConfigMaps"]),
            ],
            "volumes": given["volumes"],
            "volume_mounts": given["volumeMounts"],
            "labels": given["labels"],
            "resources": given["resources"],
            "security_context": given["securityContext"],
            "run_k8s_config": {_SNAKE[key]: value for key, value in given["runK8sConfig"].items()},
        },
    }
