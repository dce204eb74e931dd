"""A sweep in a few sentences, computed from its figures."""

from __future__ import annotations

from collections.abc import Sequence

from dfkd_exp.report.notes import notes
from dfkd_exp.report.setting import Setting
from dfkd_exp.report.summary import Sweep, differ
from dfkd_exp.report.titles import teacher_of, teachers_in_words

NEARLY_ALWAYS = 0.9
"""Area under an attack's curve above which it is said that it gives members away."""
MOST_NAMED = 4
"""Settings that a sentence names."""


def _exposed(settings: Sequence[Setting]) -> list[str]:
    """What the attacks found, in words."""
    said = []
    for on, what in (
        ("metadata", "An attack on the metadata tells training images"),
        ("metadata_shadows", "An attack by shadows tells images that such metadata are of"),
        ("shown", "An attack on the images made from it tells training images"),
    ):
        found = [s for s in settings if not s.real and s.num_bytes and s.attack(on).mean is not None]
        if found:
            worst = max(found, key=lambda s: s.attack(on).mean or 0)
            floor = worst.attack("teacher")
            said.append(
                f"{what} from others best for {worst.title}: AUC {worst.attack(on).text(3)}, and "
                f"{floor.text(3)} on the teacher alone (0.5 is chance; an attack that fails proves nothing)."
            )
            given_away = [s.title for s in found if (s.attack(on).mean or 0) > NEARLY_ALWAYS]
            if len(given_away) > 1:
                said.append(
                    f"It tells them apart nearly always (AUC above {NEARLY_ALWAYS}) for {', '.join(given_away)}."
                )
    return said


def _in_images(best: Setting, measured: Sequence[Setting]) -> list[str]:
    """How many training images of the same teacher teach as much as ``best`` did, in words, if several numbers of them were tried, and more
    of them taught more."""
    own, accuracies = teacher_of(best.results[0]), dict[int, float]()
    for setting in measured:
        result = setting.results[0]
        taught_alike = teacher_of(result) == own and result["student"] == best.results[0]["student"]
        if result["source"] == "FromData" and taught_alike:
            accuracies[result["images"]] = max(accuracies.get(result["images"], 0.0), setting.accuracy.mean or 0.0)
    tried = [accuracies[count] for count in sorted(accuracies)]
    if len(tried) < 2 or tried != sorted(tried):
        return []
    fewer = [count for count in sorted(accuracies) if accuracies[count] <= (best.accuracy.mean or 0.0)]
    more = sorted(accuracies.keys() - fewer)
    bounds = [f"more than {count:,}" for count in fewer[-1:]] + [f"less than {count:,}" for count in more[:1]]
    return [f"It has learnt {' and '.join(bounds)} training images teach."]


def in_words(sweep: Sweep) -> list[str]:
    """The sweep in a few sentences, computed from its figures; of each teacher by itself, where there are several."""
    measured = [s for s in sweep.settings if s.accuracy.mean is not None]
    told = teachers_in_words([s.results[0] for s in measured])
    said = []
    for words in dict.fromkeys(told):
        own = [setting for setting, of in zip(measured, told, strict=True) if of == words]
        said += [f"With {words}: {sentence}" if words else sentence for sentence in [*_best(own), *_beside_images(own)]]
    attacked = [s for s in measured if s.attacked]
    if attacked:
        said.extend(_exposed(attacked))
    single = sum(len(s.results) == 1 for s in sweep.settings)
    if single:
        said.append(
            f"{single} of {len(sweep.settings)} settings have one seed only: nothing is known of how much they vary."
        )
    if sweep.unfinished:
        said.append(
            f"{len(sweep.unfinished)} of {len(sweep.jobs)} jobs have no result, and are in none of the figures."
        )
    if lost := sum(trial.result is None for trial in sweep.trials):
        said.append(
            f"{lost} of the study's finished trials left no result where they ran, and are in none of the figures."
        )
    known = notes(result for setting in sweep.settings for result in setting.results)
    return [*known, *(said or ["Nothing was measured."])]


def _best(measured: Sequence[Setting]) -> list[str]:
    """The best student of a teacher, and the one that needs the fewest bytes to be nearly as good."""
    free = [s for s in measured if not s.real]
    if not free:
        return []
    best = max(free, key=lambda s: s.accuracy.mean or 0)
    teacher = best.teacher.mean
    said = [
        f"The best student without real images: {best.title}, {best.accuracy.text()} % true accuracy"
        + (f", its teacher {teacher:.2f} %." if teacher is not None else "."),
        *_in_images(best, measured),
        *_beside_others(best, [s for s in free if s is not best]),
    ]
    near = [s for s in free if s.num_bytes and (best.accuracy.mean or 0) - (s.accuracy.mean or 0) <= 1]
    small = min(near, key=lambda s: s.num_bytes, default=best)
    if small.num_bytes < best.num_bytes:
        said.append(
            f"Within one point of it, {small.title} needs the fewest bytes: {small.num_bytes:,}, and {best.title} {best.num_bytes:,}."
        )
    return said


def _beside_others(best: Setting, others: Sequence[Setting]) -> list[str]:
    """Of which of the ``others`` the best is no better, or not for certain, nearest first."""
    others = sorted(others, key=lambda s: -(s.accuracy.mean or 0))
    behind = [s for s in others if s.accuracy.mean != best.accuracy.mean]
    said = []
    if alike := [s for s in others if s not in behind]:
        said.append(f"As accurate {'is' if len(alike) == 1 else 'are'} {_named(alike)}.")
    if explained := [s for s in behind if differ(best.accuracy, s.accuracy) is False]:
        said.append(f"Seeds explain its lead over {_named(explained)}.")
    if unknown := [s for s in behind if differ(best.accuracy, s.accuracy) is None]:
        said.append(f"Whether seeds explain its lead over {_named(unknown)} is not known: that needs several of both.")
    if behind and not explained and not unknown:
        said.append(
            f"Its lead over {'each other one' if len(behind) > 1 else behind[0].title} is more than seeds explain."
        )
    return said


def _named(settings: Sequence[Setting]) -> str:
    """Their titles, the first few of them."""
    more = len(settings) - MOST_NAMED
    return "; ".join([*(s.title for s in settings[:MOST_NAMED]), *([f"{more} more"] if more > 0 else [])])


def _beside_images(measured: Sequence[Setting]) -> list[str]:
    """How the best of the same bytes, for the same student, compares with real images in its place."""
    said = []
    for other in measured:
        result = other.results[0]
        rivals = [
            s for s in measured
            if not s.real and s.num_bytes == other.num_bytes and s.results[0]["student"] == result["student"]
        ]  # fmt: skip
        if result["source"] != "SameBytes" or not rivals:
            continue
        rival = max(rivals, key=lambda s: s.accuracy.mean or 0)
        apart = (rival.accuracy.mean or 0) - (other.accuracy.mean or 0)
        certain = differ(rival.accuracy, other.accuracy)
        doubt = "" if certain else ", which is within what seeds differ by" if certain is False else ", of one seed"
        said.append(
            f"In {other.num_bytes:,} bytes, {rival.title} is {abs(apart):.2f} points {'better' if apart > 0 else 'worse'} than as many "
            f"bytes of real images ({other.title}){doubt}."
        )
    return said
