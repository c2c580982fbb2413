"""The words below the pictures: those of each epoch, one of them seen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.fake_work import FakeWork
from tests.studies import make_study
from workbench.page.session import Session
from workbench.ui.app import Workbench
from workbench.ui.views.seen import seen_html

FILM = make_study(3, 60, num_moments=2)  # epochs 0, 1 and 30


def seen(html: str) -> list[str]:
    """The moments whose sentences and table are seen."""
    return re.findall(r'<div data-moment="(\d)">', html)


@pytest.mark.parametrize(("moment", "epoch"), [(-1, 30), (0, 0), (1, 1), (9, 30)])
def test_sentences_and_table_of_one_moment_are_seen(moment: int, epoch: int) -> None:
    html = seen_html(FILM, "jmlr", moment)
    (shown, table) = seen(html)
    assert shown == table
    assert html.count("data-moment=") == 2 * 3
    after = html.split(f'<div data-moment="{shown}">')[1]
    assert f"At epoch {epoch} of 30:" in after.split("data-moment")[0]


def test_without_a_film_no_epoch_is_named() -> None:
    html = seen_html(make_study(3, 60), "icml")
    assert "At epoch" not in html
    assert seen(html) == ["0", "0"]


def test_what_is_written_anew_is_about_the_epoch_that_is_shown(tmp_path: Path) -> None:
    session = Session(folder=tmp_path, worker=FakeWork())
    session.show(FILM, source="your run")
    page = Workbench(session)
    assert page.study.view is not None
    page.study.view.state.moment = 1
    session.show_weighting("slide")
    assert seen(page.study.words.value) == ["2", "2"]
    page.study.view.state.moment = 1
    session.pin()
    session.show(make_study(3, 60), source="another")
    session.show(FILM, source="your run")
    page.study.view.state.moment = 1
    session.unpin()
    assert page.study.view.state.moment == 1
    assert seen(page.study.words.value) == ["1", "1"]
