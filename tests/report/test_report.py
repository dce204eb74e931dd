"""The report of a sweep: right where jobs failed, are missing or found no number; one file that asks nobody for anything."""

import csv
import io
import json
import re
import shutil
import sys

import pytest
from PIL import Image

from dfkd_exp.report.command import main
from dfkd_exp.report.figures import accuracy_against, png, svg
from dfkd_exp.report.losses import student_curves
from dfkd_exp.report.page import write_report
from dfkd_exp.report.sentences import in_words
from dfkd_exp.report.setting import Figure
from dfkd_exp.report.status import newest
from dfkd_exp.report.summary import differ, pareto, read
from dfkd_exp.run_folder import at_work, plan_sweep
from tests.report.test_tables import result

KINDS = {"small": (0.90, 1_000), "wasteful": (0.89, 50_000), "large": (0.95, 90_000)}


def run(folder, number, overrides, **figures):
    place = folder / str(number)
    place.mkdir(parents=True)
    with at_work(place, overrides):
        pass
    content = {
        **result(),
        "libraries": {"torch": "2"},
        "code_version": "1",
        "machine": "mine",
        "python": "3",
        "images": 10,
    }
    content |= {"overrides": overrides, "seed": int(overrides[-1].partition("=")[2]), "name": "digits", **figures}
    (place / "result.json").write_text(json.dumps(content))
    Image.new("RGB", (8, 8)).save(place / "reconstructions.png")


@pytest.fixture
def folder(tmp_path):
    """Three kinds and their real images, two seeds each; one job failed, one never began, one has no number."""
    sweep = tmp_path / "sweep"
    planned = []
    for kind, (accuracy, num_bytes) in KINDS.items():
        for seed in (0, 1):
            overrides = [f"metadata={kind}", f"seed={seed}"]
            run(
                sweep,
                len(planned),
                overrides,
                accuracy=accuracy + seed / 100,
                source_bytes=num_bytes,
                source="FromReconstruction",
            )
            planned.append(overrides)
    run(
        sweep,
        len(planned),
        ["metadata=real", "seed=0"],
        accuracy=0.93,
        source_bytes=90_000,
        source="SameBytes",
        match=None,
    )
    planned.append(["metadata=real", "seed=0"])
    run(sweep, len(planned), ["metadata=<b>odd</b>", "seed=0"], accuracy=None, source_bytes=5)
    planned += [["metadata=<b>odd</b>", "seed=0"], ["metadata=broken", "seed=0"], ["metadata=late", "seed=0"]]
    broken = sweep / "8"
    broken.mkdir()
    with at_work(broken, planned[8]):
        (broken / "error.txt").write_text("Traceback\nDfkdError: it diverged\n")
    plan_sweep(sweep, planned)
    return sweep


def test_figures_are_means_and_deviations_over_seeds(folder):
    settings = {setting.title: setting for setting in read(folder).settings}
    assert settings["metadata=small"].accuracy.text() == "90.50 ± 0.71"
    assert settings["metadata=real"].accuracy.text() == "93.00"
    assert settings["metadata=real"].seconds.text() == "11.34"  # without the teacher's
    assert settings["metadata=<b>odd</b>"].accuracy.text() == "–"
    assert Figure.of([float("nan"), 1.0]).text() == "1.00"


def test_the_front_is_of_those_that_nothing_beats_for_fewer_bytes(folder):
    assert [setting.title for setting in pareto(read(folder).settings)] == ["metadata=small", "metadata=large"]


def test_the_words_are_computed_from_the_figures(folder):
    words = " ".join(in_words(read(folder)))
    assert "without real images: metadata=large, 95.50 ± 0.71 %" in words
    assert (
        "In 90,000 bytes, metadata=large is 2.50 points better than as many bytes of real images (metadata=real), of one seed"
        in words
    )
    assert "2 of 10 jobs have no result" in words
    assert "have one seed only" in words


