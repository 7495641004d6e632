"""The prose of the project is plain English: a few patterns must not spread.

`language_allowed.txt` counts the old occurrences per file and pattern. The test fails if a count
rises, and if one falls without an update: `python -m tests.docs.test_language --update`.
"""

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]
ALLOWED = Path(__file__).with_name("language_allowed.txt")
UPDATE = "python -m tests.docs.test_language --update"
PAGES = ("*.md", "docs/*.md", "config/*.md")
CODE = ("decur/**/*.py", "rules/*.smk", "workflow/Snakefile")

COUNTED = (
    "images|samples|pairs|patches|steps|batches|rows|lines|files|pixels|windows|views|times|jobs|"
    "seeds|shards|cores|threads|epochs|labels|values|bytes|weights|scenes|channels|classes|bands|"
    "line|file|row|include|process|once|twice|[kMGT]i?B|GPU-hours|CPU-hours"
)
UNIT = (
    "second|minute|hour|day|modality|scenario|data ?set|method|step|epoch|batch|sample|view|class|"
    "image|patch|pixel|GPU|core|node|rank|process|job|task|run|seed|stage|scene|season|split"
)
PATTERNS = {
    "fable word": r"(?i)\b(?:roads?|houses?|worst days|befall\w*|befell|forerunners?|"
    r"whole or not at all|on (?:its|their|the) way (?:in|out)|front door)\b",
    "opening Of": r"^Of (?!(?:this|these|those|(?:all|the) (?:\d+|two|three|four|five|ten))\b)",
    "opening What": r"^What\b(?!.*\?$)",
    "telling thing": r"(?i)\b(?:says|said|tells|told|knows)\b|"
    r"(?i:(?<!network )(?<!model )(?<!backbone )(?<!sensor )\bsees\b)",
    "a for per": rf"(?:\b(?:{COUNTED})|(?<![\w-])\d+) an? (?:{UNIT})\b",
    "contraction": r"(?i)\b\w+n['’]t\b|\b(?:it|that|there|here|what|who|let)['’]s\b|"
    r"\b(?:you|we|they|i)['’](?:re|ve|ll|d|m)\b",
}
COMPILED = {name: re.compile(pattern) for name, pattern in PATTERNS.items()}


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text in Markdown, without its code; list items and cells stand alone."""
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`\n]*`", "`code`", text)
    text = re.sub(r"^\s*(?:#+|[-*]|\d+\.) +", "\n\n", text, flags=re.MULTILINE)
    for block in re.split(r"\n\s*\n|\|", text):
        words = " ".join(block.split())
        yield from re.split(r"(?<=[.!?:;]) +(?=[A-Z`*])", words)


def comments(code: str) -> Iterator[str]:
    """The comments of Python code; those on lines that follow each other are one text."""
    last = -1
    text = ""
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] != last + 1:
                yield text
                text = ""
            text += token.string.lstrip("#:! ") + "\n"
            last = token.start[0]
    yield text


def docstrings(code: str) -> Iterator[str]:
    """The docstrings of Python code, those of variables too."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield text


def strings(code: str) -> Iterator[str]:
    """Every string of Python code: in the command line's modules these are the help texts."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Constant(value=str(text)) if " " in text:
                yield text


def texts(path: Path) -> Iterator[str]:
    """The prose of a page, of a module, or of a file of rules (which is not quite Python)."""
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield content
        return
    yield from comments(content)
    if path.suffix == ".py":
        yield from (strings if path.parent == HOME / "decur" / "cli" else docstrings)(content)
    else:
        yield from re.findall(r'"""(.*?)"""', content, flags=re.DOTALL)


def occurrences() -> dict[tuple[str, str], list[str]]:
    """The sentences at fault, by the file's path and the name of the pattern."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted(path for glob in (*PAGES, *CODE) for path in HOME.glob(glob)):
        for text in texts(path):
            for sentence in sentences(text):
                for name, pattern in COMPILED.items():
                    key = str(path.relative_to(HOME)), name
                    hits = len(pattern.findall(sentence))
                    found.setdefault(key, []).extend([sentence] * hits)
    return {key: lines for key, lines in found.items() if lines}


def allowed() -> Counter[tuple[str, str]]:
    """How often a file may still hold a pattern."""
    lines = (line.split("\t") for line in ALLOWED.read_text(encoding="utf-8").splitlines())
    return Counter({(path, name): int(count) for count, name, path in lines})


def problems() -> list[str]:
    """What differs from the list, a line each."""
    found, old = occurrences(), allowed()
    new = Counter({key: len(lines) for key, lines in found.items()})
    risen = [
        f'{path}: {new[path, name]} of "{name}", {old[path, name]} allowed; one of: '
        + " / ".join(line[:160] for line in dict.fromkeys(found[path, name]))
        for path, name in sorted(new - old)
    ]
    fallen = [
        f'{path}: {new[path, name]} of "{name}", {old[path, name]} listed; run {UPDATE}'
        for path, name in sorted(old - new)
    ]
    return risen + fallen


@pytest.mark.parametrize(
    ("sentence", "name"),
    [
        ("The whole road on synthetic scenes.", "fable word"),
        ("Of a bug, add the traceback.", "opening Of"),
        ("What remains is left out.", "opening What"),
        ("The card says which bands there are.", "telling thing"),
        ("It reads 900 images a second.", "a for per"),
        ("One file a modality.", "a for per"),
        ("It doesn't matter.", "contraction"),
    ],
)
def test_an_offence_is_found(sentence, name):
    found = [
        key
        for part in sentences(sentence)
        for key, pattern in COMPILED.items()
        if pattern.search(part)
    ]
    assert found == [name]


@pytest.mark.parametrize(
    "sentence",
    [
        "Of this, 413 GPU-hours are for pretraining.",
        "What does a backbone contain?",
        "A dataset's card records its bands; see `what the card says`.",
        "It takes a second, as a modality has a name.",
        "It reads 900 images per second.",
        "```\nWhat follows is code a second\n```",
    ],
)
def test_plain_sentences_pass(sentence):
    for part in sentences(sentence):
        assert not [name for name, pattern in COMPILED.items() if pattern.search(part)]


def test_no_offence_is_new_and_the_list_is_up_to_date():
    assert not (found := problems()), "\n".join(found)


def main(arguments: list[str]) -> int:
    """Print what differs from the list; with `--update`, write the list."""
    if arguments == ["--update"]:
        counts = sorted((path, name, len(lines)) for (path, name), lines in occurrences().items())
        text = "".join(f"{count}\t{name}\t{path}\n" for path, name, count in counts)
        ALLOWED.write_text(text, encoding="utf-8")
        return 0
    found = problems()
    print(*found, sep="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
