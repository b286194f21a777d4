"""Milliseconds per person of the crop loader, beside a plain pipeline in the style of published code.

    POSEKIT_REALDATA=... python tests/benchmarks/bench_crops.py [--json FILE] [--rounds 15]

One thread, the process's CPU clock, all cases in turn in every round, medians. The people are those of the four real
COCO pictures (3 a picture; COCO has 2.65), cut at 256x192; copies of the pictures count as pictures of their own and
fill a batch of 64.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from posekit import data
from posekit.annotations import People
from posekit.data.augmentation import hrnet_coco
from posekit.data.images import IMAGENET_MEAN, IMAGENET_STD, read_image, warp
from posekit.geometry import crop_affine

SIZE, BATCH = (256, 192), 64


def medians(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds per person of each case, all cases run once in every round."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for r in range(rounds + 1):
        for name, run in cases.items():
            start = time.process_time()
            run()
            if r:  # the first round warms caches
                times[name].append((time.process_time() - start) / BATCH * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def three_points(centre: np.ndarray, width: float, rotation: float) -> np.ndarray:
    """The affine of published loaders: centre, a point above it, a third at a right angle."""
    h, w = SIZE
    angle = np.deg2rad(rotation)
    source, target = np.zeros((3, 2), np.float32), np.zeros((3, 2), np.float32)
    source[0], source[1] = centre, centre + np.array([np.sin(angle), -np.cos(angle)]) * width / 2
    target[0], target[1] = (w / 2, h / 2), (w / 2, h / 2 - w / 2)
    for points in (source, target):
        across = points[0] - points[1]
        points[2] = points[1] + np.array([-across[1], across[0]])
    return cv2.getAffineTransform(source, target)


class Peer:
    """One sample at a time: decode, colour, mirror by copying the picture, three points, float tensor, normalise."""

    def __init__(self, dataset: data.CocoKeypoints, *, train: bool, decoded: bool) -> None:
        self.people, self.train = dataset.people, train
        self.paths = [str(dataset.image_path(i)) for i in range(len(self.people.image_ids))]
        self.pictures = [cv2.imread(p) for p in self.paths] if decoded else None
        self.mean, self.std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[torch.Tensor, np.ndarray]:
        people = self.people
        index = people.image_index[n]
        picture = cv2.imread(self.paths[index]) if self.pictures is None else self.pictures[index]
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        joints = people.keypoints[n].copy()
        x, y, w, h = people.box[n]
        centre, width = np.array([x + w / 2, y + h / 2]), max(w, h * 0.75) * 1.25
        rotation = 0.0
        if self.train:
            width *= np.clip(rng.standard_normal() * 0.35 + 1, 0.65, 1.35)
            rotation = np.clip(rng.standard_normal() * 45, -90, 90) if rng.random() <= 0.6 else 0.0
            if rng.random() <= 0.5:
                picture = picture[:, ::-1, :]
                joints[:, 0] = picture.shape[1] - joints[:, 0] - 1
                joints = joints[people.skeleton.flip_index]
                centre[0] = picture.shape[1] - centre[0] - 1
        affine = three_points(centre, width, rotation)
        crop = cv2.warpAffine(picture, affine, SIZE[::-1], flags=cv2.INTER_LINEAR)
        image = torch.from_numpy(crop.transpose(2, 0, 1)).contiguous().float().div_(255)
        image.sub_(self.mean).div_(self.std)
        for k in range(len(joints)):
            joints[k] = affine @ np.array([joints[k, 0], joints[k, 1], 1.0])
        return image, joints

    def __call__(self) -> torch.Tensor:
        rng = np.random.default_rng(0)
        samples = [self.sample(n, rng) for n in range(len(self.people))]
        return torch.stack([image for image, _ in samples])


def flip_ratio(dataset: data.CocoKeypoints, repeats: int) -> tuple[float, float, float]:
    """Time of a mirrored crop over that of the same crop unmirrored: median over people, 25th and 75th percentile.

    Each person is cut ``repeats`` times both ways in turn, which of the two first alternating; the fastest of each
    counts, because what disturbs a single cut only ever adds to it.
    """
    people = dataset.people
    view = hrnet_coco().draw(
        people.keypoints, people.visibility, people.box, size=SIZE, skeleton=people.skeleton,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    affine = [crop_affine(view.box, SIZE, rotation=view.rotation, flip=flip) for flip in (False, True)]
    crop = np.empty((*SIZE, 3), np.uint8)
    kept = {index: read_image(dataset.image_file(index)) for index in set(people.image_index.tolist())}
    ratios = []
    for n, index in enumerate(people.image_index.tolist()):
        best = [float("inf"), float("inf")]
        for r in range(2 * repeats):
            flip = (r + r // 2) % 2  # 0 1 1 0: each comes first as often
            start = time.perf_counter()
            warp(kept[index], affine[flip][n], crop)
            best[flip] = min(best[flip], time.perf_counter() - start)
        ratios.append(best[1] / best[0])
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    return float(middle), float(low), float(high)


def stages(dataset: data.CocoKeypoints) -> dict[str, Callable[[], object]]:
    """Single steps of ours, each over the whole batch."""
    people = dataset.people
    paths = [dataset.image_file(i) for i in people.image_index]
    kept = {index: read_image(path) for index, path in zip(people.image_index, paths)}
    pictures = [kept[index] for index in people.image_index]
    view = hrnet_coco().draw(
        people.keypoints,
        people.visibility,
        people.box,
        size=SIZE,
        skeleton=people.skeleton,
        rng=np.random.default_rng(0),
    )
    out = np.empty((BATCH, *SIZE, 3), np.uint8)
    normalised = torch.empty(BATCH, 3, *SIZE).contiguous(memory_format=torch.channels_last)
    affine = {flip: crop_affine(view.box, SIZE, rotation=view.rotation, flip=flip) for flip in (False, True)}

    def cut(flip: bool) -> None:
        for picture, matrix, crop in zip(pictures, affine[flip], out):
            warp(picture, matrix, crop)

    images = torch.from_numpy(out).permute(0, 3, 1, 2)
    return {
        "decode": lambda: [read_image(path) for path in paths],
        "warp": lambda: cut(False),
        "warp flipped": lambda: cut(True),
        "normalise, fresh memory": lambda: data.normalise(images),
        "normalise, memory reused": lambda: data.normalise(images, out=normalised),
    }


def pipelines(dataset: data.CocoKeypoints) -> dict[str, Callable[[], object]]:
    """Whole batches, ours and the peer's, with and without decoding."""
    normalised = torch.empty(BATCH, 3, *SIZE).contiguous(memory_format=torch.channels_last)

    def ours(**options: object) -> Callable[[], object]:
        loader = data.CropLoader(dataset, SIZE, batch_size=BATCH, **options)  # type: ignore[arg-type]
        return lambda: [data.normalise(batch.images, out=normalised) for batch in loader]

    train = {"augmentation": hrnet_coco(), "shuffle": True}
    return {
        "train, decoded": ours(**train, cache_images=True),
        "train": ours(**train),
        "val": ours(),
        "peer train, decoded": Peer(dataset, train=True, decoded=True),
        "peer train": Peer(dataset, train=True, decoded=False),
        "peer val": Peer(dataset, train=False, decoded=False),
    }


