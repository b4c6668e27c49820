"""Take the README's screenshots from the running UI in headless Chromium.

Run `make demo` first: the pictures show what is in the data folder.
"""

import sys
import tempfile
from pathlib import Path

from fl_assets.settings import Settings
from fl_assets_tests.defs.browser import CHROMIUM, chromium_page, open_asset_graph
from fl_assets_tests.defs.dagster_server import dagster_dev

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "images"
SETTLE_MS = 3000
"""How long the graph glides into place after its text is there."""


def main() -> None:
    """Write every picture to ``docs/images``."""
    if CHROMIUM is None:
        sys.exit("Chromium is not installed: apt-get install chromium")
    settings = Settings.from_environment()
    PICTURES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as logs,
        chromium_page(1700, 760) as page,
        dagster_dev(settings, Path(logs) / "dagster.log") as server,
    ):
        open_asset_graph(page, server.url)
        page.wait_for_timeout(SETTLE_MS)
        page.screenshot(path=PICTURES / "asset-graph.png")
        page.set_viewport_size({"width": 1400, "height": 1300})
        page.goto(f"{settings.coordinator_uri}/report.html")
        page.get_by_role("heading", name="Comparison").scroll_into_view_if_needed()
        page.screenshot(path=PICTURES / "report.png")


if __name__ == "__main__":
    main()
