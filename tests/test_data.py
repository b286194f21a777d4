"""Readers, crops, augmentation and normalisation, on pictures made here."""

from __future__ import annotations

import copy
import dataclasses
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from posekit import data
from posekit.annotations import AnnotationError, People
from posekit.data import augmentation as recipes
from posekit.data import coco, crops, images
from posekit.data.augmentation import Augmentation
from posekit.skeletons import COCO17

SIZE = (128, 96)
COLOURS = np.stack([np.linspace(60, 255, 17), np.linspace(255, 60, 17), 60 + np.arange(17) * 53 % 190], 1).astype(int)


@dataclasses.dataclass
class Pictures:
    """The least a dataset is."""

    people: People
    folder: Path
    name: str = "dots"

    @property
    def skeleton(self):
        return self.people.skeleton

    def image_path(self, image_index: int) -> Path:
        return self.folder / self.people.file_name(image_index)


def make_people(images_: int, people: int, *, seed: int = 0, size=(240, 320), suffix="png") -> People:
    """``people`` persons in each of ``images_`` pictures, keypoints at least 16 pixels apart."""
    rng = np.random.default_rng(seed)
    N, (height, width) = images_ * people, size
    grid = np.stack(np.meshgrid(np.arange(5), np.arange(4)), -1).reshape(-1, 2)
    cells = np.stack([rng.permutation(20)[:17] for _ in range(N)])
    corner = rng.uniform([20, 30], [width - 110, height - 90], (N, 1, 2))
    keypoints = corner + grid[cells] * [16, 18] + rng.uniform(-1, 1, (N, 17, 2))
    low, high = keypoints.min(1), keypoints.max(1)
    return People(
        skeleton=COCO17,
        image_ids=1000 + np.arange(images_),
        image_sizes=np.full((images_, 2), size, np.int32),
        file_names=np.array([f"{i:04d}.{suffix}".encode() for i in range(images_)]),
        ids=np.arange(N),
        image_index=np.tile(np.arange(images_), people),
        keypoints=keypoints,
        visibility=np.full((N, 17), 2, np.uint8),
        box=np.concatenate([low, high - low], 1),
        area=np.full(N, 1000.0),
        is_crowd=np.zeros(N, bool),
        num_keypoints=np.full(N, 17, np.int32),
        source="dots.json",
    )


def draw_dots(people: People, folder: Path) -> None:
    """One disc per keypoint, in the keypoint's own colour."""
    for i in range(len(people.image_ids)):
        picture = np.zeros((*people.image_sizes[i], 3), np.uint8)
        for n in np.flatnonzero(people.image_index == i):
            for point, colour in zip(people.keypoints[n], COLOURS):
                cv2.circle(picture, (point * 16).round().astype(int).tolist(), 5 * 16, colour.tolist(), -1, shift=4)
        Image.fromarray(picture).save(folder / people.file_name(i))


@pytest.fixture(scope="module")
def dots(tmp_path_factory):
    """16 people alone in their pictures."""
    folder = tmp_path_factory.mktemp("dots")
    people = make_people(16, 1)
    draw_dots(people, folder)
    return Pictures(people, folder)


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    """4 pictures of 3 people; the annotation file lists them picture by picture three times over."""
    folder = tmp_path_factory.mktemp("groups")
    people = make_people(4, 3, suffix="jpg")
    draw_dots(people, folder)
    return Pictures(people, folder)


# Crops


@pytest.mark.parametrize("protocol", ["hrnet", "udp"])
@pytest.mark.parametrize("augmentation", [None, Augmentation(), recipes.srpose_coco(), recipes.mirror_only()])
def test_every_named_keypoint_lies_on_its_own_dot_of_the_crop(dots, augmentation, protocol):
    loader = data.CropLoader(dots, SIZE, batch_size=8, augmentation=augmentation, seed=1, protocol=protocol)
    checked, flipped = 0, 0
    for batch in loader:
        h, w = SIZE
        place = batch.keypoints.round().long()
        inside = (place >= 2).all(-1) & (place[..., 0] < w - 2) & (place[..., 1] < h - 2)
        for b, k in inside.nonzero().tolist():
            x, y = place[b, k].tolist()
            # What is named left in a mirrored crop was drawn as right.
            drawn = COLOURS[COCO17.flip_index[k] if batch.flip[b] else k]
            assert np.abs(batch.images[b, :, y, x].numpy().astype(int) - drawn).max() <= 3, (b, k)
            checked += 1
        flipped += int(batch.flip.sum())
    assert checked > 100
    assert (flipped > 0) == (augmentation is not None)


