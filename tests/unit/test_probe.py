"""Probes read the factors of scenes from parts of the embedding."""

import numpy as np
import pytest
import torch

from decur.errors import DecurError
from decur.transfer.protocols.probes import probe_factors, split_dimensions


def test_probes_read_what_is_there_and_nothing_else():
    rng = np.random.default_rng(0)
    known, hidden = rng.integers(0, 3, (2, 600))
    features = np.eye(3)[known] + 0.2 * rng.normal(size=(600, 3))
    parts = {"known": known, "hidden": hidden}
    accuracy = probe_factors(
        features[:400], features[400:], {k: (v[:400], v[400:]) for k, v in parts.items()}
    )
    assert accuracy["known"] > 97
    assert accuracy["hidden"] < 45


def test_common_and_unique_halves_are_equally_wide():
    z = torch.arange(10).expand(2, 10)
    assert split_dimensions(z, 7, "common")[0].tolist() == [0, 1, 2]
    assert split_dimensions(z, 7, "unique")[0].tolist() == [7, 8, 9]
    with pytest.raises(DecurError, match="cannot be split"):
        split_dimensions(z, 10, "common")
