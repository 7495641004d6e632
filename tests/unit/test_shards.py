import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from decur.artifacts.records import card_digest
from decur.errors import DecurError
from decur.shards import PairedShards, ShardWriter, writer
from decur.shards.assemble import PERCENTILES, statistics
from decur.shards.part import file_facts
from decur.shards.verify import verify
from tests.support.samples import MODALITIES, flip_bit, random_sample


def test_a_batch_holds_the_chosen_season_of_each_sample(shards_root):
    shards = PairedShards(shards_root)
    rows, seasons = np.array([5, 0, 70]), np.array([1, 0, 1])
    batch = shards.batch("sar", rows, seasons)
    for got, row, season in zip(batch, rows, seasons, strict=True):
        np.testing.assert_array_equal(got, random_sample(int(row)).arrays["sar"][season])


def test_many_small_shards_read_like_one(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "SHARD_BYTES", 10_000)
    with ShardWriter(tmp_path / "many", MODALITIES) as many:
        for i in range(20):
            many.add(random_sample(i))
    many = PairedShards(tmp_path / "many")
    assert len(many.card.files["sar"]) > 3
    rows = np.random.default_rng(0).permutation(20)
    expected = np.stack([random_sample(int(r)).arrays["optical"][0] for r in rows])
    np.testing.assert_array_equal(many.batch("optical", rows), expected)
    np.testing.assert_array_equal(
        many.masks(rows), np.stack([random_sample(int(r)).mask for r in rows])
    )


def test_labels_splits_and_factors_come_back(shards_root):
    shards = PairedShards(shards_root)
    assert len(shards.rows("train")) == 48
    assert len(shards.rows("test")) == 24
    rows = np.array([3, 50])
    expected = np.stack([random_sample(int(r)).labels for r in rows])
    np.testing.assert_array_equal(shards.labels(rows), expected)
    assert shards.index["factor_common"][3] == random_sample(3).factors["common"]


def test_statistics_are_those_of_all_training_pixels(shards_root):
    pixels = np.concatenate([random_sample(i).arrays["sar"] for i in range(48)])
    card = PairedShards(shards_root).card.modalities[0]
    np.testing.assert_allclose(card.mean, pixels.mean(axis=(0, 2, 3)), atol=1e-3)
    np.testing.assert_allclose(card.std, pixels.std(axis=(0, 2, 3)), atol=1e-3)


def test_percentiles_are_those_of_all_training_pixels(shards_root):
    pixels = np.concatenate([random_sample(i).arrays["optical"] for i in range(48)])
    percentiles = PairedShards(shards_root).card.modalities[1].percentiles
    for percent, found in percentiles.items():
        expected = np.percentile(pixels, float(percent), axis=(0, 2, 3))
        np.testing.assert_allclose(found, expected, atol=1e-3)
    few = np.random.default_rng(0).integers(0, 256, 7)
    histogram = np.bincount(few, minlength=256)[None]
    got = [p[0] for p in statistics(histogram)["percentiles"].values()]
    np.testing.assert_allclose(got, np.percentile(few, PERCENTILES), atol=1e-3)


def test_the_card_tells_what_the_arrays_are(shards_root):
    card = PairedShards(shards_root).card
    assert card.dtype == "uint8" and card.counts == {"test": 24, "train": 48}
    assert [m.bands for m in card.modalities] == [("VV", "VH"), ("R", "G", "B")]
    assert card.modalities[0].shape == (2, 2, 20, 20)
    written = {path.name for path in shards_root.glob("[!.]*")} - {"card.json"}
    assert set(card.contents) == written


def test_any_tool_reads_the_arrays(shards_root):
    array = np.load(shards_root / "sar-00000.npy", mmap_mode="r")
    assert array.shape == (72, 2, 2, 20, 20) and array.dtype == np.uint8
    np.testing.assert_array_equal(array[7], random_sample(7).arrays["sar"])


def test_whole_shards_are_verified_without_a_fault(shards_root):
    assert verify(shards_root, workers=2) == []


