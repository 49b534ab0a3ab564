"""A real browser on JupyterLab: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

#: It asks nobody outside this machine, and runs as root in a container too.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def chromium() -> str | None:
    """Path of Chromium, or None where it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def browser_page(width: int = 1400, height: int = 900) -> Iterator[Any]:
    """A page of a new browser, with nothing remembered from before."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(60_000)
            yield page
        finally:
            browser.close()


def open_lab(page: Any, url: str, token: str, path: str = "/lab") -> None:
    """Log in with the token, and wait until JupyterLab stands, with no tabs of an earlier day."""
    page.goto(f"{url}{path}?{urlencode({'token': token, 'reset': ''})}")
    wait_for_lab(page)


def wait_for_lab(page: Any) -> None:
    """Wait until JupyterLab stands."""
    page.locator("#jp-main-dock-panel").wait_for()
    page.locator("#jupyterlab-splash").wait_for(state="detached")


def open_dask_sidebar(page: Any) -> Any:
    """Show the Dask sidebar; gives its list of panels."""
    panels = page.locator(".dask-DashboardListing-list")
    if not panels.is_visible():
        page.locator("li.lm-TabBar-tab[data-id='dask-dashboard-launcher']").click()
    panels.locator("button").first.wait_for()
    return panels


def open_dask_panel(page: Any, name: str) -> Any:
    """Open one of Dask's panels by the text of its button; gives the frame that shows it."""
    open_dask_sidebar(page).get_by_role("button", name=name, exact=True).click()
    route = name.lower().replace(" ", "-")
    return page.locator(f"iframe[src$='individual-{route}']").element_handle().content_frame()


def wait_for_plot_title(frame: Any, text: str) -> None:
    """Wait until a panel's plot has a text in its title, which is painted and not written."""
    title = "window.Bokeh?.documents[0]?.roots()[0]?.title?.text"
    frame.wait_for_function(f"text => {title}?.includes(text)", arg=text)