def test_a_batch_says_how_it_was_cut(dots):
    (batch,) = data.CropLoader(dots, SIZE, batch_size=16, augmentation=Augmentation())
    assert batch.images.shape == (16, 3, *SIZE) and batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.keypoints.dtype == torch.float32 and batch.visibility.dtype == torch.uint8
    assert batch.affine.dtype == batch.box.dtype == torch.float64 and batch.person.dtype == torch.int64
    centre = batch.box[:, :2] + batch.box[:, 2:] / 2
    seen = (batch.affine @ torch.cat([centre, torch.ones(16, 1)], 1)[..., None])[..., 0]
    torch.testing.assert_close(seen, torch.tensor([[48.0, 64.0]], dtype=torch.float64).expand(16, 2))
    torch.testing.assert_close(batch.box[:, 2] / batch.box[:, 3], torch.full((16,), 0.75, dtype=torch.float64))


def batches(loader, epoch=0):
    loader.set_epoch(epoch)
    return list(loader)


def same(a, b) -> bool:
    return len(a) == len(b) and all(
        torch.equal(getattr(x, f.name), getattr(y, f.name)) for x, y in zip(a, b) for f in dataclasses.fields(x)
    )


def test_the_crops_depend_on_seed_and_epoch_and_not_on_the_number_of_workers(groups):
    def loader(workers=0, seed=3):
        return data.CropLoader(
            groups, SIZE, batch_size=5, augmentation=Augmentation(), shuffle=True, seed=seed, workers=workers
        )

    alone, helped = loader(), loader(workers=2)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = batches(alone)
    assert same(first, batches(helped)) and same(batches(alone, 1), batches(helped, 1))
    assert torch.equal(before, torch.get_rng_state()), "iterating took numbers from torch's global generator"
    assert not same(first, batches(alone, 1)) and not same(first, batches(loader(seed=4)))
    assert sorted(torch.cat([b.person for b in first]).tolist()) == list(range(12))

    in_order = data.CropLoader(groups, SIZE, batch_size=5, augmentation=Augmentation())
    assert not torch.equal(batches(in_order)[0].affine, batches(in_order, 1)[0].affine)

    helped.set_epoch(0)
    for batch in helped:  # leave in the middle, note the place, go on from there with another number of workers
        assert same([batch], first[:1])
        break
    state = helped.state()
    assert state == {"epoch": 0, "batch": 1}
    resumed = loader(workers=0)
    resumed.resume(state)
    assert same(list(resumed), first[1:])
    assert same(batches(helped), first), "an abandoned epoch leaks into the next"


def test_a_picture_is_decoded_once_for_all_its_people_and_the_cache_keeps_to_its_budget(groups, monkeypatch):
    decoded = []
    read = images.read_image
    monkeypatch.setattr(crops, "read_image", lambda path, **k: decoded.append(Path(path).name) or read(path, **k))
    loader = data.CropLoader(groups, SIZE, batch_size=12)
    (batch,) = loader
    assert decoded == ["0000.jpg", "0001.jpg", "0002.jpg", "0003.jpg"]
    assert batch.person.tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]

    decoded.clear()
    one_picture = 240 * 320 * 3
    loader = data.CropLoader(groups, SIZE, batch_size=12, cache_images=True, cache_bytes=2 * one_picture + 1)
    cached = [batches(loader, epoch) for epoch in range(3)]
    assert same(cached[0], [batch]) and same(cached[2], [batch])
    assert len(decoded) == 4 + 2 + 2
    assert sum(p.nbytes for p in loader._cutter.cache.values()) <= 2 * one_picture


def test_drop_last_and_lengths(dots):
    loader = data.CropLoader(dots, SIZE, batch_size=7)
    assert len(loader) == 3 == len(list(loader)) and loader.num_people == 16
    loader = data.CropLoader(dots, SIZE, batch_size=7, drop_last=True)
    assert len(loader) == 2 == len(list(loader)) and loader.num_people == 14


def test_detected_boxes_take_the_place_of_the_annotated_ones(groups):
    records = [
        {"image_id": 1000 + i, "category_id": 1, "bbox": [10.0 + i, 20, 80, 120], "score": s}
        for i, s in ((3, 0.9), (0, 0.2), (3, 0.4))
    ]
    records.append({"image_id": 1001, "category_id": 2, "bbox": [0, 0, 0, 0], "score": 1.0})
    boxes = data.read_boxes(records, groups.people, min_score=0.3)
    assert boxes.image_index.tolist() == [3, 3] and boxes.score.tolist() == [0.9, 0.4]
    (batch,) = data.CropLoader(groups, SIZE, batch_size=4, boxes=boxes)
    assert batch.person.tolist() == [0, 1] and not batch.visibility.any()
    centre = boxes.box[0, :2] + boxes.box[0, 2:] / 2
    np.testing.assert_allclose(batch.box[0, :2] + batch.box[0, 2:] / 2, centre)
    with pytest.raises(ValueError, match="detected boxes carry no keypoints"):
        data.CropLoader(groups, SIZE, batch_size=4, boxes=boxes, augmentation=Augmentation())


