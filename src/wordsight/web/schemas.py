"""The shapes of the API's answers; those the command line has too are the same."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

Box = tuple[float, float, float, float]


class View(BaseModel):
    """What won: the whole image, or a crop with its box (x0, y0, x1, y1 in original pixels)."""

    kind: str
    box: Box | None
    label: str | None


class Hit(BaseModel):
    """One ranked image."""

    rank: int
    id: str
    path: str
    score: float
    z: float | None
    relevant: bool = Field(description="Whether it counts as showing what was asked for.")
    probability: float | None = Field(description="How probable that is.")
    label: str | None
    width: int
    height: int
    line: str | None = Field(None, description="The line of text that was asked for.")
    line_box: list[float] | None = Field(None, description="Where it is, in original pixels.")
    metadata: dict[str, Any] = Field(
        description="What is known of the file: taken, camera, lens, orientation, media, keywords; "
        "never where it was taken."
    )
    view: View


class Count(BaseModel):
    """About how many images of the library are relevant."""

    estimate: int = Field(description="As many as make the expected F1 the highest.")
    low: int = Field(description="Those that are at least 95 % probable.")
    high: int = Field(description="Those that are at least 5 % probable.")


class SearchResult(BaseModel):
    """What ``wordsight search --json`` prints."""

    query: str
    match: bool
    verdict: Literal["match", "unsure", "none"] = Field(
        description="Hits are given for a match and, the closest ones, where it is not sure; for "
        '"none" only where `anyway` was asked for.'
    )
    answer: Literal["match", "not sure", "no match"] = Field(
        description="The verdict in words, as everywhere that people and agents read it."
    )
    certainty: float | None = Field(
        description="How probable it is, at even odds, that the library holds what was asked for: "
        "at most so for words, at least so for an image."
    )
    threshold: float | None
    p_value: float | None
    false_accept: float | None
    belonging: float | None = Field(
        description="For an image as a query: the share of the library's own images that are no "
        "nearer to the others; no match at false_accept or less."
    )
    posterior: float | None
    min_score: float | None
    top_score: float | None
    top_z: float | None
    explanation: str
    rivals: bool = Field(
        description="True where the scores alone would make a better verdict, but the nearest "
        "images look more like another kind of thing."
    )
    rival: str | None = Field(
        description="Where rivals is true: the kind that they look most like."
    )
    model: str
    count: Count | None = Field(description="None where it cannot be told.")
    partial: bool = Field(description="True where slices of a fleet were away.")
    answered: float = Field(description="The share of the library's views that were looked at.")
    hits: list[Hit]
    notices: list[str]
    timings_ms: dict[str, float]


class SearchResults(BaseModel):
    """One result for each query, in their order."""

    results: list[SearchResult]


class Candidate(BaseModel):
    """A label with the confidence that it fits."""

    label: str
    confidence: float


class ClassifyResult(BaseModel):
    """What ``wordsight classify --json`` prints for an image, less its path."""

    top: list[Candidate]
    none_of_these: bool
    evidence: float
    needed: float


class Wordings(BaseModel):
    """Label sets by name, the usual template, and templates that make an ensemble."""

    label_sets: list[str]
    template: str
    ensemble: list[str]


class RegionView(View):
    """A view of an image; ``score`` is the detector's."""

    score: float | None


class ImageDetails(BaseModel):
    """An image and its views."""

    id: str
    path: str
    label: str | None
    width: int
    height: int
    bytes: int
    crops: str
    metadata: dict[str, Any] = Field(description="As that of hits: never where it was taken.")
    taken: dict[str, str] = Field(description="Settings of the camera, as the file says them.")
    location: tuple[float, float] | None = Field(
        description="Latitude and longitude in degrees, if they were asked for and are known."
    )
    views: list[RegionView]


class ModelInfo(BaseModel):
    """The model that a library was made with."""

    name: str
    source: str
    hash: str
    dim: int
    preprocessing: str


