"""t-SNE of embedding dimensions."""

import numpy as np
import pytest

from decur.explain.tsne import map_dimensions

FAST = {"perplexity": 5, "iterations": 300, "seed": 0}


def embeddings(dims: int, samples: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return tuple(rng.normal(size=(2, samples, dims)).astype(np.float32))


def test_the_same_seed_gives_the_same_plane():
    z1, z2 = embeddings(12)
    np.testing.assert_array_equal(map_dimensions(z1, z2, **FAST), map_dimensions(z1, z2, **FAST))


def test_dimensions_that_say_the_same_coincide_whatever_their_scale():
    z1, z2 = embeddings(48)
    z2[:, :24] = 3 * z1[:, :24]
    mapped = map_dimensions(z1, z2, perplexity=10, iterations=500, seed=0)
    apart = np.linalg.norm(mapped[:48] - mapped[48:], axis=1)
    spread = np.linalg.norm(mapped - mapped.mean(axis=0), axis=1).mean()
    assert apart[:24].max() < 0.1 * spread
    assert np.median(apart[24:]) > spread


@pytest.mark.parametrize("dims", [1, 2, 5])
def test_few_points_lower_the_perplexity(dims):
    z1, z2 = embeddings(dims)
    mapped = map_dimensions(z1, z2, perplexity=40, iterations=250, seed=0)
    assert mapped.shape == (2 * dims, 2) and np.isfinite(mapped).all()


def test_a_dimension_that_is_always_zero_has_a_place():
    z1, z2 = embeddings(4)
    z1[:, 0] = 0
    assert np.isfinite(map_dimensions(z1, z2, **FAST)).all()
