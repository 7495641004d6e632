"""The pretraining loop: resume, then {batch, augment, embed, loss, step, log, save}."""

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from decur.augment import PRESETS, Augmentation, Draws
from decur.checkpoint import load_checkpoint, save_checkpoint
from decur.config import CONTRASTIVE, UNTRAINED, PretrainSettings
from decur.distributed import any_rank, is_main, own_part, rank, world_size
from decur.errors import DecurError
from decur.interrupt import stop_request
from decur.loader import ahead
from decur.losses.clip import LOG_SCALE
from decur.methods import METHODS, Embeddings, Terms, count_views
from decur.models.batch_norm import synchronise_batch_norm
from decur.models.recompute import recompute_backbones
from decur.models.two_branch import TwoBranch
from decur.monitor import signs
from decur.optim import build_optimizer, cosine_factor, set_lr
from decur.provenance import provenance
from decur.shards import PairedShards
from decur.weights import save_model


def build_model(settings: PretrainSettings, shards: PairedShards) -> TwoBranch:
    """The seeded two-branch model for the bands of the shards."""
    torch.manual_seed(settings.seed)
    learns_scale = settings.method == "clip" and settings.baselines == "paper"
    return TwoBranch(
        settings.arch,
        [len(shards.bands(name)) for name in settings.modalities],
        dim=settings.dim,
        layers=settings.projector_layers,
        shared=settings.projector == "shared" and settings.method != "barlow-twins-single",
        contrastive=settings.method in CONTRASTIVE,
        log_scale=LOG_SCALE if learns_scale else None,
    )


def augmentations(settings: PretrainSettings) -> list[Augmentation]:
    """Each modality's augmentation preset at the configured crop size."""
    for modality, preset in settings.modalities.items():
        if preset not in PRESETS:
            raise DecurError(
                f"scenarios.{settings.scenario}.modalities.{modality}: no augmentation "
                f"'{preset}'; known are {', '.join(PRESETS)}"
            )
    presets = settings.modalities.values()
    return [dataclasses.replace(PRESETS[name], size=settings.crop) for name in presets]


