"""Take the README's screenshots from the running UI in headless Chromium.

Run `make demo` first: the pictures show what is in the data folder.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from fl_assets.settings import Settings
from fl_assets_tests.defs.dagster_server import dagster_dev

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "images"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def open_page(page: Page, url: str, text: str) -> None:
    """Open a page of Dagster's UI and wait until a text is there and drawing has stopped."""
    page.goto(url, wait_until="load")
    page.get_by_text(text).first.wait_for(timeout=60_000)
    page.wait_for_timeout(4000)


def main() -> None:
    """Write every picture to ``docs/images``."""
    if BROWSER is None:
        sys.exit("Chromium is not installed: apt-get install chromium")
    settings = Settings.from_environment()
    PICTURES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as logs,
        sync_playwright() as playwright,
        dagster_dev(settings, Path(logs) / "dagster.log") as server,
    ):
        browser = playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1700, "height": 760})
        open_page(page, f"{server.url}/asset-groups", "governance")
        # Dagster's own shortcut for opening every group.
        page.keyboard.press("Alt+e")
        page.wait_for_timeout(3000)
        page.screenshot(path=PICTURES / "asset-graph.png")
        page.set_viewport_size({"width": 1400, "height": 1300})
        page.goto(f"{settings.coordinator_uri}/report.html")
        page.get_by_role("heading", name="Comparison").scroll_into_view_if_needed()
        page.screenshot(path=PICTURES / "report.png")
        browser.close()


if __name__ == "__main__":
    main()
