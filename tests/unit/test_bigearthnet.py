"""BigEarthNet patches are paired, labelled with 19 classes and split as the official lists say."""

import gzip

import numpy as np
import pytest

from decur.config import DatasetSettings
from decur.datasets import bigearthnet
from decur.errors import DecurError
from tests.support.bigearthnet import HIDING, PASTURE, make_patch, write_lists
from tests.support.rasters import cut_short, one_line_naming, write_tiff

SETTINGS = DatasetSettings(pixels=24)


def read_only(root, settings=SETTINGS):
    (record,) = bigearthnet.scan(root, settings)
    return bigearthnet.read(record, settings)


def classes_of(sample):
    return {bigearthnet.DATASET.classes[k] for k in np.flatnonzero(sample.labels)}


def test_vv_comes_before_vh(tmp_path):
    vv, vh = read_only(make_patch(tmp_path)).arrays["sar"][0, :, 0, 0].tolist()
    assert (vv, vh) == (127, 63)


def test_the_band_that_level_2a_lacks_is_black_at_its_place(tmp_path):
    optical = read_only(make_patch(tmp_path)).arrays["optical"]
    assert optical.shape == (1, 13, 24, 24)
    expected = [int(400 * number * 255 / 10_000) for number in range(12)]
    assert optical[0, :, 0, 0].tolist() == [*expected[:10], 0, *expected[10:]]


def test_the_nomenclature_joins_43_corine_classes_to_19():
    joined = [name for names in bigearthnet.CORINE.values() for name in names]
    assert len(bigearthnet.DATASET.classes) == 19
    assert len(bigearthnet.DROPPED) == 11
    assert len({*joined, *bigearthnet.DROPPED}) == len(joined) + 11 == 43


def test_labels_join_and_fall_away(tmp_path):
    labels = ["Vineyards", "Olive groves", "Airports", "Sea and ocean"]
    sample = read_only(make_patch(tmp_path, labels=labels))
    assert sample.labels.dtype == np.uint8
    assert classes_of(sample) == {"Permanent crops", "Marine waters"}


def test_a_patch_may_keep_no_label(tmp_path):
    assert not read_only(make_patch(tmp_path, labels=["Airports"])).labels.any()


def test_an_unknown_label_names_the_patch(tmp_path):
    root = make_patch(tmp_path, labels=["Arable land"])
    with pytest.raises(DecurError, match="'Arable land' is not a CORINE class") as raised:
        read_only(root)
    assert one_line_naming(raised, root / "BigEarthNet-v1.0" / PASTURE)


def test_the_lists_decide_the_split_and_what_is_left_out(tmp_path):
    names = [f"S2A_MSIL2A_20170617T113321_0_{k}" for k in range(6)]
    for name in names:
        make_patch(tmp_path, name)
    write_lists(
        tmp_path,
        train=names[:1],
        val=names[1:2],
        test=names[2:3],
        patches_with_seasonal_snow=names[3:4],
        patches_with_cloud_and_shadow=names[4:5],
    )
    splits = {record.id: record.split for record in bigearthnet.scan(tmp_path, SETTINGS)}
    assert splits == {names[0]: "train", names[1]: "val", names[2]: "test", names[5]: "unlisted"}


def test_lists_of_pairs_and_unpacked_lists_are_read_too(tmp_path):
    make_patch(tmp_path)
    write_lists(tmp_path, train=[], test=[])
    (tmp_path / "splits" / "val.csv").write_text(f"{PASTURE},S1A_IW_GRDH_4_55\n")
    assert [record.split for record in bigearthnet.scan(tmp_path, SETTINGS)] == ["val"]


def test_lists_packed_by_gzip_are_read_too(tmp_path):
    make_patch(tmp_path)
    (tmp_path / "splits" / "patches_with_seasonal_snow.csv.bz2").unlink()
    body = gzip.compress(f"{PASTURE}\r\n".encode())
    (tmp_path / "splits" / "patches_with_seasonal_snow.csv.gz").write_bytes(body)
    assert not bigearthnet.scan(tmp_path, SETTINGS)


