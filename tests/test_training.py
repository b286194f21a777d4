"""The loop against an uninterrupted run, the schedules against torch's, the recipes against the papers."""

from __future__ import annotations

import dataclasses
import errno
import inspect
import json
import re

import numpy as np
import pytest
import torch
from torch import nn

from posekit import create_model, inference, training
from posekit.cli.train import RECIPES
from posekit.codecs import GaussianHeatmap, SimCC
from posekit.data import Augmentation, CocoKeypoints
from posekit.skeletons import COCO17
from posekit.training import Recipe, RecipeError, TrainingError


class Net(nn.Module):
    """Three layers with everything that has a state: batch statistics and dropout."""

    def __init__(self):
        super().__init__()
        self.input_size = (32, 24)
        self.codec = GaussianHeatmap(self.input_size, stride=4)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(8, 2, 3, 2, 1),
        )

    def forward(self, images):
        return self.layers(images)


def make_net(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net()


def make_loader(count=40, batch_size=8, **options):
    """Pictures whose two keypoints are bright dots."""
    rng = np.random.default_rng(3)
    images = rng.integers(0, 60, (count, 3, 32, 24), dtype=np.uint8)
    keypoints = rng.integers(3, 21, (count, 2, 2))
    for image, points in zip(images, keypoints):
        for channel, (x, y) in enumerate(points):
            image[channel, y - 1 : y + 2, x - 1 : x + 2] = 255
    return training.ArrayLoader(images, keypoints.astype(np.float32), batch_size=batch_size, **options)


RECIPE = Recipe(
    name="test", lr=3e-3, optimizer="adamw", weight_decay=1e-2, epochs=4, batch_size=8, clip=1.0, ema=0.9, evaluations=2
)


class Killed(Exception):
    pass


@pytest.mark.parametrize("there", [True, False])
def test_bfloat16_is_used_where_the_device_multiplies_in_it(tmp_path, monkeypatch, there):
    """Elsewhere torch imitates it, ten times slower than float32 and without a word."""
    monkeypatch.setattr(inference, "has_bf16", lambda device: there)
    seen = set()
    net = make_net()
    net.register_forward_pre_hook(lambda module, inputs: seen.add(module.training and torch.is_autocast_enabled("cpu")))
    training.fit(
        net,
        make_loader(),
        None,
        dataclasses.replace(RECIPE, bf16=True, epochs=1),
        out_dir=tmp_path,
        seed=0,
        device="cpu",
    )
    assert seen == {there}


@pytest.mark.parametrize("bf16", [False, True])
def test_killed_run_ends_with_the_same_weights_bit_for_bit(tmp_path, bf16):
    """Killed in the middle of epochs, after a checkpoint and between two; each start sees a fresh network."""
    recipe = dataclasses.replace(RECIPE, bf16=bf16)
    options = {"seed": 5, "log_every": 1, "device": "cpu"}
    whole = make_net()
    straight = training.fit(whole, make_loader(), make_loader(shuffle=False), recipe, out_dir=tmp_path / "a", **options)
    for kill_at, seconds in ((3, 0.0), (9, 1e9), (10, 0.0), (17, 0.0)):

        def kill(record, kill_at=kill_at):
            if record["step"] == kill_at:
                raise Killed

        with pytest.raises(Killed):
            training.fit(
                make_net(), make_loader(), make_loader(shuffle=False), recipe, out_dir=tmp_path / "b", on_log=kill,
                checkpoint_seconds=seconds, **options,
            )  # fmt: skip
    torch.rand(7)  # what the caller draws must not matter
    net = make_net()
    resumed = training.fit(net, make_loader(), make_loader(shuffle=False), recipe, out_dir=tmp_path / "b", **options)
    assert straight.steps == resumed.steps == 20
    for (name, a), (_, b) in zip(whole.state_dict().items(), net.state_dict().items()):
        assert torch.equal(a, b), name
    assert [r["loss"] for r in straight.history] == [r["loss"] for r in resumed.history]
    assert straight.metrics == resumed.metrics and straight.metrics["mean_error_px"] > 0
    lines = (tmp_path / "b" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 21))
    again = training.fit(net, make_loader(), None, recipe, out_dir=tmp_path / "b", **options)
    assert again.seconds == 0 and again.metrics == straight.metrics


