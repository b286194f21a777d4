"""Mannequin: the labels are right, the pictures are the same every time, and a broken cache is noticed."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from posekit.data import Mannequin
from posekit.data.mannequin import LEVELS, Difficulty
from posekit.data.mannequin import dataset as dataset_module
from posekit.data.mannequin.attire import HAIR_STYLES
from posekit.data.mannequin.render import render
from posekit.data.mannequin.scene import sample_scene, sample_yaw
from posekit.data.mannequin.wardrobe import HAIR_COLOURS, SKIN_TONES

SIZE = (96, 128)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("mannequin")


@pytest.fixture(scope="module")
def natural(root) -> Mannequin:
    return Mannequin("val", level="natural", scenes=40, size=SIZE, root=root, progress=False)


@pytest.fixture(scope="module")
def records(natural) -> dict:
    return json.loads(natural.annotation_file.read_text())


def small(root, scenes: int = 5, **options) -> Mannequin:
    return Mannequin("train", level="face", scenes=scenes, size=(48, 64), root=root, progress=False, **options)


def test_a_scene_does_not_depend_on_its_batch():
    scenes = [sample_scene(3, "train", i, LEVELS["natural"], SIZE) for i in range(5)]
    together = render(scenes)
    again = [sample_scene(3, "train", i, LEVELS["natural"], SIZE) for i in range(5)]
    for groups in ([[0], [1], [2], [3], [4]], [[4, 0, 2], [3, 1]]):
        for group in groups:
            for i, other in zip(group, render([again[i] for i in group])):
                for name in ("image", "owner", "visibility", "hidden_by", "keypoints"):
                    assert np.array_equal(getattr(together[i], name), getattr(other, name)), (group, i, name)


def test_both_dialects_draw_the_same_pictures():
    """NumPy one scene at a time, and torch with all scenes in one batch, as on a GPU."""
    scenes = [sample_scene(4, "val", i, LEVELS["natural"], SIZE) for i in range(4)]
    for one, other in zip(render(scenes), render(scenes, device="torch:cpu")):
        for name in ("image", "owner", "visibility", "hidden_by", "keypoints", "depth"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_a_longer_set_begins_with_the_shorter_one(tmp_path):
    short, long = small(tmp_path, 3), small(tmp_path, 9)
    for i in range(3):
        assert short.image_path(i).read_bytes() == long.image_path(i).read_bytes()
    n = len(short)
    assert np.array_equal(short.people.keypoints, long.people.keypoints[:n])


def test_splits_and_seeds_share_no_scene():
    seen = {}
    for split in ("train", "val", "test"):
        for seed in (0, 1):
            for i in range(20):
                key = sample_scene(seed, split, i, LEVELS["face"], SIZE).joints.round(6).tobytes()
                assert key not in seen, f"{split} {seed} {i} equals {seen[key]}"
                seen[key] = (split, seed, i)


def test_pycocotools_reads_it_and_masks_areas_and_boxes_agree(natural):
    coco_module = pytest.importorskip("pycocotools.coco")
    coco = coco_module.COCO(str(natural.annotation_file))
    assert len(coco.imgs) == 40 and len(coco.anns) == len(natural)
    covered = {}
    for row, ann in enumerate(coco.dataset["annotations"]):
        mask = coco.annToMask(ann).astype(bool)
        assert mask.shape == SIZE
        ys, xs = np.nonzero(mask)
        assert ann["area"] == mask.sum() == natural.people.area[row]
        assert ann["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
        assert not (covered.setdefault(ann["image_id"], np.zeros(SIZE, bool)) & mask).any(), "people overlap"
        covered[ann["image_id"]] |= mask
    assert natural.pictures().shape == (40, *SIZE, 3)


def test_keypoints_are_the_projected_joints_and_visible_ones_lie_on_their_person(natural, records):
    """A pinhole written here, from the numbers in the file."""
    mask_module = pytest.importorskip("pycocotools.mask")
    cameras = {image["id"]: image["camera"] for image in records["images"]}
    H, W = SIZE
    labelled = visible = 0
    for ann in records["annotations"]:
        camera = cameras[ann["image_id"]]
        right, up, back = np.array(camera["rotation"]) @ (np.array(ann["joints"]) - camera["eye"]).T
        xy = np.stack([camera["focal"] * right / -back + (W - 1) / 2, (H - 1) / 2 + camera["focal"] * up / back], 1)
        keypoints = np.array(ann["keypoints"]).reshape(17, 3)
        if not ann["num_keypoints"]:
            assert not keypoints.any()
            continue
        v = keypoints[:, 2]
        inside = (xy >= -0.5).all(1) & (xy < (W - 0.5, H - 0.5)).all(1)
        assert np.array_equal(v > 0, inside)
        np.testing.assert_allclose(keypoints[inside, :2], xy[inside], atol=0.01)
        mask = mask_module.decode(ann["segmentation"])
        x, y = np.floor(keypoints[v == 2, :2] + 0.5).astype(int).T
        assert mask[y, x].all()
        labelled, visible = labelled + inside.sum(), visible + (v == 2).sum()
    assert 0.5 < visible / labelled < 0.95


def test_left_is_the_persons_left_and_the_far_side_of_the_head_is_hidden(natural):
    people, yaw = natural.people, np.abs(np.rad2deg(natural.yaw))
    marked = people.num_keypoints > 0
    x, v = people.keypoints[..., 0], people.visibility
    both = (v[:, 5] > 0) & (v[:, 6] > 0) & marked
    front, back = both & (yaw < 40), both & (yaw > 140)
    assert front.sum() > 8 and back.sum() > 8
    assert (x[front, 5] > x[front, 6]).mean() > 0.9 and (x[back, 5] < x[back, 6]).mean() > 0.9
    assert (v[front, 0] == 2).mean() > 0.5 and (v[back, 0] == 2).mean() < 0.15


def test_yaw_is_relative_to_the_viewing_ray(records):
    """From the hips: the direction in front of them against the direction to the camera."""
    eyes = {image["id"]: image["camera"]["eye"] for image in records["images"]}
    upright = [a for a in records["annotations"] if a["pose"] in ("stand", "wave", "phone", "contrapposto", "reach")]
    assert len(upright) > 10
    for ann in upright:
        joints = np.array(ann["joints"])
        across, middle = joints[11] - joints[12], joints[11:13].mean(0)
        facing = np.arctan2(-across[2], across[0])  # left of a figure that faces +z is +x
        to_viewer = np.arctan2(*(np.array(eyes[ann["image_id"]]) - middle)[[0, 2]])
        difference = (facing - to_viewer - ann["yaw"] + np.pi) % (2 * np.pi) - np.pi
        assert abs(difference) < 0.03, ann["pose"]


@pytest.mark.parametrize(("view", "shares"), [("balanced", (0.4, 0.2, 0.4)), ("front", (0.68, 0.18, 0.14))])
def test_yaw_mix(view, shares):
    rng = np.random.default_rng(0)
    yaw = np.abs([sample_yaw(rng, view) for _ in range(20000)])
    # A normal of 0.5 rad keeps 88.4 % within 45 degrees; side views scatter by 0.25 rad.
    found = np.array([(yaw < np.pi / 4).mean(), (yaw > 3 * np.pi / 4).mean()])
    np.testing.assert_allclose(found, np.array([shares[0], shares[2]]) * 0.884, atol=0.012)


def test_every_level_shows_the_same_people():
    who = {}
    for level, knobs in LEVELS.items():
        scenes = [sample_scene(0, "train", i, knobs, SIZE) for i in range(120)]
        people = [p for s in scenes for p in s.people]
        who[level] = [(p.skin, p.hair_colour, p.hair_style, p.stature, p.belly) for p in people]
        assert {p.skin for p in people} == set(range(len(SKIN_TONES)))
        assert {p.hair_colour for p in people} == set(HAIR_COLOURS)
        assert {p.hair_style for p in people} == {"bald", "buzz", *HAIR_STYLES}
        if level != "natural":
            assert {p.hat for p in people} == {"none"}
            fair_hair = [p for p in people if p.hair_colour == "white" and p.hair_style == "short"]
            assert fair_hair and all(p.scarf for p in fair_hair)
    assert who["bib"] == who["face"] == who["natural"]


def test_the_bib_is_orange_in_front_and_navy_behind():
    knobs = replace(LEVELS["bib"], poses="calm", people=1, occlusion=0.0, illumination=0.0)
    seen = {"front": 0, "back": 0}
    for start in range(0, 40, 8):
        scenes = [sample_scene(1, "test", i, knobs, SIZE) for i in range(start, start + 8)]
        for scene, made in zip(scenes, render(scenes)):
            yaw = abs(np.rad2deg(scene.yaw[0]))
            x, y = (made.keypoints[0, [5, 6, 11, 12]].mean(0) + 0.5).astype(int)
            arms = made.keypoints[0, 7:11]
            if 40 < yaw < 140 or made.owner[y, x] != 1 or (np.abs(arms - (x, y)).max(1) < 6).any():
                continue
            red, _, blue = made.image[y - 1 : y + 2, x - 1 : x + 2].mean((0, 1))
            side = "front" if yaw < 90 else "back"
            seen[side] += 1
            assert (red > blue + 40) if side == "front" else (blue > red + 15), (side, red, blue)
    assert min(seen.values()) >= 2


def test_an_interrupted_render_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_module, "PART", 4)
    monkeypatch.setattr(dataset_module, "BATCH", 2)
    whole = small(tmp_path / "whole", 10)
    rendered: list[int] = []
    original = dataset_module.render_scenes

    def watched(dataset, indices, device):
        for item in original(dataset, indices, device):
            if len(rendered) == 7:
                raise KeyboardInterrupt
            rendered.append(item[0])
            yield item

    monkeypatch.setattr(dataset_module, "render_scenes", watched)
    with pytest.raises(KeyboardInterrupt):
        small(tmp_path / "cut", 10)
    rendered[:] = [-1] * 20  # no more interruptions
    resumed = small(tmp_path / "cut", 10)
    assert rendered[20:] == [4, 5, 6, 7, 8, 9], "finished parts are kept, an unfinished one is rendered again"
    assert resumed.annotation_file.read_bytes() == whole.annotation_file.read_bytes()
    for i in range(10):
        assert resumed.image_path(i).read_bytes() == whole.image_path(i).read_bytes()
    names = sorted(p.name for p in resumed.folder.rglob("*"))
    assert names == sorted([*(f"{i:06d}.png" for i in range(10)), "images", "person_keypoints_train.json"])


def test_several_processes_draw_the_same(tmp_path):
    scenes = dataset_module.PART + 2
    one, two = (Mannequin("val", scenes=scenes, size=SIZE, root=tmp_path / str(n), processes=n) for n in (1, 2))
    assert one.annotation_file.read_bytes() == two.annotation_file.read_bytes()
    for i in (0, scenes - 1):
        assert one.image_path(i).read_bytes() == two.image_path(i).read_bytes()


def test_damage_is_noticed_and_mended(tmp_path):
    made = small(tmp_path)
    picture, labels = made.image_path(2), made.annotation_file.read_bytes()
    whole = picture.read_bytes()
    picture.write_bytes(whole[: len(whole) // 2])
    assert small(tmp_path).image_path(2).read_bytes() == whole
    picture.unlink()
    assert small(tmp_path).image_path(2).read_bytes() == whole
    made.annotation_file.write_bytes(labels[: len(labels) // 2])
    assert small(tmp_path).annotation_file.read_bytes() == labels


def test_two_at_once_render_once(tmp_path, monkeypatch):
    rendered: list[int] = []
    original = dataset_module.render_scenes

    def counted(dataset, indices, device):
        for item in original(dataset, indices, device):
            rendered.append(item[0])
            yield item

    monkeypatch.setattr(dataset_module, "render_scenes", counted)
    made: list[Mannequin] = []
    threads = [threading.Thread(target=lambda: made.append(small(tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 2 and sorted(rendered) == list(range(5))


def test_knobs_change_what_they_name():
    calm = replace(LEVELS["natural"], poses="calm", people=1, occlusion=0, clutter=0, illumination=0, noise=0, blur=0)
    scenes = [sample_scene(0, "val", i, calm, SIZE) for i in range(12)]
    assert {len(s.people) for s in scenes} == {1}
    noisy = [sample_scene(0, "val", i, replace(calm, noise=12.0), SIZE) for i in range(3)]
    for clean, rough in zip(render(scenes[:3]), render(noisy)):
        difference = rough.image.astype(float) - clean.image
        assert 3 < difference.std() < 14
        assert np.array_equal(clean.owner, rough.owner)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "trian"}, "choose train, val or test"),
        ({"split": "trian", "scenes": 2}, "choose train, val or test"),
        ({"split": "val", "level": "hard"}, "choose bib, face, natural"),
        ({"split": "val", "view": "side"}, "choose balanced or front"),
        ({"split": "val", "scenes": 0}, "at least 1 scene"),
    ],
)
def test_bad_arguments_are_one_sentence(options, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        Mannequin(**options, root=tmp_path, progress=False)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_yaw_follows_selected_people(natural):
    some = natural.with_people(natural.people.select(np.arange(len(natural)) % 3 == 1))
    assert np.array_equal(some.yaw, natural.yaw[1::3])
    with pytest.raises(ValueError, match="occlusion"):
        Difficulty(occlusion=2.0)


@pytest.mark.parametrize(
    "change",
    [
        {"clutter": 0.0, "occlusion": 0.0, "people": 1},
        {"clothing": 0.0, "clutter": 0.0, "blur": 0.0, "noise": 0.0},
        {"clutter": 1.0, "occlusion": 1.0, "people": 6, "size_range": (0.1, 0.2)},
        {"size_range": (1.4, 1.5), "illumination": 1.0, "blur": 3.0},
    ],
)
def test_the_ends_of_the_knobs_are_drawn_alike_by_both_dialects(change):
    scenes = [sample_scene(5, "test", i, replace(LEVELS["natural"], **change), SIZE) for i in range(6)]
    for one, other in zip(render(scenes), render(scenes, device="torch:cpu")):
        assert one.image.std() > 5
        for name in ("image", "owner", "visibility", "keypoints"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name
