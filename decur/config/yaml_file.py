"""Read YAML files and refuse duplicate keys, because YAML silently drops the first value."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from decur.errors import DecurError

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The YAML loader: the C library, which is ten times as fast, or else the Python version."""


def read_yaml(path: Path | str) -> Any:
    """Read the content of a YAML or JSON file.

    Raises:
        DecurError: the file is missing, is not YAML, or contains a duplicate key (with its line).
    """
    path = Path(path)
    if not path.is_file():
        raise DecurError(f"{path}: no such file")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DecurError(f"{path}: cannot be read as UTF-8 ({error})") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Parse a text of YAML or JSON; raise the errors of `read_yaml`, which begin with `where`."""
    if text.lstrip().startswith("{"):
        text = text.replace("\t", " ")  # JSON may be indented by tabs, YAML may not
    loader = LOADER(text)
    try:
        node = loader.get_single_node()
        for key, first in _twice(node, set()):
            line = key.start_mark.line + 1
            raise DecurError(
                f"{where}:{line}: {key.value!r} is given twice, first in line "
                f"{first.start_mark.line + 1}; remove or rename one"
            )
        return None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, DecurError):
            raise
        raise DecurError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
    finally:
        loader.dispose()


def _twice(node: yaml.Node | None, seen: set[int]) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """Yield duplicate keys of mappings, each with its first occurrence; visit each node once."""
    if node is None or id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    if not isinstance(node, yaml.MappingNode):
        for item in node.value:
            yield from _twice(item, seen)
        return
    known: dict[tuple[str, str], yaml.Node] = {}
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            name = (key.tag, key.value)
            if name in known:
                yield key, known[name]
            known.setdefault(name, key)
        yield from _twice(key, seen)
        yield from _twice(value, seen)
