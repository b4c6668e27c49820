import shutil
from pathlib import Path

import pytest

from fl_assets.config import ConfigFileError
from fl_assets.consortium import UnknownHospitalError
from fl_assets.settings import CredentialsFileError, EnvironmentVariableError, Settings
from fl_assets_tests.conftest import REPOSITORY

VARIABLES = [
    "FLA_HOME",
    "FLA_CONSORTIUM",
    "FLA_RECIPES",
    "MLFLOW_TRACKING_URI",
    "FLA_COORDINATOR",
    "DATA",
    "FLA_SYNTHETIC_ROWS",
    "FLA_RUNTIME",
    "FLA_METRICS_PORT",
    "FLA_INTAKE",
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with the shipped consortium, as the working directory of a clean environment."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    shutil.copy(REPOSITORY / "consortium.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_defaults_are_all_in_the_checkout(here: Path) -> None:
    found = Settings.from_environment()
    assert found == Settings(
        home=here / ".fla",
        consortium_file=here / "consortium.yaml",
        recipes=here / "recipes",
        tracking_uri=f"sqlite:///{here}/.fla/mlflow.db",
        coordinator_uri=f"file://{here}/.fla/coordinator",
        data="synthetic",
        synthetic_rows=5110,
        runtime="inprocess",
        metrics_port=None,
        intake_engine="local",
    )
    assert not (here / ".fla").exists()


def test_an_empty_variable_is_an_unset_one(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Settings.from_environment()
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
    assert Settings.from_environment() == expected


def test_variables(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "FLA_HOME": "elsewhere",
        "FLA_CONSORTIUM": "/etc/consortium.yaml",
        "FLA_RECIPES": "my/recipes",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "FLA_COORDINATOR": "s3://coordinator",
        "DATA": "kaggle",
        "FLA_SYNTHETIC_ROWS": "12",
        "FLA_RUNTIME": "processes",
        "FLA_METRICS_PORT": "9100",
        "FLA_INTAKE": "spark",
    }
    assert list(values) == VARIABLES
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert Settings.from_environment() == Settings(
        home=here / "elsewhere",
        consortium_file=Path("/etc/consortium.yaml"),
        recipes=here / "my/recipes",
        tracking_uri="http://mlflow:5000",
        coordinator_uri="s3://coordinator",
        data="kaggle",
        synthetic_rows=12,
        runtime="processes",
        metrics_port=9100,
        intake_engine="spark",
    )


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_rows_that_are_no_number(here: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("FLA_SYNTHETIC_ROWS", value)
    with pytest.raises(EnvironmentVariableError, match=f"FLA_SYNTHETIC_ROWS is '{value}'"):
        Settings.from_environment()


@pytest.mark.parametrize("value", ["0", "65536", "http"])
def test_a_port_that_is_none(here: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("FLA_METRICS_PORT", value)
    with pytest.raises(EnvironmentVariableError, match=r"a positive whole number up to 65535"):
        Settings.from_environment()


def test_settings_outlive_a_change_of_directory(
    here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = Settings.from_environment()
    monkeypatch.chdir(tmp_path_factory.mktemp("other"))
    assert found.consortium.name == "stroke-consortium"
    assert found.model_name == "stroke-consortium-stroke-risk"


def test_a_missing_consortium(here: Path) -> None:
    (here / "consortium.yaml").unlink()
    with pytest.raises(ConfigFileError, match=r"consortium\.yaml cannot be read"):
        _ = Settings.from_environment().consortium


def test_a_cohort_beside_the_consortium(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(REPOSITORY / "fl_assets_tests/cohorts/asthma.yaml", here / "own.yaml")
    text = (here / "consortium.yaml").read_text()
    (here / "consortium.yaml").write_text(text.replace("cohort: stroke ", "cohort: own.yaml "))
    monkeypatch.setenv("FLA_CONSORTIUM", str(here / "consortium.yaml"))
    monkeypatch.chdir("/")
    assert Settings.from_environment().cohort.name == "asthma"


def test_stores_are_apart_and_open_again(here: Path) -> None:
    found = Settings.from_environment()
    stores = [found.coordinator_store(), found.site_store("hospital-a")]
    stores.append(found.site_store("hospital-b"))
    for number, store in enumerate(stores):
        store.put("who", str(number).encode())
    assert [store.get("who") for store in stores] == [b"0", b"1", b"2"]
    assert found.site_store("hospital-a").get("who") == b"1"
    assert found.site_uri("hospital-a") == stores[1].uri
    with pytest.raises(UnknownHospitalError):
        found.site_store("hospital-z")


def test_a_hospitals_store_is_opened_under_its_role(here: Path) -> None:
    with (here / "consortium.yaml").open("a") as file:
        file.write(
            '\nrole: "arn:aws:iam::123456789012:role/fla-{hospital}"\n'
            "kms_key: alias/fla-{hospital}\nregion: eu-west-3\n"
        )
    settings = Settings.from_environment()
    access = settings.site_access("hospital-a")
    assert access.role == "arn:aws:iam::123456789012:role/fla-hospital-a"
    assert access.kms_key == "alias/fla-hospital-a"
    assert (access.session, access.region) == ("fl-assets-hospital-a", "eu-west-3")
    assert settings.listing_store("hospital-a").uri == settings.site_uri("hospital-a")
    with pytest.raises(UnknownHospitalError):
        settings.site_access("hospital-z")


def test_a_long_name_fits_into_a_session(here: Path) -> None:
    name = "h" * 63
    text = (here / "consortium.yaml").read_text()
    (here / "consortium.yaml").write_text(text.replace("hospital-a", name))
    assert len(Settings.from_environment().site_access(name).session) == 64


def test_only_this_module_reads_the_environment_of_the_project() -> None:
    readers = {
        path.name
        for path in (REPOSITORY / "fl_assets").rglob("*.py")
        if any(f'"{name}"' in path.read_text() for name in VARIABLES)
    }
    # The one that gives a pod its environment names some as well.
    assert readers - {"manifests.py"} == {"settings.py"}


@pytest.fixture
def credentials(here: Path) -> Path:
    path = here / ".fla/credentials/hospital-a.env"
    path.parent.mkdir(parents=True)
    path.touch(0o600)
    return path


def test_a_hospitals_credentials_are_its_own(credentials: Path) -> None:
    credentials.write_text(
        "# of the bucket\n\nAWS_ACCESS_KEY_ID=key\n"
        "export AWS_SECRET_ACCESS_KEY='s=cr#t'\nAWS_REGION = \"eu-central-1\"\n"
    )
    settings = Settings.from_environment()
    assert settings.site_environment("hospital-a") == {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "s=cr#t",
        "AWS_REGION": "eu-central-1",
    }
    assert settings.site_environment("hospital-b") == {}


def test_credentials_that_others_can_read_are_refused(credentials: Path) -> None:
    credentials.chmod(0o640)
    with pytest.raises(CredentialsFileError, match=r"hospital-a.env \(mode 640\): chmod 600"):
        Settings.from_environment().site_environment("hospital-a")


@pytest.mark.parametrize("line", ["SECRET", "se cret=1", "=1"])
def test_a_line_that_is_no_variable_is_named_and_not_quoted(credentials: Path, line: str) -> None:
    credentials.write_text(f"A=1\n{line}\n")
    with pytest.raises(CredentialsFileError, match="line 2 of") as caught:
        Settings.from_environment().site_environment("hospital-a")
    assert line not in str(caught.value)
