"""Networks, one file per paper, by name from :func:`create_model`."""

from posekit.models.base import ModelError, PoseModel, Supervision
from posekit.models.catalog import create_model, list_models, model_options
from posekit.models.checkpoints import LoadReport, load_weights
from posekit.models.own_files import save_weights

__all__ = [
    "LoadReport",
    "ModelError",
    "PoseModel",
    "Supervision",
    "create_model",
    "list_models",
    "load_weights",
    "model_options",
    "save_weights",
]
