"""Packed samples are those of a list, in a fraction of its memory."""

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decur.datasets import PACKET, Record, Records


def listed(count):
    return [
        Record(f"{n:07d}", "train", {"sar": Path("raw", "s1", f"{n:07d}")}, patch=n, fault="x" * n)
        for n in range(count)
    ]


@given(st.integers(0, 2 * PACKET + 1), st.data())
def test_they_are_indexed_and_sliced_like_a_list(count, data):
    expected = listed(count)
    records = Records(iter(expected))
    assert len(records) == count and list(records) == expected
    place = data.draw(st.slices(count))
    assert records[place] == expected[place]
    for number in range(-count, count):
        assert records[number] == expected[number]
    for number in (count, -count - 1):
        with pytest.raises(IndexError):
            records[number]


def test_reasons_for_which_nothing_is_left_out_are_not_listed():
    assert Records([], {"snow": 2, "clouds": 0}).left_out == {"snow": 2}
    assert Records([]).left_out == {}


def test_many_files_a_sample_take_few_bytes():
    raw = Path("/a/folder/of/data/raw/SUNRGBD/kv1/b3dodata")
    parts = ("image/0.jpg", "depth/0.png", "depth_bfx/0.png", "intrinsics.txt", "labels.png")
    names = (f"img_{n:04d}" for n in range(2000))
    found = (Record(name, "train", {part: raw / name / part for part in parts}) for name in names)
    tracemalloc.start()
    try:
        records = Records(found)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 100 * len(records)
