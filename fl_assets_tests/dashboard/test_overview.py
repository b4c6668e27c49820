from fl_assets.coordinator import documents
from fl_assets.coordinator.decision import KEY, Promotion
from fl_assets.coordinator.summary import gates_table
from fl_assets.settings import Settings
from fl_assets.site import intake, partitions
from fl_assets_tests.dashboard.conftest import Open, cells, rows_of


def test_hospitals_and_gates_are_those_of_the_documents(
    finished_world: Settings, open_page: Open
) -> None:
    store = finished_world.site_store("hospital-a")
    records, dealt = intake.load_manifest(store), partitions.load_manifest(store)
    promotion = documents.load(finished_world.coordinator_store(), KEY, Promotion)

    app = open_page(finished_world, "Overview")

    hospitals, gates = cells(app)
    rows = " / ".join(str(file.rows) for file in dealt.files.values())
    counts = [len(records.uploads), records.rows, records.counts.quarantined]
    shown = ["hospital-a", *map(str, counts), dealt.version, rows, "nothing"]
    assert [row[0] for row in hospitals] == ["hospital-a", "hospital-b", "hospital-c"]
    assert hospitals[0] == shown
    assert gates == rows_of(gates_table(promotion))
    assert f"version {promotion.candidate.version}" in app.success[0].value


def test_what_a_hospital_waits_for_is_said(finished_world: Settings, open_page: Open) -> None:
    finished_world.site_store("hospital-c").put("incoming/more.csv", b"id\n1\n")
    hospitals, _ = cells(open_page(finished_world, "Overview"))
    assert hospitals[2][-1] == "1 uploads are not collected yet"


def test_a_model_that_was_not_promoted_is_no_champion(
    finished_world: Settings, open_page: Open
) -> None:
    store = finished_world.coordinator_store()
    promotion = documents.load(store, KEY, Promotion)
    failed = promotion.gates[0].model_copy(update={"passed": False})
    changed = {"gates": (failed, *promotion.gates[1:]), "previous": "7"}
    documents.save(store, KEY, promotion.model_copy(update=changed))

    app = open_page(finished_world, "Overview")

    assert not app.success
    assert "Champion stays version 7" in app.warning[0].value
    assert cells(app)[1][0][-1] == "FAILED"
