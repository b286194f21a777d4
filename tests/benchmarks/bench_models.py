"""HRNet's forward pass and training step, each way of running it beside the plain one and ONNX Runtime.

"Plain" is what published code does: float32, the default memory layout, batch norm by itself. Every way gets the same
weights and pictures; outputs are compared before anything is timed. Training steps are taken in turn by
processes of their own, one for each way; memory is the peak of each after two steps, over what it held with the network
built.

    python tests/benchmarks/bench_models.py [--model hrnet_w32] [--batch 16] [--no-compile] [--no-forward] [--json FILE]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import arguments, interleave, report, versions, write  # sets the number of threads: before torch

import posekit
from posekit import inference

PLAIN, BF16 = "plain (fp32, NCHW)", "bf16 + channels_last"


def build(name: str) -> Any:
    """In the default layout, and with running statistics that are not a new network's: something to fold."""
    torch.manual_seed(0)
    model = posekit.create_model(name)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
    # A network is built with channels_last weights, and those alone make a convolution work in that layout.
    return model.to(memory_format=torch.contiguous_format).eval()


def forward_cases(name: str, batch: int, compiled: bool) -> dict[str, Callable[[], Any]]:
    model = build(name)
    images = torch.randn(batch, 3, *model.input_size)
    ways = {PLAIN: model, "folded": inference.for_evaluation(model)}
    ways["folded, bf16"] = inference.for_evaluation(model, bf16=True)
    if compiled:
        begin = time.process_time()
        ways["folded, compiled"] = inference.for_evaluation(model, compile_batch=batch)
        print(f"compiling fp32: {time.process_time() - begin:.0f} s of processor time")
    runs = {way: _without_gradient(network, images) for way, network in ways.items()}
    peer = onnx_runtime(model, images)
    if peer:
        runs["ONNX Runtime (fp32)"] = peer
    expected = runs[PLAIN]()
    for way, run in runs.items():
        error = float((run() - expected).abs().max() / expected.abs().max())
        print(f"  {way:24} differs by {error:.1e} of the largest value")
    return runs


def _without_gradient(network: Any, images: torch.Tensor) -> Callable[[], torch.Tensor]:
    def run() -> torch.Tensor:
        with torch.inference_mode():
            return network(images)

    return run


def onnx_runtime(model: Any, images: torch.Tensor) -> Callable[[], torch.Tensor] | None:
    """The exported network in ONNX Runtime on one thread; None where the extra is not installed."""
    try:
        import onnxruntime
    except ImportError:
        print("onnxruntime is not installed: no comparison with it (pip install 'posekit[onnx]')")
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        inference.export_onnx(model, path)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {"images": images.numpy()}
    return lambda: torch.from_numpy(session.run(None, feed)[0])


def training_step(name: str, batch: int, fast: bool) -> Callable[[], None]:
    model = build(name).train()
    layout = torch.channels_last if fast else torch.contiguous_format
    model.to(memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    images = torch.randn(batch, 3, *model.input_size).contiguous(memory_format=layout)
    keypoints = torch.rand(batch, 17, 2) * torch.tensor(model.input_size[::-1])
    targets, weights = model.codec.encode(keypoints, torch.ones(batch, 17))

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            prediction = model(images)
        loss = model.codec.loss(prediction.float(), targets, weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return run


class Apart:
    """A training step in a process of its own, taken when called; returns its seconds of processor time.

    What a step costs depends on the memory that its process holds: a large block fresh from the system is paid for
    page by page. Beside another network it would find, or not find, blocks that the other one left.
    """

    def __init__(self, name: str, batch: int, fast: bool):
        options = ["--model", name, "--batch", str(batch), "--steps-of", "fast" if fast else "plain"]
        command = [sys.executable, __file__, *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2):
            self()
        self.peak_mib = self.last["peak_mib"]

    def __call__(self) -> float:
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the process of a training step ended with status {self.process.wait()}")
        self.last = json.loads(line)
        return self.last["seconds"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def answer_steps(name: str, batch: int, fast: bool) -> None:
    """For each line read, take a step and print what it took and MiB at the peak, over the network built."""

    def kibibytes(field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field))

    step = training_step(name, batch, fast)
    before = kibibytes("VmRSS")
    for _ in sys.stdin:
        begin = time.process_time()
        step()
        seconds = time.process_time() - begin
        print(json.dumps({"seconds": seconds, "peak_mib": (kibibytes("VmHWM") - before) / 1024}), flush=True)


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(rounds=5)
    parser.add_argument("--model", default="hrnet_w32")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--no-forward", action="store_true", help="only the training step")
    parser.add_argument("--steps-of", choices=("plain", "fast"), help="serve: a training step for each line of stdin")
    options = parser.parse_args()
    name, batch = options.model, options.batch
    torch.set_num_threads(1)
    if options.steps_of:
        return answer_steps(name, batch, options.steps_of == "fast")
    title = f"{name}, batch {batch}, one core"
    tables = {}
    if not options.no_forward:
        forward = interleave(forward_cases(name, batch, not options.no_compile), rounds=options.rounds)
        tables["forward"] = report(f"{title}: forward", forward, reference=PLAIN, per=batch, unit="picture")
    steps = {
        PLAIN: Apart(name, batch, False),
        BF16: Apart(name, batch, True),
    }
    training = interleave(steps, rounds=options.rounds)
    tables["training"] = report(f"{title}: training step", training, reference=PLAIN, per=batch, unit="picture")
    rounds = zip(training[PLAIN], training[BF16])
    print(f"  {BF16}, times faster round by round: {', '.join(f'{a / b:.2f}' for a, b in rounds)}")
    memory = {way: step.peak_mib for way, step in steps.items()}
    for step in steps.values():
        step.close()
    shares = ", ".join(f"{way} {mib:.0f} MiB ({mib / memory[PLAIN]:.2f} x)" for way, mib in memory.items())
    print(f"\npeak memory of a step: {shares}")
    print("\nreached, against what is asked")
    for line in verdicts(tables, memory):
        print(f"  {line}")
    write(options.json, {"versions": versions("torch", "onnxruntime"), **tables, "peak_mib": memory})


def verdicts(tables: dict[str, dict[str, dict[str, float]]], memory: dict[str, float]) -> list[str]:
    """Each goal of HRNet-W32 with what was measured."""
    forward, training = tables.get("forward"), tables["training"]
    found: list[tuple[str, float, float, bool]] = [
        ("training step, bf16, times faster than plain", 1 / training[BF16]["ratio"], 2.5, True),
        ("training step, bf16, share of plain's memory", memory[BF16] / memory[PLAIN], 0.65, False),
    ]
    if forward:
        found += [
            ("forward, folded, times faster than plain", 1 / forward["folded"]["ratio"], 1.35, True),
            ("forward, bf16, times faster than plain", 1 / forward["folded, bf16"]["ratio"], 2.8, True),
        ]
    peer = forward and forward.get("ONNX Runtime (fp32)")
    if peer and "folded, compiled" in forward:
        share = forward["folded, compiled"]["median"] / peer["median"]
        found.append(("forward, compiled, share of ONNX Runtime's time", share, 1.1, False))
    return [
        f"{what}: {value:.2f} ({'at least' if more else 'at most'} {goal}) "
        f"{'met' if (value >= goal) == more or value == goal else 'NOT MET'}"
        for what, value, goal, more in found
    ]


if __name__ == "__main__":
    main()
