"""Symbols, numbers and sentences that several views share.

Text that changes in the browser is formatted there, by ``browser/formats.js``, in the
same way: ``tests/formats.json`` tests that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from workbench.study.records import Study

DELTA_ICK = "δ<sub>i,c,c′</sub>"
G_ICK = "g<sub>i,c,c′</sub>"  # without the root of p: the JMLR paper's gradients
DELTA_CK = "δ<sub>c,c′</sub>"
DELTA_C = "δ<sub>c</sub>"
DELTA_G = "δ<sub>G</sub>"
DOT = "Each dot is a gradient: one image's pull on the weights, under one label."
NEEDLE = "Each needle is an eigenvalue: how much the loss curves in one direction."
QUESTION = "Why do a few curvatures tower over the rest?"  # the title of the page
METHOD_WORDS = {"umap": "UMAP", "tsne": "t-SNE", "pca": "PCA"}


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Write a number with its noun: 1 gradient, 1,500 gradients, 2 classes."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def percent(share: float) -> str:
    """Write a share: 62 %, 3.1 %, below 0.1 %; never 100 % for anything less."""
    value = 100 * share
    if not math.isfinite(value):
        return "–"
    if value == 0 or 9.95 <= value < 99.5 or value >= 99.95:
        return f"{value:.0f}\u00a0%"
    return "below 0.1\u00a0%" if value < 0.1 else f"{value:.1f}\u00a0%"


def number(value: float) -> str:
    """Write a measured number with three digits, and powers of ten in Unicode."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "not a number"
    mantissa, exponent = f"{value:.2e}".split("e")
    power = int(exponent)
    text = f"{mantissa} · 10{superscript(power)}"
    if -3 <= power < 3:
        text = f"{value:.{2 - power}f}"
    return text.replace("-", "−")


def rank(study: Study, j: int) -> str:
    """Name eigenvector j of G, counted from 0: outlier 3, or eigenvector 12."""
    return f"{'outlier' if j < study.num_outliers else 'eigenvector'} {j + 1}"


def symbol(part: str) -> str:
    """Write the name of a part of G with a subscript: G₁, G_class."""
    return f"{part[0]}<sub>{part[1:].lstrip('_')}</sub>"


def typeset(rule: str) -> str:
    """Typeset the eigenvalues in a rule's sentence: lambda_9 becomes λ₉."""
    return re.sub(r"lambda_(\d+)", lambda found: f"λ{subscript(int(found[1]))}", rule)


def subscript(index: int) -> str:
    """Write an index in subscript digits."""
    return str(index).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def superscript(exponent: int) -> str:
    """Write an exponent in superscript digits."""
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def stem(study: Study) -> str:
    """Return the start of a study's file names, in plain letters: data and network."""
    run = study.run
    words = f"{run.get('data') or 'study'}-{run.get('model') or ''}".lower()
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-")[:60] or "study"


def run_in_words(run: Mapping[str, object]) -> str:
    """Describe in one line what was trained on what, as far as known."""
    words = [str(run.get("data", "")), str(run.get("model", ""))]
    if per_class := run.get("per_class"):
        words.append(f"{per_class} per class")
    used, there = run.get("num_examples"), run.get("num_available")
    if isinstance(used, int) and isinstance(there, int):
        words.append(f"{used:,} of {there:,} examples")
    some, whole = run.get("num_params"), run.get("num_network_params")
    if isinstance(some, int) and isinstance(whole, int):
        words.append(f"{some:,} of {whole:,} parameters")
    epochs = run.get("epochs")
    if isinstance(epochs, int):
        words.append(count(epochs, "epoch"))
    held_out = bool(run.get("held_out"))
    accuracy = run.get("accuracy" if held_out else "train_accuracy")
    if isinstance(accuracy, float):
        words.append(f"accuracy {accuracy:.1%}")
    if held_out:
        words.append("held-out data")
    return " · ".join(word for word in words if word)
