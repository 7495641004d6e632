"""The rehearsal of the paper's scale: its configs, and a part of it that has one of everything."""

from pathlib import Path

from tests.support import HOME

CONFIGS = tuple(HOME / "config" / name for name in ("paper.yaml", "rehearsal.yaml"))
ROOT = Path("results/rehearsal")

INDOOR, SHARED = "rgb-depth/decur/default/seed-0", "sar-optical/decur/common-100/seed-0"
CELLS = (
    "sar-optical/random/default/seed-0/bigearthnet/sar+optical/knn/labels-100",
    "sar-optical/random/default/seed-0/bigearthnet/sar/knn-5/labels-100",
    "rgb-dem/random/default/seed-0/geonrw/rgb+dem/logistic/labels-100",
    "sar-optical/supervised/default/seed-0/bigearthnet/sar+optical/fine-tune/labels-1",
    "sar-optical/barlow-twins-single/default/seed-0/bigearthnet/sar/linear/labels-1",
    "rgb-dem/barlow-twins/default/seed-0/geonrw/rgb+dem/linear/labels-1",
    "rgb-dem/decur/official/seed-0/geonrw/rgb+dem/linear-official/labels-1",
)
RUNS = (
    "sar-optical/vicreg/default/seed-0",
    "rgb-dem/simclr/default/seed-0",
    "rgb-dem/clip/default/seed-0",
)
TARGETS = tuple(
    f"{ROOT}/{path}"
    for path in (
        "config.json",
        "tables/gallery-nyuv2.json",  # by fine-tuning, and by CMX on two of the larger networks
        *(f"transfer/{cell}/metrics.json" for cell in CELLS),
        *(f"pretrain/{run}/weights.safetensors" for run in RUNS),
        *(
            f"explain/{INDOOR}/{kind}.csv"
            for kind in ("alignment", "tsne", "gradcam", "saliency", "spectral")
        ),
        f"explain/{SHARED}/share.csv",
    )
)
"""Each rule, method, protocol and explainer of the rehearsal; one rule of those of tables."""
