"""What every notebook starts with: its parameters, checked, and what follows from them."""

from __future__ import annotations

import os
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

PROFILES = ("smoke", "quick")
LATER_PROFILES = ("full", "paper")
PARAMETERS = ("profile", "seed", "device", "out_dir")


def project_root() -> Path:
    """The checkout that this package is installed from, or the working directory for an ordinary installation."""
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / "notebooks").is_dir() and (checkout / "pyproject.toml").is_file() else Path.cwd()


def check_profile(profile: str) -> str:
    """The profile itself; ``ValueError`` with one sentence if the course has no such profile."""
    if profile in LATER_PROFILES:
        raise ValueError(
            f"profile '{profile}' needs the networks at the papers' sizes, which this version of the course does not "
            f"train; use 'smoke' (does it run?) or 'quick' (the whole course on two cores)"
        )
    if profile not in PROFILES:
        raise ValueError(f"there is no profile '{profile}'; choose one of {', '.join(PROFILES)}")
    return profile


@dataclass(frozen=True)
class Setup:
    """A notebook's parameters after checking; made by :func:`start`.

    Attributes:
        profile: ``"smoke"`` or ``"quick"``.
        seed: where every random number of the notebook starts.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``; ``"auto"`` has been resolved.
        out_dir: folder that figures are written to.
    """

    profile: str
    seed: int
    device: str
    out_dir: Path

    def pick(self, *, smoke: Any, quick: Any) -> Any:
        """The value for the running profile, so that a size stands beside what it sizes."""
        return {"smoke": smoke, "quick": quick}[self.profile]

    def rng(self, purpose: str = "") -> np.random.Generator:
        """A fresh NumPy generator; each purpose has its own stream, so that cells do not disturb each other."""
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode())])

    def generator(self, purpose: str = "") -> torch.Generator:
        """A fresh CPU torch generator for the purpose."""
        import torch

        return torch.Generator().manual_seed((self.seed << 32) + zlib.crc32(purpose.encode()))

    def figure(self, figure: Any, name: str, *, alt: str, function: str = "", inputs: tuple[str, ...] = ()) -> None:
        """Keep a figure under ``out_dir`` and show it; see :func:`posekit.course.figures.keep`."""
        from posekit.course import figures

        figures.keep(figure, name, alt=alt, setup=self, function=function, inputs=inputs)


_current: Setup | None = None


def start(
    *, profile: str = "quick", seed: int = 0, device: str = "auto", out_dir: str | Path = "build/figures"
) -> Setup:
    """Check a notebook's parameters, choose the device, take one thread and apply the plotting style.

    Args:
        profile: ``"smoke"`` (seconds: does it run) or ``"quick"`` (the course as it is meant to be read).
        seed: non-negative.
        device: ``"auto"`` takes a GPU if there is one; otherwise what torch calls it.
        out_dir: for figures; a relative path counts from the project's root, wherever the notebook runs.

    Raises:
        ValueError: an unknown profile, a seed that is no whole number, a device that is not there.
    """
    global _current
    check_profile(profile)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed is {seed!r}; give a whole number from 0")
    # Two notebooks run side by side on two cores: a second thread in each would only make them wait for each other.
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if "matplotlib" in sys.modules or "IPython" in sys.modules:
        from posekit.viz import style

        style(apply=True)
    folder = Path(out_dir)
    _current = Setup(
        profile=profile,
        seed=seed,
        device=_device(device),
        out_dir=folder if folder.is_absolute() else project_root() / folder,
    )
    return _current


def current() -> Setup:
    """The setup that :func:`start` made last; outside a notebook, a smoke-sized one."""
    return _current or start(profile="smoke")


def _device(name: str) -> str:
    if name == "cpu":
        return name
    if name == "auto" and not _driver_present():
        return "cpu"
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError):
        raise ValueError(f"device '{name}' is not there; use 'cpu', 'auto' or one that this torch can reach") from None
    return name


def _driver_present() -> bool:
    """Whether asking torch is worth its import: without a driver the answer is known."""
    return any(Path(path).exists() for path in ("/dev/nvidia0", "/dev/dxg", "/dev/kfd")) or sys.platform == "win32"
