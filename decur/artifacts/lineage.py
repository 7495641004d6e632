"""Trace an artifact back to its archives or scenes, and compare the chain with the files on disk.

Each record contains the checksums of the inputs of its artifact. The inputs are searched for below
the results folder that contains the artifact, so a results folder may have been moved. Small files
and weights are read again. Large inputs are not: shards are compared by the checksum in their card,
archives by their size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from decur.artifacts.files import file_checksum
from decur.artifacts.paths import CARD, MANIFEST, Place, identify
from decur.artifacts.provenance import fingerprint
from decur.artifacts.records import RECORDS, Input, Record, pairs
from decur.artifacts.timing import JobRecord
from decur.errors import DecurError

AS_RECORDED, SAME_SIZE, UNRECORDED = "as recorded", "same size", "no checksum recorded"
MISSING, CHANGED = "not here", "changed since"


@dataclass(frozen=True)
class Link:
    """A node of a lineage: an artifact or another file, and its own inputs.

    `state` is the result of the comparison with the checksum that the record of the next artifact
    contains. `facts` are lines to show to the user.
    """

    name: str
    state: str
    checksum: str = ""
    facts: tuple[str, ...] = ()
    inputs: tuple["Link", ...] = ()


def lineage(path: Path) -> Link:
    """Return the lineage of an artifact: a file, or a folder of shards or raw files.

    Raises:
        DecurError: the artifact is missing or damaged, has no record, or is not an artifact.
    """
    file = _artifact_file(path)
    place = identify(file)
    if place is None:
        raise DecurError(
            f"{path}: is not an artifact; name a table, a figure, metrics.json, an explainer's "
            "CSV, weights.safetensors, or a folder of shards or raw files"
        )
    chain = _Chain(Path(place.paths.root))
    chain.record(place, file)  # raise for a damaged artifact; damaged inputs are only reported
    return chain.follow(Input(file, None))


def changed(link: Link) -> list[str]:
    """Return the names of all files that differ from their record, without duplicates."""
    found = [link.name] if link.state == CHANGED else []
    for part in link.inputs:
        found += changed(part)
    return list(dict.fromkeys(found))


def render(link: Link) -> str:
    """Format a lineage as an indented tree; repeated parts are written out once."""
    return "\n".join(_lines(link, set(), ""))


def _lines(link: Link, written: set[str], indent: str) -> Iterator[str]:
    again = link.name in written and bool(link.facts)
    notes = [link.checksum, link.state, "see above" if again else ""]
    head = link.name + "".join(f"  [{note}]" for note in notes if note)
    yield indent + head
    if again:
        return
    written.add(link.name)
    for fact in link.facts:
        yield f"{indent}  {fact}"
    for part in link.inputs:
        yield from _lines(part, written, indent + "    ")


def _artifact_file(path: Path) -> Path:
    """Return the file of the artifact that a user names: a folder's record, or the file itself."""
    inside = [path / name for name in (CARD, MANIFEST)] if path.is_dir() else []
    file = next((found for found in inside if found.is_file()), path)
    place = identify(file)
    if place is not None and place.kind == "explanation":
        file = file.with_suffix(".csv")
    if not file.exists():
        raise DecurError(f"{path}: no such file; name one below the results folder")
    return file.absolute()


class _Chain:
    """Follows the artifacts below one results folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        # Cached, because the same weights are an input of many metrics.
        self._read = cache(lambda record, kind: RECORDS[kind].read(record))
        self._checksum = cache(fingerprint)

    def record(self, place: Place, given: Path) -> Record:
        """Read the record of an artifact; raise as `Record.read`, and if the record is missing."""
        if not place.record.is_file():
            raise DecurError(
                f"{given}: {place.record.name}, its record, is missing; run its stage again"
            )
        record: Record = self._read(place.record, place.kind)
        if not {"settings", "inputs"} <= record.provenance.model_fields_set:
            raise DecurError(f"{place.record}: contains no provenance; run its stage again")
        return record

    def follow(self, given: Input) -> Link:
        """Return the lineage of an artifact, or the comparison of a plain file."""
        place = identify(given.path) if given.is_artifact else None
        if place is None:
            return self._file(given)
        name, recorded = self._name(given.path), given.checksum
        if not given.path.is_file():
            return Link(name, MISSING, recorded or "")
        try:
            record, found = self.record(place, given.path), self._checksum(given.path)
        except DecurError as error:
            return Link(name, CHANGED, recorded or "", (str(error),))
        own = record.own_checksums(given.path, place.record)
        if recorded not in (None, found) or any(now != then for now, then in own):
            state = CHANGED
        else:
            state = AS_RECORDED if recorded or own else UNRECORDED
        inputs = tuple(self.follow(one) for one in record.inputs(place))
        return Link(name, state, recorded or found, tuple(_facts(record)), inputs)

    def _name(self, path: Path) -> str:
        inside = path.is_relative_to(self._root)
        return path.relative_to(self._root).as_posix() if inside else str(path)

    def _file(self, given: Input) -> Link:
        """Compare a file that is not an artifact, such as an archive."""
        checksum = given.checksum or ""
        places = (path for path in (given.path, *given.elsewhere) if path.is_file())
        path = next(places, None)
        if path is None:
            state = MISSING
        elif given.size is not None:
            state = SAME_SIZE if path.stat().st_size == given.size else CHANGED
        else:
            state = AS_RECORDED if file_checksum(path) == checksum else CHANGED
        return Link(self._name(given.path), state, checksum, given.facts)


def _facts(record: Record) -> Iterator[str]:
    """Yield lines that describe an artifact: summary, settings, job and versions."""
    yield from record.summary()
    origin = record.provenance
    settings = {key: origin.settings.get(key) for key in record.shown}
    if settings := {key: value for key, value in settings.items() if value is not None}:
        yield f"settings: {pairs(settings)}"
    if record.job is not None:
        yield _made(record.job)
    yield f"with {pairs({'decur': f'{origin.decur} ({origin.commit})', **origin.packages})}"


def _made(job: JobRecord) -> str:
    """Describe a job: `made 2026-01-31T12:00:00+00:00 in 12.3 s on node1, 4 x NVIDIA A100`."""
    device = f"{job.gpus} x {job.device}" if job.gpus else job.device
    text = f"made {job.started} in {job.seconds:g} s on {job.host}, {device}"
    if job.slurm_job is not None:
        text += f", SLURM job {job.slurm_job}"
    if job.slurm_restarts is not None:
        text += f", restarted {job.slurm_restarts} times"
    return text
