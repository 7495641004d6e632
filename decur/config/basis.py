"""What all parts of the configuration share: strict models, ranges, names, errors in one line."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from decur.user_paths import expand

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
"""A part of a path, and a word of a command."""


ModalityName = Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]


Count = Annotated[int, Field(ge=1)]


Pixels = Annotated[int, Field(ge=16)]


Positive = Annotated[float, Field(gt=0)]


Chance = Annotated[float, Field(ge=0, le=1)]


Size = tuple[Count, Count]
"""Height and width in pixels."""


UserPath = Annotated[str, AfterValidator(expand)]
"""A path that a user gives; `~` and variables in it are replaced."""


class Strict(BaseModel):
    """A model that forbids unknown keys and never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def first_problem(error: ValidationError, where: str) -> str:
    """One line for the first problem of a validation: where, which key, why, what was found."""
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key '{key}'; remove it or correct its spelling"
    text = problem["msg"].removeprefix("Value error, ")
    found = problem["input"]
    given = "" if isinstance(found, dict | BaseModel) else f" (found {found!r})"
    return f"{where}: {key}: {text}{given}" if key else f"{where}: {text}{given}"
