"""Parse the marked text of pages.

The only marks are `**bold**`, `` `code` `` and `<sup>a</sup>`, as in Markdown.
"""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple, cast

Mark = Literal["bold", "code", "superscript"]

MARKED = re.compile(r"\*\*(?P<bold>.+?)\*\*|`(?P<code>.+?)`|<sup>(?P<superscript>.+?)</sup>")
SIGNS = re.compile(r"[*`<>\s]+")
"""The characters of marks, and white space."""


class Span(NamedTuple):
    """Text inside a mark; it may contain further marks."""

    mark: Mark
    text: str


def spans(text: str) -> Iterator[str | Span]:
    """Split text into marked spans and plain strings."""
    end = 0
    for match in MARKED.finditer(text):
        if match.start() > end:
            yield text[end : match.start()]
        mark = cast("Mark", match.lastgroup)
        yield Span(mark, match[mark])
        end = match.end()
    if end < len(text):
        yield text[end:]


def unmarked(name: str) -> str:
    """Replace the characters of marks by spaces in a name that comes from a file."""
    return SIGNS.sub(" ", name)