def test_secos_lists_split_otherwise_and_must_be_there(tmp_path):
    seco = SETTINGS.model_copy(update={"splits": "seco"})
    write_lists(make_patch(tmp_path), train=[PASTURE], val=[], test=[])
    with pytest.raises(DecurError, match="needs all three lists") as raised:
        read_only(tmp_path, seco)
    assert one_line_naming(raised, tmp_path / "splits" / "bigearthnet-train.txt")
    for split, patches in (("train", ""), ("val", f"{PASTURE}\n"), ("test", "")):
        (tmp_path / "splits" / f"bigearthnet-{split}.txt").write_text(patches)
    assert read_only(tmp_path, seco).split == "val"
    assert read_only(tmp_path).split == "train"


def test_without_lists_everything_is_training_data(tmp_path):
    assert read_only(make_patch(tmp_path)).split == "train"


def test_one_list_alone_is_refused_because_val_would_become_training_data(tmp_path):
    write_lists(make_patch(tmp_path), train=[PASTURE], test=[])
    with pytest.raises(DecurError, match="needs all three") as raised:
        read_only(tmp_path)
    assert one_line_naming(raised, tmp_path / "splits" / "val.csv")


@pytest.mark.parametrize("name", HIDING)
def test_without_a_list_of_snow_or_clouds_nothing_is_made_unless_they_are_kept(tmp_path, name):
    (make_patch(tmp_path) / "splits" / f"{name}.csv.bz2").unlink()
    with pytest.raises(DecurError, match=f"zenodo.org/.*/{name}.csv.gz, or set .*keep") as raised:
        read_only(tmp_path)
    assert one_line_naming(raised, tmp_path / "splits" / f"{name}.csv")
    keep = SETTINGS.model_copy(update={"snow_and_clouds": "keep"})
    write_lists(tmp_path, patches_with_seasonal_snow=[PASTURE])
    assert read_only(tmp_path, keep).id == PASTURE


def test_a_patch_of_several_lists_is_never_trained_on_and_counted(tmp_path):
    names = [f"S2A_MSIL2A_20170617T113321_0_{k}" for k in range(4)]
    for name in names:
        make_patch(tmp_path, name)
    write_lists(tmp_path, train=names, val=names[:1], test=[*names[:2], "elsewhere"])
    write_lists(tmp_path, patches_with_seasonal_snow=names[3:])
    records = bigearthnet.scan(tmp_path, SETTINGS)
    assert [record.split for record in records] == ["val", "test", "train"]
    assert list(records.left_out.values()) == [1, 2, 1]


FOLDERS = ("BigEarthNet-S1-v1.0", "BigEarthNet-v1.0")


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_patch_without_its_partner_has_a_fault(tmp_path, folder):
    make_patch(tmp_path, "S2A_MSIL2A_20170617T113321_1_1")
    make_patch(tmp_path, PASTURE)
    (patch,) = (tmp_path / folder).glob("*_1_1")
    patch.rename(tmp_path / patch.name)
    lonely, whole = bigearthnet.scan(tmp_path, SETTINGS)
    assert (whole.id, whole.fault) == (PASTURE, "")
    assert lonely.id == "S2A_MSIL2A_20170617T113321_1_1" and "partner" in lonely.fault
    (rest,) = set(FOLDERS) - {folder}
    assert str(tmp_path / rest) in lonely.fault


@pytest.mark.parametrize("content", ["{", "{}", '{"corresponding_s2_patch": ["a"]}', "[" * 9999])
def test_a_patch_that_names_no_partner_has_a_fault(tmp_path, content):
    make_patch(tmp_path)
    (path,) = (tmp_path / "BigEarthNet-S1-v1.0").glob("*/*.json")
    path.write_text(content)
    sar, optical = bigearthnet.scan(tmp_path, SETTINGS)
    assert sar.fault.startswith(f"{path}: ")
    assert optical.id == PASTURE and "has it as its partner" in optical.fault


def test_a_patch_of_another_place_than_its_partner_is_named(tmp_path):
    path = make_patch(tmp_path) / "BigEarthNet-v1.0" / PASTURE / f"{PASTURE}_B02.tif"
    write_tiff(path, np.full((24, 24), 400, np.uint16), left=500_240)
    with pytest.raises(DecurError, match="lies elsewhere") as raised:
        read_only(tmp_path)
    assert one_line_naming(raised, path)


