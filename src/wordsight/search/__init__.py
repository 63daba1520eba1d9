"""Queries: text, image, combinations of both; fusion, background normalisation, No match."""

from wordsight.search.decision import make_kinds
from wordsight.search.query import Query, Term, as_query, encode, parse_query
from wordsight.search.ranking import RankBy, top
from wordsight.search.result import ANSWERS, Hit, Result, View
from wordsight.search.searching import SearchOptions, Sort, nearest, search

__all__ = [
    "ANSWERS",
    "Hit",
    "Query",
    "RankBy",
    "Result",
    "SearchOptions",
    "Sort",
    "Term",
    "View",
    "as_query",
    "encode",
    "make_kinds",
    "nearest",
    "parse_query",
    "search",
    "top",
]
