"""The session: one state, changed by clicks and by jobs, told to whoever watches."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import traitlets

from tests.fake_work import FakeWork, wait_until
from tests.studies import make_study
from workbench.errors import WorkbenchError
from workbench.page.report import Trained, describe_device, extended
from workbench.page.session import Problem, Session
from workbench.page.settings import Limits


class Bench:
    """A session over fake work, and what it was seen to go through."""

    def __init__(self, folder: Path, work: FakeWork) -> None:
        self.work = work
        self.session = Session(folder=folder, worker=work, interval=0)
        self.runner = self.session.runner
        self.states: list[str] = []
        self.session.observe(lambda c: self.states.append(c["new"]), names=["state"])

    def until(self, state: str) -> None:
        wait_until(lambda: self.session.state == state)

    def until_held(self) -> None:
        assert self.work.held.wait(5)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "runs", FakeWork())
    yield made
    made.runner.cancel()
    made.runner.join(5)


def test_a_run_ends_with_its_own_study_shown_and_the_controls_free(
    bench: Bench,
) -> None:
    session = bench.session
    session.show(make_study(2, 30), preset="paper")
    session.run()
    bench.until("idle")
    assert session.study is not None
    assert session.study.num_classes == 3
    assert not session.is_example
    assert session.trained is not None
    assert session.trained.finished
    assert bench.states == ["running", "idle"]
    assert session.problem is None
    assert session.notice.startswith("Trained and measured in ")


def test_loss_and_accuracy_are_there_for_every_epoch(bench: Bench) -> None:
    bench.work.epochs = 50
    bench.session.run()
    bench.until("idle")
    history = bench.session.history
    assert history["epoch"] == tuple(range(1, 51))
    assert history["loss"][-1] == pytest.approx(1 / 50)
    assert len(history["accuracy"]) == 50


def test_a_part_of_an_epoch_stands_until_the_epoch_is_whole() -> None:
    def told(*epochs: float) -> tuple[float, ...]:
        history: Mapping[str, tuple[float, ...]] = {}
        for epoch in epochs:
            history = extended(history, {"epoch": epoch, "loss": 1, "accuracy": 0})
        assert len(history["loss"]) == len(history["accuracy"])
        return history["epoch"]

    assert told(0.25, 0.5) == (0.5,)
    assert told(0.5, 1.0, 1.5, 1.75) == (1.0, 1.75)
    assert told(0.5, 1.0, 1.0) == (1.0,)
    assert told(1.0, 2.0, 3.0) == (1.0, 2.0, 3.0)


def test_the_work_gets_the_settings_that_were_chosen(bench: Bench) -> None:
    session = bench.session
    session.change(epochs=3, model="cnn", metric="euclidean")
    session.show_weighting("jmlr")
    session.run()
    bench.until("idle")
    name, asked = bench.work.asked[0]
    assert name == "train"
    assert (asked["epochs"], asked["model"], asked["metric"]) == (3, "cnn", "euclidean")
    assert asked["weighting"] == "jmlr"
    assert session.study is not None
    assert session.study.weighting == "jmlr"


def test_stop_during_training_keeps_the_network_and_says_how_to_go_on(
    bench: Bench,
) -> None:
    session, work = bench.session, bench.work
    work.hold = "train"
    session.run()
    bench.until_held()
    session.stop()
    assert session.state == "stopping"
    bench.until("idle")
    assert session.trained is not None
    assert not session.trained.finished
    assert "in epoch 3 of 4" in session.notice
    assert session.problem is None
    work.hold = ""
    session.continue_training()
    bench.until("idle")
    assert work.asked[1][1]["resume"].endswith("run-1.ckpt")
    assert session.study is not None


def test_stop_during_measuring_keeps_the_network_and_it_can_be_measured_again(
    bench: Bench,
) -> None:
    session, work = bench.session, bench.work
    work.hold = "measure"
    session.run()
    bench.until_held()
    session.stop()
    bench.until("idle")
    assert session.study is None
    assert session.trained is not None
    assert "Measure again" in session.notice
    work.hold = ""
    session.measure_again()
    bench.until("idle")
    assert work.asked[-2][0] == "measure"
    assert work.asked[-2][1]["checkpoint"] == session.trained.path
    assert session.study is not None


def test_the_study_is_shown_while_its_earlier_epochs_are_measured(bench: Bench) -> None:
    session, work = bench.session, bench.work
    work.hold, work.moments = "film", 2
    shown: list[int] = []
    session.observe(lambda c: shown.append(len(c["new"].moments)), names=["study"])
    session.run()
    bench.until_held()
    wait_until(lambda: shown == [0])
    assert session.state == "running"
    work.free.set()
    bench.until("idle")
    assert shown == [0, 2]


def test_stop_during_the_film_keeps_the_study_and_says_what_was_done(
    bench: Bench,
) -> None:
    session, work = bench.session, bench.work
    work.hold, work.moments = "film", 2
    session.run()
    bench.until_held()
    session.stop()
    bench.until("idle")
    assert session.study is not None
    assert session.study.moments == ()
    assert session.notice.startswith("Trained and measured")


def test_a_film_does_not_take_the_place_of_what_was_opened_meanwhile(
    bench: Bench,
) -> None:
    session, work = bench.session, bench.work
    work.hold, work.moments = "film", 2
    session.run()
    bench.until_held()
    wait_until(lambda: session.study is not None)
    other = make_study(2, 30)
    session.show(other)
    work.free.set()
    bench.until("idle")
    assert session.study is other


def test_a_failure_shows_its_sentence_and_the_next_run_works(bench: Bench) -> None:
    session, work = bench.session, bench.work
    shown = make_study(2, 30)
    session.show(shown, preset="paper")
    work.raises["train"] = WorkbenchError("load_data: the folder /x is empty.")
    session.run()
    bench.until("idle")
    assert session.problem == Problem("load_data: the folder /x is empty.")
    assert session.study is shown
    assert session.is_example
    work.raises.clear()
    session.run()
    bench.until("idle")
    assert session.problem is None
    assert session.study is not shown


def test_a_network_that_cannot_be_measured_is_kept(bench: Bench) -> None:
    session, work = bench.session, bench.work
    work.raises["measure"] = RuntimeError("broken")
    session.run()
    bench.until("idle")
    assert session.trained is not None
    assert session.problem is not None
    assert "broken" in session.problem.details
    assert "Measure again" in session.notice


def test_a_study_that_cannot_be_read_frees_the_controls(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: str) -> None:
        raise WorkbenchError(f"load_study: {path} is damaged.")

    monkeypatch.setattr("workbench.page.session.load_study", broken)
    bench.session.run()
    bench.until("idle")
    assert bench.session.problem is not None
    assert "damaged" in bench.session.problem.sentence


def test_pause_and_resume_show_in_the_state(bench: Bench) -> None:
    session, work = bench.session, bench.work
    work.hold = "train"
    session.run()
    bench.until_held()
    session.pause()
    session.resume()
    session.pause()
    assert session.state == "paused"
    session.stop()
    bench.until("idle")
    assert bench.states == [
        "running", "paused", "running", "paused", "stopping", "idle",
    ]  # fmt: skip


FACTS = {
    "data": "digits",
    "model": "mlp",
    "per_class": 30,
    "epochs": 4,
    "epochs_planned": 9,
}


@pytest.mark.parametrize("press", ["continue_training", "measure_again"])
def test_a_network_is_gone_on_with_as_it_is_whatever_the_controls_say(
    bench: Bench, press: str
) -> None:
    session = bench.session
    session.change(data="folder", model="cnn", per_class=100, seed=5)  # and no path
    session.trained = Trained("a.ckpt", False, FACTS)
    getattr(session, press)()
    bench.until("idle")
    assert session.problem is None
    asked = bench.work.asked[0][1]
    told = tuple(asked[name] for name in ("data", "model", "per_class", "epochs"))
    assert told == ("digits", "mlp", 30, 9 if press == "continue_training" else 4)
    assert (asked["seed"], asked["embedding"]) == (5, "umap")


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (Limits(epochs=(1, 8)), "Epochs: .* started with 9 .* allows at most 8;"),
        (Limits(per_class=(2, 20)), "Examples per class: .* with 30 .* at most 20;"),
    ],
)
def test_a_training_beyond_what_the_page_allows_is_not_continued(
    bench: Bench, limits: Limits, sentence: str
) -> None:
    session = bench.session
    session.trained = Trained("a.ckpt", False, FACTS)
    session.limits = limits
    with pytest.raises(WorkbenchError, match=sentence):
        session.continue_training()
    assert session.state == "idle"


def test_buttons_pressed_at_the_wrong_time_do_nothing(bench: Bench) -> None:
    session = bench.session
    session.pause()
    session.resume()
    session.stop()
    assert session.state == "idle"
    with pytest.raises(WorkbenchError, match="press Train first"):
        session.measure_again()
    with pytest.raises(WorkbenchError, match="press Train first"):
        session.continue_training()


def test_only_one_job_runs_at_a_time(bench: Bench) -> None:
    bench.work.hold = "train"
    bench.session.run()
    bench.until_held()
    with pytest.raises(WorkbenchError, match="A job is running"):
        bench.session.run()


def test_nothing_starts_before_the_stopped_network_is_taken_over(bench: Bench) -> None:
    session, work = bench.session, bench.work
    work.hold = "train"
    session.run()
    bench.until_held()
    with session.lock:  # so that the end is not delivered in between
        session.stop()
        with pytest.raises(WorkbenchError, match="still stopping"):
            session.run()
    bench.until("idle")
    assert session.trained is not None
    assert not session.trained.finished
    work.hold = ""
    session.run()
    bench.until("idle")
    assert session.notice.startswith("Trained")


def test_a_bad_value_changes_nothing(bench: Bench) -> None:
    before = bench.session.settings
    with pytest.raises(WorkbenchError, match="Epochs"):
        bench.session.change(model="cnn", epochs=0)
    assert bench.session.settings is before


def test_a_study_without_the_chosen_convention_is_shown_in_its_own(
    bench: Bench,
) -> None:
    bench.session.show_weighting("jmlr")
    bench.session.show(make_study(2, 30, "slide", weightings=("slide",)))
    assert bench.session.weighting == "slide"


def test_whoever_hears_of_a_study_sees_all_of_it(bench: Bench) -> None:
    session, seen = bench.session, []
    study = make_study()

    def look(_: object) -> None:
        seen.append((session.study, session.preset, session.source))

    session.observe(look, names=["study", "preset", "source"])
    session.show(study, preset="few", source="from elsewhere")
    assert seen
    for shown, *words in seen:
        assert shown is study
        assert words == ["few", "from elsewhere"]


def test_an_unknown_convention_is_refused(bench: Bench) -> None:
    with pytest.raises(WorkbenchError, match="icml"):
        bench.session.show_weighting("best")


def test_a_watcher_that_fails_fills_the_red_box_and_the_job_goes_on(
    bench: Bench,
) -> None:
    def fail() -> None:
        if bench.session.state == "running":
            raise RuntimeError("a broken panel")

    bench.session.watch(fail, "state")
    bench.session.run()
    bench.until("idle")
    assert bench.session.problem is not None
    assert "a broken panel" in bench.session.problem.details
    assert bench.session.study is not None


def test_watchers_are_told_one_thing_at_a_time(bench: Bench) -> None:
    """A click and a job's event never overlap, or two patches would interleave."""
    inside, overlaps = [0], [0]

    def slow() -> None:
        inside[0] += 1
        overlaps[0] += inside[0] > 1
        threading.Event().wait(0.002)
        inside[0] -= 1

    bench.work.epochs = 30
    bench.session.watch(slow, "event", "history")
    bench.session.watch(slow, "settings")
    bench.session.run()
    for seed in range(20):
        bench.session.change(seed=seed + 1)
    bench.until("idle")
    assert overlaps == [0]


