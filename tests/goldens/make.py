"""Makes networks.json: what networks that others wrote answer under the weights of fill.py.

Not part of the tests, which read the numbers alone. To make them again, install mmpose 1.3.2, mmengine 0.10.7 and
mmcv-lite 2.1.0, put the files named in README.md into one folder, and run

    python tests/goldens/make.py FOLDER [CASE ...]

from the project's root. References run in float64, so the numbers are theirs and not their rounding.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import importlib.abc
import importlib.machinery
import json
import logging
import math
import re
import sys
import types
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from fill import fill, pictures

OUTPUT = Path(__file__).with_name("networks.json")
K = 17
VALUES = 40  # kept of each output
WHOLE = ("num_batches_tracked", "relative_position_index")
ABSENT = ("xtcocotools", "torchvision", "mmdet", "mmcv.ops")  # imported by mmpose, needed by none of these networks


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers imports of packages that are not there with modules of empty classes."""

    def find_spec(self, name, path=None, target=None):
        if any(name == root or name.startswith(f"{root}.") for root in ABSENT):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: _empty_class(name)
        return module

    def exec_module(self, module):
        pass


def _empty_class(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {})


sys.meta_path.insert(0, Absent())
sys.modules["mmcv.ops"] = Absent().create_module(importlib.machinery.ModuleSpec("mmcv.ops", None))

from mmcv.cnn import build_conv_layer, build_norm_layer, build_upsample_layer  # noqa: E402
from mmpose.models.backbones import HRFormer, HRNet, ResNet  # noqa: E402
from mmpose.models.heads import HeatmapHead, IntegralRegressionHead, RegressionHead, SimCCHead  # noqa: E402
from mmpose.models.necks import GlobalAveragePooling  # noqa: E402


class Registry:
    """Stands in for a toolbox's registry: leaves classes as they are."""

    def register_module(self) -> Callable[[type], type]:
        return lambda cls: cls


def classes_of(path: Path, **names: Any) -> types.SimpleNamespace:
    """What a file of a toolbox defines, its imports replaced by ``names``."""
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    space: dict[str, Any] = {
        "torch": torch,
        "nn": nn,
        "F": F,
        "HEADS": Registry(),
        "build_loss": lambda config: None,
        "build_conv_layer": build_conv_layer,
        "build_norm_layer": build_norm_layer,
        "build_upsample_layer": build_upsample_layer,
        "TopDownBaseHead": nn.Module,
        **names,
    }
    exec(compile(tree, path.name, "exec"), space)  # the reader chose the folder and knows what is in it
    return types.SimpleNamespace(**space)


class Pair(nn.Module):
    """Backbone and head under the names that toolbox files use."""

    def __init__(self, backbone: nn.Module, head: nn.Module, *, kind: str = "head", first: int | None = None):
        super().__init__()
        self.backbone, self.kind, self.first = backbone, kind, first
        self.add_module(kind, head)

    def forward(self, images):
        maps = self.backbone(images)
        maps = list(maps) if isinstance(maps, list | tuple) else [maps]
        if self.first is not None:
            maps = maps[self.first]
        return self.get_submodule(self.kind)(maps)


# --- backbones ------------------------------------------------------------------------------------------------------


def stages(width: int, *, modules=(1, 4, 3), multiscale: bool, bottlenecks=4, blocks=4, **more: Any) -> dict[str, Any]:
    extra: dict[str, Any] = {
        "stage1": {
            "num_modules": 1,
            "num_branches": 1,
            "block": "BOTTLENECK",
            "num_blocks": (bottlenecks,),
            "num_channels": (64,),
        }
    }
    for stage, count in zip((2, 3, 4), modules):
        extra[f"stage{stage}"] = {
            "num_modules": count,
            "num_branches": stage,
            "block": "BASIC",
            "num_blocks": (blocks,) * stage,
            "num_channels": tuple(width * 2**b for b in range(stage)),
            **{key: make(stage) for key, make in more.items()},
        }
    extra["stage4"]["multiscale_output"] = multiscale
    return extra


def hrnet(width: int = 32, *, multiscale: bool = False) -> nn.Module:
    return HRNet(stages(width, multiscale=multiscale))


def resnet(depth: int = 50, *, all_maps: bool = False) -> nn.Module:
    return ResNet(depth, out_indices=(0, 1, 2, 3) if all_maps else (3,))


