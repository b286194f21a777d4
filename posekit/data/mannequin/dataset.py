"""Mannequin, the embedded dataset: rendered on first use, cached as standard COCO files, resumed when interrupted."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from posekit.annotations import AnnotationError, read_people
from posekit.annotations.parsing import load_json
from posekit.data.coco import PeopleDataset
from posekit.data.images import cv2, read_image
from posekit.data.mannequin.difficulty import LEVELS, Difficulty, View
from posekit.data.mannequin.records import annotation_records, header, image_record
from posekit.data.mannequin.scene import SPLITS, sample_scene
from posekit.files import whole

GENERATOR = 4  # raise when pictures or labels change, so that old caches are not mistaken for new ones
SCENES = {"train": 3000, "val": 500, "test": 500}
PART = 48  # scenes that are written and remembered together
BATCH = 3  # scenes handed to the renderer together


class Mannequin(PeopleDataset):
    """Articulated figures in furnished scenes with exact COCO-17 keypoints.

    The first use renders ``scenes`` pictures with a progress bar; later uses read the cache. Scene ``i`` of a split
    depends on (seed, split, i, knobs, size) alone; splits have generators of their own. People with fewer than six
    visible keypoints, or smaller than 0.4 % of the picture, have a mask and a box but no keypoints.

    Args:
        split: "train", "val" or "test".
        level: "bib", "face" or "natural", or a :class:`Difficulty` of your own.
        view: "balanced" or "front"; None takes the level's own, which is balanced for the named ones.
        scenes: number of pictures; None is 3000 for train and 500 for val and test.
        size: (height, width), pixels.
        seed: any integer >= 0.
        root: folder of the caches; None is ``$POSEKIT_DATA``, else ``data/generated`` of the project.
        progress: show a progress bar while rendering.
        device: torch device that renders. A GPU may differ from a CPU in the last bit of some pixels.
        processes: that render together, on a CPU. With more than one, a script must be importable as Python's
            ``multiprocessing`` asks: its work stands under ``if __name__ == "__main__"``.

    Attributes:
        people: :class:`posekit.annotations.People`, rows in scene order.
        yaw: (N,) radians relative to the viewing ray, see :func:`posekit.data.mannequin.records.annotation_records`.
        knobs: the :class:`Difficulty` that was rendered.
        annotation_file: path of the COCO file.

    Raises:
        ValueError: unknown split, level or view, or a size or number of scenes that makes no sense.
    """

    def __init__(
        self,
        split: str,
        *,
        level: str | Difficulty = "face",
        view: View | None = None,
        scenes: int | None = None,
        size: tuple[int, int] = (192, 256),
        seed: int = 0,
        root: str | os.PathLike | None = None,
        progress: bool = True,
        device: str = "cpu",
        processes: int = 1,
    ) -> None:
        self.split, self.seed, self.size = split, int(seed), (int(size[0]), int(size[1]))
        self.knobs = _knobs(level, view)
        whole = SCENES[_split(split)]
        if scenes is not None and scenes != int(scenes):
            raise ValueError(f"Mannequin: scenes={scenes}; it needs a whole number of scenes")
        self.scenes = whole if scenes is None else int(scenes)
        if self.scenes < 1 or min(self.size) < 32 or self.seed < 0:
            raise ValueError(
                f"Mannequin: scenes={self.scenes}, size={self.size}, seed={self.seed}; "
                "it needs at least 1 scene of at least 32 by 32 pixels and a seed of 0 or more"
            )
        title = level if isinstance(level, str) else f"custom-{self.knobs.cue}"
        name = (
            f"mannequin-{split}-{title}-{self.knobs.view}-{self.size[0]}x{self.size[1]}-seed{self.seed}-{self.scenes}"
        )
        self.folder = Path(root if root is not None else default_root()) / f"{name}-{self._digest()}"
        self.annotation_file = self.folder / f"person_keypoints_{split}.json"
        data = self._ready()
        if data is None:
            with _alone(self.folder.with_suffix(".lock")):
                data = self._ready() or self._render(progress, device, processes)
        people = dataclasses.replace(read_people(data), source=str(self.annotation_file))
        super().__init__(people, self.folder / "images", name=name)
        self._ids = np.array([a["id"] for a in data["annotations"]], np.int64)
        self._yaws = np.array([a["yaw"] for a in data["annotations"]], float)

    @property
    def yaw(self) -> np.ndarray:
        """(N,) radians of ``people``; also after ``with_people`` and ``trainable``."""
        return self._yaws[np.searchsorted(self._ids, self.people.ids)]

    def pictures(self) -> np.ndarray:
        """(I, H, W, 3) uint8 RGB: all pictures at once, for sets that fit into memory."""
        out = np.empty((len(self.people.image_ids), *self.size, 3), np.uint8)
        for i, image_id in enumerate(self.people.image_ids.tolist()):
            out[i] = read_image(self.image_file(i), image_id=image_id)
        return out

    def _digest(self) -> str:
        key = json.dumps([GENERATOR, dataclasses.asdict(self.knobs)], sort_keys=True)
        return hashlib.sha256(key.encode()).hexdigest()[:8]

    def _ready(self) -> dict | None:
        """The finished annotation file; None when it is missing, damaged, or a picture is missing or truncated."""
        try:
            data = load_json(self.annotation_file)
            if len(data["images"]) == self.scenes and not _bad_pictures(self.folder / "images", data["images"]):
                return data
        except (OSError, AnnotationError, KeyError, TypeError):
            return None
        return None

    def _render(self, progress: bool, device: str, processes: int) -> dict:
        from tqdm import tqdm

        images, parts = self.folder / "images", self.folder / "parts"
        images.mkdir(parents=True, exist_ok=True)
        parts.mkdir(exist_ok=True)
        data = header(f"Mannequin {self.split}, {self.knobs}, seed {self.seed}, generator {GENERATOR}")
        data |= {"images": [], "annotations": []}
        plan = Plan(self.split, self.seed, self.knobs, self.size)
        todo = [range(first, min(first + PART, self.scenes)) for first in range(0, self.scenes, PART)]
        jobs = [(plan, parts / f"{indices[0]:06d}.json", images, indices, device) for indices in todo]
        with tqdm(
            total=self.scenes, desc=f"rendering {self.split}", unit="scene", disable=not progress, leave=False
        ) as bar:
            for part in _drawn(jobs, min(processes, len(jobs)) if device == "cpu" else 1, bar.update):
                data["images"] += part["images"]
                data["annotations"] += part["annotations"]
        _write(self.annotation_file, json.dumps(data).encode())
        for path in parts.iterdir():
            path.unlink()
        parts.rmdir()
        return data


class Plan(NamedTuple):
    """What a scene of a dataset depends on, besides its number."""

    split: str
    seed: int
    knobs: Difficulty
    size: tuple[int, int]


def _drawn(
    jobs: Sequence[tuple[Plan, Path, Path, range, str]], processes: int, update: Callable[[int], Any]
) -> Iterator[dict]:
    """The records of every job of :func:`_part`, in order; ``update`` hears of scenes as they are done."""
    if processes < 2:
        for job in jobs:
            yield _part(*job, update=update)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # Not forked: torch's threads would not survive it.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=spawn, initializer=_end_with, initargs=(os.getpid(),))
    try:
        for job, drawn in zip(jobs, [pool.submit(_part, *job) for job in jobs]):
            yield drawn.result()
            update(len(job[3]))
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with(parent: int) -> None:
    """End this process when the one that started it has been killed; nobody else would."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _part(
    plan: Plan,
    path: Path,
    images: Path,
    indices: range,
    device: str,
    update: Callable[[int], Any] = lambda scenes: None,
) -> dict:
    """Records of some scenes: from an earlier, interrupted run where its pictures are whole, else rendered."""
    with contextlib.suppress(OSError, AnnotationError, KeyError, TypeError):
        part = load_json(path)
        if len(part["images"]) == len(indices) and not _bad_pictures(images, part["images"]):
            update(len(indices))
            return part
    part = {"images": [], "annotations": []}
    for start in range(0, len(indices), BATCH):
        for index, scene, rendered in render_scenes(plan, indices[start : start + BATCH], device):
            name, data = f"{index:06d}.png", encode_png(rendered.image)
            _write(images / name, data)
            part["images"].append(image_record(index, scene, name, len(data)))
            part["annotations"] += annotation_records(index, scene, rendered)
            update(1)
    _write(path, json.dumps(part).encode())
    return part