def private_dirty() -> int:
    """Bytes of memory that this process wrote and shares with no other."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_Dirty"))


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's /proc/self/smaps_rollup")
def test_a_worker_adds_at_most_one_mebibyte_over_150000_people(tmp_path):
    pictures, N = 60_000, 150_000
    people = make_people(10, 1)
    rows = np.arange(N) % 10
    people = dataclasses.replace(people.select(rows), ids=np.arange(N), image_index=np.arange(N) * 2 // 5)
    people = dataclasses.replace(
        people,
        image_ids=np.arange(pictures),
        image_sizes=np.full((pictures, 2), 8, np.int32),
        file_names=np.array([b"%012d.jpg" % i for i in range(pictures)]),
    )

    class OnePicture(coco.PeopleDataset):
        def image_file(self, image_index: int) -> str:
            super().image_file(image_index)  # reads the name's page of the shared array
            return f"{self.images}/one.png"

    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "one.png")
    loader = data.CropLoader(
        OnePicture(people, tmp_path, name="one"), (16, 12), batch_size=500, augmentation=Augmentation()
    )
    orders = loader._orders()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # a worker as torch forks it; it must not return into the test runner
        try:
            crops._start_worker(0)
            for order in orders[:20]:
                loader._cutter(order)
            before = private_dirty()
            for order in orders:
                loader._cutter(order)
            os.write(writer, str(private_dirty() - before).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        grown = pipe.read()
    os.waitpid(child, 0)
    assert grown and int(grown) <= 1 << 20, f"{grown} bytes"


# Boxes and people


def test_boxes_are_cleaned_as_in_the_official_loader():
    people = make_people(50, 20)
    rng = np.random.default_rng(0)
    box = np.concatenate([rng.uniform(-40, 330, (1000, 2)), rng.uniform(0, 200, (1000, 2))], 1)
    cleaned = coco.clip_boxes(dataclasses.replace(people, box=box)).box
    height, width = 240, 320
    for (x, y, w, h), ours in zip(box, cleaned):
        x1, y1 = max(0, x), max(0, y)
        x2, y2 = min(width - 1, x1 + max(0, w - 1)), min(height - 1, y1 + max(0, h - 1))
        if x2 >= x1 and y2 >= y1:
            np.testing.assert_allclose(ours, [x1, y1, x2 - x1, y2 - y1])
        else:
            assert min(ours[2:]) == 0
    unknown = dataclasses.replace(people, box=box, image_sizes=np.zeros((50, 2), np.int32))
    np.testing.assert_array_equal(coco.clip_boxes(unknown).box, box)


def test_trainable_people_have_keypoints_size_and_are_no_crowd():
    people = copy.deepcopy(make_people(8, 1))
    people.visibility[0] = 0
    people.is_crowd[1] = True
    people.area[2] = 0
    people.box[3, 2] = 0
    people.visibility[4, 1:] = 0
    people.area[5] = np.nan  # CrowdPose's files give none
    assert coco.trainable_people(people).tolist() == [False] * 4 + [True] * 4


# Bad input


def spoil(folder: Path, how: str) -> Path:
    path = folder / "0002.jpg"
    whole = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "truncated jpeg":
        path.write_bytes(whole[: len(whole) * 2 // 3])
    elif how == "truncated png":
        png = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8))[1].tobytes()
        path.write_bytes(png[: len(png) // 2])
    elif how == "text":
        path.write_text("<html>404 Not Found</html>")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "folder":
        path.unlink()
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("missing", "is missing; check the image folder, or download"),
        ("truncated jpeg", "is truncated at"),
        ("truncated png", "is truncated at"),
        ("text", "is not a readable picture; replace it or remove its record"),
        ("empty", "is not a readable picture"),
        ("folder", "cannot be opened"),
    ],
)
def test_a_picture_that_cannot_be_read_is_named_with_its_id(groups, tmp_path, how, says):
    for path in groups.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    path = spoil(tmp_path, how)
    workers = int(how == "truncated jpeg")  # one kind shows that workers pass the error on
    loader = data.CropLoader(Pictures(groups.people, tmp_path), SIZE, batch_size=4, workers=workers)
    with pytest.raises(data.ImageError) as error:
        list(loader)
    assert str(error.value).startswith(f"picture '{path}' (image id 1002)") and says in str(error.value)
    assert "\n" not in str(error.value)


def test_bytes_after_the_end_of_a_jpeg_do_not_make_it_truncated(groups, tmp_path):
    whole = (groups.folder / "0000.jpg").read_bytes()
    (tmp_path / "padded.jpg").write_bytes(whole + b"\0" * 512)
    np.testing.assert_array_equal(data.read_image(tmp_path / "padded.jpg"), data.read_image(groups.folder / "0000.jpg"))


def test_a_picture_is_read_as_stored_whatever_its_orientation_tag_says(tmp_path):
    from PIL import Image

    turned = Image.Exif()
    turned[0x0112] = 6  # "rotate by 90 degrees to display"
    Image.new("RGB", (60, 40)).save(tmp_path / "turned.jpg", exif=turned)
    assert data.read_image(tmp_path / "turned.jpg").shape == (40, 60, 3)


BOX = {"image_id": 1000, "bbox": [1, 2, 3, 4], "score": 1}


def test_boxes_without_size_are_refused_before_any_crop(groups):
    people = copy.deepcopy(groups.people)
    people.box[5] = [10, 10, 0, 0]
    with pytest.raises(AnnotationError, match=r"dots.json: annotation 5 has no size .*dataset.trainable\(\)"):
        data.CropLoader(Pictures(people, groups.folder), SIZE, batch_size=4)


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ([{"image_id": 7, "bbox": [1, 2, 3, 4], "score": 1}], "dots.json does not have, the first is image id 7"),
        ([{"image_id": 1000, "bbox": [1, 2, 3], "score": 1}], "bbox (four numbers)"),
        ([BOX, {"image_id": 1000, "bbox": [1, 2, 3, 4]}], "the record at index 1 lacks image_id, bbox (four numbers)"),
        ([BOX, BOX | {"bbox": [1, 2, 0, 0]}], "the box at index 1 has no size (1, 2, 0, 0); remove such records from"),
        ([BOX | {"category_id": 2}, BOX | {"bbox": [1, 2, -3, 4]}], "index 1 has no size (1, 2, -3, 4); remove"),
        ([BOX | {"bbox": [float("nan"), 2, 3, 4]}] * 3, "index 0 has no size (nan, 2, 3, 4), and 2 more; remove"),
        ([1, 2], "the record at index 0 lacks"),
        ([], "boxes has no box of a person (0 records); give the results of a person detector"),
        ([BOX | {"category_id": 2}], "boxes has no box of a person (1 records)"),
    ],
)
def test_boxes_that_do_not_fit_are_named(groups, records, says):
    with pytest.raises(AnnotationError) as error:
        data.read_boxes(records, groups.people)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 0},
        {"input_size": (0, 96)},
        {"input_size": (96,)},
        {"workers": -1},
        {"seed": -1},
        {"padding": 0},
        {"padding": float("nan")},
    ],
)
def test_a_loader_that_cannot_be_is_refused(groups, change):
    with pytest.raises(ValueError, match=r"^crop loader: "):
        data.CropLoader(groups, **({"input_size": SIZE, "batch_size": 4} | change))


# Numbers for the network


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_normalise_is_the_plain_formula_and_denormalise_its_inverse(memory_format):
    pixels = torch.randint(0, 256, (3, 3, 40, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    pixels = pixels.contiguous(memory_format=memory_format)
    out = data.normalise(pixels)
    mean, std = torch.tensor(images.IMAGENET_MEAN), torch.tensor(images.IMAGENET_STD)
    plain = (pixels.permute(0, 2, 3, 1).double() / 255 - mean) / std
    torch.testing.assert_close(out.permute(0, 2, 3, 1).double(), plain.double(), atol=2e-6, rtol=0)
    assert out.is_contiguous(memory_format=torch.channels_last) and out.dtype == torch.float32
    assert torch.equal(data.denormalise(out), pixels)
    again = data.normalise(pixels.flip(0), out=out)
    assert again.data_ptr() == out.data_ptr() and torch.equal(data.denormalise(out), pixels.flip(0))


def test_pillow_alone_gives_the_same_pictures_and_nearly_the_same_crops(dots, monkeypatch):
    (with_opencv,) = data.CropLoader(dots, SIZE, batch_size=16, augmentation=Augmentation(), seed=2)
    jpeg = cv2.imencode(".jpg", np.zeros((20, 30, 3), np.uint8) + 90)[1].tobytes()
    np.testing.assert_array_equal(images._decode(jpeg), images._decode_pillow(jpeg))
    monkeypatch.setattr(images, "cv2", None)
    (with_pillow,) = data.CropLoader(dots, SIZE, batch_size=16, augmentation=Augmentation(), seed=2)
    difference = (with_opencv.images.int() - with_pillow.images.int()).abs().float()
    assert difference.mean() < 0.5  # a shift by half a pixel gives more than 2


def test_the_names_load_when_they_are_used():
    assert {"CocoKeypoints", "CropLoader", "Augmentation", "normalise"} <= set(dir(data))
    with pytest.raises(AttributeError, match="has no attribute 'Coco'"):
        data.Coco  # noqa: B018
