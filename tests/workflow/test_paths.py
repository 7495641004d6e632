"""Results that lie elsewhere: behind a link, a variable or `~`."""

from decur.cli import main
from tests.support import TINY
from tests.support.workflow import snakemake

CARD = "tiny/shards/geonrw/card.json"


def test_results_may_be_a_link_to_a_folder_elsewhere(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WHERE", str(tmp_path / "links"))
    for name in ("run", "links", "disk/tiny", "large disk/raw"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "links" / "results").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "tiny" / "raw").symlink_to(tmp_path / "large disk" / "raw")
    card = tmp_path / "links" / "results" / CARD
    given = ("--config", "results=${WHERE}/results", "--configfile", TINY, "--", card)
    snakemake(tmp_path / "run", *given)
    assert (tmp_path / "disk" / CARD).is_file()
    assert (tmp_path / "large disk" / "raw" / "geonrw" / "manifest.json").is_file()
    assert [p.name for p in (tmp_path / "run").iterdir()] == [".snakemake"]
    assert main(["provenance", "$WHERE/results/tiny/shards/geonrw"]) == 0
    told = capsys.readouterr().out
    assert "shards/geonrw/card.json" in told and "raw/geonrw/manifest.json" in told
    assert told.count("as recorded") == 2


def test_a_variable_that_is_not_set_ends_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.delenv("NOPE", raising=False)
    words = ("--configfile", TINY, "--config", "results=$NOPE/x")
    failed = snakemake(tmp_path, *words, check=False)
    assert failed.returncode != 0
    assert "results: the variable NOPE is not set; set and export it" in failed.stderr
    assert [path.name for path in tmp_path.iterdir()] == [".snakemake"]
