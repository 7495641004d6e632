r"""What a whole pretraining step costs over the bare forward and backward of the same networks.

Bare: the same backbones and projectors, forward and backward of a sum, on views already there.
Whole: batches read from shards, augmentation, loss, optimiser and log, as `decur pretrain` runs
them, and the time of a checkpoint beside. All in one process; medians.

    python tests/benchmarks/bench_step.py --arch resnet50 --pairs 32 --threads 2
    python tests/benchmarks/bench_step.py --device cuda --pairs 64 --precision bf16 --steps 30 \
        --cuda-graph
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from common import network_options, network_settings, recorded, seconds, write_shards

from decur.config import count_views
from decur.pretrain.loop import prepare, train_run, training_step
from decur.pretrain.optim import build_optimizer
from decur.training.methods import build_model, compute_loss
from decur.training.views import augment_batch, read_batch


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    network_options(parser)
    parser.add_argument("--steps", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    settings = network_settings(args)
    with tempfile.TemporaryDirectory() as folder:
        shards = write_shards(Path(folder) / "shards", args.pairs)
        rows = shards.rows("train")[: args.pairs]
        model = build_model(settings, shards).to(device).train()
        network = prepare(model, settings)
        optimizer = build_optimizer(
            model,
            name="lars",
            lr=0.2,
            lr_1d=0.0048,
            weight_decay=1e-6,
            compiled=settings.compile != "none",
        )
        count = count_views(settings)
        batch = read_batch(shards, rows, settings, 0, count)
        views = augment_batch(batch, settings, device)

        def embed():
            with torch.autocast(device.type, torch.bfloat16, enabled=args.precision == "bf16"):
                return network(views)

        def bare() -> None:
            model.zero_grad()
            sum(z.float().sum() for branch in embed() for z in branch).backward()

        embeddings = [[z.detach().requires_grad_() for z in branch] for branch in embed()]

        def loss() -> None:
            compute_loss(embeddings, settings, None)["loss"].backward()

        parts = {
            "bare forward and backward": seconds(bare, args.steps, device),
            **(
                {"bare, as a CUDA graph": seconds(recorded(bare), args.steps, device)}
                if args.cuda_graph
                else {}
            ),
            "read": seconds(lambda: read_batch(shards, rows, settings, 0, count), 3, device),
            "augment": seconds(lambda: augment_batch(batch, settings, device), 3, device),
            "loss": seconds(loss, 5, device),
            "optimiser": seconds(optimizer.step, 5, device),
            "step without reading": seconds(
                lambda: training_step(
                    network, model, optimizer, augment_batch(batch, settings, device), settings
                ),
                args.steps,
                device,
            ),
        }
        peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None
        run = settings.model_copy(update={"splits": ("train",) * (args.steps + 1)})
        train_run(run, shards.root, Path(folder) / "out", device=args.device)
        lines = (Path(folder) / "out" / "log.jsonl").read_text().splitlines()
        rates = [json.loads(line)["pairs_per_s"] for line in lines][1:]
        parts["whole step, as run"] = args.pairs / statistics.median(rates)
        start = time.perf_counter()
        torch.save({"m": model.state_dict(), "o": optimizer.state_dict()}, Path(folder) / "c.pt")
        parts["checkpoint (once an epoch)"] = time.perf_counter() - start
    bare_s = parts["bare forward and backward"]
    what = f"{args.arch}, {args.pairs} pairs, {args.precision}, {args.device}"
    print(f"{what}, torch {torch.__version__}")
    print("| part | s | of bare |\n|---|---:|---:|")
    for name, value in parts.items():
        print(f"| {name} | {value:.4f} | {value / bare_s:.3f} |")
    images = 2 * count * args.pairs / parts["whole step, as run"]
    memory = "" if peak is None else f"; peak memory {peak:.1f} GiB"
    print(f"\n{images:.0f} images/s{memory}")


if __name__ == "__main__":
    main()