def test_students_and_teachers_are_compared_with_their_own(tmp_path):
    """A small student of reconstructions and of real images, a large one of both; and another teacher's."""
    figures = {
        ("teacher=a", "student=mlp", "source=reconstruction"): 0.80, ("teacher=a", "student=mlp", "source=same_bytes"): 0.85,
        ("teacher=a", "student=cnn", "source=reconstruction"): 0.95, ("teacher=a", "student=cnn", "source=same_bytes"): 0.97,
        ("teacher=b", "student=cnn", "source=reconstruction"): 0.50, ("teacher=b", "student=cnn", "source=same_bytes"): 0.40,
    }  # fmt: skip
    jobs = [[*said, "seed=0"] for said in figures]
    for number, (said, accuracy) in enumerate(figures.items()):
        teacher, student, source = (flag.split("=")[1] for flag in said)
        made = {"reconstruction": "FromReconstruction", "same_bytes": "SameBytes"}[source]
        run(
            tmp_path,
            number,
            jobs[number],
            accuracy=accuracy,
            source=made,
            source_bytes=5_000,
            teacher=teacher,
            student=student,
        )
    plan_sweep(tmp_path, jobs)
    words = [
        sentence for sentence in in_words(read(tmp_path)) if sentence.partition(": ")[2].startswith("In 5,000 bytes")
    ]
    assert ["5.00 points worse" in words[0], "2.00 points worse" in words[1], "10.00 points better" in words[2]] == [
        True
    ] * 3
    assert [sentence.startswith("With teacher=b: ") for sentence in words] == [False, False, True]
    assert sum("The best student" in sentence for sentence in in_words(read(tmp_path))) == 2


def test_a_command_on_the_page_can_be_pasted(tmp_path):
    flag = "distillation.optimizer.lr=tag(log,interval(0.001,0.01))"
    run(tmp_path, 0, [flag, "seed=0"])
    write_report(read(tmp_path), tmp_path)
    assert f"dfkd &#x27;{flag}&#x27; seed=0" in (tmp_path / "report.html").read_text()


LEADS = {
    "more than seeds explain": ([(0.90, 0.91), (0.80, 0.81), (0.70, 0.71)], ["Its lead over each other one is more than seeds explain."]),
    "over one": ([(0.90, 0.91), (0.80, 0.81)], ["Its lead over metadata=1 is more than seeds explain."]),
    "within": ([(0.80, 0.81), (0.89, 0.91), (0.88, 0.90), (0.85, 0.92)], ["Seeds explain its lead over metadata=2; metadata=3."]),
    "one seed": ([(0.90, 0.91), (0.89,)], ["Whether seeds explain its lead over metadata=1 is not known: that needs several of both."]),
    "equal": ([(0.9,), (0.9,), (0.9,)], ["As accurate are metadata=1; metadata=2."]),
    "many": ([(0.9,)] + 6 * [(0.8,)], ["Whether seeds explain its lead over metadata=1; metadata=2; metadata=3; metadata=4; 2 more is not "
                                       "known: that needs several of both."]),
    "alone": ([(0.9, 0.8)], []),
}  # fmt: skip


@pytest.mark.parametrize("case", LEADS)
def test_the_words_say_whether_seeds_explain_the_lead_of_the_best(case, tmp_path):
    accuracies, expected = LEADS[case]
    jobs = [([f"metadata={n}", f"seed={s}"], value) for n, of in enumerate(accuracies) for s, value in enumerate(of)]
    for number, (job, accuracy) in enumerate(jobs):
        run(tmp_path, number, job, source="FromReconstruction", accuracy=accuracy)
    said = [sentence for sentence in in_words(read(tmp_path)) if "lead" in sentence or "As accurate" in sentence]
    assert said == expected


