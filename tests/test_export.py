"""The evaluation path and the ONNX file predict what the plain network does."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import torch
from torch import nn

import posekit
from posekit import inference
from posekit.cli import main
from posekit.codecs import Coordinates
from posekit.data import Mannequin

onnx_only = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None, reason="the extra onnx is not installed"
)
TINY = [name for name in posekit.list_models() if name.startswith("tiny_")]


def network(name):
    """A new network whose running statistics are not those of a new network."""
    torch.manual_seed(0)
    model = posekit.create_model(name)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def tensors(prediction):
    return [prediction] if isinstance(prediction, torch.Tensor) else list(prediction)


@pytest.mark.parametrize("name", TINY)
def test_the_fast_path_predicts_the_same(name):
    model = network(name)
    images = torch.randn(2, 3, *model.input_size)
    with torch.inference_mode():
        plain = tensors(model(images))
        fast = tensors(inference.for_evaluation(model)(images))
        half = tensors(inference.for_evaluation(model, bf16=True)(images))
    for a, b, c in zip(plain, fast, half, strict=True):
        scale = a.abs().max()
        assert (a - b).abs().max() <= 1e-5 * scale
        assert c.dtype == torch.float32
        assert 0 < (a - c).abs().max() <= 0.1 * scale


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.codec, self.input_size = Coordinates((16, 12)), (16, 12)
        self.conv, self.norm = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4)

    def forward(self, images):
        return self.norm(self.conv(images)).relu()


def test_compiled_networks_take_any_batch():
    model = Small().eval()
    compiled = inference.for_evaluation(model, compile_batch=4)
    for count in (1, 4, 7):
        images = torch.randn(count, 3, 16, 12)
        torch.testing.assert_close(compiled(images), model(images), rtol=1e-5, atol=1e-5)
    assert compiled.codec == model.codec and compiled.input_size == (16, 12)
    with pytest.raises(ValueError, match="1 crop or more"):
        inference.for_evaluation(model, compile_batch=0)


def test_later_training_does_not_reach_the_copy():
    model = Small().eval()
    fast = inference.for_evaluation(model)
    images = torch.randn(1, 3, 16, 12)
    before = fast(images)
    nn.init.zeros_(model.conv.weight)
    assert torch.equal(fast(images), before)
    assert not any(parameter.requires_grad for parameter in fast.parameters())


def test_verbs_score_and_predict_as_the_plain_network(tmp_path, monkeypatch, capsys):
    """With trained weights on new people: folding moves no score, bfloat16 little, and both are truly used."""
    monkeypatch.setenv("POSEKIT_DATA", str(tmp_path))
    model = posekit.create_model("tiny_simple_baseline", weights="mannequin")
    dataset = Mannequin("test", scenes=8, progress=False)
    plain = inference.evaluate(model, dataset, device="cpu").summary()
    line = ["tiny_simple_baseline", "--weights", "mannequin", "--device", "cpu", "--json"]

    def answer(*words):
        assert main([*words]) == 0
        return json.loads(capsys.readouterr().out)

    folded, half = (answer("evaluate", *line, "--split", "test", "--scenes", "8", *flag) for flag in ((), ("--bf16",)))
    assert plain["mean_oks"] > 0.6
    assert folded == pytest.approx(plain, abs=1e-4)
    assert 0 < abs(half["mean_oks"] - plain["mean_oks"]) < 0.01 and half["AP"] == pytest.approx(plain["AP"], abs=0.03)

    people = dataset.people
    box = people.box[0].round()
    path = dataset.image_path(int(people.image_index[0]))
    found = inference.predict_image(model, path, box[None], device="cpu")
    told = answer("predict", line[0], str(path), *line[1:], "--box", ",".join(map(str, box)))[0]
    for name, point, score in zip(people.skeleton.keypoints, found.keypoints[0], found.scores[0]):
        assert told[name] == pytest.approx([*point, score], abs=1e-2)


@onnx_only
@pytest.mark.parametrize("name", ["tiny_hrnet", "tiny_simcc"])
def test_exported_file_agrees_in_another_runtime(name, tmp_path):
    import onnxruntime

    model = network(name)
    path = tmp_path / "network.onnx"
    made = inference.export_onnx(model, path, check=True)
    assert made.error < 2e-5 and [p.name for p in tmp_path.iterdir()] == ["network.onnx"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = torch.randn(5, 3, *model.input_size)  # a batch that neither export nor check has seen
    found = session.run(list(made.outputs), {"images": images.numpy()})
    with torch.inference_mode():
        expected = tensors(model(images))
    for ours, theirs in zip(expected, found, strict=True):
        np.testing.assert_allclose(theirs, ours, atol=2e-5 * max(1, float(ours.abs().max())))
    about = json.loads(session.get_modelmeta().custom_metadata_map["posekit"])
    assert about["codec"] == json.loads(json.dumps(model.codec.to_dict())) and about["name"] == name


@onnx_only
def test_a_file_that_disagrees_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(inference.export, "difference", lambda network, path: 1e-3)
    with pytest.raises(ValueError, match=r"net.onnx was not written: .* differ .* 1.0e-03"):
        inference.export_onnx(Small().eval(), tmp_path / "net.onnx", check=True)
    assert list(tmp_path.iterdir()) == []


def test_export_without_the_extra_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["export", "tiny_hrnet", str(tmp_path / "out.onnx")]) == 2
    assert "pip install 'posekit[onnx]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
