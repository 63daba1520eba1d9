"""The shapes of the API's questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

if TYPE_CHECKING:
    from wordsight.search import SearchOptions

Crops = Literal["none", "tiles", "maskrcnn"]
UPLOAD_DIGITS = 32
Place = Annotated[
    str,
    StringConstraints(
        pattern=r"^([0-9a-f]{16}(:[0-9]{1,4})?|([0-9a-f]{16}|[0-9a-f]{32})"
        r"(@[0-9]{1,6},[0-9]{1,6},[0-9]{1,6},[0-9]{1,6})?)$"
    ),
]
"""An image's id, with ``:n`` its view n (see the regions), or with ``@x0,y0,x1,y1`` a part of it in
pixels of the upright original. An id of 32 digits is that of an upload."""


class Filter(BaseModel, frozen=True, extra="forbid"):
    """Which images are looked at: those of which all of this is true."""

    label: str | None = Field(
        default=None, max_length=200, description="Only images of this label."
    )
    after: str | None = Field(
        default=None, max_length=20, description="Taken from this day, month or year on."
    )
    before: str | None = Field(default=None, max_length=20, description="Taken before it.")
    folder: str | None = Field(
        default=None, max_length=4000, description="In this folder or below, as paths begin."
    )
    camera: str | None = Field(default=None, max_length=200)
    orientation: str | None = Field(default=None, max_length=20)
    near: str | None = Field(
        default=None, max_length=60, description="Taken there: latitude,longitude,distance."
    )

    @property
    def where(self) -> str | None:
        """The filter as the library takes it, but for the label. Raises QueryError."""
        from wordsight.library import filters

        return filters.joined(
            filters.after(self.after) if self.after else None,
            filters.before(self.before) if self.before else None,
            filters.below(self.folder) if self.folder else None,
            filters.equals("camera", self.camera) if self.camera else None,
            filters.equals("orientation", self.orientation) if self.orientation else None,
            filters.near(self.near) if self.near else None,
        )


class Settings(Filter, frozen=True):
    """How images are ranked, and how many are given."""

    k: int = Field(default=20, ge=1, le=500, description="How many images.")
    skip: int = Field(default=0, ge=0, le=100_000, description="After so many better ones.")
    crops: bool = Field(default=True, description="An image counts as its best crop.")
    rank_by: Literal["auto", "score", "lift", "z"] = "auto"
    sort: Literal["score", "taken", "-taken"] = "score"
    false_accept: float = Field(
        default=0.05,
        ge=1e-9,  # far below, the threshold is infinite, which JSON cannot say
        lt=1,
        description="Share of unrelated queries that may be answered.",
    )
    anyway: bool = Field(
        default=False, description="Give the closest images also where none matches."
    )

    @property
    def settings(self) -> Settings:
        """The settings alone; searches that share them are answered together."""
        return Settings(**{name: getattr(self, name) for name in Settings.model_fields})

    @property
    def options(self) -> SearchOptions:
        """The same as :func:`wordsight.search.search` takes it."""
        return {
            "crops": self.crops,
            "rank_by": self.rank_by,
            "sort": self.sort,
            "false_accept": self.false_accept,
            "anyway": self.anyway,
            "label": self.label,
            "where": self.where,
            "skip": self.skip,
        }


class Listing(Filter, frozen=True):
    """Which images are listed without a search, and how many."""

    k: int = Field(default=100, ge=1, le=500, description="How many images.")
    skip: int = Field(default=0, ge=0, description="After so many newer ones.")

    @property
    def all_where(self) -> str | None:
        """The filter, with the label. Raises QueryError."""
        from wordsight.library import filters

        return filters.joined(filters.with_label(self.label) if self.label else None, self.where)


class Question(Settings, frozen=True):
    """A search: words, images of the library that count for or against, and settings."""

    q: str = Field(default="", max_length=1000, description="Words, or weighted terms.")
    like: list[Place] = Field(
        default=[], max_length=10, description="Images or regions to be near to."
    )
    unlike: list[Place] = Field(
        default=[], max_length=10, description="Images or regions to avoid."
    )


class SearchBatch(Settings, frozen=True):
    """Several searches by words with the same settings."""

    queries: list[Annotated[str, StringConstraints(min_length=1, max_length=1000)]] = Field(
        min_length=1, max_length=256
    )


class SelectionRequest(BaseModel):
    """Images of the library by their ids."""

    images: list[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]] = Field(
        min_length=1, max_length=1000
    )


class JobRequest(BaseModel):
    """Index a folder; without ``crops`` as the library was last indexed."""

    folder: str = Field(max_length=64)
    crops: Crops | None = None
