"""Names that a shell could take for commands, in folders and in the config, through real rules."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

HOME = Path(__file__).parents[2]
OWNED = "owned"
HOSTILE = f"a b'c\"d;touch {OWNED};$(touch {OWNED})`touch {OWNED}`&touch {OWNED}|x"


@pytest.mark.slow
def test_no_name_of_a_folder_or_of_the_config_becomes_a_command(tmp_path):
    folder = tmp_path / HOSTILE
    folder.mkdir()
    tree = yaml.safe_load((HOME / "tests" / "workflow" / "tiny.yaml").read_text())
    tree["results"] = f"out {HOSTILE}"
    tree["datasets"]["geonrw"]["mirror"] = f"https://host/{HOSTILE}"
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    command = [sys.executable, "-m", "snakemake", "--snakefile", HOME / "workflow" / "Snakefile"]
    command = [*map(str, command), "--configfile", "tiny.yaml", "--cores", "1"]

    def snakemake(*arguments):
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, cwd=folder, timeout=600
        )
        return done.stdout + done.stderr

    planned = snakemake("--dry-run", "--printshellcmds")
    assert "decur pretrain" in planned
    root = folder / tree["results"] / "tiny"
    card = (root / "shards" / "geonrw" / "card.json").relative_to(folder)
    made = snakemake("--", "config", str(card))
    assert (folder / card).is_file(), made[-3000:]
    assert (root / "config.json").is_file()
    assert not list(tmp_path.rglob(OWNED))
    assert not (HOME / OWNED).exists()
