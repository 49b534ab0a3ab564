"""The process of the providers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from perennial.stacks.process import AT_ONCE, widen


def test_more_questions_are_answered_at_a_time_than_pulumi_has_threads() -> None:
    together = threading.Barrier(AT_ONCE)
    with ThreadPoolExecutor(4) as pool:
        pool.submit(widen).result()
        answers = [pool.submit(together.wait, 60) for _ in range(AT_ONCE)]
        assert sorted(answer.result() for answer in answers) == list(range(AT_ONCE))


def test_the_pools_of_others_stay_as_they_are() -> None:
    with ThreadPoolExecutor(2) as pool, ThreadPoolExecutor(2) as other:
        other.submit(int).result()
        pool.submit(widen).result()
        widen()  # this thread belongs to none
        assert (pool._max_workers, other._max_workers) == (AT_ONCE, 2)  # type: ignore[attr-defined]
