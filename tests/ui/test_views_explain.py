"""What am I seeing: the sentences say what the numbers say."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.studies import make_study
from workbench.study.convention import CONVENTIONS
from workbench.ui.views.explain import explain
from workbench.ui.views.words import count, number, percent


def with_values(study, values, **levels):
    """The study, with these leading eigenvalues of G and these levels' fields."""
    G = replace(study.spectra["G"], eigenvalues=np.array(values, dtype=float))
    changed = {w: replace(level, **levels) for w, level in study.levels.items()}
    return replace(study, spectra=study.spectra | {"G": G}, levels=changed)


@pytest.mark.parametrize(
    ("num_outliers", "said"),
    [
        (10, "10 outliers</b>, as many as the 10 classes"),
        (9, "9 outliers</b>, one fewer than the 10 classes"),
        (4, "4 outliers</b>, neither the 10 classes nor one fewer"),
        (1, "1 outlier</b>, neither"),
        (0, "No outliers were found"),
    ],
)
def test_the_count_of_outliers_is_told_beside_the_number_of_classes(num_outliers, said):
    assert said in explain(make_study(num_outliers=num_outliers))


def test_a_clear_gap_is_called_clear_and_a_narrow_one_is_not():
    study = make_study(4, num_outliers=3)
    rest = [0.9, 0.5, 0.1, 0.1, 0.1]
    assert "a clear gap" in explain(with_values(study, [9, 8, 7, *rest]))
    told = explain(with_values(study, [1.2, 1.1, 1.0, *rest]))
    assert "no clear gap" in told
    assert "1.1 times the next" in told
    for last in (1.46, 1.54):  # both are told as 1.5 times the next
        told = explain(with_values(study, [9, 8, last, 1.0, 0.9, 0.8, 0.7, 0.6]))
        assert "1.5 times the next eigenvalue: a clear gap" in told


def with_null(study, **null):
    """The study with these draws in each convention."""
    levels = {
        w: replace(level, null=replace(level.null, **null))
        for w, level in study.levels.items()
    }
    return replace(study, levels=levels)


def reaching(study, share, by_chance=None):
    """The study whose eigenvectors lie so far in the span, and in the shuffled one."""
    many = len(study.levels["icml"].overlap)
    values = study.spectra["G"].eigenvalues
    changed = with_values(study, values, overlap=np.broadcast_to(share, many))
    if by_chance is None:
        return old(changed)
    draws = np.array([[mean] * many for mean in by_chance])
    return with_null(changed, overlap=draws)


def old(study):
    """As it was measured before there was a null."""
    levels = {w: replace(level, null=None) for w, level in study.levels.items()}
    return replace(study, levels=levels, random=None, shared=np.empty(0), walk=None)


def test_without_a_null_the_share_is_told_and_no_more_than_that_is_claimed():
    for share, verdict in (
        (0.97, "the class means hold where they point"),
        (0.7, "hold part of where they point"),
        (0.2, "do not hold"),
    ):
        told = explain(reaching(make_study(), share))
        assert f"{100 * share:.0f}\u00a0%" in told
        assert verdict in told
        assert "shuffled labels were not tried" in told
        assert "this study is older than that" in told
        assert "explain" not in told


@pytest.mark.parametrize(
    ("share", "draws", "verdict"),
    [
        (0.96, (0.55, 0.56, 0.57), "the true classes explain nearly all that"),
        (0.99, (0.95, 0.955, 0.96), "the true classes explain much of what"),
        (0.95, (0.92, 0.93, 0.94), "explain little more than shuffled ones"),
        (0.95, (0.90, 0.94, 0.98), "shuffled labels reach as much, so this is no sign"),
        (0.78, (0.95, 0.96, 0.97), "shuffled labels reach more, so the classes do not"),
    ],
)
def test_the_verdict_is_on_the_excess_over_shuffled_labels(share, draws, verdict):
    told = explain(reaching(make_study(), share, draws))
    assert verdict in told
    assert f"with shuffled labels {percent(np.mean(draws))} ± " in told
    assert "not tried" not in told
    verdicts = ("nearly all", "much of what", "little more", "as much", "reach more")
    directions = told[told.index("Directions") : told.index("Sizes")]
    assert sum(word in directions for word in verdicts) == 1


