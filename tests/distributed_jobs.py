"""What the processes of tests/test_distributed.py run: ``python distributed_jobs.py FOLDER JOB...``.

Every job can be run by one process or by several; each of them leaves ``FOLDER/JOB<size>-<rank>.json``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from posekit import create_model, inference, training
from posekit.codecs import Coordinates, GaussianHeatmap
from posekit.data import Augmentation, CocoKeypoints, CropLoader
from posekit.training import Recipe

SIZE = (32, 32)
RECIPE = Recipe(
    name="test", lr=3e-3, optimizer="adamw", weight_decay=1e-2, epochs=2, batch_size=7, clip=1.0, ema=0.9,
    evaluations=2, augmentation=Augmentation(),
)  # fmt: skip


class Maps(nn.Module):
    """Heatmaps without batch statistics, and a parameter that nobody reads."""

    def __init__(self, norm=lambda channels: nn.GroupNorm(2, channels)):
        super().__init__()
        self.input_size, self.codec = SIZE, GaussianHeatmap(SIZE, stride=4)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), norm(8), nn.ReLU(), nn.Conv2d(8, 17, 3, 2, 1))
        self.unread = nn.Parameter(torch.ones(3))

    def forward(self, images):
        return self.layers(images)


class Points(nn.Module):
    """Coordinates: their loss is a mean over labelled joints, of which no two parts of a batch have equally many."""

    def __init__(self):
        super().__init__()
        self.input_size, self.codec = SIZE, Coordinates(SIZE)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 34))

    def forward(self, images):
        return self.layers(images).unflatten(-1, (17, 2))


def make(net, *args):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return net(*args)


def people(folder):
    """The dataset that the test has drawn."""
    return CocoKeypoints(folder / "people.json", folder / "images")


def curves(net, data, folder, name, *, device="cpu", **options):
    """Records of a run and its final weights."""
    result = training.fit(
        net, data, data, RECIPE, out_dir=folder / name, seed=4, device=device, log_every=1, progress=False, **options
    )
    state = {key: value.double().sum().item() for key, value in net.state_dict().items()}
    return {"history": result.history, "metrics": result.metrics, "state": state}


def job_loss(folder, size):
    """The same batches by any number of processes: a dataset and arrays, both kinds of losses."""
    data = people(folder)
    crops = data.trainable()
    loader = training.ArrayLoader.of(CropLoader(crops, SIZE, batch_size=50), batch_size=7, seed=2)
    found = {"maps": curves(make(Maps), data, folder, f"maps{size}")}
    net, fixed = make(Points), training.ArrayLoader(loader.images, loader.keypoints, loader.visibility, shuffle=False)
    result = training.fit(
        net, loader, fixed, RECIPE, out_dir=folder / f"points{size}", seed=4, device="cpu", log_every=1, progress=False
    )
    return found | {"points": {"history": result.history, "metrics": result.metrics}}


def job_evaluate(folder, size):
    """Nine people in batches of two are five batches: neither they nor the people can be halved."""
    data = people(folder).trainable()
    data = data.with_people(data.people.select(np.arange(9)))
    net = make(create_model, "tiny_simple_baseline").eval()
    found = inference.evaluate(net, data, device="cpu", batch_size=2, processes=inference.join("cpu"))
    predictions = found.predictions
    return {
        "person": predictions.person.tolist(), "keypoints": predictions.keypoints.tolist(), "summary": found.summary()
    }  # fmt: skip


def job_models(folder, size):
    """One step of networks whose parameters are not all read, or whose outputs are several."""
    data = people(folder)
    recipe = dataclasses.replace(RECIPE, epochs=None, samples=14, ema=None)
    names = ("tiny_hrformer", "tiny_srpose", "tiny_transpose", "tiny_simcc")
    losses = {}
    for name in names:
        net = make(create_model, name)
        training.fit(net, data, None, recipe, out_dir=folder / f"{name}{size}", seed=0, device="cpu", progress=False)
        losses[name] = float(sum(value.double().abs().sum() for value in net.state_dict().values()))
    return losses


def job_death(folder, size):
    """The last process dies without a word at its third batch."""

    class Fatal(Maps):
        steps = 0

        def forward(self, images):
            self.steps += self.training
            if os.environ["RANK"] == str(size - 1) and self.steps == 3:
                os._exit(7)
            return super().forward(images)

    Fatal.__name__ = "Maps"  # a name is part of a run's configuration
    return curves(make(Fatal), people(folder), folder, "killed", checkpoint_seconds=0)


def job_resume(folder, size):
    """Goes on where the processes of the last job were."""
    return curves(make(Maps), people(folder), folder, "killed")


def job_norm(folder, size):
    """Batch norm on a GPU: two processes share it, so the group is gloo's, opened here."""
    if size > 1:
        torch.distributed.init_process_group("gloo")
    data = people(folder)
    net = make(Maps, nn.BatchNorm2d)
    found = curves(net, data, folder, f"norm{size}", device="cuda")
    return found | {"kind": type(net.layers[1]).__name__}


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, *jobs = sys.argv[1:]
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), os.environ.get("RANK", "0")
    for job in jobs:
        try:
            answer = globals()[f"job_{job}"](Path(folder), size)
        except training.TrainingError as error:
            print(error, file=sys.stderr)
            sys.exit(2)
        Path(folder, f"{job}{size}-{rank}.json").write_text(json.dumps(answer))