@pytest.mark.realdata
def test_dataset_run_resumes_with_the_same_augmentation(tmp_path, realdata):
    """Real pictures through the crop loader, killed in the middle of an epoch; scored by COCO's protocol."""
    dataset = CocoKeypoints(realdata / "coco" / "test_coco.json", realdata / "coco")
    recipe = dataclasses.replace(training.hrnet_coco(), lr=1e-3, batch_size=4, epochs=3, evaluations=1, milestones=(2,))
    options = {"seed": 1, "device": "cpu", "log_every": 1, "checkpoint_seconds": 0}
    results, nets = [], []
    for folder, kill_at in (("whole", None), ("killed", 3), ("killed", None)):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            nets.append(create_model("tiny_simple_baseline", input_size=(64, 48)))

        def kill(record, kill_at=kill_at):
            if record["step"] == kill_at:
                raise Killed

        try:
            results.append(
                training.fit(nets[-1], dataset, dataset, recipe, out_dir=tmp_path / folder, on_log=kill, **options)
            )
        except Killed:
            assert kill_at
    assert results[0].metrics == results[1].metrics and {"AP", "mean_oks", "confusion"} <= set(results[0].metrics)
    assert results[0].history[-1]["loss"] == results[1].history[-1]["loss"]
    for a, b in zip(nets[0].state_dict().values(), nets[2].state_dict().values()):
        assert torch.equal(a, b)


def test_one_pass_of_a_loader_can_be_kept():
    source = make_loader(shuffle=False)
    kept = training.ArrayLoader.of(source, batch_size=8, seed=1)
    assert torch.equal(kept.images, source.images) and torch.equal(kept.keypoints, source.keypoints)
    first = torch.cat([batch.person for batch in kept])
    kept.resume({"epoch": 1, "batch": 2})
    rest = torch.cat([batch.person for batch in kept])
    kept.resume({"epoch": 1, "batch": 0})
    second = torch.cat([batch.person for batch in kept])
    assert torch.equal(rest, second[16:]) and not torch.equal(first, second)
    assert torch.equal(first.sort().values, torch.arange(40))


def test_other_seed_gives_other_weights(tmp_path):
    """The bit-for-bit test above could not fail if the seed had no effect."""
    nets = [make_net(), make_net()]
    for seed, net in enumerate(nets):
        training.fit(net, make_loader(), None, RECIPE, out_dir=tmp_path / str(seed), seed=seed, device="cpu")
    assert not torch.equal(nets[0].layers[0].weight, nets[1].layers[0].weight)


def test_training_leaves_the_callers_generator_alone(tmp_path):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    training.fit(make_net(), make_loader(), None, RECIPE, out_dir=tmp_path, seed=0, device="cpu")
    assert torch.equal(torch.rand(3), expected)


def test_learning_beats_the_blank_map(tmp_path):
    recipe = training.quick_ce(samples=1600, batch_size=8, lr=1e-2)
    result = training.fit(
        make_net(), make_loader(80), make_loader(80, shuffle=False), dataclasses.replace(recipe, evaluations=1),
        out_dir=tmp_path, seed=0, device="cpu",
    )  # fmt: skip
    assert result.metrics["median_error_px"] < 2.5
    run = json.loads((tmp_path / "run.json").read_text())
    assert Recipe.from_dict(run["recipe"]) == recipe
    assert run["versions"]["torch"] == torch.__version__ and run["hardware"]["device"] == "cpu" and run["command"]
    _, meta = training.load_tensors(tmp_path / training.WEIGHTS)
    assert meta["metrics"] == result.metrics and meta["model"]["codec"]["loss"]["kind"] == "cross_entropy"


