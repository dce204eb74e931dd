"""Around a sweep's jobs: what is planned, which launchers are refused, jobs in processes of their own, a launcher that leaves."""

import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.types import RunMode
from omegaconf import OmegaConf

from dfkd_exp.config.groups import CONF
from dfkd_exp.errors import ConfigError, DfkdError
from dfkd_exp.report.status import main as status
from dfkd_exp.run_folder import at_work, plan_sweep
from dfkd_exp.sweeps import callback
from tests.report.test_tables import A_RESULT

RAY = "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher"


def launched(target, mode=RunMode.MULTIRUN, **fields):
    return OmegaConf.create({"mode": mode, "launcher": {"_target_": target, **fields}})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (launched("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"), "hydra/launcher=processes"),
        (launched(RAY, ray={"remote": {}}), "max_retries=0"),
        (launched(RAY, ray={"remote": {"max_retries": 3}}), "hydra/launcher=ray_jobs"),
    ],
)
def test_launchers_that_do_something_else_than_they_seem_to_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        callback.refuse_launcher(settings)


def test_other_launchers_are_not():
    callback.refuse_launcher(launched(RAY, ray={"remote": {"max_retries": 0}}))
    callback.refuse_launcher(launched("hydra_plugins.dfkd_processes.ProcessesLauncher"))
    callback.refuse_launcher(launched(RAY, mode=RunMode.RUN, ray={"remote": {}}))


@pytest.mark.parametrize(
    ("name", "elsewhere"), [(RAY, True), ("hydra_plugins.x.SlurmLauncher", True), ("x.BasicLauncher", False)]
)
def test_workers_of_ray_and_submitit_are_not_the_job(name, elsewhere):
    assert callback.is_sent_elsewhere(launched(name)) is elsewhere
    assert not callback.is_sent_elsewhere(launched(name, mode=RunMode.RUN))


def test_what_a_grid_will_run_is_written_down_before_it_does(dfkd):
    ran = dfkd("sweep=seeds", "seed=4,2", "student.kwargs.width=4,8")
    assert ran.code == 0, ran.err
    [plan] = ran.outputs.glob("runs/digits/*/sweep.json")
    jobs = json.loads(plan.read_text())["jobs"]
    picked = [[o for o in job if o.startswith(("seed", "student"))] for job in jobs]
    assert picked == [[f"seed={seed}", f"student.kwargs.width={width}"] for seed in (4, 2) for width in (4, 8)]
    for number, job in enumerate(jobs):
        result = json.loads((plan.parent / str(number) / "result.json").read_text())
        assert sorted(result["overrides"]) == sorted(job)


def test_a_sweep_over_no_value_is_refused_and_leaves_nothing(dfkd):
    ran = dfkd("-m", "seed=range(0,0)")
    assert ran.code == 2
    assert ran.err == "error: seed=range(0,0): there is no value in it to sweep over; say one, or leave it out\n"
    assert not list(ran.outputs.rglob("*.*"))


def test_stores_of_several_machines_laid_together_make_one_table(dfkd, tmp_path):
    for machine in (0, 1):
        assert dfkd("-m", f"seed={machine}").code == 0
        shutil.move(tmp_path / "outputs" / "store", tmp_path / f"store-{machine}")
    for machine in (0, 1):
        shutil.copytree(tmp_path / f"store-{machine}", tmp_path / "outputs" / "store", dirs_exist_ok=True)
    ran = dfkd("-m", "seed=0,1")
    assert ran.code == 0, ran.err
    for result in ran.results()[-2:]:
        assert all(phase["reused"] for name, phase in result["phases"].items() if name != "evaluation"), result[
            "phases"
        ]


@pytest.mark.parametrize(
    ("said", "left_out"),
    [
        (["seed=0,0"], "1 job is the same as another and is left out"),
        (["student.kwargs.width=4,4", "distillation.optimizer.lr=1e-3,0.001"], "3 jobs are the same as others and are left out"),
    ],
)  # fmt: skip
def test_jobs_that_are_the_same_are_run_once(said, left_out, dfkd):
    ran = dfkd("-m", *said)
    assert ran.code == 0, ran.err
    assert left_out in ran.out
    assert "1 of 1 jobs done" in ran.out


def test_a_launcher_that_leaves_with_an_error_leaves_the_table_and_the_exit_code(dfkd, monkeypatch):
    """As those of submitit and Ray do when a machine is lost: one job is done, one was never begun."""
    from hydra.core.plugins import Plugins

    Plugins.instance()  # which loads the launcher's module once more
    from hydra._internal.core_plugins.basic_launcher import BasicLauncher

    real = BasicLauncher.launch

    def launch(self, job_overrides, initial_job_idx):
        real(self, job_overrides[:1], initial_job_idx)
        raise RuntimeError("the machine is gone\nfor good")

    monkeypatch.setattr(BasicLauncher, "launch", launch)
    ran = dfkd("-m", "student.kwargs.width=4,8")
    assert ran.code == 1
    assert "basic ended the sweep: RuntimeError: the machine is gone; jobs that it has started may go on" in ran.err
    assert "not started: job 1" in ran.err
    assert "1 of 2 jobs done" in ran.out


