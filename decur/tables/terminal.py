"""Render a page for the terminal, or as plain text if the output is not a terminal."""

import re
import shutil

from rich import box
from rich.console import Console, RenderableType
from rich.rule import Rule
from rich.table import Table as RichTable
from rich.text import Text

from decur.tables.markup import Mark, spans
from decur.tables.pages import Heading, Page, PagePart, Table

STYLES: dict[Mark, str] = {"bold": "bold", "code": "cyan", "superscript": "dim"}
STYLED: dict[Mark, tuple[str, str]] = {
    "bold": ("", ""),
    "code": ("", ""),
    "superscript": ("[", "]"),
}
PLAIN: dict[Mark, tuple[str, str]] = STYLED | {"bold": ("**", "**"), "code": ("`", "`")}
"""The characters before and after marked text, with styles (`STYLED`) and without (`PLAIN`)."""

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
"""Control characters of terminals. Names of samples come from raw files and may contain them."""

WIDTH = 120
"""Characters per line if the output is not a terminal."""


def as_text(page: Page, console: Console | None = None) -> str:
    """Render a page in the width and colours of a console, by default that of the output.

    Without colours, characters mark bold text and code.
    """
    console = console or Console(width=shutil.get_terminal_size((WIDTH, 24)).columns)
    plain = console.color_system is None
    texts = [written(text, plain) for text in (page.caption, page.scale) if text]
    parts = [*texts, *(_part(part, plain) for part in page.body)]
    title = [written(page.title, plain), Rule(style="default")]
    with console.capture() as capture:
        console.print(*title, *(item for part in parts for item in (part, "")), sep="\n")
    lines = capture.get().rstrip().splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)


def written(text: str, plain: bool = False) -> Text:
    """Convert a page's text to styled text."""
    whole = Text()
    for span in spans(text):
        if isinstance(span, str):
            whole.append(CONTROL.sub(" ", span))
        else:
            before, after = (PLAIN if plain else STYLED)[span.mark]
            inner = Text.assemble(before, written(span.text, plain), after)
            inner.stylize(STYLES[span.mark])
            whole.append_text(inner)
    return whole


def _part(part: PagePart, plain: bool) -> RenderableType:
    if isinstance(part, Table):
        return _table(part, plain)
    return written(part.as_paragraph if isinstance(part, Heading) else part, plain)


def _table(table: Table, plain: bool) -> RichTable:
    several_lines = any(len(cell) > 1 for row in table.rows for cell in row)
    rendered = RichTable(box=box.SIMPLE_HEAD, show_edge=False, leading=int(several_lines))
    for cell in table.head:
        rendered.add_column(_lines(cell, plain), overflow="fold")
    for row in table.rows:
        rendered.add_row(*(_lines(cell, plain) for cell in row))
    return rendered


def _lines(cell: tuple[str, ...], plain: bool) -> Text:
    return Text("\n").join(written(line, plain) for line in cell)
