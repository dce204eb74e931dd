"""The search for hyper-parameters: several workers on one study, one that dies, figures that are none, a study that goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from dfkd_exp.errors import ConfigError, DfkdError, Pruned
from dfkd_exp.report.page import write_report
from dfkd_exp.report.summary import read
from dfkd_exp.sweeps.search import Search, space_and_fixed
from dfkd_exp.sweeps.trial import RunningTrial, open_study

LR = "distillation.optimizer.lr=tag(log,interval(0.001,0.01))"
SPACE = {"x": FloatDistribution(-1, 1)}


def parsed(*overrides):
    return space_and_fixed(OverridesParser.create().parse_overrides(list(overrides)))


def test_flags_with_choices_and_intervals_are_searched_and_the_others_are_not():
    space, fixed = parsed(
        LR, "a=int(interval(2,9))", "student=mlp,cnn", "+b.c=choice(true,false)", "d=range(1,7,3)", "seed=3"
    )
    assert fixed == ["seed=3"]
    assert space == {
        "distillation.optimizer.lr": FloatDistribution(0.001, 0.01, log=True),
        "a": IntDistribution(2, 9),
        "student": CategoricalDistribution(["mlp", "cnn"]),
        "+b.c": CategoricalDistribution(["True", "False"]),
        "d": CategoricalDistribution(["1", "4"]),
    }


def parabola(folder: Path, started: list):
    """A launcher whose jobs leave ``-x^2``, or no number where x is negative."""

    def launch(jobs):
        folders = []
        for overrides in jobs:
            x = float(overrides[-1].partition("=")[2])
            started.append(x)
            place = folder / str(len(started))
            place.mkdir(parents=True)
            (place / "result.json").write_text(json.dumps({"agreement_mixed": -x * x if x >= 0 else float("nan")}))
            folders.append(place)
        return folders

    return launch


def trials(search):
    return open_study(search.path).get_trials()


def test_a_figure_that_is_no_number_is_a_failed_trial_and_the_study_goes_on_where_it_was(tmp_path):
    started: list[float] = []
    launch = parabola(tmp_path / "runs", started)
    Search(tmp_path / "s.journal", SPACE, [], trials=8).run(launch, at_once=3)
    assert len(started) == 8
    search = Search(tmp_path / "s.journal", SPACE, [], trials=12)
    search.run(launch, at_once=1)
    assert len(started) == 12
    states = [trial.state for trial in trials(search)]
    assert states == [TrialState.COMPLETE if x >= 0 else TrialState.FAIL for x in started]
    assert TrialState.FAIL in states
    assert search._study().best_params["x"] == min(x for x in started if x >= 0)
    assert "12 of 12 trials" in search.summary()
    search.run(launch, at_once=1)
    assert len(started) == 12, "there are enough"


def test_a_job_that_leaves_no_result_is_a_failed_trial(tmp_path):
    search = Search(tmp_path / "s.journal", SPACE, [], trials=2)
    search.run(lambda jobs: [tmp_path / "nowhere"], at_once=1)
    assert [trial.state for trial in trials(search)] == [TrialState.FAIL] * 2
    assert "best" not in search.summary()


WORKER = """
import json, os, signal, sys, time
from pathlib import Path
from optuna.distributions import FloatDistribution
from dfkd_exp.sweeps.search import Search

place, name, deadly = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "deadly"
count = 0
def launch(jobs):
    global count
    count += 1
    if deadly and count == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    folder = place / f"{name}-{count}"
    folder.mkdir()
    time.sleep(0.05)
    x = float(jobs[0][-1].partition("=")[2])
    (folder / "result.json").write_text(json.dumps({"agreement_mixed": -x * x}))
    return [folder]
