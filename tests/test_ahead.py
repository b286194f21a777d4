"""Crops cut ahead by a thread: the same batches, errors in their place, and runs equal bit for bit."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from posekit import create_model, training
from posekit.data import ImageError, Mannequin
from posekit.data.crops import _Cutter
from posekit.training import loaders
from posekit.training.loaders import Ahead


class Numbers:
    """A loader of numbers that notes what it has made; the one called ``broken`` cannot be made."""

    def __init__(self, count: int, broken: int | None = None):
        self.count, self.broken, self.first, self.made = count, broken, 0, []

    def __len__(self):
        return self.count

    def resume(self, state):
        self.first = state["batch"]

    def __iter__(self):
        for number in range(self.first, self.count):
            if number == self.broken:
                raise ImageError(f"picture {number} is missing")
            self.made.append(number)
            yield number


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "posekit crops"]


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "the thread does not work ahead"
        time.sleep(0.001)


def test_batches_come_in_order_and_an_error_in_its_place():
    loader = Ahead(Numbers(40))
    assert len(loader) == 40 and list(loader) == list(range(40))
    loader.resume({"epoch": 0, "batch": 33})
    assert list(loader) == list(range(33, 40))
    taken = []
    with pytest.raises(ImageError, match="picture 5 is missing"):
        for number in Ahead(Numbers(40, broken=5)):
            taken.append(number)
    assert taken == [0, 1, 2, 3, 4] and not threads()


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_it_works_ahead_and_not_further_than_told(depth):
    source = Numbers(40)
    iterator = iter(Ahead(source, depth=depth))
    assert not source.made, "nothing starts before the first batch is asked for"
    for taken in range(1, 4):
        next(iterator)
        wait_for(lambda taken=taken: len(source.made) == taken + depth)
        time.sleep(0.02)
        assert len(source.made) == taken + depth
    iterator.close()  # a caller that leaves in the middle leaves no thread behind
    assert not threads() and len(source.made) == 3 + depth


class Killed(Exception):
    pass


def test_a_run_is_the_same_with_and_without_the_thread_and_after_kills(tmp_path, monkeypatch):
    people = Mannequin("val", level="bib", scenes=12, root=tmp_path, progress=False)
    recipe = training.recipes.quick_ce(4 * 14, batch_size=4)
    cut, by = _Cutter.__call__, set()

    def noted(self, order):
        by.add(threading.current_thread().name)
        return cut(self, order)

    monkeypatch.setattr(_Cutter, "__call__", noted)

    def run(folder, cores, kill_at=0):
        monkeypatch.setattr(loaders, "available_cores", lambda: cores)
        torch.manual_seed(0)
        net = create_model("tiny_simple_baseline", input_size=(64, 64))
        by.clear()

        def kill(record):
            if record["step"] == kill_at:
                raise Killed

        training.fit(
            net, people, None, recipe, out_dir=tmp_path / folder, seed=1, device="cpu", log_every=1,
            checkpoint_seconds=1e9, on_log=kill,
        )  # fmt: skip
        return net.state_dict()

    whole = run("inline", cores=1)
    assert by == {threading.current_thread().name}, "one core is not shared with a thread"
    ahead = run("ahead", cores=2)
    assert by == {"posekit crops"}
    for kill_at in (1, 5, 11):
        with pytest.raises(Killed):
            run("killed", cores=2, kill_at=kill_at)
        assert not threads(), "a run that ends leaves its thread behind"
    killed = run("killed", cores=2)
    for name, value in whole.items():
        assert torch.equal(value, ahead[name]) and torch.equal(value, killed[name]), name
