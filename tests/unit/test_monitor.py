import pytest
import torch

from decur.pretrain.monitor import effective_rank, signs


def random(n: int, k: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed))


def test_the_effective_rank_counts_the_directions():
    basis = torch.linalg.qr(random(16, 16)).Q
    for rank in (1, 3):
        z = random(400, rank) @ basis[:rank] * 5
        assert effective_rank(z) == pytest.approx(rank, rel=0.35)
    assert effective_rank(random(4000, 16)) == pytest.approx(16, rel=0.01)
    assert effective_rank(random(8, 400)) <= 7.01
    assert effective_rank(torch.ones(8, 4)) == pytest.approx(1)


def test_signs_tell_aligned_and_collapsed_from_healthy():
    z, other = random(256, 32), random(256, 32, 1)
    healthy = signs([[z, z + 0.1 * other], [other, z]])
    assert healthy["align_cross"] == pytest.approx(0, abs=0.05)
    assert healthy["align_intra1"] > 0.98
    assert healthy["align_intra2"] == pytest.approx(0, abs=0.05)
    assert healthy["std1"] == pytest.approx(1, abs=0.1)
    assert healthy["rank1"] > 25
    collapsed = signs([[torch.ones(256, 32) + 1e-3 * z], [other]])
    assert collapsed["std1"] < 0.01
    assert "align_intra1" not in collapsed


def test_common_and_unique_dimensions_are_told_apart():
    z, other = random(256, 32), random(256, 32, 1)
    second = torch.cat([z[:, :24], other[:, 24:]], dim=1)
    parts = signs([[z], [second]], dim_common=24)
    assert parts["align_common"] == pytest.approx(1, abs=1e-3)
    assert parts["align_unique"] == pytest.approx(0, abs=0.1)
    mean = (24 * parts["align_common"] + 8 * parts["align_unique"]) / 32
    assert parts["align_cross"] == pytest.approx(mean, abs=1e-5)
    assert "align_unique" not in signs([[z], [second]], dim_common=32)
