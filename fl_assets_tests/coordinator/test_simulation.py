from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fl_assets.cohorts.contract import check_rows
from fl_assets.cohorts.reader import read_rows
from fl_assets.cohorts.spec import CohortSpec, load_cohort
from fl_assets.cohorts.synthetic import generate
from fl_assets.coordinator.preprocessors import build_preprocessors
from fl_assets.coordinator.simulation import upload
from fl_assets.coordinator.training import ready_sites
from fl_assets.federation.job import FederationJob
from fl_assets.federation.recipe import Recipe
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.learning.configs import MLPConfig
from fl_assets.learning.features import Preprocessor
from fl_assets.settings import Settings
from fl_assets.site import rows
from fl_assets.site.evaluation import evaluate_model, fit_local
from fl_assets.site.intake import collect_records
from fl_assets.site.partitions import verify
from fl_assets.site.profile import load_profile
from fl_assets.storage import FolderStore
from fl_assets_tests.world import build_world


@pytest.fixture(scope="module")
def stroke() -> CohortSpec:
    return load_cohort("stroke")


@pytest.fixture(scope="module")
def patients(stroke: CohortSpec) -> pd.DataFrame:
    text = generate(stroke, 300, 2).to_csv(index=False).encode()
    return check_rows(read_rows(text, stroke, "patients.csv"), stroke).accepted


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def keys(store: FolderStore) -> list[str]:
    return [info.key for info in store.list("incoming/")]


def test_rows_arrive_as_they_were(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    version = upload(store, patients, stroke)
    assert keys(store) == [f"incoming/simulated-{version}.csv"]
    manifest = collect_records(store, stroke)
    expected = patients.sort_values("id", ignore_index=True)
    pd.testing.assert_frame_equal(rows.read_rows(store, manifest.key), expected)
    assert np.isnan(expected["bmi"]).any()


def test_the_same_rows_again_leave_the_upload_alone(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    version = upload(store, patients, stroke)
    before = store.list()
    assert upload(store, patients, stroke) == version
    assert store.list() == before


def test_other_rows_take_the_place_of_the_earlier(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    first = upload(store, patients.iloc[:100], stroke)
    second = upload(store, patients.iloc[100:], stroke)
    assert first != second
    assert keys(store) == [f"incoming/simulated-{second}.csv"]
    assert collect_records(store, stroke).rows == 200


def test_uploads_of_people_stay(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    store.put("incoming/from-a-person.csv", patients.iloc[:5].to_csv(index=False).encode())
    upload(store, patients.iloc[5:9], stroke)
    version = upload(store, patients.iloc[5:10], stroke)
    assert keys(store) == ["incoming/from-a-person.csv", f"incoming/simulated-{version}.csv"]
    assert collect_records(store, stroke).rows == 10


# One cohort over so many hospitals that each has next to no rows.
HOSPITALS, ROWS_EACH = 20, 51


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("crowd")
    return build_world(home, HOSPITALS * ROWS_EACH, hospitals=HOSPITALS)


def test_every_hospital_gets_its_share_and_keeps_all_of_it(crowd: Settings) -> None:
    manifests = ready_sites(crowd)
    assert [manifest.rows for manifest in manifests.values()] == [ROWS_EACH] * HOSPITALS
    for name in manifests:
        assert verify(crowd.site_store(name), crowd.cohort) == []


def test_their_profiles_hide_what_is_too_few_and_pool_to_moments(crowd: Settings) -> None:
    profiles = {name: load_profile(crowd.site_store(name)) for name in ready_sites(crowd)}
    positives = [profile.label["1"] for profile in profiles.values()]
    assert 0 in positives
    assert None in positives
    built = build_preprocessors(crowd.coordinator_store(), crowd.cohort, profiles)
    assert built.moments is not None
    assert built.withheld == ()


def test_each_alone_has_a_baseline_even_of_one_class(crowd: Settings) -> None:
    preprocessor = Preprocessor.public(crowd.cohort)
    found = []
    for name in crowd.consortium.hospital_names:
        store = crowd.site_store(name)
        alone = fit_local(store, preprocessor, seed=0)
        evaluation = evaluate_model(
            store, preprocessor, alone.scores, threshold=None, minimum=5, run="test"
        ).evaluation
        found.append(evaluation and evaluation.auroc)
    assert None in found


def test_they_train_together(crowd: Settings) -> None:
    recipe = Recipe(name="crowd", model=MLPConfig(hidden=(4,)), rounds=3)
    names = crowd.consortium.hospital_names
    job = FederationJob(
        run="crowd",
        recipe=recipe,
        preprocessor=Preprocessor.public(crowd.cohort),
        sites={name: crowd.site_uri(name) for name in names},
        output=crowd.coordinator_uri,
        budgets=crowd.consortium.budgets,
    )
    history = InProcessRuntime().run(job).history
    assert [set(report.sites) for report in history.rounds] == [set(names)] * 3
    assert history.rounds[-1].train_loss < history.rounds[0].train_loss  # type: ignore[operator]
    # Some have no positive validation row, so no figure, and do not spoil those of the others.
    areas = [final.auroc for final in history.final.values()]
    assert None in areas
    assert history.rounds[-1].validation_auroc is not None
