"""A page as a link: written, read, refused; hidden, locked and capped controls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fake_work import FakeWork
from tests.studies import make_study
from workbench.errors import WorkbenchError
from workbench.page.link import LONGEST, read_link, write_link
from workbench.page.session import Session
from workbench.page.view_state import (
    BY_LINK,
    BY_NAME,
    DEFAULTS,
    PROPERTIES,
    Property,
)
from workbench.ui.views.state import LinkState


@pytest.fixture
def session(tmp_path: Path) -> Session:
    made = Session(folder=tmp_path, worker=FakeWork())
    made.open_preset()
    return made


def test_what_is_written_is_read_back_as_the_same_page(
    session: Session, tmp_path: Path
) -> None:
    session.open_preset("few")
    session.show_weighting("jmlr")
    session.change(epochs=12, metric="euclidean")
    session.view = {
        "selected_class": 3,
        "selected_outlier": -1,
        "level": 2,
        "operator": "Hess",
        "scale": "log",
        "knockout": "none",
    }
    other = Session(folder=tmp_path, worker=FakeWork())
    read_link("?" + write_link(session)).open(other)
    assert (other.preset, other.weighting) == ("few", "jmlr")
    assert other.settings == session.settings
    assert other.view["selected_class"] == 3
    assert {**session.view, **other.view} == session.view
    assert write_link(other) == write_link(session)


@pytest.mark.parametrize(
    "seen",
    [
        {"moment": 0},
        {"moment": 3, "num_outliers": 0},
        {"num_outliers": 11, "parts": "cross,means"},
        {"parts": ""},
        {"compare": "beside", "knockout": "projected"},
        {"speed": 0.25},
    ],
)
def test_epoch_parts_and_counted_outliers_are_in_the_link(
    session: Session, tmp_path: Path, seen: dict[str, Any]
) -> None:
    session.view = {**session.view, **seen}
    other = Session(folder=tmp_path, worker=FakeWork())
    read_link(write_link(session)).open(other)
    assert {name: other.view[name] for name in seen} == seen
    assert write_link(other) == write_link(session)


def test_a_pinned_preset_is_in_the_link_and_a_pinned_study_of_ones_own_is_not(
    session: Session, tmp_path: Path
) -> None:
    session.pin()
    session.open_preset("few")
    other = Session(folder=tmp_path, worker=FakeWork())
    read_link(write_link(session)).open(other)
    assert (other.preset, other.pinned_preset) == ("few", "paper")
    assert other.pinned is not None
    assert session.pinned is not None
    assert other.pinned.created == session.pinned.created
    assert write_link(other) == write_link(session)
    session.open_preset("paper")
    assert session.study is session.pinned  # which is not seen against itself
    session.show(make_study(3, 40), source="your run")
    assert "pin=paper" in write_link(session)
    session.pin()
    assert "pin=" not in write_link(session)
    session.open_preset("paper")
    session.pin()
    session.unpin()
    assert "pin=" not in write_link(session)


def test_what_is_selected_in_a_study_of_ones_own_is_not_in_the_link(
    session: Session,
) -> None:
    session.show(make_study(20, 40), source="your run")
    session.view = {"selected_class": 15, "moment": 2, "scale": "log"}
    assert read_link(write_link(session)).view == {"scale": "log"}


def another(held: Property) -> bool | int | float | str:
    """A value that is not the default."""
    if held.choices:
        return next(choice for choice in held.choices if choice != held.default)
    return not held.default if isinstance(held.default, bool) else 1


@pytest.mark.parametrize("name", [one.name for one in PROPERTIES])
def test_what_is_as_ever_is_in_no_link_and_what_is_not_is_read_back(
    session: Session, name: str
) -> None:
    held = BY_NAME[name]
    session.view = dict(DEFAULTS)
    usual = write_link(session)
    session.view = {**DEFAULTS, name: another(held)}
    link = write_link(session)
    if held.link:
        assert f"&{held.link}=" in link
        assert read_link(link).view == {name: another(held)}
    elif name != "theme":  # which the browser reads
        assert link == usual


def test_a_link_names_nothing_twice_and_a_default_is_one_of_the_choices() -> None:
    assert len(BY_NAME) == len(PROPERTIES)
    assert len(BY_LINK) == sum(one.link != "" for one in PROPERTIES)
    for one in PROPERTIES:
        assert not one.choices or one.default in one.choices
        assert getattr(LinkState(), one.name) == one.default


def test_a_chosen_theme_is_in_the_link_for_the_browser(session: Session) -> None:
    session.view = {"theme": "auto"}
    assert "theme" not in write_link(session)
    session.view = {"theme": "projector"}
    assert "theme=projector" in write_link(session)
    assert "theme" not in read_link(write_link(session)).view


@pytest.mark.parametrize("c", [0, 3])
def test_the_first_class_is_a_class_too(session: Session, c: int) -> None:
    session.view = {"selected_class": c}
    assert read_link(write_link(session)).view["selected_class"] == c


def test_the_link_of_a_run_of_ones_own_carries_its_settings(session: Session) -> None:
    session.change(model="linear", seed=7)
    session.show(make_study(3, 40), source="your run")
    link = read_link(write_link(session))
    assert link.preset == ""
    assert (link.run["model"], link.run["seed"]) == ("linear", "7")


def test_a_path_on_this_machine_is_not_told_to_others(session: Session) -> None:
    session.change(data="folder", folder="/home/me/secret")
    assert "secret" not in write_link(session)
    assert "folder" not in write_link(session)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("v=2", "has version 2"),
        ("preset=none", "choose one of paper"),
        ("weighting=best", "icml"),
        ("level=-1", "a whole number, at least 0"),
        ("class=1e9", "a whole number, at least 0"),
        ("class=" + "9" * 40, "a whole number, at least 0"),
        ("operator=K", "one of G, Hess, H"),
        ("parts=class,all", "some of class,cross,diag"),
        ("pin=mine", "choose one of paper"),
        ("moment=last", "a whole number, at least 0"),
        ("epochs=100000", "Epochs"),
        ("lr=nan", "Learning rate"),
        ("data=http://x", "Dataset"),
        ("max_epochs=0", "from 1 to 500"),
        ("max_epochs=many", "from 1 to 500"),
        ("max_epochs=10&epochs=20", "from 1 to 10"),
        ("hide=everything", "no control 'everything'"),
        ("hde=open", "hde is unknown"),
        ("x" * (LONGEST + 1), "the limit is 4096"),
    ],
)
def test_a_bad_link_is_refused_in_a_sentence(query: str, said: str) -> None:
    with pytest.raises(WorkbenchError, match=said):
        read_link(query)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("class=10", "the last one is 9"),
        ("level=4", "the last one is 3"),
        ("outlier=500", "outlier 500"),
        ("outlier=12", "the last one is 11"),
        ("moment=8", "the last one is 7"),
        ("count=12", "the last one is 11"),
    ],
)
def test_what_the_study_does_not_hold_is_refused(
    session: Session, query: str, said: str
) -> None:
    with pytest.raises(WorkbenchError, match=said):
        read_link(query).open(session)


def test_a_server_token_and_an_empty_query_ask_for_nothing(session: Session) -> None:
    for query in ("", "?", "token=secret"):
        before = session.settings
        read_link(query).open(session)
        assert session.settings == before
        assert session.preset == "paper"


def test_locks_and_caps_hold_in_python_and_bring_the_settings_within(
    session: Session,
) -> None:
    read_link("lock=epochs,weighting&hide=network&max_per_class=20").open(session)
    assert session.settings.per_class == 20
    for values in ({"epochs": 3}, {"model": "linear"}, {"seed": 1}):
        with pytest.raises(WorkbenchError, match="locked on this page"):
            session.change(**values)
    with pytest.raises(WorkbenchError, match="locked"):
        session.show_weighting("jmlr")
    with pytest.raises(WorkbenchError, match="from 2 to 20"):
        session.change(per_class=21)
    session.open_preset("training")
    assert session.settings.per_class == 20
    assert session.settings.epochs == 40  # locked: as the link has set it
    assert "lock=epochs,network,weighting" in write_link(session)
    assert "max_per_class=20" in write_link(session)
