import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from mlflow.exceptions import MlflowException
from mlflow.models import Model

import fl_assets
from fl_assets.cohorts.spec import CohortSpec
from fl_assets.tracking.models import CHAMPION, NoChampionError, Registry, input_example, signature
from fl_assets.tracking.runs import Tracking, TrackingError
from fl_assets_tests.tracking.conftest import Logged


def test_the_signature_is_over_raw_columns_and_bmi_is_optional(cohort: CohortSpec) -> None:
    inputs = signature(cohort).inputs
    assert inputs.input_names() == cohort.column_names
    assert [c.name for c in inputs.inputs if not c.required] == ["bmi"]
    assert cohort.id_column not in inputs.input_names()
    assert cohort.label.column not in inputs.input_names()
    assert signature(cohort).outputs.input_names() == ["probability", "above_threshold"]


def test_the_logged_model_carries_signature_example_and_its_own_code(
    logged: Logged, cohort: CohortSpec
) -> None:
    model = Model.load(str(logged.folder))
    assert model.signature == signature(cohort)
    pd.testing.assert_frame_equal(
        model.load_input_example(str(logged.folder)), input_example(cohort), check_dtype=False
    )
    assert (logged.folder / "code" / "fl_assets" / "learning" / "models" / "build.py").is_file()


