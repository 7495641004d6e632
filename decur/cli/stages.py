"""Verbs of the stages from download to explain, which the workflow's rules call.

`--settings` takes the stage's resolved settings as JSON, or a file that contains them.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from decur.cli.parser import Parser, Verbs, positive, user_path, user_path_text
from decur.errors import DecurError

if TYPE_CHECKING:
    from pydantic import BaseModel

S = TypeVar("S", bound="BaseModel")
Call = Callable[[argparse.Namespace], None]
RUN = "results/demo/pretrain/rgb-dem/decur/default/seed-0"


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of this module."""
    verb = verbs.add(
        "download",
        _download,
        "Download a dataset's raw files, or draw synthetic ones.",
        "decur download geonrw --out raw/geonrw",
        "decur download nyuv2 --from ~/archives --out raw/nyuv2 --threads 4",
    )
    verb.add_argument("dataset")
    _add_stage(verb, settings="{}")
    verb.add_argument(
        "--from",
        dest="archives",
        type=user_path_text,
        metavar="DIR",
        help="folder of archives that are already on disk",
    )
    verb.add_argument(
        "--unpack",
        action="store_true",
        help="unpack the archives instead of listing their members",
    )

    verb = verbs.add(
        "preprocess",
        _preprocess,
        "Turn raw files into paired shards.",
        "decur preprocess geonrw --settings '{\"pixels\": 250}' --raw raw/geonrw"
        " --out shards/geonrw",
    )
    verb.add_argument("dataset")
    _add_stage(verb)
    verb.add_argument(
        "--raw",
        required=True,
        type=user_path,
        metavar="DIR",
        help="folder of the dataset's raw files",
    )
    verb.add_argument(
        "--piece",
        metavar="K-of-N",
        help="do only this part of the work; after all parts, run again without this option",
    )

    verb = verbs.add(
        "verify",
        _verify,
        "Check every byte of a folder of shards.",
        "decur verify results/demo/shards/geonrw --threads 2",
    )
    verb.add_argument("path", type=user_path, metavar="DIR", help="folder of a dataset's shards")
    _add_threads(verb)

    verb = verbs.add(
        "pretrain",
        _warned(_pretrain),
        "Pretrain one run, or continue it from its last checkpoint.",
        f"decur pretrain --settings run.json --shards results/demo/shards/geonrw --out {RUN}",
    )
    _add_stage(verb)
    verb.add_argument(
        "--shards", required=True, type=user_path, metavar="DIR", help="shards of the dataset"
    )
    verb.add_argument(
        "--profile",
        action="store_true",
        help="measure the time of each part of ten steps, without training",
    )
    _add_requeue(verb)

    verb = verbs.add(
        "transfer",
        _warned(_transfer),
        "Evaluate a run's backbones on labelled data.",
        "decur transfer geonrw/rgb+dem/linear/labels-100 --settings transfer.json"
        f" --weights {RUN}/weights.safetensors --shards results/demo/shards --out transfer",
    )
    verb.add_argument("cells", nargs="+", metavar="dataset/modalities/protocol/labels-n")
    _add_stage(verb)
    _add_weights(verb)
    verb.add_argument(
        "--shards",
        required=True,
        type=user_path,
        metavar="DIR",
        help="folder that contains the shards of all datasets",
    )
    verb.add_argument(
        "--resume",
        action="store_true",
        help="keep the cells that an interrupted evaluation finished; list all cells in cells.json",
    )
    _add_requeue(verb)

    verb = verbs.add(
        "explain",
        _warned(_explain),
        "Apply an explainer to the backbones and embeddings of a run.",
        f"decur explain alignment --settings explain.json --weights {RUN}/weights.safetensors"
        " --shards results/demo/shards/geonrw --out alignment.csv",
    )
    verb.names = _explainers
    verb.add_argument("kind", help="name of the explainer")
    _add_stage(verb, out="FILE")
    _add_weights(verb)
    verb.add_argument(
        "--shards", required=True, type=user_path, metavar="DIR", help="shards of the dataset"
    )
    _add_requeue(verb)


def _add_stage(verb: Parser, *, settings: str | None = None, out: str = "DIR") -> None:
    verb.add_argument(
        "--settings",
        required=settings is None,
        default=settings,
        type=_json_or_path,
        metavar="JSON",
        help="resolved settings, or a file that contains them (snakemake --printshellcmds shows "
        "those of each job)",
    )
    verb.add_argument("--out", required=True, type=user_path, metavar=out, help="output path")
    _add_threads(verb)


def _json_or_path(text: str) -> str:
    return text if text.lstrip().startswith("{") else user_path_text(text)


def _add_threads(verb: Parser) -> None:
    verb.add_argument("--threads", type=positive, default=1, metavar="N", help="CPU cores to use")


def _add_weights(verb: Parser) -> None:
    verb.add_argument(
        "--weights", required=True, type=user_path, metavar="FILE", help="weights of the run"
    )


