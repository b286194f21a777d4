"""Parameters and multiply-adds of any network, under the four conventions that published tables mix.

- ``"mac"``: what the arithmetic is: convolutions, transposed convolutions (by input positions), linear layers and
  matrix products, in 1e9. Equal to half of what ``torch.utils.flop_counter`` counts.
- ``"official"``: the HRNet repository's ``get_model_summary``: convolutions and linear layers only, and weights times
  *output* positions for transposed ones too, which is four times too many at stride 2; divided by 1024^3 and printed
  as GFLOPs. HRNet's, SimpleBaseline's and DPN's tables.
- ``"mmcv"``: mmcv's ``get_model_complexity_info``, in 1e9: modules only, so no product inside attention; adds one per
  biased convolution output, 2 per normalised element, 1 per ReLU output, pooling input and upsampling output; GELU and
  softmax free. SRPose's ResNet, HRNet and HRFormer rows. The original sees modules alone: it misses the output
  projection of an attention ("out_proj") and the upsampling in SRPose's heads ("head"), both applied as functions.
  Upsampling elsewhere counts, for the original networks have modules for it.
- ``"transpose"``: the TransPose repository's ``flop_count.py``, in 1e9: convolutions by output positions (transposed
  ones too), products, 4 per batch-normalised element, 1 per add, multiplication and ReLU, 5 per softmax element; and 1
  per dropout element, which the tool counts in evaluation as well, and so after each attention's softmax too. Of a
  linear layer on a 4-D map it counts the first axis only.

Every table calls the result GFLOPs and means multiply-adds.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from posekit.analysis.modes import evaluating

Convention = Literal["mac", "official", "mmcv", "transpose"]
UNITS: dict[str, float] = {"mac": 1e9, "official": 1024**3, "mmcv": 1e9, "transpose": 1e9}


@dataclass(frozen=True)
class Operation:
    """One tensor operation that some convention counts.

    ``macs`` are true multiply-adds, ``by_output`` the same with a transposed convolution's weights applied at every
    output position; ``taken`` and ``given`` are elements of its input and output; ``cells`` is the product of the
    middle axes of a 4-D input to a linear layer, otherwise 1.
    """

    kind: str
    module: str
    module_type: str
    macs: int
    by_output: int
    taken: int
    given: int
    bias: bool = False
    cells: int = 1


@dataclass(frozen=True)
class LayerCost:
    """One module's own parameters and count, without its children's.

    ``part`` is "backbone", "other" or "training-only", as in :class:`Complexity`. A module that evaluation never calls
    has no output shape and no count.
    """

    name: str
    type: str
    params: int
    count: float
    output_shape: tuple[int, ...]
    part: str = "other"


@dataclass(frozen=True)
class Complexity:
    """A network's cost under one convention.

    Args:
        convention: which.
        input_size: (height, width).
        params: all parameters; ``params_backbone + params_other + params_training_only``.
        params_backbone: those of ``backbone``, if the network has one, that run in evaluation.
        params_other: the rest that runs in evaluation.
        params_training_only: those of the parts named as running in training alone.
        params_unused: those that no operation of the forward pass read (training-only parts, dead parameters).
        count: multiply-adds as the convention counts them, for one picture.
        layers: per module, in the order of the first call, then the modules with parameters that are never called;
            their parameters and counts add up to ``params`` and ``count``.
    """

    convention: str
    input_size: tuple[int, int]
    params: int
    params_backbone: int
    params_other: int
    params_training_only: int
    params_unused: int
    count: float
    layers: tuple[LayerCost, ...]

    @property
    def giga(self) -> float:
        """The figure that a table prints as GFLOPs."""
        return self.count / UNITS[self.convention]

    @property
    def params_m(self) -> float:
        """Parameters in millions."""
        return self.params / 1e6


def complexity(
    model: nn.Module,
    input_size: tuple[int, int] | None = None,
    convention: Convention = "mac",
    *,
    training_only: Sequence[str] | None = None,
    count_batch_norm: bool = True,
) -> Complexity:
    """Count parameters and multiply-adds of one forward pass in evaluation, for one picture.

    Nothing is computed: the pass runs on shapes alone ("meta" tensors), and the network is left as it was.

    Args:
        model: any network from (1, 3, H, W).
        input_size: (height, width); ``model.input_size`` by default.
        convention: see the module's head.
        training_only: prefixes of parameters that run in training alone; ``model.training_only`` by default.
        count_batch_norm: ``False`` for tables made with synchronised batch norm, which mmcv does not count.

    Raises:
        ValueError: unknown convention, or no input size.
    """
    return complexities(
        model, input_size, (convention,), training_only=training_only, count_batch_norm=count_batch_norm
    )[convention]


def complexities(
    model: nn.Module,
    input_size: tuple[int, int] | None = None,
    conventions: Sequence[Convention] = ("mac", "official", "mmcv", "transpose"),
    *,
    training_only: Sequence[str] | None = None,
    count_batch_norm: bool = True,
) -> dict[str, Complexity]:
    """:func:`complexity` under several conventions from one forward pass: convention -> cost. Same arguments."""
    unknown = [name for name in conventions if name not in UNITS]
    if unknown:
        raise ValueError(f"unknown convention {unknown[0]!r}; use one of {', '.join(UNITS)}")
    input_size = input_size or getattr(model, "input_size", None)
    if input_size is None:
        raise ValueError("the network names no input size; give input_size=(height, width)")
    operations, shapes, used = trace(model, input_size)
    if not count_batch_norm:
        operations = [operation for operation in operations if operation.kind != "batch_norm"]
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    prefixes = tuple(getattr(model, "training_only", ()) if training_only is None else training_only)
    trained = {name for name in sizes if prefixes and name.startswith(prefixes)}
    backbone = sum(n for name, n in sizes.items() if name.startswith("backbone.") and name not in trained)
    total, extra = sum(sizes.values()), sum(sizes[name] for name in trained)
    modules = dict(model.named_modules())
    own: dict[str, list[str]] = {}
    for name in sizes:
        own.setdefault(name.rpartition(".")[0], []).append(name)
    shapes |= {name: () for name in own if name not in shapes}

    def layer(name: str, count: float) -> LayerCost:
        mine = own.get(name, [])
        extra = any(key in trained for key in mine)
        part = "training-only" if extra else "backbone" if f"{name}.".startswith("backbone.") else "other"
        return LayerCost(name, type(modules[name]).__name__, sum(sizes[key] for key in mine), count, shapes[name], part)

    found: dict[str, Complexity] = {}
    for convention in conventions:
        cost: dict[str, float] = {}
        for operation in operations:
            cost[operation.module] = cost.get(operation.module, 0) + _COUNTS[convention](operation)
        found[convention] = Complexity(
            convention=convention,
            input_size=(int(input_size[0]), int(input_size[1])),
            params=total,
            params_backbone=backbone,
            params_other=total - backbone - extra,
            params_training_only=extra,
            params_unused=sum(n for name, n in sizes.items() if name not in used),
            count=sum(cost.values()),
            layers=tuple(layer(name, cost.get(name, 0)) for name in shapes),
        )
    return found


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Networks built inside have shapes and no memory; initialisation is skipped, there is nothing to fill."""
    with torch.device("meta"), _Unfilled():
        yield


