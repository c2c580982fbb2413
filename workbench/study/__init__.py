"""A study: all that one measurement found, and what can be told of it. No torch."""

from workbench.study.records import Embedding, LastLayer, Levels, Study, load_study

__all__ = ["Embedding", "LastLayer", "Levels", "Study", "load_study"]
