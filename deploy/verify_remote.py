"""Check a deployment where it runs: pods, everybody's rights, MLflow, and a small training.

    python -m deploy.verify_remote

The checks are those of `fla doctor`, made by a pod of every hospital and by one of the coordinator,
each under its own account: requests to S3 and to the Kubernetes API that must be granted, and
others that must be denied. Exit code 0 if everything is right, 1 if something is not, 2 if it could
not be found out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from deploy.dagster_api import Dagster
from deploy.errors import DeploymentError
from deploy.pods import release_images, run_pod
from deploy.train_remote import NAMESPACE, train, way_to_dagster
from fl_assets.cluster.api import ClusterApi, Manifest
from fl_assets.cluster.client import connect
from fl_assets.cluster.manifests import PodJob, group_name
from fl_assets.config import load_yaml_model
from fl_assets.consortium import Consortium
from fl_assets.errors import FlAssetsError

PASSED, PROBLEM, NOT_CHECKED, UNKNOWN = "passed", "problem", "not checked", "could not be run"

_ISOLATION = " closed to "
"""In the names of the doctor's checks of who must not read what."""

Report = Callable[[str, str, str], None]
"""Told of a check: its name, verdict and what was found."""


class Verification:
    """What was found so far, shown as it is found."""

    def __init__(self) -> None:
        self.verdicts: list[str] = []
        self._open = False

    def report(self, check: str, verdict: str, found: str) -> None:
        """Show a check."""
        self.verdicts.append(verdict)
        # What does not concern a pod is not checked there; isolation concerns all of them.
        self._open |= verdict == NOT_CHECKED and _ISOLATION in check
        print(f"{verdict:>16}  {check}: {found}", flush=True)

    @property
    def exit_code(self) -> int:
        """0 if everything is right, 1 if something is not, 2 if it could not be found out."""
        if PROBLEM in self.verdicts:
            return 1
        return 2 if self._open or UNKNOWN in self.verdicts else 0


def check_pods(api: ClusterApi, namespace: str, report: Report) -> None:
    """Report whether every pod of a namespace is ready or done.

    Raises:
        ClusterApiError: the API server refused.
    """
    pods = api.pods(namespace, "")
    waiting = [why for pod in pods if (why := _not_ready(pod))]
    check = f"pods in {namespace}"
    if waiting:
        report(
            check, PROBLEM, f"{'; '.join(waiting)}: `kubectl -n {namespace} describe pod` says why"
        )
    elif not pods:
        report(check, PROBLEM, "there are none: `make deploy` installs them")
    else:
        report(check, PASSED, f"all {len(pods)} ready or done")


def check_places(
    api: ClusterApi, consortium: Consortium, images: tuple[str, str], report: Report
) -> None:
    """Report what the doctor finds in a pod of the coordinator and of every hospital.

    Args:
        api: of the cluster.
        consortium: whose hospitals.
        images: of a hospital's pods, and of the coordinator's.
        report: told of every check.

    Raises:
        ClusterApiError: the API server refused.
    """
    cluster = consortium.cluster
    for hospital in (None, *consortium.hospital_names):
        place = hospital or "coordinator"
        account, namespace, image = (
            ("coordinator", cluster.namespace, images[1])
            if hospital is None
            else ("site", cluster.namespace_of(hospital), images[0])
        )
        command = ["python", "-m", "fl_assets.cli", "doctor", "--format", "json"]
        pod = PodJob(
            group=group_name(f"verify-{place}-{uuid4().hex}"),
            component="task",
            namespace=namespace,
            account=account,
            image=image,
            command=command if hospital is None else [*command, "--hospital", hospital],
            resources=cluster.site,
            run="verify-remote",
            hospital=hospital,
        )
        try:
            log = run_pod(api, cluster, pod, as_run=hospital is None).log
            for finding in _findings(log):
                cure = f" Cure: {finding['cure']}" if finding["cure"] else ""
                report(f"{place}: {finding['check']}", finding["verdict"], finding["found"] + cure)
        except DeploymentError as error:
            report(f"{place}: its pod", UNKNOWN, str(error))


def _not_ready(pod: Manifest) -> str | None:
    status = pod.get("status", {})
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or ()}
    if status.get("phase") == "Succeeded" or conditions.get("Ready") == "True":
        return None
    return f"{pod['metadata']['name']} is {status.get('phase', 'not known')} and not ready"


def _findings(log: str) -> Iterator[dict[str, Any]]:
    """Return the doctor's findings out of a pod's log, whose other lines are progress.

    Raises:
        DeploymentError: there are none.
    """
    for start in (place for place, letter in enumerate(log) if letter == "["):
        with suppress(json.JSONDecodeError):
            found, _ = json.JSONDecoder().raw_decode(log[start:])
            if found and isinstance(found[0], dict):
                return iter(found)
    last = log.strip().rpartition("\n")[2]
    raise DeploymentError(f"the doctor did not answer; its pod's last line: {last}")


def verify(given: argparse.Namespace) -> int:
    """Carry out all checks; return the exit code.

    Raises:
        FlAssetsError: the cluster cannot be reached, or consortium.yaml does not fit.
    """
    consortium = load_yaml_model(given.consortium, Consortium)
    client = connect()
    api = ClusterApi(client)
    verification = Verification()
    check_pods(api, given.namespace, verification.report)
    images = release_images(client, api, consortium.cluster.namespace, given.namespace)
    check_places(api, consortium, images, verification.report)
    if given.recipe:
        _check_training(given, verification.report)
    return verification.exit_code


def _check_training(given: argparse.Namespace, report: Report) -> None:
    check = f"training of {given.recipe}"
    try:
        with way_to_dagster(given.url, given.namespace) as way:
            train(Dagster(way), given.recipe)
    except DeploymentError as error:
        report(check, PROBLEM, str(error))
    else:
        report(check, PASSED, "trained, evaluated and compared")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--consortium", type=Path, default=Path("consortium.yaml"))
    parser.add_argument("--recipe", default="", help="train this one as well")
    parser.add_argument("--url", help="of Dagster's web server; a port is forwarded if absent")
    parser.add_argument("--namespace", default=NAMESPACE, help="of Dagster and MLflow")
    given = parser.parse_args()
    os.environ.setdefault("KUBECONFIG", str(Path.home() / ".kube" / "config"))
    try:
        code = verify(given)
    except FlAssetsError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    raise SystemExit(code)


if __name__ == "__main__":
    main()