@pytest.mark.parametrize(
    "file",
    sorted(
        [
            *(f"{n}-00000.npy" for n in ("mask", "optical", "sar")),
            "card.json",
            "index.parquet",
            "quarantine.csv",
        ]
    ),
)
def test_a_flipped_bit_anywhere_is_found_and_its_file_named(shards_root, file):
    path = shards_root / file
    whole = path.read_bytes()
    for position in np.random.default_rng(0).integers(0, len(whole), 20):
        flip_bit(path, int(position))
        faults = verify(shards_root)
        assert len(faults) == 1 and str(path) in faults[0]
        path.write_bytes(whole)


def test_samples_and_ids_that_do_not_fit_the_index_are_found(shards_root):
    index = pd.read_parquet(shards_root / "index.parquet")
    index.loc[3, "id"] = index.loc[4, "id"]
    index.loc[5, "checksum"] = index.loc[6, "checksum"]
    index.to_parquet(shards_root / "index.parquet")
    card = json.loads((shards_root / "card.json").read_text())
    card["contents"]["index.parquet"] = file_facts(shards_root / "index.parquet")
    card["card_sha256"] = card_digest(card)
    (shards_root / "card.json").write_text(json.dumps(card, indent=1))
    told = " ".join(verify(shards_root))
    assert "id '0004' occurs more than once" in told
    assert "its checksums do not match" in told
    assert "sample '0005' (row 5) has another checksum" in told


def test_shards_of_another_layout_are_not_read(shards_root):
    card = json.loads((shards_root / "card.json").read_text())
    (shards_root / "card.json").write_text(json.dumps(card | {"layout": 1}))
    with pytest.raises(DecurError, match=r"card.json: layout 1, expected 2; run the preprocess"):
        PairedShards(shards_root)


def test_an_interrupted_writer_leaves_the_old_shards(shards_root):
    before = PairedShards(shards_root).card.checksum
    with pytest.raises(RuntimeError), ShardWriter(shards_root, MODALITIES) as writer:
        writer.add(random_sample(1))
        raise RuntimeError
    assert PairedShards(shards_root).card.checksum == before
    assert [p.name for p in shards_root.parent.iterdir()] == [shards_root.name]


def test_equal_samples_give_an_equal_checksum_and_others_do_not(tmp_path):
    checksums = []
    for name, ids in {"a": (1, 2), "b": (1, 2), "c": (2, 1)}.items():
        with ShardWriter(tmp_path / name, MODALITIES) as writer:
            for i in ids:
                writer.add(random_sample(i))
        checksums.append(json.loads((tmp_path / name / "card.json").read_text())["checksum"])
    assert checksums[0] == checksums[1] != checksums[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "duplicate sample id '0001'"),
        ({"id": "2", "arrays": random_sample(1, side=21).arrays}, "expected uint8"),
        (
            {
                "id": "2",
                "arrays": {**random_sample(1).arrays, "sar": np.zeros((2, 2, 20, 20))},
            },
            "sar is float64",
        ),
    ],
)
def test_unusable_samples_are_refused_by_name(tmp_path, change, message):
    with (
        pytest.raises(DecurError, match=message),
        ShardWriter(tmp_path / "new", MODALITIES) as writer,
    ):
        writer.add(random_sample(1))
        writer.add(dataclasses.replace(random_sample(1), **change))
    assert not (tmp_path / "new").exists()


def test_missing_empty_and_damaged_folders_are_named(tmp_path, shards_root):
    with pytest.raises(DecurError, match=r"card\.json: not found; run the preprocess stage"):
        PairedShards(tmp_path / "nowhere")
    with pytest.raises(DecurError, match="no sample was found"), ShardWriter(tmp_path / "e", ()):
        pass
    with pytest.raises(DecurError, match="no modality 'lidar'"):
        PairedShards(shards_root).batch("lidar", np.array([0]))
    with pytest.raises(DecurError, match="split 'val' has no sample"):
        PairedShards(shards_root).rows("val")
    index = (shards_root / "index.parquet").read_bytes()
    (shards_root / "index.parquet").write_bytes(index[:500])
    with pytest.raises(DecurError, match=r"index\.parquet: unreadable"):
        PairedShards(shards_root)
    (shards_root / "index.parquet").write_bytes(index)
    file = shards_root / "sar-00000.npy"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DecurError, match=r"sar-00000\.npy: unreadable"):
        PairedShards(shards_root)
