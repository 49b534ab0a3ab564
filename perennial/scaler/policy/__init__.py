"""How large each group shall be. Pure: no clock, no network, the standard library alone."""

from __future__ import annotations

from perennial.scaler.policy.deciding import decide, detail_wanted
from perennial.scaler.policy.rules import RULES

__all__ = ["RULES", "decide", "detail_wanted"]