def copies(people: People) -> People:
    """BATCH people: those given and their copies on copies of their pictures."""
    times, pictures = -(-BATCH // len(people)), len(people.image_ids)
    copy, row = np.divmod(np.arange(BATCH), len(people))
    chosen = people.select(row)
    return dataclasses.replace(
        chosen,
        ids=np.arange(BATCH),
        image_ids=np.arange(times * pictures),
        image_sizes=np.tile(people.image_sizes, (times, 1)),
        file_names=np.tile(people.file_names, times),
        image_index=chosen.image_index + copy * pictures,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    coco = Path(os.environ.get("POSEKIT_REALDATA", ""), "coco")
    if not (coco / "test_coco.json").is_file():
        print("crops are timed on real pictures: set POSEKIT_REALDATA to the folder that has them in coco/")
        return
    dataset = data.CocoKeypoints(coco / "test_coco.json", coco).trainable()
    dataset = dataset.with_people(copies(dataset.people))
    ms = medians(stages(dataset) | pipelines(dataset), args.rounds)
    ms["rest (draw, affine, keypoints, batch, colder pictures)"] = (
        ms["train, decoded"] - (ms["warp"] + ms["warp flipped"]) / 2 - ms["normalise, memory reused"]
    )
    flipped, low, high = flip_ratio(dataset, 20 * args.rounds)
    ratios = {
        "flipped / unflipped warp": flipped,
        "peer / ours, train, all but decoding": ms["peer train, decoded"] / ms["train, decoded"],
        "peer / ours, train": ms["peer train"] / ms["train"],
        "peer / ours, val": ms["peer val"] / ms["val"],
    }
    for name, value in ms.items():
        print(f"{value:8.3f} ms  {name}")
    for name, value in ratios.items():
        print(f"{value:8.2f} x   {name}")
    print(f"flipped / unflipped, person by person: half of them lie in {low:.3f} .. {high:.3f}")
    print(f"all but decoding: {ms['train, decoded']:.3f} ms a person (at most 0.5, aim 0.3)")
    if args.json:
        args.json.write_text(json.dumps({"ms_per_person": ms, "ratios": ratios}, indent=1) + "\n")


if __name__ == "__main__":
    main()
