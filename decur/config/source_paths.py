"""Collect the user's folders and files that are named in the settings of a dataset."""

import os
from pathlib import Path

from decur.config.data import DatasetSettings

SAMPLES_VARIABLE = "DECUR_SAMPLES"
"""Environment variable with the folder of the sample frames."""


def samples_folder(settings: DatasetSettings) -> str | None:
    """Return the folder of the sample frames, from the settings or from the environment."""
    return settings.folder or os.environ.get(SAMPLES_VARIABLE)


def own_paths(settings: DatasetSettings) -> dict[str, Path]:
    """Return the folders and files of a user's own dataset by key, such as `folders.masks`.

    If the source is `samples`, they are relative to the folder of the sample frames.
    """
    if settings.folders is None:
        return {}
    root = (samples_folder(settings) or "") if settings.source == "samples" else ""
    named = settings.folders.paths()
    return {f"folders.{key}": Path(root, path) for key, path in named.items() if path}


def given_paths(settings: DatasetSettings) -> dict[str, str]:
    """Return the absolute path, without links, of each source named in the settings, by key.

    Archives are not included, because official checksums identify their content. The folder of the
    sample frames is not included if the dataset names its own folders below it.
    """
    found: dict[str, str | Path | None] = {"checksums": settings.checksums, **own_paths(settings)}
    if settings.source != "samples":
        found["folder"] = settings.folder
    elif settings.folders is None:
        found["folder"] = samples_folder(settings)
    return {key: str(Path(path).resolve()) for key, path in found.items() if path}
