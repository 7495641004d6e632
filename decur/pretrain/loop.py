"""The pretraining loop: resume, then {batch, augment, embed, loss, step, log, save}."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import record_function

from decur import datasets
from decur.artifacts.files import file_checksum
from decur.artifacts.ownership import check_ours
from decur.artifacts.paths import WEIGHTS
from decur.artifacts.provenance import provenance
from decur.artifacts.records import Weights
from decur.artifacts.timing import JobTimer
from decur.cluster.signals import WARNING, StoppedError, stop_request
from decur.config import PretrainSettings, count_views, dims_common
from decur.config.methods import METHODS
from decur.distributed import count_ranks, is_main, on_main, rank, world_size
from decur.errors import DecurError
from decur.losses import Embeddings, Terms
from decur.models.backbone import Backbone
from decur.models.batch_norm import synchronise_batch_norm
from decur.models.recompute import recompute_backbones
from decur.models.two_branch import TwoBranch
from decur.pretrain.cuda_graph import GraphedStep
from decur.pretrain.finished import keep_finished, restore_finished, run_identity
from decur.pretrain.monitor import signs
from decur.pretrain.optim import cosine_factor, optimizer_of, set_lr
from decur.pretrain.step_log import Progress
from decur.shards import PairedShards
from decur.training.checkpoint import (
    CHECKPOINTS,
    load_checkpoint,
    save_checkpoint,
)
from decur.training.knn import knn_of_backbones
from decur.training.methods import build_model, compute_loss
from decur.training.prefetch import SideStream, ahead
from decur.training.views import augment_batch, read_batch, training_batches, training_rows
from decur.weights import save_model
from decur.weights.files import is_weights
from decur.weights.imagenet import load_imagenet

PACKAGES = ("numpy", "torch", "torchvision", "timm")

Phase = Callable[[str], AbstractContextManager[object]]
"""Name a block as a part of a step, for a profiler or a timer."""


def train_run(
    settings: PretrainSettings, shards_root: Path, out: Path, *, device: str = "cpu"
) -> Path:
    """Pretrain one run, or continue it from its last checkpoint, and write its weights.

    Returns the weights file, `out/weights.safetensors`. On a CPU, resumed and uninterrupted runs
    are bit-identical. A finished run is not trained again; its weights are restored.

    Raises:
        DecurError: unusable settings or data, a loss that is not finite, or a file that is not ours
            at the path of the weights or the log.
    """
    if METHODS[settings.method].released:
        raise DecurError(
            f"method '{settings.method}' pretrains nothing; run decur weights import "
            f"{settings.released} --out {out}"
        )
    job = JobTimer(device, world_size())
    weights = out / WEIGHTS
    on_main(lambda: check_ours(weights, is_weights))
    shards = PairedShards(shards_root)
    model = build_model(settings, shards)
    inputs = {settings.dataset: shards.card.checksum}
    inputs |= start_from_imagenet(model, settings)
    model.to(device)
    origin = provenance(settings, inputs, PACKAGES)
    trained = METHODS[settings.method].trained
    identity, checkpoints = run_identity(settings, inputs), out / CHECKPOINTS
    if trained:
        if on_main(lambda: restore_finished(weights, checkpoints, identity)):
            return weights
        for _ in train_steps(model, settings, shards, out, identity, job):
            pass
    elif settings.imagenet is None:  # an ImageNet file includes the statistics
        set_batch_statistics(model, settings, shards)
    if not is_main():
        return weights
    names = settings.modalities
    record = Weights(
        provenance=origin,
        bands={name: shards.bands(name) for name in names},
        scalings={name: datasets.scaling_in(shards.card, name) for name in names},
        seen={name: shards.seen(name) for name in names},
        job=job.record(),
    )
    save_model(weights, model, record)
    if trained:
        keep_finished(weights, checkpoints, identity)
    return weights


def start_from_imagenet(model: TwoBranch, settings: PretrainSettings) -> dict[str, str]:
    """Load the run's ImageNet file, if any, into both backbones; return its name and SHA-256.

    Raises:
        DecurError: the method needs a file and has none, or the file does not fit.
    """
    if settings.imagenet is None:
        if METHODS[settings.method].imagenet:
            raise DecurError(
                f"scenarios.{settings.scenario}.pretrain.imagenet: method '{settings.method}' "
                f"needs ImageNet weights of {settings.arch}; set the path of a file"
            )
        return {}
    path = Path(settings.imagenet)
    for name, backbone in zip(settings.modalities, model.backbones, strict=True):
        load_imagenet(cast(Backbone, backbone), path, arch=settings.arch_of(name))
    return {path.name: file_checksum(path)}


@torch.no_grad()
def set_batch_statistics(
    model: TwoBranch, settings: PretrainSettings, shards: PairedShards
) -> None:
    """Set the batch-norm statistics of an untrained model from one epoch's views, in place.

    Without them a randomly initialised network in evaluation mode would not normalise at all, which
    would make the baseline too weak.
    """
    device = next(model.parameters()).device
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None  # cumulative average
    synchronise_batch_norm(model)
    model.train()
    one_epoch = settings.model_copy(update={"epochs": 1})
    for step, batch in training_batches(training_rows(shards, settings), one_epoch, 0):
        model(augment_batch(read_batch(shards, batch, settings, step, 1), settings, device))


def prepare(model: TwoBranch, settings: PretrainSettings) -> nn.Module:
    """Wrap the model for training: whole-batch norms, recomputation, compilation, DDP.

    The result is called instead of the model, but shares its parameters. Only the model is saved.
    """
    model.to(memory_format=torch.channels_last)
    synchronise_batch_norm(model)
    recompute_backbones(model, settings.recompute)
    if settings.compile == "all":
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
    part: Phase = record_function,
) -> tuple[Embeddings, Terms]:
    """Embed, compute the loss in float32, update; return detached embeddings and loss terms.

    With `accumulate_chunks`, return the last chunk's embeddings and the mean terms.
    """
    device = views[0][0].device
    optimizer.zero_grad()
    means: Terms = {}
    for chunk in _chunks(views, settings.accumulate_chunks):
        bf16 = torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16")
        with part("forward"), bf16:
            embeddings = network(chunk)
        with part("loss"):
            terms = compute_loss(embeddings, settings, model.log_scale)
            terms = {name: term / settings.accumulate_chunks for name, term in terms.items()}
        with part("backward"):
            terms["loss"].backward()
        means = {name: term.detach() + means.get(name, 0) for name, term in terms.items()}
    with part("optimiser"):
        optimizer.step()
    return [[z.detach() for z in branch] for branch in embeddings], means


def _chunks(views: list[list[Tensor]], count: int) -> Iterator[list[list[Tensor]]]:
    chunked = [[x.chunk(count) for x in branch] for branch in views]
    for i in range(count):
        yield [[chunks[i] for chunks in branch] for branch in chunked]


def _resume(
    folder: Path, identity: str, model: nn.Module, optimizer: torch.optim.Optimizer, job: JobTimer
) -> int:
    """Continue from the last checkpoint, if there is one; return the number of steps done.

    Only the first rank looks for it, because a file system may list different files to each rank.
    """
    state = on_main(lambda: load_checkpoint(folder, identity))
    if state is None:
        return 0
    model.load_state_dict(state["model"])
    capturable = [group.get("capturable") for group in optimizer.param_groups]
    optimizer.load_state_dict(state["optimizer"])
    for group, own in zip(optimizer.param_groups, capturable, strict=True):
        if own is not None:  # a property of how this job runs, not of the earlier one
            group["capturable"] = own
    job.go_on_from(state["times"])
    if is_main():
        print(f"resuming at step {state['step']} from {folder}", flush=True)
    return int(state["step"])


def train_steps(
    model: TwoBranch,
    settings: PretrainSettings,
    shards: PairedShards,
    out: Path,
    identity: str,
    job: JobTimer,
    part: Phase = record_function,
) -> Iterator[dict[str, float]]:
    """Train from the last checkpoint of `identity` in `out` to the end, and save checkpoints.

    Yields the logged values of each step. On a GPU they come one step late, so that it always has
    work. `job` continues from the times in the checkpoint. `part` is called around every part of a
    step.

    Raises:
        DecurError: unusable settings or a loss that is not finite.
        StoppedError: a request to stop; finished steps are saved.
    """
    rows = training_rows(shards, settings)
    optimizer = optimizer_of(model, settings)
    checkpoints = out / CHECKPOINTS
    start = _resume(checkpoints, identity, model, optimizer, job)
    per_epoch = len(rows) // settings.batch_size
    total = settings.epochs * per_epoch
    device = next(model.parameters()).device
    count = count_views(settings)
    beside = SideStream(device)

    def load(item: tuple[int, NDArray[np.int64]]) -> Callable[[], list[list[Tensor]]]:
        batch = read_batch(shards, item[1], settings, item[0], count)
        if device.type == "cuda":
            batch = batch.pinned()
        return beside.start(lambda: augment_batch(batch, settings, device))

    def save(done: int) -> None:
        if is_main():
            states = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            known = {"identity": identity, "step": done, "times": job.times()}
            save_checkpoint(checkpoints, done, known | states)

    network = prepare(model, settings)
    model.train()

    def plain_step(views: list[list[Tensor]]) -> tuple[Embeddings, Terms]:
        return training_step(network, model, optimizer, views, settings, part)

    graphed = _is_graphed(settings, device)
    take_step = GraphedStep(plain_step, optimizer) if graphed else plain_step
    progress = Progress(
        out,
        f"{settings.scenario} {settings.method}",
        start=start,
        total=total,
        pairs=settings.batch_size,
        images=2 * count * settings.batch_size,
    )
    with closing(progress), stop_request() as request:
        for (step, batch), take in ahead(load, training_batches(rows, settings, start)):
            set_lr(optimizer, cosine_factor(step // per_epoch, settings.epochs))
            torch.manual_seed(_seed_of(settings.seed, step))
            with part("augment"):
                views = take()
            embeddings, terms = take_step(views)
            done = step + 1
            due = done % settings.checkpoint_steps == 0 or done % per_epoch == 0
            with part("log"):
                values = _watched(embeddings, settings, step)
                values |= {f"lr{i}": group["lr"] for i, group in enumerate(optimizer.param_groups)}
                if _knn_is_due(settings, done, per_epoch):
                    values |= knn_of_backbones(model.backbones, settings, shards)
                samples = ", ".join(shards.index["id"].iloc[batch[:8]])
                flag = count_ranks(request.name is not None, terms["loss"])
                progress.take(step, samples, terms, values, flag)
                settled = progress.settle(behind=0 if due or device.type == "cpu" else 1)
                stop = progress.stopping and done < total
                if stop:
                    settled += progress.settle(behind=0)
            with part("checkpoint"):
                if stop or due:
                    save(done)
            if stop:
                # The ranks agree on this only after the main rank has saved, because the first rank
                # to exit may end all others.
                warned = bool(count_ranks(request.name == WARNING.name, terms["loss"]))
                raise StoppedError(
                    f"{out}: stopped by {request.name or 'another process'} after step {step}, and "
                    f"saved in {checkpoints}; run again to continue",
                    warned=warned,
                )
            yield from settled


def _seed_of(seed: int, step: int) -> int:
    """Derive the seed of a rank's random numbers (dropped paths) from the step, also on resume."""
    return int(np.random.SeedSequence([seed, step, rank()]).generate_state(1, np.uint64)[0])


def _is_graphed(settings: PretrainSettings, device: torch.device) -> bool:
    if not settings.cuda_graph or device.type == "cpu":
        return False
    if world_size() > 1 or settings.recompute != "none":
        raise DecurError(
            f"scenarios.{settings.scenario}.pretrain.cuda_graph: needs one process and "
            "`recompute: none`; set it to false"
        )
    return True


def _watched(embeddings: Embeddings, settings: PretrainSettings, step: int) -> dict[str, float]:
    """Collect this step's monitored values besides the loss: GPU memory, embedding health."""
    values = {}
    if embeddings[0][0].is_cuda:
        values["memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    if step % settings.monitor_steps == 0:
        values |= signs(embeddings, _dim_common(embeddings, settings))
    return values


def _dim_common(embeddings: Embeddings, settings: PretrainSettings) -> int | None:
    if not METHODS[settings.method].has_unique:
        return None
    return dims_common(settings, embeddings[0][0].shape[1])


def _knn_is_due(settings: PretrainSettings, done: int, per_epoch: int) -> bool:
    due = settings.knn is not None and done % (settings.knn.epochs * per_epoch) == 0
    return due and is_main()
