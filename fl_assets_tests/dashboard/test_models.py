from fl_assets.coordinator.comparison import load_comparison
from fl_assets.coordinator.summary import comparison_table, evaluation_table, hospital_table
from fl_assets.settings import Settings
from fl_assets_tests.dashboard.conftest import Open, cells, rows_of


def test_figures_and_plots_are_those_of_the_report(
    finished_world: Settings, open_page: Open
) -> None:
    comparison = load_comparison(finished_world.coordinator_store())
    federated = {row.evaluation.model: row.evaluation for row in comparison.of_kind("federated")}

    app = open_page(finished_world, "Models")

    assert app.selectbox[0].options == list(federated) == ["small-lr", "small-mlp"]
    tables = [comparison_table(comparison), hospital_table(comparison)]
    expected = [*tables, evaluation_table(federated["small-lr"])]
    assert cells(app) == [rows_of(table) for table in expected]
    # Bars, ROC and calibration of all; ROC and calibration of one at each hospital.
    assert len(app.image) == 5

    app.selectbox[0].set_value("small-mlp").run()
    assert cells(app)[2] == rows_of(evaluation_table(federated["small-mlp"]))
