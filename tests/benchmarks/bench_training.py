"""Training steps: ours end to end against the plain recipe, and against the network alone (the floor).

The plain recipe is what pose repositories do: float32, the default memory layout, targets drawn per sample and joint
on the CPU. The floor is the same network, precision and layout on one batch that is already there: forward, backward,
optimizer. What ours takes beyond it is loader, normalisation, targets, loss bookkeeping and checkpoints.

    python tests/benchmarks/bench_training.py [--model tiny_simple_baseline] [--device cuda] [--batch 24] [--json FILE]
"""

from __future__ import annotations

import tempfile
import time

import numpy as np
import torch
from common import arguments, interleave, report, versions, write

import posekit
from posekit import training
from posekit.codecs import GaussianHeatmap
from posekit.inference import to_input

STEPS = 40


def make_data(count: int, size: tuple[int, int]) -> tuple[torch.Tensor, np.ndarray]:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (count, 3, *size), dtype=np.uint8))
    return images, rng.uniform(0, size[1], (count, 17, 2)).astype(np.float32)


def gaussians_one_by_one(keypoints: np.ndarray, codec: GaussianHeatmap) -> np.ndarray:
    """(K, 2) -> (K, h, w): a loop over joints, a patch each, as ``generate_target`` of the original code."""
    h, w = codec.heatmap_size
    radius = int(3 * codec.sigma)
    span = np.arange(-radius, radius + 1)
    patch = np.exp(-(span[:, None] ** 2 + span[None] ** 2) / (2 * codec.sigma**2)).astype(np.float32)
    target = np.zeros((len(keypoints), h, w), np.float32)
    for k, (x, y) in enumerate(keypoints):
        cx, cy = int(x / codec.stride + 0.5), int(y / codec.stride + 0.5)
        left, right, top, bottom = (
            max(0, cx - radius),
            min(w, cx + radius + 1),
            max(0, cy - radius),
            min(h, cy + radius + 1),
        )
        if left < right and top < bottom:
            cut = patch[top - cy + radius : bottom - cy + radius, left - cx + radius : right - cx + radius]
            target[k, top:bottom, left:right] = cut
    return target


def plain(
    model: torch.nn.Module, images: torch.Tensor, keypoints: np.ndarray, batch: int, device: torch.device
) -> None:
    model.to(device=device, memory_format=torch.contiguous_format).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    for step in range(STEPS):
        rows = range(step * batch, (step + 1) * batch)
        inputs, targets = [], []
        for row in rows:
            inputs.append((images[row].float() / 255 - mean) / std)
            targets.append(torch.from_numpy(gaussians_one_by_one(keypoints[row], model.codec)))
        prediction = model(torch.stack(inputs).to(device))
        loss = torch.nn.functional.mse_loss(prediction, torch.stack(targets).to(device)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()


def floor(model: torch.nn.Module, images: torch.Tensor, batch: int, device: torch.device, bf16: bool) -> None:
    model.to(device=device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    inputs = to_input(images[:batch], device)
    for _ in range(STEPS):
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = model(inputs).float().square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="tiny_simple_baseline")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=24)
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    batch = options.batch
    model = posekit.create_model(options.model)
    images, keypoints = make_data(STEPS * batch, model.input_size)
    loader = training.ArrayLoader(images.to(device), keypoints, batch_size=batch)
    recipe = training.Recipe(name="bench", lr=1e-3, optimizer="adamw", batch_size=batch, epochs=1, bf16=True)

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            training.fit(model, loader, None, recipe, out_dir=folder, seed=0, device=device)

    cases = {
        "posekit fit (bf16)": ours,
        "network alone (bf16)": lambda: floor(model, images, batch, device, True),
        "plain recipe (fp32, per-sample targets)": lambda: plain(model, images, keypoints, batch, device),
    }
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    seconds = interleave(cases, rounds=options.rounds, clock=clock)
    title = f"{options.model}, batch {batch}, {device.type}"
    table = report(title, seconds, reference="posekit fit (bf16)", per=STEPS * batch, unit="sample")
    write(options.json, {"versions": versions("torch", "numpy"), "training": table})


if __name__ == "__main__":
    main()