Search(place / "s.journal", {"x": FloatDistribution(-1, 1)}, [], trials=20).run(launch, at_once=1)
"""


def test_of_three_workers_one_is_killed_and_its_trial_is_done_by_another(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    def work(name, fate):
        return subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path), name, fate], env=environment)

    workers = [work("a", "deadly"), work("b", "lives"), work("c", "lives")]
    codes = [worker.wait(timeout=120) for worker in workers]
    assert codes == [-9, 0, 0]
    search = Search(tmp_path / "s.journal", SPACE, [], trials=20)
    if any(trial.state is TrialState.RUNNING for trial in trials(search)):  # the others were through before it died
        assert work("d", "lives").wait(timeout=120) == 0
    assert [trial.state for trial in trials(search)] == [TrialState.COMPLETE] * 20
    assert len({trial.params["x"] for trial in trials(search)}) == 20, "no two workers draw the same"
    folders = [trial.user_attrs["folder"] for trial in trials(search)]
    assert len(set(folders)) == 20
    assert len({Path(folder).name[0] for folder in folders}) >= 2, "more than one has worked"


def test_a_search_by_the_command(dfkd):
    search = ("-m", "hydra/sweeper=study", "hydra.sweeper.trials=2", LR)
    ran = dfkd(*search)
    assert ran.code == 0, ran.err
    assert len(ran.results()) == 2
    assert "2 of 2 trials (2 complete)" in ran.out
    assert "best     trial" in ran.out
    again = dfkd(*search)
    assert again.code == 0
    assert len(again.results()) == 2, "nothing is left to do"
    other = dfkd("-m", "hydra/sweeper=study", "hydra.sweeper.trials=2", "distillation.optimizer.lr=interval(0.1,0.2)")
    assert other.code == 2
    assert "hydra.sweeper.study=NAME" in other.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([LR, "hydra.sweeper.objective=acuracy"], "hydra.sweeper.objective must be one of"),
        ([LR, "hydra.sweeper.sampler=grid"], "hydra.sweeper.sampler must be one of"),
        ([LR, "hydra.sweeper.trials=0"], "hydra.sweeper.trials must be at least 1"),
        (["seed=1"], "nothing is searched"),
        (["seed=range(0,0)"], "seed=range(0,0): there is no value in it to sweep over"),
        (["distillation.optimizer.lr=interval(0.01,0.001)"], "interval(0.01,0.001): an interval goes from the smaller"),
        (["distillation.optimizer.lr=tag(log,interval(0,1))"], "tag(log,interval(0,1)): an interval goes from"),
    ],
)
def test_a_search_that_cannot_be_is_refused(arguments, said, dfkd):
    ran = dfkd("-m", "hydra/sweeper=study", *arguments)
    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert not list(ran.outputs.rglob("*.*"))


def test_a_study_that_goes_on_is_reported_as_a_whole(dfkd, monkeypatch):
    """From another folder, after the outputs were moved; in the order of the trials, each with what was searched for."""
    search = ("-m", "hydra/sweeper=study", LR, "student.kwargs.width=4,8", "name=whole")
    assert dfkd(*search, "hydra.sweeper.trials=2").code == 0
    ran = dfkd(*search, "hydra.sweeper.trials=3")
    assert "1 of 1 jobs done" in ran.out
    assert "agreement_mixed" in ran.out.rpartition("best     trial")[2]
    [journal] = ran.outputs.glob("studies/whole.journal")
    told = [trial.value for trial in open_study(journal).get_trials()]
    moved = ran.outputs.rename(ran.outputs.parent / "moved")
    (moved / "elsewhere").mkdir()
    monkeypatch.chdir(moved / "elsewhere")
    folder = max(moved.glob("runs/whole/*/study.json")).parent
    found = read(folder)
    assert [setting.over_seeds("agreement_mixed").mean for setting in found.settings] == told
    assert [len(found.jobs), len(found.trials)] == [1, 2]
    assert all(path.is_dir() for setting in found.settings for path in found.folders_of(setting))
    page = write_report(found, folder).read_text()
    assert "1 of 1 jobs done and 2 trials of the study from other commands" in page
    assert ">agreement_mixed<" in page


def test_a_study_looks_at_no_test_set_unless_told():
    assert Search(Path("s.journal"), SPACE, []).objective == "agreement_mixed"
    with pytest.raises(ConfigError):
        Search(Path("s.journal"), SPACE, [], objective="best")


def test_a_trial_that_is_worse_than_the_others_at_the_same_moment_is_ended(tmp_path):
    search = Search(tmp_path / "s.journal", SPACE, [], prune=True)
    study = search._study()
    for height in (0.7, 0.8, 0.9, 0.95):
        trial = study.ask(SPACE)
        for part in range(1, 5):
            RunningTrial(search.path, trial.number).report(height + part / 100, part)
        study.tell(trial, height)
    good, bad = (RunningTrial(search.path, study.ask(SPACE).number) for _ in range(2))
    for trial in (good, bad):
        assert trial.report(0.5, 1) is None, "too early to say"
    assert good.report(0.96, 2) is None
    assert "agreement 60.00 % after 2 tenths" in (bad.report(0.6, 2) or "")


def test_a_search_that_prunes_hears_of_its_trials_on_the_way(dfkd):
    ran = dfkd(
        "-m", "hydra/sweeper=study", "hydra.sweeper.trials=1", "hydra.sweeper.prune=true", LR, "scale=smoke", "trainer=cpu",
        "reconstruction.images_per_class=100", "distillation.epochs=5", f"outputs={Path.cwd() / 'outputs'}", small=False,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    [journal] = ran.outputs.glob("studies/*.journal")
    [trial] = open_study(journal).get_trials()
    assert sorted(trial.intermediate_values) == [2, 4, 6, 8]
    assert trial.value == ran.result["agreement_mixed"]


def test_a_job_that_was_pruned_is_neither_done_nor_failed(dfkd, monkeypatch):
    import dfkd_exp.pipeline

    def pruned(*_):
        raise Pruned("it was worse")

    monkeypatch.setattr(dfkd_exp.pipeline, "run", pruned)
    ran = dfkd("-m", "hydra/sweeper=study", "hydra.sweeper.trials=2", LR)
    assert ran.code == 0
    assert "2 of 2 trials (2 pruned)" in ran.out
    assert "ended early: it was worse" in ran.out


def test_pruning_needs_what_is_known_on_the_way():
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.prune=true needs"):
        Search(Path("s.journal"), SPACE, [], objective="reconstruction_loss", prune=True)


def searched(tmp_path):
    """A study of four trials, and its lines."""
    Search(tmp_path / "s.journal", SPACE, [], trials=4).run(parabola(tmp_path / "jobs", []), at_once=1)
    return (tmp_path / "s.journal").read_bytes().splitlines(keepends=True)


DAMAGES = {
    "half a line at the end": lambda lines: [*lines, lines[3][:20]],
    "half a line before another": lambda lines: [*lines[:9], lines[3][:20], *lines[9:]],
    "a foreign line": lambda lines: [*lines[:9], b"<<<<<<< somebody\n", *lines[9:]],
    "a line of JSON": lambda lines: [*lines[:9], b"5\n", b"{}\n", *lines[9:]],
    "bytes": lambda lines: [*lines[:9], b"\xff\x00\n", *lines[9:]],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_no_worker_has_written_is_taken_out_of_a_journal_and_the_search_goes_on(damage, tmp_path, capsys):
    lines = searched(tmp_path)
    search = Search(tmp_path / "s.journal", SPACE, [], trials=6)
    before = [(trial.params, trial.value) for trial in trials(search)]
    damaged = b"".join(DAMAGES[damage](lines))
    search.path.write_bytes(damaged)
    search.run(parabola(tmp_path / "more", []), at_once=1)
    assert [(trial.params, trial.value) for trial in trials(search)][:4] == before
    assert len(trials(search)) == 6
    said = capsys.readouterr().err
    assert f"s.journal, line {len(lines) + 1 if 'end' in damage else 10}" in said
    [kept] = tmp_path.glob("s.journal.damaged-*")
    assert kept.read_bytes() == damaged


def test_a_journal_that_lacks_something_is_refused_with_its_line(tmp_path):
    """Trials are numbered by their order, so without one the figures of all that follow would be another's."""
    lines = searched(tmp_path)
    created = next(number for number, line in enumerate(lines) if b'"op_code":4' in line)
    (tmp_path / "s.journal").write_bytes(b"".join([*lines[:created], b"overwritten\n", *lines[created + 1 :]]))
    with pytest.raises(DfkdError, match=r"s\.journal, line \d+: .*hydra\.sweeper\.study=NAME"):
        Search(tmp_path / "s.journal", SPACE, [], trials=4).run(parabola(tmp_path / "more", []), at_once=1)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_journal_that_is_no_file_is_refused(make, tmp_path):
    make(tmp_path / "s.journal")
    with pytest.raises(DfkdError, match="not a regular file"):
        Search(tmp_path / "s.journal", SPACE, [], trials=4).run(parabola(tmp_path / "more", []), at_once=1)