def render_scenes(plan: Plan, indices, device: str) -> Iterator[tuple]:
    """(index, scene, rendered) of some scenes of a plan, rendered together."""
    from posekit.data.mannequin.render import render

    scenes = [sample_scene(plan.seed, plan.split, i, plan.knobs, plan.size) for i in indices]
    yield from zip(indices, scenes, render(scenes, device=device))


def encode_png(image: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB -> PNG, by OpenCV or, without it, Pillow: other bytes, the same pixels."""
    if cv2 is not None:
        return cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    from PIL import Image

    file = BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)  # as OpenCV has it
    return file.getvalue()


def default_root() -> Path:
    """``$POSEKIT_DATA``; else ``data/generated`` of the project when it is a checkout; else the user's cache."""
    if os.environ.get("POSEKIT_DATA"):
        return Path(os.environ["POSEKIT_DATA"])
    project = Path(__file__).resolve().parents[3]
    if (project / "pyproject.toml").exists():
        return project / "data" / "generated"
    return Path.home() / ".cache" / "posekit"


def _split(split: str) -> str:
    if split not in SPLITS:
        raise ValueError(f"Mannequin: split '{split}' is unknown; choose train, val or test")
    return split


def _knobs(level: str | Difficulty, view: View | None) -> Difficulty:
    if isinstance(level, str):
        if level not in LEVELS:
            raise ValueError(f"Mannequin: level '{level}' is unknown; choose {', '.join(LEVELS)} or pass a Difficulty")
        level = LEVELS[level]
    return level if view is None else dataclasses.replace(level, view=view)


def _bad_pictures(folder: Path, records: list[dict]) -> list[str]:
    """Names of pictures that are missing or not as long as they were written."""
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
    return [r["file_name"] for r in records if sizes.get(r["file_name"]) != r["bytes"]]


def _write(path: Path, data: bytes) -> None:
    with whole(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock file; it is freed with the process, so a killed render blocks nobody."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        try:
            import fcntl
        except ImportError:  # no such lock on this platform; files are still replaced whole
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