def test_nothing_in_the_logged_model_needs_unpickling(
    logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    logged.registry.load("1")
    files = [path for path in logged.folder.rglob("*") if path.is_file()]
    suffixes = {path.suffix for path in files}
    assert not suffixes & {".pkl", ".pickle", ".pt", ".pth", ".joblib", ".cloudpickle", ".pyc"}
    # Protocol 2 and above begin like this, whatever the name.
    assert not [path for path in files if path.read_bytes()[:1] == b"\x80"]
    flavor = yaml.safe_load((logged.folder / "MLmodel").read_text())["flavors"]["python_function"]
    assert "python_model" not in flavor
    assert Path(flavor["model_code_path"]).name == "served_model.py"


def test_requirements_are_releases_that_an_index_has(logged: Logged) -> None:
    lines = (logged.folder / "requirements.txt").read_text().split()
    assert any(line.startswith("torch==2.13.0") for line in lines)
    assert not any("+" in line for line in lines)


def test_the_champion_is_the_version_its_alias_points_to(
    logged: Logged, cohort: CohortSpec
) -> None:
    found = logged.registry.alias(CHAMPION)
    assert found is not None
    assert (str(found.version), found.run_id) == ("1", logged.run_id)
    example = input_example(cohort)
    champion, first = logged.registry.load(CHAMPION), logged.registry.load("1")
    pd.testing.assert_frame_equal(champion.predict(example), first.predict(example))


def test_without_a_champion_that_is_said(tracking: Tracking, logged: Logged) -> None:
    empty = Registry(tracking, "nothing-yet")
    assert empty.alias(CHAMPION) is None
    with pytest.raises(NoChampionError, match="'nothing-yet' has no champion yet"):
        empty.load(CHAMPION)
    assert logged.registry.alias("candidate") is None


@pytest.mark.parametrize("version_or_alias", ["99", "candidate"])
def test_another_version_or_alias_that_is_not_there_is_mlflows_error(
    logged: Logged, version_or_alias: str
) -> None:
    with pytest.raises(MlflowException, match=version_or_alias):
        logged.registry.load(version_or_alias)


def test_a_version_is_known_by_the_run_it_came_from(logged: Logged, tracking: Tracking) -> None:
    assert logged.registry.has("1", logged.run_id)
    assert not logged.registry.has("1", "0" * 32)
    assert not logged.registry.has("2", logged.run_id)
    assert not Registry(tracking, "nothing-yet").has("1", logged.run_id)


def test_an_alias_moves_between_versions(tracking: Tracking) -> None:
    registry = Registry(tracking, "m")
    with tracking.run("r", {}) as run_id:
        pass
    versions = [registry.register(run_id, f"runs:/{run_id}/m", {}) for _ in range(2)]
    assert versions == ["1", "2"]
    for version in versions:
        registry.set_alias(CHAMPION, version)
        found = registry.alias(CHAMPION)
        assert found is not None
        assert str(found.version) == version
    assert tracking.client.get_model_version("m", "1").aliases == []


def test_a_card_is_beside_the_version_and_in_its_run(tracking: Tracking) -> None:
    registry = Registry(tracking, "m")
    with tracking.run("r", {}) as run_id:
        version = registry.register(run_id, f"runs:/{run_id}/m", {})
        registry.describe(version, run_id, "# A card")
    assert tracking.client.get_model_version("m", version).description == "# A card"
    assert [f.path for f in tracking.client.list_artifacts(run_id)] == ["model_card.md"]


def test_a_registry_that_is_down_is_a_tracking_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = Registry(Tracking("http://127.0.0.1:1", "e"), "m")
    for ask in (
        lambda: registry.alias(CHAMPION),
        lambda: registry.load(CHAMPION),
        lambda: registry.set_alias(CHAMPION, "1"),
        lambda: registry.register("0" * 32, "runs:/x/m", {}),
        lambda: registry.has("1", "0" * 32),
        lambda: registry.describe("1", "0" * 32, "card"),
    ):
        with pytest.raises(TrackingError, match="bring MLflow back"):
            ask()


LOG_AND_LOAD = """
import sys
from pathlib import Path
from fl_assets.cohorts.spec import load_cohort
from fl_assets.learning.configs import LogisticRegressionConfig
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.models import model_for
from fl_assets.tracking.models import Registry, input_example, log_model
from fl_assets.tracking.runs import Tracking

cohort = load_cohort("stroke")
preprocessor = Preprocessor.public(cohort)
config = LogisticRegressionConfig()
model = model_for(config, preprocessor, seed=0)
weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
tracking = Tracking(f"sqlite:///{Path.cwd()}/mlflow.db", "e")
with tracking.run("r", {}) as run:
    uri = log_model(tracking, run, weights, config, preprocessor, 0.1)
registry = Registry(tracking, "m")
registry.set_alias("champion", registry.register(run, uri, {}))
loaded = registry.load("champion")
loaded.predict(input_example(cohort))
print("and a warning:", file=sys.stderr)
loaded.predict(input_example(cohort).assign(ward="7"))
"""


def run_python(code: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


def test_mlflow_is_quiet_on_our_command_line_but_for_warnings(tmp_path: Path) -> None:
    done = run_python(LOG_AND_LOAD, tmp_path)
    noise, warning = done.stderr.split("and a warning:\n")
    assert noise == ""
    assert done.stdout == ""
    assert "WARNING" in warning
    assert "extra inputs" in warning


LOAD_ALONE = """
import json, sys
import mlflow, pandas
model = mlflow.pyfunc.load_model(FOLDER)
frame = pandas.read_json(EXAMPLE, orient="split")
risk = model.predict(frame)["probability"].tolist()
import fl_assets
print(json.dumps([risk, fl_assets.__file__, sorted({m.split(".")[0] for m in sys.modules})]))
"""


def test_the_model_brings_its_code_and_needs_little_else(logged: Logged, tmp_path: Path) -> None:
    example = logged.folder / "input_example.json"
    code = f"FOLDER, EXAMPLE = {str(logged.folder)!r}, {str(example)!r}\n{LOAD_ALONE}"
    done = run_python(code, tmp_path, PYTHONDONTWRITEBYTECODE="1")

    risk, origin, modules = json.loads(done.stdout)
    cohort = logged.preprocessor.cohort
    assert risk == logged.registry.load("1").predict(input_example(cohort))["probability"].tolist()
    assert Path(origin).is_relative_to(logged.folder)
    assert Path(origin) != Path(fl_assets.__file__)
    assert not {"flwr", "dagster", "boto3", "pandera", "kagglehub", "opacus"} & set(modules)
