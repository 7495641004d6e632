"""The registry of transfer protocols: ways to measure what pretrained backbones are worth."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator

from decur.config.strict import check_known


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What the package knows of a protocol without importing it.

    Attributes:
        module: the module with `evaluate(inputs) -> CellResult`, see `decur.transfer.cell`.
        recipe: the key of `Transfer` with its optimisation; None for a protocol without one.
        trains: what is trained by gradient descent; None for a protocol that only encodes images.
        head: what is put on the backbones: the head of the dataset's task, or that of CMX.
        labelled: whether it needs labels of the dataset, and so a recipe for the dataset and a
            fraction of labels. Without labels, a protocol predicts the known factors of scenes.
        predicts: whether it keeps predictions, which a gallery shows.
        distance: how nearest neighbours are found, and with it how they vote.
        part: the part of the embedding that it reads; None for the features of the backbones.
        official: whether it is as in the released code, where that differs from the paper: batch
            norms of frozen backbones go on learning, whatever the recipe's `frozen_mode`.
        work: how often the work of the backbones alone it takes.
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