def hrformer() -> nn.Module:
    extra = stages(
        32,
        modules=(1, 4, 2),
        multiscale=True,
        bottlenecks=2,
        blocks=2,
        block=lambda stage: "HRFORMERBLOCK",
        window_sizes=lambda stage: (7,) * stage,
        num_heads=lambda stage: tuple(2**b for b in range(stage)),
        mlp_ratios=lambda stage: (4,) * stage,
    )
    extra |= {"drop_path_rate": 0.0, "with_rpe": False}  # the authors' pose code adds no position bias
    return HRFormer(extra)


def without_exchange(trunk: nn.Module, keep: Callable[[int, bool], bool]) -> nn.Module:
    """Modules for which ``keep(stage, is_last)`` is False give back their branches as they are."""
    for stage in (2, 3, 4):
        modules = trunk.get_submodule(f"stage{stage}")
        for i, module in enumerate(modules):
            if not keep(stage, i == len(modules) - 1):
                module.fuse_layers = None
                module.forward = types.MethodType(
                    lambda self, x: [branch(y) for branch, y in zip(self.branches, x)], module
                )
    return trunk


def with_attention(trunk: nn.Module, attention: Callable[[int, int], nn.Module]) -> nn.Module:
    """``attention`` before the last convolution of every residual block, where the first 3x3's ReLU has been."""
    for block in trunk.modules():
        if hasattr(block, "conv1") and hasattr(block, "norm1_name") and hasattr(block, "downsample"):
            last = block.conv3 if hasattr(block, "conv3") else block.conv2
            block.attention = attention(last.in_channels, last.in_channels)
            last.register_forward_pre_hook(lambda layer, args, gate=block.attention: (gate(args[0]),))
    return trunk


class TransPoseMaps(nn.Module):
    """The authors' TransPose up to its encoder: the maps of layer1 and of the encoder."""

    def __init__(self, folder: Path, size: tuple[int, int]):
        super().__init__()
        source = classes_of(
            folder / "transpose_r.py",
            copy=copy,
            math=math,
            logging=logging,
            Tensor=torch.Tensor,
            Optional=Optional,
            List=list,
        )
        whole = source.TransPoseR(source.Bottleneck, [3, 4], transpose_settings(size))
        self.whole = [whole]  # in a list, so that its head is not among the parameters
        for name, child in whole.named_children():
            if name not in ("deconv_layers", "final_layer"):
                self.add_module(name, child)
        self.pos_embedding = whole.pos_embedding

    def forward(self, images):
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        fine = self.layer1(x)
        x = self.reduce(self.layer2(fine))
        batch, channels, h, w = x.shape
        tokens = self.global_encoder(x.flatten(2).permute(2, 0, 1), pos=self.pos_embedding)
        return [fine, tokens.permute(1, 2, 0).reshape(batch, channels, h, w)]


def transpose_settings(size: tuple[int, int]) -> types.SimpleNamespace:
    extra = types.SimpleNamespace(
        DECONV_WITH_BIAS=False,
        NUM_DECONV_LAYERS=1,
        NUM_DECONV_FILTERS=[256],
        NUM_DECONV_KERNELS=[4],
        FINAL_CONV_KERNEL=1,
    )
    model = types.SimpleNamespace(
        EXTRA=extra,
        DIM_MODEL=256,
        DIM_FEEDFORWARD=1024,
        ENCODER_LAYERS=4,
        N_HEAD=8,
        POS_EMBEDDING="sine",
        IMAGE_SIZE=(size[1], size[0]),
        NUM_JOINTS=K,
    )
    return types.SimpleNamespace(MODEL=model)


# --- heads ----------------------------------------------------------------------------------------------------------


def heatmap_head(channels: int, *, deconv: bool = False) -> nn.Module:
    return HeatmapHead(channels, K, deconv_out_channels=(256,) * 3 if deconv else None, deconv_kernel_sizes=(4,) * 3)


def sr_head(folder: Path, channels: int, *, deconvs: int = 0) -> nn.Module:
    source = classes_of(folder / "bottom_up_simple_sr_head.py")
    return source.BottomUpSimpleSRHead(
        channels,
        K,
        num_deconv_layers=deconvs,
        num_deconv_filters=(256,) * deconvs,
        num_deconv_kernels=(4,) * deconvs,
        with_ae_loss=[True],
        pixel_shuffle=4,
    )


def tag_head(folder: Path, channels: int, *, deconvs: int = 0) -> nn.Module:
    base = classes_of(folder / "deconv_head.py").DeconvHead
    source = classes_of(folder / "ae_simple_head.py", DeconvHead=base)
    return source.AESimpleHead(channels, K, num_deconv_layers=deconvs, with_ae_loss=[True])


