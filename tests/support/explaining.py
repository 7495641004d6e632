"""Small recipes of the explainers."""

from decur.config import EXPLAINERS, Explain, ExplainSettings, PretrainSettings

RECIPES = Explain.model_validate(
    {
        "alignment": {"batch_size": 12, "batches": 5},
        "tsne": {"batch_size": 12, "batches": 2, "iterations": 250},
        "gradcam": {"samples": 2, "pixels": 32},
        "saliency": {"samples": 5, "pixels": 32},
        "spectral": {"samples": 3, "steps": 4},
    }
)


def explain_settings(kind: str, base: PretrainSettings) -> ExplainSettings:
    return EXPLAINERS[kind](run="r", pretrain=base, recipe=getattr(RECIPES, kind))