def _add_requeue(verb: Parser) -> None:
    verb.add_argument(
        "--requeue",
        action="store_true",
        help="after SIGUSR1, requeue this SLURM job, which then continues from its checkpoint",
    )


def _warned(call: Call) -> Call:
    """Wrap a verb so that it notices the warning of a time limit from the start.

    The warning may come while torch is loaded and ranks wait for one another.
    """

    def noting(args: argparse.Namespace) -> None:
        from decur.cluster.signals import WARNING, stop_request

        with stop_request(WARNING):
            call(args)

    return noting


def _download(args: argparse.Namespace) -> None:
    from decur.cluster.workers import prepare_workers
    from decur.config import DatasetSettings

    settings = _settings(DatasetSettings, args.settings)
    if settings.source == "scenes":
        prepare_workers(args.threads)
    from decur.cluster.user_paths import expand_environment
    from decur.config.source_paths import SAMPLES_VARIABLE
    from decur.download.run import download

    if settings.source == "samples":
        expand_environment(SAMPLES_VARIABLE)
    if args.archives is not None:
        settings = settings.model_copy(update={"archives": args.archives})
    if args.unpack:
        settings = settings.model_copy(update={"unpack": True})
    download(args.dataset, settings, args.out, workers=args.threads)


def _preprocess(args: argparse.Namespace) -> None:
    from decur.cluster.workers import prepare_workers

    prepare_workers(args.threads)  # their imports take as long as those below, so they overlap
    from decur.config import DatasetSettings, Piece
    from decur.preprocess.run import preprocess

    settings = _settings(DatasetSettings, args.settings)
    piece = None if args.piece is None else Piece.parse(args.piece)
    preprocess(args.dataset, settings, args.raw, args.out, workers=args.threads, piece=piece)


def _verify(args: argparse.Namespace) -> None:
    from decur.shards.verify import verify

    if not args.path.is_dir():
        raise DecurError(f"{args.path}: no such folder; give a folder of shards, with a card.json")
    faults = verify(args.path, workers=args.threads)
    for fault in faults:
        print(fault)
    if faults:
        raise DecurError(
            f"{args.path}: {len(faults)} faults; delete the files named above and run the "
            "preprocess stage again"
        )
    print(f"{args.path}: every byte is as it was written")


def _pretrain(args: argparse.Namespace) -> None:
    from decur.config import PretrainSettings
    from decur.pretrain.run import pretrain

    settings = _settings(PretrainSettings, args.settings)
    device = _device(args.threads)
    if args.profile:
        from decur.pretrain.step_profile import profile_steps

        parts = profile_steps(settings, args.shards, args.out, device=device)
        print(parts.to_markdown(index=False, floatfmt=".1f"))
        print(f"Trace: {args.out / 'profile.json'}")
        return
    pretrain(settings, args.shards, args.out, device=device, requeue=args.requeue)


def _transfer(args: argparse.Namespace) -> None:
    from decur.artifacts.paths import Cell
    from decur.cluster.requeue import run_again
    from decur.config import TransferSettings
    from decur.transfer.run import transfer

    settings = _settings(TransferSettings, args.settings)
    cells = [Cell.parse(text) for text in args.cells]
    device, places = _device(args.threads), (args.weights, args.shards, args.out)
    with run_again(args.requeue):
        transfer(settings, cells, *places, resume=args.resume, device=device)


def _explainers() -> str:
    from decur.config import EXPLAINERS

    return f"explainers: {', '.join(EXPLAINERS)}"


def _explain(args: argparse.Namespace) -> None:
    from decur.cluster.requeue import run_again
    from decur.config import EXPLAINERS, explain_settings_type
    from decur.explain.run import explain

    if args.kind not in EXPLAINERS:
        raise DecurError(f"explain '{args.kind}': unknown; known are {', '.join(EXPLAINERS)}")
    settings = _settings(explain_settings_type(args.kind), args.settings)
    device = _device(args.threads)
    with run_again(args.requeue):
        explain(args.kind, settings, args.weights, args.shards, args.out, device=device)


def _settings(model: type[S], text: str) -> S:
    from pydantic import ValidationError

    from decur.config import first_problem

    path = Path(text) if not text.lstrip().startswith("{") else None
    if path is not None and not path.is_file():
        raise DecurError(f"--settings: no such file {path}; correct its path")
    try:
        json = path.read_text(encoding="utf-8") if path is not None else text
        return model.model_validate_json(json)
    except ValidationError as error:
        raise DecurError(first_problem(error, str(path or "--settings"), _tree(json))) from None


def _tree(text: str) -> Any:
    """Parse a JSON text; None if it is invalid."""
    import json

    try:
        return json.loads(text)
    except ValueError:
        return None


def _device(threads: int) -> str:
    """Limit torch to the job's threads, and choose the GPU if there is one."""
    import torch

    torch.set_num_threads(threads)
    return "cuda" if torch.cuda.is_available() else "cpu"
