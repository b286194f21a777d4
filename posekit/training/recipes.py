"""How a network is trained, as one flat frozen dataclass with named builders.

A recipe prints, hashes and goes through JSON; ``dataclasses.replace`` makes variants. It says what is *applied*.
Published configurations hold values that never reach the optimizer, and each builder's comment tells which:
HRNet's and SimpleBaseline's weight decay, TransPose's step schedule.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import nn

from posekit.codecs import CROSS_ENTROPY, HRNET_MSE, SRPOSE_MSE
from posekit.data import augmentation as views
from posekit.data.augmentation import Augmentation
from posekit.data.fields import BETWEEN, NOT_NEGATIVE, POSITIVE, SHARE, Rule, problem

LOSSES = {"hrnet_mse": HRNET_MSE, "srpose_mse": SRPOSE_MSE, "cross_entropy": CROSS_ENTROPY}
OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
_COUNT = Rule(lambda n: n >= 1, "a whole number from 1 up")
# What a field's type leaves open. None takes a thing away (clip, ema); no number does.
RULES = {
    "lr": POSITIVE,
    "weight_decay": NOT_NEGATIVE,
    "warmup_steps": Rule(lambda n: n >= 0, "a whole number from 0 up"),
    "warmup_start": SHARE,
    "warmup_share": BETWEEN,
    "milestones": Rule(lambda epochs: all(n >= 0 for n in epochs), "whole numbers from 0 up"),
    "gamma": Rule(lambda x: 0 < x <= 1, "above 0 and at most 1"),
    "final_lr": NOT_NEGATIVE,
    "batch_size": _COUNT,
    "epochs": _COUNT,
    "samples": _COUNT,
    "clip": POSITIVE,
    "ema": BETWEEN,
    "evaluations": _COUNT,
}


class RecipeError(ValueError):
    """A recipe that says something unknown or contradictory; the message is one sentence."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a training run besides the network, the data and the seed.

    Attributes:
        name: what people call it.
        optimizer: "adam" (weight decay is L2 in the gradient) or "adamw" (decoupled).
        lr: peak learning rate.
        weight_decay: as really applied.
        no_decay: parameters whose name contains one of these are not decayed.
        schedule: "one_cycle" (cosine up, cosine down; warm-up is ``warmup_share``), "step" (times ``gamma`` at each
            of ``milestones``), "cosine" (to ``final_lr``) or "constant".
        warmup_steps: linear warm-up of "step", "cosine" and "constant", from ``warmup_start`` times the rate.
        warmup_share: share of a one-cycle run that goes up.
        milestones: epochs, counted from 0, at whose start the rate falls.
        final_lr: where "cosine" ends.
        batch_size: people per optimizer step, over all devices.
        epochs: length in epochs; exactly one of ``epochs`` and ``samples`` is set.
        samples: length in people seen, rounded up to whole batches.
        clip: largest gradient norm, or None for no clipping; 0 is refused, which would stop all learning.
        ema: decay of the averaged weights that are evaluated and kept, or None.
        bf16: training passes under bfloat16 autocast, where the device multiplies in it; weights, loss, optimizer
            and evaluation stay float32. On other devices everything is float32, and ``run.json`` says so.
        loss: overrides the loss of the network's codec, or None: "hrnet_mse" (with its factor 0.5), "srpose_mse"
            (without, like mmpose's) or "cross_entropy". Adam does not notice the factor, clipping does.
        centre: overrides where heatmap targets are centred ("rounded", "subpixel"), or None.
        augmentation: of training crops, or None.
        flip_test: average with the mirrored picture in evaluation.
        evaluations: how many times the validation set is scored, evenly spread, the last at the end.
    """

    name: str
    lr: float
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    no_decay: tuple[str, ...] = ()
    schedule: Literal["one_cycle", "step", "cosine", "constant"] = "one_cycle"
    warmup_steps: int = 0
    warmup_start: float = 0.001
    warmup_share: float = 0.25
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    final_lr: float = 0.0
    batch_size: int = 32
    epochs: int | None = None
    samples: int | None = None
    clip: float | None = None
    ema: float | None = None
    bf16: bool = False
    loss: Literal["hrnet_mse", "srpose_mse", "cross_entropy"] | None = None
    centre: Literal["rounded", "subpixel"] | None = None
    augmentation: Augmentation | None = None
    flip_test: bool = True
    evaluations: int = 1

    def __post_init__(self):
        wrong = problem(self, RULES)
        if wrong is None and (self.epochs is None) == (self.samples is None):
            wrong = "set exactly one of epochs and samples"
        if wrong:
            raise RecipeError(f"recipe {self.name!r}: {wrong}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; :meth:`from_dict` is the inverse."""
        values = asdict(self)
        if self.augmentation is not None:
            values["augmentation"] = self.augmentation.to_dict()
        return json.loads(json.dumps(values))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Inverse of :meth:`to_dict`.

        Raises:
            RecipeError: a key that no recipe has, one that is missing, or a value that it may not have.
        """
        given = _arguments(values, cls, "recipe")
        if isinstance(given.get("augmentation"), Mapping):
            try:
                given["augmentation"] = Augmentation(**_arguments(given["augmentation"], Augmentation, "augmentation"))
            except ValueError as error:
                raise RecipeError(f"{error}") from error
        return cls(**given)

    @property
    def digest(self) -> str:
        """Ten hexadecimal digits that name this configuration."""
        return config_digest(self.to_dict())

    def total_steps(self, batches_per_epoch: int) -> int:
        """Optimizer steps of the whole run."""
        if self.samples is not None:
            return math.ceil(self.samples / self.batch_size)
        assert self.epochs is not None
        return self.epochs * batches_per_epoch

    def learning_rate(self, step: int, total: int, batches_per_epoch: int) -> float:
        """The rate of optimizer step ``step`` (from 0): a function of its number alone, so nothing is to be saved.

        "one_cycle" equals ``torch.optim.lr_scheduler.OneCycleLR`` with its defaults (start at lr / 25, end ten
        thousand times lower), without cycling the momentum. Published cosine schedules move once an epoch; here
        the rate moves every step.
        """
        if self.schedule == "one_cycle":
            top = self.warmup_share * total - 1
            start, end = self.lr / 25, self.lr / 25e4
            if step <= top:
                return _cosine(start, self.lr, step / max(top, 1e-9))
            return _cosine(self.lr, end, (step - top) / max(total - 1 - top, 1))
        lr = self.lr
        if self.schedule == "step":
            lr *= self.gamma ** sum(step >= epoch * batches_per_epoch for epoch in self.milestones)
        elif self.schedule == "cosine":
            lr = _cosine(lr, self.final_lr, step / total)
        if step < self.warmup_steps:
            lr *= self.warmup_start + (1 - self.warmup_start) * step / self.warmup_steps
        return lr

    def build_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Adam or AdamW over the parameters that want gradients, with or without decay as ``no_decay`` says."""
        decayed: list[nn.Parameter] = []
        spared: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                (spared if any(part in name for part in self.no_decay) else decayed).append(parameter)
        groups = [{"params": decayed, "weight_decay": self.weight_decay}]
        if spared:
            groups.append({"params": spared, "weight_decay": 0.0})
        return OPTIMIZERS[self.optimizer](groups, lr=self.lr)

    def apply_to_codec(self, codec: Any) -> Any:
        """The codec with this recipe's ``loss`` and ``centre``.

        Raises:
            RecipeError: the codec has no such field (a coordinate codec has no target centre).
        """
        changes: dict[str, Any] = {}
        if self.loss is not None:
            changes["loss"] = LOSSES[self.loss]
        if self.centre is not None:
            changes["centre"] = self.centre
        known = {field.name for field in fields(codec)} if changes else set()
        if unknown := sorted(set(changes) - known):
            raise RecipeError(
                f"recipe {self.name!r} sets {', '.join(unknown)}, which {type(codec).__name__} does not have; "
                "leave it None for this network"
            )
        return replace(codec, **changes)


def config_digest(config: Mapping[str, Any]) -> str:
    """Ten hexadecimal digits of a JSON configuration, whatever the order of its keys."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _arguments(values: Mapping[str, Any], kind: Any, what: str) -> dict[str, Any]:
    """Arguments of a dataclass from JSON values: its keys and no others, with tuples for lists."""
    known = {field.name: field.default for field in fields(kind)}
    if unknown := sorted(set(values) - set(known)):
        raise RecipeError(f"unknown {what} key {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    if missing := [key for key, default in known.items() if default is MISSING and key not in values]:
        raise RecipeError(f"a {what} needs {', '.join(missing)}; add what is missing")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def quick(samples: int = 45_000, *, batch_size: int = 24, lr: float = 4e-3) -> Recipe:
    """Tens of seconds on a processor core: AdamW, one cycle, bfloat16, the loss of the network's own codec."""
    return Recipe(
        name="quick",
        optimizer="adamw",
        lr=lr,
        weight_decay=1e-2,
        schedule="one_cycle",
        batch_size=batch_size,
        samples=samples,
        clip=1.0,
        bf16=True,
        augmentation=Augmentation(scale=0.15, rotation=20, half_body=0.0),
    )


def quick_ce(samples: int = 45_000, *, batch_size: int = 24, lr: float = 4e-3) -> Recipe:
    """:func:`quick` with spatial cross-entropy on sub-pixel targets.

    The papers use mean squared error. At a quick budget cross-entropy learns much further (mean squared error first
    has to leave the blank map), so the course trains with it and says so.
    """
    return replace(
        quick(samples, batch_size=batch_size, lr=lr), name="quick_ce", loss="cross_entropy", centre="subpixel"
    )


def hrnet_coco() -> Recipe:
    """HRNet on COCO: 210 epochs of Adam, 4 GPUs of 32.

    Source: Sun et al., CVPR 2019, section 4.1, and the official w32_256x192 configuration. Its ``WD: 0.0001`` is
    handed to SGD only; Adam runs without weight decay.
    """
    return Recipe(
        name="hrnet_coco",
        optimizer="adam",
        lr=1e-3,
        weight_decay=0.0,
        schedule="step",
        milestones=(170, 200),
        epochs=210,
        batch_size=128,
        loss="hrnet_mse",
        centre="rounded",
        augmentation=views.hrnet_coco(),
        evaluations=210,
    )


def hrnet_mpii() -> Recipe:
    """HRNet on MPII: as on COCO with milder augmentation and no half-body crops."""
    return replace(hrnet_coco(), name="hrnet_mpii", augmentation=views.hrnet_mpii())


def simple_baseline_coco() -> Recipe:
    """SimpleBaseline on COCO: 140 epochs of Adam. Source: Xiao et al., ECCV 2018, section 3; weight decay as HRNet."""
    return replace(
        hrnet_coco(),
        name="simple_baseline_coco",
        milestones=(90, 120),
        epochs=140,
        evaluations=140,
        augmentation=views.simple_baseline_coco(),
    )


def srpose() -> Recipe:
    """SRPose, top-down: 210 epochs of Adam 5e-4 with 500 steps of warm-up, mean squared error without the 0.5.

    The sources give 32 people per GPU and not the number of GPUs; one is assumed. Targets (sigma 8 at 256x192, pooled
    for coarser maps) belong to the network's codec and supervision.
    """
    return Recipe(
        name="srpose",
        optimizer="adam",
        lr=5e-4,
        schedule="step",
        warmup_steps=500,
        warmup_start=0.001,
        milestones=(170, 200),
        epochs=210,
        batch_size=32,
        loss="srpose_mse",
        augmentation=views.srpose_coco(),
        evaluations=21,
    )


def srpose_hrformer() -> Recipe:
    """SRPose on HRFormer: AdamW with decay 0.01 except on the relative position table; published in fp16."""
    return replace(
        srpose(),
        name="srpose_hrformer",
        optimizer="adamw",
        weight_decay=0.01,
        no_decay=("relative_position_bias_table",),
        bf16=True,
    )


def transpose_r() -> Recipe:
    """TransPose-R-A4: Adam 1e-4 on a cosine to 1e-5 over 230 epochs. Its configuration's ``LR_STEP`` is never read."""
    return replace(
        hrnet_coco(),
        name="transpose_r",
        lr=1e-4,
        schedule="cosine",
        milestones=(),
        final_lr=1e-5,
        epochs=230,
        evaluations=230,
        batch_size=20,
    )


def mmpose_coco() -> Recipe:
    """mmpose 1.x, HRNet and ResNet-50 on COCO: 210 epochs of Adam 5e-4 with 500 steps of warm-up, 8 GPUs of 64.

    Source: td-hm_hrnet-w32_8xb64-210e_coco-256x192. Its loss has no factor 0.5.
    """
    return replace(
        hrnet_coco(),
        name="mmpose_coco",
        lr=5e-4,
        warmup_steps=500,
        warmup_start=0.001,
        batch_size=512,
        loss="srpose_mse",
        augmentation=views.mmpose_coco(),
        evaluations=21,
    )


def cpn() -> Recipe:
    """CPN-50: Adam 5e-4 with L2 1e-5, halved every 6 of 32 epochs. Source: GengDavid/pytorch-cpn.

    An epoch of that code goes through every person four times, one of ours once: to train as long, set ``epochs`` and
    ``milestones`` to four times as many.
    """
    return Recipe(
        name="cpn",
        optimizer="adam",
        lr=5e-4,
        weight_decay=1e-5,
        schedule="step",
        milestones=(6, 12, 18, 24, 30),
        gamma=0.5,
        epochs=32,
        batch_size=32,
        augmentation=views.cpn_coco(),
        evaluations=32,
    )
