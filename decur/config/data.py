"""Where the data are from, and how their samples are stored."""

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
    """One of several jobs that preprocess a dataset at once; written `2-of-8`."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}-of-{self.of}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str(piece)`."""
        found = re.fullmatch(r"([0-9]+)-of-([0-9]+)", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise DecurError(f"piece '{text}': expected <number>-of-<count>, for example 2-of-8")
        return cls(int(found[1]), int(found[2]))


class ScenesSettings(Strict):
    """How many synthetic scenes to draw, and from which seed."""

    train: Count
    test: Count
    seed: Annotated[int, Field(ge=0)] = 0


Align = Literal["refuse", "nearest", "bilinear"]
"""Refuse a pair whose pixels do not match, or interpolate it, and how."""

IGNORED = 255
"""The mask value that means "not labelled" where nothing else is said."""

OWN_SPLITS = ("train", "test")
"""Names of the splits of a user's own dataset."""

Limits = tuple[float, float]
"""What becomes 0 and what becomes 255."""


class FolderSettings(Strict):
    """One modality of a user's own dataset: a folder of images, all with the same bands."""

    folder: Execution[UserPath] = Field(
        description="GeoTIFF, PNG, JPEG or JPEG 2000; subfolders are part of a name"
    )
    bands: Annotated[tuple[str, ...], Field(min_length=1)]
    scale: Literal["stored", "percentiles"] | Limits | tuple[Limits, ...] = Field(
        "stored",
        description="how values become 0..255: 8 bit as stored, the 1-99 % range of each band over "
        "the training images, or [min, max], one of all bands or a list of one a band",
    )

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        for band in self.bands:
            if self.bands.count(band) > 1:
                raise ValueError(f"bands: '{band}' is given twice; name each band once")
        pairs = self.limits or ()
        if pairs and len(pairs) != len(self.bands):
            raise ValueError(f"scale: {len(pairs)} pairs for {len(self.bands)} bands")
        if wrong := [pair for pair in pairs if not pair[0] < pair[1]]:
            raise ValueError(f"scale: {list(wrong[0])} is no [min, max]")
        return self

    @property
    def limits(self) -> tuple[Limits, ...] | None:
        """What becomes 0 and 255 of each band; None: as stored, or not measured yet."""
        if isinstance(self.scale, str):
            return None
        first = self.scale[0]
        return self.scale if isinstance(first, tuple) else (self.scale,) * len(self.bands)  # type: ignore[return-value]


class FoldersSettings(Strict):
    """A user's own dataset: folders of images with matching names, labelled or not."""

    modalities: dict[ModalityName, FolderSettings]
    masks: Execution[UserPath | None] = Field(
        None, description="folder of label masks: one band of class values; some may be missing"
    )
    labels: Execution[UserPath | None] = Field(
        None,
        description="CSV of `id,label`: an image's name without suffix, and its class, or several "
        "with ';' between them",
    )
    classes: tuple[str, ...] = Field((), description="in the order of the masks' values")
    labels_from_masks: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        exclude_if=lambda share: share is None,  # the settings of others stay the same
        description="classify images instead of segmenting them: an image's labels are the classes "
        "that fill at least this share of its mask, and no masks are stored",
    )
    mask_values: tuple[int, ...] | None = Field(
        None,
        exclude_if=lambda values: values is None,  # the settings of others stay the same
        description="the value of each class in the masks, in the order of `classes` (default: 0, "
        "1, 2, ...); [0, 255] for masks of 0 and 255",
    )
    ignore: int = Field(
        255,
        description="mask value: not labelled; the default of 255 is none if it is the value of a "
        "class",
    )
    cut: bool = Field(
        False,
        description="cut images into squares of `pixels`, what remains at the right and the bottom "
        "left out; otherwise each is one sample, resized to `pixels`",
    )
    align: Align = Field(
        "refuse",
        exclude_if=lambda align: align == "refuse",  # the settings of runs without it stay the same
        description="images of a pair whose pixels lie more than half of one beside those of the "
        "first modality: an error, or interpolated onto its grid (masks always by `nearest`)",
    )
    split: Annotated[Annotated[float, Field(gt=0, lt=1)] | str, HowAJobRuns(str)] = Field(
        0.2,
        description="share of the images, by a hash of their names, that is the split `test`; or a "
        "CSV of `id,split` with the splits `train` and `test`",
    )
    title: Execution[str | None] = None
    licence: Execution[str] = "none stated"
    homepage: Execution[str] = ""

    def paths(self) -> dict[str, str | None]:
        """The paths that are named, by their keys; None where one is not given."""
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
            raise ValueError(f"modalities: at least two are needed, got {list(self.modalities)}")
        if "mask" in self.modalities:
            raise ValueError("modalities: 'mask' is the name of the labels; choose another")
        if self.masks is not None and self.labels is not None:
            raise ValueError("give 'masks' or 'labels', not both")
        if (self.masks is None and self.labels is None) == bool(self.classes):
            raise ValueError("give 'classes' if and only if there are 'masks' or 'labels'")
        if twice := [name for name, count in Counter(self.classes).items() if count > 1]:
            raise ValueError(f"classes: '{twice[0]}' comes more than once")
        if len(self.classes) == 1:
            raise ValueError(
                f"classes: '{self.classes[0]}' alone cannot be told from anything; give two or more"
            )
        self._check_mask_values()
        return self

    def _check_mask_values(self) -> None:
        if self.masks is None:
            for key in ("mask_values", "labels_from_masks"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key}: there are no 'masks'")
            return
        if len(self.classes) > IGNORED:
            raise ValueError(f"classes: {len(self.classes)}, at most {IGNORED} can be stored")
        values = self.class_values
        if len(values) != len(self.classes):
            raise ValueError(f"mask_values: {len(values)} values for {len(self.classes)} classes")
        if len(set(values)) < len(values):
            raise ValueError(f"mask_values: {list(values)} has a value twice")
        if self.ignore in values and self.ignore != IGNORED:
            raise ValueError(f"ignore: {self.ignore} is one of the values of the classes")

    @property
    def stores_masks(self) -> bool:
        """Whether the samples have label masks, not labels of whole images."""
        return self.masks is not None and self.labels_from_masks is None

    @property
    def class_values(self) -> tuple[int, ...]:
        """What stands for each class in the mask files."""
        return tuple(range(len(self.classes))) if self.mask_values is None else self.mask_values

    @property
    def stored_ignore(self) -> int:
        """What stands for "not labelled" in the stored masks, whose classes are 0, 1, 2, ..."""
        return self.ignore if len(self.classes) <= self.ignore <= IGNORED else IGNORED


