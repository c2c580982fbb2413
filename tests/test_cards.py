"""Records say in a few lines what is in them, as text and as HTML."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest
import torch

import workbench as wb
from tests.studies import make_study
from workbench.study.card import Described


@cache
def records() -> dict[str, tuple[Any, tuple[str, ...]]]:
    """Each kind, with what it has to say."""
    data = wb.load_data("digits", per_class=4)
    checkpoint = wb.train(
        wb.build_model("linear", data),
        data,
        wb.TrainConfig(epochs=2, snapshots=(0, 1), device="cpu"),
    )
    gram = wb.gram(checkpoint)
    exact = wb.exact_spectrum(checkpoint)
    matrix = torch.diag(torch.arange(1.0, 41.0))
    pairs = wb.top_eigenpairs(matrix, 2)
    density = wb.spectral_density(matrix, deflate=pairs)
    both = wb.top_eigenpairs(matrix, 2, which="BE", k_low=1)
    film = make_study(4, 60, num_moments=2, exact=False)
    assert film.last_layer is not None
    return {
        "Dataset": (
            data,
            ("Dataset digits, train", "40 of 1,797", "1 x 8 x 8", "10: "),
        ),
        "Checkpoint": (
            checkpoint,
            (
                "Checkpoint of linear on digits",
                "2 of 2 epochs, finished",
                f"loss {checkpoint.run['train_loss']:.4g}",
                "650 parameters",
                "of epochs 0, 1",
            ),
        ),
        "Gram": (
            gram,
            (
                "360 gradients",
                "40 examples of 10 classes",
                "360 x 360",
                f"trace of G  {float(exact.values.sum()):.4g}",
            ),
        ),
        "ExactSpectrum": (
            exact,
            ("All 650 eigenvalues of G", f"{exact.values[0]:.4g}, ", "290 by rank"),
        ),
        "ClassMeans": (
            wb.class_means(checkpoint, level="ck"),
            ("by icml, level 'ck'", "10 x 10 x 650", "delta_G", "the parameters"),
        ),
        "a sketch": (
            wb.class_means(checkpoint, sketch=50),
            ("sketched, inner", "20.0%"),
        ),
        "EigenPairs": (
            pairs,
            ("2 eigenpairs of a matrix of order 40", "40, 39", "conv"),
        ),
        "both ends": (both, ("order 40, 2 largest and 1 smallest", "40, 39, 1")),
        "SpectralDensity": (
            density,
            (
                "order 40",
                "24 for each of 4 probes",
                "deflated  40, 39",
                f"{density.trace:.4g} ± {density.trace_error:.0f}",
            ),
        ),
        "Study": (
            film,
            (
                "Study of linear on synthetic, epoch 30",
                "48 parameters",
                f"largest {film.spectra['G'].eigenvalues[0]:.4g}",
                f"± {film.spectra['G'].trace_error:.2g}",
                "slide, icml, jmlr",
                "0, 1, 30",
                "12 features, mean cosine of classes",
            ),
        ),
        "LastLayer": (
            film.last_layer,
            (
                "Last layer linear",
                f"mean cosine of classes {film.last_layer.cosine:.4g}",
                f"NC1 {film.last_layer.neural_collapse['NC1']:.4g}",
                f"trace {film.last_layer.spectrum.trace:.4g}",
            ),
        ),
    }


class Texts(HTMLParser):
    """The texts and the tags of some HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.said.append(data)


KINDS = (
    "Dataset",
    "Checkpoint",
    "Gram",
    "ExactSpectrum",
    "ClassMeans",
    "a sketch",
    "EigenPairs",
    "both ends",
    "SpectralDensity",
    "Study",
    "LastLayer",
)


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_is_in_it(kind: str) -> None:
    record, wanted = records()[kind]
    text = repr(record)
    assert [words for words in wanted if words not in text] == []
    assert 3 <= len(text.splitlines()) <= 16
    assert max(map(len, text.splitlines())) < 200
    title, *said = Texts(record._repr_html_()).said
    first, *lines = text.splitlines()
    assert title == first
    told = [part for line in lines for part in line.strip().split("  ", 1)]
    assert said == [part.strip() for part in told]


def test_every_kind_of_record_that_is_described_is_tried() -> None:
    def below(kind: type) -> set[str]:
        return {kind.__name__}.union(*map(below, kind.__subclasses__()))

    tried = {type(record).__name__ for record, _ in records().values()}
    assert tried == below(Described) - {"Described"}
    assert set(KINDS) == set(records())


def test_names_in_a_record_are_text_in_html() -> None:
    nasty = "<script>alert(1)</script>"
    study = make_study(3, 40, class_names=(nasty, "b", "c"))
    study = replace(study, run={**study.run, "model": nasty}, outlier_rule=nasty)
    html = Texts(study._repr_html_())
    assert html.tags == {"div", "strong", "table", "tr", "th", "td"}
    assert nasty in " ".join(html.said)


def test_a_study_with_nothing_known_of_its_run_has_a_card() -> None:
    study = replace(make_study(3, 40), run={"epochs": None})
    assert repr(study).startswith("Study of a network on data\n")
