"""Settings of datasets: the source of the data, and how samples are stored."""

import re
from collections import Counter
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from decur.cluster.user_paths import expand
from decur.config.strict import (
    Count,
    Execution,
    HowAJobRuns,
    ModalityName,
    Pixels,
    Strict,
    UserPath,
)
from decur.errors import DecurError


class Piece(NamedTuple):
    """One of several jobs that preprocess a dataset at the same time; written `2-of-8`."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}-of-{self.of}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text that `str(piece)` returns."""
        found = re.fullmatch(r"([0-9]+)-of-([0-9]+)", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise DecurError(f"piece '{text}': expected <number>-of-<count>, for example 2-of-8")
        return cls(int(found[1]), int(found[2]))


class ScenesSettings(Strict):
    """Number and seed of the synthetic scenes that replace a dataset."""

    train: Count = Field(description="number of training scenes")
    test: Count = Field(description="number of evaluation scenes")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="random seed of the scenes")


Align = Literal["refuse", "nearest", "bilinear"]
"""Refuse samples whose pixel grids differ, or the interpolation that aligns them."""

IGNORED = 255
"""Default mask value for "not labelled"."""

OWN_SPLITS = ("train", "test")
"""Names of the splits of a user's own dataset."""

Limits = tuple[float, float]
"""The value that becomes 0, and the value that becomes 255."""


class FolderSettings(Strict):
    """One modality of a user's own dataset: a folder of images, all with the same bands."""

    folder: Execution[UserPath] = Field(
        description="folder of images: GeoTIFF, PNG, JPEG or JPEG 2000; subfolders are part of the "
        "name of a sample"
    )
    bands: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="names of the bands, in the order of the files"
    )
    scale: Literal["stored", "percentiles"] | Limits | tuple[Limits, ...] = Field(
        "stored",
        description="scaling of values to 0..255: `stored`: 8 bits as stored; `percentiles`: the "
        "1-99 % range of each band over the training images; [min, max]: one range for all bands, "
        "or a list with one range per band",
    )

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        for band in self.bands:
            if self.bands.count(band) > 1:
                raise ValueError(f"bands: '{band}' is given twice; name each band once")
        pairs = self.limits or ()
        if pairs and len(pairs) != len(self.bands):
            raise ValueError(
                f"scale: {len(pairs)} ranges for {len(self.bands)} bands; give one range per band"
            )
        if wrong := [pair for pair in pairs if not pair[0] < pair[1]]:
            raise ValueError(f"scale: {list(wrong[0])} is not a range; give [min, max], min < max")
        return self

    @property
    def limits(self) -> tuple[Limits, ...] | None:
        """Return the range of each band; None if values stay as stored or are not yet measured."""
        if isinstance(self.scale, str):
            return None
        first = self.scale[0]
        return self.scale if isinstance(first, tuple) else (self.scale,) * len(self.bands)  # type: ignore[return-value]


