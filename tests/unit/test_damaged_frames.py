"""Whatever is done to a real file, its dataset gives a sample or names what is wrong, in time."""

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decur.config import DatasetSettings
from decur.config.datasets import DATASETS
from decur.datasets import load
from decur.errors import DecurError
from decur.shards import Sample

SETTINGS = {
    "bigearthnet": DatasetSettings(pixels=64, snow_and_clouds="keep"),
    "geonrw": DatasetSettings(pixels=64, modalities=("rgb", "nir")),
    "terramind": DatasetSettings(pixels=56, modalities=("sar", "optical", "rgb", "dem")),
}
SECONDS = 20
HEADER = 512  # bytes; where a flipped one does most harm

damages = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1, exclude_max=True)),
    st.tuples(
        st.just("flip"),
        st.lists(
            st.tuples(st.one_of(st.integers(0, HEADER), st.floats(0, 1)), st.integers(1, 255)),
            min_size=1,
            max_size=8,
        ),
    ),
    st.tuples(st.just("swap"), st.integers(0, 1000)),
)


def apply(damage, path, others):
    kind, how = damage
    content = bytearray(path.read_bytes())
    if kind == "cut":
        content = content[: int(len(content) * how)]
    elif kind == "swap":
        content = bytearray(others[how % len(others)].read_bytes())
    else:
        for where, change in how:
            at = where if isinstance(where, int) else int(where * len(content))
            content[min(at, len(content) - 1)] ^= change
    path.write_bytes(content)


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def late(*_: object) -> None:
        pytest.fail(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def real_files(dataset, real_frames, root):
    """One record's raw files, copied from the sample frames; all of them lie below `root`."""
    linked = root.with_name(f"{root.name}.links")
    module, options = load(dataset), SETTINGS.get(dataset, DatasetSettings(pixels=64))
    module.arrange_samples(real_frames, linked)
    first = next(r for r in module.scan(linked, options) if not r.fault)
    for path in first.paths.values():
        copy = shutil.copytree if path.is_dir() else shutil.copy
        target = root / path.relative_to(linked)
        target.parent.mkdir(parents=True, exist_ok=True)
        copy(path, target)
    for extra in linked.glob("*.mat"):
        shutil.copy(extra, root / extra.name)
    if dataset == "ombria":  # whose folders must all be there
        for folder in product(("S1", "S2"), ("train", "test"), ("BEFORE", "AFTER")):
            (root / "Ombria{}/{}/{}".format(*folder)).mkdir(parents=True, exist_ok=True)
    return sorted(path for path in root.rglob("*") if path.is_file())


@pytest.mark.slow
@pytest.mark.parametrize("dataset", [name for name in DATASETS if name != "bigearthnet-v2"])
def test_a_damaged_real_file_is_read_or_named(dataset, real_frames, tmp_path):
    pristine = tmp_path / "pristine"
    files = real_files(dataset, real_frames, pristine)
    module, options = load(dataset), SETTINGS.get(dataset, DatasetSettings(pixels=64))
    numbers, outcomes = count(), set()

    @settings(
        max_examples=40,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, len(files) - 1), damages)
    def check(which, damage):
        root = tmp_path / f"{next(numbers)}"  # a new one, since a reader may remember a file
        shutil.copytree(pristine, root, copy_function=shutil.copyfile)
        apply(damage, root / files[which].relative_to(pristine), files)
        with time_limit(SECONDS):
            try:
                records = module.scan(root, options)
                faulty = [record.fault for record in records if record.fault]
                assert all(str(root) in fault for fault in faulty)
                outcome = None if faulty else module.read(records[0], options)
            except DecurError as error:
                assert str(root) in str(error) and "\n" not in str(error)
                outcome = error
        outcomes.add(type(outcome))
        shutil.rmtree(root)

    check()
    assert {Sample, DecurError} <= outcomes  # of both, or nothing was tried