def batches(
    rows: NDArray[np.int64], settings: PretrainSettings, step: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """From `step` on: the number of each step and its rows, every epoch in a new order.

    The order depends on seed and epoch alone, so a resumed run sees what it would have seen.
    The last, incomplete batch of an epoch is dropped.
    """
    per_epoch = len(rows) // settings.batch_size
    for epoch in range(step // per_epoch, settings.epochs):
        order = np.random.default_rng([settings.seed, epoch]).permutation(rows)
        for i in range(step % per_epoch if epoch == step // per_epoch else 0, per_epoch):
            yield (
                epoch * per_epoch + i,
                order[i * settings.batch_size : (i + 1) * settings.batch_size],
            )


class Batch(NamedTuple):
    """This rank's part of a batch, `[modality][view]`: uint8 images, and how to augment them."""

    images: list[list[Tensor]]
    draws: list[list[Draws]]

    def pinned(self) -> "Batch":
        """The same in page-locked memory, from which a GPU copies while the host goes on."""
        return Batch([[image.pin_memory() for image in views] for views in self.images], self.draws)


def read_batch(
    shards: PairedShards, rows: NDArray[np.int64], settings: PretrainSettings, step: int, count: int
) -> Batch:
    """Read `count` views of each modality, every one of its own random season (paper §4).

    Seasons and augmentations are drawn for the whole batch from seed and step: nothing else need be
    kept to resume, and any number of ranks shares the views of one process.
    """
    rng = np.random.default_rng([settings.seed, step, 1])
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    available = shards.index["seasons"].to_numpy()[rows]
    part = own_part(len(rows))
    images, draws = [], []
    for modality, augment in zip(settings.modalities, augmentations(settings), strict=True):
        seasons = [rng.integers(available)[part] for _ in range(count)]
        views = [torch.from_numpy(shards.batch(modality, rows[part], s)) for s in seasons]
        height, width = views[0].shape[2:]
        draws.append([augment.draw(len(rows), height, width, generator)[part] for _ in views])
        images.append(views)
    return Batch(images, draws)


def augment_batch(
    batch: Batch, settings: PretrainSettings, device: torch.device
) -> list[list[Tensor]]:
    """Augment on the device: float32 views `[modality][view]` of (n, C, crop, crop)."""
    views = []
    for images, draws, augment in zip(*batch, augmentations(settings), strict=True):
        moved = [image.to(device, non_blocking=True) for image in images]
        pairs = zip(moved, draws, strict=True)
        views.append([augment.apply(image, draw) for image, draw in pairs])
    return views


def training_rows(shards: PairedShards, settings: PretrainSettings) -> NDArray[np.int64]:
    """Rows of the splits to pretrain on.

    Raises:
        DecurError: they do not fill one batch.
    """
    rows = np.concatenate([shards.rows(split) for split in settings.splits])
    if len(rows) < settings.batch_size:
        raise DecurError(
            f"scenarios.{settings.scenario}.pretrain.batch_size: {settings.batch_size} exceeds the "
            f"{len(rows)} samples of {settings.dataset}"
        )
    if settings.batch_size % world_size():
        raise DecurError(
            f"scenarios.{settings.scenario}.pretrain.batch_size: {settings.batch_size} cannot be "
            f"shared by {world_size()} processes; make it a multiple"
        )
    return rows


class StepLog:
    """One JSON line a step, and the same to TensorBoard; a resumed run drops what it redoes.

    Only the first rank writes.
    """

    def __init__(self, folder: Path, step: int) -> None:
        if not is_main():
            return
        path = folder / "log.jsonl"
        kept = []
        if step and path.is_file():
            lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] < step]
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in kept))
        self._file = path.open("a")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Append one step."""
        if not is_main():
            return
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close both files."""
        if is_main():
            self._file.close()
            self._board.close()


def pretrain(
    settings: PretrainSettings, shards_root: Path, out: Path, *, device: str = "cpu"
) -> Path:
    """Pretrain one run, or go on with it from its last checkpoint, and write its weights.

    Returns the weights file, `out/weights.safetensors`. Resumed and uninterrupted runs are equal
    bit for bit on a CPU.

    Raises:
        DecurError: unusable settings or data, or a loss that is not finite.
    """
    shards = PairedShards(shards_root)
    model = build_model(settings, shards).to(device)
    origin = provenance(settings, {settings.dataset: shards.card["checksum"]})
    if settings.method in UNTRAINED:
        set_batch_statistics(model, settings, shards)
    else:
        identity = json.dumps([origin["settings"], origin["inputs"]], sort_keys=True)
        _train(model, settings, shards, out, hashlib.sha256(identity.encode()).hexdigest())
    weights = out / "weights.safetensors"
    if not is_main():
        return weights
    bands = {name: list(shards.bands(name)) for name in settings.modalities}
    save_model(weights, model, {"provenance": origin, "bands": bands})
    return weights


@torch.no_grad()
def set_batch_statistics(
    model: TwoBranch, settings: PretrainSettings, shards: PairedShards
) -> None:
    """Set the batch-norm statistics of an untrained model from one epoch's views, in place.

    Without them a random network in evaluation mode would not normalise at all, and be a weaker
    baseline than it is.
    """
    device = next(model.parameters()).device
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None  # cumulative average
    synchronise_batch_norm(model)
    model.train()
    one_epoch = settings.model_copy(update={"epochs": 1})
    for step, batch in batches(training_rows(shards, settings), one_epoch, 0):
        model(augment_batch(read_batch(shards, batch, settings, step, 1), settings, device))


def prepare(model: TwoBranch, settings: PretrainSettings) -> nn.Module:
    """What the steps call in the model's place: whole-batch norms, recomputation, compilation, DDP.

    The parameters are the model's own, and so is everything that is saved.
    """
    model.to(memory_format=torch.channels_last)
    synchronise_batch_norm(model)
    recompute_backbones(model, settings.recompute)
    if settings.compile:
        model.compile()
    if world_size() == 1:
        return model
    return DistributedDataParallel(model)