def srpose_head(folder: Path, channels: list[int], **settings: Any) -> nn.Module:
    return classes_of(folder / "top_down_srpose_head.py").TopDownSRPoseHead(channels, num_joints=K, **settings)


class CPN(nn.Module):
    """The two files of the PyTorch CPN on a ResNet-50."""

    def __init__(self, folder: Path, size: tuple[int, int]):
        super().__init__()
        self.resnet = resnet(all_maps=True)
        maps = (size[0] // 4, size[1] // 4)
        self.global_net = classes_of(folder / "globalNet.py", math=math).globalNet([2048, 1024, 512, 256], maps, K)
        self.refine_net = classes_of(folder / "refineNet.py").refineNet(256, maps, K)
        for upsample in self.global_net.upsamples:
            upsample[1].bias = None  # of one version of the file; batch norm follows, and the published count has none

    def forward(self, images):
        pyramid, predictions = self.global_net(self.resnet(images)[::-1])
        return [*predictions, self.refine_net(pyramid)]


def hourglass(folder: Path) -> nn.Module:
    layers = classes_of(folder / "layers.py")
    parts = {name: getattr(layers, name) for name in ("Conv", "Hourglass", "Pool", "Residual")}
    network = classes_of(folder / "posenet.py", HeatmapLoss=nn.Identity, **parts).PoseNet(8, 256, K)
    network.pre[0] = layers.Conv(3, 64, 7, 2, bn=True, relu=True)  # the stored version reads one channel
    return network


# --- cases ----------------------------------------------------------------------------------------------------------

MMPOSE = "mmpose 1.3.2"
SRPOSE = "haonanwang0522/SRPose at 1fdef63e"


def cases(folder: Path) -> Iterator[dict[str, Any]]:
    """Name of our network and its options, the reference, where the reference comes from, size, mode."""

    def case(model: str, network: Callable[[], nn.Module], source: str, *, size=(64, 64), train=False, **more: Any):
        options = more.pop("options", {})
        label = "-".join([model, *(str(value) for value in options.values()), *(["train"] if train else [])])
        return {"case": label, "model": model, "options": options, "network": network, "source": source,
                "size": size, "train": train, **more}  # fmt: skip

    yield case(
        "hrnet_w48",
        lambda: Pair(hrnet(48), heatmap_head(48)),
        f"{MMPOSE}: HRNet, width 48; HeatmapHead without transposed convolutions",
    )
    for depth in (50, 101, 152):
        yield case(
            f"simple_baseline_r{depth}",
            lambda depth=depth: Pair(resnet(depth), heatmap_head(2048, deconv=True)),
            f"{MMPOSE}: ResNet, depth {depth}; HeatmapHead",
        )
    yield case(
        "simcc_hrnet_w32",
        lambda: Pair(hrnet(), SimCCHead(32, K, (64, 64), (16, 16), deconv_out_channels=None)),
        f"{MMPOSE}: HRNet, width 32; SimCCHead, split ratio 2, no transposed convolutions",
    )
    yield case(
        "simcc_r50",
        lambda: Pair(resnet(), SimCCHead(2048, K, (64, 64), (2, 2))),
        f"{MMPOSE}: ResNet, depth 50; SimCCHead, split ratio 2, three transposed convolutions",
    )
    yield case(
        "integral_r50",
        lambda: Pair(resnet(), IntegralRegressionHead(2048, (2, 2), K)),
        f"{MMPOSE}: ResNet, depth 50; IntegralRegressionHead: coordinates and the softmax",
        read="integral",
    )
    yield case(
        "deeppose_r50",
        lambda: Pair(nn.Sequential(resnet(), GlobalAveragePooling()), RegressionHead(2048, K)),
        f"{MMPOSE}: ResNet, depth 50; GlobalAveragePooling; RegressionHead",
        rename=("backbone.0.", "backbone."),
    )
    for branch in (1, 2, 3):
        yield case(
            "hrnet_w32",
            lambda branch=branch: Pair(
                hrnet(multiscale=True), heatmap_head(32 * 2**branch), first=slice(branch, branch + 1)
            ),
            f"{MMPOSE}: HRNet, width 32, multiscale_output; HeatmapHead on output {branch}",
            options={"predict_from": branch},
            extra=rf"backbone\.stage4\.2\.fuse_layers\.[^{branch}]\.",
        )
    for exchange, keep in (("final", lambda stage, last: last and stage == 4), ("across", lambda stage, last: last)):
        yield case(
            "hrnet_w32",
            lambda keep=keep: Pair(without_exchange(hrnet(), keep), heatmap_head(32)),
            f"{MMPOSE}: HRNet, width 32, fuse_layers taken from modules; HeatmapHead",
            options={"exchange": exchange},
        )
    psa = "DeLightCMU/PSA at 588b370d: PSA_p, put behind the first 3x3 of each block"
    yield case(
        "hrnet_w32",
        lambda: Pair(with_attention(hrnet(), classes_of(folder / "PSA.py").PSA_p), heatmap_head(32)),
        f"{MMPOSE}: HRNet, width 32; HeatmapHead; {psa}",
        options={"attention": "psa_released"},
    )
    for train in (False, True):
        yield from srpose_cases(folder, case, train)
    yield from sr_cases(folder, case)
    yield case(
        "transpose_r_a4",
        lambda: TransPoseMaps(folder, (96, 64)).whole[0],
        "yangsenius/TransPose at 4160cbef: TransPoseR, its own sine positions",
        size=(96, 64),
        keep=r"pos_embedding",
    )
    yield case(
        "cpn_r50",
        lambda: CPN(folder, (128, 96)),
        f"GengDavid/pytorch-cpn at 81f0ea06 (globalNet) and 1456a007 (refineNet); ResNet of {MMPOSE}",
        size=(128, 96),
        train=True,
    )
    yield case(
        "hourglass8",
        lambda: hourglass(folder),
        "princeton-vl/pytorch_stacked_hourglass at 66609c7e (layers) and 03fb285b (posenet)",
        size=(128, 128),  # at 64x64 batch norm would see two cells in the middle of each hourglass
        extra=r"^(?!pre\.[14]\.).*skip_layer",  # built everywhere and used where the width changes
        train=True,
    )


def srpose_cases(folder: Path, case: Callable[..., dict[str, Any]], train: bool) -> Iterator[dict[str, Any]]:
    parallel = [256, 128, 64, 32]
    common = {"size": (128, 96) if train else (64, 64), "train": train}
    for name, trunk, channels, what in (
        ("r50", lambda: resnet(all_maps=True), [2048, 1024, 512, 256], "ResNet, depth 50"),
        ("hrnet_w32", lambda: hrnet(multiscale=True), parallel, "HRNet, width 32"),
        ("hrformer_s", hrformer, parallel, "HRFormer without position bias"),
    ):
        yield case(
            f"{name}_srpose",
            lambda trunk=trunk, channels=channels: Pair(trunk(), srpose_head(folder, channels), kind="keypoint_head"),
            f"{SRPOSE}: TopDownSRPoseHead; backbone of {MMPOSE}: {what}",
            **common,
        )
    yield case(
        "transpose_r_a4_srpose",
        lambda: Pair(
            TransPoseMaps(folder, common["size"]),
            srpose_head(folder, [256, 256], out_channels=[256, 128], upsample_log=[1, 2], per_emb_nums=[4, 4],
                        supervises=[True, True]),
            kind="keypoint_head",
        ),
        f"{SRPOSE}: TopDownSRPoseHead for two maps; yangsenius/TransPose at 4160cbef up to its encoder",
        **common,
    )  # fmt: skip


def sr_cases(folder: Path, case: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    sr, tags = f"{SRPOSE}: BottomUpSimpleSRHead", "mmpose 0.29.0: AESimpleHead"
    transpose = "yangsenius/TransPose at 4160cbef up to its encoder"
    trunks = {
        "r50": (resnet, 2048, 3, 0, f"ResNet of {MMPOSE}, depth 50"),
        "hrnet_w32": (hrnet, 32, 0, 0, f"HRNet of {MMPOSE}, width 32"),
        "hrformer_s": (hrformer, 32, 0, 0, f"HRFormer of {MMPOSE} without position bias"),
        "transpose_r_a4": (lambda: TransPoseMaps(folder, (64, 64)), 256, 1, 1, transpose),
    }
    for name, (trunk, channels, deconvs, index, what) in trunks.items():
        yield case(
            f"{name}_sr",
            lambda t=trunk, c=channels, d=deconvs, i=index: Pair(
                t(), sr_head(folder, c, deconvs=d), kind="keypoint_head", first=i
            ),
            f"{sr}, its heatmaps; {what}",
            read="heatmaps",
            extra=r"keypoint_head\.tag_head",
        )
    for name, (trunk, channels, deconvs, _, what) in list(trunks.items())[:2]:
        for kind, head, described in (("", tag_head, tags), ("_sr", sr_head, sr)):
            yield case(
                f"bottomup_{name}{kind}",
                lambda t=trunk, c=channels, d=deconvs, h=head: Pair(
                    t(), h(folder, c, deconvs=d), kind="keypoint_head", first=0
                ),
                f"{described}; {what}",
                read="tags",
            )


# --- running ---------------------------------------------------------------------------------------------------------


def filled(network: nn.Module, entry: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Give a reference its weights, by the names that a file of it has; returns those names and shapes."""
    old, new = entry.get("rename", ("", ""))
    state = network.state_dict()
    shapes: dict[str, tuple[int, ...]] = {}
    for key, value in state.items():
        if key.endswith(WHOLE) or re.search(entry.get("keep", "^$"), key) or "linspace" in key:
            continue
        shapes[key.replace(old, new, 1)] = tuple(value.shape)
    shapes = authors_names(shapes)
    values = fill(shapes)
    for key in state:
        theirs = key.replace(old, new, 1)
        parts = qkv_parts(theirs)
        if parts[0] in values:
            state[key] = torch.cat([values[part] for part in parts])
    network.load_state_dict(state)
    return shapes


def qkv_parts(key: str) -> list[str]:
    """The authors' names of an HRFormer entry that mmpose renamed or joined."""
    key = key.replace(".ffn.", ".mlp.")
    if ".attn.attn.qkv." in key:
        return [key.replace(".qkv.", f".{part}_proj.") for part in "qkv"]
    return [key.replace(".attn.attn.proj.", ".attn.attn.out_proj.")]


def authors_names(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    named = {}
    for key, shape in shapes.items():
        parts = qkv_parts(key)
        named.update(dict.fromkeys(parts, (shape[0] // len(parts), *shape[1:])))
    return named


def digest(shapes: dict[str, tuple[int, ...]]) -> str:
    """Of the names and shapes of a checkpoint's entries, in the order of the names."""
    return hashlib.sha256(repr(sorted(shapes.items())).encode()).hexdigest()[:16]


def flat_outputs(output: Any, read: str | None) -> list[torch.Tensor]:
    if read == "heatmaps":
        return [output[0][:, :K]]
    if isinstance(output, torch.Tensor):
        return list(output.unbind(1)) if output.ndim == 5 else [output]
    return list(output)


def summary(output: torch.Tensor, label: str) -> dict[str, Any]:
    array = output.double().numpy()
    places = np.random.default_rng(zlib.crc32(label.encode())).choice(array.size, min(VALUES, array.size), False)
    facts = {"max": np.abs(array).max(), "mean": array.mean(), "std": array.std()}
    return {
        "shape": list(array.shape),
        **{name: float(f"{value:.10g}") for name, value in facts.items()},
        "places": sorted(int(place) for place in places),
        "values": [float(f"{array.flat[place]:.10g}") for place in sorted(places)],
    }


def run(entry: dict[str, Any]) -> dict[str, Any]:
    torch.manual_seed(0)
    network = entry["network"]()
    shapes = filled(network, entry)
    network.double().train(entry["train"])
    for layer in network.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
        if isinstance(layer, nn.MultiheadAttention):
            layer.dropout = 0.0
    batch = 2 if entry["train"] else 1
    with torch.no_grad():
        output = network(pictures((batch, 3, *entry["size"])).double())
    outputs = flat_outputs(output, entry.get("read"))
    kept = {key: shape for key, shape in shapes.items() if not re.search(entry.get("extra", "^$"), key)}
    fields = ("case", "model", "options", "source", "size", "train", "read", "keep")
    return {
        **{field: entry[field] for field in fields if entry.get(field) is not None},
        "entries": len(kept),
        "digest": digest(kept),
        "outputs": [summary(part, f"{entry['case']}.{i}") for i, part in enumerate(outputs)],
    }


def main() -> None:
    folder, wanted = Path(sys.argv[1]), sys.argv[2:]
    made = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {}
    for entry in cases(folder):
        if not wanted or entry["case"] in wanted:
            made[entry["case"]] = run(entry)
            print(entry["case"], [(o["shape"], o["max"]) for o in made[entry["case"]]["outputs"]], flush=True)
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(facts)}" for name, facts in made.items())
    OUTPUT.write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main()
