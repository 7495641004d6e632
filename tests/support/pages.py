"""The code blocks of a page of docs/, which its test executes."""

import re
from pathlib import Path

from tests.support import HOME


def blocks(page: str, kind: str) -> list[tuple[str, str]]:
    """The blocks of a kind (yaml, sh, python), in order: the file that each is to be, and its text.

    The file is named after the kind, "" if it is not.
    """
    text = (HOME / "docs" / page).read_text()
    found = re.findall(rf"^```{kind}(?: (\S+))?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no block of {kind}"
    return found


def write_files(page: str, kind: str, folder: Path) -> None:
    """Write the named blocks of a page below a folder."""
    for name, text in blocks(page, kind):
        if name:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def apply_diffs(page: str, root: Path) -> None:
    """Make a page's changes of files below a folder.

    A diff has a line `+++ <file>` a file and `@@` between its places; what stands before or between
    new lines must come exactly once.
    """
    for _, text in blocks(page, "diff"):
        for name, change in re.findall(r"^\+\+\+ (\S+)\n(.*?)(?=^\+\+\+ |\Z)", text, re.M | re.S):
            path = root / name
            for hunk in change.split("@@\n"):
                lines = hunk.splitlines()
                before = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
                after = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
                assert path.read_text().count(before) == 1, f"{page}: {name}: {before}"
                path.write_text(path.read_text().replace(before, after))