def test_trained_weights_load_by_name_with_their_codec(tmp_path):
    """Logits of a cross-entropy network, decoded as plain heatmaps, would give no keypoint at all."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = create_model("tiny_simple_baseline", num_keypoints=2, input_size=(32, 32))
    images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    loader = training.ArrayLoader(images, torch.full((16, 2, 2), 12.0), batch_size=8)
    training.fit(net, loader, None, training.quick_ce(samples=16, batch_size=8), out_dir=tmp_path, seed=0)
    loaded = create_model(
        "tiny_simple_baseline", num_keypoints=2, input_size=(32, 32), weights=tmp_path / training.WEIGHTS
    )
    assert loaded.codec == net.codec and loaded.codec.loss.kind == "cross_entropy"
    for a, b in zip(net.state_dict().values(), loaded.state_dict().values()):
        assert torch.equal(a, b)


def test_nan_loss_ends_with_a_sentence_and_keeps_the_checkpoint(tmp_path):
    net, loader = make_net(), make_loader()

    def poison(record):
        if record["step"] == 6:
            net.layers[0].weight.data.fill_(float("nan"))

    with pytest.raises(
        TrainingError, match=r"step 7.*last good checkpoint is .*safetensors; start in a new run folder"
    ):
        training.fit(
            net, loader, None, RECIPE, out_dir=tmp_path, seed=0, on_log=poison, log_every=1, checkpoint_seconds=0
        )
    tensors, meta = training.load_tensors(tmp_path / training.CHECKPOINT)
    assert meta["step"] == 6
    assert all(torch.isfinite(value).all() for key, value in tensors.items() if value.is_floating_point())


def test_full_disk_ends_with_a_sentence_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    import safetensors.torch

    write = safetensors.torch.save_file

    def full(tensors, path, metadata):
        if json.loads(metadata["posekit"])["step"] == 4:
            path.write_bytes(b"half a file")
            raise OSError(28, "No space left on device")
        write(tensors, path, metadata=metadata)

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(TrainingError, match=r"No space left.*last good checkpoint is .*free some space"):
        training.fit(
            make_net(), make_loader(), None, RECIPE, out_dir=tmp_path, seed=0, log_every=1, checkpoint_seconds=0
        )
    assert training.load_tensors(tmp_path / training.CHECKPOINT)[1]["step"] == 3
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_disk_that_is_full_for_the_weights_leaves_the_checkpoint_and_says_so(tmp_path, monkeypatch):
    import safetensors.torch

    write = safetensors.torch.save_file

    def full(tensors, path, metadata):
        if training.WEIGHTS in path.name:
            raise safetensors.SafetensorError(
                "Error while serializing: I/O error: No space left on device (os error 28)"
            )
        write(tensors, path, metadata=metadata)

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    says = rf"cannot write {tmp_path}/weights\.safetensors \(.*; the last good checkpoint is {tmp_path}/checkpoint\."
    with pytest.raises(TrainingError, match=says + "safetensors; free some space and resume"):
        training.fit(make_net(), make_loader(), None, RECIPE, out_dir=tmp_path, seed=0)


@pytest.mark.parametrize(
    ("number", "says"), [(errno.ENOSPC, "free some space and start again"), (errno.EACCES, "choose another")]
)
def test_a_folder_that_takes_no_run_is_left_with_the_right_advice(tmp_path, monkeypatch, number, says):
    def refuse(path, text):
        raise OSError(number, "no")

    monkeypatch.setattr(training.folder, "write_text", refuse)
    with pytest.raises(TrainingError, match=rf"cannot use the run folder {tmp_path} .*; {says}$"):
        training.fit(make_net(), make_loader(), None, RECIPE, out_dir=tmp_path, seed=0)


def test_records_every_no_steps_are_refused(tmp_path):
    with pytest.raises(TrainingError, match=r"log_every is 0, .*; give 1 or more"):
        training.fit(make_net(), make_loader(), None, RECIPE, out_dir=tmp_path / "run", seed=0, log_every=0)
    assert not (tmp_path / "run").exists()


def test_the_held_out_crops_are_cut_by_as_many_workers(tmp_path, monkeypatch):
    from posekit.data import Mannequin, crops

    seen = []

    class Counted(crops.CropLoader):
        def __init__(self, *args, workers, **options):
            seen.append(workers)
            super().__init__(*args, workers=0, **options)

    monkeypatch.setattr(crops, "CropLoader", Counted)
    people = Mannequin("val", level="bib", scenes=4, root=tmp_path / "data")
    recipe = dataclasses.replace(training.quick(), batch_size=2, epochs=None, samples=2, evaluations=1)
    net = create_model("tiny_deeppose", input_size=(64, 64))
    training.fit(net, people, people, recipe, out_dir=tmp_path / "run", seed=0, device="cpu", workers=3)
    assert seen == [3, 3]


def test_a_folder_with_another_run_is_refused(tmp_path):
    training.fit(make_net(), make_loader(), None, RECIPE, out_dir=tmp_path, seed=0, device="cpu")
    with pytest.raises(TrainingError, match=r"another run.*resume=False"):
        training.fit(make_net(), make_loader(), None, RECIPE, out_dir=tmp_path, seed=1, device="cpu")
    (tmp_path / training.CHECKPOINT).write_bytes(b"cut short")
    with pytest.raises(TrainingError, match="cannot read the checkpoint"):
        training.fit(make_net(), make_loader(), None, RECIPE, out_dir=tmp_path, seed=0, device="cpu")
    training.fit(make_net(), make_loader(), None, RECIPE, out_dir=tmp_path, seed=1, resume=False, device="cpu")


def torch_rates(scheduler_of, steps, lr, every=1):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler, rates = scheduler_of(optimizer), []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % every == 0:
            scheduler.step()
    return rates


def test_schedules_equal_torchs():
    from torch.optim import lr_scheduler

    def ours(recipe, steps, per_epoch=10):
        return [recipe.learning_rate(step, steps, per_epoch) for step in range(steps)]

    quick = training.quick(samples=24 * 97)
    expected = torch_rates(lambda o: lr_scheduler.OneCycleLR(o, 4e-3, total_steps=97, pct_start=0.25), 97, 4e-3)
    np.testing.assert_allclose(ours(quick, 97), expected, rtol=1e-9)
    hrnet = training.hrnet_coco()
    expected = torch_rates(lambda o: lr_scheduler.MultiStepLR(o, [170, 200]), 2100, 1e-3, every=10)
    np.testing.assert_allclose(ours(hrnet, 2100), expected, rtol=1e-9)
    transpose = training.transpose_r()
    expected = torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, 2300, 1e-5), 2300, 1e-4)
    np.testing.assert_allclose(ours(transpose, 2300), expected, rtol=1e-6)
    warm = [training.srpose().learning_rate(step, 10_000, 100) for step in (0, 250, 500)]
    np.testing.assert_allclose(warm, [5e-7, 5e-4 * 0.5005, 5e-4], rtol=1e-9)
    assert training.quick(samples=24).learning_rate(0, 1, 1) > 0


@pytest.mark.parametrize(
    ("recipe", "lr", "epochs", "batch", "weight_decay", "half_body", "scale", "rotation"),
    [
        # Published values; decay is what reaches the optimizer, not what the configuration file says. Scale and
        # rotation are the outermost values that are drawn: JointsDataset clips rotations at twice the published one.
        (training.hrnet_coco(), 1e-3, 210, 128, 0.0, 0.3, (0.65, 1.35), 90),
        (training.hrnet_mpii(), 1e-3, 210, 128, 0.0, 0.0, (0.75, 1.25), 60),
        (training.simple_baseline_coco(), 1e-3, 140, 128, 0.0, 0.0, (0.7, 1.3), 80),
        (training.mmpose_coco(), 5e-4, 210, 512, 0.0, 0.3, (0.5, 1.5), 80),
        (training.srpose(), 5e-4, 210, 32, 0.0, 0.3, (0.5, 1.5), 80),
        (training.srpose_hrformer(), 5e-4, 210, 32, 0.01, 0.3, (0.5, 1.5), 80),
        (training.transpose_r(), 1e-4, 230, 20, 0.0, 0.3, (0.65, 1.35), 90),
        (training.cpn(), 5e-4, 32, 32, 1e-5, 0.0, (0.7, 1.35), 45),
    ],
    ids=lambda value: value.name if isinstance(value, Recipe) else "",
)
def test_papers_recipes(recipe, lr, epochs, batch, weight_decay, half_body, scale, rotation):
    assert (recipe.lr, recipe.epochs, recipe.weight_decay) == (lr, epochs, weight_decay)
    assert recipe.batch_size == batch and recipe.augmentation.half_body == half_body
    B, rng = 20_000, np.random.default_rng(0)
    # Nobody has a labelled keypoint, so that no half body is cut.
    view = recipe.augmentation.draw(
        np.zeros((B, 17, 2)), np.zeros((B, 17)), np.tile([0.0, 0, 30, 40], (B, 1)), size=(64, 48), skeleton=COCO17,
        rng=rng,
    )  # fmt: skip
    factor = view.box[:, 3] / 50
    assert (factor.min(), factor.max()) == pytest.approx(scale, abs=1e-3)
    assert (view.rotation.min(), view.rotation.max()) == pytest.approx((-rotation, rotation), abs=0.1)
    assert scale[0] - 1e-12 <= factor.min() and factor.max() <= scale[1] + 1e-12
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert Recipe.from_dict(recipe.to_dict()).digest == recipe.digest != training.quick().digest


def test_the_command_line_offers_every_recipe():
    built = {name: getattr(training, name)() for name in RECIPES}
    assert all(recipe.name == name and name in training.__all__ for name, recipe in built.items())
    builders = {
        name for name, value in vars(training.recipes).items()
        if inspect.isfunction(value) and value.__annotations__.get("return") == "Recipe"
    }  # fmt: skip
    assert builders == set(RECIPES)


def test_a_configuration_that_was_recorded_keeps_its_digest():
    """A field that is added later stays out of dictionaries until it says something."""
    assert training.quick_ce(24_000).digest == "7c608ccc26"
    assert training.hrnet_coco().digest == "c041f1efa0"
    later = Augmentation(law="uniform", shift=0.1).to_dict()
    assert set(later) - set(Augmentation().to_dict()) == {"law", "shift"}


def test_decay_spares_what_the_recipe_names():
    net = make_net()
    net.relative_position_bias_table = nn.Parameter(torch.ones(3))
    groups = training.srpose_hrformer().build_optimizer(net).param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [(0.01, 5), (0.0, 1)]


NAN, INFINITE = float("nan"), float("inf")
REFUSED: dict[str, list] = {
    "name": [None, 3],
    "lr": [0, -1.0, NAN, INFINITE, None, "fast", True],
    "optimizer": ["sgdd", {"adam": 1}, None],
    "weight_decay": [-1, NAN, INFINITE, None],
    "no_decay": ["bias", [1]],
    "schedule": ["linear", 1],
    "warmup_steps": [-5, 0.5, NAN],
    "warmup_start": [-0.1, 1.1, NAN],
    "warmup_share": [0, 1, NAN],
    "milestones": [["a"], [1.5], [-1], 3, [None]],
    "gamma": [0, -1, 1.5, NAN],
    "final_lr": [-1, NAN, INFINITE],
    "batch_size": [0, -8, 2.5, None],
    "epochs": [0, -1, 1.5],
    "samples": [0, -8, 1.5],
    "clip": [0, -1, NAN, INFINITE, "1"],
    "ema": [0, 1, 1.5, NAN],
    "bf16": [1, None],
    "loss": ["mse", ["hrnet_mse"]],
    "centre": ["middle"],
    "augmentation": [0.5],
    "flip_test": ["yes"],
    "evaluations": [0, -1, 1.5, None],
}
REFUSED_VIEWS: dict[str, list] = {
    "flip": ["x", -0.1, 1.5, NAN, None, True],
    "scale": [-0.1, 1, NAN, "x", [1.35, 0.7], [0.0, 1.0], [0.7], [0.7, NAN], [0.7, "x"]],
    "rotation": [-1, NAN, INFINITE, None],
    "rotation_probability": [2, NAN],
    "half_body": [-1, [0.3]],
    "half_body_min_visible": [-1, 8.5],
    "half_body_padding": [0, NAN],
    "law": ["normal", None, ["clipped"]],
    "shift": [-0.1, 1, NAN, "x"],
    "shift_probability": [2, NAN],
}


@pytest.mark.parametrize(
    ("key", "value", "within"),
    [
        *((key, value, None) for key, values in REFUSED.items() for value in values),
        *((key, value, "augmentation") for key, values in REFUSED_VIEWS.items() for value in values),
    ],
)
def test_a_field_that_holds_what_it_may_not_is_named_with_its_value(key, value, within):
    values = RECIPE.to_dict() | ({within: {key: value}} if within else {key: value})
    shown = repr(tuple(value) if isinstance(value, list) else value)
    with pytest.raises(RecipeError, match=rf"^[^\n]*: {key} is \S[^\n]*, not {re.escape(shown)}$"):
        Recipe.from_dict(values)


def test_every_field_has_values_that_are_refused():
    assert set(REFUSED) == {field.name for field in dataclasses.fields(Recipe)}
    assert set(REFUSED_VIEWS) == {field.name for field in dataclasses.fields(Augmentation)}
    assert dataclasses.replace(RECIPE, clip=None, ema=None, weight_decay=0, final_lr=0, gamma=1, milestones=())


def test_wrong_recipes_are_refused_in_words():
    with pytest.raises(RecipeError, match="unknown recipe key learning_rate"):
        Recipe.from_dict({"name": "x", "learning_rate": 1})
    with pytest.raises(RecipeError, match="unknown augmentation key rotate"):
        Recipe.from_dict({"name": "x", "lr": 1e-3, "epochs": 1, "augmentation": {"rotate": 3}})
    with pytest.raises(RecipeError, match="needs name, lr"):
        Recipe.from_dict({"epochs": 1})
    for wrong in ({"epochs": None}, {"samples": 5}):
        with pytest.raises(RecipeError, match=r"'test': set exactly one of epochs and samples"):
            dataclasses.replace(RECIPE, **wrong)
    with pytest.raises(RecipeError, match=r"sets centre, loss, which SimCC"):
        training.quick_ce().apply_to_codec(SimCC((32, 24)))
    with pytest.raises(ValueError, match="equally long"):
        training.ArrayLoader(np.zeros((3, 3, 8, 8), np.uint8), np.zeros((2, 1, 2)))