def test_a_missing_folder_is_named(tmp_path):
    (tmp_path / "BigEarthNet-v1.0").mkdir()
    with pytest.raises(DecurError, match="official layout") as raised:
        bigearthnet.scan(tmp_path, SETTINGS)
    assert one_line_naming(raised, tmp_path / "BigEarthNet-S1-v1.0")


@pytest.mark.parametrize("band", ["8A", "12"])
def test_a_missing_band_names_the_file(tmp_path, band):
    path = make_patch(tmp_path) / "BigEarthNet-v1.0" / PASTURE / f"{PASTURE}_B{band}.tif"
    path.unlink()
    with pytest.raises(DecurError, match="no such file") as raised:
        read_only(tmp_path)
    assert one_line_naming(raised, path)


def test_a_band_cut_short_names_the_file(tmp_path):
    path = make_patch(tmp_path) / "BigEarthNet-v1.0" / PASTURE / f"{PASTURE}_B02.tif"
    cut_short(path)
    with pytest.raises(DecurError, match="cannot be read") as raised:
        read_only(tmp_path)
    assert one_line_naming(raised, path)


def test_a_band_of_the_wrong_size_names_the_file(tmp_path):
    path = make_patch(tmp_path) / "BigEarthNet-v1.0" / PASTURE / f"{PASTURE}_B01.tif"
    write_tiff(path, np.zeros((12, 12), np.uint16))
    with pytest.raises(DecurError, match="12 x 12 pixels, expected 4 x 4") as raised:
        read_only(tmp_path)
    assert one_line_naming(raised, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ("{}", "has no 'labels'"),
        ('{"labels": null}', "'labels' is None, expected a list"),
        ('{"labels": [["Pastures"]]}', "is not a CORINE class"),
    ],
)
def test_a_damaged_label_file_is_named(tmp_path, content, message):
    folder = make_patch(tmp_path) / "BigEarthNet-v1.0" / PASTURE
    path = folder / f"{PASTURE}_labels_metadata.json"
    path.write_text(content)
    with pytest.raises(DecurError, match=message) as raised:
        read_only(tmp_path)
    assert one_line_naming(raised, path if "CORINE" not in message else folder)


def test_the_real_patches_are_paired_split_and_labelled(real_frames, tmp_path):
    bigearthnet.arrange_samples(real_frames, tmp_path)
    root = tmp_path
    settings = DatasetSettings(pixels=120)
    samples = [bigearthnet.read(r, settings) for r in bigearthnet.scan(root, settings)]
    assert {sample.id: sample.split for sample in samples} == {
        "S2A_MSIL2A_20170613T101031_87_48": "test",
        "S2A_MSIL2A_20170617T113321_36_85": "train",
        "S2A_MSIL2A_20170617T113321_4_55": "train",
        "S2A_MSIL2A_20171221T112501_56_35": "train",
        "S2B_MSIL2A_20170924T93020_69_24": "train",
    }  # and S2B_MSIL2A_20180204T94161_57_38 lies under snow
    assert classes_of(samples[2]) == {"Pastures"}
    assert classes_of(samples[4]) == {
        "Coniferous forest",
        "Mixed forest",
        "Transitional woodland, shrub",
        "Inland wetlands",
        "Inland waters",
    }
    assert {sample.place for sample in samples} == {"29UPU", "29SND", "33UUP", "35VPK"}
    for sample in samples:
        assert sample.arrays["sar"].shape == (1, 2, 120, 120)
        red, near_infrared, cirrus = sample.arrays["optical"][0, [3, 7, 10]].mean(axis=(1, 2))
        assert cirrus == 0 < red < near_infrared  # all are vegetated


def test_the_real_lists_have_the_official_lengths(real_frames, tmp_path):
    bigearthnet.arrange_samples(real_frames, tmp_path)
    root = tmp_path
    found, repeated = bigearthnet._splits(root / "splits", "official")
    splits = list(found.values())
    counts = [splits.count(split) for split in bigearthnet.SPLITS]
    assert counts == [269_695, 123_723, 125_866] and not repeated
