import re
from base64 import b64encode
from html.parser import HTMLParser

import pytest

from fl_assets.reporting.html import Picture, RaggedTableError, Section, Table, render
from fl_assets.reporting.images import new_figure, to_png


class Page(HTMLParser):
    """Elements as (tag, attributes), text, and a check that tags are closed in order."""

    VOID = frozenset({"meta", "img"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements, self.text, self.open = [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] != "style":
            self.text.append(data.strip())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def png():
    return to_png(new_figure(2, 2)[0])


@pytest.fixture(scope="module")
def html(png):
    metrics = Table(
        "Metrics per hospital",
        ["hospital", "n", "AUROC", "gain", "released"],
        [["north", 1700, 0.848123, None, True], ["south <1>", 1400, 0.8, -0.001, False]],
    )
    return render(
        "Report of <stroke>",
        [
            Section("Summary & scope", "One <script>alert(1)</script>.\n\nTwo.", [metrics]),
            Section("Curves", images=[Picture(png, 'ROC "curves"')]),
        ],
    )


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_nothing_is_loaded_from_elsewhere(html):
    assert not re.search(r"https?://|@import|<link|<script|url\(", html)


def test_text_is_escaped(page):
    assert "Report of <stroke>" in page.text
    assert "One <script>alert(1)</script>." in page.text
    assert "south <1>" in page.text
    assert not page.all("script")


def test_paragraphs_and_cells(page):
    assert len(page.all("p")) == 2
    for shown in ("1,700", "0.8481", "–", "yes", "no", "-0.001"):
        assert shown in page.text
    numeric = [cell for cell in page.all("td") if cell.get("class") == "number"]
    assert len(numeric) == 6


def test_images_are_inside_and_described(page, png):
    (image,) = page.all("img")
    assert image["src"] == f"data:image/png;base64,{b64encode(png).decode()}"
    assert image["alt"] == 'ROC "curves"'


def test_structure_for_assistive_technology(page):
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == len(page.all("main")) == len(page.all("title")) == 1
    assert {cell["scope"] for cell in page.all("th")} == {"col", "row"}
    assert len(page.all("caption")) == len(page.all("table")) == 1
    (region,) = (box for box in page.all("div") if box.get("role") == "region")
    assert region["tabindex"] == "0"
    assert region["aria-label"] == "Metrics per hospital"
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [link["href"] for link in page.all("a")]
    assert targets == ["#content", "#section-1", "#section-2"]
    assert {target[1:] for target in targets} <= set(ids)
    assert {part["aria-labelledby"] for part in page.all("section")} <= set(ids)


def contrast(first, second):
    """Ratio of WCAG 2.2, section 1.4.3."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_in_light_and_dark(html):
    themes = [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in html.split("@media")[:2]]
    assert themes[0] != themes[1]
    for theme in themes:
        for ink in ("text", "muted", "link"):
            for paper in ("back", "panel"):
                assert contrast(theme[ink], theme[paper]) >= 4.5


def test_a_single_section_needs_no_contents():
    page = Page(render("Short", [Section("Only")]))
    assert not page.all("nav")
    assert Page(render("Empty", [])).all("main")


def test_a_ragged_table_is_refused():
    with pytest.raises(RaggedTableError, match="'Metrics' has 2 columns but a row of 1"):
        Table("Metrics", ["a", "b"], [["x", 1], ["y"]])
