"""The frames of videos that a library holds, in memory: what moments are found in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wordsight.library.filters import joined, quoted
from wordsight.library.table import columns_of, matrix_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Frames:
    """All frames of one version, in the order of their videos' paths and of time.

    ``videos``, ``cameras`` and ``recorded`` (ISO 8601 in UTC) are lists [N], ``times`` and
    ``untils`` float64 [N] seconds. ``vectors`` is float32 [V, D]; the views of frame i are the rows
    from ``starts[i]`` on, its whole image first. ``mean`` and ``sd`` [N] are its background,
    ``moves`` [N] tells whether one of its views is of something that moves.
    """

    videos: list[str]
    cameras: list[str | None]
    recorded: list[str | None]
    times: NDArray[np.float64]
    untils: NDArray[np.float64]
    vectors: NDArray[np.float32]
    starts: NDArray[np.intp]
    mean: NDArray[np.float32]
    sd: NDArray[np.float32]
    moves: NDArray[np.bool_]

    @property
    def whole(self) -> NDArray[np.float32]:
        """The whole-image vectors [N, D]."""
        return self.vectors[self.starts]

    def scores(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """The best cosine of each frame's views with a vector [D] of unit length: [N]."""
        import numpy as np

        scores: NDArray[np.float32] = self.vectors @ query
        if len(scores) != len(self.starts):
            scores = np.maximum.reduceat(scores, self.starts)
        return scores

    def best_view(self, place: int, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """The vector [D] of the view of a frame that is nearest to a vector [D]."""
        end = int(self.starts[place + 1]) if place + 1 < len(self.starts) else len(self.vectors)
        views = self.vectors[int(self.starts[place]) : end]
        best: NDArray[np.float32] = views[int((views @ query).argmax())]
        return best

    def chosen(self, camera: str | None, start: str | None, end: str | None) -> NDArray[np.bool_]:
        """Which frames [N] are of this camera, recorded from ``start`` until before ``end``."""
        import numpy as np

        kept = np.ones(len(self.videos), np.bool_)
        if camera is not None:
            kept &= np.array([name == camera for name in self.cameras], np.bool_)
        known = np.array([time or "" for time in self.recorded], object)
        if start is not None:
            kept &= np.asarray(known >= start, np.bool_)
        if end is not None:
            kept &= np.asarray((known != "") & (known < end), np.bool_)
        return kept


def frames_where(camera: str | None, start: str | None, end: str | None) -> str:
    """The filter that lets pass what :meth:`Frames.chosen` chooses."""
    where = joined(
        "time is not null",
        camera and f"camera = {quoted(camera)}",
        start and f"recorded >= {quoted(start)}",
        end and f"recorded < {quoted(end)}",
    )
    assert where is not None
    return where


def read_frames(dataset: Any) -> Frames:
    """Read the frames of a table (a ``lance.LanceDataset``)."""
    import numpy as np

    names = ["video", "camera", "recorded", "time", "until"]
    if len(columns_of(dataset, names)) < len(names):
        none = np.zeros(0)
        few = np.zeros(0, np.float32)
        starts = none.astype(np.intp)
        still = none.astype(np.bool_)
        return Frames([], [], [], none, none, few.reshape(0, 0), starts, few, few, still)
    table = dataset.to_table(
        columns=["id", "view", "kind", *names, "mean", "sd", "vector"], filter="time is not null"
    )
    table = table.take(
        np.lexsort(
            (table["view"].to_numpy(), table["time"].to_numpy(), table["video"].to_numpy(False))
        )
    )
    whole = np.flatnonzero(table["view"].to_numpy() == 0)
    one = table.take(whole)
    moving = np.asarray(table["kind"].to_numpy() == "moving", np.bool_)
    return Frames(
        one["video"].to_pylist(),
        one["camera"].to_pylist(),
        one["recorded"].to_pylist(),
        one["time"].to_numpy(),
        one["until"].to_numpy(),
        matrix_of(table["vector"]),
        whole,
        one["mean"].to_numpy(),
        one["sd"].to_numpy(),
        np.logical_or.reduceat(moving, whole) if len(whole) else moving,
    )
