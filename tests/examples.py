"""How many examples Hypothesis tries: some each time, all of them in `make soak`."""

from __future__ import annotations

from hypothesis import settings

ALL = "all"


def register() -> None:
    """Register both profiles, without the deadline that a busy machine misses."""
    settings.register_profile("some", deadline=None)
    settings.register_profile(ALL, deadline=None, print_blob=True)
    settings.load_profile("some")


def examples(number: int, least: int = 25) -> int:
    """Give a quarter of a number of examples, or all of them where the profile says so."""
    if settings.get_current_profile_name() == ALL:
        return number
    return min(number, max(least, number // 4))
