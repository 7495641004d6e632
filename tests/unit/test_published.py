"""Names that others call lead where they always did, wherever the code lies."""

import inspect
from importlib import import_module

import numpy as np
import pytest

import decur.optim
import decur.preprocess.hha
from decur.imagery.hha import depth_to_hha
from decur.models import build_backbone
from decur.pretrain.optim import LARS
from decur.shards import Modality, PairedShards, Sample, ShardWriter

PUBLISHED = {
    "decur.losses.decur.decur_loss": "z1a z1b z2a z2b dim_common lambd weighting",
    "decur.losses.barlow_twins.barlow_twins_loss": "za zb lambd",
    "decur.losses.vicreg.vicreg_loss": "",
    "decur.losses.simclr.simclr_loss": "za zb temperature",
    "decur.losses.clip.clip_loss": "za zb scale",
    "decur.models.build_backbone": "arch in_chans",
    "decur.optim.LARS": "params lr momentum weight_decay eta",
    "decur.preprocess.hha.depth_to_hha": "depth_m intrinsics missing",
    "decur.distributed.init_process_group": "",
    "decur.cluster.slurm.requeue_own_job": "",
    "decur.cluster.lock.claim": "",
    "decur.weights.load_backbone": "arch in_chans",
    "decur.weights.export": "",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_name_takes_its_published_arguments(name):
    module, _, last = name.rpartition(".")
    parameters = inspect.signature(getattr(import_module(module), last)).parameters
    assert set(PUBLISHED[name].split()) <= set(parameters)


def test_what_moved_is_the_same_object():
    assert decur.optim.LARS is LARS
    assert decur.preprocess.hha.depth_to_hha is depth_to_hha
    assert build_backbone("tiny", 2).feature_dim == 128


def test_a_modality_described_in_words_is_written_and_read(tmp_path):
    words = [Modality(name, ("a",), f"8 bits of {name}") for name in ("left", "right")]
    image = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    with ShardWriter(tmp_path / "pairs", words, {"title": "Mine", "licence": "none"}) as writer:
        for number in range(3):
            writer.add(Sample(str(number), "train", {"left": image, "right": image + number}))
    shards = PairedShards(tmp_path / "pairs")
    np.testing.assert_array_equal(shards.batch("right", np.array([2]))[0], image[0] + 2)
    assert shards.card.title == "Mine" and shards.bands("left") == ("a",)
    assert shards.card.modalities[0].scaling.words() == "8 bits of left"
