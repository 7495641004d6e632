import os
import socket
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from decur import distributed
from decur.losses.barlow_twins import barlow_twins_loss
from decur.losses.clip import clip_loss
from decur.losses.correlation import standardise
from decur.losses.decur import decur_loss
from decur.losses.simclr import simclr_loss
from decur.losses.vicreg import vicreg_loss
from decur.models.batch_norm import synchronise_batch_norm

N, INPUTS, K, DIM_COMMON = 12, 5, 22, 15  # 22: of unequal shares for 4 ranks


class Net(nn.Module):
    """Batch norm in a convolutional and a linear form, and a scale that learns."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        convolution = nn.Sequential(
            nn.Unflatten(1, (1, INPUTS)), nn.Conv1d(1, 4, 2), nn.BatchNorm1d(4), nn.Flatten()
        )
        layers = (nn.Linear(4 * (INPUTS - 1), 16), nn.BatchNorm1d(16), nn.ReLU())
        self.layers = nn.Sequential(convolution, *layers, nn.Linear(16, K, bias=False))
        self.scale = nn.Parameter(torch.tensor(5.0))
        self.double()

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Embed views (4, n, INPUTS) one by one: (4, n, K), and the scale."""
        return torch.stack([self.layers(view) for view in views]), self.scale * 1.0


def inputs() -> Tensor:
    """Four views of N samples: (4, N, INPUTS)."""
    generator = torch.Generator().manual_seed(4)
    return torch.randn(4, N, INPUTS, generator=generator, dtype=torch.float64)


def losses(z: Tensor, scale: Tensor) -> dict[str, Tensor]:
    """Every scalar under test, of four views' embeddings (4, n, K)."""
    return {
        "decur": decur_loss(*z, dim_common=DIM_COMMON)["loss"],
        "decur official": decur_loss(*z, dim_common=DIM_COMMON, weighting="official")["loss"],
        "all common": decur_loss(*z, dim_common=K, intra=False)["loss"],
        "barlow twins": barlow_twins_loss(z[0], z[2])["loss"],
        "vicreg": vicreg_loss(z[0], z[2])["loss"],
        "simclr": simclr_loss(z[0], z[2])["loss"],
        "clip": clip_loss(z[0], z[2], scale=scale)["loss"],
        "gathered": distributed.all_gather_rows(z[0]).softmax(0).square().sum(),
        "standardised": distributed.all_reduce_sum(
            standardise(distributed.own_dimensions(z[0])).sigmoid().sum()
        ).square(),
    }


def names() -> list[str]:
    return list(losses(torch.randn(4, 4, K), torch.tensor(1.0)))


def gradient(model: nn.Module, loss: Tensor) -> Tensor:
    model.zero_grad()
    loss.backward()
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return torch.cat([grad.flatten() for grad in grads])


def work(rank: int, world: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(address, RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank))
    distributed.init_process_group()
    assert (distributed.rank(), distributed.world_size()) == (rank, world)
    assert distributed.is_main() == (rank == 0)
    own = inputs().chunk(world, dim=1)[rank]
    results = {"rows": distributed.all_gather_rows(own[0])}
    results["dimensions"] = distributed.own_dimensions(own[0])
    for name in names():
        model = synchronise_batch_norm(Net())
        results[name] = measure(
            DistributedDataParallel(model, find_unused_parameters=True), own, name
        )
    torch.save(results, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def measure(model: nn.Module, x: Tensor, name: str) -> dict[str, Tensor]:
    """The loss, its gradient, and what one step leaves in the batch norms' running statistics."""
    loss = losses(*model(x))[name]
    grads = gradient(model, loss)
    return {
        "loss": loss.detach(),
        "gradient": grads,
        **{key.removeprefix("module."): value for key, value in model.named_buffers()},
    }


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    torch.multiprocessing.spawn(work, (request.param, port, str(folder)), nprocs=request.param)
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


@pytest.mark.parametrize("name", names())
def test_every_rank_has_the_loss_and_the_gradient_of_one_process(ranks, name):
    expected = measure(Net(), inputs(), name)
    for results in ranks:
        torch.testing.assert_close(results[name], expected, rtol=1e-9, atol=1e-11)


def test_rows_are_gathered_in_order_of_rank(ranks):
    for results in ranks:
        assert torch.equal(results["rows"], inputs()[0])


def test_rows_are_traded_for_dimensions(ranks):
    whole = torch.cat([results["dimensions"] for results in ranks], dim=1)
    assert torch.equal(whole, inputs()[0])


def test_without_a_process_group_everything_is_the_identity(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    distributed.init_process_group()
    z = torch.ones(3, 2)
    assert distributed.world_size() == 1
    assert distributed.is_main()
    assert distributed.all_gather_rows(z) is z
    assert distributed.own_dimensions(z) is z
    assert distributed.all_reduce_sum(z) is z


def port_of(monkeypatch: pytest.MonkeyPatch, job: str, rank: str) -> int:
    """Where a task of one of submitit's local jobs of two expects the others."""
    task = {
        "SUBMITIT_EXECUTOR": "local",
        "SUBMITIT_LOCAL_JOB_ID": job,
        "SUBMITIT_LOCAL_NTASKS": "2",
    }
    task |= {f"SUBMITIT_LOCAL_{key}": rank for key in ("GLOBALID", "LOCALID")}
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"], **task})
    distributed._export_launcher_environment()
    assert os.environ["RANK"] == rank
    return int(os.environ["MASTER_PORT"])


def test_the_ranks_of_a_job_meet_at_a_port_that_no_connection_is_given(monkeypatch):
    ports = [port_of(monkeypatch, job, rank) for job in ("7", "8_1") for rank in "01"]
    assert ports[0] == ports[1] != ports[2] == ports[3]
    assert all(20_000 <= port < 32_768 for port in ports)