def test_the_folder_for_files_is_made_when_the_first_job_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "workbench.jobs.runs.platformdirs.user_data_path", lambda name: tmp_path / name
    )
    session = Session(worker=FakeWork(), interval=0)
    assert not list(tmp_path.iterdir())
    session.run()
    wait_until(lambda: session.state == "idle")
    assert session.trained is not None
    assert Path(session.trained.path).is_file()
    assert tmp_path in Path(session.trained.path).parents


def test_a_folder_that_cannot_be_made_is_said_and_nothing_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    session = Session(folder=tmp_path / "file" / "runs", worker=FakeWork())
    with pytest.raises(WorkbenchError, match="cannot be created"):
        session.run()
    assert session.state == "idle"


def test_the_first_touch_of_a_control_warms_up_once(bench: Bench) -> None:
    assert bench.work.warmed == 0
    bench.session.change(seed=1)
    bench.session.change(seed=2)
    assert bench.work.warmed == 1


def test_the_device_is_named_without_torch() -> None:
    assert re.fullmatch(r"CPU, \d+ cores?( \(GPU found\))?", describe_device())
    assert describe_device("cuda:0") == "GPU (cuda:0)"
    assert "GPU" not in describe_device("cpu")


def test_a_state_that_does_not_exist_is_refused(bench: Bench) -> None:
    with pytest.raises(traitlets.TraitError):
        bench.session.state = "asleep"
