import math

import pytest

from fl_assets.federation.rounds import RoundReport, SiteReport, from_wire, to_wire


def site(examples: int, validation: int, loss: float | None, auroc: float | None) -> SiteReport:
    return SiteReport(
        examples=examples,
        train_loss=examples / 100,
        validation_examples=validation,
        validation_loss=loss,
        validation_auroc=auroc,
        seconds=0.1,
        partitions="p",
    )


def report(**sites: SiteReport) -> RoundReport:
    return RoundReport(
        round=1,
        rounds=2,
        sites=sites,
        dropouts={},
        seconds=1.0,
        aggregation=0.1,
        gap=None,
        sent=0,
        received=0,
    )


def test_means_are_weighted_by_the_rows_behind_them() -> None:
    found = report(a=site(100, 30, 0.2, 0.9), b=site(300, 10, 0.6, 0.5))
    assert found.train_loss == pytest.approx((100 * 1 + 300 * 3) / 400)
    assert found.validation_loss == pytest.approx((30 * 0.2 + 10 * 0.6) / 40)
    assert found.validation_auroc == pytest.approx((30 * 0.9 + 10 * 0.5) / 40)


def test_a_site_without_a_figure_does_not_pull_the_mean() -> None:
    found = report(a=site(100, 30, 0.2, 0.9), b=site(300, 10, 0.6, None), c=site(5, 0, None, None))
    assert found.validation_auroc == pytest.approx(0.9)
    assert found.validation_loss == pytest.approx((30 * 0.2 + 10 * 0.6) / 40)


def test_no_figure_at_all_is_none() -> None:
    found = report(a=site(100, 0, None, None))
    assert found.validation_auroc is None
    assert found.validation_loss is None


def test_what_does_not_exist_survives_the_wire() -> None:
    assert math.isnan(to_wire(None))
    assert from_wire(to_wire(None)) is None
    assert from_wire(to_wire(0.0)) == 0.0
