"""Write all tables and figures of a finished run into one page of the documentation.

The page's text before its first table is kept; everything after it is replaced. Figures are copied
into `figures/` beside the page.

    snakemake --configfile config/mini.yaml
    python -m tests.benchmarks.tables_page results/mini docs/mini.md
"""

import argparse
import json
import shutil
from pathlib import Path

SECTION = "\n## "


def section(table: Path, figures: Path) -> str:
    """One experiment as a section: the figure, if it has one, stands below the caption."""
    title, caption, scale, *rest = table.read_text(encoding="utf-8").split("\n\n")
    if not scale.startswith("Scale: "):
        raise ValueError(f"{table}: the third paragraph is not the scale")
    heading = title.removeprefix("# ")
    drawn = table.parents[1] / "figures" / f"{table.stem}.png"
    if drawn.is_file():
        shutil.copy(drawn, figures)
        caption += f"\n\n![{heading}](figures/{drawn.name})"
    return "\n\n".join([f"## {heading}", caption, *rest]).rstrip() + "\n"


def write_page(results: Path, page: Path) -> None:
    """Replace the sections of a page by the tables of `results`, in the config's order."""
    names = json.loads((results / "config.json").read_text(encoding="utf-8"))["experiments"]
    figures = page.parent / "figures"
    sections = [section(results / "tables" / f"{name}.md", figures) for name in names]
    start = page.read_text(encoding="utf-8").split(SECTION, 1)[0].rstrip() + "\n"
    page.write_text("\n".join([start, *sections]), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="folder of the scale's results")
    parser.add_argument("page", type=Path, help="Markdown page to be updated")
    args = parser.parse_args()
    write_page(args.results, args.page)


if __name__ == "__main__":
    main()
