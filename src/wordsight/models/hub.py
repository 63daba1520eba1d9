"""Fetching models from the hub.

``huggingface_hub`` looks up, transfers and stores (``HF_ENDPOINT``, ``HF_TOKEN``, proxies and
certificates are its own). Around it stand a bounded wait, a line that says what comes and how large
it is, and a comparison of hashes after the transfer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from wordsight.errors import HubError
from wordsight.models.hub_cache import cached, check_room, folder_of, in_cache, writable_root
from wordsight.models.repositories import RepoFile, choose, insist
from wordsight.models.transfer import Patience, Transfer, hooked, kept_part, within
from wordsight.privacy import hub_address, is_offline
from wordsight.progress import waiting

REACH_SECONDS = 10.0
"""How long the hub may take to tell what is in a repository."""

PATIENCE_SECONDS = 60.0
"""How long the hub may ask to wait (status 429), altogether."""


def listing(
    repository: str, revision: str = "main", seconds: float = REACH_SECONDS
) -> tuple[str, dict[str, RepoFile]]:
    """Ask the hub for the commit of a revision, and its files by name.

    Raises HubError if it cannot be reached, or has no such repository or revision.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    from wordsight.models.hub_report import WAYS_OUT, explained

    if is_offline():
        raise HubError(f"{repository} is not in the cache and HF_HUB_OFFLINE is set; {WAYS_OUT}")
    api = HfApi(endpoint=hub_address(), library_name="wordsight")
    patience = Patience(repository, PATIENCE_SECONDS if seconds >= REACH_SECONDS else seconds)

    def ask() -> tuple[str, dict[str, RepoFile]]:
        info = api.model_info(repository, revision=revision, files_metadata=True, timeout=seconds)
        if not info.sha:
            raise ValueError("no commit")
        return info.sha, {file.rfilename: RepoFile.of(file) for file in info.siblings or ()}

    with explained(repository, revision), waiting(f"{repository}: waiting for {hub_address()}"):
        while True:
            try:
                return within(seconds, ask)
            except HfHubHTTPError as error:
                if error.response.status_code != 429:
                    raise
                time.sleep(patience.wait(error.response.headers))


def list_files(repository: str, revision: str = "main") -> list[str]:
    """List the names of a repository's files, as the hub tells them (errors: :func:`listing`)."""
    return list(listing(repository, revision)[1])


def fetch(
    repository: str,
    *choices: Sequence[str],
    extra: Callable[[str], bool] = lambda name: False,
    beside: Callable[[Path], Iterable[str]] = lambda folder: (),
    revision: str = "main",
    sha256: Mapping[str, str] | None = None,
    reach_seconds: float = REACH_SECONDS,
    limit_seconds: float | None = None,
) -> Path:
    """Return the folder of a repository's files, fetching what the cache lacks.

    A transfer that was cut goes on where it stopped, in this run or the next. Size and hash of
    every file are compared with what the hub says before the file is used. What comes, how large
    it is and how far it is are told on stderr.

    Args:
        repository: "owner/name".
        choices: sets of files, any of which will do: the first one that the repository has.
        extra: picks further files to fetch where the repository has them.
        beside: tells from the folder of these which further files they refer to.
        revision: a branch, tag or commit.
        sha256: what is known of the files, by name. What comes must have these hashes.
        reach_seconds: how long the hub may take to answer at all.
        limit_seconds: how long everything may take together; None for any time.

    Raises:
        HubError: the hub cannot be reached, has no such repository or file, a transfer stops or
            what came is not what the hub announced, or there is no room or permission to keep it.
    """
    for names in choices:
        folder = cached(repository, names, revision)
        if folder and cached(repository, [*names, *beside(folder)], revision):
            return folder
    deadline = None if limit_seconds is None else time.monotonic() + limit_seconds
    commit, files = listing(repository, revision, reach_seconds)
    required = choose(repository, choices, files)
    files = insist(repository, sha256 or {}, files)
    first = [*(n for n in files if extra(n) and n not in required), *required]
    root = writable_root()
    folder = _bring(root, repository, revision, commit, [files[n] for n in first], deadline)
    more = [name for name in beside(folder) if name not in first]
    choose(repository, [more], files)
    if more:
        _bring(root, repository, revision, commit, [files[n] for n in more], deadline)
    return folder


def _bring(
    root: Path,
    repository: str,
    revision: str,
    commit: str,
    files: Sequence[RepoFile],
    deadline: float | None,
) -> Path:
    """Fetch files of a commit into a cache; return their folder."""
    from wordsight.models.hub_report import explained, progress

    todo = [file for file in files if not in_cache(root, repository, file.name, commit)]
    parts = {file.name: kept_part(file.sha256 or file.git_hash, file.size) for file in todo}
    total = sum(file.size for file in todo)
    patience = Patience(repository, PATIENCE_SECONDS)
    paths = []
    with (
        progress(repository, hub_address(), total, parts.values()) as advance,
        explained(repository, revision, root),
    ):
        # The library copies from the part that is kept here: the largest one counts twice.
        check_room(root, total + max((file.size for file in todo), default=0))
        for file in files:
            url = f"{hub_address()}/{repository}/{file.name}"
            transfer = Transfer(url, parts.get(file.name), advance, deadline, patience)
            path = _download(transfer, repository, file.name, revision, root)
            paths.append(path)
            transfer.forget()
            if file in todo and not file.check(path):
                path.resolve().unlink()
                path.unlink(missing_ok=True)
                raise HubError(
                    f"{url}: the downloaded file is not what the hub announced (its hash "
                    "differs) and was deleted; try again, or set another HF_ENDPOINT"
                )
    return folder_of(paths[0], files[0].name)


def _download(transfer: Transfer, repository: str, name: str, revision: str, root: Path) -> Path:
    """Let the library fetch one file, for as long as its attempts bring anything."""
    import httpx2
    from huggingface_hub import hf_hub_download

    from wordsight.models.hub_report import meter

    while True:
        had = transfer.have()
        try:
            with hooked(transfer):
                return Path(
                    hf_hub_download(
                        repository,
                        name,
                        revision=revision,
                        cache_dir=root,
                        endpoint=hub_address(),
                        library_name="wordsight",
                        tqdm_class=meter(transfer),
                    )
                )
        except httpx2.ProxyError:
            raise
        except httpx2.TransportError as error:
            if transfer.have() <= had:
                raise transfer.stopped(error) from error
