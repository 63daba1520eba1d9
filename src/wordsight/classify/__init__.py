"""Zero-shot classification: which of some labels, put into words, an image fits best.

Method: CLIP's (Radford et al. 2021, "Learning Transferable Visual Models From Natural Language
Supervision", section 3.1): the cosines between the image and one text per label, times the
model's own scale, through a softmax. An ensemble of templates is the normalised mean of the
normalised text vectors (section 3.1.4).
"""

from __future__ import annotations

from wordsight.classify.classifier import (
    OWN_SHARE,
    Candidate,
    Classification,
    Classifier,
    classify,
    encode_items,
    fit_on,
    needed_evidence,
)
from wordsight.classify.labels import (
    DEFAULT_TEMPLATE,
    ENSEMBLE,
    LABEL_SETS,
    check_template,
    label_vectors,
    prompts,
    read_labels,
)
from wordsight.classify.temperature import fit_temperature, sigmoid, softmax

__all__ = [
    "DEFAULT_TEMPLATE",
    "ENSEMBLE",
    "LABEL_SETS",
    "OWN_SHARE",
    "Candidate",
    "Classification",
    "Classifier",
    "check_template",
    "classify",
    "encode_items",
    "fit_on",
    "fit_temperature",
    "label_vectors",
    "needed_evidence",
    "prompts",
    "read_labels",
    "sigmoid",
    "softmax",
]
