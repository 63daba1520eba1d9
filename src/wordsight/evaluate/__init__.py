"""Measuring: retrieval over a library with relevance judgements, and classification."""

from __future__ import annotations

from wordsight.evaluate.classification import ClassificationReport, classification_report
from wordsight.evaluate.judgements import Judgements, load_judgements
from wordsight.evaluate.retrieval import DEFAULT_KS, Evaluation, evaluate

__all__ = [
    "DEFAULT_KS",
    "ClassificationReport",
    "Evaluation",
    "Judgements",
    "classification_report",
    "evaluate",
    "load_judgements",
]
