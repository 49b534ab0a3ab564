"""How many members a group gets, and which numbers they have."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perennial.sizes import members, sizes


def test_who_is_there_stays_and_the_lowest_free_numbers_come() -> None:
    assert members(3, ()) == (0, 1, 2)
    assert members(3, {7, 0, 3}) == (0, 3, 7)
    assert members(4, {7, 0, 3}) == (0, 1, 3, 7)
    assert members(2, {7, 0, 3}) == (0, 3)
    assert members(0, {7}) == ()


@given(st.integers(0, 30), st.sets(st.integers(0, 40)))
def test_members_are_as_many_as_asked_for_and_nobody_is_moved(size, have) -> None:
    chosen = members(size, have)
    assert len(set(chosen)) == size
    assert len(have & set(chosen)) == min(size, len(have))
    assert list(chosen) == sorted(chosen)


def test_a_size_belongs_to_scale_until_the_count_in_the_file_changes() -> None:
    assert sizes({"cpu": 2}, {}, {}) == {"cpu": 2}
    assert sizes({"cpu": 2}, {"cpu": 2}, {"cpu": 5}) == {"cpu": 5}
    assert sizes({"cpu": 3}, {"cpu": 2}, {"cpu": 5}) == {"cpu": 3}
    assert sizes({"gpu": 1}, {"cpu": 2}, {"cpu": 5}) == {"gpu": 1}
