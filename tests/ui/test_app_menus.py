"""Presets, menus, runs of before, uploads and a teacher's link, with real widgets."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import ipywidgets as w
import pytest

from tests.fake_work import FakeWork, wait_until
from tests.studies import make_study
from tests.test_runs import add_run, checkpoint_file
from workbench.errors import WorkbenchError
from workbench.jobs.job import JobRecord
from workbench.page.link import read_link
from workbench.page.presets import PRESETS, Contrast, contrasts_of, find_preset
from workbench.page.report import Trained
from workbench.page.session import Session
from workbench.page.settings import CONTROLS
from workbench.ui import opening
from workbench.ui.app import Workbench
from workbench.ui.query import query_string


@pytest.fixture
def page(tmp_path: Path) -> Workbench:
    session = Session(folder=tmp_path / "runs", worker=FakeWork(), interval=0)
    return Workbench(session)


def said(page: Workbench) -> str:
    problem = page.session.problem
    return "" if problem is None else problem.sentence


def test_a_preset_is_shown_and_its_settings_fill_the_controls(page: Workbench) -> None:
    page.head.presets.value = "few"
    assert page.session.preset == "few"
    assert (page.settings.per_class.value, page.settings.epochs.value) == (10, 60)
    assert "With ten images per class" in page.head.words.value
    page.head.live.click()
    wait_until(lambda: page.session.state == "idle")
    assert page.session.source == "your run"
    assert page.head.presets.value == ""
    assert page.head.live.layout.display == "none"


def test_a_contrast_is_seen_beside_at_one_press_and_goes_at_the_next(
    page: Workbench,
) -> None:
    for contrast in contrasts_of("paper"):
        pressed = contrast_button(page, contrast)
        pressed.click()
        assert said(page) == ""
        view = page.study.view
        assert view is not None
        assert view.pinned is page.session.pinned is not None
        assert view.state.compare == "beside"
        assert page.head.words.value == contrast.sentence
        assert f"pin={contrast.name}" in page.share.link.value
        assert "mod-active" in contrast_button(page, contrast)._dom_classes
    contrast_button(page, contrast).click()
    assert page.session.pinned is None
    assert page.head.words.value == find_preset("paper").sentence


def test_a_contrast_goes_with_its_preset_and_comes_by_a_link(page: Workbench) -> None:
    read_link("preset=training&pin=untrained&compare=beside").open(page.session)
    (shown,) = contrasts_of("training")
    assert page.session.pinned is not None
    assert page.session.pinned.run["epochs"] == 0
    assert page.head.words.value == shown.sentence
    page.head.presets.value = "few"
    assert page.session.pinned is None
    assert page.head.told.children == (page.head.words,)
    page.study.pin.click()
    page.head.presets.value = "training"
    assert page.session.pinned_preset == "few"  # pinned by hand: it stays


def contrast_button(page: Workbench, contrast: Contrast) -> Any:
    (found,) = [
        child
        for child in page.head.told.children
        if getattr(child, "description", "") == contrast.title
    ]
    return found


def test_your_own_opens_the_menu_and_leaves_what_is_shown(page: Workbench) -> None:
    page.head.presets.value = ""
    assert page.head.presets.value == "paper"
    assert page.drawer.widget.children == (page.opening.widget,)


def test_one_menu_is_open_at_a_time_and_closes_again(page: Workbench) -> None:
    toggles = page.drawer.toggles
    toggles["share"].value = True
    toggles["code"].value = True
    assert not toggles["share"].value
    assert page.drawer.widget.children == (page.code.widget,)
    toggles["code"].value = False
    assert page.drawer.widget.layout.display == "none"


def test_the_code_is_that_of_the_study_that_is_shown(page: Workbench) -> None:
    assert "build_model(&#x27;cnn&#x27;" in page.code.code.value
    page.head.presets.value = "few"
    assert "build_model(&#x27;mlp&#x27;" in page.code.code.value


def test_the_link_follows_what_is_selected_in_the_pictures(page: Workbench) -> None:
    assert page.study.view is not None
    page.study.view.state.selected_class = 4
    assert "class=4" in page.share.link.value
    page.session.view = {**page.session.view, "selected_class": 2}
    assert page.study.view.state.selected_class == 2


def test_the_share_panel_says_what_is_not_in_the_link(page: Workbench) -> None:
    assert "not in the link" not in page.share.link.value
    page.study.pin.click()
    page.head.presets.value = "few"
    assert "pin=paper" in page.share.link.value
    page.session.show(make_study(3, 40), source="mine.study")
    assert "A run of your own is not in the link" in page.share.link.value
    page.study.pin.click()
    page.study.pin.click()
    page.head.presets.value = "few"
    assert "The pinned study is not a preset, so the link" in page.share.link.value


def test_a_link_opens_the_pictures_at_its_epoch_beside_what_is_pinned(
    page: Workbench,
) -> None:
    query = "preset=training&moment=2&parts=class,means&count=3&pin=few&compare=beside"
    read_link(query).open(page.session)
    view = page.study.view
    assert view is not None
    assert view.pinned is page.session.pinned is not None
    state = view.state
    assert (state.moment, state.num_outliers) == (2, 3)
    assert (state.parts, state.compare) == ("class,means", "beside")
    link = page.share.link.value
    assert all(word in link for word in query.split("&")[1:])


def upload(page: Workbench, name: str, content: bytes) -> None:
    sent: dict[str, Any] = {"name": name, "content": memoryview(content), "size": 1}
    page.opening._uploaded({"new": (sent,)})


def test_an_uploaded_study_is_shown_under_its_own_name(
    page: Workbench, tmp_path: Path
) -> None:
    path = make_study(3, 40).save(tmp_path / "x")
    upload(page, "mine.study", path.read_bytes())
    assert said(page) == ""
    assert page.session.source == "mine.study"
    assert ">mine.study<" in page.head.title.value


def test_an_uploaded_checkpoint_is_measured(page: Workbench, tmp_path: Path) -> None:
    path = checkpoint_file(tmp_path / "x", model="mlp", epochs=3, epochs_planned=3)
    upload(page, "net.ckpt", path.read_bytes())
    wait_until(lambda: page.session.state == "idle")
    assert said(page) == ""
    assert page.session.source == "your run"
    assert page.session.trained is not None
    assert page.session.trained.finished


def test_what_is_no_study_is_refused_and_leaves_nothing(
    page: Workbench, tmp_path: Path
) -> None:
    upload(page, "<b>.study", b"\x80\x04 a pickle")
    assert "<b>.study is a Python pickle, which could run code" in said(page)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_path_opens_a_study_or_makes_images_the_dataset(
    page: Workbench, tmp_path: Path
) -> None:
    page.opening.open.click()
    assert "the path is empty" in said(page)
    page.opening.path.value = str(make_study(2, 30).save(tmp_path / "a.study"))
    page.opening.open.click()
    assert page.session.source == "a.study"
    for name in ("cat/1.png", "cat/2.JPG", "dog/a/3.png", "dog/notes.txt"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"")
    page.opening.path.value = str(tmp_path / "images")
    page.opening.open.click()
    assert page.session.settings.folder == str(tmp_path / "images")
    assert page.settings.data.value == "folder"
    assert page.session.notice.startswith("2 classes, 3 images: ")
    page.opening.path.value = str(tmp_path / "images" / "dog")
    page.opening.open.click()
    assert "contains 1 folder; give one with 2 to 1,000" in said(page)
    assert page.session.settings.folder == str(tmp_path / "images")


@pytest.mark.parametrize("path", ["/no/such/file", "~nobody-here/x", "a" * 300])
def test_a_path_that_leads_nowhere_is_refused_in_a_sentence(
    page: Workbench, path: str
) -> None:
    page.opening.path.value = path
    page.opening.open.click()
    assert said(page).startswith(f"Open: {path} cannot be read (")
    assert page.session.problem.details == ""


@pytest.mark.parametrize("query", ["preset=few", "preset=few&hide=training&epochs=9"])
def test_a_link_starts_no_work_before_anything_is_touched(
    query: str, page: Workbench
) -> None:
    read_link(f"v=1&{query}").open(page.session)
    assert page.settings.per_class.value == 10
    assert page.session._worker.warmed == 0
    page.settings.seed.value = 8
    assert page.session._worker.warmed == 1


def test_another_preset_keeps_what_is_locked_and_gives_no_red_box(
    page: Workbench,
) -> None:
    read_link("v=1&lock=epochs").open(page.session)
    page.head.presets.value = "few"
    assert (page.settings.per_class.value, page.settings.epochs.value) == (10, 200)
    assert page.session.settings.epochs == PRESETS[0].settings.epochs
    assert (page.session.preset, page.session.problem) == ("few", None)


def test_a_path_that_takes_long_to_look_at_holds_up_no_page(
    page: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, patience = threading.Event(), 0.4
    monkeypatch.setattr(opening, "count_images", lambda path: slow.wait(20) and (2, 9))
    monkeypatch.setattr(opening, "describe_choice", lambda path: "")
    monkeypatch.setattr(opening, "AT_ONCE", 0.01)
    monkeypatch.setattr(opening, "PATIENCE", patience)
    panel = page.opening
    panel.path.value = str(tmp_path)
    panel.open.click()
    assert (panel.open.disabled, panel.open.description) == (True, "Looking…")
    page.session.change(epochs=7)  # the page answers
    wait_until(lambda: page.session.problem is not None)
    assert "could not be searched within" in said(page)
    assert (panel.open.disabled, panel.open.description) == (False, "Show")
    assert page.session.settings.data != "folder"
    monkeypatch.setattr(opening, "PATIENCE", 10.0)
    panel.open.click()
    slow.set()
    wait_until(lambda: page.session.settings.folder == str(tmp_path))


@pytest.mark.skipif(os.name != "posix", reason="there are no pipes")
def test_a_pipe_is_refused_at_once(page: Workbench, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    page.opening.path.value = f"'{tmp_path / 'pipe'}'"
    page.opening.open.click()
    assert "is a pipe, a socket or a device" in said(page)


@pytest.mark.parametrize(
    ("told", "most"), [(None, 9), ("64", 64), ("9999", 64), ("x", 9)]
)
def test_the_limit_of_an_upload_is_that_of_the_server(
    told: str | None, most: int, page: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(opening.SAYS_UPLOAD, raising=False)
    if told is not None:
        monkeypatch.setenv(opening.SAYS_UPLOAD, told)
    panel = opening.OpenPanel(page.session, lambda: None)
    assert f"up to {most} MB" in panel.upload.tooltip
    assert f"wb-most-{most}" in panel.upload._dom_classes
    with pytest.raises(WorkbenchError, match=f"the limit is {most} MB"):
        panel._open_upload("a.study", memoryview(bytes((most << 20) + 1)))


def test_the_last_run_is_offered_to_a_page_that_was_reloaded(
    page: Workbench, tmp_path: Path
) -> None:
    assert page.found.widget.layout.display == "none"
    folder = add_run(tmp_path / "runs", ended=False)
    checkpoint_file(folder.path / "run-001.ckpt", epochs=3, epochs_planned=9)
    page.session.look_for_runs()
    assert page.found.widget.layout.display is None
    assert "was interrupted" in page.found.text.value
    page.found.open.click()
    trained = page.session.trained
    assert trained is not None
    assert not trained.finished
    assert "in epoch 4 of 9" in page.session.notice
    assert page.job.go_on.layout.display is None
    assert page.found.widget.layout.display == "none"


def test_a_run_at_work_is_offered_however_long_ago_it_began(
    page: Workbench, tmp_path: Path
) -> None:
    folder = add_run(tmp_path / "runs", "run-001.ckpt", ended=False)
    os.utime(folder.path / "job.json", (0, 0))
    page.session.look_for_runs()
    assert page.found.widget.layout.display == "none"
    folder.touch("alive")
    page.session.look_for_runs()
    assert page.found.widget.layout.display is None
    assert "is running" in page.found.text.value


@pytest.mark.parametrize(
    ("wish", "state"), [("go", "running"), ("wait", "paused"), ("end", "stopping")]
)
def test_a_run_at_work_is_taken_up_in_the_state_that_it_was_left_in(
    page: Workbench, tmp_path: Path, wish: str, state: str
) -> None:
    folder = add_run(tmp_path / "runs", "run-001.ckpt", ended=False)
    folder.touch("alive")
    folder.wish(wish)
    page.session.open_run(folder.path.name)
    assert page.session.state == state
    assert folder.wished() == wish
    if state == "paused":
        assert page.job.pause.description == "Resume"
        page.job.pause.click()
        wait_until(lambda: folder.wished() == "go")
    folder.end(JobRecord(1, "run", "cancelled", folder.files(), {}, {}))
    wait_until(lambda: page.session.state == "idle")


def test_a_finished_run_opens_from_the_menu(page: Workbench, tmp_path: Path) -> None:
    folder = add_run(tmp_path / "runs")
    make_study(4, 40).save(folder.path / "run-001.study")
    page.drawer.open("open")
    (line,) = page.opening.runs.children
    pressed, words = line.children
    assert "digits · mlp · 100 per class · 30 epochs" in words.value
    pressed.click()
    assert page.session.study is not None
    assert page.session.study.num_classes == 4
    assert page.drawer.widget.layout.display == "none"


def hidden(widget: w.DOMWidget) -> bool:
    return "wb-hidden" in widget._dom_classes


def test_a_teachers_link_hides_and_locks_controls(page: Workbench) -> None:
    with page.session.guarded():
        read_link("hide=training,open&lock=network,metric").open(page.session)
    assert hidden(page.job.widget)
    assert hidden(page.drawer.toggles["open"])
    assert not hidden(page.drawer.toggles["share"])
    assert page.settings.model.disabled
    assert page.settings.seed.disabled
    assert page.measuring.metric.disabled
    assert not page.settings.data.disabled
    assert page.settings.epochs.disabled  # hidden is locked too


def test_every_name_of_a_teachers_link_is_a_control(page: Workbench) -> None:
    assert set(page.controls()) == set(CONTROLS)


def inside(widget: w.Widget) -> list[w.Widget]:
    """The widgets of a card that one can press or change."""
    found = [widget] if widget.has_trait("disabled") else []
    return found + [
        w for child in getattr(widget, "children", ()) for w in inside(child)
    ]


@pytest.mark.parametrize("name", CONTROLS)
def test_what_is_locked_is_disabled_and_stays_so(page: Workbench, name: str) -> None:
    session = page.session
    read_link(f"lock={name}").open(session)
    # What ends a job is never locked: nobody is to be left with one.
    ends = (page.job.pause, page.job.stop)
    widgets = [
        x for part in page.controls()[name] for x in inside(part) if x not in ends
    ]
    assert widgets
    stopped = Trained("no.ckpt", False, {})  # so that Continue is there
    for state in ("idle", "running", "paused", "stopping", "idle"):
        session.state = state
        session.trained = stopped if state == "idle" else None
        assert [x for x in widgets if not x.disabled] == []
        assert page.job.stop.disabled == (state in ("idle", "stopping"))


def test_python_refuses_what_is_locked_whatever_the_browser_sends(
    page: Workbench, tmp_path: Path
) -> None:
    session = page.session
    read_link("lock=training,measuring,presets,open").open(session)
    study = make_study(3, 40).save(tmp_path / "a.study")
    folder = add_run(tmp_path / "runs")
    for act in (
        session.run,
        session.continue_training,
        session.measure_again,
        lambda: session.open_preset("few"),
        lambda: session.open_file(study),
        lambda: session.open_run(folder.path.name),
    ):
        with pytest.raises(WorkbenchError, match="is locked on this page"):
            act()
    page.drawer.open("open")
    assert page.drawer.widget.children == ()


def test_your_own_is_no_choice_while_open_is_locked(
    page: Workbench, tmp_path: Path
) -> None:
    presets = page.head.presets
    read_link("preset=few&lock=open").open(page.session)
    assert [name for _, name in presets.options] == [p.name for p in PRESETS]
    assert presets.value == "few"
    page.session.run()
    wait_until(lambda: page.session.state == "idle")
    assert presets.options[-1] == ("No preset", "")
    assert presets.value == ""
    assert page.session.source == "your run"
    presets.value = "training"
    assert page.session.preset == "training"
    read_link("").open(page.session)
    assert presets.options[-1] == ("Your own…", "")
    assert said(page) == ""


def test_outside_voila_there_is_no_query_string(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("QUERY_STRING", raising=False)
    assert query_string() == ""
    monkeypatch.setenv("QUERY_STRING", "level=2")
    assert query_string() == "level=2"


def test_a_page_whose_address_is_not_told_opens_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("QUERY_STRING", raising=False)
    monkeypatch.setenv("VOILA_PREHEAT", "True")
    monkeypatch.setenv("VOILA_APP_PORT", "1")
    assert query_string() == ""


def test_the_settings_of_ones_own_run_are_folded_until_they_are_wanted(
    page: Workbench,
) -> None:
    fold = page.fold
    assert fold.widget.layout.display == "none"
    fold.toggle.value = True
    assert fold.widget.layout.display is None
    fold.toggle.value = False
    page.session.trained = Trained("no.ckpt", False, {})  # Continue is among them
    assert fold.widget.layout.display is None


def test_where_a_teacher_hides_all_settings_nothing_unfolds_them(
    page: Workbench,
) -> None:
    read_link("hide=data,network,training").open(page.session)
    assert not hidden(page.fold.toggle)
    read_link("hide=data,network,training,measuring").open(page.session)
    assert hidden(page.fold.toggle)