def test_an_average_does_not_hide_two_groups():
    study = make_study(10, num_outliers=11)
    share = np.array([0.97, 1.0, 0.98, 0.99, 0.02, *[0.99] * 5, 0.03, *[0.5] * 9])
    told = explain(reaching(study, share, (0.5, 0.52, 0.54)))
    assert (
        "9 of the first 11 eigenvectors of G lie 97 to 100\u00a0% in the span" in told
    )
    two = "2 of the first 11 eigenvectors of G (number 5, 11) lie 2.0 to 3.0\u00a0% in"
    assert two in told
    assert "the true classes explain nearly all" in told
    assert "shuffled labels reach more" in told  # of the two


def test_a_size_that_shuffled_labels_reach_is_no_sign_of_the_classes():
    study = make_study()
    part = study.levels["icml"].parts["G1"]
    told = explain(
        with_null(study, class_part=np.array([part * x for x in (0.9, 1, 1.1)]))
    )
    assert "Sizes:" in told
    assert "shuffled labels reach as much, so this is no sign of the classes" in told
    told = explain(with_null(study, class_part=np.array([0.01 * part, 0.011 * part])))
    assert "shuffled labels reach" not in told[told.index("Sizes") :]


def test_outliers_that_go_by_chance_as_well_are_no_sign_of_the_classes():
    study = make_study(4, num_outliers=3)
    values = [9, 8, 7, 1, 1, 1, 1, 1]
    stays, goes = np.array([8.9, 7.9, 6.9, 1.0]), np.array([1.0, 0.9, 0.9, 0.8])
    study = with_values(study, values, subtracted=goes, projected=goes)
    by_chance = {"subtracted": np.array([stays, stays]), "projected": [goes, goes]}
    by_chance["projected"] = np.array(by_chance["projected"])
    study = replace(study, random=replace(study.random, projected=np.array([stays])))
    told = explain(with_null(study, **by_chance))
    assert "0 of 3 (without the class part) and 3 of 3 (without the directions)" in told
    assert "without 4 random combinations of the gradients, 0 of 3 do" in told
    assert "to disappear without the directions is no sign of the classes" in told
    none = {name: np.array([stays, stays]) for name in by_chance}
    told = explain(with_null(study, **none))
    assert "no sign" not in told[told.index("Knock-out") : told.index("Hess beside")]
    random = replace(study.random, projected=np.array([goes]))
    told = explain(with_null(replace(study, random=random), **none))
    assert "to disappear without the directions is no sign of the classes" in told


def test_how_far_hess_is_from_g_is_always_told():
    study = make_study()
    told = explain(study)
    first = {name: one.eigenvalues[0] for name, one in study.spectra.items()}
    assert f"its largest eigenvalue is {number(first['Hess'])}, G's " in told
    assert f"G's {number(first['G'])}" in told
    assert "so G stands for the Hessian here" in told
    hess = study.spectra["Hess"]
    far = replace(hess, eigenvalues=2.1 * hess.eigenvalues, trace=5 * hess.trace)
    spectra = study.spectra | {"Hess": far}
    told = explain(replace(study, spectra=spectra))
    share = number(study.spectra["G"].trace / far.trace)
    assert f"G has {share} times its trace" in told
    assert "what is true of G need not be true of the Hessian here" in told
    turned = replace(study, shared=np.array([0.99, 0.98, 0.02, 0.97]))
    told = explain(turned)
    assert "1 of the first 4 eigenvectors of G (number 3) lies 2.0\u00a0% in" in told
    assert "need not be true of the Hessian" in told
    assert "Hess beside G" not in explain(make_study(with_hess=False))
    assert "Hess beside G" in explain(old(study))


