"""Plots of a search: they draw whatever a search can leave."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from fl_assets.reporting.sweep_plots import Slice, optimisation_history, slices


def size(png: bytes) -> tuple[int, int]:
    with Image.open(BytesIO(png)) as picture:
        assert picture.format == "PNG"
        return picture.size


@pytest.mark.parametrize(
    "objectives", [[0.7, None, 0.9, 0.8], [None, 0.5], [0.5], [None, None], []]
)
def test_history_of_any_search(objectives: list[float | None]) -> None:
    assert size(optimisation_history(objectives, "validation AUROC", True)) == (672, 364)


def test_history_depends_on_the_direction() -> None:
    falling = [0.9, 0.7, 0.8]
    up, down = (optimisation_history(falling, "loss", m) for m in (True, False))
    assert up != down
    assert up == optimisation_history(falling, "loss", True)


def test_a_panel_per_parameter() -> None:
    lr = Slice("lr", [0, 2], [0.001, 0.1], [0.7, 0.8], log=True)
    loss = Slice("loss", [0, 2], [0, 1], [0.7, 0.8], labels=["bce", "focal"])
    one, two, four = (slices(shown, "AUROC", best=2) for shown in ([lr], [lr, loss], [lr] * 4))
    assert size(one)[0] < size(two)[0] < size(four)[0]
    assert size(four)[1] > size(two)[1]


def test_the_best_is_marked_and_choices_are_named() -> None:
    lr = Slice("lr", [0, 1], [0.001, 0.1], [0.7, 0.8])
    assert slices([lr], "AUROC", best=0) != slices([lr], "AUROC", best=1)
    named = Slice("loss", [0, 1], [0, 1], [0.7, 0.8], labels=["bce", "focal"])
    plain = Slice("loss", [0, 1], [0, 1], [0.7, 0.8])
    assert slices([named], "AUROC", best=0) != slices([plain], "AUROC", best=0)
