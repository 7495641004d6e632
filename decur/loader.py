"""What a step needs, read in the background while the step before runs."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def ahead(load: Callable[[T], U], items: Iterable[T], depth: int = 2) -> Iterator[tuple[T, U]]:
    """Yield each item with what `load` makes of it, in order, up to `depth` loads ahead.

    An error in `load` is raised where
    its item is due; leaving the loop early waits for the loads that have begun.
    """
    with ThreadPoolExecutor(depth) as pool:
        due: deque[tuple[T, Future[U]]] = deque()
        try:
            for item in items:
                due.append((item, pool.submit(load, item)))
                if len(due) > depth:
                    first, loaded = due.popleft()
                    yield first, loaded.result()
            while due:
                first, loaded = due.popleft()
                yield first, loaded.result()
        finally:
            for _, loaded in due:
                loaded.cancel()
