"""The controls and the session keep in step, with real widgets and no browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import ipywidgets as w
import pytest

from tests.fake_work import FakeWork, wait_until
from workbench.errors import WorkbenchError
from workbench.jobs.job import JobEvent
from workbench.page.session import Problem, Session
from workbench.page.settings import Limits
from workbench.progress.control import Progress
from workbench.ui.chart import curves
from workbench.ui.panels import (
    JobPanel,
    MeasuringPanel,
    ProblemPanel,
    SettingsPanel,
    progress_html,
)


class Page:
    """All panels over fake work."""

    def __init__(self, folder: Path) -> None:
        self.work = FakeWork()
        limits = Limits(epochs=(1, 50))
        self.session = Session(
            folder=folder, worker=self.work, limits=limits, interval=0
        )
        self.runner = self.session.runner
        self.settings = SettingsPanel(self.session)
        self.job = JobPanel(self.session)
        self.measuring = MeasuringPanel(self.session)
        self.problem = ProblemPanel(self.session)

    def until(self, state: str) -> None:
        wait_until(lambda: self.session.state == state)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    made = Page(tmp_path)
    yield made
    made.runner.cancel()
    made.runner.join(5)


def visible(widget: w.DOMWidget) -> bool:
    return widget.layout.display != "none"


def test_a_control_changes_its_setting_and_the_other_way_round(page: Page) -> None:
    page.settings.epochs.value = 12
    page.settings.data.value = "mnist"
    page.measuring.metric.value = "euclidean"
    settings = page.session.settings
    assert (settings.epochs, settings.data, settings.metric) == (
        12,
        "mnist",
        "euclidean",
    )
    page.session.change(epochs=7, model="cnn")
    assert (page.settings.epochs.value, page.settings.model.value) == (7, "cnn")


def test_a_bad_value_is_put_back_and_answered_in_the_red_box(page: Page) -> None:
    page.settings.epochs.value = 60
    assert page.settings.epochs.value == page.session.settings.epochs == 30
    assert visible(page.problem.widget)
    assert "from 1 to 50" in page.problem.text.value
    assert 'role="alert"' in page.problem.text.value
    page.settings.epochs.value = 40
    assert page.session.settings.epochs == 40


def test_the_red_box_stays_until_it_is_closed(page: Page) -> None:
    assert not visible(page.problem.widget)
    page.settings.epochs.value = 5000
    page.settings.epochs.value = 20
    assert visible(page.problem.widget)
    page.problem.close.click()
    assert not visible(page.problem.widget)
    assert page.session.problem is None


def test_the_red_box_folds_details_and_escapes_all(page: Page) -> None:
    page.session.problem = Problem("<script>alert(1)</script>", "<b>Trace</b>back")
    html = page.problem.text.value
    assert "<script>" not in html
    assert "<details>" in html
    assert "&lt;b&gt;Trace" in html
    page.session.problem = Problem("short")
    assert "<details>" not in page.problem.text.value


def test_the_path_shows_for_a_folder_and_the_download_where_there_is_one(
    page: Page,
) -> None:
    seen = {}
    for name in ("digits", "mnist", "folder"):
        page.settings.data.value = name
        seen[name] = (visible(page.settings.folder), visible(page.settings.download))
    assert seen == {
        "digits": (False, False),
        "mnist": (False, True),
        "folder": (True, False),
    }
    assert page.settings.download.value is False


def test_train_without_a_folder_asks_for_it_and_stays_ready(page: Page) -> None:
    page.settings.data.value = "folder"
    page.job.train.click()
    assert "type the path" in page.problem.text.value
    assert not page.job.train.disabled
    assert page.work.asked == []


def buttons(page: Page) -> dict[str, bool]:
    """Which buttons can be pressed."""
    job = page.job
    named = {
        "train": job.train,
        "pause": job.pause,
        "stop": job.stop,
        "again": page.measuring.again,
    }
    return {name: not button.disabled for name, button in named.items()}


def test_buttons_can_be_pressed_when_there_is_something_to_do(page: Page) -> None:
    ready = {"train": True, "pause": False, "stop": False, "again": False}
    working = {"train": False, "pause": True, "stop": True, "again": False}
    assert buttons(page) == ready
    page.work.hold = "train"
    page.job.train.click()
    assert page.work.held.wait(5)
    assert buttons(page) == working
    page.job.pause.click()
    assert page.job.pause.description == "Resume"
    assert buttons(page) == working
    page.job.pause.click()
    assert page.job.pause.description == "Pause"
    page.job.stop.click()
    page.until("idle")
    assert buttons(page) == ready | {"again": True}


def test_nothing_can_be_pressed_while_a_job_is_stopping(page: Page) -> None:
    page.job.train.click()
    page.until("idle")
    assert buttons(page)["again"]
    page.session.state = "stopping"
    assert not any(buttons(page).values())
    assert page.job.go_on.disabled


def test_continue_shows_only_after_a_training_that_was_stopped(page: Page) -> None:
    assert not visible(page.job.go_on)
    page.work.hold = "train"
    page.job.train.click()
    assert page.work.held.wait(5)
    page.job.stop.click()
    page.until("idle")
    assert visible(page.job.go_on)
    page.work.hold = ""
    page.job.go_on.click()
    page.until("idle")
    assert not visible(page.job.go_on)


def test_every_control_works_again_after_an_error(page: Page) -> None:
    page.work.raises["train"] = WorkbenchError("load_data: no such folder.")
    page.job.train.click()
    page.until("idle")
    assert "no such folder" in page.problem.text.value
    page.work.raises.clear()
    page.job.train.click()
    page.until("idle")
    assert not visible(page.problem.widget)
    page.measuring.again.click()
    page.until("idle")
    assert [name for name, _ in page.work.asked] == [
        "train", "train", "measure", "film", "measure", "film",
    ]  # fmt: skip


def test_the_convention_is_drawn_at_once_and_measured_next(page: Page) -> None:
    page.measuring.weighting.value = "jmlr"
    assert page.session.weighting == "jmlr"
    page.job.train.click()
    page.until("idle")
    assert page.work.asked[0][1]["weighting"] == "jmlr"


def test_the_learning_curves_grow_with_the_training(page: Page) -> None:
    assert page.job.curves.value == ""
    page.job.train.click()
    page.until("idle")
    points = re.findall(r'points="([^"]*)"', page.job.curves.value)
    assert [len(p.split()) for p in points] == [4, 4]
    assert "<b>0.25</b>" in page.job.curves.value


def test_a_job_is_said_to_start_once_and_its_end_stays(page: Page) -> None:
    said: list[str] = []
    page.job.progress.observe(lambda c: said.append(c["new"]), names=["value"])
    page.job.train.click()
    page.until("idle")
    assert sum("Starting" in text for text in said) == 1
    assert "Trained and measured in" in said[-1]
    assert 'role="status"' in said[-1]


def test_curves_leave_out_what_is_not_finite() -> None:
    history = {"epoch": (1, 2, 3), "loss": (2.0, float("inf"), float("nan"))}
    html = curves(history | {"accuracy": (0.1, 0.2, 0.3)})
    assert "inf" not in html.split("<svg")[1].split("points")[1]
    assert "nan" not in html.split("points")[1]


def event(step: int, fraction: float, left: float | None = None) -> JobEvent:
    progress = Progress("Training", fraction, "epoch 3 of 30")
    return JobEvent(1, step, 3, progress, elapsed=5.0, seconds_left=left)


def test_the_progress_says_stage_and_time_left() -> None:
    html = progress_html(event(0, 0.1, 12.3), "running")
    said = re.sub("<[^>]*>", "", html)
    assert said == "Training: epoch 3 of 30 · 12 s left, then measuring"
    following = progress_html(event(1, 0.1, 12.3), "running")
    assert "then earlier epochs" in following
    assert 'aria-valuenow="3"' in html
    assert "5 s so far" in progress_html(event(0, 0.0), "running")
    assert "paused" in progress_html(event(0, 0.1, 12.3), "paused")
    assert "stopping" in progress_html(event(0, 0.1, 12.3), "stopping")
    last = re.sub("<[^>]*>", "", progress_html(event(2, 0.5, 3), "running"))
    assert last.endswith("3 s left")


def test_the_progress_has_one_bar_a_step() -> None:
    html = progress_html(event(1, 0.25), "running")
    assert re.findall(r"width:([\d.]+%)", html) == ["100.0%", "25.0%", "0.0%"]
    assert 'aria-valuenow="42"' in html


def test_every_control_has_a_label_and_a_tooltip(page: Page) -> None:
    panels = (page.settings, page.job, page.measuring, page.problem)
    controls = [
        widget
        for panel in panels
        for widget in vars(panel).values()
        if isinstance(widget, w.DOMWidget) and not isinstance(widget, (w.HTML, w.Box))
    ]
    assert len(controls) >= 16
    for control in controls:
        assert control.description, control
        assert control.tooltip, control
