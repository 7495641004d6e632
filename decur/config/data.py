"""Where the data are from, and how their samples are stored."""

import re
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from decur.config.basis import (
    Count,
    Execution,
    HowAJobRuns,
    ModalityName,
    Pixels,
    Strict,
    UserPath,
)
from decur.errors import DecurError
from decur.user_paths import expand


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


Limits = tuple[float, float]
"""What becomes 0 and what becomes 255."""


class FolderSettings(Strict):
    """One modality of a dataset of one's own: a folder of images, all with the same bands."""

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
    """A dataset of one's own: folders of images with matching names, labelled or not."""

    modalities: dict[ModalityName, FolderSettings]
    masks: Execution[UserPath | None] = Field(
        None, description="folder of label masks: one band of class indices; some may be missing"
    )
    labels: Execution[UserPath | None] = Field(
        None,
        description="CSV of `id,label`: an image's name without suffix, and its class, or several "
        "with ';' between them",
    )
    classes: tuple[str, ...] = Field((), description="in the order of the masks' values")
    ignore: Annotated[int, Field(ge=0, le=255)] = Field(255, description="mask value: not labelled")
    cut: bool = Field(
        False,
        description="cut images into squares of `pixels`, what remains at the right and the bottom "
        "left out; otherwise each is one sample, resized to `pixels`",
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
        if len(self.classes) > self.ignore and self.masks is not None:
            raise ValueError(f"ignore: {self.ignore} is one of the values of the classes")
        return self


class DatasetSettings(Strict):
    """One dataset: where its raw files come from and how large its stored samples are."""

    source: Literal["scenes", "samples", "archive", "folders"] = "archive"
    folders: FoldersSettings | None = Field(
        None,
        exclude_if=lambda folders: folders is None,  # the settings of others stay the same
        description="images of one's own, for `source: folders`; the dataset's name is free",
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
    pieces: Execution[Count] = Field(
        1, description="jobs that preprocess the dataset at once, for a cluster"
    )
    # Where no sample is bad, the shards are the same: `decur.rerun` looks.
    bad_samples: Execution[Literal["stop", "skip"]] = Field(
        "stop",
        description="a sample that cannot be read or is not valid ends preprocessing, or is left "
        "out and listed in the shards' quarantine.csv",
    )

    @model_validator(mode="after")
    def _scenes_have_counts(self) -> Self:
        if (self.source == "scenes") != (self.scenes is not None):
            raise ValueError("give 'scenes' (train, test, seed) if and only if source is 'scenes'")
        if (self.source == "folders") != (self.folders is not None):
            raise ValueError("give 'folders' if and only if source is 'folders'")
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
