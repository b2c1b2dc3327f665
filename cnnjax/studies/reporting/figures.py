"""The figures of a run as tables: published beside ours, and what to think of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cnnjax.studies.published.run import Figure
from cnnjax.studies.reporting.words import (
    NOTHING,
    counted,
    fold,
    ours_text,
    range_text,
    table,
    text,
    value_text,
)
from cnnjax.studies.reproduction.verdicts import Judged, is_time

FEW = 3  # figures without a band that are not folded
HEAD = ("figure", "verdict", "published", "ours", "band", "note")
HEAD_OF_TIMES = ("time", "times as fast", "published", "ours", "note")


def figures_text(judged: Sequence[Judged]) -> str:
    """Return the tables of a run's figures: those with a verdict first.

    Open ones, times, and more than a few that have no band are folded.
    """
    measures = [one for one in judged if not is_time(one.figure)]
    without = [one for one in measures if one.verdict == "no band"]
    without = without if len(without) > FEW else []
    still_open = [one for one in measures if one.verdict == "open"]
    folded = {id(one) for one in (*without, *still_open)}
    parts = [_measures([one for one in measures if id(one) not in folded])]
    if without:
        parts.append(fold(_summary_of_those_without(without), _measures(without)))
    if still_open:
        summary = counted(len(still_open), "open figure")
        parts.append(fold(summary, _measures(still_open)))
    if times := [one for one in judged if is_time(one.figure)]:
        parts.append(fold(_summary_of(times), _times(times)))
    return "\n\n".join(part for part in parts if part)


def _measures(judged: Sequence[Judged]) -> str:
    if not judged:
        return ""
    shared = _shared_remarks(judged)
    rows = []
    for one in judged:
        figure, loud = one.figure, one.verdict == "out of band"
        rows.append(
            [
                text(_name(figure)),
                f"**{one.verdict}**" if loud else one.verdict,
                _published(figure),
                ours_text(figure.metric, one.ours, num_seeds=one.num_seeds),
                range_text(figure.metric, figure.band) if figure.band else NOTHING,
                _note(one, shared),
            ]
        )
    return _with_remarks(table(HEAD, rows), shared)


def _times(judged: Sequence[Judged]) -> str:
    shared = _shared_remarks(judged)
    rows = []
    for one in judged:
        figure, fast = one.figure, one.times_as_fast
        note = _note(one, shared)
        if one.verdict != "no band":
            note = f"{one.verdict}: {note}" if note else one.verdict
        ours = ours_text(figure.metric, one.ours, num_seeds=one.num_seeds)
        ratio = NOTHING if fast is None else f"{fast:.3g}"
        rows.append([text(_name(figure)), ratio, _published(figure), ours, note])
    return _with_remarks(table(HEAD_OF_TIMES, rows), shared)


def _summary_of_those_without(judged: Sequence[Judged]) -> str:
    """Say how many figures have no band, how many are like ours, and the last one."""
    words = f"{counted(len(judged), 'figure')} without a band"
    like = [one.like_ours for one in judged if one.like_ours is not None]
    words += f", {sum(like)} of {len(like)} like ours" if like else ""
    accuracies = [one for one in judged if one.figure.metric == "test_accuracy"]
    last = (accuracies or judged)[-1]
    ours = value_text(last.figure.metric, last.ours.mean if last.ours else None)
    words += f"; {_name(last.figure)}: published {_published(last.figure)}"
    return f"{words}, ours {ours}"


def _summary_of(times: Sequence[Judged]) -> str:
    """Say how many times there are, and the ratio of the first that has one."""
    words = counted(len(times), "timing")
    for one in times:
        if one.times_as_fast is not None:
            what = _name(one.figure)
            return f"{words}; {what}: ours is {one.times_as_fast:.3g} times as fast"
    return words


def _name(figure: Figure) -> str:
    words = figure.what
    return words if figure.epoch is None else f"{words}, epoch {figure.epoch}"


def _published(figure: Figure) -> str:
    words = value_text(figure.metric, figure.value, digits=8)
    known = figure.source != "reported" and figure.value is not None
    return f"{words} ({figure.source})" if known else words


def _shared_remarks(judged: Sequence[Judged]) -> dict[str, str]:
    """Return what is to be known of several figures, and the letter that stands for it.

    It is said once, below the table.
    """
    counts = Counter(
        one.figure.remark for one in judged if one.note.endswith(one.figure.remark)
    )
    several = [remark for remark, n in counts.items() if remark and n > 1]
    return {remark: f"({chr(ord('a') + at)})" for at, remark in enumerate(several)}


def _with_remarks(words: str, shared: dict[str, str]) -> str:
    lines = [f"{letter} {text(remark)}" for remark, letter in shared.items()]
    return "\n\n".join([words, *lines])


def _note(judged: Judged, shared: dict[str, str]) -> str:
    remark = judged.figure.remark
    note = judged.note
    if remark in shared and note.endswith(remark):
        note = note.removesuffix(remark) + shared[remark]
    return "; ".join(words for words in (_likeness(judged), text(note)) if words)


def _likeness(judged: Judged) -> str:
    """Say whether a published value that has no band is like those of our seeds."""
    if judged.like_ours is None or judged.one_more is None:
        return ""  # few seeds of ours, which tell of no spread
    like = "like ours" if judged.like_ours else "unlike ours"
    bounds = range_text(judged.figure.metric, judged.one_more)
    return f"{like}: one more seed of ours falls, with 95 %, in {bounds}"
