"""What am I seeing? A few sentences made from the numbers of one study."""

from __future__ import annotations

from html import escape

import numpy as np
from numpy.typing import NDArray

from workbench.study.convention import CONVENTIONS
from workbench.study.null import Excess, excess
from workbench.study.outliers import NOT_COUNTED
from workbench.study.records import Levels, Study
from workbench.ui.views.reason import missing, predicted
from workbench.ui.views.strip import layers_in_words
from workbench.ui.views.words import count, number, percent, typeset

CLEAR_GAP = 1.5  # lam_k / lam_{k+1} from which on the eye sees a gap
HIGH_LOSS = 0.5  # as a share of log C, the loss of one who guesses
LOW_ACCURACY = 0.9
NEARLY, MUCH = 0.8, 0.4  # of what there is to explain
APART = 0.25  # between shares: two groups, that an average would hide
CLOSE = 0.1  # of G: how near Hess has to be to be told by it
UNIT = "\u00a0%"


def explain(study: Study, weighting: str | None = None) -> str:
    """Say in words what this study shows, and where it is weak.

    Args:
        study: What was measured.
        weighting: Which convention of averages; by default the study's own.

    Returns:
        Paragraphs of HTML. Whatever a user typed is escaped.
    """
    levels = study.levels[weighting or study.weighting]
    parts = [
        _outliers(study),
        _directions(study, levels),
        _sizes(study, levels),
        missing(study, levels),
        predicted(study, levels),
        _knockout(study, levels),
        layers_in_words(study),
        _hess(study),
        _training(study),
        _held_out(study),
        _block(study),
        _traces(study),
        _measured(study, levels),
        _classes(study),
    ]
    return "".join(f"<p>{part}</p>" for part in parts if part)


def _leading(study: Study, levels: Levels) -> int:
    """How many leading eigenvectors the sentences are about: at least C - 1."""
    wanted = max(study.num_outliers, study.num_classes - 1)
    return min(wanted, len(levels.overlap), len(study.spectra["G"].eigenvalues))


def _outliers(study: Study) -> str:
    """How many outliers there are, whether that is C or C - 1, and how clear it is."""
    C, found = study.num_classes, study.num_outliers
    values = study.spectra["G"].eigenvalues
    rule = escape(typeset(study.outlier_rule))
    if study.outlier_rule.startswith(NOT_COUNTED):
        return f"<b>The outliers were {rule}</b>."
    if found == 0:
        return (
            "<b>No outliers were found</b>: no eigenvalue of G stands apart from the "
            f"bulk by the rule used ({rule}), though there are {C} classes."
        )
    if found == C:
        beside = f"as many as the {C} classes"
    elif found == C - 1:
        beside = f"one fewer than the {C} classes"
    else:
        beside = f"neither the {C} classes nor one fewer"
    text = f"G has <b>{count(found, 'outlier')}</b>, {beside} (rule: {rule})."
    if found < len(values) and values[found] > 0:
        gap = float(f"{values[found - 1] / values[found]:.2g}")  # judged as it is told
        text += f" The last is {gap:.2g} times the next eigenvalue: " + (
            "a clear gap."
            if gap >= CLEAR_GAP
            else "<b>no clear gap</b>, so another rule might give a different count."
        )
    return text


def _directions(study: Study, levels: Levels) -> str:
    """What share of the leading eigenvectors lies in span{delta_c}, and by chance."""
    many = _leading(study, levels)
    if many == 0:
        return ""
    share, null = levels.overlap[:many], levels.null
    draws = np.empty((0, many)) if null is None else null.overlap[:, :many]
    said = []
    groups = grouped(share)
    for rows in groups:
        found = excess(float(share[rows].mean()), draws[:, rows].mean(axis=1))
        chance = f" ({told})" if (told := _by_chance(found)) else ""
        who = _which(rows, many, len(groups))
        where = f"{_between(share[rows])} in the span of the class means δ<sub>c</sub>"
        said.append(
            f"{who} {_lie(rows)} {where}{chance}; {_verdict(found, share[rows])}."
        )
    random = study.random
    beside = ""
    if random is not None and len(random.overlap):
        reached = percent(float(random.overlap[:, :many].mean()))
        names = count(study.num_classes, "random combination")
        beside = f" The span of {names} of the gradients holds {reached} on average."
    return f"<b>Directions:</b> {' '.join(said)}{beside}"


