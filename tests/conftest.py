"""Shared fixtures: where the outside evidence lies. It is read from there and never copied into the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


def _folder(variable: str, holds: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set; it names the folder with {holds}")
    path = Path(value)
    if not path.is_dir():
        pytest.fail(f"{variable}={value} is no folder; it should hold {holds}")
    return path


@pytest.fixture(scope="session")
def realdata() -> Path:
    """A few real COCO, MPII and CrowdPose pictures with annotations and person detections."""
    return _folder("POSEKIT_REALDATA", "real pictures with annotations")


@pytest.fixture(scope="session")
def parity() -> Path:
    """Outputs of the original networks and codecs under a deterministic fill."""
    return _folder("POSEKIT_PARITY", "outputs of the original networks and codecs")