class FoldersSettings(Strict):
    """A user's own dataset: folders of images with matching names, with or without labels."""

    modalities: dict[ModalityName, FolderSettings] = Field(
        description="modalities by name, at least two; the name `mask` is reserved"
    )
    masks: Execution[UserPath | None] = Field(
        None,
        description="folder of masks with one band of class values; single masks may be missing",
    )
    labels: Execution[UserPath | None] = Field(
        None,
        description="CSV with the columns `id,label`: the name of an image without suffix, and its "
        "class, or several classes separated by ';'",
    )
    classes: tuple[str, ...] = Field(
        (), description="names of the classes, for masks in the order of their values"
    )
    labels_from_masks: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        exclude_if=lambda share: share is None,  # keep the settings of other datasets unchanged
        description="classify images instead of segmenting them: the labels of an image are the "
        "classes that cover at least this fraction of its mask; masks are not stored; null: off",
    )
    mask_values: tuple[int, ...] | None = Field(
        None,
        exclude_if=lambda values: values is None,  # keep the settings of other datasets unchanged
        description="mask value of each class, in the order of `classes`; null: 0, 1, 2, ...; for "
        "example [0, 255] for masks with the values 0 and 255",
    )
    ignore: int = Field(
        255,
        description="mask value for `not labelled`; the default 255 has no effect if 255 is the "
        "value of a class",
    )
    cut: bool = Field(
        False,
        description="cut images into squares with sides of `pixels` and skip narrower strips at "
        "the right and bottom edges; otherwise each image is one sample, resized to `pixels`",
    )
    align: Align = Field(
        "refuse",
        exclude_if=lambda align: align == "refuse",  # keep the settings of other datasets unchanged
        description="treatment of images whose pixels are shifted by more than half a pixel from "
        "those of the first modality: `refuse` is an error; otherwise interpolation onto the grid "
        "of the first modality (masks always by `nearest`)",
    )
    split: Annotated[Annotated[float, Field(gt=0, lt=1)] | str, HowAJobRuns(str)] = Field(
        0.2,
        description="fraction of the images in the split `test`, chosen by a hash of their names; "
        "or the path of a CSV with the columns `id,split` and the splits `train` and `test`",
    )
    title: Execution[str | None] = Field(
        None, description="title of the dataset in its card; null: its name"
    )
    licence: Execution[str] = Field(
        "none stated", description="licence of the dataset, for its card"
    )
    homepage: Execution[str] = Field("", description="web page of the dataset, for its card")

    def paths(self) -> dict[str, str | None]:
        """Return the paths in the settings, by key; None for a path that is not given."""
        found: dict[str, str | None] = {
            f"modalities.{name}.folder": modality.folder
            for name, modality in self.modalities.items()
        }
        split = self.split if isinstance(self.split, str) else None
        return found | {"masks": self.masks, "labels": self.labels, "split": split}

    @field_validator("split")
    @classmethod
    def _split_is_a_share_or_a_path(cls, split: float | str) -> float | str:
        return expand(split) if isinstance(split, str) else split

    @model_validator(mode="after")
    def _is_a_dataset(self) -> Self:
        if len(self.modalities) < 2:
            raise ValueError(f"modalities: expected at least two, found {list(self.modalities)}")
        if "mask" in self.modalities:
            raise ValueError("modalities: the name 'mask' is reserved for labels; choose another")
        if self.masks is not None and self.labels is not None:
            raise ValueError("give 'masks' or 'labels', not both")
        if (self.masks is None and self.labels is None) == bool(self.classes):
            raise ValueError("give 'classes' if and only if there are 'masks' or 'labels'")
        if twice := [name for name, count in Counter(self.classes).items() if count > 1]:
            raise ValueError(f"classes: '{twice[0]}' comes more than once; name each class once")
        if len(self.classes) == 1:
            raise ValueError(
                f"classes: found only '{self.classes[0]}', expected at least two; add a class"
            )
        self._check_mask_values()
        return self

    def _check_mask_values(self) -> None:
        if self.masks is None:
            for key in ("mask_values", "labels_from_masks"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key}: there are no 'masks'; add them or remove this key")
            return
        if len(self.classes) > IGNORED:
            raise ValueError(
                f"classes: found {len(self.classes)}, expected at most {IGNORED}; merge some"
            )
        values = self.class_values
        if len(values) != len(self.classes):
            raise ValueError(
                f"mask_values: {len(values)} values for {len(self.classes)} classes; give one "
                "value per class"
            )
        if len(set(values)) < len(values):
            raise ValueError(f"mask_values: {list(values)} has a value twice; remove one")
        if self.ignore in values and self.ignore != IGNORED:
            raise ValueError(
                f"ignore: {self.ignore} is one of the values of the classes; choose another"
            )

    @property
    def stores_masks(self) -> bool:
        """Return whether the samples have masks, not labels of whole images."""
        return self.masks is not None and self.labels_from_masks is None

    @property
    def class_values(self) -> tuple[int, ...]:
        """Return the value of each class in the mask files."""
        return tuple(range(len(self.classes))) if self.mask_values is None else self.mask_values

    @property
    def stored_ignore(self) -> int:
        """Return the value for "not labelled" in stored masks, where classes are 0, 1, 2, ..."""
        return self.ignore if len(self.classes) <= self.ignore <= IGNORED else IGNORED


