"""`decur <verb>`: parse, call one function, print; one line for an error.

The workflow's rules call these verbs. `--settings` is the stage's own resolved settings as JSON, or
a file of it; heavy imports wait until a verb needs them.
"""

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import decur
from decur.errors import DecurError

if TYPE_CHECKING:
    from decur.config import Config
    from decur.experiments import Experiment
    from decur.paths import Paths

S = TypeVar("S")


def _settings(model: type[S], text: str) -> S:
    from pydantic import ValidationError

    from decur.config import first_problem

    path = Path(text) if not text.lstrip().startswith("{") else None
    if path is not None and not path.is_file():
        raise DecurError(f"--settings: no such file {path}")
    try:
        json = path.read_text() if path is not None else text
        return model.model_validate_json(json)  # type: ignore[attr-defined]
    except ValidationError as error:
        raise DecurError(first_problem(error, str(path or "--settings"))) from None


def _download(args: argparse.Namespace) -> None:
    from decur.config import DatasetSettings
    from decur.download.raw import download

    settings = _settings(DatasetSettings, args.settings)
    if args.archives is not None:
        settings = settings.model_copy(update={"archives": args.archives})
    download(args.dataset, settings, args.out, workers=args.threads)


def _preprocess(args: argparse.Namespace) -> None:
    from decur.config import DatasetSettings, Piece
    from decur.datasets.convert import preprocess

    settings = _settings(DatasetSettings, args.settings)
    piece = None if args.piece is None else Piece.parse(args.piece)
    preprocess(args.dataset, settings, args.raw, args.out, workers=args.threads, piece=piece)


def _verify(args: argparse.Namespace) -> None:
    from decur.shards.verify import verify

    faults = verify(args.path, workers=args.threads)
    for fault in faults:
        print(fault)
    if faults:
        raise DecurError(f"{args.path}: {len(faults)} faults; run the preprocess stage again")
    print(f"{args.path}: every byte is as it was written")


def _pretrain(args: argparse.Namespace) -> None:
    from decur.config import PretrainSettings
    from decur.launch import run_pretrain

    settings = _settings(PretrainSettings, args.settings)
    device = _device(args.threads)
    if args.profile:
        from decur.step_profile import profile_steps

        parts = profile_steps(settings, args.shards, args.out, device=device)
        print(parts.to_markdown(index=False, floatfmt=".1f"))
        print(f"Trace: {args.out / 'profile.json'}")
        return
    run_pretrain(settings, args.shards, args.out, device=device, requeue=args.requeue)


def _submit(args: argparse.Namespace) -> None:
    from decur.config import load_config, pretrain_settings
    from decur.paths import Paths, Run
    from decur.submit import Allocation, follow, submit_pretrain

    config, run = load_config(args.config), Run.parse(args.run)
    paths, settings = Paths(config.results, config.scale), pretrain_settings(config, run)
    options = dict(_key_and_value(text) for text in args.option)
    allocation = Allocation(
        cluster=args.cluster,
        nodes=args.nodes,
        tasks=args.tasks,
        gpus=not args.no_gpus,
        cpus=args.cpus,
        memory_gb=args.memory_gb,
        minutes=args.minutes,
        options=options,
    )
    shards, out = Path(paths.shards(settings.dataset)), Path(paths.pretrain(str(run)))
    job = submit_pretrain(settings, shards, out, allocation)
    print(f"{run}: submitted as job {job.job_id}; log: {job.paths.stdout}", flush=True)
    if not args.no_follow:
        follow(job)


def _key_and_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise DecurError(f"--option {text}: expected key=value, for example partition=gpu")
    return key, value


def _transfer(args: argparse.Namespace) -> None:
    from decur.config import TransferSettings
    from decur.paths import Cell
    from decur.transfer.run import transfer

    settings = _settings(TransferSettings, args.settings)
    cells = [Cell.parse(text) for text in args.cells]
    transfer(settings, cells, args.weights, args.shards, args.out, device=_device(args.threads))


def _explain(args: argparse.Namespace) -> None:
    from decur.config import EXPLAINERS
    from decur.explain.run import explain

    if args.kind not in EXPLAINERS:
        raise DecurError(f"explain '{args.kind}': unknown; known are {', '.join(EXPLAINERS)}")
    settings = _settings(EXPLAINERS[args.kind], args.settings)
    device = _device(args.threads)
    explain(args.kind, settings, args.weights, args.shards, args.out, device=device)


