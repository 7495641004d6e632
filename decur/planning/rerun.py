"""What makes a job run again: the texts that the rules give to Snakemake as parameters.

Snakemake runs a job again when one of them has changed. They hold the settings that decide the
job's results (`decur.config.deciding`) and what its other inputs are known by, and nothing of how
the job runs. Where a product is there already, a setting with which the same would be made again
counts as the one that it was made with.
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
"""Settings that decide what the download stage makes: synthetic scenes, or raw files."""


def identity(settings: BaseModel, **more: Any) -> str:
    """Settings that decide results, and whatever else does, as JSON."""
    return json.dumps({**deciding(settings), **more}, sort_keys=True)


def download_identity(name: str, settings: DatasetSettings, paths: Paths) -> str:
    """What makes a dataset's raw files others: where a source lies does not, what it holds does."""
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
    """What makes a dataset's shards others, beside the raw files."""
    card = _record(Card, paths.card(name))
    made = _made(settings, card)
    if made is None or card is None or card.quarantined:
        made = settings
    return identity(settings, bad_samples=made.bad_samples)


def in_pieces_as_made(name: str, settings: DatasetSettings, paths: Paths) -> DatasetSettings:
    """The settings, with the pieces that finished shards were made in: others make the same."""
    made = _made(settings, _record(Card, paths.card(name)))
    return settings if made is None else settings.model_copy(update={"pieces": made.pieces})


def pretrain_identity(settings: PretrainSettings, paths: Paths) -> str:
    """What makes a run's weights others, beside the shards.

    Raises:
        DecurError: the file of weights that it starts from is not there.
    """
    files = {"imagenet": settings.imagenet, "released": settings.released}
    known = {
        # The name of a downloaded file decides its content, and is known before it is there.
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
    """The settings of finished shards, if they decide what those of now decide."""
    if card is None or not card.provenance.settings:
        return None
    try:
        made = DatasetSettings.model_validate(card.provenance.settings)
    except ValidationError:  # of another version
        return None
    return made if _compared(made) == _compared(settings) else None


def _compared(settings: DatasetSettings) -> dict[str, Any]:
    """What decides shards; without scales, of which a card records the measured values."""
    tree = deciding(settings)
    for modality in tree.get("folders", {}).get("modalities", {}).values():
        del modality["scale"]
    return tree


def _record(kind: type[R], path: str) -> R | None:
    """The record of an artifact; None without one, or of a damaged one, which its job finds."""
    try:
        return kind.read(Path(path))
    except (OSError, DecurError):
        return None
