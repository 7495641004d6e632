"""The pretraining loop: resume, then {batch, augment, embed, loss, step, log, save}."""

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from decur.augment import PRESETS, Augmentation
from decur.checkpoint import load_checkpoint, save_checkpoint
from decur.config import CONTRASTIVE, UNTRAINED, PretrainSettings
from decur.errors import DecurError
from decur.losses.clip import LOG_SCALE
from decur.methods import METHODS, count_views
from decur.models.two_branch import TwoBranch
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


def draw_views(
    shards: PairedShards,
    rows: NDArray[np.int64],
    settings: PretrainSettings,
    step: int,
    count: int,
    device: torch.device,
) -> list[list[Tensor]]:
    """`count` augmented views of each modality, every one of its own random season (paper §4).

    All randomness comes from seed and step: nothing else need be kept to resume.
    """
    rng = np.random.default_rng([settings.seed, step, 1])
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    available = shards.index["seasons"].to_numpy()[rows]
    views = []
    for modality, augment in zip(settings.modalities, augmentations(settings), strict=True):
        seasons = [rng.integers(available) for _ in range(count)]
        images = [torch.from_numpy(shards.batch(modality, rows, s)).to(device) for s in seasons]
        views.append([augment(image, generator) for image in images])
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
    return rows


class StepLog:
    """One JSON line a step, and the same to TensorBoard; a resumed run drops what it redoes."""

    def __init__(self, folder: Path, step: int) -> None:
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
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close both files."""
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
    model.train()
    one_epoch = settings.model_copy(update={"epochs": 1})
    for step, batch in batches(training_rows(shards, settings), one_epoch, 0):
        model(draw_views(shards, batch, settings, step, 1, device))


def _train(
    model: TwoBranch, settings: PretrainSettings, shards: PairedShards, out: Path, identity: str
) -> None:
    method = METHODS[settings.method]
    rows = training_rows(shards, settings)
    device = next(model.parameters()).device
    optimizer = build_optimizer(
        model,
        name=settings.optimizer,
        lr=settings.lr,
        lr_1d=settings.lr_1d,
        weight_decay=settings.weight_decay,
    )
    count = count_views(settings)
    checkpoints = out / "checkpoints"
    start = 0
    state = load_checkpoint(checkpoints, identity)
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
        print(f"resuming at step {start} from {checkpoints}", flush=True)

    def save(done: int) -> None:
        states: dict[str, Any] = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        save_checkpoint(checkpoints, done, {"identity": identity, "step": done, **states})

    per_epoch = len(rows) // settings.batch_size
    total = settings.epochs * per_epoch
    log = StepLog(out, start)
    model.train()
    with tqdm(total=total, initial=start, desc=f"{settings.scenario} {settings.method}") as bar:
        for step, batch in batches(rows, settings, start):
            started = time.perf_counter()
            set_lr(optimizer, cosine_factor(step // per_epoch, settings.epochs))
            views = draw_views(shards, batch, settings, step, count, device)
            terms = method.loss(model(views), settings, model)
            optimizer.zero_grad()
            terms["loss"].backward()
            optimizer.step()

            values = {name: term.item() for name, term in terms.items()}
            if not math.isfinite(values["loss"]):
                names = ", ".join(shards.index["id"].iloc[batch[:8]])
                raise DecurError(
                    f"{out}: loss is {values['loss']} at step {step} (samples {names}, ...); lower "
                    f"the learning rate; the last good checkpoint is in {checkpoints}"
                )
            seconds = time.perf_counter() - started
            learning = {f"lr{i}": group["lr"] for i, group in enumerate(optimizer.param_groups)}
            log.write(step, {**values, **learning, "pairs_per_s": len(batch) / seconds})
            bar.set_postfix(loss=f"{values['loss']:.4g}", refresh=False)
            bar.update()
            done = step + 1
            if done == total or done % settings.checkpoint_steps == 0 or done % per_epoch == 0:
                save(done)
    log.close()
