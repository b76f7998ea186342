"""Opening a collection's repository, or creating it."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import icechunk
import zarr
from zarr.errors import ContainsArrayError

from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import RepositoryForeignError
from icehouse_server.store.layout import layout


def open_repository(spec: CollectionSpec, folder: Path) -> icechunk.Repository:
    """Open or create the repository in a folder. Blocking.

    Raises:
        RepositoryForeignError: the folder holds something else; it is left untouched.
        icechunk.IcechunkError: it can't be read.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        _create_repository(spec, folder)
    storage = icechunk.local_filesystem_storage(str(folder))
    if not icechunk.Repository.exists(storage):
        raise RepositoryForeignError(
            f"the folder {folder.name!r} in the cache folder is not a repository; it is left untouched",
            hint="move it out of the cache folder, or point cache_dir elsewhere",
        )
    repository = icechunk.Repository.open(storage, config=layout.repository_config())
    _check_layout(spec, repository)
    return repository


def _create_repository(spec: CollectionSpec, folder: Path) -> None:
    """Make the empty cube next to its destination and move it there: a kill leaves no half of one."""
    draft = folder.with_name(f".{folder.name}.creating")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    storage = icechunk.local_filesystem_storage(str(draft))
    icechunk.Repository.create(storage, config=layout.repository_config())
    # Icechunk goes through all parts that the manifests of a new array could have: 0.2 s for the 64 bands of
    # AlphaEarth, none of which has a chunk yet.
    unsplit = icechunk.RepositoryConfig(
        manifest=icechunk.ManifestConfig(splitting=icechunk.ManifestSplittingConfig.from_dict({}))
    )
    session = icechunk.Repository.open(storage, config=unsplit).writable_session("main")
    layout.create(spec, session.store, _steps(spec))
    session.commit(f"create {spec.id}")
    draft.replace(folder)


def _check_layout(spec: CollectionSpec, repository: icechunk.Repository) -> None:
    """Check what a repository holds, and add what it lacks: bands, time steps, GeoZarr's attributes."""
    root = _root(repository.readonly_session("main"))
    gained = layout.check(spec, root)
    if root is not None and layout.steps_of(root) < _steps(spec):
        session = repository.writable_session("main")
        layout.lengthen(spec, session.store, _steps(spec))
        session.commit(f"{_steps(spec)} time steps")
    if root is not None and not layout.has_conventions(root):
        session = repository.writable_session("main")
        layout.add_conventions(spec, session.store)
        session.commit("describe by GeoZarr's conventions")
    if gained:
        session = repository.writable_session("main")
        for band in gained:
            layout.add_band(spec, band, session.store)
        session.commit(f"add {', '.join(band.name for band in gained)}")


def _steps(spec: CollectionSpec) -> int:
    """Return how many time steps there are by now."""
    return 0 if spec.time is None else spec.time.count(datetime.now(UTC))


def _root(session: icechunk.Session) -> zarr.Group | None:
    """Return a repository's root group, or None where it has none."""
    try:
        return zarr.open_group(session.store, mode="r")
    except (FileNotFoundError, ContainsArrayError):
        return None
