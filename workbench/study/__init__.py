"""A study: all that one measurement found, and what can be told of it. No torch."""

from workbench.study.records import Embedding, Levels, Study, load_study

__all__ = ["Embedding", "Levels", "Study", "load_study"]
