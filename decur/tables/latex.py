r"""A page of results as LaTeX, to `\input` into a document that loads `booktabs`.

Every table is a tabular of its own, with the notes below; title and caption are comments, since a
paper has its own.
"""

import re
from collections.abc import Sequence
from itertools import groupby

from decur.tables.pages import Cell, Page, Table

MARKS = re.compile(r"\*\*(?P<textbf>.+?)\*\*|`(?P<texttt>.+?)`|<sup>(?P<textsuperscript>.+?)</sup>")
"""The marks of a page's text; the name of a group is the command that it becomes."""

ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "[": "{[}",  # at the start of a line it would be an argument of the line break before it
        "±": r"$\pm$",
        "−": "$-$",
        "–": "--",
        "≥": r"$\geq$",
    }
)
LONG = 40
"""Characters of a column that breaks its lines."""


def as_latex(page: Page) -> str:
    """Tables and notes in the page's order, then what the numbers are worth."""
    comments = [f"% {' '.join(text.split())}" for text in (page.title, page.caption)]
    parts = [_table(p) if isinstance(p, Table) else _note(p) for p in (*page.body, page.scale)]
    return "\n".join([*comments, "\n\\par\\medskip\n".join(parts)]) + "\n"


def written(text: str) -> str:
    """A page's text in LaTeX: its marks as commands, all else escaped."""
    done, end = "", 0
    for found in MARKS.finditer(text):
        command = str(found.lastgroup)
        done += text[end : found.start()].translate(ESCAPES)
        done += f"\\{command}{{{written(found[command])}}}"
        end = found.end()
    return done + text[end:].translate(ESCAPES)


def _note(text: str) -> str:
    return f"{{\\footnotesize\\raggedright {written(text)}\\par}}"


def _table(table: Table) -> str:
    columns = "".join(map(_column, range(len(table.head)), zip(*table.lines, strict=True)))
    body = [_lines(cells) for cells in table.lines]
    apart = "\n\\addlinespace\n" if any(len(c) > 1 for line in table.lines for c in line) else "\n"
    return "\n".join(
        [
            f"\\begin{{tabular}}{{{columns or 'l' * len(table.head)}}}",
            "\\toprule",
            *_heads(table.head),
            "\\midrule",
            apart.join(body),
            "\\bottomrule",
            "\\end{tabular}",
        ]
    )


def _column(number: int, cells: Sequence[Cell]) -> str:
    if max(len(text) for cell in cells for text in cell) > LONG:
        return "p{0.45\\linewidth}"
    return "c" if number else "l"


def _lines(cells: Sequence[Cell]) -> str:
    """A line of the table: below the first lines of its cells, smaller, their further ones."""
    lines = []
    for number in range(max(map(len, cells))):
        texts = [written(cell[number]) if number < len(cell) else "" for cell in cells]
        if number:
            texts = [f"{{\\scriptsize {text}}}" if text else "" for text in texts]
        lines.append(_row(texts))
    return "\n".join(lines)


def _row(texts: Sequence[str]) -> str:
    return f"{' & '.join(texts)} \\\\"


def _heads(head: Sequence[Cell]) -> list[str]:
    """The heads of the columns, level by level, neighbours that share one grouped by a rule.

    What all columns share stands on top.
    """
    corner, *columns = head
    depth = max(map(len, columns))
    padded = [(*cell, *[""] * (depth - len(cell))) for cell in columns]
    shared = [len(set(texts)) == 1 < len(columns) for texts in zip(*padded, strict=True)]
    top = ", ".join(text for text, same in zip(padded[0], shared, strict=True) if same and text)
    levels = [[(top, len(columns))]] if top else []
    for level in (level for level in range(depth) if not shared[level]):
        groups = groupby(padded, key=lambda cell: cell[: level + 1])
        levels.append([(key[level], len(list(found))) for key, found in groups])
    lines = []
    for number, groups_of_level in enumerate(levels, 1):
        label = written(corner[0]) if number == len(levels) else ""
        lines.append(_row([label, *(_spanning(text, width) for text, width in groups_of_level)]))
        lines += _rules([width for _, width in groups_of_level])
    return lines


def _spanning(text: str, width: int) -> str:
    return f"\\multicolumn{{{width}}}{{c}}{{{written(text)}}}" if width > 1 else written(text)


def _rules(widths: Sequence[int]) -> list[str]:
    """A rule below each group of several columns."""
    rules, start = "", 2
    for width in widths:
        rules += f"\\cmidrule(lr){{{start}-{start + width - 1}}}" if width > 1 else ""
        start += width
    return [rules] if rules else []
