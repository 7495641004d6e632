"""Linear evaluation, fine-tuning and CMX: train a head, with or without the backbones."""

from dataclasses import replace

from decur.config.protocols import PROTOCOLS
from decur.transfer.cell import CellInputs, CellResult
from decur.transfer.fit import train_head
from decur.transfer.task import build_task


def evaluate(inputs: CellInputs) -> CellResult:
    """Train the protocol's head on the labelled samples, and evaluate it."""
    task = build_task(inputs)
    _, recipe = inputs.transfer.protocol(inputs.cell.protocol)
    protocol, frozen = PROTOCOLS[inputs.cell.protocol], None
    if protocol.trains == "head":
        frozen = "official" if protocol.official else inputs.transfer.frozen_mode
        if frozen == "eval":
            task = replace(task, features=inputs.whole_image_features)
    return CellResult(train_head(task, recipe, frozen, inputs.journal), task.labelled, task.keep)
