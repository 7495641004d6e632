"""What the profile for SLURM asks for, beside what docs/cluster.md estimates for the paper."""

import re

import pytest
import yaml

from tests.support import HOME

RETRIES = 2
MARGIN = 1.5
PROFILE = yaml.safe_load((HOME / "profiles" / "slurm" / "config.yaml").read_text())
RULE = re.compile(r"^ *rule(?: (\w+))?:\n((?:(?! *rule\b).*\n?)*)", re.MULTILINE)


def sent_rules():
    """Rules whose jobs are sent to SLURM, and sent again when they fail."""
    text = "".join(path.read_text() for path in sorted((HOME / "rules").glob("*.smk")))
    for name, body in RULE.findall(text):
        if "shell:" in body and "localrule: True" not in body and "retries: 0" not in body:
            yield name


def asked(rule):
    """Memory and minutes of each attempt of a rule, as Snakemake evaluates them."""
    block = PROFILE["set-resources"][rule]
    attempts = range(1, RETRIES + 2)
    return {
        key: [eval(str(block[key]), {"attempt": attempt}) for attempt in attempts]
        for key in ("mem_mb", "runtime")
    }


def estimates():
    """The rows of the table in docs/cluster.md: stage, MB, hours."""
    page = (HOME / "docs" / "cluster.md").read_text()
    section = page.partition("## Memory and time of each stage\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split("|") for line in section.splitlines() if line.startswith("|")]
    head, _, *body = [[cell.strip() for cell in row] for row in rows]
    for row in body:
        known = dict(zip(head, row, strict=True))
        mb, hours = (float(known[key].replace(",", "")) for key in ("MB", "hours"))
        yield known["stage"], mb, hours


def test_all_rules_are_found():
    assert {*sent_rules()} == {
        *("download", "preprocess_piece", "preprocess", "verify"),
        *("pretrain", "transfer", "explain"),
        *("download_weights", "pretrain_released"),
    }


@pytest.mark.parametrize("rule", [*sent_rules()])
def test_every_attempt_asks_for_more(rule):
    for values in asked(rule).values():
        assert values[0] < values[1] <= values[2]


def test_the_first_attempt_has_a_margin_over_the_estimates():
    rows = [row for row in estimates() if row[0] in {*sent_rules()}]
    assert {"download", "preprocess", "verify", "pretrain", "transfer"} == {row[0] for row in rows}
    for stage, mb, hours in rows:
        for rule in ("preprocess", "preprocess_piece") if stage == "preprocess" else (stage,):
            found = asked(rule)
            assert found["mem_mb"][0] >= MARGIN * mb, (rule, mb)
            assert found["runtime"][0] >= MARGIN * 60 * hours, (rule, hours)
