"""The folders and files of the user that the settings of a dataset name."""

import os
from pathlib import Path

from decur.config.data import DatasetSettings

SAMPLES_VARIABLE = "DECUR_SAMPLES"
"""Environment variable with the folder of the sample frames."""


def given_paths(settings: DatasetSettings) -> dict[str, str]:
    """The path of each source that the settings name, by its key: absolute, without links.

    Archives are not among them: their official checksums decide what they hold.
    """
    found = {"folder": settings.folder, "checksums": settings.checksums}
    if settings.source == "samples" and settings.folder is None:
        found["folder"] = os.environ.get(SAMPLES_VARIABLE)
    if settings.folders is not None:
        found |= {f"folders.{key}": path for key, path in settings.folders.paths().items()}
    return {key: str(Path(path).resolve()) for key, path in found.items() if path}
