"""The bank's own rules, as its head comment states them."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from wordsight.bank import bank_hash, bank_phrases, kind_groups, neutral_phrases, with_article

# Heads and words of the things that libraries are often about; whole words, singular or plural.
FORBIDDEN = re.compile(
    r"\b(airplane|plane|aircraft|jet|helicopter|car|automobile|truck|lorry|van|bus|train|tram|"
    r"motorcycle|motorbike|bicycle|bike|scooter|ship|boat|canoe|kayak|ferry|yacht|vehicle|craft|"
    r"tractor|rocket|animal|bird|cat|kitten|dog|puppy|horse|pony|deer|frog|toad|fish|insect|cow|"
    r"sheep|goat|pig|bear|monkey|snake|lizard|mouse|rat|rabbit|duck|goose|hen|rooster|elephant|"
    r"harbou?r|airport|runway|stable|kennel|saddle|garage|nest|aquarium|wheel|sail|anchor)(s|es)?\b"
)


def bare(phrase: str) -> str:
    return re.sub(r"^(a|an|the) ", "", phrase.lower())


def test_there_are_some_hundred_phrases_and_none_twice() -> None:
    phrases = bank_phrases()
    assert 300 <= len(neutral_phrases()) <= 600
    assert len({bare(p) for p in phrases}) == len(phrases)


def test_a_third_of_the_bank_are_everyday_things() -> None:
    phrases, neutral = bank_phrases(), neutral_phrases()
    assert phrases[: len(neutral)] == neutral
    assert 0.25 <= 1 - len(neutral) / len(phrases) <= 0.4
    assert {"a dog", "a hat", "a pizza"} <= set(phrases) - set(neutral)


def test_phrases_are_short_plain_and_tidy() -> None:
    for phrase in bank_phrases():
        assert phrase == " ".join(phrase.split())
        assert phrase.isascii()
        assert 1 <= len(phrase.split()) <= 5
        first = phrase.split()[0]
        if first in ("a", "an") and phrase.split()[1] not in ("X-ray", "MRI", "ukulele"):
            vowel = phrase.split()[1][0].lower() in "aeiou"
            silent = phrase.split()[1] in ("heiress",)
            consonant = phrase.split()[1].startswith(("uni",))
            assert (first == "an") == ((vowel or silent) and not consonant), phrase


def test_no_animals_no_vehicles_nor_their_places() -> None:
    assert [p for p in neutral_phrases() if FORBIDDEN.search(p.lower())] == []


def test_no_two_phrases_share_a_head_noun() -> None:
    heads = Counter(bare(p).split(" of ")[0].split()[-1] for p in neutral_phrases())
    assert [head for head, count in heads.items() if count > 1] == []


def test_no_phrase_is_a_category_name_that_serves_as_a_test_query() -> None:
    data = os.environ.get("WORDSIGHT_DATA")
    if not data:
        pytest.skip("WORDSIGHT_DATA (a folder with clip-vectors/) is not set")
    folder = Path(data) / "clip-vectors"
    lvis = json.loads((folder / "lvis_names.json").read_text())["names"]
    coco = json.loads((folder / "coco_names.json").read_text())["names"]
    names = {re.sub(r"_?\(.*", "", n).replace("_", " ").lower() for n in lvis + coco}
    taken = {p for p in map(bare, neutral_phrases()) if p in names or p.removesuffix("s") in names}
    assert taken == set()


def test_the_hash_names_the_bank() -> None:
    assert re.fullmatch(r"[0-9a-f]{16}", bank_hash())


def test_kinds_are_plain_nouns_of_one_group_each() -> None:
    words = [word for group in kind_groups() for word in group]
    assert len(words) == len(set(words)) > 100
    assert all(re.fullmatch(r"[a-z]+( [a-z]+)*", word) for word in words)
    assert all(len(group) >= 4 for group in kind_groups())


def test_no_kind_is_a_phrase_of_the_bank() -> None:
    phrases = {bare(phrase) for phrase in neutral_phrases()}
    assert [word for group in kind_groups() for word in group if word in phrases] == []


def test_no_kind_is_another_with_a_word_before_it() -> None:
    words = [word for group in kind_groups() for word in group]
    assert [a for a in words for b in words if a != b and a.endswith(f" {b}")] == []


def test_articles() -> None:
    assert with_article("egg") == "an egg"
    assert with_article("hot air balloon") == "a hot air balloon"