@pytest.mark.parametrize(
    ("accuracies", "said"),
    [
        ((0.7, 0.8, 0.9), "It has learnt more than 2,000 and less than 4,000 training images teach."),
        ((0.86, 0.88, 0.9), "It has learnt less than 1,000 training images teach."),
        ((0.7, 0.75, 0.8), "It has learnt more than 4,000 training images teach."),
        ((0.7, 0.9, 0.8), None),
        ((0.7,), None),
    ],
    ids=str,
)
def test_the_words_say_how_many_training_images_the_best_student_was_spared(tmp_path, accuracies, said):
    images = {f"source.images={1000 * 2**place}": accuracy for place, accuracy in enumerate(accuracies)}
    jobs = [[flag, "seed=0"] for flag in ("metadata=channels", *images)]
    run(tmp_path, 0, jobs[0], source="FromReconstruction", accuracy=0.85)
    for number, (flag, accuracy) in enumerate(images.items(), start=1):
        run(tmp_path, number, jobs[number], source="FromData", accuracy=accuracy, images=int(flag.split("=")[1]))
    plan_sweep(tmp_path, jobs)
    words = in_words(read(tmp_path))
    assert [sentence for sentence in words if "training images teach" in sentence] == [said] * bool(said)


def test_training_images_of_another_teacher_and_twice_as_many_epochs_are_no_other_number_of_them(tmp_path):
    jobs = [["metadata=channels", "teacher=cnn", "seed=0"]]
    run(tmp_path, 0, jobs[0], source="FromReconstruction", accuracy=0.85)
    for number, (teacher, epochs, images, accuracy) in enumerate(
        [("cnn", 10, 100, 0.8), ("cnn", 20, 100, 0.9), ("mlp", 10, 50_000, 0.7)], start=1
    ):
        jobs.append([f"source.images={images}", f"teacher={teacher}", f"distillation.epochs={epochs}", "seed=0"])
        run(tmp_path, number, jobs[-1], source="FromData", accuracy=accuracy, images=images)
    plan_sweep(tmp_path, jobs)
    assert "training images teach" not in " ".join(in_words(read(tmp_path)))


def test_the_words_name_what_an_attack_gives_members_away_of(tmp_path):
    rate = {"rate": 0.0, "low": 0.0, "high": 0.1}
    for number, (kind, area) in enumerate({"gaussian": 0.5, "records": 0.99, "few": 1.0}.items()):
        attacks = {
            on: {
                "auc": area if on == "metadata" else 0.5,
                "auc_low": 0.4,
                "auc_high": 1.0,
                "members": 9,
                "others": 9,
                "tpr_at_0.1%": rate,
                "tpr_at_1%": rate,
            }
            for on in ("teacher", "metadata", "shown", "student")
        }
        privacy = {
            "attacks": attacks,
            "nearest": {"training": 0.1, "held_out": 0.1, "nearer_to_training": 5, "among": 9},
        }
        run(tmp_path, number, [f"metadata={kind}", "seed=0"], source="FromReconstruction", privacy=privacy)
    plan_sweep(tmp_path, [[f"metadata={kind}", "seed=0"] for kind in ("gaussian", "records", "few")])
    words = " ".join(in_words(read(tmp_path)))
    assert "best for metadata=few: AUC 1.000, and 0.500 on the teacher alone" in words
    assert "(AUC above 0.9) for metadata=records, metadata=few." in words
    assert words.count("nearly always") == 1  # not of the images


def test_how_the_images_vary_stands_below_them_where_it_was_measured(folder):
    assert "How much they vary" not in write_report(read(folder), folder).read_text("utf-8")
    Image.new("RGB", (8, 8)).save(folder / "0" / "likeness.png")
    page = write_report(read(folder), folder).read_text("utf-8")
    assert page.count("<summary>How much they vary</summary>") == 1
    assert page.count("vary beside the training images, by layer") == 1


def test_a_curve_is_of_the_first_run_that_has_one_and_who_has_none_is_said(folder):
    """The others' students were in the store."""
    logged = folder / "1" / "logs" / "student"
    logged.mkdir(parents=True)
    (logged / "metrics.csv").write_text("epoch,loss\n0,2.5\n1,1.5\n")
    curves, without = student_curves(read(folder))
    assert curves == [("1. metadata=small", [0.0, 1.0], [2.5, 1.5])]
    assert without == [
        "2. metadata=wasteful", "3. metadata=large", "4. metadata=real", "5. metadata=<b>odd</b>",
    ]  # fmt: skip
    page = write_report(read(folder), folder).read_text("utf-8")
    assert "None of 2. metadata=wasteful; 3. metadata=large;" in page
    assert (folder / "student-loss.png").is_file()


