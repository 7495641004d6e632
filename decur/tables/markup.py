"""Marked text of pages: the one place where its marks are read.

Text is marked as in Markdown, by `**bold**`, `` `code` `` and `<sup>a</sup>` alone.
"""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple, cast

Mark = Literal["bold", "code", "superscript"]

MARKED = re.compile(r"\*\*(?P<bold>.+?)\*\*|`(?P<code>.+?)`|<sup>(?P<superscript>.+?)</sup>")
SIGNS = re.compile(r"[*`<>\s]+")
"""The signs of marks, and white space."""


class Span(NamedTuple):
    """Text below a mark; it may hold further marks."""

    mark: Mark
    text: str


def spans(text: str) -> Iterator[str | Span]:
    """Split text into what is marked and, as strings, what is not."""
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
    """Replace whatever could be read as a mark by spaces, in a name that comes from a file."""
    return SIGNS.sub(" ", name)
