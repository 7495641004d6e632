"""BigEarthNet v2.0 takes pairs, labels and splits from its metadata."""

import shutil

import numpy as np
import pandas as pd
import pytest

from decur.config import DatasetSettings
from decur.datasets import bigearthnet_v2
from decur.errors import DecurError
from tests.support.bigearthnet import make_patch
from tests.support.rasters import one_line_naming

SETTINGS = DatasetSettings(pixels=24)
SAR_SCENE = "S1A_IW_GRDH_1SDV_20170613T165043"
OPTICAL_SCENE = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"
SAR_PATCH, OPTICAL_PATCH = f"{SAR_SCENE}_33UUP_26_57", f"{OPTICAL_SCENE}_26_57"


def row(**changes):
    return {
        "patch_id": OPTICAL_PATCH,
        "s1_name": SAR_PATCH,
        "labels": ["Pastures", "Inland waters"],
        "split": "validation",
        "country": "Austria",
        "contains_seasonal_snow": False,
        "contains_cloud_or_shadow": False,
        **changes,
    }


def write_metadata(root, *rows):
    pd.DataFrame(rows).to_parquet(root / "metadata.parquet")


def rename(folder, target):
    """Move a patch of version 1 to its place in version 2, and its files with it."""
    target.mkdir(parents=True)
    for path in folder.glob("*.tif"):
        path.rename(target / f"{target.name}_{path.stem.rsplit('_', 1)[1]}.tif")


@pytest.fixture
def root(tmp_path):
    version1 = make_patch(tmp_path / "v1")
    (sar,) = (version1 / "BigEarthNet-S1-v1.0").iterdir()
    (optical,) = (version1 / "BigEarthNet-v1.0").iterdir()
    root = tmp_path / "v2"
    rename(sar, root / "BigEarthNet-S1" / SAR_SCENE / SAR_PATCH)
    rename(optical, root / "BigEarthNet-S2" / OPTICAL_SCENE / OPTICAL_PATCH)
    write_metadata(root, row())
    return root


def test_a_pair_has_the_split_and_the_labels_of_its_row(root):
    (record,) = bigearthnet_v2.scan(root, SETTINGS)
    sample = bigearthnet_v2.read(record, SETTINGS)
    assert (sample.id, sample.split, sample.place) == (OPTICAL_PATCH, "val", "Austria")
    found = [bigearthnet_v2.DATASET.classes[k] for k in np.flatnonzero(sample.labels)]
    assert found == ["Pastures", "Inland waters"]
    assert sample.arrays["sar"][0, :, 0, 0].tolist() == [127, 63]
    assert sample.arrays["optical"].shape == (1, 13, 24, 24)


@pytest.mark.parametrize("flag", bigearthnet_v2.FLAGS)
def test_snow_and_clouds_are_left_out(root, flag):
    write_metadata(root, row(**{flag: True}))
    found = bigearthnet_v2.scan(root, SETTINGS)
    assert not found and list(found.left_out.values()) == [1]
    keep = SETTINGS.model_copy(update={"snow_and_clouds": "keep"})
    assert len(bigearthnet_v2.scan(root, keep)) == 1


@pytest.mark.parametrize("flag", bigearthnet_v2.FLAGS)
def test_metadata_that_do_not_say_where_snow_and_clouds_are_must_be_kept_on_purpose(root, flag):
    write_metadata(root, {key: value for key, value in row().items() if key != flag})
    with pytest.raises(DecurError, match=f"no column '{flag}'.*snow_and_clouds: keep") as raised:
        bigearthnet_v2.scan(root, SETTINGS)
    assert one_line_naming(raised, root / "metadata.parquet")
    keep = SETTINGS.model_copy(update={"snow_and_clouds": "keep"})
    assert len(bigearthnet_v2.scan(root, keep)) == 1


@pytest.mark.parametrize("folder", ["BigEarthNet-S1", "BigEarthNet-S2"])
def test_a_pair_of_which_a_patch_is_missing_has_a_fault(root, folder):
    shutil.rmtree(root / folder)
    (record,) = bigearthnet_v2.scan(root, SETTINGS)
    assert record.fault.startswith(str(root / folder))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (row(split="dev"), "split 'dev'; expected train, validation, test"),
        ({"patch_id": "a"}, "no column 's1_name'"),
        (b"not parquet", "cannot be read"),
    ],
)
def test_metadata_that_are_none_are_named(root, content, message):
    if isinstance(content, bytes):
        (root / "metadata.parquet").write_bytes(content)
    else:
        write_metadata(root, content)
    with pytest.raises(DecurError, match=message) as raised:
        bigearthnet_v2.scan(root, SETTINGS)
    assert one_line_naming(raised, root / "metadata.parquet")


def test_a_label_of_another_nomenclature_is_named(root):
    write_metadata(root, row(labels=["Vineyards"]))
    (record,) = bigearthnet_v2.scan(root, SETTINGS)
    with pytest.raises(DecurError, match="'Vineyards' of "):
        bigearthnet_v2.read(record, SETTINGS)


def test_real_patches_are_read_and_those_of_different_ground_are_no_pair(real_frames, tmp_path):
    """The two real patches are of one tile, but not of one place in it."""
    for name in ("BigEarthNet-S1", "BigEarthNet-S2"):
        shutil.copytree(real_frames / "BigEarthNet" / "v2.0" / name, tmp_path / name)
    write_metadata(
        tmp_path, row(s1_name=f"{SAR_SCENE}_33UUP_70_48", patch_id=f"{OPTICAL_SCENE}_75_43")
    )
    for modality in ("sar", "optical"):
        alone = DatasetSettings(pixels=120, modalities=(modality,))
        (record,) = bigearthnet_v2.scan(tmp_path, alone)
        assert bigearthnet_v2.read(record, alone).arrays[modality].std() > 1
    with pytest.raises(DecurError, match="lies elsewhere than"):
        bigearthnet_v2.read(record, DatasetSettings(pixels=120))
