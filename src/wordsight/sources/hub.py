"""Files of data sets on the hub, read where they lie: ``hf://datasets/OWNER/NAME[@REVISION]/FILE``.

``huggingface_hub`` signs in (``HF_TOKEN``), knows mirrors (``HF_ENDPOINT``) and asks again.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from wordsight.errors import StorageError
from wordsight.privacy import hub_address, is_offline

_ADDRESS = re.compile(
    r"hf://datasets/(?P<name>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?(?:/(?P<file>.*))?"
)
_NO_DATA_SET = "the hub has no such data set; check the name. For a private one, set HF_TOKEN."
_FRESH = 60  # seconds that a listing is kept
_SECONDS = 30.0  # for an answer


class _File(NamedTuple):
    size: int
    number: int
    """Another one when the content is another."""


class _Listing(NamedTuple):
    commit: str
    files: dict[str, _File]


@dataclass(frozen=True, slots=True)
class DataSet:
    """A revision of a data set. Methods raise StorageError when the hub refuses or is away."""

    name: str
    revision: str

    @property
    def url(self) -> str:
        """Its address."""
        pinned = "" if self.revision == "main" else f"@{self.revision.replace('/', '%2F')}"
        return f"hf://datasets/{self.name}{pinned}"

    def names(self) -> list[str]:
        """All files."""
        return sorted(self._listing().files)

    def state(self, name: str) -> tuple[int, int]:
        """Size of a file in bytes, and a number that changes with its content.

        Raises FileNotFoundError where there is none.
        """
        found = self._listing().files.get(name)
        if found is None:
            raise FileNotFoundError(f"{self.url} has no file {name}")
        return found.size, found.number

    def part(self, name: str, offset: int, size: int) -> bytes:
        """So many bytes of a file, fewer where it ends. Raises FileNotFoundError."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import (  # type: ignore[attr-defined]
            build_hf_headers,
            hf_raise_for_status,
            http_backoff,
        )

        size = min(size, self.state(name)[0] - offset)
        if size <= 0:
            return b""
        url = hf_hub_url(
            self.name, name, repo_type="dataset", revision=self._listing().commit,
            endpoint=hub_address(),
        )  # fmt: skip
        headers = {**build_hf_headers(), "Range": f"bytes={offset}-{offset + size - 1}"}
        with self._said():
            answer = http_backoff("GET", url, headers=headers, timeout=_SECONDS)
            hf_raise_for_status(answer)
            data: bytes = answer.content
        return data if answer.status_code == 206 else data[offset : offset + size]

    def _listing(self) -> _Listing:
        with self._said():
            return _listed(self.name, self.revision, int(time.monotonic() // _FRESH))

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """Turn what the hub says into a line of ours."""
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        if is_offline():
            raise StorageError(f"cannot read {self.url}: HF_HUB_OFFLINE forbids the network.")
        try:
            yield
            return
        except GatedRepoError:
            why = "its owner gives access on request; ask on its page, and set HF_TOKEN."
        except (RepositoryNotFoundError, HFValidationError):
            why = _NO_DATA_SET
        except RevisionNotFoundError:
            why = f"it has no revision {self.revision}."
        except HfHubHTTPError as error:
            status = error.response.status_code
            why = f"the hub answered with an error ({status}); try again later."
            why = _NO_DATA_SET if status in (401, 404) else why
        except (OSError, ValueError, RuntimeError) as error:
            why = f"the hub did not answer ({type(error).__name__}); check the network."
        except Exception as error:  # of the HTTP library beneath
            if not type(error).__module__.startswith("http"):
                raise
            why = f"the hub cannot be reached ({type(error).__name__}); check the network."
        raise StorageError(f"cannot read {self.url}: {why}") from None


def data_set(url: str) -> tuple[DataSet, str]:
    """The data set of a URL, and what stands behind it. Raises StorageError for no such URL."""
    found = _ADDRESS.fullmatch(url)
    if found is None:
        raise StorageError(f"{url}: write hf://datasets/OWNER/NAME, or a file or pattern in it.")
    revision = (found["revision"] or "main").replace("%2F", "/")
    return DataSet(found["name"], revision), found["file"] or ""


@lru_cache(maxsize=16)
def _listed(name: str, revision: str, now: int) -> _Listing:
    del now
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub_address(), library_name="wordsight")
    info = api.dataset_info(name, revision=revision, files_metadata=True, timeout=_SECONDS)
    files = {}
    for file in info.siblings or ():
        digest = (file.lfs.sha256 if file.lfs else file.blob_id) or "0"
        files[file.rfilename] = _File(file.size or 0, int(digest[:12], 16))
    return _Listing(str(info.sha), files)
