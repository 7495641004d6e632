"""Two processes on this machine that train together."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

from decur import distributed


@contextmanager
def joined(rank: int, port: int) -> Iterator[None]:
    """Within the block this process is one of the two ranks that meet at the port."""
    torch.set_num_threads(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(address, RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank))
    with distributed.process_group():
        yield


def on_two_ranks(work: Callable[..., None], *arguments: str, seconds: float = 120) -> None:
    """Call `work(rank, port, *arguments)` in two processes; fail if one does, or if they hang."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    context = torch.multiprocessing.spawn(work, (port, *arguments), nprocs=2, join=False)
    give_up = time.monotonic() + seconds
    while not context.join(timeout=1):
        if time.monotonic() > give_up:
            for process in context.processes:
                process.kill()
            pytest.fail("the ranks hang")
