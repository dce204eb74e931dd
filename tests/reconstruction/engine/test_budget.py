"""Measuring takes a share of the work that it is for, on the batches that will be made; what memory does not hold is made smaller."""

import itertools
import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from dfkd_exp.errors import DfkdError
from dfkd_exp.locks import lock
from dfkd_exp.reconstruction import Moments
from dfkd_exp.reconstruction.engine import choose, measure
from dfkd_exp.reconstruction.engine.choose import resolve_engine
from dfkd_exp.reconstruction.engine.settings import PLAIN, Engine
from dfkd_exp.reconstruction.objective import Objective, draw_groups
from tests.toy import problem

SETTINGS = Moments(images_per_class=40, group_size=4, steps=400)
FAST = Engine(precision="fp32", convolutions="direct", compile=False, cuda_graphs=False)
"""Leaves only the number of images open."""


class Machine:
    """A machine of which is known how long everything takes; its clock stands still otherwise."""

    def __init__(self, monkeypatch, speed_of, compiling=0.0, most_images=10**9):
        self.now, self.tried, self.speed_of, self.compiling, self.most_images = (
            0.0,
            [],
            speed_of,
            compiling,
            most_images,
        )
        for module in (choose, measure):
            monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: self.now))
        monkeypatch.setattr(measure, "_measured", self.measured)
        monkeypatch.setattr(measure, "_first_step", self.first_step)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)

    def step(self, engine, images):
        """Take a step; how long it took."""
        seconds = images / (1000 * self.speed_of(engine))
        self.now += seconds
        return seconds

    def first_step(self, asked, engine):
        return (torch.ones(1), torch.ones(1, 1)), self.step(engine, asked.settings.group_size)

    def measured(self, asked, engine, reference, slowest, steps):
        images = len(measure.first_groups(asked, engine)) * asked.settings.group_size
        if images > self.most_images:
            raise torch.OutOfMemoryError
        assert images == engine.images_per_batch or slowest is None, "what is measured is what will be made"
        began = self.now
        self.tried.append(engine)
        self.now += self.compiling * engine.compile
        seconds = self.step(engine, images)
        if not slowest or images / seconds > slowest.rate / measure.FAR_SLOWER:
            for number in range(1, steps + 1):
                seconds = self.step(engine, images)
                if number * seconds > measure.LONG_ENOUGH:
                    break
        return measure.Timed(images / seconds, engine, self.now - began)


def by_precision(**speeds):
    return lambda engine: speeds[engine.precision] * (2 if engine.compile else 1)


MACHINES = {
    "usual": (by_precision(fp32=1, bf16=3), 14.0),
    "bf16 is emulated": (by_precision(fp32=1, bf16=0.02), 14.0),
    "no faster": (by_precision(fp32=1, bf16=1), 14.0),
}


@pytest.mark.parametrize("kind", MACHINES)
@pytest.mark.parametrize("images_per_class", [8, 40, 400, 4000, 40000])
@pytest.mark.parametrize("steps", [1, 20, 200, 2000])
def test_measuring_takes_a_tenth_of_the_work_at_most(teacher, metadata, monkeypatch, kind, images_per_class, steps):
    speed_of, compiling = MACHINES[kind]
    machine = Machine(monkeypatch, speed_of, compiling)
    asked = problem(teacher, metadata, replace(SETTINGS, images_per_class=images_per_class, steps=steps))
    chosen = resolve_engine(Engine(), asked)
    spent = machine.now
    work = 3 * images_per_class * steps / 1000
    # One step that is far slower than it was thought to be is not foreseen.
    assert spent <= 0.1 * work + 4 / (1000 * speed_of(replace(PLAIN, precision="bf16")))
    if work > 1000 and kind == "usual":
        assert (chosen.precision, chosen.compile) == ("bf16", True)
    if kind == "bf16 is emulated":
        assert chosen.precision == "fp32"


def test_a_call_for_a_few_images_and_steps_measures_nothing(teacher, metadata, monkeypatch):
    """However long a step takes."""
    machine = Machine(monkeypatch, lambda engine: 1e-6)
    asked = problem(teacher, metadata, Moments(images_per_class=80, group_size=80, steps=20))
    assert resolve_engine(Engine(), asked) == PLAIN
    assert not machine.tried
    assert not machine.now


