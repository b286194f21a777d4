"""Augmentation: the published loops' views given the same draws, the laws of other recipes, and what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from posekit.data import augmentation as recipes
from posekit.data.augmentation import Augmentation
from posekit.skeletons import COCO17

SIZE = (128, 96)


def published_half_body(joints, visible, normal, uniform, recipe):
    """JointsDataset.__getitem__ and half_body_transform for one person: (centre, size) or None."""
    if not (visible.sum() > recipe.half_body_min_visible and uniform < recipe.half_body):
        return None
    upper = [j for k, j in enumerate(joints) if visible[k] and k in COCO17.upper_body]
    lower = [j for k, j in enumerate(joints) if visible[k] and k not in COCO17.upper_body]
    fallback = lower if len(lower) > 2 else upper
    selected = upper if normal < 0.5 and len(upper) > 2 else fallback
    if len(selected) < 2:
        return None
    selected = np.array(selected)
    w, h = selected.max(0) - selected.min(0)
    aspect = SIZE[1] / SIZE[0]
    if w > aspect * h:
        h = w / aspect
    elif w < aspect * h:
        w = h * aspect
    return selected.mean(0), np.array([w, h]) * 1.5


class Draws:
    """A generator that hands out numbers prepared by the test."""

    def __init__(self, uniform, normal):
        self.uniform, self.normal = uniform, normal

    def random(self, shape):
        return self.uniform.reshape(shape)

    def standard_normal(self, shape):
        return self.normal.reshape(shape)


def test_views_are_those_of_the_published_loop_given_the_same_draws():
    B, recipe = 3000, Augmentation(half_body=0.7)
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(0, 300, (B, 17, 2))
    visibility = (rng.random((B, 17)) < rng.uniform(0.2, 1, (B, 1))) * rng.integers(1, 3, (B, 17))
    box = np.concatenate([rng.uniform(0, 200, (B, 2)), rng.uniform(10, 200, (B, 2))], 1)
    uniform, normal = rng.random((3, B)), rng.standard_normal((3, B))
    view = recipe.draw(keypoints, visibility, box, size=SIZE, skeleton=COCO17, rng=Draws(uniform, normal))
    for b in range(B):
        x, y, w, h = box[b]
        aspect = SIZE[1] / SIZE[0]
        w, h = (w, w / aspect) if w > aspect * h else (h * aspect, h)
        centre, size = (x + box[b, 2] / 2, y + box[b, 3] / 2), np.array([w, h]) * 1.25
        half = published_half_body(keypoints[b], visibility[b] > 0, normal[0, b], uniform[0, b], recipe)
        if half is not None:
            centre, size = half
        size = size * np.clip(normal[1, b] * 0.35 + 1, 1 - 0.35, 1 + 0.35)
        rotation = np.clip(normal[2, b] * 45, -90, 90) if uniform[1, b] <= 0.6 else 0
        assert view.half_body[b] == (half is not None)
        np.testing.assert_allclose(view.box[b, :2] + view.box[b, 2:] / 2, centre, atol=1e-9)
        np.testing.assert_allclose(view.box[b, 2:], size, rtol=1e-12)
        assert view.rotation[b] == pytest.approx(rotation) and view.flip[b] == (uniform[2, b] < 0.5)
    assert view.half_body.sum() > 500


def test_the_named_traps_have_the_published_probabilities():
    B = 200_000
    person = np.zeros((B, 17, 2)) + np.stack([np.arange(17.0), np.arange(17.0) ** 2], 1)
    args = {"size": SIZE, "skeleton": COCO17, "rng": np.random.default_rng(0)}
    visibility, box = np.full((B, 17), 2), np.tile([0.0, 0, 30, 40], (B, 1))
    view = recipes.hrnet_coco().draw(person, visibility, box, **args)
    upper = view.box[view.half_body, 1] + view.box[view.half_body, 3] / 2 < 11**2
    near = {"abs": 0.006}
    assert view.half_body.mean() == pytest.approx(0.3, **near)
    assert upper.mean() == pytest.approx(0.6915, **near)  # the normal distribution's Phi(0.5)
    assert view.flip.mean() == pytest.approx(0.5, **near)
    assert (view.rotation != 0).mean() == pytest.approx(0.6, **near)
    assert np.abs(view.rotation).max() == 90
    factor = view.box[~view.half_body, 3] / 50
    assert (factor.min(), factor.max()) == pytest.approx((0.65, 1.35))
    assert (np.abs(factor - 1) > 0.3499).mean() == pytest.approx(0.3173, **near)  # 2 Phi(-1) at the ends
    visibility[:, 8:] = 0
    assert not recipes.hrnet_coco().draw(person, visibility, box, **args).half_body.any(), "8 keypoints are too few"


def test_the_other_laws_are_scipys_distributions():
    B, rng = 50_000, np.random.default_rng(4)
    nobody, box = (np.zeros((B, 17, 2)), np.zeros((B, 17))), np.tile([100.0, 100, 30, 20], (B, 1))
    for recipe, law in (
        (recipes.mmpose_coco(), stats.truncnorm(-1, 1)),
        (recipes.cpn_coco(), stats.uniform(-1, 2)),
    ):
        view = recipe.draw(*nobody, box, size=SIZE, skeleton=COCO17, rng=rng)
        low, high = recipe.scale if isinstance(recipe.scale, tuple) else (1 - recipe.scale, 1 + recipe.scale)
        factor = view.box[:, 2] / (30 * 1.25)  # this box is wider than the crop, so that its width decides
        turned = view.rotation[view.rotation != 0]
        for found in ((factor - (low + high) / 2) / (high - low) * 2, turned / recipe.rotation):
            assert stats.kstest(found, law.cdf).pvalue > 0.01
        assert len(turned) / B == pytest.approx(recipe.rotation_probability, abs=0.01)
        assert view.flip.mean() == pytest.approx(recipe.flip, abs=0.01)
        moved = view.box[:, :2] + view.box[:, 2:] / 2 - (115, 110)
        there = np.abs(moved[:, 0]) > 1e-9
        assert there.mean() == pytest.approx(recipe.shift_probability, abs=0.01)
        if recipe.shift:  # of the padded box, not of the crop that it grows to
            for axis, side in enumerate((30, 20)):
                share = moved[there, axis] / (1.25 * side * recipe.shift)
                assert stats.kstest(share, law.cdf).pvalue > 0.01
            assert abs(np.corrcoef(moved[there].T)[0, 1]) < 0.03


def test_a_shift_moves_a_half_body_by_a_share_of_its_own_box():
    B = 4000
    person = np.zeros((B, 17, 2)) + np.stack([np.arange(17.0), np.arange(17.0) ** 2], 1)
    recipe = Augmentation(scale=0.0, half_body=1.0, shift=0.1, shift_probability=1.0)
    args = {"size": SIZE, "skeleton": COCO17}
    box, visibility = np.tile([0.0, 0, 500, 500], (B, 1)), np.full((B, 17), 2)
    still = dataclasses.replace(recipe, shift=0.0).draw(person, visibility, box, **args, rng=np.random.default_rng(0))
    view = recipe.draw(person, visibility, box, **args, rng=np.random.default_rng(0))
    upper = still.box[:, 1] + still.box[:, 3] / 2 < 11**2
    assert view.half_body.all() and 0.6 < upper.mean() < 0.8
    for half, height in ((upper, 10**2), (~upper, 16**2 - 11**2)):
        moved = np.abs(view.box - still.box)[half]
        assert moved[:, 1].max() == pytest.approx(0.1 * 1.5 * height) and moved[:, 2:].max() == 0


@pytest.mark.parametrize("change", [{"flip": 1.5}, {"half_body": -0.1}, {"scale": 1.0}, {"rotation": -1.0}])
def test_an_augmentation_that_cannot_be_is_refused(change):
    with pytest.raises(ValueError, match=r"^augmentation: "):
        Augmentation(**change)
