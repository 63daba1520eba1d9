"""The public face: a library with its model and its verbs, for programs that embed wordsight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from wordsight.errors import LibraryChangedError, LibraryError, WordsightError
from wordsight.library import ModelRecord, Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from typing_extensions import Unpack

    from wordsight.duplicates import Duplicates
    from wordsight.indexing import Progress
    from wordsight.indexing.cluster import Cluster
    from wordsight.indexing.report import IndexReport
    from wordsight.models.clip import ClipModel
    from wordsight.render import Tile
    from wordsight.search import Hit, Query, Result, SearchOptions
    from wordsight.search.recordings import Moment, Moments
    from wordsight.search.text import TextReport
    from wordsight.sources import Source
    from wordsight.video.sampling import Every


class Library:
    """A searchable set of images.

    ``len(library)`` is the number of images. The model that the library was made with is loaded
    when it is first needed. Make one with :func:`create` or :func:`open`.
    """

    def __init__(self, store: Store, model: ClipModel | None = None) -> None:
        self.store = store
        self._model = model
        self._model_of = store.model.hash

    def __repr__(self) -> str:
        return f"Library({str(self.place)!r}, images={len(self)}, model={self.store.model.name!r})"

    def __len__(self) -> int:
        return len(self.store)

    @property
    def path(self) -> Path:
        """The library's directory; of one at a URL its replica on this machine."""
        return self.store.path

    @property
    def place(self) -> Path | str:
        """The library's directory or URL, as :func:`open` takes it."""
        return self.store.place

    @property
    def has_crops(self) -> bool:
        """Whether any image has crops beside its whole-image view."""
        return self.store.count_views() > len(self)

    @property
    def model(self) -> ClipModel:
        """The model of the library; loaded from where it came from when first asked for.

        So it is again once the library has another one (see :meth:`remodel`). Raises ModelError
        when it is not to be had, ModelMismatchError when what is found there is another by now.
        """
        record = self.store.model
        if self._model is None or self._model_of != record.hash:
            from wordsight.models import load_model

            model = load_model(record.source)
            self.store.check_model(model.name, model.hash)
            self._model, self._model_of = model, record.hash
        return self._model

    def index(
        self,
        paths: Sequence[str | Path] | str | Path,
        *,
        crops: str | Path | None = None,
        exclude: Sequence[str] | None = None,
        videos: bool = True,
        every: Every | None = None,
        prune: bool | Literal["force"] = False,
        recheck: bool = False,
        cluster: Cluster | str | None = None,
        progress: Progress | None = None,
    ) -> IndexReport:
        """Bring the library up to date with folders, files, ``.tar`` shards, tables or "cifar10".

        ``shards/{0000..0099}.tar`` names many; see :func:`wordsight.sources.open_source`.

        ``crops`` is "none", "tiles", "maskrcnn", a detector's name or directory; without it, as
        the library was last indexed. So it is with ``exclude``, patterns in gitignore's syntax, and
        ``every``, the seconds between frames of videos (or "keyframes").
        ``cluster`` is the address of a Ray cluster that shares the work, or "auto".
        See :func:`wordsight.indexing.index` for what is skipped, reused and reported.
        """
        from wordsight.sources import expand, open_source

        if isinstance(paths, (str, Path)):
            paths = [paths]
        sources = [open_source(one) for path in paths for one in expand(path)]
        return self.index_sources(
            sources,
            crops=crops,
            exclude=exclude,
            videos=videos,
            every=every,
            prune=prune,
            recheck=recheck,
            cluster=cluster,
            progress=progress,
        )

    def index_sources(
        self,
        sources: Sequence[Source],
        *,
        crops: str | Path | None = None,
        exclude: Sequence[str] | None = None,
        videos: bool = True,
        every: Every | None = None,
        prune: bool | Literal["force"] = False,
        recheck: bool = False,
        cluster: Cluster | str | None = None,
        progress: Progress | None = None,
    ) -> IndexReport:
        """As :meth:`index`, for sources that are open already (or of your own making)."""
        from wordsight.indexing import index
        from wordsight.indexing.cluster import Cluster

        return index(
            self.store,
            self.model,
            sources,
            crops=crops,
            exclude=exclude,
            videos=videos,
            every=every,
            prune=prune,
            recheck=recheck,
            cluster=Cluster(cluster) if isinstance(cluster, str) else cluster,
            progress=progress,
        )

    def remodel(
        self,
        model: ClipModel | str | Path = "auto",
        *,
        prune: bool | Literal["force"] = False,
        progress: Progress | None = None,
    ) -> IndexReport | None:
        """Embed all images again with another model, and search with that one from then on.

        None where the library is of this model already. For what is kept, and the errors, see
        :func:`wordsight.indexing.remodel.remodel`; ModelError also where "auto" means the starter
        here and now, and the library has another model.
        """
        from wordsight.indexing.remodel import check_auto, remodel

        loaded = _loaded(model)
        if model == "auto":
            check_auto(self.store, loaded)
        report = remodel(
            self.store,
            loaded,
            lambda place: create(place, loaded).store,
            prune=prune,
            progress=progress,
        )
        if report is not None:
            self._model, self._model_of = loaded, loaded.hash
        return report

    def undo_prune(self) -> int:
        """Bring back the images that ``index(prune=...)`` removed since the last :meth:`compact`.

        Returns their number. Those that were indexed again meanwhile stay as they are.
        """
        with self.store.lock():
            self.store.refresh()
            restored = self.store.undo_prune()
            self.store.settle()
        return restored

    def add(
        self,
        images: Sequence[Image | NDArray[Any]],
        names: Sequence[str],
        labels: Sequence[str | None] | None = None,
    ) -> list[str]:
        """Add images that are in memory under names of yours; returns their ids.

        A name that is in the library already is replaced. In a large library (see
        :mod:`wordsight.library`) the index is made anew, about 30 s for a million views: add many
        at once there.
        """
        from wordsight.indexing import add_images

        labels = [None] * len(images) if labels is None else labels
        return add_images(self.store, self.model, images, names, labels)

    def remove(self, ids: Sequence[str] | str) -> int:
        """Remove images by id; the number that were there."""
        if isinstance(ids, str):
            ids = [ids]
        with self.store.lock():
            self.store.refresh()
            removed = self.store.remove(ids)
            self.store.settle()
        return removed

    def duplicates(
        self, *, false_merge: float = 0.0003, progress: Progress | None = None
    ) -> Duplicates:
        """Groups of near-duplicates and bursts, each with a suggestion which image to keep.

        ``false_merge`` is the share of images that may be grouped wrongly. The first time all
        images are read. Nothing is deleted. See :mod:`wordsight.duplicates`.
        """
        from wordsight.duplicates import check_rate, find, read_prints

        check_rate(false_merge)  # before all images are read
        self.store.refresh()
        prints, skipped = read_prints(self.store, progress=progress)
        found = find(self.store, prints, false_merge=false_merge)
        found.skipped = skipped
        return found

    def read_texts(self, *, progress: Progress | None = None) -> TextReport:
        """Read the text in the images that were not read yet (extra ``ocr``), for searches.

        See :func:`wordsight.search.text.read_texts`.
        """
        from wordsight.search.text import read_texts

        return read_texts(self.store, progress=progress)

    def shard(self, shards: int, cluster: str = "auto") -> None:
        """Search a large library by a fleet from now on: its index in slices, each in a process.

        ``cluster`` is that of :meth:`index`. See :mod:`wordsight.library.fleet`. Raises
        LibraryError where the library is too small for it, or the fleet does not start.
        """
        from wordsight.indexing.cluster import Cluster
        from wordsight.library.fleet import Fleet, check

        check(self.store, shards, cluster)
        Cluster(cluster)  # connects
        self.store.search_by(Fleet(self.store, shards))

    def compact(self) -> None:
        """Merge small files and drop old versions of the table."""
        with self.store.lock():
            self.store.refresh()
            self.store.compact()

    def info(self) -> dict[str, Any]:
        """Counts, model, size on disk, versions: what ``wordsight info --json`` prints."""
        return self.store.info()

    def vectors(self) -> tuple[list[str], NDArray[np.float32]]:
        """Ids [N] and whole-image vectors, float32 [N, D] of unit length, in the same order."""
        from wordsight.library import id_from_int

        snapshot = self.store.snapshot()
        return [id_from_int(i) for i in snapshot.ids], snapshot.vectors[snapshot.starts]

    def moments(
        self,
        query: str | Query,
        k: int = 10,
        *,
        false_accept: float = 0.05,
        anyway: bool = False,
        camera: str | None = None,
        start: str | None = None,
        end: str | None = None,
    ) -> Moments:
        """The ``k`` best moments of the videos: see :mod:`wordsight.search.recordings`."""
        from wordsight.search.recordings import find_moments

        self.store.refresh()
        return find_moments(
            self.store,
            self.model,
            query,
            k=k,
            false_accept=false_accept,
            anyway=anyway,
            camera=camera,
            start=start,
            end=end,
        )

    def timeline(self, found: Moments) -> Image:
        """A picture of moments: a row a video, those with moments first."""
        from wordsight import render
        from wordsight.render import captions

        spans: dict[str, list[tuple[float, float]]] = {}
        pictures: dict[str, list[Image | None]] = {}
        for moment in found.moments:
            for part in moment.parts:
                spans.setdefault(part.video, []).append((part.start, part.end))
                own = self._thumbnail(moment) if part == moment.part else None
                pictures.setdefault(part.video, []).append(own)
        order = {video: place for place, video in enumerate(spans)}
        strips = [
            render.Strip(
                series.video,
                float(series.untils[-1]),
                list(zip(series.times, series.untils, series.z, strict=True)),
                spans.get(series.video, []),
                pictures.get(series.video, []),
            )
            for series in sorted(found.series, key=lambda s: order.get(s.video, len(order)))
        ]
        number = len(found.moments)
        told = f"{number} moment{'s' * (number != 1)}; the line is the score in deviations (z)"
        least = found.least if found.least < float("inf") else None
        return render.timeline(
            strips, title=captions.title(found.query), subtitle=told, threshold=least
        )

    def _thumbnail(self, moment: Moment) -> Image:
        from wordsight import render
        from wordsight.images import open_image
        from wordsight.sources import read_location

        try:
            return open_image(read_location(moment.thumbnail), min_side=180)
        except WordsightError:
            return render.missing_image()

    def to_arrow(self, *, where: str | None = None, vectors: bool = True) -> Any:
        """The images as a ``pyarrow.Table``, a row each (:mod:`wordsight.library.vectors`)."""
        from wordsight.library.vectors import table

        return table(self.store, where=where, vectors=vectors)

    def to_pandas(self, *, where: str | None = None, vectors: bool = True) -> Any:
        """The same as a ``pandas.DataFrame``; ``pandas`` is yours to install."""
        return self.to_arrow(where=where, vectors=vectors).to_pandas()

    def to_polars(self, *, where: str | None = None, vectors: bool = True) -> Any:
        """The same as a ``polars.DataFrame``; ``polars`` is yours to install."""
        import polars

        return polars.from_arrow(self.to_arrow(where=where, vectors=vectors))

    def image(self, hit: Hit, *, min_side: int | None = None) -> Image:
        """The image of a hit, upright RGB. Raises ImageError when it is gone or unreadable.

        With ``min_side`` large JPEGs are decoded at a reduced scale that is at least that.
        """
        from wordsight.images import open_image
        from wordsight.sources import read_location

        return open_image(read_location(hit.path), min_side=min_side, name=hit.path)

    def grid(self, result: Result, *, columns: int = 5) -> Image:
        """A picture of a result: its hits with rank, scores and label, or "No match".

        Where it is not sure that any hit is what was asked for, its title says so. Hits that do not
        count as relevant are pale.
        """
        from wordsight import render
        from wordsight.render import captions

        tiles = self._tiles(result)
        if result.verdict == "none":
            query = captions.words(result.query)
            return render.no_match_card(query, [result.explanation()], tiles or None)
        title, subtitle = captions.title(result.query), f"model {result.model}"
        if result.count:
            subtitle = f"{result.how_many()}; {subtitle}"
        if result.verdict == "unsure":
            title = f"Not sure: {title}"
        return render.grid(tiles, title=title, subtitle=subtitle, columns=columns)

    def comparison(self, baseline: Result, crop_aware: Result) -> Image:
        """A picture of two results for one query beside each other, with what moved."""
        from wordsight import render
        from wordsight.render import captions

        old = {hit.id: hit.rank for hit in baseline.hits}
        return render.side_by_side(
            self._tiles(baseline),
            self._tiles(crop_aware, old),
            ("Baseline: whole images", "Crop-aware: best crop counts"),
            title=captions.title(crop_aware.query),
            subtitle=f"model {crop_aware.model}",
        )

    def _tiles(self, result: Result, old: dict[str, int] | None = None) -> list[Tile]:
        """The hits as tiles; with the ranks of ``old``, what moved."""
        from wordsight import render
        from wordsight.render import captions

        tiles = []
        names = captions.names([hit.path for hit in result.hits])
        ends = any(hit.relevant for hit in result.hits)
        for hit, name in zip(result.hits, names, strict=True):
            z = "" if hit.z is None else f"  z {hit.z:.1f}"
            lines = [
                f"{hit.rank}.  {hit.score:.3f}{z}",
                hit.label or name,
            ]
            box, size = hit.view.box, (hit.width, hit.height)
            try:
                image = self.image(hit, min_side=360)
            except WordsightError:
                lines.append("(file missing)")
                image, box = render.missing_image(), None
            move: int | Literal["new"] | None = None
            if old is not None:
                move = old[hit.id] - hit.rank if hit.id in old else "new"
            faded = ends and not hit.relevant
            tiles.append(render.Tile(image, lines, box, size, move=move, faded=faded))
        return tiles

    @overload
    def search(
        self,
        query: str | Path | Query | Image,
        k: int = 10,
        **options: Unpack[SearchOptions],
    ) -> Result: ...
    @overload
    def search(
        self,
        query: list[str] | list[Path] | list[Query] | list[Image],
        k: int = 10,
        **options: Unpack[SearchOptions],
    ) -> list[Result]: ...

    def search(
        self, query: Any, k: int = 10, **options: Unpack[SearchOptions]
    ) -> Result | list[Result]:
        """The ``k`` images that fit a query best; a list of queries gives a list of results.

        See :func:`wordsight.search.search` for the options and the errors. Where the text in the
        images was read (:meth:`read_texts`), ``text:"invoice 2023"`` finds images in which these
        words are written, and plain prompts find them too.
        """
        from wordsight.search.hints import hints
        from wordsight.search.text import search_with_text

        queries: list[Any] = query if isinstance(query, list) else [query]

        def run() -> list[Result]:
            return search_with_text(self.store, self.model, queries, k, **options)

        self.store.refresh()
        try:
            results = run()
        except LibraryChangedError:
            self.store.reload()
            self.store.refresh()
            results = run()
        for each, result in zip(queries, results, strict=True):
            result.notices += hints(each, result, self.store.sides)
        return results if isinstance(query, list) else results[0]


