"""The columns of a report's tables: what each shows, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dfkd_exp.report.setting import OBJECTIVE_DECIMALS, Figure, Setting
from dfkd_exp.report.summary import Sweep


@dataclass(frozen=True)
class Column:
    """A column of the table: its heading, what it says, and the figure that is shown, and sorted by its mean. One that is ``optional`` is
    there if any setting has a figure in it, and one that is ``differing`` if settings have not all the same."""

    name: str
    meaning: str
    figure: Callable[[Setting], Figure]
    decimals: int = 2
    optional: bool = False
    varies: bool = True
    """Whether it is a mean over seeds, of which there is a deviation."""
    differing: bool = False

    def text(self, setting: Setting) -> str:
        return self.figure(setting).text(self.decimals)


COLUMNS = (
    Column(
        "accuracy %", "True accuracy of the student on the test set after the last epoch. A dash: there was no test set.",
        lambda s: s.accuracy,
    ),
    Column(
        "published %", "The accuracy that was published for this row.", lambda s: Figure(s.published), optional=True, varies=False
    ),
    Column("difference", "Ours less the published one, in points.", lambda s: s.difference, optional=True, varies=False),
    Column(
        "last tenth %", "Mean true accuracy of the student's snapshots in the last tenth of its epochs: whether the last one was luck.",
        lambda s: s.percent("accuracy_last_tenth"), optional=True,
    ),
    Column(
        "best test epoch %", "True accuracy of that of the student's snapshots which is best on the test set: chosen by test accuracy, so "
        "it is not data-free, and never below the last epoch's. It is how others report, for comparison with them.",
        lambda s: s.percent("accuracy_best_epoch"), optional=True,
    ),
    Column("teacher %", "The teacher's on the same images.", lambda s: s.teacher),
    Column(
        "agreement %", "How often student and teacher say the same of a test image, right or wrong.", lambda s: s.percent("agreement")
    ),
    Column(
        "mixed %", "The same of mixtures of two images that the student was taught on: needs no data. It flatters less than the held-out "
        "figure, and does not rank kinds of metadata; of a student that was taught on noise it says nothing.",
        lambda s: s.percent("agreement_mixed"),
    ),
    Column(
        "held out %", "The same of images that the student was not taught on, of the kind that it was: needs no data, and flatters.",
        lambda s: s.percent("agreement_held_out"),
    ),
    Column(
        "bytes", "Of the metadata, or of the real images that stand in its place; 0: nothing was published.",
        lambda s: Figure(s.num_bytes), 0, varies=False,
    ),
    Column("images", "How many the student was trained on.", lambda s: Figure(s.results[0]["images"]), 0, varies=False),
    Column(
        "student's images", "How many the student was shown in all its epochs, one as often as it was: where settings differ, "
        "some students learnt for longer.",
        lambda s: Figure(s.over_seeds("student_image_steps").mean), 0, varies=False, differing=True,
    ),
    Column(
        "seconds", "Of all phases but the teacher's training, evaluation and attacks, when they were computed; other work may have run "
        "beside them.",
        lambda s: s.seconds, 0,
    ),
    Column(
        "image-steps", "How many times an image was put forward and backward through the teacher to make what the student was shown: "
        "images times steps of the optimiser, whatever the machine. 0: nothing was made.",
        lambda s: Figure(s.over_seeds("image_steps").mean), 0, optional=True, varies=False,
    ),
    Column(
        "memory MB", "The most that was in use at once in any phase but the teacher's, in millions of bytes: of the GPU where one is used, "
        "else of the process, with Python and PyTorch.",
        lambda s: s.over_seeds("peak_memory_bytes", 1e-6), 0, optional=True,
    ),
    Column("seeds", "How many runs the means are of.", lambda s: Figure(len(s.results)), 0, varies=False),
)  # fmt: skip


def main_columns(sweep: Sweep) -> list[Column]:
    """Those of a sweep's first table; a search's begins with what it looked for."""
    name = sweep.objective
    meaning = "What the search looked for, by its name in the result files."
    sought = [Column(name, meaning, lambda s: s.over_seeds(name), OBJECTIVE_DECIMALS)] if name else []
    return [*sought, *columns_of(sweep.settings)]


def columns_of(settings: Sequence[Setting], columns: Sequence[Column] = COLUMNS) -> list[Column]:
    """Those of a sweep's table: without the optional ones that have no figure, and those that say the same of all settings."""

    def is_there(column: Column) -> bool:
        means = {column.figure(setting).mean for setting in settings}
        return (not column.optional or bool(means - {None})) and (not column.differing or len(means) > 1)

    return [column for column in columns if is_there(column)]


PRIVACY = (
    Column(
        "teacher AUC", "Area under the curve of an attack that sees the teacher alone, public anyway: the floor. Chance is 0.5.",
        lambda s: s.attack("teacher"), 3,
    ),
    Column("metadata AUC", "Of an attack that sees the metadata: how well an image fits it.", lambda s: s.attack("metadata"), 3),
    Column(
        "metadata TPR, %", "Of the members, how many it finds while it accuses at most 0.1 % of the others: of fewer than 1,000, none.",
        lambda s: s.attack("metadata", "tpr_at_0.1%"), 1,
    ),
    Column(
        "shadows AUC", "Of an attack on such metadata of random halves of all images, which knows those of other halves: how well an image "
        "fits them, and how much it is needed to make them up.",
        lambda s: s.attack("metadata_shadows"), 3, optional=True,
    ),
    Column(
        "shadows TPR, %", "As for the metadata, at 0.1 % false accusations.", lambda s: s.attack("metadata_shadows", "tpr_at_0.1%"), 1,
        optional=True,
    ),
    Column("images AUC", "Of an attack that sees what the student was shown: how near an image is to it.", lambda s: s.attack("shown"), 3),
    Column("images TPR, %", "As for the metadata, at 0.1 % false accusations.", lambda s: s.attack("shown", "tpr_at_0.1%"), 1),
    Column("student AUC", "Of an attack that sees the student: how sure it is of an image's class.", lambda s: s.attack("student"), 3),
    Column(
        "student's shadows AUC", "Of an attack on students from random halves of all images, which knows those of other halves.",
        lambda s: s.attack("student_shadows"), 3, optional=True,
    ),
    Column(
        "to training", "Root mean squared difference of what the student was shown to the nearest training image: similarity, not privacy.",
        lambda s: s.nearest("training"), 3,
    ),
    Column("to held-out", "The same to the nearest of as many images that nobody was trained on.", lambda s: s.nearest("held_out"), 3),
)  # fmt: skip
