"""What am I seeing: the words below the pictures, for each epoch of the film."""

from __future__ import annotations

from collections.abc import Callable

from workbench.study.records import Study
from workbench.ui.views.explain import explain
from workbench.ui.views.glossary import explained
from workbench.ui.views.overlap import overlap_html


def seen_html(study: Study, weighting: str, moment: int = -1) -> str:
    """Return explanation and overlap table of every snapshot, one of them visible.

    The browser (``film.js``) shows those of the current snapshot.

    Args:
        study: The study, with its film.
        weighting: Convention of averaging.
        moment: The snapshot shown first, as in `LinkState.moment`.
    """

    def sentences(of: Study) -> str:
        return _when(of, study) + explained(explain(of, weighting))

    def table(of: Study) -> str:
        return overlap_html(of, weighting)

    return (
        '<section class="wb-words"><h2>What am I seeing?</h2>'
        f"{_each(study, moment, sentences)}"
        "<details><summary>The overlaps as a table</summary>"
        f'<div class="wb-scroll">{_each(study, moment, table)}</div></details>'
        "</section>"
    )


def _each(study: Study, moment: int, write: Callable[[Study], str]) -> str:
    seen = moment if 0 <= moment < len(study.moments) else len(study.moments)
    return "".join(
        f'<div data-moment="{n}"{"" if n == seen else " hidden"}>{write(of)}</div>'
        for n, of in enumerate(study.film)
    )


def _when(moment: Study, study: Study) -> str:
    """Say which epoch this is about, if there are several."""
    if not study.moments:
        return ""
    now, last = moment.run.get("epochs", 0), study.run.get("epochs", 0)
    return f'<p class="wb-muted">At epoch {now} of {last}:</p>'
