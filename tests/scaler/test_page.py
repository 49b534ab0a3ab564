"""The page beside Dask's own dashboard, and the cluster in JupyterLab's sidebar, in a browser."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from distributed.security import Security

from perennial import jupyter
from tests import browser
from tests.homes import wait_until
from tests.jupyterlab import TOKEN, gate, make_site, process, spec, start, wait_for
from tests.ports import free_port
from tests.scaler.feeder import PRELOADS, Scaler

pytestmark = [
    pytest.mark.lab,
    pytest.mark.smoke,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        browser.chromium() is None, reason="Chromium is not installed (apt-get install chromium)"
    ),
]
#: The last value of a column of the chart whose title is that of a group.
LATEST = """([group, column]) => {
  const figures = (window.Bokeh?.documents ?? []).flatMap((d) => [...d._all_models.values()])
    .filter((m) => m.type === "Figure" && m.title?.text === group)
  const data = figures[0]?.renderers[0]?.data_source.data
  return data === undefined ? null : data[column][data[column].length - 1]
}"""


#: What the two charts of a group draw, and whether it is shown: the latest value by column, and the
#: decisions.
DRAWN = """(group) => {
  const models = (window.Bokeh?.documents ?? []).flatMap((d) => [...d._all_models.values()])
  const sizes = models.find((m) => m.type === "Figure" && m.title?.text === group)
  const source = sizes.renderers[0].data_source
  const all = models.filter((m) => m.type === "GlyphRenderer")
  const name = (r) => (r.glyph.y ?? r.glyph.y2)?.field
  const lines = all.filter((r) => r.data_source === source && r.visible)
  const marks = sizes.renderers.find((r) => r.glyph.type === "Scatter" && r.visible)
  const last = (r) => { const each = r.data_source.data[name(r)]; return each[each.length - 1] }
  const data = marks.data_source.data
  return {
    latest: Object.fromEntries(lines.map((r) => [name(r), last(r)])),
    decisions: Array.from(data.to).map((to, i) => [data.before[i], to, data.rule[i]]),
  }
}"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int, Path]]:
    """Address, dashboard's port and folder of a scheduler with our preloads, and a worker."""
    root = tmp_path_factory.mktemp("cluster")
    port, dashboard = free_port(), free_port()
    address, dask = f"tcp://127.0.0.1:{port}", [sys.executable, "-m", "dask"]
    listen = ["--host", "127.0.0.1", "--port", str(port)]
    panels = ["--dashboard-address", f"127.0.0.1:{dashboard}", *gate(root / "lab")]
    worker = ["worker", address, "--name", "cpu-0", "--nthreads", "2", "--no-dashboard"]
    room = ["--memory-limit", "1 GiB", "--local-directory", str(root)]
    with (
        process(
            [*dask, "scheduler", *listen, *panels, *PRELOADS],
            root / "scheduler.log",
            DASK_CONFIG=str(root / "lab" / "gate.yaml"),
        ),
        process([*dask, *worker, *room], root / "worker.log"),
    ):
        yield address, dashboard, root / "lab" / "pages"


def latest(page: Any, group: str, column: str, value: float) -> None:
    question = f"arg => ({LATEST})(arg[0]) === arg[1]"
    page.wait_for_function(question, arg=[[group, column], value], timeout=120_000)


def test_the_page_is_live(cluster: tuple[str, int, Path]) -> None:
    from playwright.sync_api import expect

    expect.set_options(timeout=60_000)
    address, port, pages = cluster
    with Scaler(address, Security()) as scaler, browser.browser_page() as page:
        page.goto(f"http://127.0.0.1:{port}/status?token={(pages / 'token').read_text()}")
        page.get_by_role("link", name="Scaler", exact=True).first.click()
        expect(page).to_have_url(f"http://127.0.0.1:{port}/scaler")
        latest(page, "cpu", "asked", 2)
        expect(page.get_by_role("cell", name="steady").first).to_be_visible()

        scaler.infeasible = ["60 tasks need <b>FPGA</b>: 1; no group has it"]
        scaler.groups["cpu"] = {"to": 5, "asked": 5, "rule": "demand", "reason": "20 tasks wait"}
        latest(page, "cpu", "asked", 5)
        expect(page.get_by_text("60 tasks need <b>FPGA</b>: 1; no group has it")).to_be_visible()
        expect(page.get_by_role("cell", name="20 tasks wait")).to_be_visible()
        scaler.groups["later"] = {"seen": 7, "existing": 7}
        latest(page, "later", "seen", 7)
        # Each line and area with its own value, and each decision.
        scaler.groups["cpu"] |= {"asked": 6, "existing": 4, "seen": 3, "demand": 21, "to": 1}
        latest(page, "cpu", "demand", 21)
        drawn = page.evaluate(DRAWN, "cpu")
        assert drawn["latest"] == {"asked": 6, "existing": 4, "seen": 3, "demand": 21}
        assert drawn["decisions"] == [[2, 5, "demand"], [5, 1, "demand"]]


def test_the_sidebar_lists_the_cluster_and_asks_its_scaler(
    cluster: tuple[str, int, Path], tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    expect.set_options(timeout=60_000)
    address, dashboard, pages = cluster
    site, config = make_site(tmp_path / "lab"), tmp_path / "dask.yaml"
    site = replace(site, pages=str(pages))
    link = {"dashboard": {"link": jupyter.DASHBOARD_LINK}}
    dask = {"scheduler-address": address, "perennial": {"cluster": "lab"}, "distributed": link}
    dask |= jupyter.dask_sidebar("lab: cpu", "cpu", dashboard)
    config.write_text(json.dumps(dask))
    service = spec()
    with start(site, service, dashboard, True, DASK_CONFIG=str(config)) as running:
        lab = wait_for(running)
        with Scaler(address, Security()) as scaler, browser.browser_page() as page:
            browser.open_lab(page, lab.url, TOKEN)
            browser.open_dask_sidebar(page)
            clusters = page.locator(".dask-ClusterListing")
            expect(clusters.get_by_text("lab: cpu")).to_be_visible()
            panel = browser.open_dask_panel(page, "Scaler")
            latest(panel, "cpu", "seen", 2)

            clusters.get_by_role("button", name="SCALE").click()
            dialog = page.locator(".jp-Dialog")
            dialog.locator("input[type=number]").first.fill("4")
            dialog.get_by_role("button", name="SCALE").click()
            wait_until(lambda: scaler.taken)
            assert scaler.taken == [{"kind": "pin", "group": "cpu", "size": 4, "seconds": None}]

            clusters.get_by_role("button", name="SHUTDOWN").click()
            expect(clusters.get_by_text("lab: cpu")).to_be_hidden()
            # The cluster itself stands. Dask's extension may blank the panels of what it took off
            # its list; a page that is opened anew has them.
            scaler.groups["cpu"] |= {"seen": 3}
            browser.open_lab(page, lab.url, TOKEN)
            latest(browser.open_dask_panel(page, "Scaler"), "cpu", "seen", 3)
