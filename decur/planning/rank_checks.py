"""Check in a preflight job that GPUs work: devices, all-reduce, training steps, ImageNet files.

All ranks of a job run the same checks.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from decur.artifacts.paths import Paths
from decur.artifacts.preflight import Check
from decur.artifacts.records import Card
from decur.config import Config, PretrainSettings, pretrain_settings
from decur.config.datasets import DATASETS
from decur.config.experiments import chosen_experiments, load_experiments, pretrain_runs
from decur.config.methods import METHODS
from decur.errors import DecurError

if TYPE_CHECKING:
    from decur.pretrain.trial import RankDevice

GIVEN = "CUDA_VISIBLE_DEVICES"
"""Variable with which SLURM assigns GPUs to a job."""


def device(config: Config, root: Path) -> Iterator[Check]:
    """Check the GPU of a job with one GPU."""
    from decur.pretrain.trial import choose_device, rank_devices

    yield from check_devices(rank_devices(choose_device()))


def ranks(config: Config, root: Path) -> Iterator[Check]:
    """Check what pretraining needs: a GPU per rank, an all-reduce, and a step of each network."""
    from decur.distributed import world_size
    from decur.pretrain.trial import choose_device, rank_devices, try_all_reduce

    chosen = choose_device()
    yield from check_devices(rank_devices(chosen))
    seconds = try_all_reduce(chosen)
    yield Check(
        subject="all-reduce",
        state="ok",
        found=f"sum over {world_size()} ranks is right, {seconds * 1000:.1f} ms",
    )
    for settings in networks(config, root):
        name = f"{settings.scenario} {'+'.join(map(settings.arch_of, settings.modalities))}"
        bands = _bands(config, settings, root)
        if bands is None:
            found = "not tried: the bands of your images are known after preprocessing"
            yield Check(subject=name, state="ok", found=found)
            continue
        yield _attempt(f"step of {name}", partial(_step, settings, bands, chosen))
        if settings.imagenet is not None:
            yield _attempt(f"ImageNet for {name}", partial(_imagenet, settings, bands))


def networks(config: Config, root: Path) -> list[PretrainSettings]:
    """Select one pretrained run per scenario, architecture and ImageNet file."""
    paths = Paths(str(root.parent), root.name)
    experiments = chosen_experiments(load_experiments(paths.experiments()), config)
    found: dict[tuple[object, ...], PretrainSettings] = {}
    for run in pretrain_runs([*experiments.values()], config):
        settings = pretrain_settings(config, run)
        archs = tuple(settings.arch_of(name) for name in settings.modalities)
        if METHODS[run.method].trained or settings.imagenet is not None:
            found.setdefault((run.scenario, archs, settings.imagenet), settings)
    return [*found.values()]


def _bands(config: Config, settings: PretrainSettings, root: Path) -> dict[str, int] | None:
    """Return the number of bands by modality, from the shards' card or else the registry."""
    card = Path(Paths(str(root.parent), root.name).card(settings.dataset))
    known = DATASETS.get(settings.dataset)
    if card.is_file():
        stored = {m.name: len(m.bands) for m in Card.read(card).modalities}
        return {name: stored[name] for name in settings.modalities}
    if known is None:
        return None
    return {name: known.modalities[name] for name in settings.modalities}


def check_devices(found: "Sequence[RankDevice]") -> Iterator[Check]:
    """Check that every rank has its own GPU, if there are GPUs. `found` is in rank order."""
    hosts = sorted({one.host for one in found})
    where = f"{len(found)} rank{'s' if len(found) > 1 else ''} on {', '.join(hosts)}"
    if all(one.identity for one in found):
        kinds = sorted({f"{one.name}, {one.memory:.0f} GiB" for one in found})
        text = f"{where}: {'; '.join(kinds)}"
        if len({one.identity for one in found}) == len(found):
            yield Check(subject="GPUs", state="ok", found=text)
        else:
            remedy = "request one GPU per task: `gpu` equal to `tasks`, and `tasks_per_gpu: 1`"
            yield Check(subject="GPUs", state="error", found=f"{text}, shared", remedy=remedy)
    elif given := os.environ.get(GIVEN):
        text = f"{where}: SLURM assigned GPU {given}, but torch uses none"
        remedy = "run `decur doctor` there to check the driver, and that torch fits its CUDA"
        yield Check(subject="GPUs", state="error", found=text, remedy=remedy)
    else:
        remedy = "to use GPUs, set `gpu` and `slurm_partition` of these rules in the profile"
        yield Check(subject="GPUs", state="warning", found=f"{where}: none", remedy=remedy)


def _attempt(subject: str, check: Callable[[], str]) -> Check:
    """Run a check which, if it fails, fails on all ranks."""
    try:
        return Check(subject=subject, state="ok", found=check())
    except DecurError as error:
        remedy = "correct the config"
        return Check(subject=subject, state="error", found=str(error), remedy=remedy)
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        remedy = "use more GPUs, or set `recompute: view` or `accumulate_chunks: 2` in the config"
        return Check(subject=subject, state="error", found="out of memory", remedy=remedy)


def _step(settings: PretrainSettings, bands: dict[str, int], device: str) -> str:
    from decur.pretrain.trial import try_steps

    speed = try_steps(settings, bands, device)
    found = f"batch {speed.batch}: {speed.images_per_second:,.0f} images/s"
    if speed.peak is not None:
        return f"{found}, peak {speed.peak:.1f} GiB per GPU"
    cut = speed.batch < settings.batch_size
    return found + (f" on CPUs (of the scenario's {settings.batch_size})" if cut else " on CPUs")


def _imagenet(settings: PretrainSettings, bands: dict[str, int]) -> str:
    from decur.pretrain.trial import try_imagenet

    return f"{try_imagenet(settings, bands)} is readable"
