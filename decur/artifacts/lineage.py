"""The chain from a product back to its archives or scenes, compared with what lies on disk.

Every product's record holds the checksums of its inputs. They are looked for where `Paths` puts
them below the results folder that the product is in, so that a folder that was moved is read too.
Small files and weights are read; shards and archives, which are large, are known by the checksum in
their card and by their size.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import safetensors

from decur.artifacts.files import file_checksum
from decur.artifacts.paths import Paths
from decur.artifacts.provenance import fingerprint, json_checksum, read_json
from decur.config import EXPLAINERS
from decur.errors import DecurError
from decur.shards.assemble import card_digest

AS_RECORDED, SAME_SIZE, UNRECORDED = "as recorded", "same size", "no checksum recorded"
MISSING, CHANGED = "not here", "changed since"

EXPLAINED = [f"{kind}.csv" for kind in EXPLAINERS]
LEVELS = {
    "manifest.json": 3,
    "card.json": 3,
    "weights.safetensors": 6,
    "metrics.json": 10,
    **dict.fromkeys(EXPLAINED, 6),
}
"""Products by their file names, and how many levels below `results/<scale>` they lie."""

TOLD = {
    "manifest.json": ("source", "scenes", "splits"),
    "card.json": ("pixels", "modalities", "seasons", "splits", "bad_samples"),
    "weights.safetensors": (
        *("method", "seed", "arch", "crop", "epochs", "batch_size", "optimizer", "lr"),
        *("dim", "dim_common", "precision"),
    ),
    "metrics.json": ("run",),
    **dict.fromkeys(EXPLAINED, ("run", "recipe")),
}
"""The settings that are shown of each product."""


@dataclass(frozen=True)
class Link:
    """Something that a product was made of, or the product itself, and what that was made of.

    `state` compares it with the record of what was made of it, `facts` are lines to read.
    """

    name: str
    state: str
    checksum: str = ""
    facts: tuple[str, ...] = ()
    inputs: tuple["Link", ...] = ()


class Input(NamedTuple):
    """Where an input lies, and the checksum that was recorded of it, if one was."""

    path: Path
    checksum: str | None


def lineage(path: Path) -> Link:
    """The chain of a product: a file, or a folder of shards or raw files.

    Raises:
        DecurError: it is not there, is no product, is damaged, or has no record.
    """
    product, root = _product(path)
    chain = _Chain(root)
    chain.record(product)  # a damaged input is told in the chain, a damaged product is an error
    return chain.follow(Input(product, None))


def changed(link: Link) -> list[str]:
    """The names of all that is not what was recorded, each once."""
    found = [link.name] if link.state == CHANGED else []
    for part in link.inputs:
        found += changed(part)
    return list(dict.fromkeys(found))


def render(link: Link) -> str:
    """The chain as an indented tree; what comes twice is told once."""
    return "\n".join(_lines(link, set(), ""))


def _lines(link: Link, told: set[str], indent: str) -> Iterator[str]:
    again = link.name in told and bool(link.facts)
    notes = [link.checksum, link.state, "see above" if again else ""]
    head = link.name + "".join(f"  [{note}]" for note in notes if note)
    yield indent + head
    if again:
        return
    told.add(link.name)
    for fact in link.facts:
        yield f"{indent}  {fact}"
    for part in link.inputs:
        yield from _lines(part, told, indent + "    ")


def _product(path: Path) -> tuple[Path, Path]:
    """The file of a product, and the results folder of its scale."""
    file = Path(os.path.normpath(path.absolute()))
    if file.is_dir():
        inside = [file / name for name in ("card.json", "manifest.json")]
        file = next((found for found in inside if found.is_file()), file)
    if file.suffix == ".json" and f"{file.stem}.csv" in EXPLAINED:
        file = file.with_suffix(".csv")
    if not file.exists():
        raise DecurError(f"{path}: no such file; name one below the results folder")
    of_table = file.parent.name in ("tables", "figures")
    if file.name not in LEVELS and not of_table:
        raise DecurError(
            f"{path}: is no product; name a table, a figure, metrics.json, an explainer's CSV, "
            "weights.safetensors, or a folder of shards or raw files"
        )
    parents = [*file.parents]
    level = min(2 if of_table else LEVELS[file.name], len(parents))
    return file, parents[level - 1]


def _record_file(product: Path) -> Path:
    """The file that says where a product is from: itself, or for a table a JSON beside it."""
    if product.name in EXPLAINED:
        return product.with_suffix(".json")
    if product.name in LEVELS:
        return product
    return product.parents[1] / "tables" / f"{product.stem}.json"


def _read_record(product: Path) -> dict[str, Any]:
    """The whole record of a product.

    Raises:
        DecurError: there is none, or it is damaged.
    """
    path = _record_file(product)
    if not path.is_file():
        raise DecurError(f"{product}: {path.name}, its record, is missing; run its stage again")
    record = _weights_metadata(path) if path.suffix == ".safetensors" else read_json(path)
    origin = record.get("provenance")
    if not isinstance(origin, dict) or not {"settings", "inputs"} <= origin.keys():
        raise DecurError(f"{path}: holds no record of its origin; run its stage again")
    return record


def _weights_metadata(path: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(path, framework="np") as file:
            return {key: json.loads(text) for key, text in (file.metadata() or {}).items()}
    except (safetensors.SafetensorError, ValueError) as error:
        raise DecurError(f"{path}: not a readable weights file ({error})") from None


class _Chain:
    """Follows the products below one results folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._paths = Paths(str(root.parent), root.name)
        self.record = cache(_read_record)  # the same weights are an input of many metrics
        self._checksum = cache(fingerprint)

    def follow(self, given: Input) -> Link:
        """A product and all that it comes from."""
        path, recorded = given
        name = self._name(path)
        if not path.is_file():
            return Link(name, MISSING, recorded or "")
        try:
            record, found = self.record(path), self._checksum(path)
        except DecurError as error:
            return Link(name, CHANGED, recorded or "", (str(error),))
        own = _own_checksums(path, record)
        if recorded not in (None, found) or any(now != then for now, then in own):
            state = CHANGED
        else:
            state = AS_RECORDED if recorded or own else UNRECORDED
        facts, inputs = tuple(_facts(path, record)), tuple(self._inputs(path, record))
        return Link(name, state, recorded or found, facts, inputs)

    def _name(self, path: Path) -> str:
        inside = path.is_relative_to(self._root)
        return path.relative_to(self._root).as_posix() if inside else str(path)

    def _inputs(self, product: Path, record: Mapping[str, Any]) -> list[Link]:
        """What a product was made of."""
        settings, named = record["provenance"]["settings"], record["provenance"]["inputs"]
        if product.name == "manifest.json":
            given = settings.get("archives")
            return [self._archive(product.parent, given, part) for part in record["archives"]]
        if product.name == "card.json":
            manifest = Path(self._paths.manifest(record["dataset"]))
            return [self.follow(Input(manifest, json_checksum(record["raw"])))]
        if product.name not in LEVELS:
            return [self.follow(Input(self._root / n, checksum)) for n, checksum in named.items()]
        found = []
        if "run" in settings:
            weights = Path(self._paths.weights(settings["run"]))
            found.append(self.follow(Input(weights, named.get(weights.name))))
        for name, checksum in named.items():
            if name == Path(settings.get("imagenet") or "").name:
                found.append(self._file(Input(Path(settings["imagenet"]), checksum)))
            elif "released" in record:  # imported from a file that lay anywhere
                found.append(self._file(Input(product.with_name(name), checksum)))
            elif name != "weights.safetensors":
                found.append(self.follow(Input(Path(self._paths.card(name)), checksum)))
        return found

    def _file(self, given: Input) -> Link:
        """A file that is no product."""
        name, checksum = self._name(given.path), given.checksum or ""
        if not given.path.is_file():
            return Link(name, MISSING, checksum)
        right = file_checksum(given.path) == checksum
        return Link(name, AS_RECORDED if right else CHANGED, checksum)

    def _archive(self, raw: Path, given: str | None, part: Mapping[str, Any]) -> Link:
        """An archive in the folder of a raw folder's or in a `given` one, if it is still kept."""
        folders = [raw.with_name(f"{raw.name}.archives"), *([Path(given)] if given else [])]
        found = next((f / part["name"] for f in folders if (f / part["name"]).is_file()), None)
        if found is None:
            state = MISSING
        else:
            state = SAME_SIZE if found.stat().st_size == part["bytes"] else CHANGED
        facts = (f"{part['bytes']} bytes", *part.get("urls", []))
        return Link(self._name(folders[0] / part["name"]), state, part["checksum"], facts)


