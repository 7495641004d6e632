import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from decur import distributed
from decur.errors import DecurError
from decur.losses.barlow_twins import barlow_twins_loss
from decur.losses.clip import clip_loss
from decur.losses.correlation import standardise
from decur.losses.decur import decur_loss
from decur.losses.simclr import simclr_loss
from decur.losses.vicreg import vicreg_loss
from decur.models.batch_norm import synchronise_batch_norm

pytestmark = pytest.mark.slow

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


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    arguments = (request.param, free_port(), str(folder))
    torch.multiprocessing.spawn(work, arguments, nprocs=request.param)
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


STATE = {
    "step": 3,
    "tensors": [torch.arange(6.0).view(2, 3), torch.tensor(7, dtype=torch.int64)],
    "inner": {"half": torch.ones(2, dtype=torch.bfloat16), "pair": (1, torch.zeros(0))},
    "none": None,
}


def decide(rank: int, port: int, folder: str) -> None:
    """What each rank gets of what the main one alone finds, or fails at."""
    torch.set_num_threads(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(address, RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank))

    def fail() -> None:
        raise RuntimeError("a disk fails")

    with distributed.process_group():
        given = distributed.on_main(lambda: STATE if rank == 0 else pytest.fail("is not asked"))
        torch.save(given, Path(folder) / f"{rank}.pt")
        with pytest.raises(DecurError if rank else RuntimeError, match="a disk fails"):
            distributed.on_main(fail)
        assert distributed.on_main(lambda: None) is None


def test_every_rank_gets_what_the_main_one_finds_or_its_error(tmp_path):
    torch.multiprocessing.spawn(decide, (free_port(), str(tmp_path)), nprocs=2)
    for rank in range(2):
        given = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(given, STATE, rtol=0, atol=0)


def test_alone_a_decision_is_ones_own():
    assert distributed.on_main(lambda: STATE) is STATE


@settings(deadline=None)
@given(ranks=st.integers(1, 16), gpus=st.integers(1, 16), shown=st.sampled_from(["own", "all"]))
def test_every_rank_of_a_node_takes_a_gpu_of_its_own(ranks, gpus, shown):
    """Of the GPUs that it sees: its own one alone, or all of the node."""
    taken = []
    for rank in range(ranks):
        visible = [str(rank % gpus)] if shown == "own" else [str(i) for i in range(gpus)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LOCAL_RANK", str(rank))
            patch.setenv("CUDA_VISIBLE_DEVICES", ",".join(visible))
            patch.setattr(torch.cuda, "device_count", lambda visible=visible: len(visible))
            if rank >= len(visible) > 1:
                message = rf"local rank {rank} on .*: only {len(visible)} GPUs are visible \(CUDA_"
                with pytest.raises(DecurError, match=message):
                    distributed.own_gpu()
                continue
            taken.append(visible[distributed.own_gpu()])
    if ranks <= gpus:
        assert len(set(taken)) == ranks


@pytest.mark.parametrize(
    ("environment", "gpus", "chosen"),
    [
        ({"RANK": "3", "LOCAL_RANK": "3", "CUDA_VISIBLE_DEVICES": "3"}, 1, 0),  # srun, one each
        ({"RANK": "7", "LOCAL_RANK": "3"}, 4, 3),  # torchrun, two nodes
        ({"RANK": "5"}, 4, 1),  # a launcher that names no local rank
        ({"RANK": "2", "LOCAL_RANK": "2", "CUDA_VISIBLE_DEVICES": "MIG-a"}, 1, 0),
    ],
)
def test_the_process_group_uses_the_gpu_that_the_rank_was_given(
    monkeypatch, environment, gpus, chosen
):
    asked = []
    for name in ("LOCAL_RANK", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**environment, "WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", asked.append)
    monkeypatch.setattr(torch.distributed, "init_process_group", asked.append)
    distributed.init_process_group()
    assert asked == [chosen, "nccl"]


def test_a_failed_meeting_of_ranks_names_the_interface_to_choose(monkeypatch):
    def fail(backend: str) -> None:
        raise RuntimeError("Gloo connectFullMesh failed with\n [pair.cc:152] refused")

    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.distributed, "init_process_group", fail)
    with pytest.raises(DecurError, match=r"^rank 1 of 2 .*\(Gloo.*refused\).*GLOO_SOCKET_IFNAME"):
        distributed.init_process_group()


NODES = """
for i in 1 2; do
    ip netns add $TAG$i; ip -n $TAG$i link set lo up
done
ip link add ${TAG}a netns ${TAG}1 type veth peer name ${TAG}b netns ${TAG}2
ip -n ${TAG}1 addr add 10.77.0.1/24 dev ${TAG}a; ip -n ${TAG}1 link set ${TAG}a up
ip -n ${TAG}2 addr add 10.77.0.2/24 dev ${TAG}b; ip -n ${TAG}2 link set ${TAG}b up
"""

RANK = """
mount --bind $HOSTS /etc/hosts
hostname $NAME
exec $PYTHON -c "
from decur import distributed
with distributed.process_group():
    print(distributed.rank(), flush=True)
"
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("ip", "unshare"))), reason="needs root and ip"
)
def test_nodes_whose_own_name_is_loopback_are_told_the_variable(tmp_path):
    """Two nodes as network namespaces, each with Debian's line for its own name."""
    tag = f"d{os.getpid()}-"[-9:]
    environment = os.environ | {"TAG": tag, "PYTHON": sys.executable}
    made = subprocess.run(["sh", "-ec", NODES], env=environment, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no network namespaces: {made.stderr}")
    try:
        for interface in ("", "set"):
            ranks = []
            for number, other in ((1, 2), (2, 1)):
                hosts = tmp_path / f"hosts{number}"
                hosts.write_text(
                    f"127.0.0.1 localhost\n127.0.1.1 n{number}\n10.77.0.{other} n{other}\n"
                )
                task = {"RANK": str(number - 1), "WORLD_SIZE": "2", "MASTER_PORT": "23456"}
                task |= {"MASTER_ADDR": "n1", "NAME": f"n{number}", "HOSTS": str(hosts)}
                if interface:
                    task["GLOO_SOCKET_IFNAME"] = f"{tag}{'ab'[number - 1]}"
                inside = ["ip", "netns", "exec", f"{tag}{number}", "unshare", "--uts", "--mount"]
                ranks.append(
                    subprocess.Popen(
                        [*inside, "sh", "-ec", RANK],
                        env=environment | task,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        text=True,
                        cwd=Path(__file__).parents[2],
                    )
                )
            if interface:
                printed = [rank.communicate(timeout=60) for rank in ranks]
                assert [out for out, _ in printed] == ["0\n", "1\n"], printed
            else:
                _, error = ranks[1].communicate(timeout=60)
                assert ranks[1].returncode != 0
                assert "n2: the host name resolves to 127.0.1.1" in error
                assert "set GLOO_SOCKET_IFNAME" in error
                ranks[0].kill()
                ranks[0].communicate()
    finally:
        for number in (1, 2):
            subprocess.run(["ip", "netns", "delete", f"{tag}{number}"], check=False)
