"""Add the scaler's page to the scheduler's dashboard. Given to it with ``--preload``.

It has to be there before the scheduler makes its dashboard, and so takes effect when it is
imported. Where Bokeh is missing there is no dashboard, and nothing is done.
"""

from __future__ import annotations

import logging
from importlib import import_module
from types import ModuleType
from typing import Any

logger = logging.getLogger("distributed.perennial.page")


def _installed() -> ModuleType | None:
    try:
        page = import_module("perennial.scaler.dashboard_page")
        page.install()
    except ImportError as error:
        logger.info("No page of the scaler: %s", error)
        return None
    return page


def dask_setup(scheduler: Any) -> None:
    """Link the page from Dask's own."""
    if _page is not None and "dashboard" in scheduler.services:
        _page.link(scheduler)


_page = _installed()