class DatasetSettings(Strict):
    """One dataset: where its raw files come from and how large its stored samples are."""

    source: Literal["scenes", "samples", "archive", "folders"] = "archive"
    folders: FoldersSettings | None = Field(
        None,
        exclude_if=lambda folders: folders is None,  # the settings of others stay the same
        description="your own images, for `source: folders`, or for `source: samples` if they are "
        "below the folder of the sample frames; the dataset's name is free",
    )
    folder: Execution[UserPath | None] = Field(
        None, description="folder of the sample frames, or of the unpacked official archives"
    )
    archives: Execution[UserPath | None] = Field(
        None, description="folder of archives that are there already or were fetched by hand"
    )
    mirror: Execution[str | None] = Field(
        None, description="URL of a folder in which archives are looked for first"
    )
    checksums: Execution[UserPath | None] = Field(
        None, description="list by sha256sum in place of the official checksums of the archives"
    )
    scenes: ScenesSettings | None = None
    pixels: Pixels | tuple[Pixels, Pixels] = Field(
        264, description="side of a stored sample, or its height and width (RGB-depth only)"
    )
    modalities: tuple[str, ...] | None = Field(
        None, description="which of the dataset's modalities to store (default: its first two)"
    )
    seasons: Annotated[int, Field(ge=1, le=4)] = 4
    splits: Literal["official", "seco"] = Field(
        "official", description="which lists split BigEarthNet; the paper took SeCo's"
    )
    snow_and_clouds: Literal["skip", "keep"] = Field(
        "skip",
        exclude_if=lambda choice: choice == "skip",  # the settings of others stay the same
        description="leave out or keep BigEarthNet's patches under snow, clouds or shadow",
    )
    unpack: Execution[bool] = Field(
        False,
        description="unpack archives, which needs one file on disk for every file in them; "
        "otherwise samples are read from the archives as they are, into the same shards",
    )
    keep_archives: Execution[bool] = Field(
        True,
        description="false: once the shards are made and checked, delete the archives that were "
        "fetched, but none that were there before",
    )
    pieces: Execution[Count] = Field(
        1,
        description="jobs that preprocess the dataset at once, for a cluster; of archives that are "
        "not unpacked, each reads whole ones, so that more pieces than archives have no work",
    )
    # Where no sample is bad, the shards are the same: `decur.planning.rerun` looks.
    bad_samples: Execution[Literal["stop", "skip"]] = Field(
        "stop",
        description="a sample that cannot be read or is not valid ends preprocessing, or is left "
        "out and listed in the shards' quarantine.csv; more than 1 % of the evaluation split ends "
        "it in any case",
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
        """`pixels` of datasets whose samples are squares.

        Raises:
            DecurError: it is a height and a width.
        """
        if not isinstance(self.pixels, int):
            raise DecurError(f"pixels {list(self.pixels)}: these samples are square; give one side")
        return self.pixels