def test_a_precision_is_kept_only_where_all_were_tried(teacher, metadata, monkeypatch, tmp_path):
    Machine(monkeypatch, by_precision(fp32=0.01, bf16=0.03))
    cache = tmp_path / "engine.json"
    little, more = (problem(teacher, metadata, replace(SETTINGS, steps=steps)) for steps in (45, 100))
    assert resolve_engine(Engine(), little, cache).precision == "fp32"
    assert not cache.exists()
    assert resolve_engine(Engine(), more, cache).precision == "bf16"
    assert resolve_engine(Engine(), little, cache).precision == "bf16"


def test_what_there_was_no_time_for_is_measured_when_there_is(teacher, metadata, monkeypatch, tmp_path):
    machine, cache = Machine(monkeypatch, by_precision(fp32=1, bf16=3), compiling=14.0), tmp_path / "engine.json"
    little, much = (problem(teacher, metadata, replace(SETTINGS, steps=steps)) for steps in (400, 4000))
    assert not resolve_engine(Engine(), little, cache).compile
    tried = len(machine.tried)
    assert not resolve_engine(Engine(), little, cache).compile
    assert len(machine.tried) == tried + 1, "how long a step takes, and no candidate"
    assert resolve_engine(Engine(), much, cache).compile
    assert resolve_engine(Engine(), little, cache).compile, "now it is known"


def test_where_memory_does_not_suffice_half_as_many_images_are_tried(teacher, metadata, monkeypatch, tmp_path):
    machine = Machine(monkeypatch, lambda engine: engine.images_per_batch, most_images=35)
    asked = problem(teacher, metadata, replace(SETTINGS, images_per_class=400, steps=10**5))
    chosen = resolve_engine(FAST, asked, tmp_path / "engine.json")
    assert chosen.images_per_batch == 24
    assert {len(batch) for batch in asked.batches(24)} == {6}
    machine.most_images = 3
    with pytest.raises(DfkdError, match=r"a smaller reconstruction\.group_size"):
        resolve_engine(FAST, asked, tmp_path / "other.json")


def test_a_smaller_last_batch_is_not_compiled(teacher, metadata, monkeypatch):
    compiled = []
    monkeypatch.setattr("dfkd_exp.reconstruction.objective.make_fx", lambda step: lambda *_: step)
    monkeypatch.setattr(torch, "compile", lambda graph, **_: compiled.append(graph) or graph)
    objective = Objective(problem(teacher, metadata, SETTINGS), replace(PLAIN, compile=True))
    losses = [objective(*draw_groups(objective, groups, 0))[0] for groups in ([0, 1], [2, 3], [4])]
    assert [len(part) for part in losses] == [2, 2, 1]
    assert len(compiled) == 1


def test_one_process_measures_at_a_time_and_none_loses_what_another_found(teacher, metadata, monkeypatch, tmp_path):
    cache = tmp_path / "store" / "engine.json"
    cache.parent.mkdir()
    machine = Machine(monkeypatch, lambda engine: 1.0)
    asked = problem(teacher, metadata, replace(SETTINGS, steps=10**5))
    other = threading.Thread(target=resolve_engine, args=(FAST, asked, cache))
    with lock(cache.with_suffix(".lock")):
        other.start()
        other.join(0.3)
        assert other.is_alive()
        assert not cache.exists()
        cache.write_text('{"another": 1}')
        machine.now += 10**6  # the other's measuring takes none of this one's time
    other.join()
    known = json.loads(cache.read_text())
    assert known.pop("another") == 1
    (entry,) = known.values()  # nothing else: the precision was not open
    assert entry["seconds_allowed"] is None, "there was time for all"


@pytest.mark.parametrize(("images", "groups", "most"), itertools.product((1, 5, 1000), (3, 30), (None, 1, 7)))
def test_the_size_that_was_measured_is_the_one_that_is_made(teacher, metadata, images, groups, most):
    asked = problem(teacher, metadata, replace(SETTINGS, images_per_class=4 * groups), most_at_once=most)
    engine = asked.fitted(replace(PLAIN, images_per_batch=images))
    assert asked.fitted(engine) == engine
    assert len(measure.first_groups(asked, engine)) == len(asked.batches(engine.images_per_batch)[0])