class DatasetSettings(Strict):
    """One dataset: the source of its raw files, and the size of its stored samples."""

    source: Literal["scenes", "samples", "archive", "folders"] = Field(
        "archive",
        description="source of the raw files: `archive`: the official archives; `scenes`: "
        "synthetic scenes; `samples`: a folder of sample frames; `folders`: your own images",
    )
    folders: FoldersSettings | None = Field(
        None,
        exclude_if=lambda folders: folders is None,  # keep the settings of other datasets unchanged
        description="your own images, for `source: folders`, or for `source: samples` if they are "
        "below the folder of the sample frames; any dataset name is allowed",
    )
    folder: Execution[UserPath | None] = Field(
        None, description="folder of the sample frames, or of the unpacked official archives"
    )
    archives: Execution[UserPath | None] = Field(
        None, description="folder of archives that already exist or were downloaded by hand"
    )
    mirror: Execution[str | None] = Field(
        None, description="URL of a folder that is tried first when archives are downloaded"
    )
    checksums: Execution[UserPath | None] = Field(
        None, description="list by sha256sum that replaces the official checksums of the archives"
    )
    scenes: ScenesSettings | None = Field(
        None, description="synthetic scenes, for `source: scenes` only"
    )
    pixels: Pixels | tuple[Pixels, Pixels] = Field(
        264,
        description="size of a stored sample in pixels: its side, or [height, width] (RGB-depth "
        "only)",
    )
    modalities: tuple[str, ...] | None = Field(
        None, description="modalities of the dataset to store; null: its first two"
    )
    seasons: Annotated[int, Field(ge=1, le=4)] = Field(
        4, description="number of seasons to store, for datasets with seasons (SSL4EO-S12)"
    )
    splits: Literal["official", "seco"] = Field(
        "official",
        description="lists that define the splits of BigEarthNet; the paper uses those of SeCo",
    )
    snow_and_clouds: Literal["skip", "keep"] = Field(
        "skip",
        exclude_if=lambda choice: choice == "skip",  # keep the settings of other datasets unchanged
        description="skip or keep the BigEarthNet patches with snow, clouds or shadow",
    )
    unpack: Execution[bool] = Field(
        False,
        description="unpack archives, which needs one file on disk per archive member; otherwise "
        "samples are read directly from the archives; the shards are the same",
    )
    keep_archives: Execution[bool] = Field(
        True,
        description="keep downloaded archives; false: delete them once the shards are written and "
        "checked, but never archives that existed before",
    )
    pieces: Execution[Count] = Field(
        1,
        description="number of jobs that preprocess the dataset at the same time, for a cluster; "
        "without unpacking, each job reads whole archives, so more pieces than archives are idle",
    )
    # Without bad samples the shards do not depend on this key; `decur.planning.rerun` checks that.
    bad_samples: Execution[Literal["stop", "skip"]] = Field(
        "stop",
        description="treatment of samples that are unreadable or not valid: stop preprocessing, or "
        "skip them and list them in quarantine.csv of the shards; more than 1 % of the evaluation "
        "split always stops",
    )

    @model_validator(mode="after")
    def _scenes_have_counts(self) -> Self:
        if (self.source == "scenes") != (self.scenes is not None):
            raise ValueError("give 'scenes' (train, test, seed) if and only if source is 'scenes'")
        if self.source == "folders" and self.folders is None:
            raise ValueError("source is 'folders'; give 'folders'")
        if self.source not in ("folders", "samples") and self.folders is not None:
            raise ValueError(
                f"give 'folders' only if source is 'folders' or 'samples', not '{self.source}'"
            )
        return self

    @property
    def side(self) -> int:
        """Return `pixels` of a dataset whose samples are squares.

        Raises:
            DecurError: `pixels` is a height and a width.
        """
        if not isinstance(self.pixels, int):
            raise DecurError(
                f"pixels: found {list(self.pixels)}, but samples of this dataset are square; give "
                "one number"
            )
        return self.pixels
