"""Runs the course: every notebook through papermill, two at a time, from one process.

A notebook is executed into ``NAME.running.ipynb`` and renamed to ``NAME.ipynb`` when every cell passed; what a failed
one left behind is ``NAME.failed.ipynb``; an interrupted one leaves nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

from posekit.course.figures import write_bytes
from posekit.course.parameters import PARAMETERS, check_profile, project_root
from posekit.course.report import Failure, Result, find_failure, slowest_cells, times_entry


class CourseError(ValueError):
    """The course cannot start as asked; one sentence."""


def find_notebooks(wanted: Sequence[str | Path] = (), *, folder: Path | None = None) -> list[Path]:
    """Notebooks by path, file name, stem or number; all of the course when none is named.

    Raises:
        CourseError: a name that fits no notebook or several.
    """
    folder = folder or project_root() / "notebooks"
    course = sorted(p for p in folder.glob("[0-9][0-9]_*.ipynb"))
    if not wanted:
        if not course:
            raise CourseError(f"there is no notebook in {folder}; run this in a checkout of the course")
        return course
    found = []
    for name in map(str, wanted):
        fits = [Path(name)] if name.endswith(".ipynb") and Path(name).is_file() else []
        fits = fits or [p for p in course if name in (p.name, p.stem, p.name.split("_")[0])]
        if len(fits) != 1:
            known = ", ".join(p.stem for p in course) or "none"
            raise CourseError(f"'{name}' names {len(fits) or 'no'} notebook(s); the course has: {known}")
        found.append(fits[0].resolve())
    outputs = [p.name for p in found]
    if len(set(outputs)) != len(outputs):
        raise CourseError("a notebook is named twice; name each once")
    return found


def run_course(
    notebooks: Sequence[str | Path] = (),
    *,
    profile: str = "quick",
    jobs: int = 2,
    out: Path | None = None,
    figures: Path | None = None,
    parameters: dict[str, Any] | None = None,
    resume: bool = False,
    timeout: int = 900,
    on_done: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Execute notebooks and return one result each, in their order.

    Args:
        notebooks: see :func:`find_notebooks`; none means all.
        profile: ``"smoke"`` or ``"quick"``.
        jobs: notebooks at a time, each in its own kernel with one thread.
        out: folder for executed notebooks; default ``build/notebooks/PROFILE``.
        figures: folder for figures; default ``build/figures/PROFILE``.
        parameters: further notebook parameters (``seed``, ``device``); unknown ones are refused.
        resume: skip notebooks whose output was made from the same source, package and parameters.
        timeout: seconds a single cell may take.
        on_done: called with each result as it comes.

    Raises:
        CourseError: unknown profile, parameter or notebook, or a notebook without the parameters it needs.
    """
    try:
        check_profile(profile)
    except ValueError as error:
        raise CourseError(str(error)) from None
    if jobs < 1:
        raise CourseError(f"jobs is {jobs}; give at least 1")
    root = project_root()
    out = (out or root / "build" / "notebooks" / profile).resolve()
    figures = (figures or root / "build" / "figures" / profile).resolve()
    values = {"profile": profile, "out_dir": str(figures), **(parameters or {})}
    unknown = sorted(set(values) - set(PARAMETERS))
    if unknown:
        raise CourseError(f"notebooks have no parameter '{unknown[0]}'; they have {', '.join(PARAMETERS)}")
    paths = find_notebooks(notebooks)
    for path in paths:
        check_parameters(path)
    out.mkdir(parents=True, exist_ok=True)
    results = _Runner(out, values, timeout, resume, on_done).run(paths, jobs)
    times = {"profile": profile, "jobs": jobs, "notebooks": [times_entry(result) for result in results]}
    write_bytes(out / "times.json", (json.dumps(times, indent=1) + "\n").encode())
    return results


