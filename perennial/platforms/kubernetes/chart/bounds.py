"""How a release shall be scaled, as a person says it: ``worker=1:10``. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from perennial.errors import PerennialError
from perennial.platforms.kubernetes.chart.scaler_objects import Wanted
from perennial.spec.units import parse_duration


def bounds(words: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Read the bounds of groups, by name."""
    found: dict[str, tuple[int, int]] = {}
    for word in words:
        match = re.fullmatch(r"([^=\s]+)=([0-9]{1,6}):([0-9]{1,6})", word, re.ASCII)
        if match is None or int(match[2]) > int(match[3]) or int(match[3]) == 0:
            raise PerennialError(
                f"--scale: found {word!r}; allowed: GROUP=MIN:MAX with MAX at least 1, such as"
                " worker=1:10"
            )
        if match[1] in found:
            raise PerennialError(f"--scale: found {match[1]} twice; write each group once")
        found[match[1]] = (int(match[2]), int(match[3]))
    return found


def wanted(
    scale: Sequence[str],
    image: str | None,
    times: Mapping[str, str],
    policies: bool = False,
    budgets: bool = False,
) -> Wanted:
    """Read how a release shall be scaled; ``times`` are durations by their option."""
    if not scale:
        raise PerennialError(
            "--scale: found nothing; allowed: GROUP=MIN:MAX for each group to be scaled, such as"
            " --scale worker=1:10"
        )
    if image is None or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,500}", image):
        raise PerennialError(
            f"--image: found {image or 'nothing'}; allowed: an image with"
            " dask-perennial[kubernetes] in it, such as registry/name:tag"
        )
    seconds = {}
    for option, text in times.items():
        try:
            seconds[option.removeprefix("--")] = parse_duration(text)
        except ValueError:
            raise PerennialError(
                f"{option}: found {text!r}; allowed: a duration such as 5 s"
            ) from None
    if seconds["interval"] < 1:
        raise PerennialError(
            "--interval: found less than 1 s; each look makes the scheduler count its tasks; write"
            " 5 s or more"
        )
    return Wanted(image, bounds(scale), **seconds, policies=policies, budgets=budgets)
