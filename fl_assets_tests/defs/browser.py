"""Headless Chromium on the running UI, for tests and for the README's pictures."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def chromium_page(width: int, height: int) -> Iterator[Page]:
    """A page in a new browser; needs ``CHROMIUM``."""
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield browser.new_page(viewport={"width": width, "height": height})
        finally:
            browser.close()


def open_asset_graph(page: Page, url: str) -> None:
    """Open the global asset lineage and every group in it."""
    page.goto(f"{url}/asset-groups", wait_until="load")
    page.get_by_text("governance").first.wait_for(timeout=60_000)
    # Dagster's own shortcut; it is heard once the graph has been laid out.
    page.get_by_text("2 assets").first.wait_for(timeout=60_000)
    page.keyboard.press("Alt+e")
    page.get_by_text("champion_model").first.wait_for(timeout=60_000)
