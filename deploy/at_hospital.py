"""Run a command of `fla` in a pod of a hospital, with the hospital's own rights, and show its log.

    python -m deploy.at_hospital north -- egress north

For who administrates the hospital's namespace: the log is shown, and may be the hospital's alone to
see. A patient's id must not be among the arguments, which everybody who may see the pod can read.
Exit code 1 if the command failed.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from uuid import uuid4

from deploy.pods import Ended, release_images, run_pod
from deploy.train_remote import NAMESPACE
from fl_assets.cluster.api import ClusterApi
from fl_assets.cluster.client import connect
from fl_assets.cluster.manifests import PodJob, group_name
from fl_assets.config import load_yaml_model
from fl_assets.consortium import Consortium
from fl_assets.errors import FlAssetsError


def run_at(consortium: Consortium, hospital: str, command: list[str], mlops: str) -> Ended:
    """Run a command of `fla` as a hospital.

    Raises:
        UnknownHospitalError: the consortium has none of that name.
        FlAssetsError: the pod did not start, or the cluster cannot be reached.
    """
    consortium.hospital(hospital)
    cluster, client = consortium.cluster, connect()
    api = ClusterApi(client)
    pod = PodJob(
        group=group_name(f"at-{hospital}-{uuid4().hex}"),
        component="task",
        namespace=cluster.namespace_of(hospital),
        account="site",
        image=release_images(client, api, cluster.namespace, mlops)[0],
        command=["python", "-m", "fl_assets.cli", *command],
        resources=cluster.site,
        run="by-hand",
        hospital=hospital,
    )
    return run_pod(api, cluster, pod)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("hospital")
    parser.add_argument("command", nargs="+", help="of fla, after two dashes")
    parser.add_argument("--consortium", type=Path, default=Path("consortium.yaml"))
    parser.add_argument("--namespace", default=NAMESPACE, help="of Dagster")
    given = parser.parse_args()
    os.environ.setdefault("KUBECONFIG", str(Path.home() / ".kube" / "config"))
    try:
        consortium = load_yaml_model(given.consortium, Consortium)
        ended = run_at(consortium, given.hospital, given.command, given.namespace)
    except FlAssetsError as error:
        raise SystemExit(f"error: {error}") from None
    print(ended.log, end="")
    raise SystemExit(0 if ended.well else 1)


if __name__ == "__main__":
    main()
