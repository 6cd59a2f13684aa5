"""Finds what findings are compared with, a stored result or a released image, where a change can't choose it."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ci_registry.ci.detect import is_gitlab
from ci_registry.ci.gitlab import gitlab_image
from ci_registry.ci.trusted import trusted_ref
from ci_registry.config.load import (
    SAME_AS_CHECKOUT,
    Loaded,
    SourceFile,
    destinations,
    load_settings,
)
from ci_registry.errors import NotFoundError, SetupError
from ci_registry.files import read_file
from ci_registry.oci.reference import Reference
from ci_registry.wiring.ahead import Ahead
from ci_registry.wiring.basis import CONFIG_FILE, Basis, Caller

if TYPE_CHECKING:
    from ci_registry.reports.stored_findings import StoredResult


def stored_baseline(basis: Basis) -> "Callable[[], StoredResult] | None":
    """Return what reads the file that `scan.baseline` names, once; None when it names no file."""
    name = basis.settings.scan.baseline
    if not name.endswith(".json"):
        return None

    def read() -> "StoredResult":
        from ci_registry.reports.stored_findings import read_stored

        return read_stored(read_baseline(basis, name))

    return Ahead(read)


def read_baseline(basis: Basis, name: str) -> bytes:
    """Return the bytes of a stored result.

    A change under test may not bring its own: inside of its checkout only what the trusted ref has
    counts. A file elsewhere was put there by the job.

    Raises:
        NotFoundError: there is no such file.
        SetupError: it is where the change can write it, and the trusted ref has none.
        StorageError: it can't be read.
    """
    from ci_registry.reports.result_json import MAX_RESULT_BYTES

    path = basis.project / name
    if _is_trustworthy(basis) or not _is_inside_checkout(path, basis.project):
        if not path.is_file():
            raise NotFoundError(f"the baseline {name} does not exist")
        return read_file(path, max_bytes=MAX_RESULT_BYTES)
    data = None
    if basis.trusted.label != "untrusted":
        data = basis.trusted.read(name)
    if data is None:
        raise SetupError(
            f"the baseline {name} is where the change can write it, and {basis.trusted.label} has none",
            hint="put it outside of the checkout, or use scan.baseline: release",
        )
    return data


def released_at(caller: Caller, basis: Basis) -> Callable[[str], Reference] | None:
    """Return what says where an image is released: by the settings of the trusted ref, not of the change.

    None: the settings of the run say it.
    """
    if caller.lone_image or _is_trustworthy(basis):
        return None

    @functools.cache
    def loaded() -> Loaded:
        path = str(caller.options.get("config") or caller.env.get("CIREG_CONFIG") or CONFIG_FILE)
        data = None if basis.trusted.label == "untrusted" else basis.trusted.read(path)
        file = None if data is None else SourceFile(path=path, data=data, ref=basis.trusted.label)
        env = dict(caller.env)
        own_image = gitlab_image(env) if is_gitlab(env) else ""
        if own_image and file is None and not env.get("CIREG_IMAGE"):
            env["CIREG_IMAGE"] = own_image
        found = load_settings(
            checkout=file,
            trusted=SAME_AS_CHECKOUT,
            env=env,
            options=caller.options,
            needs_images=False,
        )
        if own_image and not found.settings.registry and not found.settings.registries:
            found = replace(found, settings=replace(found.settings, registry=own_image))
        return found

    def place(name: str) -> Reference:
        settings = loaded().settings
        found = destinations(settings, name) if name in settings.images else ()
        if not found:
            raise SetupError(f"{basis.trusted.label} does not say where {name} is released")
        return found[0]

    return place


def _is_trustworthy(basis: Basis) -> bool:
    """Whether the files of the checkout decide, or the commit under test may decide itself."""
    if basis.trusted.label == "untrusted":
        return False
    is_own = basis.ci.is_ci and not trusted_ref(basis.ci) and not basis.settings.policy_ref
    return basis.trusted.is_checkout or is_own


def _is_inside_checkout(path: Path, project: Path) -> bool:
    """Whether the file is in the work tree; one that lies in there behind a link is too."""
    inside = project.resolve()
    top = next((p for p in (inside, *inside.parents) if (p / ".git").exists()), inside)
    return path.resolve().is_relative_to(top) or path.absolute().is_relative_to(top)
