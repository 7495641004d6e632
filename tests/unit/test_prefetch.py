import threading
import time

import pytest

from decur.training.prefetch import ahead


def test_items_come_in_order_with_what_was_loaded():
    def load(i):
        time.sleep(0.01 * (i % 3))
        return i * i

    assert list(ahead(load, range(12))) == [(i, i * i) for i in range(12)]


def test_loads_run_before_they_are_due_and_no_further():
    begun = []
    items = ahead(lambda i: begun.append(i), range(10), depth=2)
    next(items)
    deadline = time.monotonic() + 5
    while len(begun) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(begun) == [0, 1, 2]


def test_an_error_is_raised_where_its_item_is_due():
    def load(i):
        if i == 3:
            raise ValueError("three")
        return i

    seen = []
    with pytest.raises(ValueError, match="three"):
        for i, _ in ahead(load, range(9)):
            seen.append(i)
    assert seen == [0, 1, 2]


def test_leaving_early_leaves_no_thread():
    before = threading.active_count()
    items = ahead(lambda i: i, range(100))
    next(items)
    items.close()
    assert threading.active_count() == before
