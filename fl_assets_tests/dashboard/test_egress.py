from fl_assets.settings import Settings
from fl_assets.site.egress import EgressLog
from fl_assets.site.egress_report import group_table
from fl_assets_tests.dashboard.conftest import Open, cells, rows_of


def test_messages_and_bytes_are_those_of_the_log(finished_world: Settings, open_page: Open) -> None:
    logs = {n: EgressLog(finished_world.site_store(n)) for n in ("hospital-a", "hospital-c")}

    app = open_page(finished_world, "Egress")

    for name, log in logs.items():
        app.selectbox[0].set_value(name).run()
        entries = log.entries()
        messages, size = (metric.value for metric in app.metric)
        assert messages == f"{len(entries):,}"
        assert size == f"{sum(entry.size for entry in entries):,}"
        assert cells(app) == [rows_of(group_table(name, entries))]
