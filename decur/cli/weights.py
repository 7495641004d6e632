"""Verbs of pretrained weights: to and from other libraries."""

import argparse
from pathlib import Path

from decur.cli.parser import Verbs


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
    verb.add_argument("run", type=Path, help="folder of a pretraining run, or a weights file")
    verb.add_argument("--modality", metavar="NAME", help="which backbone, where there are two")
    verb.add_argument(
        "--format",
        required=True,
        choices=["torchvision", "timm", "torchgeo", "safetensors", "cmx"],
        help="what is to read it",
    )
    verb.add_argument("--out", required=True, type=Path, metavar="DIR", help="what is made")
    verb.add_argument("--licence", metavar="ID", help="of the weights, as hubs name it")

    verb = group.add(
        "import",
        _import,
        "Read a file of weights that the paper's authors released.",
        "decur weights import rn50_geonrw_joint_decur_ep100.pth --out geonrw",
    )
    verb.add_argument("file", type=Path)
    verb.add_argument(
        "--out", required=True, type=Path, help="a .safetensors file, or a folder for one"
    )
    verb.add_argument(
        "--like", metavar="NAME", help="the released file that one of unknown checksum is like"
    )


def _export(args: argparse.Namespace) -> None:
    from decur.weights import export

    files = export(
        args.run, args.out, format=args.format, modality=args.modality, licence=args.licence
    )
    print(*files, sep="\n")


def _import(args: argparse.Namespace) -> None:
    from decur.weights import import_weights

    found = import_weights(args.file, args.out, args.like)
    print(f"{found.path}: {found.what}", *found.notes, sep="\n")
