"""The page as a whole: what is shown follows the session, with real widgets."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import ipywidgets as w
import pytest

from tests.fake_work import FakeWork, wait_until
from tests.studies import make_study
from workbench.page.session import Session
from workbench.ui.app import Workbench
from workbench.ui.views.words import run_in_words


def make_page(folder: Path, work: FakeWork | None = None, **study: Any) -> Workbench:
    session = Session(folder=folder, worker=work or FakeWork(), interval=0)
    session.show(make_study(3, 40, **study), preset="paper")
    return Workbench(session)


def test_the_head_says_whether_it_is_the_example(tmp_path: Path) -> None:
    page = make_page(tmp_path)
    assert ">example<" in page.head.title.value
    page.session.show(make_study(2, 30))
    assert ">your run<" in page.head.title.value
    assert ">example<" not in page.head.title.value


def test_the_head_escapes_what_a_study_says_of_itself(tmp_path: Path) -> None:
    page = make_page(tmp_path)
    study = make_study(2, 30)
    study.run["data"] = "folder:<img src=x onerror=alert(1)>"
    page.session.show(study)
    assert "<img" not in page.head.title.value
    assert "&lt;img" in page.head.title.value


def test_a_run_is_told_as_far_as_it_is_known() -> None:
    run = {"data": "digits", "model": "mlp", "per_class": 100, "epochs": 30}
    told = "digits · mlp · 100 per class · 30 epochs"
    assert run_in_words(run) == told
    assert run_in_words(run | {"train_accuracy": 0.999}) == f"{told} · accuracy 99.9%"
    chosen = run | {"num_examples": 1000, "num_available": 60_000}
    assert "100 per class · 1,000 of 60,000 examples · 30" in run_in_words(chosen)
    assert run_in_words(chosen | {"num_available": None}) == told
    assert run_in_words({"model": "mlp", "epochs": 0}) == "mlp · 0 epochs"
    assert run_in_words({}) == ""


def test_what_is_no_longer_drawn_is_forgotten(tmp_path: Path) -> None:
    page = make_page(tmp_path)
    drawn = []
    for num_examples in (41, 42, 43):
        page.session.show(make_study(3, num_examples))
        assert page.study.view is not None
        drawn.append(weakref.ref(page.study.view.state))
    gc.collect()
    assert [state() is None for state in drawn] == [True, True, False]


def test_a_new_study_is_drawn_in_the_same_layout_and_told_in_words(
    tmp_path: Path,
) -> None:
    page = make_page(tmp_path)
    pictures, words = page.study.widget.children
    before = words.value
    assert "What am I seeing?" in before
    page.job.train.click()
    wait_until(lambda: page.session.state == "idle")
    assert page.session.problem is None
    assert page.study.widget.children[0] is pictures
    assert page.study.view is not None
    assert page.study.view.study is page.session.study
    page.session.show(make_study(4, 40))
    assert words.value != before
    # the overlaps along four classes and in the span, those of shuffled labels beside
    assert words.value.count('scope="col"') == 4 + 4


def test_a_pinned_study_stays_behind_the_next_until_it_is_unpinned(
    tmp_path: Path,
) -> None:
    page = make_page(tmp_path)
    first, panel = page.session.study, page.study
    assert panel.view is not None
    panel.pin.click()
    assert panel.view.pinned is None  # it is not compared with itself
    assert "pinned" in panel.said.value
    page.session.show(make_study(4, 40))
    assert panel.view.pinned is first
    assert panel.said.value == ""
    assert panel.pin.description == "Unpin"
    panel.pin.click()
    assert panel.view.pinned is None
    assert page.session.problem is None


def test_an_earlier_epoch_is_pinned_and_seen_behind_the_last_one(
    tmp_path: Path,
) -> None:
    page = make_page(tmp_path, num_moments=2)
    study, panel = page.session.study, page.study
    assert study is not None
    assert panel.view is not None
    panel.view.state.moment = 1
    panel.pin.click()
    assert panel.view.pinned is page.session.pinned is study.moments[1]
    assert panel.said.value == ""
    assert panel.view.state.moment == 1
    panel.view.state.moment = -1
    (said,) = [m.text for m in panel.view.layout.references() if m.name == "pinned"]
    assert "· 1 epoch ·" in said
    assert page.session.pinned_preset == ""  # the link could not restore it
    assert page.session.problem is None


def test_a_convention_that_was_not_measured_is_said_and_the_picture_stays(
    tmp_path: Path,
) -> None:
    page = make_page(tmp_path, weightings=("icml",))
    page.measuring.weighting.value = "slide"
    assert "contains icml but not slide" in page.problem.text.value
    assert page.study.view is not None
    assert page.study.view.weighting == "icml"
    page.measuring.weighting.value = "icml"
    page.job.train.click()
    wait_until(lambda: page.session.state == "idle")
    assert page.session.problem is None


def test_a_page_without_a_study_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.page.presets.Preset.file", "missing.study")
    session = Session(folder=tmp_path, worker=FakeWork())
    page = Workbench(session)
    assert "press Train" in page.study.words.value
    assert "missing.study" in page.problem.text.value


def test_the_shipped_example_is_what_opens(tmp_path: Path) -> None:
    page = Workbench(Session(folder=tmp_path, worker=FakeWork()))
    study = page.session.study
    assert study is not None
    assert study.run["data"] == "digits"
    assert page.session.is_example
    assert page.session.problem is None


def test_show_displays_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[w.Widget] = []
    monkeypatch.setattr("workbench.ui.app.display", shown.append)
    page = make_page(tmp_path)
    page.show()
    assert shown == [page.widget]


@pytest.mark.parametrize("host", ["JupyterLab", "Voila"])
def test_a_link_is_offered_only_where_it_leads_to_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr("workbench.ui.app.display", lambda shown: None)
    monkeypatch.delenv("VOILA_PREHEAT", raising=False)
    if host == "Voila":
        monkeypatch.setenv("VOILA_PREHEAT", "False")
    page = make_page(tmp_path)
    page.show()
    hidden = page.drawer.toggles["share"].layout.display == "none"
    assert hidden == (host == "JupyterLab")


def test_the_style_holds_the_colours_of_the_theme(tmp_path: Path) -> None:
    style = make_page(tmp_path).widget.children[0].value
    assert "--wb-accent:#" in style
    assert "</style>" in style
    used = {part.split(")")[0].split(",")[0] for part in style.split("var(")[1:]}
    given = {part.split(":")[0].strip() for part in style.replace("{", ";").split(";")}
    assert {name for name in used if name.startswith("--wb-")} <= given


def test_the_page_is_built_without_torch() -> None:
    code = (
        "import sys\n"
        "from workbench import Workbench\n"
        "page = Workbench()\n"
        "assert page.session.study is not None, page.session.problem\n"
        "heavy = {'torch', 'torchvision', 'umap', 'sklearn', 'numba'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("said", ["0", "1"])
def test_a_hub_can_say_by_its_environment_that_no_process_is_kept(
    monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    words: list[str] = []
    monkeypatch.setattr(
        "workbench.jobs.remote.WorkerProcess._tell",
        lambda self, word: words.append(word),
    )
    monkeypatch.setenv("WORKBENCH_WARM_UP", said)
    Workbench().settings.seed.value = 3
    assert words == (["warm"] if said == "1" else [])
