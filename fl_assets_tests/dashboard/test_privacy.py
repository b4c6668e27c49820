from fl_assets.coordinator.audit import load_audit
from fl_assets.coordinator.audit_report import audit_table
from fl_assets.coordinator.budget import budget_table, line_table
from fl_assets.coordinator.training import load_release
from fl_assets.privacy.ledger import Ledger
from fl_assets.privacy.ledger_view import view_ledger
from fl_assets.settings import Settings
from fl_assets_tests.dashboard.conftest import Open, cells, rows_of, said

HOSPITALS = ("hospital-a", "hospital-b", "hospital-c")


def test_budgets_guarantee_and_audit_are_those_of_the_documents(
    finished_world: Settings, open_page: Open
) -> None:
    store = finished_world.coordinator_store()
    views = [
        view_ledger(
            Ledger(finished_world.site_store(name), name),
            name,
            finished_world.consortium.budget(name),
        )
        for name in HOSPITALS
    ]

    app = open_page(finished_world, "Privacy")

    assert cells(app) == [
        rows_of(budget_table([view.budget for view in views])),
        rows_of(line_table("hospital-a", views[0].lines)),
        rows_of(audit_table(load_audit(store, "small-lr"))),
    ]
    assert load_release(store, "small-lr").privacy in said(app)
    assert "Spent and left hold for the protected runs alone." in said(app)


def test_a_model_without_an_audit_says_how_to_make_one(
    finished_world: Settings, open_page: Open
) -> None:
    finished_world.coordinator_store().delete("audits/small-lr.json")
    app = open_page(finished_world, "Privacy")
    assert "`fla audit small-lr`" in app.info[0].value
