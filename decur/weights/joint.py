"""Convert a run's weights to the form of the authors' joint files, for their scripts."""

from pathlib import Path

from decur import datasets
from decur.artifacts.records import Weights
from decur.config.architectures import with_format
from decur.config.released import RELEASED_FORMAT, RELEASED_PAIRS, Scenario
from decur.errors import DecurError
from decur.weights.files import branch_weights, branches_of, recorded_arch
from decur.weights.first_layer import in_their_bands
from decur.weights.naming import ReleasedParts, Tensors, below, to_published, to_released


def joint_tensors(path: Path, tensors: Tensors, record: Weights) -> Tensors:
    """Combine backbones, heads, projectors and normaliser under the names of a joint file.

    Raises:
        DecurError: the file lacks a backbone, or the authors' scripts cannot read its modalities,
            bands or architectures.
    """
    scenario = released_scenario(path, tensors, record)
    backbones = []
    for branch, name in enumerate(scenario.presets):
        arch = str(recorded_arch(record, name))
        own = in_their_bands(branch_weights(tensors, branch), name, scenario)
        backbones.append(to_published(arch, own))
    heads, projectors = (
        tuple(part for branch in (0, 1) if (part := below(tensors, f"{kind}.{branch}.")))
        for kind in ("heads", "projectors")
    )
    return to_released(ReleasedParts(tuple(backbones), heads, projectors))


def released_scenario(path: Path, tensors: Tensors, record: Weights) -> Scenario:
    """Find the released pair of modalities that a weights file belongs to.

    Raises:
        DecurError: it belongs to none.
    """
    names = list(record.provenance.settings["modalities"])
    scenario = next((s for s in RELEASED_PAIRS.values() if list(s.presets) == names), None)
    if scenario is None:
        known = "; ".join(" and ".join(s.presets) for s in RELEASED_PAIRS.values())
        raise DecurError(
            f"{path}: has {' and '.join(names)}; the authors' scripts read {known}, in this order"
        )
    if branches_of(tensors) != [0, 1]:
        raise DecurError(
            f"{path}: has one backbone, but the released form needs both; use a file with both"
        )
    facts = {m.name: m.bands for m in datasets.load(scenario.dataset).DATASET.modalities}
    for name in names:
        bands = tuple(record.bands[name])
        if bands != facts[name]:
            raise DecurError(
                f"{path}: {name} has the bands {', '.join(bands)}; the authors' scripts read "
                f"{', '.join(facts[name])}"
            )
    archs = [recorded_arch(record, name) for name in names]
    fitting = with_format(RELEASED_FORMAT)
    if archs[0] != archs[1] or archs[0] not in fitting:
        raise DecurError(
            f"{path}: its backbones are {archs[0]} and {archs[1]}; the released form needs two of "
            f"{', '.join(fitting)}"
        )
    return scenario
