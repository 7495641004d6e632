"""Hold the README's sentences about the methods to what the fresh seeds decided."""

import csv
import re
from pathlib import Path

import pytest

from decur.config.yaml_file import read_yaml
from tests.benchmarks.factor_seeds import CONFIGS, KEPT, collate

README = Path(__file__).parents[2] / "README.md"
HEADING = "## Which factors the methods keep"
GROUPS = {
    "**Holds**": {"holds"},
    "**Does not hold**": {"does not hold"},
    "**Left open**": {"undecided"},
}
METHODS = r"DeCUR|Barlow Twins|VICReg|SimCLR|CLIP|Rand\. Init|random net|decoupling"
COMPARES = (
    r"better|best|worse|worst|more|less|than|only|leads?|ahead|behind|beats?|above|below|outperforms?"
    r"|keeps?|loses?|holds?|adds?|costs?|gains?|falls?|wins?"
)
ITEM = re.compile(r"(?P<text>.+?[.]) \((?P<low>[+−][\d.]+) to (?P<high>[+−][\d.]+)\)")


SEEDS = set(read_yaml(CONFIGS[1])["seeds"])
KEPT_SEEDS = {int(file.stem.removeprefix("seed-")) for file in KEPT.glob("seed-*.csv")}

pytestmark = pytest.mark.skipif(
    KEPT_SEEDS < SEEDS, reason=f"still to be run: seeds {sorted(SEEDS - KEPT_SEEDS)}"
)


def rows(name: str) -> list[dict[str, str]]:
    """Rows of a committed CSV of the fresh seeds."""
    with (KEPT / name).open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def listed() -> list[tuple[str, str]]:
    """The items of the README's section, each with the group that it stands in."""
    section = README.read_text(encoding="utf-8").split(HEADING, 1)[1].split("\n## ", 1)[0]
    group, items = "", []
    for block in re.split(r"\n(?=- |\*\*|\n)", section):
        text = " ".join(block.split())
        if any(text.startswith(name) for name in GROUPS):
            group = next(name for name in GROUPS if text.startswith(name))
        elif text.startswith("- "):
            items.append((group, text[2:]))
    return items


def prose() -> list[str]:
    """The README's sentences, without code, tables, pictures and marks."""
    text = re.sub(r"^(```|~~~).*?^\1", "", README.read_text(encoding="utf-8"), flags=re.M | re.S)
    text = re.sub(r"^(\||    ).*$", "", text, flags=re.M)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)|\]\([^)]*\)|\([+−][^)]*\)|[*\[\]`]", "", text)
    paragraphs = re.split(r"\n\s*\n|\n(?=[-*] )", text)
    flat = (" ".join(paragraph.split()).removeprefix("- ") for paragraph in paragraphs)
    return [part.strip() for one in flat for part in re.split(r"(?<=[.!?:])\s+", one) if part]


def test_every_seed_of_the_config_is_kept() -> None:
    assert KEPT_SEEDS == SEEDS


def test_tables_and_claims_are_those_of_the_kept_seeds(tmp_path: Path) -> None:
    made = {path.name: path for path in collate(tmp_path)}
    for name in ("factors", "factors-dimensions", "factor-claims"):
        for end in (".csv", ".md"):
            assert (KEPT / f"{name}{end}").read_text() == made[f"{name}{end}"].read_text(), name


def test_every_claim_stands_in_the_group_of_its_verdict_with_its_differences() -> None:
    claims = rows("factor-claims.csv")
    items = listed()
    assert len(items) == len({row["text"] for row in claims})
    for group, item in items:
        match = ITEM.match(item)
        assert match, f"no differences in: {item}"
        own = [row for row in claims if row["text"] == match["text"]]
        assert own, f"no claim of that text: {match['text']}"
        assert own[0]["verdict"] in GROUPS[group], item
        found = sorted(float(row["difference"]) for row in own)
        said = [float(match[end].replace("−", "-")) for end in ("low", "high")]
        assert said == pytest.approx([found[0], found[-1]], abs=0.0501), item


def test_no_other_sentence_of_the_readme_compares_methods() -> None:
    claims = {row["text"] for row in rows("factor-claims.csv")}
    sentences = [
        one for one in prose() if re.search(METHODS, one) and re.search(rf"\b({COMPARES})\b", one)
    ]
    unheld = [one for one in sentences if not any(one in claim for claim in claims)]
    assert not unheld
