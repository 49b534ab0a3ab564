"""How large each group shall be. Pure: no clock, no network, the standard library alone."""

from __future__ import annotations