def check_parameters(path: Path) -> None:
    """Raise :class:`CourseError` unless exactly one cell is tagged ``parameters`` and assigns all four of them."""
    try:
        cells = json.loads(path.read_text())["cells"]
    except (ValueError, KeyError, TypeError):
        raise CourseError(
            f"{path.name} is no notebook: it is not JSON with cells; restore it from the repository"
        ) from None
    tagged = [c for c in cells if "parameters" in c.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1:
        raise CourseError(f"{path.name} has {len(tagged)} cells tagged 'parameters'; it needs exactly one")
    source = "".join(tagged[0]["source"])
    missing = [name for name in PARAMETERS if not re.search(rf"^{name}\s*(:.*)?=", source, re.MULTILINE)]
    if missing:
        raise CourseError(f"{path.name} does not set '{missing[0]}' in its parameters cell; it needs {PARAMETERS}")


def fingerprint(path: Path, values: dict[str, Any]) -> str:
    """What an executed notebook depends on: its source, the package's code, the parameters."""
    digest = hashlib.sha256(path.read_bytes())
    for source in sorted(Path(__file__).resolve().parents[1].rglob("*.[pj][ys]")):
        digest.update(source.read_bytes())
    digest.update(json.dumps(values, sort_keys=True, default=str).encode())
    return digest.hexdigest()


class _Runner:
    """The state that running notebooks share: where to write, the kernels that are up, whether to stop."""

    def __init__(self, out: Path, values: dict[str, Any], timeout: int, resume: bool, on_done: Callable) -> None:
        self.out, self.values, self.timeout, self.resume, self.on_done = out, values, timeout, resume, on_done
        self.stop = threading.Event()
        self.starting = threading.Lock()
        self.kernels: set[Any] = set()
        self.partial: dict[str, Any] = {}  # notebooks as far as they came, for those that papermill does not write
        self.engine = register_engine(self)

    def run(self, paths: Sequence[Path], jobs: int) -> list[Result]:
        with ThreadPoolExecutor(jobs) as pool:
            # The slowest first would be better packing; in order, the reader sees the first notebooks first.
            futures = [pool.submit(self.execute, path) for path in paths]
            try:
                return [future.result() for future in futures]
            except BaseException:
                self.stop.set()
                for future in futures:
                    future.cancel()
                for manager in list(self.kernels):
                    manager.signal_now()
                raise

    def execute(self, path: Path) -> Result:
        final, running = self.out / path.name, self.out / f"{path.stem}.running.ipynb"
        failed = self.out / f"{path.stem}.failed.ipynb"
        mark = fingerprint(path, self.values)
        started = time.perf_counter()
        if self.resume and _mark(final) == mark:
            result = Result(path.name, final, 0.0, skipped=True)
            self.on_done(result)
            return result
        final.unlink(missing_ok=True)
        failed.unlink(missing_ok=True)
        try:
            notebook, failure = self.papermill(path, running)
            if self.stop.is_set():
                raise InterruptedError(f"{path.name} was interrupted")
            notebook["metadata"]["posekit"] = {"fingerprint": mark, **self.values}
            target = failed if failure else final
            write_bytes(running, json.dumps(notebook, indent=1, ensure_ascii=False).encode())
            running.replace(target)
        finally:
            running.unlink(missing_ok=True)
        result = Result(path.name, target, time.perf_counter() - started, failure, slowest=slowest_cells(notebook))
        self.on_done(result)
        return result

    def papermill(self, path: Path, running: Path) -> tuple[dict[str, Any], Failure | None]:
        """Execute one notebook; what it holds afterwards, and its failure if it failed."""
        import papermill
        from papermill.exceptions import PapermillException

        error: Exception | None = None
        try:
            papermill.execute_notebook(
                path, running, parameters=self.values, engine_name=self.engine, kernel_name="python3",
                progress_bar=False, request_save_on_cell_execute=False, autosave_cell_every=0,
                execution_timeout=self.timeout, resources={"metadata": {"path": str(path.parent)}},
            )  # fmt: skip
        except (PapermillException, RuntimeError, TimeoutError) as caught:
            error = caught
        notebook = json.loads(running.read_text()) if running.is_file() else self.partial[str(path)].nb
        return notebook, find_failure(notebook, error)


def register_engine(runner: _Runner) -> str:
    """A papermill engine that starts one kernel at a time and lets the runner end those that are up."""
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine, papermill_engines

    class Client(PapermillNotebookClient):
        def create_kernel_manager(self) -> Any:
            manager = super().create_kernel_manager()
            if os.name == "posix":  # sockets in a private folder: no ports to race for, nobody else can listen
                self.sockets = tempfile.TemporaryDirectory(prefix="posekit-")
                manager.transport, manager.ip = "ipc", f"{self.sockets.name}/kernel"
            return manager

        def start_new_kernel(self, **options: Any) -> None:
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "POSEKIT_HEADLESS": "1"}
            with runner.starting:
                if runner.stop.is_set():
                    raise RuntimeError("interrupted")
                super().start_new_kernel(env=environment, stdout=DEVNULL, stderr=DEVNULL, **options)
            runner.kernels.add(self)

        def _cleanup_kernel(self) -> None:
            runner.kernels.discard(self)
            super()._cleanup_kernel()

        def signal_now(self) -> None:
            """End the kernel's process at once, from any thread."""
            process = getattr(getattr(self.km, "provisioner", None), "process", None)
            if process is not None and process.poll() is None:
                process.kill()

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
            runner.partial[options.pop("input_path")] = nb_man
            for name in ("log_output", "stdout_file", "stderr_file"):
                options.pop(name, None)
            startup, timeout = options.pop("start_timeout"), options.pop("execution_timeout")
            # A kernel whose cells are done has nothing left to save; asking it politely took up to three seconds.
            client = Client(
                nb_man,
                kernel_name=kernel_name,
                startup_timeout=startup,
                timeout=timeout,
                shutdown_kernel="immediate",
                **options,
            )
            return client.execute()

    papermill_engines.register("posekit", Engine)
    return "posekit"


def _mark(path: Path) -> str | None:
    try:
        return json.loads(path.read_text())["metadata"]["posekit"]["fingerprint"]
    except (OSError, ValueError, KeyError):
        return None
