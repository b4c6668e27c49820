"""Values of the Helm charts, out of consortium.yaml, helm-values/ and what Terraform made.

    terraform -chdir=terraform/main output -json > outputs.json
    python -m deploy.values --outputs outputs.json --tag COMMIT --to build/values

writes one file for each chart of helm-values/versions.yaml. None holds a secret: those are Secrets
of the cluster, which the deployment makes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import Any

import yaml

from fl_assets.config import load_yaml_model
from fl_assets.consortium import Consortium
from fl_assets.errors import FlAssetsError

ROOT = Path(__file__).parents[1]
HELM_VALUES = ROOT / "helm-values"
OWN_CHART = "fl-consortium"


class ValuesError(FlAssetsError):
    """Something that the charts need is not there."""


def charts() -> list[dict[str, str]]:
    """Return the charts of helm-values/versions.yaml in the order of their installation."""
    versions = yaml.safe_load((HELM_VALUES / "versions.yaml").read_text())
    return list(versions["charts"])


def read_outputs(path: Path) -> dict[str, Any]:
    """Return what ``terraform output -json`` printed, name by name.

    Raises:
        ValuesError: the file holds something else.
    """
    try:
        return {name: output["value"] for name, output in json.loads(path.read_text()).items()}
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError):
        raise ValuesError(
            f"{path} is not what `terraform output -json` prints: write it anew"
        ) from None


def filled_in(chart: str, outputs: Mapping[str, Any], tag: str) -> str:
    """Return the text of a chart's file in helm-values/ with every ``${...}`` filled in.

    Raises:
        ValuesError: a name in it is not among what Terraform made.
    """
    path = HELM_VALUES / f"{chart}.yaml"
    try:
        return Template(path.read_text()).substitute(_names(outputs, tag))
    except KeyError as error:
        raise ValuesError(f"{path.name} needs {error}: apply terraform/main first") from None


def consortium_values(
    consortium_file: Path, outputs: Mapping[str, Any], tag: str
) -> dict[str, Any]:
    """Return the values of our own chart.

    Raises:
        ConfigFileError: consortium.yaml does not fit.
        ValuesError: it is one that cannot run on a cluster, or Terraform has made another one's.
    """
    consortium = load_yaml_model(consortium_file, Consortium)
    if consortium.simulated:
        raise ValuesError(
            f"{consortium_file} is simulated: a consortium on a cluster has `simulated: false` and "
            "a bucket for each hospital"
        )
    try:
        return _own(consortium, consortium_file, outputs, tag)
    except KeyError as error:
        raise ValuesError(
            f"Terraform's outputs have no {error}: apply terraform/main with this {consortium_file}"
        ) from None


def read_overrides(path: Path | None) -> dict[str, dict[str, Any]]:
    """Return what a deployment wants otherwise than helm-values/ has it, by chart; none if None.

    Raises:
        ValuesError: the file is none of values by chart.
    """
    if path is None:
        return {}
    try:
        found = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ValuesError(f"{path} cannot be read: {error}") from None
    names = [chart["name"] for chart in charts()]
    if not isinstance(found, dict) or not all(isinstance(v, dict) for v in found.values()):
        raise ValuesError(f"{path} must have values by chart, of {', '.join(names)}")
    unknown = ", ".join(sorted(set(found) - set(names)))
    if unknown:
        raise ValuesError(f"{path}: {unknown}: choose of {', '.join(names)}")
    return found


def write_all(
    consortium_file: Path,
    outputs: Mapping[str, Any],
    tag: str,
    folder: Path,
    overrides: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> None:
    """Write ``<chart>.yaml`` for every chart, and ``<chart>.overrides.yaml`` where there are any.

    Helm merges the two; what is a list in the second one is that of the first no more.

    Raises:
        ConfigFileError, ValuesError: see above.
    """
    texts = {
        chart["name"]: filled_in(chart["name"], outputs, tag)
        for chart in charts()
        if chart["name"] != OWN_CHART
    }
    own = consortium_values(consortium_file, outputs, tag)
    texts[OWN_CHART] = yaml.safe_dump(own, sort_keys=False)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.overrides.yaml"):
        stale.unlink()
    for name, values in overrides.items():
        texts[f"{name}.overrides"] = yaml.safe_dump(dict(values), sort_keys=False)
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)


def _own(
    consortium: Consortium, file: Path, outputs: Mapping[str, Any], tag: str
) -> dict[str, Any]:
    files = {"consortium.yaml": file.read_text()}
    cohort = file.parent / consortium.cohort
    if cohort.suffix in {".yaml", ".yml"}:
        if cohort.parent != file.parent:
            raise ValuesError(f"{consortium.cohort} must lie beside {file}: a ConfigMap is flat")
        files[cohort.name] = cohort.read_text()
    cluster, roles = consortium.cluster, outputs["roles"]
    return {
        "consortium": files,
        "namespaces": {"mlops": "mlops", "training": cluster.namespace},
        "hospitals": [
            {
                "name": name,
                "namespace": cluster.namespace_of(name),
                "role": outputs["hospitals"][name]["site_role_arn"],
            }
            for name in consortium.hospital_names
        ],
        "roles": {name: roles[name] for name in ("coordinator", "server", "mlflow")},
        "environment": {
            "AWS_REGION": outputs["region"],
            "FLA_COORDINATOR": outputs["coordinator_uri"],
        },
        "dagster": {"FLA_UPLOAD_QUEUE": outputs["upload_queue_url"]},
        "images": {name: f"{outputs['repositories'][name]}:{tag}" for name in ("site", "server")},
        "network": {"vpc": [outputs["vpc_cidr"]]},
    }


def _names(outputs: Mapping[str, Any], tag: str) -> dict[str, str]:
    names = {name: value for name, value in outputs.items() if isinstance(value, str)}
    names |= {f"{image}_repository": url for image, url in outputs.get("repositories", {}).items()}
    for controller, arn in outputs.get("controller_roles", {}).items():
        names[f"{controller.replace('-', '_')}_role_arn"] = arn
    if "mlflow_uri" in names:
        names["mlflow_bucket"] = names["mlflow_uri"].removeprefix("s3://")
    return names | {"tag": tag}


def main() -> None:
    """Write the values of all charts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--consortium", type=Path, default=ROOT / "consortium.yaml")
    parser.add_argument("--outputs", type=Path, required=True)
    parser.add_argument("--tag", required=True, help="of the images: the commit they are built of")
    parser.add_argument("--overrides", type=Path, help="values by chart that come on top")
    parser.add_argument("--to", type=Path, required=True, help="folder")
    given = parser.parse_args()
    try:
        overrides = read_overrides(given.overrides)
        write_all(given.consortium, read_outputs(given.outputs), given.tag, given.to, overrides)
    except FlAssetsError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
