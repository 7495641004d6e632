"""Resolve the augmentation of a modality in a scenario: a preset, or a preset with changes."""

from typing import Any

from decur.config.pretraining import Augment

Preset = str | Augment
"""The name of a preset, or a preset with changes."""


def preset_of(given: Preset) -> tuple[str, dict[str, Any]]:
    """Return the name of the preset, and the changed values by name."""
    if isinstance(given, str):
        return given, {}
    changes = given.model_dump(exclude_none=True)
    return changes.pop("like"), changes
