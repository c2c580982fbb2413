"""Does with a file whatever people do with it; what goes wrong there is a defect."""

from __future__ import annotations

import ast
import io
import json
from pathlib import Path

from bokeh.document import Document
from rich.console import Console

from workbench.cli.terminal import print_summary
from workbench.errors import WorkbenchError
from workbench.files.atomic import kind_of
from workbench.page.recipe import recipe
from workbench.study.records import Study, load_study
from workbench.study.summary import summary
from workbench.study.tables import csv_tables
from workbench.training.checkpoint import load_checkpoint
from workbench.ui.export import made_in_words, page_html
from workbench.ui.views.linked import LinkedView
from workbench.ui.views.seen import seen_html
from workbench.ui.views.words import run_in_words

CALLS = {"load_data", "build_model", "TrainConfig", "train", "at_epoch", "measure"}
CALLS |= {"MeasureSettings", "save", "float"}


def use_study(path: Path, *, much: int = 0) -> bool:
    """Open a study and show it everywhere; False where a sentence refuses it."""
    try:
        study = load_study(path)
    except WorkbenchError as error:
        check_sentence(error, path)
        return False
    show(study, much=much)
    return True


def show(study: Study, *, much: int = 0) -> None:
    """Show a study as `show`, CSV, HTML, *Code* and the page do.

    ``much``: 0 as text, 1 with the pictures, 2 as the browser gets them, 3 in all
    conventions, with a film and another study beside, and as an exported page.
    """
    found = summary(study)
    json.dumps(found, allow_nan=False)
    text = io.StringIO()
    print_summary(found, Console(file=text, width=100))
    assert "\x1b" not in text.getvalue()
    for table in csv_tables(study).values():
        table.encode()
    code = recipe(study)
    code.encode()
    check_code(code)
    run_in_words(study.run), made_in_words(study)
    for weighting in study.levels if much > 2 else [study.weighting] * (much > 0):
        seen_html(study, weighting).encode()
        view = LinkedView(study, weighting=weighting, files={"Study": "it"})
        if much > 1:
            document = Document()
            document.add_root(view.layout)
            json.dumps(document.to_json(), default=str)
            document.clear()
    if much > 2:
        page_html(study, pinned=study).encode()


def check_sentence(error: WorkbenchError, path: Path) -> None:
    """See that a refusal is one short sentence that no terminal obeys."""
    sentence = str(error).replace(str(path), "FILE")
    assert len(sentence) <= 300, sentence
    assert sentence.isprintable(), sentence


def check_code(code: str) -> None:
    """See that code is what a recipe consists of: known calls on plain values."""
    for statement in ast.parse(code).body:
        match statement:
            case ast.Import(names=[ast.alias(name="workbench", asname="wb")]):
                continue
            case ast.Assign() | ast.Expr():
                pass
            case _:
                raise AssertionError(ast.dump(statement))
        for node in ast.walk(statement):
            if isinstance(node, ast.Call):
                called = node.func
                name = called.attr if isinstance(called, ast.Attribute) else called.id  # type: ignore[attr-defined]
                assert name in CALLS, name
            assert not isinstance(
                node, (ast.Lambda, ast.BinOp, ast.JoinedStr, ast.comprehension)
            ), ast.dump(node)


def use_checkpoint(path: Path) -> bool:
    """Open a checkpoint and make its networks; False where a sentence refuses it."""
    try:
        kind_of(path)
        checkpoint = load_checkpoint(path)
        for epoch in checkpoint.snapshots:
            checkpoint.at_epoch(epoch)
        checkpoint.load_model()
    except WorkbenchError as error:
        check_sentence(error, path)
        return False
    return True