def test_seeds_explain_a_difference_or_they_do_not():
    assert differ(Figure(90, 0.1), Figure(91, 0.1))
    assert not differ(Figure(90, 1), Figure(91, 1))
    assert differ(Figure(90, 1), Figure(91)) is None
    assert differ(Figure(None), Figure(91, 1)) is None


def test_the_page_asks_nobody_for_anything_and_says_what_is_missing(folder):
    page = write_report(read(folder), folder).read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", page)
    assert not re.findall(r"url\((?!#)", page)
    assert "://" not in page.replace("http://www.w3.org", "")
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page
    assert "8 of 10 jobs done" in page
    assert "it diverged" in page
    assert "metadata=late" in page
    assert "<b>odd" not in page
    assert "&lt;b&gt;odd" in page
    assert page.count("data:image/png") == 5
    assert "NaN" not in page
    assert page.count('<th scope="col"') == 11


def curve(*accuracies):
    return [{"epoch": n, "seconds": n, "image_steps": n, "accuracy": a} for n, a in enumerate(accuracies, 1)]


def test_what_snapshots_image_steps_and_memory_say_has_columns_where_any_result_has_it(folder):
    """The results of the other settings are older, and have none of it."""
    new = {
        "accuracy_last_tenth": 0.9,
        "accuracy_best_epoch": 0.97,
        "image_steps": 12_345,
        "peak_memory_bytes": 678_900_000,
    }
    run(folder, 10, ["metadata=new", "seed=0"], accuracy=0.88, curve=curve(0.5, 0.97, 0.88), **new)
    write_report(read(folder), folder)
    rows = list(csv.DictReader((folder / "report.csv").read_text().splitlines()))
    assert [rows[-1][name] for name in ("last tenth %", "best test epoch %", "image-steps", "memory MB")] == [
        "90", "97", "12345", "678.9",
    ]  # fmt: skip
    assert rows[0]["best test epoch %"] == rows[0]["memory MB"] == ""
    page = (folder / "report.html").read_text()
    assert "chosen by test accuracy, so it is not data-free" in page
    assert 'id="accuracy-over-training"' in page
    assert (folder / "accuracy-over-training.png").read_bytes()[:4] == b"\x89PNG"


def test_without_any_of_it_the_report_is_as_it_was(folder):
    page = write_report(read(folder), folder).read_text()
    assert not [name for name in ("last tenth", "best test epoch", "image-steps", "memory MB") if name in page]
    assert not list(folder.glob("accuracy-over-training*"))


def test_several_teachers_settings_stand_together_and_have_a_drawing_each(tmp_path):
    """Methods, teachers and seeds in the order in which a sweep runs them; of two data sets one teacher each."""
    jobs = [(row, data, seed) for row in ("dafl", "fast") for data in ("mnist", "fashion_mnist") for seed in (0, 1)]
    for number, (row, data, seed) in enumerate(jobs):
        overrides = [f"row={row}", f"source.steps={number // 4}", f"data={data}", f"seed={seed}"]
        told = {"name": row, "title": row.upper(), "set": overrides[1:2], "published": None}
        words = {f"data={data}": data.replace("_", " ")}
        run(tmp_path, number, overrides, row=told, words=words, curve=curve(0.8, 0.9), accuracy=0.9)
    sweep = read(tmp_path)
    assert [setting.title for setting in sweep.settings] == [
        "DAFL; mnist", "FAST; mnist", "DAFL; fashion mnist", "FAST; fashion mnist",
    ]  # fmt: skip
    assert [len(setting.results) for setting in sweep.settings] == 4 * [2]
    write_report(sweep, tmp_path)
    for number, name in enumerate(("mnist", "fashion mnist"), 1):
        for drawing in ("over-training", "bytes", "seconds"):
            assert f">{name}<" in (tmp_path / f"accuracy-{drawing}-{number}.svg").read_text()


