"""Reconstruction as a phase: shards are written as they are done, and what is done is not done again."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dfkd_exp.errors import DfkdError
from dfkd_exp.evaluation.cost import peak_memory
from dfkd_exp.logger import LoggerSettings
from dfkd_exp.metadata import AllLayers
from dfkd_exp.models.ours import Ours
from dfkd_exp.phases.context import RunContext
from dfkd_exp.phases.reconstruction import Asked, make_reconstruction
from dfkd_exp.reconstruction import Moments
from dfkd_exp.reconstruction.engine.settings import PLAIN
from dfkd_exp.reconstruction.loop import Images, reconstruct
from dfkd_exp.reconstruction.optimizers import Adam, Sgd
from dfkd_exp.reconstruction.parametrisation.pixels import Pixels
from dfkd_exp.reconstruction.shards import STORED, open_shards, read_losses, shard_name, write_shard
from dfkd_exp.release.folder import read_release, write_release
from dfkd_exp.store import Store
from dfkd_exp.trainer import TrainerSettings
from tests.toy import CLASSES, INPUTS, toy_images

SETTINGS = Moments(images_per_class=8, group_size=4, steps=5)
ENGINE = replace(PLAIN, images_per_batch=8)
NETWORK = Ours(name="mlp", kwargs={"width": 8})


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A release of an untrained teacher."""
    network = NETWORK.build(INPUTS, CLASSES, seed=0)
    metadata = AllLayers().collect(network, [toy_images()], INPUTS)
    folder = tmp_path_factory.mktemp("toy") / "release"
    write_release(folder, network, metadata, NETWORK.architecture(), ["a", "b", "c"], 0.5)
    return read_release(folder)


def run(release, root, settings=SETTINGS, optimizer=None, engine=ENGINE, seed=0, made_of=None):
    context = RunContext(Store(root), TrainerSettings(accelerator="cpu"), LoggerSettings())
    asked = Asked(settings, made_of or Pixels(), [], optimizer or Adam(), engine, seed)
    return make_reconstruction(context, release, asked)


def test_the_phase_makes_what_the_function_makes(release, tmp_path):
    artifact = run(release, tmp_path)
    rows, labels = open_shards(artifact.path)
    alone = reconstruct(release.teacher(), release.metadata(), 8, group_size=4, steps=5, engine=ENGINE)
    pixels = rows.take(torch.arange(24))
    assert pixels.dtype == STORED
    torch.testing.assert_close(pixels, alone.pixels.to(STORED))
    assert torch.equal(labels, alone.labels)
    assert artifact.info["images"] == 24
    assert artifact.info["losses"] == pytest.approx(alone.losses.mean(1).tolist())


def test_what_a_killed_run_had_finished_is_kept_and_the_rest_is_made(release, tmp_path):
    whole = run(release, tmp_path / "whole")
    names = [shard_name(groups) for groups in ([0, 1], [2, 3], [4, 5])]
    assert sorted(path.name for path in whole.path.glob("groups-*")) == names
    partial = tmp_path / "killed" / "reconstruction" / f"{whole.key}.partial"
    partial.mkdir(parents=True)
    finished = load_file(whole.path / names[1])
    finished["pixels"] += 1  # so that making it again would show
    write_shard(partial / names[1], Images(**finished, spec=INPUTS))
    (partial / shard_name([0, 1, 2])).write_bytes(b"of another division into batches")
    resumed = run(release, tmp_path / "killed")
    assert resumed.manifest["resumed"]
    assert sorted(path.name for path in resumed.path.glob("groups-*")) == names
    for name in names:
        expected = load_file(whole.path / name)["pixels"] + (name == names[1])
        assert torch.equal(load_file(resumed.path / name)["pixels"], expected)


def altered(path):
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def piped(path):
    path.unlink()
    os.mkfifo(path)


def foldered(path):
    path.unlink()
    path.mkdir()


DAMAGES = [altered, piped, foldered, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"garbage" * 99)]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_of_an_unfinished_reconstruction_is_made_again(damage, release, tmp_path, capsys):
    whole = run(release, tmp_path)
    names = [path.name for path in sorted(whole.path.glob("groups-*"))]
    partial = whole.path.with_name(f"{whole.key}.partial")
    partial.mkdir()
    for name in names[:2]:
        write_shard(partial / name, Images(**load_file(whole.path / name), spec=INPUTS))
    damage(partial / names[0])
    shutil.rmtree(whole.path)
    capsys.readouterr()
    again = run(release, tmp_path)
    assert again.digest == whole.digest
    assert capsys.readouterr().err.count("warning: ") == 1


def test_a_run_killed_after_the_last_shard_has_nothing_left_to_do(release, tmp_path):
    whole = run(release, tmp_path)
    whole.path.rename(whole.path.with_name(f"{whole.key}.partial"))
    (whole.path.with_name(f"{whole.key}.partial") / "manifest.json").unlink()
    again = run(release, tmp_path)
    assert again.info["losses"] == whole.info["losses"]


def test_the_division_into_batches_is_no_other_artifact(release, tmp_path):
    one = run(release, tmp_path)
    other = run(release, tmp_path, engine=replace(ENGINE, images_per_batch=4))
    assert other.reused
    assert other.key == one.key
    assert not run(release, tmp_path, seed=1).reused
    assert not run(release, tmp_path, optimizer=Adam(lr=0.01)).reused


def test_a_reconstruction_that_diverges_says_what_to_lower_and_is_not_kept(release, tmp_path):
    with pytest.raises(DfkdError, match=r"the reconstruction diverged; lower optimizer.lr \(now 1e\+30\)"):
        run(release, tmp_path, replace(SETTINGS, steps=60), Sgd(lr=1e30), made_of=Pixels(clamp=False))
    assert not [path for path in (tmp_path / "reconstruction").iterdir() if path.suffix == ""]


def test_shards_are_read_in_the_order_of_their_groups(tmp_path):
    for first in (20, 3, 100):
        tensors = {
            "pixels": torch.full((1, 1, 1, 1), float(first)),
            "labels": torch.tensor([first]),
            "losses": torch.ones(2, 1),
        }
        save_file(tensors, tmp_path / shard_name([first, first + 1]))
    rows, labels = open_shards(tmp_path)
    assert labels.tolist() == [3, 20, 100]
    assert rows.take(torch.tensor([2, 0])).flatten().tolist() == [100, 3]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux can start to measure anew")
def test_losses_are_read_without_the_images_beside_them(tmp_path):
    """Of 64 MB, maps of the files would hold a good part in memory until the losses are put together."""
    for first in range(0, 64, 2):
        images = Images(
            torch.zeros(256, 1, 64, 64), INPUTS, torch.zeros(256, dtype=torch.long), torch.ones(2, 2), *torch.ones(2, 2)
        )
        write_shard(tmp_path / shard_name([first, first + 1]), images)
    before = resident()
    with peak_memory(torch.device("cpu")) as peak:
        losses, *counts = read_losses(tmp_path)
    assert [tensor.shape for tensor in (losses, *counts)] == [(2, 64), (64,), (64,)]
    assert peak.num_bytes < before + 2**23


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