class _Unfilled(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in ("normal_", "uniform_", "trunc_normal_", "zero_", "fill_"):
            return args[0] if args else kwargs["tensor"]  # torch.nn.init passes on by name
        return function(*args, **(kwargs or {}))


def trace(
    model: nn.Module, input_size: tuple[int, int]
) -> tuple[list[Operation], dict[str, tuple[int, ...]], set[str]]:
    """One forward pass in evaluation on shapes alone.

    Returns:
        the operations in order, the output shape of every module called, and the names of the parameters read.
    """
    parameters = {name: p.detach().to("meta") for name, p in model.named_parameters()}
    buffers = {name: b.to("meta") for name, b in model.named_buffers()}
    picture = torch.empty(1, 3, *input_size, device="meta")
    recorder = _Recorder({id(p): name for name, p in parameters.items()})
    fast_path = torch.backends.mha.get_fastpath_enabled()
    # The fused attention kernel would hide the products inside it.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with evaluating(model), recorder.following(model), torch.no_grad(), recorder:
            torch.func.functional_call(model, {**parameters, **buffers}, (picture,))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return recorder.operations, recorder.shapes, recorder.used


class _Recorder(TorchDispatchMode):
    """Writes down every operation with the module it ran in."""

    def __init__(self, names: dict[int, str]):
        super().__init__()
        self.names = names
        self.used: set[str] = set()
        self.operations: list[Operation] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._stack: list[tuple[str, str, int]] = [("", "", 1)]

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in _BATCH_NORM:
            # In evaluation it keeps the shape; torch's own rule for meta tensors takes half of a network's trace.
            empty = args[0].new_empty(0)
            result: Any = (torch.empty_like(args[0]), empty, empty)
        else:
            result = function(*args, **(kwargs or {}))
        for argument in args:
            if isinstance(argument, Tensor) and id(argument) in self.names:
                self.used.add(self.names[id(argument)])
        describe = _DESCRIBE.get(name)
        if describe:
            first = result[0] if isinstance(result, tuple | list) else result
            module, kind_of_module, cells = self._stack[-1]
            self.operations.append(replace(describe(args, first, module, kind_of_module), cells=cells))
        return result

    @contextlib.contextmanager
    def following(self, model: nn.Module) -> Iterator[None]:
        """Keep the stack of modules being called."""

        def enter(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, inputs: Any) -> None:
                cells = math.prod(inputs[0].shape[1:-1]) if isinstance(module, nn.Linear) and inputs[0].ndim == 4 else 1
                self._stack.append((name, type(module).__name__, cells))
                self.shapes.setdefault(name, ())

            return hook

        def leave(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                self._stack.pop()
                if isinstance(output, Tensor):
                    self.shapes[name] = tuple(output.shape)
                if isinstance(module, nn.Dropout):
                    self.operations.append(Operation("dropout", name, "Dropout", 0, 0, output.numel(), output.numel()))

            return hook

        handles = []
        for name, module in model.named_modules():
            handles += [module.register_forward_pre_hook(enter(name)), module.register_forward_hook(leave(name))]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _convolution(args, out: Tensor, name: str, module: str) -> Operation:
    x, weight, bias, transposed = args[0], args[1], args[2], args[6]
    positions_in, positions_out = math.prod(x.shape[2:]), math.prod(out.shape[2:])
    by_output = x.shape[0] * weight.numel() * positions_out
    macs = x.shape[0] * weight.numel() * positions_in if transposed else by_output
    return Operation("conv", name, module, macs, by_output, x.numel(), out.numel(), bias is not None)


def _product(left: int, right: int) -> Callable[..., Operation]:
    def describe(args, out: Tensor, name: str, module: str) -> Operation:
        a, b = args[left], args[right]
        macs = out.numel() * a.shape[-1]
        # A linear layer on a permuted map runs as a batched product.
        which = "linear" if module.endswith("Linear") else "matmul"
        return Operation(which, name, module, macs, macs, a.numel() + b.numel(), out.numel(), left == 1)

    return describe


def _multiplication(args, out: Tensor, name: str, module: str) -> Operation:
    kind = "elementwise" if isinstance(args[1], Tensor) else "scaling"
    return Operation(kind, name, module, 0, 0, args[0].numel(), out.numel())


def _elements(kind: str) -> Callable[..., Operation]:
    def describe(args, out: Tensor, name: str, module: str) -> Operation:
        return Operation(kind, name, module, 0, 0, args[0].numel(), out.numel())

    return describe


_BATCH_NORM = ("native_batch_norm", "_native_batch_norm_legit_no_training")
_DESCRIBE: dict[str, Callable[..., Operation]] = {
    "convolution": _convolution,
    "mm": _product(0, 1),
    "addmm": _product(1, 2),
    "bmm": _product(0, 1),
    "baddbmm": _product(1, 2),
    **dict.fromkeys(_BATCH_NORM, _elements("batch_norm")),
    **dict.fromkeys(("native_layer_norm", "native_group_norm"), _elements("norm")),
    **dict.fromkeys(("relu", "relu_", "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_"), _elements("relu")),
    **dict.fromkeys(
        ("max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d"), _elements("pool")
    ),
    **dict.fromkeys(("upsample_nearest2d", "upsample_bilinear2d"), _elements("upsample")),
    **dict.fromkeys(("add", "add_"), _elements("elementwise")),
    **dict.fromkeys(("mul", "mul_"), _multiplication),
    **dict.fromkeys(("_softmax", "_safe_softmax"), _elements("softmax")),
}


def _mac(op: Operation) -> float:
    return op.macs


def _official(op: Operation) -> float:
    return op.by_output if op.kind in ("conv", "linear") else 0


def _mmcv(op: Operation) -> float:
    if op.kind == "conv":
        return op.macs + op.bias * op.given
    if op.module.endswith("out_proj") or (op.module == "head" and op.kind == "upsample"):
        return 0
    per_element = {"batch_norm": 2 * op.taken, "norm": 2 * op.taken, "relu": op.given, "pool": op.taken}
    return {"linear": op.macs, "upsample": op.given, **per_element}.get(op.kind, 0)


def _transpose(op: Operation) -> float:
    if op.kind in ("conv", "matmul", "linear"):
        return op.by_output / op.cells + (op.bias * op.given if op.kind != "conv" else 0)
    return {
        # Attention's scale: half on the queries and half on the keys here, on the queries alone there.
        "scaling": op.given / 2,
        "batch_norm": 4 * op.given,
        "relu": op.given,
        "elementwise": op.given,
        "dropout": op.given,
        "softmax": 6 * op.given,
    }.get(op.kind, 0)


_COUNTS: dict[str, Callable[[Operation], float]] = {
    "mac": _mac,
    "official": _official,
    "mmcv": _mmcv,
    "transpose": _transpose,
}
