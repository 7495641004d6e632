"""The registry of transfer protocols: ways to evaluate pretrained backbones."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator

from decur.config.strict import check_known


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The properties of a protocol, available without importing its module.

    Attributes:
        module: the module with `evaluate(inputs) -> CellResult`, see `decur.transfer.cell`.
        recipe: the key of its recipe in `Transfer`; None for a protocol without a recipe.
        trains: the part trained by gradient descent; None for a protocol that only encodes images.
        head: the head on the backbones: that of the dataset's task, or that of CMX.
        labelled: whether it needs labels, and therefore a recipe for the dataset and a share of
            labels. A protocol without labels predicts the known factors of scenes.
        predicts: whether it keeps predictions, which a gallery can show.
        distance: the distance between neighbours, which also determines how they vote.
        part: the part of the embedding that it evaluates; None for the features of the backbones.
        official: whether it follows the released code where the paper differs: the batch norms of
            frozen backbones keep learning, and the recipe's `frozen_mode` is ignored.
        work: its cost relative to the backbones alone.
    """

    module: str
    recipe: Literal["linear", "fine_tune", "cmx"] | None = None
    trains: Literal["head", "all"] | None = None
    head: Literal["task", "cmx"] = "task"
    labelled: bool = True
    predicts: bool = False
    distance: Literal["cosine", "euclidean"] = "cosine"
    part: Literal["common", "unique"] | None = None
    official: bool = False
    work: float = 1


HEADS, PROBES = "decur.transfer.protocols.heads", "decur.transfer.protocols.probes"
NEIGHBOURS = "decur.transfer.protocols.neighbours"

PROTOCOLS = {
    "linear": Protocol(module=HEADS, recipe="linear", trains="head", predicts=True),
    "linear-official": Protocol(
        module=HEADS, recipe="linear", trains="head", predicts=True, official=True
    ),
    "fine-tune": Protocol(module=HEADS, recipe="fine_tune", trains="all", predicts=True),
    "cmx": Protocol(
        module=HEADS,
        recipe="cmx",
        trains="all",
        head="cmx",
        predicts=True,
        work=1.5,  # assumed: fusion and decoder over its two backbones
    ),
    "knn": Protocol(module=NEIGHBOURS),
    "knn-5": Protocol(module=NEIGHBOURS, distance="euclidean"),
    "logistic": Protocol(module="decur.transfer.protocols.logistic"),
    "probe": Protocol(module=PROBES, labelled=False),
    "probe-common": Protocol(module=PROBES, labelled=False, part="common"),
    "probe-unique": Protocol(module=PROBES, labelled=False, part="unique"),
}


def _is_protocol(name: str) -> str:
    return check_known(name, PROTOCOLS, "protocol")


ProtocolName = Annotated[str, AfterValidator(_is_protocol)]