def grouped(values: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Rows of one group, or of two where a gap sets them apart; the higher one first.

    Example:
        >>> [len(rows) for rows in grouped(np.array([0.99, 0.02, 0.97]))]
        [2, 1]
    """
    order = np.argsort(-values, kind="stable")
    gaps = -np.diff(values[order])
    if not len(gaps) or gaps.max() < APART:
        return [np.sort(order)]
    cut = int(gaps.argmax()) + 1
    return [np.sort(order[:cut]), np.sort(order[cut:])]


def _lie(rows: NDArray[np.intp]) -> str:
    return "lies" if len(rows) == 1 else "lie"


def _which(rows: NDArray[np.intp], many: int, num_groups: int) -> str:
    """Name some of the first eigenvectors of G."""
    if num_groups == 1:
        return f"the first {count(many, 'eigenvector')} of G"
    first = "" if len(rows) > 4 else f" (number {', '.join(str(j + 1) for j in rows)})"
    return f"{len(rows)} of the first {count(many, 'eigenvector')} of G{first}"


def _between(values: NDArray[np.float64]) -> str:
    """A share, or the least and the greatest of some."""
    least, most = percent(float(values.min())), percent(float(values.max()))
    return least if least == most else f"{least.removesuffix(UNIT)} to {most}"


def _by_chance(found: Excess | None) -> str:
    """What shuffled labels reach."""
    if found is None:
        return ""
    spread = f" ± {percent(found.spread)}" if found.spread > 0 else ""
    return f"with shuffled labels {percent(found.null)}{spread}"


def _verdict(found: Excess | None, share: NDArray[np.float64]) -> str:
    """Whether the classes explain it: by how much more it is than by chance."""
    if found is None:
        mean = float(share.mean())
        verdict = (
            "the class means hold where they point"
            if mean >= 0.9
            else "the class means hold part of where they point"
            if mean >= 0.5
            else "<b>the class means do not hold where they point</b>"
        )
        return f"{verdict} (shuffled labels were not tried, and may reach as much)"
    if found.below:
        return "<b>shuffled labels reach more, so the classes do not explain it</b>"
    if not found.beyond:
        return "<b>shuffled labels reach as much, so this is no sign of the classes</b>"
    gain = (found.value - found.null) / max(1 - found.null, 1e-9)
    if gain >= NEARLY:
        return "the true classes explain nearly all that shuffled ones leave open"
    if gain >= MUCH:
        return "the true classes explain much of what shuffled ones leave open"
    return "<b>the true classes explain little more than shuffled ones</b>"


def _sizes(study: Study, levels: Levels) -> str:
    """How large the class part's eigenvalues are beside G's; then by other averages."""
    found = {}
    for name in CONVENTIONS:
        if name in study.levels and len(ratios := _ratios(study, study.levels[name])):
            found[name] = ratios
    shown = found.pop(levels.weighting, None)
    if shown is None:
        return ""
    median = float(np.median(shown))
    chance = _size_excess(study, levels)
    verdict = (
        "so it accounts for nearly all of their size"
        if median >= NEARLY
        else "so it accounts for much of their size"
        if median >= MUCH
        else "so <b>most of their size comes from elsewhere</b>"
    )
    if chance is not None and not chance.beyond:
        more = "more" if chance.below else "as much"
        verdict = (
            f"<b>shuffled labels reach {more}, so this is no sign of the classes</b>"
        )
    groups = grouped(shown)
    sizes = " and ".join(
        f"{_between(shown[rows])}{f' ({len(rows)} of them)' if len(groups) > 1 else ''}"
        for rows in groups
    )
    one = _between(shown) == percent(median)
    in_the_middle = "" if one else f", {percent(median)} in the median"
    text = (
        f"<b>Sizes:</b> the class part's eigenvalues are {sizes} as large as "
        f"G's{in_the_middle} (<i>{levels.weighting}</i>"
        f"{'; ' if chance else ''}{_by_chance(chance)}); {verdict}."
    )
    if found:
        told = ", ".join(
            f"{percent(float(np.median(ratios)))} (<i>{name}</i>"
            f"{_shuffled(_size_excess(study, study.levels[name]))})"
            for name, ratios in found.items()
        )
        text += f" In the other conventions: {told}."
    return text


def _shuffled(found: Excess | None) -> str:
    return "" if found is None else f", shuffled {percent(found.null)}"


def _size_excess(study: Study, levels: Levels) -> Excess | None:
    """The median of the sizes beside that of each draw."""
    null, ratios = levels.null, _ratios(study, levels)
    if null is None or not len(null.class_part) or not len(ratios):
        return None
    many = len(ratios)
    own = study.spectra["G"].eigenvalues[:many]
    draws = null.class_part[:, :many]
    medians = np.median(draws / own[: draws.shape[1]], axis=1)
    return excess(float(np.median(ratios)), medians)


def _ratios(study: Study, levels: Levels) -> np.ndarray:
    many = _leading(study, levels)
    part = levels.parts[levels.convention.class_part][:many]
    own = study.spectra["G"].eigenvalues[: len(part)]
    return part[own > 0] / own[own > 0]


def _knockout(study: Study, levels: Levels) -> str:
    """Whether the outliers go when the class part, or its directions, are taken."""
    values = study.spectra["G"].eigenvalues
    found = study.num_outliers
    if found == 0 or found >= len(values):
        return ""
    bulk = float(values[found])  # an outlier has gone once it is no larger than this
    threshold = float(np.sqrt(values[found - 1] * max(bulk, 0.0)))
    said = [
        _stayed(getattr(levels, name), levels.residuals.get(name), found, threshold)
        for name in ("subtracted", "projected")
    ]
    return (
        f"<b>Knock-out:</b> without the class part ({escape(levels.weighting)}) "
        f"{said[0]}; with the directions of the class means removed, {said[1]} "
        f"(counted as gone below {number(threshold)}, the middle of the gap)."
        f"{_knocked_by_chance(study, levels, found, threshold)}"
    )


def _knocked_by_chance(
    study: Study, levels: Levels, found: int, threshold: float
) -> str:
    """How many outliers go with shuffled labels, or random directions."""

    def gone(values: NDArray[np.float64]) -> int:
        return found - int((values[:found] > threshold).sum())

    null, random, said, empty = levels.null, study.random, [], []
    for name, words in (
        ("subtracted", "the class part"),
        ("projected", "the directions"),
    ):
        draws = None if null is None else getattr(null, name)
        if draws is None or not len(draws) or draws.shape[1] < found:
            continue
        by_chance = [gone(row) for row in draws]
        said.append(f"{_of(by_chance, found)} (without {words})")
        own = getattr(levels, name)
        if len(own) >= found and 0 < gone(own) <= max(by_chance):
            empty.append(words)
    text = ""
    if said:
        text = f" With shuffled labels, {' and '.join(said)} disappear"
    if (
        random is not None
        and len(random.projected)
        and (random.projected.shape[1] >= found)
    ):
        by_chance = [gone(row) for row in random.projected]
        names = count(study.num_classes, "random combination")
        text += "; without" if text else " Without"
        text += f" {names} of the gradients, {_of(by_chance, found)} do"
        if 0 < gone(levels.projected) <= max(by_chance) and (
            "the directions" not in empty
        ):
            empty.append("the directions")
    if not text:
        return ""
    if empty:
        which = " or ".join(empty)
        return f"{text}: <b>to disappear without {which} is no sign of the classes</b>."
    return f"{text}."


def _of(numbers: list[int], found: int) -> str:
    """How many of all, over some draws."""
    least, most = min(numbers), max(numbers)
    some = f"{most}" if least == most else f"{least} to {most}"
    return f"{some} of {found}"


def _stayed(
    knocked: NDArray[np.float64],
    residuals: NDArray[np.float64] | None,
    found: int,
    threshold: float,
) -> str:
    """How many outliers stay, as far as the eigenvalues that were measured tell."""
    knocked = knocked[:found]
    errors = np.zeros(len(knocked)) if residuals is None else residuals[:found]
    sure = int((knocked - errors > threshold).sum())
    most = int((knocked + errors > threshold).sum())
    if most == len(knocked) < found:  # those after the last may be above it as well
        if sure < most:
            return f"at least {sure} of {found} outliers stay"
        return (
            f"<b>at least {sure} of {found} outliers stay</b> "
            f"({count(len(knocked), 'eigenvalue')} were measured)"
        )
    if sure < most:
        return f"{sure} to {most} of {found} outliers stay, within the error"
    if sure not in (0, found):
        return f"{found - sure} of {found} outliers disappear"
    verb = "stay" if sure else "disappear"
    if found == 1:
        return f"<b>the outlier {verb}s</b>"
    which = "both" if found == 2 else f"all {found}"
    return f"<b>{which} outliers {verb}</b>"


def _training(study: Study) -> str:
    """Warn where the network is not trained well enough for the theory."""
    if study.run.get("held_out"):
        return ""
    own = "its loss on these data" if study.run.get("given") else "its training loss"
    if study.run.get("trained"):
        own = "its training loss on these classes"
    loss = study.run.get("train_loss")
    accuracy = study.run.get("train_accuracy")
    chance = float(np.log(max(study.num_classes, 2)))
    high = loss is not None and not loss < HIGH_LOSS * chance
    low = accuracy is not None and not accuracy >= LOW_ACCURACY
    if not high and not low:
        return ""
    said = []
    if loss is not None:
        said.append(f"{own} is {number(float(loss))}")
    if accuracy is not None:
        said.append(f"its accuracy {percent(float(accuracy))}")
    return (
        f"<b>Note:</b> this network has not fitted its data: {' and '.join(said)} "
        f"(guessing gives a loss of {number(chance)}). The structure is described for "
        "trained networks and may be weak here."
    )


def _held_out(study: Study) -> str:
    """Say where the data are not those of the training."""
    run = study.run
    if not run.get("held_out"):
        return ""
    name = escape(str(run.get("data", "")))
    loss, accuracy = run.get("loss"), run.get("accuracy")
    fit = ""
    if loss is not None and accuracy is not None:
        fit = f" Loss {number(float(loss))}, accuracy {percent(float(accuracy))} there."
    return (
        f"<b>Held-out data:</b> all of this is measured on {name}, which the network "
        f"was not trained on.{fit}"
    )


def _block(study: Study) -> str:
    """Say where only some parameters were measured."""
    whole, globs = study.run.get("num_network_params"), study.settings.get("parameters")
    if whole is None:
        return ""
    words = [globs] if isinstance(globs, str) else globs
    named = ", ".join(map(str, words)) if isinstance(words, (list, tuple)) else ""
    of = f" of <code>{escape(named[:200])}</code>" if named else ""
    return (
        f"<b>Some parameters:</b> all of this is about the block{of}: "
        f"{study.spectra['G'].dim:,} of the network's {whole:,} parameters."
    )


def _hess(study: Study) -> str:
    """How far Hess is from G: the largest eigenvalue, the trace, the directions."""
    if "Hess" not in study.spectra:
        return ""
    g, hess = study.spectra["G"], study.spectra["Hess"]
    if not (len(g.eigenvalues) and len(hess.eigenvalues)):
        return ""
    first, other = float(g.eigenvalues[0]), float(hess.eigenvalues[0])
    said = [f"its largest eigenvalue is {number(other)}, G's {number(first)}"]
    near = abs(other - first) <= CLOSE * first
    error = g.trace_error + hess.trace_error
    if abs(hess.trace) > error:
        share = g.trace / hess.trace
        said.append(f"G has {number(share)} times its trace")
        near &= abs(hess.trace - g.trace) <= CLOSE * g.trace + error
    else:
        said.append("its trace is zero within the error")
        near = False
    shared = study.shared[np.isfinite(study.shared)]
    if len(shared):
        groups = grouped(shared)
        told = " and ".join(
            f"{_which(rows, len(shared), len(groups))} "
            f"{_lie(rows)} {_between(shared[rows])}"
            for rows in groups
        )
        said.append(f"{told} in the span of its own first {len(shared)}")
        near &= bool(shared.mean() >= 1 - CLOSE)
    verdict = (
        "so G stands for the Hessian here"
        if near
        else "<b>so what is true of G need not be true of the Hessian here</b>"
    )
    return f"<b>Hess beside G:</b> {'; '.join(said)}; {verdict}."


def _traces(study: Study) -> str:
    """The trace of each operator, with its error."""
    said = []
    for name, spectrum in study.spectra.items():
        error = spectrum.trace_error
        bar = f" ± {number(error)}" if error > 0 else ", exactly"
        said.append(f"{name} {number(spectrum.trace)}{bar}")
    return f"<b>Traces:</b> {'; '.join(said)}."


def _measured(study: Study, levels: Levels) -> str:
    """Say what was estimated, and what was not measured at all."""
    G, many = study.spectra["G"], _leading(study, levels)
    said = []
    if not G.exact and many:
        own, residuals = G.eigenvalues[:many], G.residuals[:many]
        worst = float((residuals / np.maximum(np.abs(own), 1e-300)).max())
        said.append(
            f"the leading eigenvalues of G are estimates, each within {percent(worst)} "
            "of a true one, so the order of closer neighbours is not certain"
        )
    if not G.exact:
        said.append(
            "the bulk is an estimated density, its error drawn as a band"
            if G.nodes.size
            else "the bulk was not measured, so the outliers cannot be compared with it"
        )
    if levels.residuals:
        worst = max(float(r.max(initial=0.0)) for r in levels.residuals.values())
        said.append(
            "the spread within pairs and the knock-outs are computed iteratively, each "
            f"eigenvalue within {number(worst)} of a true one"
        )
    missing = [name for name in ("Hess", "H") if name not in study.spectra]
    if missing:
        verb = "were" if len(missing) > 1 else "was"
        said.append(
            f"{' and '.join(missing)} {verb} not measured, so all of this is about G"
            ", whose share of the Hessian is not known here"
        )
    if levels.trace_error:
        error = max(levels.trace_error.values()) / levels.trace["G"]
        said.append(
            "there are too many pair means to form: only the leading eigenvalues of "
            "their parts were computed, and the traces are estimates, within "
            f"{percent(error)} of G's (95 % interval)"
        )
    text = f"<b>Measured:</b> {'; '.join(said)}." if said else ""
    nulls = [null for null in (levels.null, study.random) if null is not None]
    notes = [study.embedding.note, *(null.note for null in nulls)]
    if levels.null is None:
        notes.append("Labels were not shuffled, as this study is older than that.")
    told = " ".join(escape(note) for note in notes if note)
    return f"{text} {told}".strip()


def _classes(study: Study) -> str:
    """Say where the number of classes makes the picture hard to read."""
    C = study.num_classes
    if C == 2:
        return (
            "<b>Two classes</b> have two class means, and C or C − 1 outliers are two "
            "or one: such a picture can hardly be told from chance. Ten classes can."
        )
    if C > 20:
        drawn = int((study.embedding.level == 1).sum())
        return (
            f"<b>{C} classes</b> are more than there are colours: colour and shape "
            "together identify them, and a picked class stands out from the others. "
            f"The {drawn:,} pair means overlap in the plane; rely on the table."
        )
    return ""
