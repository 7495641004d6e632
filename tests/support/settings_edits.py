"""Every setting, and other values that it may be given."""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel

from decur.config import Config

EXECUTION: dict[str, st.SearchStrategy[Any]] = {
    "DatasetSettings.archives": st.sampled_from(["/archives", "a", None]),
    "DatasetSettings.mirror": st.sampled_from(["https://example.org", None]),
    "DatasetSettings.unpack": st.booleans(),
    "DatasetSettings.keep_archives": st.booleans(),
    "DatasetSettings.pieces": st.integers(1, 9),
    "FoldersSettings.title": st.text(max_size=9),
    "FoldersSettings.licence": st.text(max_size=9),
    "FoldersSettings.homepage": st.text(max_size=9),
    "Pretrain.checkpoint_steps": st.integers(1, 9999),
    "Pretrain.monitor_steps": st.integers(1, 9999),
    "Pretrain.knn": st.sampled_from([None, {"labels": "mask"}, {"labels": "mask", "epochs": 3}]),
    "Pretrain.recompute": st.sampled_from(["none", "view", "block"]),
    "Pretrain.compile": st.sampled_from(["none", "optimizer", "all"]),
    "Pretrain.cuda_graph": st.booleans(),
    "Sliding.batch": st.integers(1, 64),
    "Transfer.checkpoint_seconds": st.integers(0, 9999),
}
"""Every setting of how a job runs, and what it may be changed to."""

PATHS = {
    "DatasetSettings.folder": "harbour",
    "DatasetSettings.checksums": "sums.txt",
    "FolderSettings.folder": "photo",
    "FoldersSettings.masks": "masks",
    "FoldersSettings.labels": "labels.csv",
    "FoldersSettings.split": "split.csv",
    "Pretrain.imagenet": "net.pth",
    "Pretrain.imagenet_large": "net.pth",
    "Pretrain.released": "net.pth",
}
"""Every setting that is a path, whose content alone counts, and what lies there."""

TRIED_BELOW = {"DatasetSettings.bad_samples"}


def models(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    """A settings model and all models below it."""
    if model not in seen:
        seen.add(model)
        for field in model.model_fields.values():
            for part in parts(field.annotation):
                models(part, seen)
    return seen


def parts(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from parts(argument)


Place = tuple[tuple[str, ...], BaseModel]


def places(model: BaseModel, at: tuple[str, ...] = ()) -> Iterator[Place]:
    """Every model of settings in a configuration, with the keys that lead to it."""
    yield at, model
    for name in type(model).model_fields:
        value = getattr(model, name)
        children = value.items() if isinstance(value, dict) else [(None, value)]
        for key, child in children:
            if isinstance(child, BaseModel):
                yield from places(child, (*at, name, *([key] if key else [])))


def put(tree: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    *above, last = keys
    for key in above:
        tree = tree.setdefault(key, {})
    tree[last] = value


def owner(model: BaseModel, name: str) -> str:
    return next(m for m in type(model).__mro__ if name in m.__annotations__).__name__


def alternatives(annotation: Any, value: Any) -> list[Any]:
    """Other values of a field's type."""
    if get_origin(annotation) is Annotated:
        return alternatives(get_args(annotation)[0], value)
    if get_origin(annotation) in (Union, types.UnionType):
        return [x for part in get_args(annotation) for x in alternatives(part, value)]
    if get_origin(annotation) is Literal:
        return [other for other in get_args(annotation) if other != value]
    if annotation is bool:
        return [not value]
    if annotation is int:
        return [20, 21] if not isinstance(value, int) else [value + 1, value * 2 + 1]
    if annotation is float:
        return [value * 0.9] if value else [0.5]
    return []


SPECIAL: dict[str, list[Any]] = {
    "Pretrain.arch": ["resnet18", "mit_b0"],
    "Pretrain.archs": [{"rgb": "resnet18"}, {"sar": "resnet18"}],
    "Pretrain.splits": [["train", "test"], ["test"]],
    "Pretrain.batch_size": [8, 32],
    "Pretrain.accumulate_chunks": [2, 4],
    "ScenarioSettings.modalities": [],
    "DatasetSettings.pixels": [32, 48],
    "ScenesSettings.seed": [11, 12],
    "Views.crop_scale": [[0.5, 0.9]],
    "Transfer.predictions": [1, "all"],
    "Recipe.lr_sweep": [[0.1, 0.2]],
    "Sliding.scales": [[1.0, 1.5]],
    "Sliding.window": [[8, 8]],
    "FoldersSettings.classes": [["land", "water", "ship"]],
    "FolderSettings.scale": ["percentiles", [0, 9]],
    "FolderSettings.bands": [["x"]],
}
"""Other values of settings whose type does not tell them."""

NOT_ALONE = {
    # They make other runs, or go with another setting.
    *("Pretrain.dataset", "Pretrain.dim_common", "Pretrain.arch_large", "DatasetSettings.source"),
    *("Recipe.epochs", "Recipe.steps", "FoldersSettings.ignore", "FoldersSettings.cut"),
    *("Views.crop", "Views.scale_choices", "Transfer.task", "Transfer.cmx"),
}


def result_edits(config: Config) -> list[tuple[tuple[str, ...], Any]]:
    """Changes of settings that decide results, one at a time: keys, and the new value."""
    found = []
    for at, model in places(config):
        for name, field in type(model).model_fields.items():
            key, value = f"{owner(model, name)}.{name}", getattr(model, name)
            if not at or key in {*EXECUTION, *PATHS, *TRIED_BELOW, *NOT_ALONE}:
                continue
            others = SPECIAL.get(key, alternatives(field.annotation, value))
            found += [((*at, name), other) for other in others]
    return found
