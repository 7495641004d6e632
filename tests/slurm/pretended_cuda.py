"""A sitecustomize.py for `decur pretrain` that pretends CUDA, up to the process group.

Each rank notes the device that it chooses, and ends when all have joined.
"""

import json
import os
import sys
from pathlib import Path


def pretend() -> None:
    """Replace what `decur pretrain` asks of CUDA before it has joined the group."""
    import torch
    import torch.distributed as dist

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    count = len(visible.split(",")) if visible else 0
    join = dist.init_process_group

    def set_device(index: int) -> None:
        if not 0 <= int(index) < count:
            raise RuntimeError("CUDA error: invalid device ordinal")
        found = {"index": int(index), "visible": visible}
        found["local_rank"] = int(os.environ["LOCAL_RANK"])
        path = Path(__file__).with_name(f"rank-{os.environ['RANK']}.json")
        with path.open("x") as file:  # A second job here would mix its ranks with these.
            json.dump(found, file)

    def init_process_group(backend: str, **options: object) -> None:
        assert backend == "nccl"
        join("gloo")
        dist.barrier()
        if dist.get_rank() == 0:  # Snakemake expects it of a job that ends well
            out = Path(sys.argv[sys.argv.index("--out") + 1])
            out.mkdir(parents=True, exist_ok=True)
            (out / "weights.safetensors").touch()
        dist.barrier()
        os._exit(0)

    torch.cuda.is_available = lambda: True
    torch.cuda.device_count = lambda: count
    torch.cuda.set_device = set_device
    dist.init_process_group = init_process_group


if sys.orig_argv[2:3] == ["pretrain"]:
    pretend()
