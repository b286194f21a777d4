"""Training: recipes, the loop, checkpoints, in-memory data.

>>> recipe = training.quick_ce(samples=45_000)
>>> training.fit(model, train, val, recipe, out_dir="build/runs/first", seed=0)
"""

from posekit.training.arrays import ArrayBatch, ArrayLoader, Batch, Loader
from posekit.training.checkpoint import TrainingError, WeightAverage, load_tensors, save_tensors
from posekit.training.folder import CHECKPOINT, WEIGHTS
from posekit.training.loop import FitResult, fit, supervised_loss
from posekit.training.provenance import commit, hardware, provenance
from posekit.training.recipes import (
    Recipe,
    RecipeError,
    config_digest,
    cpn,
    hrnet_coco,
    hrnet_mpii,
    mmpose_coco,
    quick,
    quick_ce,
    simple_baseline_coco,
    srpose,
    srpose_hrformer,
    transpose_r,
)
from posekit.training.tensorboard import tensorboard

__all__ = [
    "CHECKPOINT",
    "WEIGHTS",
    "ArrayBatch",
    "ArrayLoader",
    "Batch",
    "FitResult",
    "Loader",
    "Recipe",
    "RecipeError",
    "TrainingError",
    "WeightAverage",
    "commit",
    "config_digest",
    "cpn",
    "fit",
    "hardware",
    "hrnet_coco",
    "hrnet_mpii",
    "load_tensors",
    "mmpose_coco",
    "provenance",
    "quick",
    "quick_ce",
    "save_tensors",
    "simple_baseline_coco",
    "srpose",
    "srpose_hrformer",
    "supervised_loss",
    "tensorboard",
    "transpose_r",
]
