"""Small experiments, and made-up results of their runs."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from decur.artifacts.paths import Paths, Run
from decur.config import Config, parse_config
from decur.config.experiments import Experiment, transfer_runs

SCENES = {"source": "scenes", "pixels": 48, "scenes": {"train": 8, "test": 8}}


def config(source: str = "scenes", **changes: object) -> Config:
    dataset = SCENES if source == "scenes" else {"source": source}
    tree = {
        "scale": "small",
        "methods": ["decur", "barlow-twins", "random"],
        "seeds": [0, 1, 2],
        "experiments": [],
        "datasets": {"ssl4eo-s12": dataset, "bigearthnet": dataset, "geonrw": dataset},
        "scenarios": {
            "sar-optical": {
                "modalities": {"sar": "sar", "optical": "optical"},
                "pretrain": {"dataset": "ssl4eo-s12", "dim": 64, "dim_common": 48},
            },
            "rgb-dem": {
                "modalities": {"rgb": "rgb", "dem": "dem"},
                "pretrain": {"dataset": "geonrw", "dim": 64, "dim_common": 48},
            },
        },
        "transfer": {},
    }
    return parse_config(tree | changes)


BIGEARTHNET = {
    "label": "S1+S2",
    "scenario": "sar-optical",
    "dataset": "bigearthnet",
    "modalities": "sar+optical",
    "labels": [1],
    "protocols": ["linear", "fine-tune"],
    "metrics": ["map_micro"],
    "paper": "Table 1 left",
}
GEONRW = BIGEARTHNET | {
    "label": "RGB+DEM",
    "scenario": "rgb-dem",
    "dataset": "geonrw",
    "modalities": "rgb+dem",
    "metrics": ["miou"],
    "paper": None,
}
RANDOM = {"label": "Rand. Init.", "method": "random", "protocol": "linear", "paper": "Rand. Init."}
CLIP = {"label": "CLIP", "method": "clip", "paper": "CLIP"}
BARLOW = {"label": "Barlow Twins", "method": "barlow-twins", "paper": "Barlow Twins"}
DECUR = {"label": "DeCUR", "method": "decur", "paper": "DeCUR"}


def experiment(**changes: object) -> Experiment:
    rows = [RANDOM, CLIP, BARLOW, DECUR]
    tree = {"title": "Transfer", "caption": "mAP.", "rows": rows, "panels": [BIGEARTHNET]}
    return Experiment.model_validate(tree | changes)


def curve(x: dict[float, str], **changes: object) -> Experiment:
    rows = [{"label": f"{k:g}", "x": k, "method": "decur", "variant": v} for k, v in x.items()]
    panels = [BIGEARTHNET | {"paper": None}, GEONRW]
    return experiment(kind="curve", x_label="share", rows=rows, panels=panels, **changes)


def put(paths: Paths, run: str, cell: str, **metrics: float) -> Path:
    path = Path(paths.metrics(run, cell))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"run": run, "cell": cell, "metrics": metrics}))
    return path


def put_all(paths: Paths, wanted: Experiment, settings: Config) -> None:
    """Every metric of every run, seeded."""
    rng = np.random.default_rng(0)
    for run, cells in transfer_runs([wanted], settings).items():
        for cell in cells:
            names = ("map_micro", "miou", "common", "unique1")
            put(paths, str(run), str(cell), **{n: float(rng.uniform(30, 90)) for n in names})


def put_alignment(paths: Paths, run: Run, loss: np.ndarray) -> Path:
    """48 common and 16 unique dimensions; `loss` is `(batches, 64)`."""
    path = Path(paths.explain(str(run), "alignment"))
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = run.method != "decur"
    part = ["all"] * 64 if whole else ["common"] * 48 + ["unique"] * 16
    frames = [
        pd.DataFrame({"batch": i, "dimension": range(64), "part": part, "loss": batch})
        for i, batch in enumerate(loss)
    ]
    pd.concat(frames).to_csv(path, index=False)
    return path


def image(path: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(Path(path).read_bytes())).convert("L"))
