"""Every key of the configuration is described in its JSON schema, for editors and readers."""

import pytest

from decur.config import Config

SCHEMA = Config.model_json_schema()
MODELS = {"Config": SCHEMA, **SCHEMA["$defs"]}
KEYS = [(model, key) for model, part in MODELS.items() for key in part["properties"]]


@pytest.mark.parametrize(("model", "key"), KEYS, ids=[f"{model}.{key}" for model, key in KEYS])
def test_every_key_has_a_description_in_one_line(model, key):
    text = MODELS[model]["properties"][key].get("description", "")
    assert text, f"{model}.{key}: no description; add `Field(description=...)` in decur/config"
    assert "\n" not in text