def _embed(args: argparse.Namespace) -> None:
    import torch

    from decur.embed import embed_files, load_encoder
    from decur.preprocess.depth import read_intrinsics

    torch.set_num_threads(args.threads)
    encoder = load_encoder(
        args.weights,
        args.modality,
        scale=args.scale,
        intrinsics=None if args.intrinsics is None else read_intrinsics(args.intrinsics),
        device=args.device,
    )
    embed_files(
        encoder, args.inputs, args.out, stride=args.stride, whole=args.whole, batch=args.batch
    )
    print(args.out)


def _tables(args: argparse.Namespace) -> None:
    from decur.tables.write import write_experiment

    chosen, config, paths = _scale(args.results, args.experiments, args.only or ())
    for name in args.only or chosen:
        if name not in chosen:
            raise DecurError(
                f"--only {name}: not among the scale's experiments: {', '.join(chosen)}"
            )
        write_experiment(name, chosen[name], config, paths)
        print(args.results / "tables" / f"{name}.md")


def _report(args: argparse.Namespace) -> None:
    from decur.tables.report import write_report

    write_report(*_scale(args.results, None))
    print(args.results / "report.html")


def _scale(
    results: Path, experiments: str | None, only: Sequence[str] = ()
) -> "tuple[dict[str, Experiment], Config, Paths]":
    """The experiments, configuration and paths of the scale that has its results in a folder.

    Of `experiments` that are given it may be `only` some, which the scale need not ask for.
    """
    from decur.config import load_config
    from decur.experiments import chosen_experiments, load_experiments
    from decur.paths import Paths

    folder = results.absolute()
    paths = Paths(str(folder.parent), folder.name)
    source = experiments or paths.experiments()
    for path in (paths.config(), source):
        if not Path(path).is_file():
            raise DecurError(
                f"{path}: not there; name the folder of a scale, results/<scale>, in which the "
                "workflow has begun"
            )
    config = load_config(paths.config())
    if experiments and only:
        config = config.model_copy(update={"experiments": tuple(only)})
    return chosen_experiments(load_experiments(source), config), config, paths


def _provenance(args: argparse.Namespace) -> None:
    from decur.lineage import changed, lineage, render

    chain = lineage(args.file)
    print(render(chain))
    if found := changed(chain):
        raise DecurError(f"{args.file}: changed since: {', '.join(found)}; run their stages again")


def _schema(args: argparse.Namespace) -> None:
    import json

    from decur.config import Config

    print(json.dumps(Config.model_json_schema(), indent=1))


def _plan(args: argparse.Namespace) -> None:
    from decur.plan import plan

    print(plan(args.targets, args.profile, args.configfile, args.config))


def _device(threads: int) -> str:
    """Limit torch to the job's threads; the GPU where there is one."""
    import torch

    torch.set_num_threads(threads)
    return "cuda" if torch.cuda.is_available() else "cpu"


