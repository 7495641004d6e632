"""Prefetch batches, and copy scalars to the host, while a device computes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
U = TypeVar("U")


def ahead(load: Callable[[T], U], items: Iterable[T], depth: int = 2) -> Iterator[tuple[T, U]]:
    """Yield each item with the result of `load`, in order, with up to `depth` loads ahead.

    Items are taken one by one in this thread; loads run in other threads. An error in `load` is
    raised when its item is due. Leaving the loop early waits for the loads that have begun.
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


class SideStream:
    """Make tensors on a GPU beside the current stream, or on a CPU only when they are taken.

    On a CPU, preparing the next batch early would take cores away from the current step.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def start(self, make: Callable[[], list[list[Tensor]]]) -> Callable[[], list[list[Tensor]]]:
        """Start to make tensors, from any thread; call the result to get them, ready for use."""
        stream = self._stream
        if stream is None:
            return make
        with torch.cuda.stream(stream):
            made = make()
            ready = stream.record_event()

        def take() -> list[list[Tensor]]:
            current = torch.cuda.current_stream(stream.device)
            current.wait_event(ready)
            for tensors in made:
                for tensor in tensors:
                    tensor.record_stream(current)
            return made

        return take


def bring_back(scalars: Mapping[str, Tensor]) -> Callable[[], dict[str, float]]:
    """Start to copy scalars of one device and dtype to the host; call the result to wait for them.

    The call does not wait for later work of the device, so the device never runs out of work.
    """
    stacked = torch.stack(list(scalars.values()))
    values = stacked.to("cpu", non_blocking=True)
    arrived = torch.cuda.current_stream().record_event() if stacked.is_cuda else None

    def read() -> dict[str, float]:
        if arrived is not None:
            arrived.synchronize()
        return dict(zip(scalars, values.tolist(), strict=True))

    return read
