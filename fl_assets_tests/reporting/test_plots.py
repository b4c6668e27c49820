import numpy as np
import pytest

from fl_assets.reporting.images import PALETTE
from fl_assets.reporting.plots import (
    Bar,
    calibration,
    comparison_bars,
    paired_gain,
    roc_curves,
    rounds,
)

RATES = np.linspace(0, 1, 101)


def test_roc_curves_draws_what_exists(look):
    curves = {"site": (RATES**0.4).tolist(), "one class": []}
    shot = look(
        roc_curves(curves, {"site": 0.714, "one class": None}, {"site": 90, "one class": 9})
    )
    assert shot.count(PALETTE[0]) > 200
    assert shot.count(PALETTE[1]) == 0
    look(roc_curves({}, {}, {}))


def test_a_roc_curve_without_an_area_is_still_drawn(look):
    shot = look(roc_curves({"site": RATES.tolist()}, {}, {"site": 3}))
    assert shot.count(PALETTE[0]) > 200


def test_calibration(look):
    bins = [(50, 0.01, 0.0), (50, 0.05, 0.06), (48, 0.2, 0.19)]
    shot = look(calibration({"site": bins, "tiny site": []}))
    assert shot.count(PALETTE[0]) > 200
    assert shot.count(PALETTE[1]) < shot.count(PALETTE[0])
    look(calibration({}))
    look(calibration({"never": [(9, 0.0, 0.0)]}))


def test_comparison_shows_intervals_and_the_reference(look):
    bars = [Bar("age only", 0.834, 0.81, 0.86), Bar("federated", 0.848), Bar("northfield", None)]
    plain = look(comparison_bars(bars, "AUROC (n = 1,022)"))
    marked = look(comparison_bars(bars, "AUROC (n = 1,022)", reference=("age only", 0.834)))
    assert plain.count(PALETTE[0]) > 50
    assert plain.count(PALETTE[1]) == 0
    assert marked.count(PALETTE[1]) > 50
    look(comparison_bars([], "AUROC"))


@pytest.mark.parametrize(
    ("bar", "colour", "drawn"),
    [
        (Bar("a", 0.08, 0.06, 0.1), PALETTE[0], True),
        (Bar("a", -0.08, -0.1, -0.06), PALETTE[1], True),
        (Bar("a", 0.08, -0.01, 0.17), PALETTE[0], False),
        (Bar("a", 0.08), PALETTE[0], False),
    ],
)
def test_only_a_gain_that_excludes_zero_has_full_colour(look, bar, colour, drawn):
    shot = look(paired_gain([bar, Bar("b", None)], "AUROC difference"))
    # Full colour is drawn at 0.9 over white.
    strong = np.abs(shot.pixels - shade(colour, 0.9)).max(axis=-1) < 12
    assert (strong.sum() > 500) == drawn


def shade(colour, alpha):
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return (alpha * parts + (1 - alpha) * 255).round()


def test_rounds_leaves_gaps(look):
    full = look(rounds({"site": [0.5 + 0.01 * i for i in range(30)]}, "validation AUROC"))
    gaps = look(rounds({"site": [0.5, *[None] * 28, 0.79]}, "validation AUROC"))
    assert full.count(PALETTE[0]) > 2 * gaps.count(PALETTE[0]) > 0
    look(rounds({"site": [None, None]}, "loss"))
    look(rounds({}, "loss"))


def test_more_series_than_colours(look):
    look(rounds({f"site {i}": [0.1 * i, 0.2 * i] for i in range(10)}, "loss (nats)"))


def test_equal_data_give_equal_bytes():
    def plot():
        return roc_curves({"site": RATES.tolist()}, {"site": 0.5}, {"site": 3})

    assert plot() == plot()
