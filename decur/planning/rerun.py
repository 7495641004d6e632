"""Compute the identity of each job, so that Snakemake runs it again when its results would change.

The rules pass an identity to Snakemake as a parameter, and Snakemake runs a job again when a
parameter has changed. An identity contains the settings that decide the job's results
(`decur.config.deciding`) and the identities of its other inputs, but no settings of execution. If
an artifact exists, a setting that would give the same artifact counts as the recorded setting.
"""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from decur.artifacts.files import file_checksum
from decur.artifacts.paths import Paths
from decur.artifacts.records import Card, Manifest, Record, Source
from decur.artifacts.sources import content
from decur.config import DatasetSettings, PretrainSettings, deciding
from decur.config.source_paths import given_paths
from decur.errors import DecurError

R = TypeVar("R", bound=Record)

DRAWN = {"source", "scenes", "pixels", "seasons"}
FETCHED = {"source", "splits"}
"""Settings that decide the output of the download stage: synthetic scenes, or raw files."""


def identity(settings: BaseModel, **more: Any) -> str:
    """Write the settings that decide results, and other deciding values, as JSON."""
    return json.dumps({**deciding(settings), **more}, sort_keys=True)


def download_identity(name: str, settings: DatasetSettings, paths: Paths) -> str:
    """Identify a dataset's raw files. The content of a source counts, its location does not."""
    reads = DRAWN if settings.source == "scenes" else FETCHED
    decided = {key: value for key, value in deciding(settings).items() if key in reads}
    manifest = _record(Manifest, paths.manifest(name))
    made = {} if manifest is None else manifest.sources
    sources = {
        key: made[key].path if key in made and _is_same(path, made[key]) else path
        for key, path in given_paths(settings).items()
    }
    return json.dumps([decided, sources], sort_keys=True)


def preprocess_identity(name: str, settings: DatasetSettings, paths: Paths) -> str:
    """Identify a dataset's shards, apart from the raw files."""
    card = _record(Card, paths.card(name))
    made = _made(settings, card)
    if made is None or card is None or card.quarantined:
        made = settings
    return identity(settings, bad_samples=made.bad_samples)


def in_pieces_as_made(name: str, settings: DatasetSettings, paths: Paths) -> DatasetSettings:
    """Return the settings with the pieces of finished shards, which do not affect the shards."""
    made = _made(settings, _record(Card, paths.card(name)))
    return settings if made is None else settings.model_copy(update={"pieces": made.pieces})


def pretrain_identity(settings: PretrainSettings, paths: Paths) -> str:
    """Identify a run's weights, apart from the shards.

    Raises:
        DecurError: the file of initial weights is missing.
    """
    files = {"imagenet": settings.imagenet, "released": settings.released}
    known = {
        # The name of a downloaded file decides its content, and is known before the download.
        key: Path(file).name
        if file == paths.released(Path(file).name)
        else file_checksum(Path(file))
        for key, file in files.items()
        if file is not None
    }
    return identity(settings, **known)


def _is_same(path: str, made: Source) -> bool:
    return path == made.path or (made.content is not None and content(path) == made.content)


def _made(settings: DatasetSettings, card: Card | None) -> DatasetSettings | None:
    """Return the settings of finished shards, if they give the same shards as `settings`."""
    if card is None or not card.provenance.settings:
        return None
    try:
        made = DatasetSettings.model_validate(card.provenance.settings)
    except ValidationError:  # from another version
        return None
    return made if _compared(made) == _compared(settings) else None


def _compared(settings: DatasetSettings) -> dict[str, Any]:
    """Return the settings that decide shards, without scales: a card records measured scales."""
    tree = deciding(settings)
    for modality in tree.get("folders", {}).get("modalities", {}).values():
        del modality["scale"]
    return tree


def _record(kind: type[R], path: str) -> R | None:
    """Read an artifact's record; None if it is missing, or damaged, which its job reports."""
    try:
        return kind.read(Path(path))
    except (OSError, DecurError):
        return None
