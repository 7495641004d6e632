"""Epochs visit every sample once, and views are drawn anew per step."""

import numpy as np
import torch

from decur.shards import PairedShards
from decur.training.views import training_batches
from tests.support.pretraining import draw_views, settings


def test_every_epoch_shows_each_sample_once_in_a_new_order():
    rows = np.arange(100, 130)
    seen = list(training_batches(rows, settings(batch_size=10, epochs=2), 0))
    assert [step for step, _ in seen] == list(range(6))
    first, second = (np.concatenate([b for _, b in seen[i : i + 3]]) for i in (0, 3))
    assert sorted(first) == sorted(second) == list(rows)
    assert list(first) != list(second)
    later = list(training_batches(rows, settings(batch_size=10, epochs=2), 4))
    assert [s for s, _ in later] == [4, 5]
    np.testing.assert_array_equal(later[0][1], seen[4][1])


def test_views_of_a_pair_are_drawn_apart_and_repeat_with_the_step(shards_root):
    shards, rows = PairedShards(shards_root), np.arange(16)

    def views(step):
        return draw_views(shards, rows, settings(), step, 2)

    (sar1, sar2), (optical1, _) = views(3)
    assert sar1.shape == (16, 2, 16, 16)
    assert optical1.shape == (16, 3, 16, 16)
    assert not torch.equal(sar1, sar2)
    assert torch.equal(sar1, views(3)[0][0])
    assert not torch.equal(sar1, views(4)[0][0])