def test_values_beside_a_row_are_those_of_its_trials(dfkd):
    said = ["row=fast", "source.student_steps=3", "source.images=64", LR, "hydra.sweeper.trials=1", "seed=0"]
    short = ["training.epochs=1", "distillation.epochs=1"]
    ran = dfkd("-m", "hydra/sweeper=study", "experiment=field", *said, *short)
    assert "1 of 1 trials (1 complete)" in ran.out, ran.err
    assert {"method=fast", "source.student_steps=3", "source.images=64"} <= set(ran.result["overrides"])
    ran = dfkd("-m", "hydra/sweeper=study", "experiment=field", "row=fast", "source.student_stesp=3", LR, "name=other")
    assert ran.code == 2
    assert "source has no student_stesp" in ran.err
    assert not (ran.outputs / "studies" / "other.journal").exists()


def test_a_sweep_that_is_chosen_by_name_is_a_search_of_the_row_that_is_said(dfkd):
    """And not over all rows of the experiment, which its own grid has."""
    said = ["row=zskt", "seed=1", "hydra.sweeper.trials=1", "distillation.snapshots=0", "distillation.epochs=1"]
    ran = dfkd("experiment=field", "sweep=method_search", *said, "training.epochs=1", "trainer=cpu", small=False)
    assert "1 of 1 trials (1 complete)" in ran.out, ran.err
    assert ran.result["row"]["name"] == "zskt"
    assert ran.result["seed"] == 1
    assert 0 <= ran.result["agreement_mixed_by_class"] <= 1
