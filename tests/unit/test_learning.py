"""Learning curves from the logs of runs."""

import json
from pathlib import Path

import pytest

from decur.artifacts.paths import Paths
from decur.config import load_config
from decur.errors import DecurError
from decur.tables.learning import POINTS, SHOWN, draw, logs, read_curve
from decur.tables.report import learning_curves

HOME = Path(__file__).parents[2]


def write(path: Path, steps: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for step in range(steps):
        line = {"step": step, "loss": 8.0 / (1 + step)}
        if step % 50 == 0:
            line |= {"align_cross": step / steps, "rank1": 10.0, "rank2": 20.0}
        lines.append(json.dumps(line))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_long_log_is_thinned_but_keeps_the_steps_that_were_looked_at(tmp_path):
    found = read_curve(write(tmp_path / "log.jsonl", 3000))
    assert POINTS <= len(found) <= 2 * POINTS + 2
    assert found["step"].is_monotonic_increasing and found["step"].is_unique
    assert found["align_cross"].notna().sum() == 60
    assert found["rank"].dropna().unique().tolist() == [15.0]
    assert list(found) == ["step", *SHOWN]


def test_the_loss_is_that_of_the_first_step_and_less(tmp_path):
    found = read_curve(write(tmp_path / "log.jsonl", 10))
    assert found["loss"].tolist() == pytest.approx([1 / (1 + step) for step in range(10)])


@pytest.mark.parametrize("content", ["nothing\n", '{"step": 0}\n', '["loss"]\n'])
def test_a_damaged_log_is_named(tmp_path, content):
    path = tmp_path / "log.jsonl"
    path.write_text(content)
    with pytest.raises(DecurError, match=r"log\.jsonl: "):
        read_curve(path)


@pytest.mark.slow
def test_runs_that_have_begun_are_drawn_and_others_left_out(tmp_path):
    config, paths = load_config(HOME / "config" / "demo.yaml"), Paths(str(tmp_path), "demo")
    assert logs("rgb-dem", config, paths) == {}
    assert learning_curves("rgb-dem", config, paths) == []
    one = f"{paths.pretrain('rgb-dem/decur/default/seed-0')}/log.jsonl"
    write(Path(one), 120)
    found = logs("rgb-dem", config, paths)
    assert list(found) == ["decur"]
    images = draw(found)
    assert images == draw(found)
    (item,) = learning_curves("rgb-dem", config, paths)
    assert item.page.title == "Learning curves of RGB-DEM" and item.image
    write(Path(one.replace("decur/default", "barlow-twins/default")), 60)
    assert draw(logs("rgb-dem", config, paths)) != images