def test_the_same_table_and_drawings_for_papers(folder):
    write_report(read(folder), folder)
    rows = list(csv.reader((folder / "report.csv").read_text().splitlines()))
    assert rows[0][:3] == ["no", "setting", "accuracy %"]
    assert len(rows) == 6
    small = dict(zip(*rows[:2], strict=True))
    assert (small["accuracy %"], small["bytes"], small["seeds"]) == ("90.5", "1000", "2")
    assert float(small["accuracy % deviation"]) == pytest.approx(0.5**0.5, abs=1e-12)
    assert dict(zip(rows[0], rows[5], strict=True))["accuracy %"] == ""
    tex = (folder / "report.tex").read_text()
    assert r"90.50 $\pm$ 0.71" in tex
    assert r"accuracy \%" in tex
    assert r"\toprule" in tex
    assert "| 1 | metadata=small | 90.50 ± 0.71 |" in (folder / "report.md").read_text()
    for name in ("accuracy-bytes", "accuracy-seconds"):
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert (folder / f"{name}.svg").read_text().startswith("<svg")


def test_each_run_has_a_line_of_numbers(folder, tmp_path):
    write_report(read(folder), tmp_path / "there" / "below")
    lines = list(csv.DictReader((tmp_path / "there" / "below" / "runs.csv").read_text().splitlines()))
    assert [line["folder"] for line in lines] == [f"../../sweep/{number}" for number in range(8)]
    told = [[line[name] for name in ("no", "setting", "told", "seed", "accuracy %", "bytes")] for line in lines]
    assert told[1] == ["1", "metadata=small", "metadata=small", "1", "91", "1000"]
    assert told[7] == ["5", "metadata=<b>odd</b>", "'metadata=<b>odd</b>'", "0", "", "5"]
    assert "seeds" not in lines[0]


def test_a_drawing_is_the_same_bytes_each_time_and_in_the_pages_colours(folder):
    settings = read(folder).settings
    first, again = (svg(accuracy_against(settings, "bytes")) for _ in range(2))
    assert first == again
    assert "currentColor" in first
    assert "#123456" not in first