def test_the_size_of_the_class_part_is_told_in_each_convention_there_is():
    told = explain(make_study())
    assert [w in told for w in ("<i>slide</i>", "<i>icml</i>", "<i>jmlr</i>")] == [
        True
    ] * 3
    alone = explain(make_study(weightings=("icml",)))
    assert "<i>icml</i>" in alone
    assert "jmlr" not in alone


def test_the_words_are_about_the_convention_that_is_shown():
    study = make_study(4, num_outliers=3)
    own = study.spectra["G"].eigenvalues
    levels = {}
    for name, share in {"slide": 0.1, "icml": 0.5, "jmlr": 0.9}.items():
        level = study.levels[name]
        parts = level.parts | {
            CONVENTIONS[name].class_part: share * own[: study.num_classes]
        }
        levels[name] = replace(level, parts=parts)
    study = old(replace(study, levels=levels))
    for name, share, verdict in (
        ("slide", "10", "<b>most"),
        ("icml", "50", "it accounts for much"),
        ("jmlr", "90", "it accounts for nearly"),
    ):
        verdict = f"are {share}\u00a0% as large as G's (<i>{name}</i>); so {verdict}"
        told = explain(study, name)
        assert verdict in told
        assert f"without the class part ({name})" in told
    assert explain(study) == explain(study, "icml")


def test_outliers_that_stay_after_the_knock_out_are_said_to_stay():
    study = make_study(4, num_outliers=3)
    values = [9, 8, 7, 1, 1, 1, 1, 1]
    stays, goes = np.array([8.9, 7.9, 6.9, 1.0]), np.array([1.0, 0.9, 0.9, 0.8])
    told = explain(with_values(study, values, subtracted=stays, projected=goes))
    assert "<b>all 3 outliers stay</b>" in told
    assert "<b>all 3 outliers disappear</b>" in told
    few = with_values(study, values, subtracted=stays[:2], projected=goes[:2])
    assert "at least 2 of 3 outliers stay</b> (2 eigenvalues were measured)" in (
        explain(few)
    )
    assert "<b>all 3 outliers disappear</b>" in explain(few)  # below is the rest
    unsure = {"subtracted": np.array([0.1, 6.0, 0.1, 0.1])}
    told = explain(
        with_values(study, values, subtracted=stays, projected=goes, residuals=unsure)
    )
    assert "2 to 3 outliers stay, within the error" not in told
    assert "2 to 3 of 3 outliers stay, within the error" in told
    half = np.array([8.9, 1.0, 0.9, 0.8])
    told = explain(with_values(study, values, subtracted=half, projected=goes))
    assert "2 of 3 outliers disappear" in told


def test_an_untrained_network_is_warned_about_and_a_trained_one_is_not():
    assert "has not fitted its data" in explain(make_study(signal=0.1))
    trained = make_study()
    run = trained.run | {"train_loss": 0.01, "train_accuracy": 0.999}
    assert "has not fitted" not in explain(replace(trained, run=run))
    low = trained.run | {"train_loss": 0.01, "train_accuracy": 0.4}
    assert "accuracy 40\u00a0%" in explain(replace(trained, run=low))


def test_an_uncounted_study_is_not_said_to_have_no_outliers():
    rule = "not counted: the rule needs the first 107 eigenvalues of G, but only 30"
    told = explain(replace(make_study(num_outliers=0), outlier_rule=rule))
    assert "The outliers were not counted" in told
    assert "No outliers" not in told


def test_held_out_data_are_named_and_not_judged_as_training_data():
    study = make_study(signal=0.1)
    run = {k: v for k, v in study.run.items() if not k.startswith("train_")}
    run |= {"held_out": True, "data": "<b>test</b>", "loss": 2.0, "accuracy": 0.3}
    told = explain(replace(study, run=run))
    assert "measured on &lt;b&gt;test&lt;/b&gt;, which the network was not" in told
    assert "Loss 2.00, accuracy 30\u00a0% there" in told
    assert "has not fitted" not in told


