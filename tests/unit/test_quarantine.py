"""Bad samples stop preprocessing by name, or are left out and listed."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from decur.config import DatasetSettings
from decur.datasets import geonrw
from decur.errors import DecurError
from decur.shards import PairedShards
from decur.shards.verify import verify
from tests.support.geonrw import write_tile
from tests.support.preprocessing import SETTINGS, make_raw, run

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


SKIP = SETTINGS.model_copy(update={"bad_samples": "skip"})


def damage(raw: Path, tile: str = "281_5650") -> Path:
    path = raw / "aachen" / f"{tile}_rgb.jp2"
    path.write_bytes(path.read_bytes()[:1000])
    return path


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_sample_stops_everything_by_name(raw, tmp_path, workers):
    path = damage(raw)
    with pytest.raises(DecurError, match="truncated") as raised:
        run(raw, tmp_path / "out", workers=workers)
    assert str(path) in str(raised.value)
    assert not (tmp_path / "out" / "card.json").exists()


def test_bad_samples_are_left_out_and_listed(raw, tmp_path, capsys):
    path = damage(raw)
    out = run(raw, tmp_path / "out", SKIP, workers=2)
    shards = PairedShards(out)
    assert len(shards) == 32 and shards.card.quarantined == 16
    assert not shards.index["id"].str.startswith("aachen_281").any()
    listed = pd.read_csv(out / "quarantine.csv")
    assert set(listed["id"]) == {f"aachen_281_5650_{k}" for k in range(1, 17)}
    assert (listed["source"] == str(path)).all()
    assert listed["reason"].str.contains("truncated").all()
    assert "32 samples in" in (told := capsys.readouterr().out) and "16 samples left out" in told
    assert verify(out) == []


@pytest.mark.slow
def test_with_stop_nothing_that_was_skipped_before_is_kept(raw, tmp_path):
    damage(raw)
    out = tmp_path / "out"
    run(raw, out, SKIP)
    (out / "card.json").unlink()
    with pytest.raises(DecurError, match="truncated"):
        run(raw, out)


def test_the_list_of_bad_samples_is_there_and_empty_without_any(raw, tmp_path):
    out = run(raw, tmp_path / "out")
    assert (out / "quarantine.csv").read_text() == "id,source,reason\n"


def test_no_good_sample_at_all_is_an_error(tmp_path):
    raw = make_raw(tmp_path / "raw", 2)
    for path in raw.glob("*/*_rgb.jp2"):
        path.write_bytes(b"rubbish")
    with pytest.raises(DecurError, match=r"none of 32 samples is good; the last: .*truncated"):
        run(raw, tmp_path / "out", SKIP)


def test_an_id_that_comes_twice_is_a_bad_sample(raw, tmp_path, monkeypatch):
    twice = geonrw.scan(raw, SETTINGS)
    monkeypatch.setattr(geonrw, "scan", lambda *_: sorted([*twice, twice[5]], key=lambda r: r.id))
    with pytest.raises(DecurError, match=f"duplicate sample id '{twice[5].id}'"):
        run(raw, tmp_path / "out")
    out = run(raw, tmp_path / "out", SKIP)
    assert len(PairedShards(out)) == 48 and PairedShards(out).card.quarantined == 1


def test_an_id_in_two_splits_is_a_bad_sample_of_training(raw, tmp_path, monkeypatch):
    found = geonrw.scan(raw, SETTINGS)
    twice = next(r for r in found if r.split == "test")
    also = [dataclasses.replace(twice, split="train"), *found]
    monkeypatch.setattr(geonrw, "scan", lambda *_: sorted(also, key=lambda r: r.id))
    shards = PairedShards(run(raw, tmp_path / "out", SKIP))
    assert shards.index.set_index("id")["split"][twice.id] == "test"
    assert len(shards) == 48 and shards.card.quarantined == 1
    assert shards.card.quarantined_by_split == {}


@pytest.mark.parametrize(("patches", "refused"), [(1, False), (2, True)])
def test_more_than_a_hundredth_of_the_evaluation_split_may_not_be_bad(
    tmp_path, monkeypatch, patches, refused
):
    raw = make_raw(tmp_path / "raw", 1)
    for number in range(1, 7):  # 112 patches
        write_tile(raw, "neuss", f"{280 + number}_5650")
    write_tile(raw, "aachen", "300_5650")
    read = geonrw.read
    other = DatasetSettings(pixels=20)

    def some_bad(record, settings):
        bad = record.id.startswith("neuss_280") and record.patch > 16 - patches
        bad |= record.place == "aachen" and record.patch > 2
        return read(record, other if bad else settings)

    monkeypatch.setattr(geonrw, "read", some_bad)
    if refused:
        with pytest.raises(DecurError, match=r"2 of 112 .*split 'test' are bad, .*1%.*: .*rgb is"):
            run(raw, tmp_path / "out", SKIP)
        assert not (tmp_path / "out" / "card.json").exists()
    else:
        card = PairedShards(run(raw, tmp_path / "out", SKIP)).card
        assert card.quarantined_by_split == {"test": 1, "train": 14}


def test_a_sample_of_another_shape_is_a_bad_sample(raw, tmp_path, monkeypatch):
    read = geonrw.read
    other = DatasetSettings(pixels=20)
    monkeypatch.setattr(geonrw, "read", lambda r, s: read(r, other if r.patch == 3 else s))
    for path in raw.glob("neuss/*"):
        path.unlink()
    out = run(raw, tmp_path / "out", SKIP)
    reasons = pd.read_csv(out / "quarantine.csv")["reason"]
    assert len(reasons) == 2 and reasons.str.contains(r"rgb is uint8 \(1, 3, 20, 20\)").all()
