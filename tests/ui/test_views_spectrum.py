"""The spectrum without a browser: what is drawn is what was measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.studies import make_study
from tests.views import data, find, told
from workbench.study.convention import CONVENTIONS
from workbench.ui.theme import LIGHT
from workbench.ui.views.axis import position
from workbench.ui.views.controls import build_controls
from workbench.ui.views.linked import LinkedView
from workbench.ui.views.scene import make_scene
from workbench.ui.views.spectrum import build_spectrum, describe_spectrum
from workbench.ui.views.words import percent


@pytest.mark.parametrize("exact", [True, False])
def test_the_sticks_are_the_leading_eigenvalues_with_their_residuals(exact):
    study = make_study(exact=exact)
    sticks = data(LinkedView(study), "eigenvalues G")
    G = study.spectra["G"]
    many = len(sticks["value"])
    assert many == 12  # C, and two more to count further
    np.testing.assert_array_equal(sticks["value"], G.eigenvalues[:many])
    np.testing.assert_array_equal(sticks["residual"], G.residuals[:many])
    assert list(sticks["name"][[0, 9]]) == ["eigenvalue 1 of G", "eigenvalue 10 of G"]


@pytest.mark.parametrize("weighting", CONVENTIONS)
def test_the_orange_sticks_are_the_class_parts_eigenvalues(weighting):
    study = make_study(4, weighting=weighting)
    part = study.levels[weighting].parts[CONVENTIONS[weighting].class_part]
    drawn = data(LinkedView(study), "class part")["value"]
    np.testing.assert_array_equal(drawn, part[: len(drawn)])
    assert 3 <= len(drawn) <= 4
    assert (np.abs(part[len(drawn) :]) < 1e-9 * part[0]).all()


def test_the_knock_outs_are_those_that_were_measured():
    study = make_study()
    stored = data(LinkedView(study), "eigenvalues G")
    for name in ("subtracted", "projected"):
        np.testing.assert_array_equal(
            stored[name], getattr(study.levels["icml"], name)[: len(stored[name])]
        )


def test_both_ends_of_hess_and_h_stand_as_sticks():
    study = make_study()
    for name in ("Hess", "H"):
        stored = data(LinkedView(study), f"eigenvalues {name}")
        values = study.spectra[name].eigenvalues
        assert stored["value"].max() == values.max()
        assert stored["value"].min() == values.min() < 0
        assert not any("outlier" in text for text in stored["name"])


def test_the_curve_is_the_logarithm_of_a_density_of_total_one():
    curve = data(LinkedView(make_study()), "density")
    inner = np.isfinite(curve["x"])
    total = np.trapezoid(10 ** curve["y"][inner], curve["x"][inner])
    assert total == pytest.approx(1, abs=0.02)
    exact = curve["high"][inner] - curve["low"][inner]
    np.testing.assert_allclose(exact, 0)


def test_an_estimated_density_has_a_band_and_says_so():
    study = make_study(exact=False)
    curve = data(LinkedView(study), "density")
    inner = np.isfinite(curve["x"])
    assert (curve["high"][inner] > curve["low"][inner]).any()
    assert "stochastic Lanczos quadrature, 4 probes" in describe_spectrum(study, "G")
    assert "Exact: all 120 eigenvalues" in describe_spectrum(make_study(), "G")


def test_the_log_axis_puts_the_negative_side_apart_and_in_order():
    study = make_study()
    view = build_spectrum(make_scene(study, LIGHT))
    x = np.asarray(view.curves["H/log"].data["x"])
    left, right = x[x < 0], x[x > 0]
    assert len(left)
    assert len(right)
    assert (np.diff(left) > 0).all()
    low, high = view.frames["H/log"]["x"]
    assert low < left.min() < 0 < right.max() < high
    assert "negative" in view.frames["H/log"]["x_label"]
    assert "negative" not in view.frames["G/log"]["x_label"]


def test_the_log_axis_keeps_the_powers_of_ten():
    study = make_study()
    view = build_spectrum(make_scene(study, LIGHT))
    grid = np.asarray(view.curves["G/log"].data["x"], dtype=float) + view.floor
    values = study.spectra["G"].eigenvalues
    smallest = values[values > 1e-12 * values[0]].min()
    span = np.log10(values[0]) - np.log10(smallest)
    assert np.nanmax(grid) == pytest.approx(np.log10(values[0]) + 0.04 * span, abs=1e-4)
    assert all(float(t).is_integer() for t in view.axes["log"]["ticker"].ticks)


def test_the_rule_that_counted_the_outliers_is_told_and_typeset():
    study = replace(
        make_study(num_outliers=9), outlier_rule="drop: lambda_9 / lambda_10 = 1.3"
    )
    said = find(LinkedView(study), "rule").text
    assert said == "9 outliers of G, by this rule: drop: λ₉ / λ₁₀ = 1.3."


def test_as_many_outliers_may_be_counted_as_there_are_sticks_to_tell_them_from():
    for found in (0, 4, 9, 15):
        study = make_study(num_outliers=found)
        slider = build_controls(make_scene(study, LIGHT)).count
        assert slider.value == found
        assert slider.end == study.num_leading - 1 > found


@pytest.mark.parametrize("weighting", CONVENTIONS)
def test_each_part_of_g_has_a_switch_its_eigenvalues_and_a_sentence(weighting):
    study = make_study(4, weighting=weighting)
    view = LinkedView(study, weighting=weighting)
    levels = study.levels[weighting]
    roles, about = told(view)["parts"], told(view)["titles"]["parts"]
    assert len(find(view, "parts").labels) == len(roles)
    assert roles.pop() == "collapse"  # no part of G
    about.pop()
    assert len(roles) == len(levels.parts)
    names = (*CONVENTIONS[weighting].parts, CONVENTIONS[weighting].means_part)
    for name, role, sentence in zip(names, roles, about, strict=True):
        drawn = data(view, f"{role} part")
        np.testing.assert_array_equal(
            drawn["value"], levels.parts[name][: len(drawn["value"])]
        )
        assert percent(levels.trace[name] / levels.trace["G"]) in sentence
    assert sum(role == "class" for role in roles) == 1


@pytest.mark.parametrize("weighting", list(CONVENTIONS))
def test_what_collapse_predicts_is_drawn_beside_the_class_part(weighting):
    collapsed = make_study(5, noise=0.0)
    scene = make_scene(collapsed, LIGHT, weighting)
    parts = {part.role: part for part in scene.parts}
    np.testing.assert_allclose(
        parts["collapse"].eigenvalues, parts["class"].eigenvalues, rtol=1e-9
    )  # the one layer has collapsed: the prediction is exact
    assert parts["collapse"].color == parts["class"].color
    assert "G" in parts["collapse"].about
    varied = {p.role: p for p in make_scene(make_study(5), LIGHT, weighting).parts}
    assert varied["collapse"].eigenvalues[0] > 1.01 * varied["class"].eigenvalues[0]
    old = make_scene(make_study(5, with_last_layer=False), LIGHT, weighting)
    assert "collapse" not in {part.role for part in old.parts}


def test_of_a_part_with_thousands_of_eigenvalues_the_first_hundred_are_drawn():
    study = make_study(4)
    many = study.levels["icml"].parts | {"G2": np.linspace(9, 1, 5000)}
    levels = replace(study.levels["icml"], parts=many)
    view = LinkedView(replace(study, levels={"icml": levels}))
    assert len(data(view, "cross part")["x"]) == 100
    (said,) = [t for t in told(view)["titles"]["parts"] if "G₂" in t]
    assert "the first 100 of its 5,000 eigenvalues" in said


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_the_density_is_its_rest_and_a_bump_for_each_stick(scale):
    study = make_study()
    view = build_spectrum(make_scene(study, LIGHT))
    curve, frame = view.curves[f"G/{scale}"].data, view.frames[f"G/{scale}"]
    places = position(view.eigenvalues["G"].data["value"], scale, view.floor)
    z = (np.asarray(curve["x"])[:, None] - places) / frame["width"]
    whole = curve["rest"] + frame["bump"] * np.exp(-0.5 * z * z).sum(axis=1)
    there = np.isfinite(whole) & (whole > 2 * frame["lowest"])
    assert there.sum() > 100
    np.testing.assert_allclose(np.log10(whole[there]), curve["y"][there], atol=1e-4)


def test_an_estimated_density_stays_where_it_is():
    study = make_study(exact=False)
    view = build_spectrum(make_scene(study, LIGHT))
    assert "rest" not in view.curves["G/linear"].data


def test_all_operators_share_one_frame():
    study = make_study()
    view = build_spectrum(make_scene(study, LIGHT))
    for scale in ("linear", "log"):
        low, high = view.frames[f"all/{scale}"]["x"]
        for name in study.spectra:
            frame = view.frames[f"{name}/{scale}"]["x"]
            assert low <= frame[0] < frame[1] <= high
    labels = find(LinkedView(study), "operator").labels
    assert labels == ["G", "Hess", "H", "all"]
    assert find(LinkedView(make_study(with_hess=False)), "operator").labels == ["G"]