def test_traces_are_told_with_their_error():
    study = make_study(exact=False)
    told = explain(study)
    for name, spectrum in study.spectra.items():
        assert f"{name} {number(spectrum.trace)} ± {number(spectrum.trace_error)}" in (
            told
        )
    assert f"G {number(make_study().spectra['G'].trace)}, exactly" in (
        explain(make_study())
    )


def test_a_diverged_loss_is_warned_about():
    study = make_study()
    run = study.run | {"train_loss": float("nan")}
    assert "has not fitted" in explain(replace(study, run=run))


def test_the_rule_is_written_as_one_writes_eigenvalues():
    rule = "sharpest drop: lambda_9 / lambda_10 = 2.19"
    told = explain(replace(make_study(num_outliers=9), outlier_rule=rule))
    assert "rule: sharpest drop: λ₉ / λ₁₀ = 2.19" in told
    assert "lambda" not in told


def test_what_a_file_says_is_escaped():
    study = replace(make_study(), outlier_rule="<script>alert(1)</script>")
    assert "<script>" not in explain(study)


def test_what_was_estimated_or_not_measured_is_told_and_what_is_exact_is_not():
    assert "Measured:" not in explain(make_study())
    told = explain(make_study(exact=False))
    assert "are estimates, each within" in told
    assert "an estimated density" in told
    assert "Hess and H were not measured" in explain(make_study(with_hess=False))
    study = make_study(exact=False)
    binned = {"nodes": study.spectra["G"].nodes[:1], "trace_error": 0.0}
    binned["weights"] = study.spectra["G"].weights[:1]
    G = replace(study.spectra["G"], **binned)  # as an earlier epoch is kept
    told = explain(replace(study, spectra=study.spectra | {"G": G}))
    assert "Measured:" not in told
    kept = {name: value for name, value in study.spectra.items() if name != "H"}
    G = replace(kept["G"], nodes=np.empty((0, 0)), weights=np.empty((0, 0)))
    told = explain(replace(study, spectra=kept | {"G": G}))
    assert "H was not measured" in told
    assert "the bulk was not measured" in told


def test_the_largest_residual_is_told_beside_its_eigenvalue():
    study = make_study(4, num_outliers=3, exact=False)
    G = study.spectra["G"]
    residuals = np.full_like(G.residuals, 1e-9)
    residuals[1] = 0.25 * G.eigenvalues[1]
    told = explain(
        replace(study, spectra=study.spectra | {"G": replace(G, residuals=residuals)})
    )
    assert "each within 25\u00a0% of a true one" in told


def test_few_or_many_classes_are_said_to_be_hard_to_read():
    assert "<b>Two classes</b>" in explain(make_study(2))
    assert "<b>100 classes</b>" in explain(make_study(100))
    for text in ("Two classes", "more than there are colours"):
        assert text not in explain(make_study(10))


@pytest.mark.parametrize("num_classes", [2, 100])
@pytest.mark.parametrize("exact", [True, False])
def test_studies_of_every_size_are_explained(num_classes, exact):
    assert explain(make_study(num_classes, exact=exact)).count("<p>") >= 3


# The same cases hold what the browser writes: javascript/formats.test.js.
FORMATS = json.loads((ROOT / "tests" / "formats.json").read_text("utf-8"))


@pytest.mark.parametrize(("share", "said"), FORMATS["percent"])
def test_a_share_is_rounded_but_never_to_all_or_nothing(share, said):
    assert percent(share) == said.replace(" %", "\u00a0%")
    assert percent(float("nan")) == "–"


@pytest.mark.parametrize(("value", "said"), FORMATS["number"])
def test_a_number_is_written_with_three_digits(value, said):
    assert number(value) == said
    assert number(float("nan")) == "not a number"


def test_a_count_takes_its_noun_along():
    assert count(1, "class", "classes") == "1 class"
    assert count(1500, "gradient") == "1,500 gradients"