def training_step(
    network: nn.Module,
    model: TwoBranch,
    optimizer: torch.optim.Optimizer,
    views: list[list[Tensor]],
    settings: PretrainSettings,
) -> tuple[Embeddings, Terms]:
    """Embed, compute the loss in float32, descend; returns the embeddings and the loss's terms."""
    device = views[0][0].device
    views = [[x.to(memory_format=torch.channels_last) for x in branch] for branch in views]
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        embeddings = network(views)
    terms = METHODS[settings.method].loss(embeddings, settings, model)
    optimizer.zero_grad()
    terms["loss"].backward()
    optimizer.step()
    return embeddings, terms


def _train(
    model: TwoBranch, settings: PretrainSettings, shards: PairedShards, out: Path, identity: str
) -> None:
    rows = training_rows(shards, settings)
    optimizer = build_optimizer(
        model,
        name=settings.optimizer,
        lr=settings.lr,
        lr_1d=settings.lr_1d,
        weight_decay=settings.weight_decay,
    )
    checkpoints = out / "checkpoints"
    start = 0
    state = load_checkpoint(checkpoints, identity)
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
        print(f"resuming at step {start} from {checkpoints}", flush=True)

    def save(done: int) -> None:
        if is_main():
            states = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            save_checkpoint(checkpoints, done, {"identity": identity, "step": done, **states})

    per_epoch = len(rows) // settings.batch_size
    total = settings.epochs * per_epoch
    device = next(model.parameters()).device
    count = count_views(settings)

    def read(item: tuple[int, NDArray[np.int64]]) -> Batch:
        batch = read_batch(shards, item[1], settings, item[0], count)
        return batch.pinned() if device.type == "cuda" else batch

    network = prepare(model, settings)
    model.train()
    title = f"{settings.scenario} {settings.method}"
    bar = tqdm(total=total, initial=start, desc=title, disable=not is_main())
    started = time.perf_counter()
    with closing(StepLog(out, start)) as log, bar, stop_request() as request:
        for (step, batch), loaded in ahead(read, batches(rows, settings, start)):
            set_lr(optimizer, cosine_factor(step // per_epoch, settings.epochs))
            torch.manual_seed(hash((settings.seed, step, rank())))  # dropped paths, on resume too
            views = augment_batch(loaded, settings, device)
            embeddings, terms = training_step(network, model, optimizer, views, settings)

            values = {name: term.item() for name, term in terms.items()}
            if not math.isfinite(values["loss"]):
                names = ", ".join(shards.index["id"].iloc[batch[:8]])
                raise DecurError(
                    f"{out}: loss is {values['loss']} at step {step} (samples {names}, ...); lower "
                    f"the learning rate; the last good checkpoint is in {checkpoints}"
                )
            done = step + 1
            seconds, started = time.perf_counter() - started, time.perf_counter()
            learning = {f"lr{i}": group["lr"] for i, group in enumerate(optimizer.param_groups)}
            values |= {**learning, "pairs_per_s": len(batch) / seconds}
            if device.type == "cuda":
                values["memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
            if step % settings.monitor_steps == 0:
                values |= signs(embeddings)
            log.write(step, values)
            images = len(batch) * 2 * count / seconds
            shown = {name: f"{values[name]:.4g}" for name in terms}
            bar.set_postfix({**shown, "images/s": f"{images:.0f}"}, refresh=False)
            bar.update()
            stop = any_rank(request.name is not None, device) and done < total
            due = done % settings.checkpoint_steps == 0 or done % per_epoch == 0
            if due or stop:
                save(done)
            if stop:
                raise DecurError(
                    f"{out}: stopped by {request.name or 'another process'} after step {step}, and "
                    f"saved in {checkpoints}; run again to go on"
                )