def test_a_drawing_is_opaque_on_white_as_png_and_lies_on_the_pages_ground_as_svg(folder):
    figure = accuracy_against(read(folder).settings, "bytes")
    for _ in range(2):  # whichever comes first
        with Image.open(io.BytesIO(png(figure))).convert("RGBA") as image:
            assert image.getchannel("A").getextrema() == (255, 255)
            assert image.getpixel((0, 0)) == image.getpixel((image.width // 2, 400)) == (255, 255, 255, 255)
        assert "#ffffff" not in svg(figure)


def test_names_of_settings_are_names_wherever_they_stand(tmp_path):
    hostile = ["=cmd()|<script>alert(1)</script>", "$x_{ \x1b[2J](http://a)"]
    for number, name in enumerate(hostile):
        run(tmp_path, number, [f"+{name}", "seed=0"], source_bytes=10 + number, words={f"+{name}": name})
    write_report(read(tmp_path), tmp_path)
    written = {path.suffix: path.read_text() for path in tmp_path.glob("report.*")}
    assert not any("\x1b" in text for text in written.values())
    assert "<script>alert" not in written[".html"] + written[".md"]
    assert "](http" not in written[".md"].replace(r"]\(", "")
    cells = [row[1] for row in csv.reader(written[".csv"].splitlines())][1:]
    assert cells[0].startswith("'=cmd()")


def test_a_sweep_without_any_result_has_a_report_too(tmp_path):
    plan_sweep(tmp_path / "s", [["seed=0"], ["seed=1"]])
    page = write_report(read(tmp_path / "s"), tmp_path / "s").read_text()
    assert "0 of 2 jobs done" in page
    assert "Nothing was measured" in page or "2 of 2 jobs have no result" in page


def test_two_sweeps_are_compared(folder, tmp_path, capsys, monkeypatch):
    other = tmp_path / "other"
    for seed in (0, 1):
        overrides = ["metadata=small", "reconstruction.steps=9", f"seed={seed}"]
        run(other, seed, overrides, accuracy=0.70 + seed / 100, source_bytes=1_000)
    plan_sweep(other, None)
    run(other, 2, ["metadata=new", "reconstruction.steps=9", "seed=0"], accuracy=0.5, source_bytes=7)
    monkeypatch.setattr(sys, "argv", ["dfkd-report", str(folder), str(other)])
    main()
    out = capsys.readouterr().out
    assert "only B was told: reconstruction.steps=9" in out
    [line] = [line for line in out.splitlines() if "metadata=small" in line and "±" in line]
    assert "-20.00" in line
    assert " yes " in line
    assert "only in B: metadata=new" in out


@pytest.mark.parametrize(
    ("a", "b", "compared", "said"),
    [
        (["x"], ["x", "y"], {"x": "+10.00"}, ["only in B: y"]),
        (["x", "y"], ["y"], {"y": "+9.00"}, ["only in A: x"]),
        (["x", "y z"], ["z y", "x"], {"x": "+11.00", "y; z": "+9.00"}, []),
        (["x"], ["x z", "y z"], {"x": "+10.00"}, ["only B was told: z", "only in B: y"]),
        (["x"], ["y"], {"digits": "+10.00"}, ["only A was told: x", "only B was told: y"]),
        (["x", "y"], ["z", "u"], {}, ["only in A: x; y", "only in B: u; z", "no setting is in both"]),
        (["x z"], ["x", "z"], {}, ["only in A: digits", "only in B: x; z", "no setting is in both"]),
    ],
    ids=str,
)
def test_settings_of_two_sweeps_are_the_same_if_they_were_told_the_same(
    a, b, compared, said, tmp_path, capsys, monkeypatch
):
    """Whatever varied beside them, which is what their titles are made of."""
    for name, settings, accuracy in (("A", a, 0.8), ("B", b, 0.9)):
        for number, flags in enumerate(settings):
            overrides = [*(f"+{flag}=1" for flag in flags.split()), f"outputs={name}", "seed=0"]
            words = {f"+{flag}=1": flag for flag in flags.split()}
            run(tmp_path / name, number, overrides, words=words, accuracy=accuracy + number / 100)
    monkeypatch.setattr(sys, "argv", ["dfkd-report", str(tmp_path / "A"), str(tmp_path / "B")])
    main()
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert {line.split("  ")[0]: re.search(r"[+-]\d+\.\d\d", line)[0] for line in lines if "+" in line} == compared
    told = [line.partition(":  ")[0] for line in lines if line.startswith(("only", "no setting"))]
    assert len(told) == len(said)
    assert all(line.startswith(text) for line, text in zip(told, said, strict=True))
    assert any("A %" in line for line in lines) is bool(compared)


def test_the_command_writes_the_page_of_the_newest_sweep(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["dfkd-report", str(folder.parent), "--to", str(folder.parent / "there")])
    main()
    assert (folder.parent / "there" / "report.html").is_file()
    assert "report.html" in capsys.readouterr().out
    failed = folder.parent / "zz"
    failed.mkdir()
    with at_work(failed, ["seed=0"]):
        (failed / "error.txt").write_text("it diverged\n")
    assert newest(folder.parent) == failed
    monkeypatch.setattr(sys, "argv", ["dfkd-report", str(folder.parent)])
    main()
    said = " ".join(capsys.readouterr().out.split())
    assert "zz is newer and has no result; this is of" in said
    assert (folder / "report.html").is_file()
    assert not (failed / "report.html").exists()
    assert newest(folder.parent) == failed, "a report says nothing of when a sweep ran"
    shutil.rmtree(folder)
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "nothing in it has a result" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["dfkd-report", str(folder.parent / "nowhere")])
    with pytest.raises(SystemExit, match="2"):
        main()