def create(
    path: str | Path,
    model: ClipModel | str | Path = "auto",
    *,
    storage_options: Mapping[str, str] | None = None,
) -> Library:
    """Make an empty library at ``path`` for a model (loaded by name when it is one).

    ``path`` and ``storage_options`` are those of :func:`open`.

    Raises LibraryError when there is something at ``path`` already, ModelError when the model is
    not to be had.
    """
    from wordsight.bank import bank_phrases, kind_texts
    from wordsight.models.texts import encode_texts_cached

    _check_path(path)
    _configure(path, storage_options)
    loaded = _loaded(model)
    phrases = bank_phrases()
    record = ModelRecord(
        name=loaded.name,
        source=loaded.source,
        hash=loaded.hash,
        dim=loaded.dim,
        preprocessing=loaded.preprocessing,
    )
    store = Store.create(path, record, phrases, encode_texts_cached(loaded, phrases))
    encode_texts_cached(loaded, kind_texts())  # now, so that the first search need not wait
    loaded.release_texts()  # images come next; of ViT-B/32 it is half a gigabyte
    return Library(store, loaded)


def open(
    path: str | Path | None = None,
    model: ClipModel | str | Path | None = None,
    *,
    storage_options: Mapping[str, str] | None = None,
) -> Library:
    """Open the library at ``path`` (without one: of the current folder or one above it).

    With a ``model``, it must be the one that the library was made with (ModelMismatchError).
    ``path`` may be the URL of a library in object storage, "s3://bucket/library" (extra ``cloud``);
    ``storage_options`` are settings of that, as ``{"aws_endpoint_url": ...}``, else those of the
    environment. Raises LibraryError where there is no library, or the storage does not answer.
    """
    from wordsight.library import find

    _check_path(path)
    _configure(path, storage_options)
    store = Store.open(path if path is not None else find())
    if model is None:
        return Library(store)
    loaded = _loaded(model)
    store.check_model(loaded.name, loaded.hash)
    return Library(store, loaded)


def _check_path(path: str | Path | None) -> None:
    if isinstance(path, str) and not path.strip():  # to the system it is the current folder
        raise LibraryError("the library's path is empty; name its directory.")


def _configure(path: str | Path | None, storage_options: Mapping[str, str] | None) -> None:
    if storage_options:
        from wordsight.storage import configure

        configure(storage_options, str(path))


def _loaded(model: ClipModel | str | Path) -> ClipModel:
    if not isinstance(model, (str, Path)):
        return model
    from wordsight.models import load_model

    return load_model(model)
