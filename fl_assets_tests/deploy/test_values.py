import sys
from pathlib import Path

import pytest
import yaml

from deploy.values import (
    ValuesError,
    charts,
    consortium_values,
    main,
    read_outputs,
    read_overrides,
    write_all,
)
from fl_assets_tests.infra import given
from fl_assets_tests.infra.tool import ROOT


@pytest.fixture
def files(tmp_path):
    return given.write(tmp_path)


def test_the_command_writes_values_for_every_chart(files, tmp_path, monkeypatch):
    consortium, printed = files
    arguments = ["--consortium", str(consortium), "--outputs", str(printed)]
    arguments += ["--tag", given.TAG, "--to", str(tmp_path / "values")]
    monkeypatch.setattr(sys, "argv", ["values", *arguments])

    main()

    written = {path.stem: path.read_text() for path in (tmp_path / "values").iterdir()}
    assert set(written) == {chart["name"] for chart in charts()}
    assert not [name for name, text in written.items() if "${" in text]
    dagster = yaml.safe_load(written["dagster"])
    assert dagster["dagsterWebserver"]["image"]["tag"] == given.TAG
    assert dagster["postgresql"]["postgresqlHost"] == given.outputs()["database_host"]
    autoscaler = yaml.safe_load(written["cluster-autoscaler"])
    # It knows the scheduler of one minor version of Kubernetes.
    assert autoscaler["image"]["tag"] == f"v{given.outputs()['kubernetes_version']}.0"
    assert autoscaler["rbac"]["serviceAccount"]["annotations"] == {
        "eks.amazonaws.com/role-arn": given.role("acme-cluster-autoscaler")
    }


def test_a_commit_of_digits_alone_is_no_number(files, tmp_path):
    consortium, printed = files
    write_all(consortium, read_outputs(printed), "12345678", tmp_path / "values")
    values = yaml.safe_load((tmp_path / "values/mlflow.yaml").read_text())
    assert values["image"]["tag"] == "12345678"


def test_every_hospital_has_its_own_namespace_and_role(files):
    values = consortium_values(files[0], given.outputs(), given.TAG)
    assert values["hospitals"] == [
        {"name": name, "namespace": f"fl-{name}", "role": given.role(f"acme-{name}-site")}
        for name in ("north", "south")
    ]
    assert values["consortium"] == {"consortium.yaml": given.CONSORTIUM}


def test_a_cohort_file_beside_the_consortium_goes_along(files, tmp_path):
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    files[0].write_text(given.CONSORTIUM.replace("cohort: stroke", "cohort: mine.yaml"))
    values = consortium_values(files[0], given.outputs(), given.TAG)
    assert values["consortium"]["mine.yaml"] == "name: mine\n"


def test_a_cohort_file_elsewhere_is_refused(files):
    files[0].write_text(given.CONSORTIUM.replace("cohort: stroke", "cohort: far/mine.yaml"))
    with pytest.raises(ValuesError, match="must lie beside"):
        consortium_values(files[0], given.outputs(), given.TAG)


def test_a_hospital_that_terraform_does_not_know_is_named(files):
    with pytest.raises(ValuesError, match=r"south.*apply terraform"):
        consortium_values(files[0], given.outputs(("north",)), given.TAG)


def test_a_simulated_consortium_is_refused():
    with pytest.raises(ValuesError, match="is simulated"):
        consortium_values(ROOT / "consortium.yaml", given.outputs(), given.TAG)


def test_what_is_no_output_of_terraform_is_refused(tmp_path):
    path = tmp_path / "outputs.json"
    path.write_text('{"region": "eu-central-1"}')
    with pytest.raises(ValuesError, match="terraform output -json"):
        read_outputs(path)


def test_an_output_that_is_missing_is_named(files, tmp_path):
    outputs = given.outputs()
    del outputs["vpc_id"]
    with pytest.raises(ValuesError, match=r"controller\.yaml needs 'vpc_id'"):
        write_all(files[0], outputs, given.TAG, Path(tmp_path / "values"))


def test_overrides_are_a_file_of_their_own_that_helm_merges(files, tmp_path):
    folder, mine = tmp_path / "values", tmp_path / "overrides.yaml"
    mine.write_text("dagster: {dagsterWebserver: {replicaCount: 2}}\n")
    write_all(files[0], given.outputs(), given.TAG, folder, read_overrides(mine))
    written = yaml.safe_load((folder / "dagster.overrides.yaml").read_text())
    assert written == {"dagsterWebserver": {"replicaCount": 2}}
    # What is not overridden any more is not there any more.
    write_all(files[0], given.outputs(), given.TAG, folder, read_overrides(None))
    assert not list(folder.glob("*.overrides.yaml"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dagsterr: {}", "dagsterr: choose of aws-load-balancer-controller, "),
        ("ingress: {enabled: true}", "ingress: choose of"),
        ("dagster: 2", "must have values by chart"),
        ("{", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_overrides_of_no_chart_are_refused(tmp_path, text, words):
    path = tmp_path / "overrides.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValuesError, match=words):
        read_overrides(path)
