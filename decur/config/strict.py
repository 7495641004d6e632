"""Common base of the configuration: strict models, value types, marks, one-line errors."""

import difflib
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from decur.cluster.user_paths import expand

T = TypeVar("T")

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
"""A name that is used in paths and commands."""


def slug(text: str) -> str:
    """Spell a text with lower-case letters, digits and hyphens only; empty if none remain."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


ModalityName = Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]


Count = Annotated[int, Field(ge=1)]


Pixels = Annotated[int, Field(ge=16)]


Positive = Annotated[float, Field(gt=0)]


Chance = Annotated[float, Field(ge=0, le=1)]


Size = tuple[Count, Count]
"""Height and width in pixels."""


UserPath = Annotated[str, AfterValidator(expand)]
"""A path that a user gives; `~` and variables are expanded."""


@dataclass(frozen=True)
class HowAJobRuns:
    """Mark of a setting that does not affect results; `values` limits it to values of one type."""

    values: type = object


Execution = Annotated[T, HowAJobRuns()]
"""A setting about how a job runs or where files are: results stay valid if it changes.

All other settings affect results. A missing mark is harmless: jobs only run again needlessly.
"""


def deciding(settings: BaseModel) -> dict[str, Any]:
    """Return the settings that affect results as a JSON tree: all except those marked `Execution`.

    Only these settings identify checkpoints, shards and jobs.
    """
    tree: dict[str, Any] = _pruned(settings, settings.model_dump(mode="json"))
    return tree


def _pruned(value: Any, tree: Any) -> Any:
    if isinstance(value, BaseModel):
        kept = {key: getattr(value, key) for key in tree if not _is_execution(value, key)}
        return {key: _pruned(found, tree[key]) for key, found in kept.items()}
    if isinstance(value, Mapping):
        return {key: _pruned(value[key], part) for key, part in tree.items()}
    if isinstance(value, tuple | list):
        return [_pruned(*pair) for pair in zip(value, tree, strict=True)]
    return tree


def _is_execution(settings: BaseModel, key: str) -> bool:
    marks = type(settings).model_fields[key].metadata
    value = getattr(settings, key)
    return any(isinstance(m, HowAJobRuns) and isinstance(value, m.values) for m in marks)


class Strict(BaseModel):
    """An immutable model that rejects unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _keys_are_known(cls, tree: Any) -> Any:
        for key in tree if isinstance(tree, Mapping) else ():
            if key not in cls.model_fields:
                hint = did_you_mean(str(key), cls.model_fields, "remove it or correct its spelling")
                facts = {"key": str(key), "hint": hint}
                raise PydanticCustomError("unknown_key", "unknown key '{key}'{hint}", facts)
        return tree


def did_you_mean(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """Return a hint for a wrong name: `; did you mean 'x'?`, or `otherwise`, or the known names."""
    names = {found.casefold(): found for found in sorted(known)}
    for close in difflib.get_close_matches(name.casefold(), names, n=1):
        return f"; did you mean '{names[close]}'?"
    return f"; {otherwise or 'known are ' + ', '.join(names.values())}"


def check_known(name: str, known: Iterable[str], what: str, where: str = "") -> str:
    """Return the name if it is known.

    Raises:
        ValueError: the name is not known; the message describes it by `what` and `where`.
    """
    names = tuple(known)
    if name not in names:
        raise ValueError(f"no {what} '{name}'{where}{did_you_mean(name, names)}")
    return name


EXPECTED = {
    "missing": "is missing; add it",
    "tuple_type": "expected a list",
    "dict_type": "expected a mapping of keys",
    "model_type": "expected a mapping of keys",
    "string_type": "expected text",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "greater_than": "expected more than {gt:g}",
    "greater_than_equal": "expected at least {ge:g}",
    "less_than": "expected less than {lt:g}",
    "less_than_equal": "expected at most {le:g}",
    "too_short": "expected at least {min_length} in the list",
    "too_long": "expected at most {max_length} in the list",
    "literal_error": "expected {expected}",
    "string_pattern_mismatch": "expected text of the form {pattern}",
}
"""Messages by pydantic error type, in terms of YAML; other types keep pydantic's message."""


def first_problem(error: ValidationError, where: str, tree: Any = None) -> str:
    """Describe the first validation error in one line: place, key, reason and the value found.

    `tree` is the validated tree. With it, the key contains no names that pydantic adds.
    """
    text = _first_problem(error, where, tree)
    return "".join(c if c.isprintable() else " " for c in text)  # keys and values may be anything


def _first_problem(error: ValidationError, where: str, tree: Any) -> str:
    located = [(_keys(problem, tree), problem) for problem in error.errors()]
    first, _ = located[0]

    def rank(found: tuple[list[str], ErrorDetails]) -> tuple[bool, int]:
        keys, problem = found  # among the members of a union, prefer the deepest match
        depth = len(keys) if keys[: len(first)] == first else -1
        return problem["type"] == "unknown_key", depth

    parts, problem = max(located, key=rank)
    if problem["type"] == "unknown_key":
        key = ".".join([*parts, problem["ctx"]["key"]])
        return f"{where}: unknown key '{key}'{problem['ctx']['hint']}"
    key, found = ".".join(parts), problem["input"]
    if problem["type"] == "literal_error" and isinstance(found, str):
        return f"{where}: {key}: no '{found}'{did_you_mean(found, _expected(problem['ctx']))}"
    expected = EXPECTED.get(problem["type"], "").format(**problem.get("ctx", {}))
    text = expected or problem["msg"].removeprefix("Value error, ")
    is_named = f"'{found}'" in text or isinstance(found, dict | BaseModel)
    given = "" if is_named else f" (found {found!r})"
    return f"{where}: {key}: {text}{given}" if key else f"{where}: {text}{given}"


def _expected(context: Mapping[str, Any]) -> list[str]:
    return re.findall("'([^']*)'", context["expected"])


def _keys(problem: ErrorDetails, tree: Any) -> list[str]:
    """Return the keys that lead through a tree to a problem, without names of union members."""
    location = problem["loc"]
    if tree is None:
        return [str(part) for part in location]
    found = []
    for part in location:
        with suppress(KeyError, IndexError, TypeError):
            tree = tree[part]
            found.append(str(part))
    return [*found, str(location[-1])] if problem["type"] == "missing" else found
