import pytest
import yaml
from streamlit.testing.v1 import AppTest

from fl_assets.settings import Settings
from fl_assets.site.intake import collect_records
from fl_assets.site.partitions import build_partitions
from fl_assets.site.profile import build_profile
from fl_assets_tests import canaries
from fl_assets_tests.dashboard.conftest import APP, PAGES, Open, cells, said
from fl_assets_tests.world import CONSORTIUM


@pytest.mark.parametrize(
    ("page", "cure"),
    [
        ("Overview", "`champion_model`"),
        ("Models", "`model_comparison`"),
        ("Training", "`fla run RECIPE`"),
        ("Privacy", "`privacy`"),
        ("Egress", "`fla demo`"),
    ],
)
def test_where_nothing_is_yet_a_page_says_what_to_do(
    empty_world: Settings, open_page: Open, page: str, cure: str
) -> None:
    app = open_page(empty_world, page)
    assert not app.warning
    assert cure in app.info[0].value
    assert any("test-consortium" in title.value for title in app.title)


@pytest.mark.parametrize(
    ("page", "damaged"),
    [("Overview", "partitions/manifest.json"), ("Privacy", "ledger/000001.json")],
)
def test_a_hospital_that_cannot_be_read_is_named_and_the_others_are_shown(
    finished_world: Settings, open_page: Open, page: str, damaged: str
) -> None:
    store = finished_world.site_store("hospital-b")
    assert store.exists(damaged)
    store.put(damaged, b'{"age": 739517}')

    app = open_page(finished_world, page)

    (warning,) = app.warning
    assert warning.value.startswith("hospital-b cannot be read: ")
    assert "739517" not in said(app)
    assert [row[0] for row in cells(app)[0]] == ["hospital-a", "hospital-c"]


def test_a_damaged_log_is_told_and_hides_no_other_hospital(
    finished_world: Settings, open_page: Open
) -> None:
    store = finished_world.site_store("hospital-b")
    store.put(store.list("egress/")[0].key, b"no entry")
    app = open_page(finished_world, "Egress")
    assert not app.warning
    app.selectbox[0].set_value("hospital-b").run()
    assert app.warning[0].value.startswith("hospital-b cannot be read: ")
    assert not app.dataframe


def test_a_consortium_that_cannot_be_read_is_told_in_words(
    empty_world: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_world.consortium_file.unlink()
    monkeypatch.setattr(Settings, "from_environment", lambda: empty_world)
    app = AppTest.from_file(str(APP), default_timeout=60).run()
    assert not app.exception
    assert "consortium.yaml" in app.error[0].value


def test_no_value_of_a_patient_is_on_any_page(empty_world: Settings, open_page: Open) -> None:
    changes = {"simulated": False, "hospitals": [{"name": "hospital-a"}]}
    empty_world.consortium_file.write_text(yaml.safe_dump(CONSORTIUM | changes))
    spec, consortium = empty_world.cohort, empty_world.consortium
    store = empty_world.site_store("hospital-a")
    files = [
        canaries.planted(spec, 260, 1, "hospital-a"),
        canaries.planted(spec, 4, 9, "blocked"),
    ]
    store.put("incoming/a.csv", files[0])
    collect_records(store, spec)
    build_partitions(store, spec, consortium.split)
    build_profile(store, spec, consortium.minimum_cell, "run")
    store.put("incoming/blocked.csv", files[1])

    pages = {page: said(open_page(empty_world, page)) for page in PAGES}

    needles = canaries.Needles(spec, files)
    assert {page: needles.within(text.encode()) for page, text in pages.items()} == {
        page: [] for page in PAGES
    }
    # The search looks into the tables as well.
    assert "uploads are not collected yet" in pages["Overview"]
    assert "profile" in pages["Egress"]