PARTS = {
    "dfkd_exp.report.page.write_report": "the report could not be made (dfkd-report outputs/runs/digits/",
    "dfkd_exp.report.tables.sweep_table": "the sweep's table could not be made",
    "dfkd_exp.report.summary.read": "the sweep could not be summed up",
    "dfkd_exp.sweeps.callback.plan_sweep": "the sweep's plan could not be written",
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(28, "No space left on device"), DfkdError("mend it")])
def test_what_fails_around_a_sweep_is_an_error_and_the_rest_is_done(part, error, monkeypatch, tmp_path, capsys):
    def fail(*_, **__):
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(callback, "failures", [])
    monkeypatch.setattr("dfkd_exp.report.tables.sweep_table", lambda *_: "the table")
    monkeypatch.setattr("dfkd_exp.report.published.published_rows", lambda _: [])
    monkeypatch.setattr("dfkd_exp.report.page.write_report", lambda *_: Path("report.html"))
    folder = tmp_path / "outputs" / "runs" / "digits" / "1"
    (folder / "0").mkdir(parents=True)
    shutil.copy(A_RESULT, folder / "0" / "result.json")
    monkeypatch.setattr(part, fail)
    sweep, config = callback.SweepTable(), OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}})
    sweep.on_multirun_start(config)
    sweep.on_multirun_end(config)
    said = capsys.readouterr()
    assert PARTS[part] in said.err
    assert str(error) in said.err
    assert said.err.count("\n") == 1
    assert callback.failures == [error]
    assert ("the traceback is in" in said.err) == (not isinstance(error, DfkdError))
    assert "1 of 1 jobs done" in said.out or "summed up" in said.err


def test_a_report_that_fails_ends_the_command_with_exit_code_1(dfkd, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr("dfkd_exp.report.page.write_report", fail)
    ran = dfkd("-m", "seed=0")
    assert ran.code == 1
    assert "RuntimeError: a bug" in ran.err
    assert "1 of 1 jobs done" in ran.out


@pytest.mark.parametrize(("name", "plugin"), [("slurm", "hydra_submitit_launcher"), ("ray_jobs", "hydra_ray_launcher")])
def test_the_clusters_launchers_compose(name, plugin, dfkd):
    if not find_spec(f"hydra_plugins.{plugin}"):
        ran = dfkd("-m", f"hydra/launcher={name}", "seed=0,1")
        assert ran.code == 2
        assert "is not installed: pip install 'dfkd_exp[" in ran.err
        return
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[f"hydra/launcher={name}"], return_hydra_config=True)
    callback.refuse_launcher(OmegaConf.create({"mode": RunMode.MULTIRUN, "launcher": config.hydra.launcher}))


def test_every_launcher_that_needs_an_extra_names_one_there_is():
    from dfkd_exp.config.errors import EXTRAS

    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for extra in EXTRAS.values():
        assert f"\n{extra} = [" in project


def test_a_sweep_of_releases_ends_well_and_is_done(dfkd, monkeypatch, capsys):
    ran = dfkd("-m", "pipeline=release", "seed=0,1")
    assert ran.code == 0, ran.err
    assert "2 of 2 jobs done" in ran.out
    assert "failed" not in ran.out + ran.err
    monkeypatch.setattr(sys, "argv", ["dfkd-status", str(ran.outputs)])
    status()
    said = capsys.readouterr().out
    assert said.count("released: ") == 2
    assert "stopped" not in said


def test_a_job_that_still_runs_has_not_failed(tmp_path, monkeypatch, capsys):
    """As when a launcher has left, and what it started goes on: one job is done, one runs, one was killed, one never began."""
    monkeypatch.setattr(callback, "failures", [])
    monkeypatch.setattr("dfkd_exp.report.page.write_report", lambda *_: Path("report.html"))
    folder = tmp_path / "sweep"
    plan_sweep(folder, [[f"seed={seed}"] for seed in range(4)])
    for job in range(3):
        (folder / str(job)).mkdir()
    shutil.copy(A_RESULT, folder / "0" / "result.json")
    with at_work(folder / "1", ["seed=1"]):
        callback.SweepTable().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}}))
    said = capsys.readouterr()
    assert "job 2 failed" in said.err
    assert "not started: job 3" in said.err
    assert "still running: job 1" in said.err
    assert callback.failures
    assert "1 of 4 jobs done" in said.out


def test_a_command_that_leaves_jobs_running_has_not_done_all(tmp_path, monkeypatch):
    monkeypatch.setattr(callback, "failures", [])
    monkeypatch.setattr("dfkd_exp.report.page.write_report", lambda *_: Path("report.html"))
    plan_sweep(tmp_path / "sweep", [["seed=0"]])
    (tmp_path / "sweep" / "0").mkdir()
    with at_work(tmp_path / "sweep" / "0", ["seed=0"]):
        callback.SweepTable().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path / "sweep")}}}))
    assert [str(error) for error in callback.failures] == ["jobs are still running"]