def _own_checksums(product: Path, record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a product is now and was when it was written, where its own record says so."""
    if product.name == "card.json":
        return [(card_digest(record), record["card_sha256"])]
    beside = _record_file(product)
    if beside == product:
        return []
    name = os.path.relpath(product, beside.parent)
    return [(file_checksum(product), record["files"].get(name, "not written with it"))]


def _facts(product: Path, record: Mapping[str, Any]) -> Iterator[str]:
    """What a reader wants to know of a product, a line each."""
    origin = record["provenance"]
    settings = origin["settings"]
    if product.name == "manifest.json":
        yield f"{record['files']} files, {record['bytes'] / 1e6:.1f} MB"
        if record.get("folder"):
            yield f"from {record['folder']}"
    elif product.name == "card.json":
        yield f"samples: {_pairs(record['counts'])}; left out: {record['quarantined']}"
    elif product.name == "metrics.json":
        dataset, _, protocol, _ = record["cell"].split("/")
        recipe = settings["recipes"].get(dataset, {}).get(protocol.replace("-", "_"))
        if recipe is not None:
            yield f"recipe: {_pairs({k: recipe[k] for k in ('optimizer', 'lr', 'epochs')})}"
        yield f"measured: {_pairs({k: round(v, 1) for k, v in record['metrics'].items()})}"
    elif product.name not in LEVELS:
        yield f"{settings['experiment']['title']}; scale {settings['scale']}"
        yield f"seeds {settings['seeds']} of {', '.join(settings['methods'])}"
    told = {key: settings.get(key) for key in TOLD.get(product.name, ())}
    told = {key: value for key, value in told.items() if value is not None}
    if told:
        yield f"settings: {_pairs(told)}"
    if "job" in record:
        yield _made(record["job"])
    packages = {"decur": f"{origin['decur']} ({origin['commit']})", **origin.get("packages", {})}
    yield f"with {_pairs(packages)}"


def _made(job: Mapping[str, Any]) -> str:
    """`made 2026-01-31T12:00:00+00:00 in 12.3 s on node1, 4 x NVIDIA A100, SLURM job 7`."""
    device = f"{job['gpus']} x {job['device']}" if job["gpus"] else job["device"]
    text = f"made {job['started']} in {job['seconds']:g} s on {job['host']}, {device}"
    if "slurm_job" in job:
        text += f", SLURM job {job['slurm_job']}"
    if "slurm_restarts" in job:
        text += f", restarted {job['slurm_restarts']} times"
    return text


def _pairs(tree: Mapping[str, Any]) -> str:
    """`a 1, b c 2`: the names and values of a mapping, nested ones in brackets."""
    parts = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            value = f"({_pairs(value)})"
        elif isinstance(value, list):
            value = "+".join(map(str, value))
        parts.append(f"{key} {value}")
    return ", ".join(parts)
