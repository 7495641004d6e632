"""Labels of whole images that follow from the classes that their masks show."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from decur.config import DatasetSettings, FoldersSettings, parse_config
from decur.datasets.folder_labels import check_classes, stored_labels
from decur.errors import DecurError

OWN: dict[str, Any] = {
    "modalities": {name: {"folder": name, "bands": [name]} for name in ("red", "nir")},
    "masks": "masks",
    "classes": ["crop", "weed"],
}


def own(**changes: Any) -> FoldersSettings:
    return FoldersSettings.model_validate(OWN | changes)


@pytest.mark.parametrize(("share", "shown"), [(1 / 16, [1, 1]), (1 / 15, [1, 0]), (1, [0, 0])])
def test_a_label_is_a_class_that_fills_the_share_of_the_mask(share, shown):
    mask = np.zeros((16, 16), np.uint8)
    mask[:4, :4] = 1
    mask[-1] = 255  # not labelled, and part of the mask
    labels, stored = stored_labels((), mask, own(labels_from_masks=share), 8)
    assert stored is None and labels is not None and labels.tolist() == shown


def test_an_image_without_a_labelled_pixel_has_no_labels():
    mask = np.full((16, 16), 255, np.uint8)
    assert stored_labels((), mask, own(labels_from_masks=0.1), 8) == (None, None)
    assert stored_labels((), None, own(labels_from_masks=0.1), 8) == (None, None)


def test_without_the_setting_the_mask_is_stored():
    labels, stored = stored_labels((), np.ones((16, 16), np.uint8), own(), 8)
    assert labels is None and stored is not None and stored.tolist() == [[1] * 8] * 8


def test_a_class_that_fills_too_little_of_every_mask_is_an_error_that_names_the_setting():
    rows = [{"split": "train", "mask_values": None, "labels": np.array([1, 0], np.uint8)}]
    told = r"no mask shows 'weed'; remove 'weed' from `classes`, or lower `labels_from_masks`$"
    with pytest.raises(DecurError, match=told):
        check_classes("field", own(labels_from_masks=0.1), rows)


@pytest.mark.parametrize("share", [0, 1.5])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValidationError, match="labels_from_masks"):
        own(labels_from_masks=share)


def test_labels_from_masks_need_masks():
    with pytest.raises(ValidationError, match="labels_from_masks: there are no 'masks'"):
        own(masks=None, labels="labels.csv", labels_from_masks=0.1)


@pytest.mark.parametrize(
    ("task", "other", "share"),
    [("classification", "segmentation", 0.1), ("segmentation", "classification", None)],
)
def test_the_setting_decides_the_task(task, other, share):
    recipe = {"optimizer": "adamw", "lr": 0.01, "epochs": 1}
    chosen = DatasetSettings(source="folders", folders=own(labels_from_masks=share))
    tree = {"scale": "x", "methods": [], "seeds": [], "scenarios": {}}
    tree["datasets"] = {"field": chosen.model_dump(mode="json", exclude_none=True)}
    recipes = {"linear": recipe, "fine_tune": recipe}
    parse_config(tree | {"transfer": {"field": {"task": task, **recipes}}})
    with pytest.raises(DecurError, match=rf"transfer\.field\.task: .* to '{task}'"):
        parse_config(tree | {"transfer": {"field": {"task": other, **recipes}}})
