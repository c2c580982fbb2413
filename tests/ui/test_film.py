"""The film without a browser: every moment in the rows and on the axes of the study."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bokeh.core.validation import check_integrity
from bokeh.document import Document
from bokeh.models import Row

from tests.studies import make_study
from workbench.study.records import Study
from workbench.ui.theme import LIGHT
from workbench.ui.views.embedding import parents_of
from workbench.ui.views.film import FilmView, build_film
from workbench.ui.views.linked import LinkedView
from workbench.ui.views.overlap import build_overlap
from workbench.ui.views.scene import make_scene
from workbench.ui.views.spectrum import SpectrumView, build_spectrum

SHAPES = {
    "exact": {},
    "density": {"exact": False},
    "2 classes": {"num_classes": 2},
    "one convention": {"weighting": "jmlr", "weightings": ("jmlr",)},
    "no Hess and no H": {"with_hess": False},
}


def film_of(**shape) -> tuple[FilmView, SpectrumView]:
    study = make_study(**{"num_gradients": 200, "num_moments": 3} | shape)
    scene = make_scene(study, LIGHT)
    spectrum = build_spectrum(scene)
    return build_film(scene, spectrum, build_overlap(scene)), spectrum


@pytest.mark.parametrize("shape", SHAPES)
def test_a_moment_has_the_rows_of_the_study_and_its_own_numbers(shape):
    study = make_study(num_gradients=200, num_moments=3, **SHAPES[shape])
    film, spectrum = film_of(**SHAPES[shape])
    assert film.stops.labels == ["0", "1", "4", "30"]
    for moment, held in zip(study.moments, film.moments, strict=True):
        for name, source in spectrum.eigenvalues.items():
            rows = held["eigenvalues"][name]["value"]
            assert len(rows) == len(source.data["value"])
            drawn = rows[np.isfinite(rows)]
            assert set(drawn) <= set(moment.spectra[name].eigenvalues)
            assert rows[0] == moment.spectra[name].eigenvalues[0]
            if name != "G":
                assert rows[-1] == moment.spectra[name].eigenvalues.min()
        for role, source in spectrum.parts.items():
            assert len(held["parts"][role]) == len(source.data["value"])
        for level, home in enumerate(held["homes"]):
            points = moment.embedding.points[moment.embedding.level == level]
            np.testing.assert_array_equal(home["x"], points[:, 0])


def test_all_moments_stand_within_one_logarithmic_axis():
    film, spectrum = film_of()
    for name in ("G", "Hess", "H", "all"):
        frames = [m["frames"][f"{name}/log"] for m in film.moments]
        wide = spectrum.frames[f"{name}/log"]["x"]
        assert all(frame["x"] == wide for frame in frames)
    for moment in film.moments:
        value = moment["eigenvalues"]["G"]["value"]
        place = np.log10(value[value > 0]) - spectrum.floor
        low, high = spectrum.frames["G/log"]["x"]
        assert ((place > low) & (place < high)).all()


def test_a_curve_is_sent_without_its_grid_and_the_grid_is_even():
    film, _ = film_of()
    for curve in film.moments[0]["curves"].values():
        sides = len(curve["spans"])
        assert sides in (1, 2)
        assert len(curve["y"]) == sides * 401
        assert all(left < right for left, right in curve["spans"])


def test_a_film_of_a_network_whose_h_is_zero_is_drawn_without_a_curve_of_h():
    """As that of every linear network."""
    study = make_study(4, 60, num_moments=2)

    def linear(moment: Study) -> Study:
        H = moment.spectra["H"]
        none = replace(H, eigenvalues=0 * H.eigenvalues, residuals=0 * H.residuals)
        return replace(moment, spectra={**moment.spectra, "H": none})

    film = linear(replace(study, moments=tuple(map(linear, study.moments))))
    scene = make_scene(film, LIGHT)
    for moment in build_film(
        scene, build_spectrum(scene), build_overlap(scene)
    ).moments:
        assert moment["curves"]["H/log"]["spans"] == []
        assert len(moment["curves"]["G/log"]["spans"]) > 0


def test_every_mark_finds_the_mark_that_it_is_averaged_into():
    study = make_study(4, 200)
    embedding = study.embedding
    parents = parents_of(embedding)
    for level, same in ((0, ("true_class", "potential_class")), (1, ("true_class",))):
        rows = np.flatnonzero(embedding.level == level)
        above = np.flatnonzero(embedding.level == level + 1)[parents[level]]
        for column in same:
            values = getattr(embedding, column)
            np.testing.assert_array_equal(values[rows], values[above])
    assert parents[2].tolist() == [0] * 4
    assert parents[3].tolist() == [-1]


def test_the_plane_holds_the_points_of_every_epoch():
    study = make_study(4, 200, num_moments=2)
    layout = LinkedView(study).layout
    (figure,) = [m for m in layout.references() if m.name == "embedding"]
    (corners,) = [r for r in figure.renderers if r.name == "corners"]
    points = np.concatenate([moment.embedding.points for moment in study.film])
    x = corners.data_source.data["x"]
    assert x[0] <= points[:, 0].min()
    assert x[1] >= points[:, 0].max()


@pytest.mark.parametrize("num_moments", [0, 2])
def test_the_rail_is_there_where_there_is_a_film(num_moments):
    view = LinkedView(make_study(4, 100, num_moments=num_moments))
    rows = [m for m in view.layout.references() if isinstance(m, Row)]
    shown = [row for row in rows if "wb-film" in row.css_classes]
    assert len(shown) == min(num_moments, 1)
    issues = check_integrity(list(view.layout.references()))
    assert (issues.error, issues.warning) == ([], [])
    document = Document()
    document.add_root(view.layout)
    Document.from_json(document.to_json())


def in_bins(moment: Study) -> Study:
    """The moment with five eigenvalues of G, and all of them by threes as a density."""
    G = moment.spectra["G"]
    bins = np.array_split(G.eigenvalues, len(G.eigenvalues) // 3)
    kept = replace(
        G,
        eigenvalues=G.eigenvalues[:5],
        residuals=G.residuals[:5],
        nodes=np.array([[values.mean() for values in bins]]),
        weights=np.array([[len(values) / G.dim for values in bins]]),
        complete=False,
    )
    return replace(moment, spectra=moment.spectra | {"G": kept})


@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("kept_in_bins", [False, True])
def test_the_density_of_a_moment_is_its_sticks_and_the_rest(scale, kept_in_bins):
    study = make_study(4, 200, num_moments=2)
    if kept_in_bins:
        study = replace(study, moments=tuple(map(in_bins, study.moments)))
    scene = make_scene(study, LIGHT)
    spectrum = build_spectrum(scene)
    held = build_film(scene, spectrum, build_overlap(scene)).moments[0]
    curve, frame = held["curves"][f"G/{scale}"], held["frames"][f"G/{scale}"]
    (left, right) = curve["spans"][-1]
    x = np.linspace(left, right, len(curve["rest"]) - 1)
    value = held["eigenvalues"]["G"]["value"]
    value = value[np.isfinite(value)]
    place = value if scale == "linear" else np.log10(value) - spectrum.floor
    z = (x[:, None] - place) / frame["width"]
    bumps = frame["bump"] * np.exp(-0.5 * z**2).sum(axis=1)
    whole = np.log10(np.maximum(curve["rest"][:-1] + bumps, frame["lowest"]))
    if not kept_in_bins:
        np.testing.assert_allclose(whole, curve["y"][:-1], atol=2e-4)
        return
    # In a bin each eigenvalue is drawn a little off; how many there are is the same.
    many = [np.trapezoid(y, x) for y in (10**whole, 10.0 ** curve["y"][:-1])]
    # One is two percent, and a smoothing narrower than a bin leaves some of its shift.
    assert many[0] == pytest.approx(many[1], rel=0.03)
    assert curve["rest"][:-1].min() >= 0


def test_a_density_that_was_estimated_has_no_rest():
    for curve in film_of(exact=False)[0].moments[0]["curves"].values():
        assert "rest" not in curve
