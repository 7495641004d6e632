import os
import socket
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from decur import distributed
from decur.losses.barlow_twins import barlow_twins_loss
from decur.losses.correlation import standardise
from decur.losses.decur import decur_loss

WORLD = 2
N, INPUTS, K, DIM_COMMON = 12, 5, 20, 15


def net() -> nn.Sequential:
    torch.manual_seed(3)
    layers = (nn.Linear(INPUTS, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, K, bias=False))
    return nn.Sequential(*layers).double()


def inputs() -> Tensor:
    """Four views of N samples: (4, N, INPUTS)."""
    generator = torch.Generator().manual_seed(4)
    return torch.randn(4, N, INPUTS, generator=generator, dtype=torch.float64)


def losses(z: Tensor) -> dict[str, Tensor]:
    """Every scalar under test, of four views' embeddings (4, n, K)."""
    return {
        "decur": decur_loss(*z, dim_common=DIM_COMMON)["loss"],
        "decur official": decur_loss(*z, dim_common=DIM_COMMON, weighting="official")["loss"],
        "all common": decur_loss(*z, dim_common=K, intra=False)["loss"],
        "barlow twins": barlow_twins_loss(z[0], z[2])["loss"],
        "gathered": distributed.all_gather_rows(z[0]).softmax(0).square().sum(),
        "standardised": distributed.all_reduce_sum(standardise(z[0]).sigmoid().sum()).square(),
    }


NAMES = ["decur", "decur official", "all common", "barlow twins", "gathered", "standardised"]


def embed(model: nn.Module, x: Tensor) -> Tensor:
    return model(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def gradient(model: nn.Module, loss: Tensor) -> Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def work(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(address, RANK=str(rank), WORLD_SIZE=str(WORLD), LOCAL_RANK=str(rank))
    distributed.init_process_group()
    assert (distributed.rank(), distributed.world_size()) == (rank, WORLD)
    assert distributed.is_main() == (rank == 0)
    model = DistributedDataParallel(net())
    own = inputs().chunk(WORLD, dim=1)[rank]
    results: dict[str, Tensor | tuple[Tensor, Tensor]] = {}
    for name in NAMES:
        loss = losses(embed(model, own))[name]
        results[name] = (loss.detach(), gradient(model, loss))
    results["rows"] = distributed.all_gather_rows(own[0])
    torch.save(results, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    torch.multiprocessing.spawn(work, (port, str(folder)), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_have_the_loss_and_the_gradient_of_one_process(two_ranks, name):
    model = net()
    # The net's own batch norm is per rank; everything after it is of the whole batch.
    z = torch.cat([embed(model, own) for own in inputs().chunk(WORLD, dim=1)], dim=1)
    loss = losses(z)[name]
    expected = (loss.detach(), gradient(model, loss))
    for results in two_ranks:
        torch.testing.assert_close(results[name], expected, rtol=1e-10, atol=1e-12)


def test_rows_are_gathered_in_order_of_rank(two_ranks):
    for results in two_ranks:
        assert torch.equal(results["rows"], inputs()[0])


def test_without_a_process_group_everything_is_the_identity(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    distributed.init_process_group()
    z = torch.ones(3, 2)
    assert distributed.world_size() == 1
    assert distributed.is_main()
    assert distributed.all_gather_rows(z) is z
    assert distributed.all_reduce_sum(z) is z
