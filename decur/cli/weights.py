"""Verbs for pretrained weights: export, import and fetch them, and compute image features."""

import argparse

from decur.cli.parser import Verbs, positive, user_path, user_path_text


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of this module."""
    group = verbs.group("weights", "Exchange backbones with other libraries.")
    verb = group.add(
        "export",
        _export,
        "Write a backbone for another library, with a model card and its preprocessing.",
        "decur weights export results/demo/pretrain/sar-optical/decur/default/seed-0"
        " --modality sar --format safetensors --out sar-backbone",
    )
    verb.add_argument("run", type=user_path, help="folder of a pretraining run, or a weights file")
    verb.add_argument(
        "--modality",
        metavar="NAME",
        help="backbone to export, if the run has two (not for released)",
    )
    verb.add_argument(
        "--format",
        required=True,
        choices=["torchvision", "timm", "torchgeo", "safetensors", "cmx", "released"],
        help="library or code that will read it",
    )
    verb.add_argument("--out", required=True, type=user_path, metavar="DIR", help="output path")
    verb.add_argument(
        "--licence", metavar="ID", help="licence of the weights, by the identifier of model hubs"
    )

    verb = group.add(
        "import",
        _import,
        "Read a file of weights that the paper's authors released.",
        "decur weights import rn50_geonrw_joint_decur_ep100.pth --out geonrw",
    )
    verb.add_argument("file", type=user_path)
    verb.add_argument(
        "--out",
        required=True,
        type=user_path,
        help="output path: a .safetensors file, or a folder for it",
    )
    verb.add_argument(
        "--like",
        metavar="NAME",
        help="released file of the same kind, for a file of unknown checksum",
    )
    verb.add_argument(
        "--pool",
        choices=["token", "mean"],
        help="features of a vision transformer: class token, as in the released code (default), "
        "or mean of the patch tokens",
    )

    verb = group.add(
        "fetch",
        _fetch,
        "Download a file of weights that the paper's authors released, and check it.",
        "decur weights fetch rn50_geonrw_joint_decur_ep100.pth --out released",
    )
    verb.add_argument("name", help="name of the released file")
    verb.add_argument("--out", required=True, type=user_path, metavar="DIR", help="output folder")

    verb = verbs.add(
        "embed",
        _embed,
        "Compute features of your own images with pretrained weights.",
        "decur embed weights.safetensors scene.tif --modality optical --stride 112"
        " --out features.tif",
        "decur embed weights.safetensors photos/*.jpg --modality rgb --out features.parquet",
    )
    verb.add_argument("weights", type=user_path, help="weights.safetensors of a pretraining run")
    verb.add_argument(
        "inputs", nargs="+", type=user_path, metavar="INPUT", help="raster or image files"
    )
    verb.add_argument(
        "--out",
        required=True,
        type=user_path,
        help="output path: .tif, .parquet, .npy, or a folder of GeoTIFFs",
    )
    verb.add_argument("--modality", metavar="NAME", help="modality of the inputs")
    verb.add_argument(
        "--stride",
        type=positive,
        metavar="PIXELS",
        help="step between windows (default: windows side by side)",
    )
    verb.add_argument(
        "--whole", action="store_true", help="one vector per file, as for PNG and JPEG"
    )
    verb.add_argument(
        "--scale",
        metavar="stored|reflectance|elevation|MIN,MAX",
        help="scale of the inputs (default: that of pretraining)",
    )
    verb.add_argument(
        "--bands",
        type=lambda text: tuple(text.split(",")),
        metavar="NAME,...",
        help="bands of the inputs in order, if the files do not name them",
    )
    verb.add_argument(
        "--intrinsics",
        type=user_path_text,
        metavar="FILE",
        help="camera matrix, to convert depth inputs to HHA",
    )
    verb.add_argument("--device", metavar="cpu|cuda", help="default: the GPU, if there is one")
    verb.add_argument(
        "--batch", type=positive, default=64, metavar="N", help="windows or images per batch"
    )
    verb.add_argument("--threads", type=positive, default=1, metavar="N", help="CPU cores to use")


def _embed(args: argparse.Namespace) -> None:
    import torch

    from decur.embed import embed_files, load_encoder
    from decur.imagery.depth import read_intrinsics

    torch.set_num_threads(args.threads)
    encoder = load_encoder(
        args.weights,
        args.modality,
        scale=args.scale,
        file_bands=args.bands,
        intrinsics=None if args.intrinsics is None else read_intrinsics(args.intrinsics),
        device=args.device,
    )
    embed_files(
        encoder, args.inputs, args.out, stride=args.stride, whole=args.whole, batch=args.batch
    )
    print(args.out)


def _export(args: argparse.Namespace) -> None:
    from decur.weights import export

    files = export(
        args.run, args.out, format=args.format, modality=args.modality, licence=args.licence
    )
    print(*files, sep="\n")


def _fetch(args: argparse.Namespace) -> None:
    from decur.download.released import fetch_released

    print(fetch_released(args.name, args.out))


def _import(args: argparse.Namespace) -> None:
    from decur.weights import import_weights

    found = import_weights(args.file, args.out, args.like, pool=args.pool)
    print(f"{found.path}: {found.what}", *found.notes, sep="\n")
