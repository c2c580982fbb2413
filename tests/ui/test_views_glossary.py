"""The words of the page, and where the tour points."""

from __future__ import annotations

import re

from tests.studies import make_study
from workbench.page.presets import load_example
from workbench.ui.views.explain import explain
from workbench.ui.views.glossary import GLOSSARY, explained, glossary_html
from workbench.ui.views.linked import LinkedView
from workbench.ui.views.spectrum import describe_spectrum
from workbench.ui.views.tour import STOPS


def plain(html: str) -> str:
    """The text as it is read: without tags, and without what opens on demand."""
    html = re.sub(r'<span class="wb-meaning".*?</span>', "", html)
    return re.sub(r"<[^>]*>", "", html)


def test_every_meaning_is_two_sentences() -> None:
    for word, meaning in GLOSSARY.items():
        sentences = re.split(r"(?<=[.!?]) (?=[A-Z])", meaning)
        assert len(sentences) == 2, word
        assert meaning.endswith("."), word


def test_the_first_mention_of_a_word_is_a_button_and_the_text_stays_as_it_is() -> None:
    text = "<p title='G'>The Hessian has outliers; G&#x27;s outlier is in G.</p>"
    found = explained(text)
    assert re.findall(r"popovertarget[^>]*>([^<]*)<", found) == [
        "Hessian",
        "outliers",
        "G",
    ]
    assert plain(found) == plain(text)
    assert found.startswith("<p title='G'>")


def test_what_a_page_explains_is_read_as_before_and_every_id_is_its_own() -> None:
    text = explain(make_study())
    found = explained(text) + explained(text)
    assert plain(found) == plain(text) * 2
    ids = re.findall(r' id="([^"]*)"', found)
    assert len(ids) == len(set(ids)) > 6
    assert re.findall(r'popovertarget="([^"]*)"', found) == ids


def test_the_glossary_lists_every_word() -> None:
    assert glossary_html().count("<dt>") == len(GLOSSARY) >= 12


def test_the_words_for_how_a_spectrum_was_measured_are_in_the_glossary() -> None:
    paper = load_example("paper")
    for name, words in {
        "G": ["dual", "rank"],
        "Hess": ["stochastic Lanczos quadrature", "probes", "block Krylov", "residual"],
    }.items():
        found = explained(describe_spectrum(paper, name))
        assert re.findall(r"popovertarget[^>]*>([^<]*)<", found) == words


def test_the_tour_stops_at_what_there_is() -> None:
    layout = LinkedView(make_study(3, 40)).layout
    names = {model.name for model in layout.references()}
    assert {where for where, _, _ in STOPS if where[0] != "."} <= names
    assert 6 <= len(STOPS) <= 8
