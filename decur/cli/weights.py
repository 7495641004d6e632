"""Verbs of pretrained weights: to and from other libraries, and features of own images."""

import argparse

from decur.cli.parser import Verbs, positive, user_path, user_path_text


def add_verbs(verbs: Verbs) -> None:
    """The verbs of this module."""
    group = verbs.group("weights", "Backbones to and from other libraries.")
    verb = group.add(
        "export",
        _export,
        "Write a backbone for another library, with a model card and its preprocessing.",
        "decur weights export results/demo/pretrain/sar-optical/decur/default/seed-0"
        " --modality sar --format safetensors --out sar-backbone",
    )
    verb.add_argument("run", type=user_path, help="folder of a pretraining run, or a weights file")
    verb.add_argument(
        "--modality", metavar="NAME", help="which backbone, where there are two (but for released)"
    )
    verb.add_argument(
        "--format",
        required=True,
        choices=["torchvision", "timm", "torchgeo", "safetensors", "cmx", "released"],
        help="what is to read it",
    )
    verb.add_argument("--out", required=True, type=user_path, metavar="DIR", help="output path")
    verb.add_argument("--licence", metavar="ID", help="of the weights, as hubs name it")

    verb = group.add(
        "import",
        _import,
        "Read a file of weights that the paper's authors released.",
        "decur weights import rn50_geonrw_joint_decur_ep100.pth --out geonrw",
    )
    verb.add_argument("file", type=user_path)
    verb.add_argument(
        "--out", required=True, type=user_path, help="a .safetensors file, or a folder for one"
    )
    verb.add_argument(
        "--like", metavar="NAME", help="the released file that one of unknown checksum is like"
    )
    verb.add_argument(
        "--pool",
        choices=["token", "mean"],
        help="features of a vision transformer: its class token, as in the released code (default),"
        " or the mean of its patches",
    )

    verb = group.add(
        "fetch",
        _fetch,
        "Download a file of weights that the paper's authors released, and check it.",
        "decur weights fetch rn50_geonrw_joint_decur_ep100.pth --out released",
    )
    verb.add_argument("name", help="as the authors named it")
    verb.add_argument("--out", required=True, type=user_path, metavar="DIR", help="folder for it")

    verb = verbs.add(
        "embed",
        _embed,
        "Features of your own images from pretrained weights.",
        "decur embed weights.safetensors scene.tif --modality optical --stride 112"
        " --out features.tif",
        "decur embed weights.safetensors photos/*.jpg --modality rgb --out features.parquet",
    )
    verb.add_argument("weights", type=user_path, help="weights.safetensors of a pretraining run")
    verb.add_argument(
        "inputs", nargs="+", type=user_path, metavar="INPUT", help="rasters or images"
    )
    verb.add_argument(
        "--out", required=True, type=user_path, help=".tif, .parquet, .npy, or a folder of GeoTIFFs"
    )
    verb.add_argument("--modality", metavar="NAME", help="of which the inputs are")
    verb.add_argument(
        "--stride", type=positive, metavar="PIXELS", help="default: windows side by side"
    )
    verb.add_argument("--whole", action="store_true", help="one vector a file, as of PNG and JPEG")
    verb.add_argument(
        "--scale", metavar="stored|reflectance|elevation|MIN,MAX", help="default: of pretraining"
    )
    verb.add_argument(
        "--bands",
        type=lambda text: tuple(text.split(",")),
        metavar="NAME,...",
        help="bands of the inputs, in their order, where the files do not name them",
    )
    verb.add_argument(
        "--intrinsics",
        type=user_path_text,
        metavar="FILE",
        help="camera matrix: inputs are depth, to become HHA",
    )
    verb.add_argument("--device", metavar="cpu|cuda", help="default: the GPU where there is one")
    verb.add_argument(
        "--batch", type=positive, default=64, metavar="N", help="windows or images at once"
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