def command_line() -> argparse.ArgumentParser:
    """The verbs and their arguments."""
    parser = argparse.ArgumentParser(prog="decur", description=decur.__doc__)
    parser.add_argument("--version", action="version", version=decur.__version__)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = parser.add_subparsers(metavar="verb", required=True)

    def verb(name: str, call: Callable[[argparse.Namespace], None], text: str):  # type: ignore[no-untyped-def]
        sub = verbs.add_parser(name, help=text, description=text)
        sub.set_defaults(call=call)
        return sub

    def stage(  # type: ignore[no-untyped-def]
        name: str,
        call: Callable[[argparse.Namespace], None],
        text: str,
        settings: str | None = None,
    ):
        sub = verb(name, call, text)
        sub.add_argument(
            "--settings",
            required=settings is None,
            default=settings,
            metavar="JSON",
            help="resolved settings",
        )
        sub.add_argument("--out", required=True, type=Path)
        sub.add_argument("--threads", type=int, default=1)
        return sub

    sub = stage("download", _download, "Fill a dataset's raw folder.", settings="{}")
    sub.add_argument("dataset")
    sub.add_argument(
        "--from", dest="archives", metavar="DIR", help="folder of archives that you have already"
    )
    sub = stage("preprocess", _preprocess, "Turn raw files into paired shards.")
    sub.add_argument("dataset")
    sub.add_argument("--raw", required=True, type=Path)
    sub.add_argument(
        "--piece",
        metavar="K-of-N",
        help="write this part of the shards alone; once all are there, run again without it",
    )
    sub = verb("verify", _verify, "Check every byte of a shards folder.")
    sub.add_argument("path", type=Path)
    sub.add_argument("--threads", type=int, default=1)
    sub = stage("pretrain", _pretrain, "Pretrain one run, or go on with it.")
    sub.add_argument("--shards", required=True, type=Path, help="shards of the dataset")
    sub.add_argument(
        "--profile", action="store_true", help="time the parts of ten steps, and train nothing"
    )
    sub.add_argument(
        "--requeue",
        action="store_true",
        help="warned by SIGUSR1, have SLURM run this job again, which goes on from what it saved",
    )
    sub = verb("submit", _submit, "Submit a run without Snakemake, and follow its log.")
    sub.add_argument("stage", choices=["pretrain"])
    sub.add_argument("run", metavar="scenario/method/variant/seed-n")
    sub.add_argument("--config", required=True, metavar="FILE", help="YAML file of the scale")
    sub.add_argument("--cluster", choices=["slurm", "local"], default="slurm")
    sub.add_argument("--nodes", type=int, default=1)
    sub.add_argument("--tasks", type=int, default=1, help="processes a node, a GPU for each")
    sub.add_argument("--no-gpus", action="store_true")
    sub.add_argument("--cpus", type=int, default=8, help="for each process")
    sub.add_argument("--memory-gb", type=int, default=60, help="for each node")
    sub.add_argument("--minutes", type=int, default=1440, help="time limit of one piece of the run")
    sub.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="for sbatch (repeatable)"
    )
    sub.add_argument("--no-follow", action="store_true", help="do not wait for the job")
    sub = stage("transfer", _transfer, "Evaluate a run's backbones on labelled data.")
    sub.add_argument("cells", nargs="+", metavar="dataset/modalities/protocol/labels-n")
    sub.add_argument("--weights", required=True, type=Path)
    sub.add_argument("--shards", required=True, type=Path, help="folder of all datasets' shards")
    sub = stage("explain", _explain, "What the embedding dimensions of a run hold.")
    sub.add_argument("kind", metavar="alignment|tsne|gradcam|saliency|spectral|share")
    sub.add_argument("--weights", required=True, type=Path)
    sub.add_argument("--shards", required=True, type=Path, help="shards of the dataset")
    sub = verb("embed", _embed, "Features of your own images from pretrained weights.")
    sub.epilog = (
        "example: decur embed weights.safetensors scene.tif --modality optical --stride 112 "
        "--out features.tif"
    )
    sub.add_argument("weights", type=Path, help="weights.safetensors of a pretraining run")
    sub.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="rasters or images")
    sub.add_argument(
        "--out", required=True, type=Path, help=".tif, .parquet, .npy, or a folder of GeoTIFFs"
    )
    sub.add_argument("--modality", help="of which the inputs are")
    sub.add_argument("--stride", type=int, metavar="PIXELS", help="default: windows side by side")
    sub.add_argument("--whole", action="store_true", help="one vector a file, as of PNG and JPEG")
    sub.add_argument(
        "--scale", metavar="stored|reflectance|elevation|MIN,MAX", help="default: of pretraining"
    )
    sub.add_argument(
        "--intrinsics", metavar="FILE", help="camera matrix: inputs are depth, to become HHA"
    )
    sub.add_argument("--device", metavar="cpu|cuda", help="default: the GPU where there is one")
    sub.add_argument("--batch", type=int, default=64, help="windows or images at once")
    sub.add_argument("--threads", type=int, default=1)
    sub = verb("tables", _tables, "Collate whatever results there are into tables and figures.")
    sub.add_argument("results", type=Path, help="folder of a scale's results")
    sub.add_argument(
        "--experiments", metavar="FILE", help="in place of the experiments.yaml among the results"
    )
    sub.add_argument("--only", action="append", metavar="NAME", help="this one alone (repeatable)")
    sub = verb("report", _report, "One page of whatever results there are.")
    sub.add_argument("results", type=Path, help="folder of a scale's results")
    sub = verb("provenance", _provenance, "Where a product is from, back to the archives.")
    sub.add_argument("file", type=Path, help="table, figure, metrics, weights, shards, raw files")
    sub = verb("plan", _plan, "What snakemake would do now, and about what it would cost.")
    sub.add_argument("targets", nargs="*", help="as of snakemake (default: everything)")
    sub.add_argument("--profile", metavar="NAME", help="as of snakemake, or a folder of profiles/")
    sub.add_argument("--configfile", nargs="+", metavar="FILE", help="as of snakemake")
    sub.add_argument("--config", nargs="+", metavar="KEY=VALUE", help="as of snakemake")
    verb("schema", _schema, "Print the JSON schema of the configuration.")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    args = command_line().parse_args(argv)
    try:
        args.call(args)
    except (DecurError, OSError) as error:
        if args.debug:
            traceback.print_exc()
        print(f"decur: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
