import base64
from concurrent.futures import ThreadPoolExecutor

import matplotlib as mpl
import pytest

from fl_assets.reporting.images import finish, markdown_image, new_figure, to_png


def draw(k: int) -> bytes:
    figure, (ax,) = new_figure()
    ax.plot([0, k, 1])
    finish(ax, f"plot {k}", "x (unit)", "y (unit)", "both")
    return to_png(figure)


def test_plots_do_not_touch_each_other_or_global_settings():
    before = dict(mpl.rcParams)
    alone = [draw(k) for k in range(6)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(draw, range(6)))
    assert together == alone
    assert len(set(alone)) == 6
    assert dict(mpl.rcParams) == before


def test_figures_are_not_registered_with_pyplot():
    draw(1)
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []


def test_a_markdown_image_holds_the_bytes():
    png = draw(2)
    text = markdown_image(png, "ROC curves")
    assert text.startswith("![ROC curves](data:image/png;base64,")
    assert base64.b64decode(text.removesuffix(")").split("base64,")[1]) == png


@pytest.mark.parametrize(
    ("alt", "safe"), [("a]b[c", r"a\]b\[c"), ("two\nlines", "two lines"), ("back\\", r"back\\")]
)
def test_an_alt_text_cannot_end_the_image_early(alt, safe):
    assert markdown_image(b"", alt) == f"![{safe}](data:image/png;base64,)"
