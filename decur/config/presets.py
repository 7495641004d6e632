"""The augmentation that a scenario gives a modality: a preset, or one with changes."""

from typing import Any

from decur.config.pretraining import Augment

Preset = str | Augment
"""The name of a preset, or one with changes."""


def preset_of(given: Preset) -> tuple[str, dict[str, Any]]:
    """The name of the preset, and the values that differ from it by name."""
    if isinstance(given, str):
        return given, {}
    changes = given.model_dump(exclude_none=True)
    return changes.pop("like"), changes
