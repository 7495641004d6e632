"""The sample frames packed like the official archives: same file names, parts and layout inside.

What the samples lack is made up so that the stages go on: NYUv2's `.mat` is written from the image
files (only frame 1 is labelled, in-painted depth stands in for raw), SUN-RGBD's lists name the
sample frames, as training frames, and its archive of labels is empty.
"""

import bz2
import gzip
import io
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import scipy.io
from PIL import Image

from decur import datasets
from decur.datasets import Archive
from decur.scenes.stand_ins import tar, write_checksums, write_parts, zipped

Keep = Callable[[str], bool]


def pack(name: str, samples: Path, out: Path, keep: Keep = lambda path: True) -> Path:
    """Write the archives of a dataset into `out`, and the list of their checksums.

    Args:
        name: the dataset.
        samples: folder of the sample frames.
        out: where to.
        keep: which files to pack, by their path in the raw folder.

    Returns:
        The list of checksums.
    """
    module = datasets.load(name)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder)
        module.arrange_samples(samples, raw)
        paths = sorted(str(path.relative_to(raw)) for path in raw.rglob("*") if path.is_file())
        paths = [path for path in _followed(raw, paths) if keep(path)]
        _write_all(name, raw, paths, samples, out)
    return write_checksums(out)


def pack_tree(name: str, raw: Path, out: Path, paths: Sequence[str] | None = None) -> Path:
    """Write the archives of a dataset whose raw folder is `raw`, with its files in this order.

    Returns:
        The list of their checksums.
    """
    out.mkdir(parents=True, exist_ok=True)
    if paths is None:
        paths = sorted(str(path.relative_to(raw)) for path in raw.rglob("*") if path.is_file())
    _write_all(name, raw, list(paths), raw, out)
    return write_checksums(out)


def _write_all(name: str, raw: Path, paths: list[str], samples: Path, out: Path) -> None:
    for archive in datasets.load(name).DATASET.archives:
        if archive.splits in ("", "official"):
            write_parts(archive, PACKERS[name](archive, raw, paths, samples), out)


def _followed(raw: Path, paths: list[str]) -> list[str]:
    """Paths of all files, also behind links to folders."""
    found = set(paths)
    for link in (path for path in raw.rglob("*") if path.is_symlink() and path.is_dir()):
        target = link.resolve()
        inner = (path.relative_to(target) for path in target.rglob("*") if path.is_file())
        found |= {str(link.relative_to(raw) / path) for path in inner}
    return sorted(found)


def _below(raw: Path, paths: list[str], top: str) -> list[tuple[str, bytes]]:
    return [(path, (raw / path).read_bytes()) for path in paths if path.startswith(top)]


def _ssl4eo_s12(archive: Archive, raw: Path, paths: list[str], samples: Path) -> bytes:
    if archive.kind == "file":
        listed = raw / archive.parts[0].name
        return listed.read_bytes() if listed.is_file() else b""
    return tar(_below(raw, paths, f"{archive.into}/"))


def _bigearthnet(archive: Archive, raw: Path, paths: list[str], samples: Path) -> bytes:
    name = archive.parts[0].name
    if archive.kind == "tar":
        top = "BigEarthNet-S1-v1.0/" if "-S1-" in name else "BigEarthNet-v1.0/"
        return tar(_below(raw, paths, top))
    body = bz2.decompress((raw / "splits" / f"{name.removesuffix('.gz')}.bz2").read_bytes())
    return gzip.compress(body) if name.endswith(".gz") else body


def _geonrw(archive: Archive, raw: Path, paths: list[str], samples: Path) -> bytes:
    return tar(_below(raw, paths, ""))


def _sun_rgbd(archive: Archive, raw: Path, paths: list[str], samples: Path) -> bytes:
    if archive.kind == "zip":
        return zipped(_below(raw, paths, "SUNRGBD/"))
    if archive.kind == "tar":
        labels = (path for path in paths if path.startswith("labels/"))
        return tar((Path(path).name, (raw / path).read_bytes()) for path in labels)
    listed = raw / "meta" / archive.parts[0].name
    if listed.is_file():
        return listed.read_bytes()
    if "training" not in archive.parts[0].name:
        return b""
    return "".join(f"{path}\n" for path in paths if "/image/" in path).encode()


def _nyuv2(archive: Archive, raw: Path, paths: list[str], samples: Path) -> bytes:
    name = archive.parts[0].name
    meta = samples / "NYUDv2" / "meta_ankurhanda"
    if name != "nyu_depth_v2_labeled.mat":
        return (meta / name).read_bytes()
    mapping = scipy.io.loadmat(meta / "classMapping40.mat")["mapClass"].ravel()
    first = np.array([0] + [int(np.argmax(mapping == k)) + 1 for k in range(1, 41)], np.uint16)
    frames = [Path(path).name for path in paths if path.startswith("color/")]
    # Frames count from 1 and none may be missing; MATLAB stores columns first.
    colours = [np.asarray(Image.open(raw / "color" / f).convert("RGB")) for f in frames]
    depths = [np.asarray(Image.open(raw / "depth" / f)).astype(np.float32) / 1000 for f in frames]
    labels = [np.zeros(depth.shape, np.uint16) for depth in depths]
    labels[0] = first[np.asarray(Image.open(raw / "label40" / frames[0]))]
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["images"] = np.stack([colour.transpose(2, 1, 0) for colour in colours])
        file["depths"] = file["rawDepths"] = np.stack([depth.T for depth in depths])
        file["labels"] = np.stack([label.T for label in labels])
    return buffer.getvalue()


PACKERS = {
    "ssl4eo-s12": _ssl4eo_s12,
    "bigearthnet": _bigearthnet,
    "geonrw": _geonrw,
    "sun-rgbd": _sun_rgbd,
    "nyuv2": _nyuv2,
}