class LabelCount(BaseModel):
    """A label and how many images have it."""

    label: str
    images: int


class Found(BaseModel):
    """One image of the library; ``metadata`` as that of hits."""

    id: str
    path: str
    label: str | None
    width: int
    height: int
    metadata: dict[str, Any]


class Images(BaseModel):
    """Images, and how many there are in all."""

    total: int
    images: list[Found]


class Value(BaseModel):
    """A value that images have, and how many have it."""

    value: str
    images: int


class Facets(BaseModel):
    """What images may be filtered by."""

    labels: list[Value]
    cameras: list[Value]
    folders: list[Value]
    orientations: list[Value]
    years: list[Value]
    located: int = Field(description="Images that say where they were taken.")


class Suggestion(BaseModel):
    """Words that have an answer here, and the image that answers them best."""

    text: str
    image: str


class Suggestions(BaseModel):
    """Words to begin with."""

    suggestions: list[Suggestion]


class Upload(BaseModel):
    """An image that is kept for a day, to be searched with: ``like=ID``."""

    id: str
    width: int
    height: int


class Selection(BaseModel):
    """A selection that is kept for a day."""

    id: str


class Skipped(BaseModel):
    """A file that was left out, and why."""

    path: str
    reason: str


class LibraryInfo(BaseModel):
    """What ``wordsight info --json`` prints, with labels and crops counted."""

    library: str
    images: int
    views: int
    model: ModelInfo
    bytes: int
    format: int
    made_with: str | None
    created: str | None
    table_version: int
    exclude: list[str] = Field(description="Patterns of what is left out when it is indexed.")
    crops: dict[str, int] = Field(description="How many images have crops of which proposer.")
    videos: int
    frames: int = Field(description="How many of the images are frames of videos.")
    texts: int | None = Field(
        description="In how many images text was looked for; None where it never was."
    )
    labels: list[LabelCount]
    skipped: list[Skipped] = Field(description="Files that were left out, the first 1000.")


class Folder(BaseModel):
    """A folder that may be indexed."""

    id: str
    path: str


class Folders(BaseModel):
    """The folders that the server's owner has allowed."""

    folders: list[Folder]


class Job(BaseModel):
    """An indexing run; ``report`` is what ``wordsight index --json`` prints."""

    id: str
    folder: str
    path: str
    crops: str | None
    state: Literal["running", "done", "cancelled", "failed"]
    done: int
    total: int
    seconds: float
    report: dict[str, Any] | None
    error: str | None


class JobList(BaseModel):
    """The jobs since the server was started, newest first."""

    jobs: list[Job]


class EvaluationResult(BaseModel, extra="allow"):
    """What ``wordsight evaluate --json`` prints, by the library's own labels."""

    methods: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, tuple[float, float]]]
    queries: int
    gallery: int
    missing: int
    table_version: int = Field(description="The version of the library that was measured.")


class DuplicateImage(BaseModel):
    """One image of a group of near-duplicates."""

    id: str
    path: str
    width: int
    height: int
    bytes: int
    sharpness: float
    taken: str | None


class DuplicateGroup(BaseModel):
    """Images that show the same, the one that is suggested to be kept first."""

    keep: str
    likeness: float
    images: list[DuplicateImage]


class FoundDuplicates(BaseModel, extra="allow"):
    """What ``wordsight duplicates --json`` prints."""

    groups: list[DuplicateGroup]
    images: int
    compared: int
    cut_off: float
    false_merge: float
    expected: float = Field(description="The share of images that is grouped wrongly, foretold.")
    skipped: list[Skipped]
    table_version: int = Field(description="The version of the library that was looked through.")


class Duplicates(BaseModel):
    """A search for near-duplicates: how far it is, and what it found."""

    state: Literal["none", "reading", "comparing", "done", "failed"]
    done: int
    total: int
    error: str | None
    found: FoundDuplicates | None


class Health(BaseModel):
    """The server is up, or ready."""

    status: str
    version: str


class ProblemDetails(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
