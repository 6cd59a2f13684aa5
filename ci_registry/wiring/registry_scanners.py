"""Makes the scanners that live in a registry, and the staging repository that they read from."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

from ci_registry.cancel import Cancel
from ci_registry.config.model import ScannerChoice
from ci_registry.oci.digest import Digest
from ci_registry.oci.reference import Reference
from ci_registry.scanners.registry_side import RegistryApi, RegistryScanner
from ci_registry.scanners.staging import Staging
from ci_registry.secret import Secret
from ci_registry.wiring.basis import Basis, Caller
from ci_registry.wiring.registries import Registries, may_log_in, open_registries
from ci_registry.wiring.staging_place import staging_hosts, staging_place

_READ_TIMEOUT_S = 60.0
_REMOVAL_AFTER_CANCEL_S = 4.0
"""The reports of a cancelled run are due after five seconds."""

_Remove = Callable[[Reference], None]


def make_registry_scanner(
    name: ScannerChoice, caller: Caller, basis: Basis, registries: Registries
) -> RegistryScanner:
    """Return the scanner of a kind of registry.

    Raises:
        SetupError: the staging repository is none.
    """
    scan = basis.settings.scan
    api, remove = _MAKERS[name](caller, basis, registries)
    return RegistryScanner(
        api=api,
        cancel=caller.cancel,
        now=caller.now,
        max_db_age=scan.max_db_age,
        timeout_s=scan.timeout.total_seconds(),
        staging=_staging(caller, basis, registries, remove),
        report_is_current=scan.registry_is_current,
    )


def _staging(
    caller: Caller, basis: Basis, registries: Registries, remove: _Remove | None
) -> Staging | None:
    place = staging_place(basis.settings)
    if place is None:
        return None

    @contextlib.contextmanager
    def open_remover() -> Iterator[_Remove]:
        if remove is not None:
            yield remove
        elif not caller.cancel.is_set:
            yield lambda image: registries.open(image).delete(_digest(image))
        else:
            with _after_cancel(caller, basis) as fresh:
                yield lambda image: fresh.open(image).delete(_digest(image))

    return Staging(
        repository=place,
        open=registries.open,
        open_remover=open_remover,
        cancel=caller.cancel,
        on_event=caller.on_event,
        refusal=_refusal(basis),
    )


def _digest(image: Reference) -> Digest:
    if image.digest is None:
        raise AssertionError("images are in the staging repository by digest")
    return image.digest


def _refusal(basis: Basis) -> str:
    """Say why this run puts nothing into a registry, empty when it may."""
    if basis.loaded.run.dry_run:
        return "a dry run leaves nothing there"
    if basis.settings.runtime.offline:
        return "this run is offline"
    if not may_log_in(basis):
        return "this is a change that nobody has merged yet"
    return ""


@contextlib.contextmanager
def _after_cancel(caller: Caller, basis: Basis) -> Iterator[Registries]:
    """Open the registries once more for a cancelled run, for a few seconds and without retries."""
    cancel = Cancel()
    settings = basis.settings
    network = replace(
        settings.network, retries=0, retry_budget=timedelta(seconds=_REMOVAL_AFTER_CANCEL_S)
    )
    short = replace(
        basis, loaded=replace(basis.loaded, settings=replace(settings, network=network))
    )
    timer = threading.Timer(_REMOVAL_AFTER_CANCEL_S, cancel.set, args=("no time is left",))
    timer.daemon = True
    timer.start()
    try:
        with open_registries(
            replace(caller, cancel=cancel), short, hosts=staging_hosts(settings)
        ) as registries:
            yield registries
    finally:
        timer.cancel()


def _harbor(
    caller: Caller, basis: Basis, registries: Registries
) -> tuple[RegistryApi, _Remove | None]:
    del caller, basis
    from ci_registry.scanners.harbor import HarborApi

    return HarborApi(client=registries.client, credentials=registries.credentials), None


def _quay(
    caller: Caller, basis: Basis, registries: Registries
) -> tuple[RegistryApi, _Remove | None]:
    from ci_registry.scanners.quay import QuayApi

    name = basis.settings.scan.quay_token.removeprefix("env://")
    token = Secret(caller.env[name].strip()) if caller.env.get(name, "").strip() else None
    if token:
        caller.masker.add(token)
    return QuayApi(client=registries.client, token=token, token_name=name), None


def _ecr(
    caller: Caller, basis: Basis, registries: Registries
) -> tuple[RegistryApi, _Remove | None]:
    del caller, registries
    from ci_registry.scanners.ecr import Call, EcrApi, open_region

    opened: dict[str, Call] = {}
    lock = threading.Lock()

    def open_once(region: str) -> Call:
        with lock:
            if region not in opened:
                opened[region] = open_region(
                    region, timeout_s=_READ_TIMEOUT_S, retries=basis.settings.network.retries
                )
            return opened[region]

    api = EcrApi(open_region=open_once)
    return api, api.remove


_MAKERS: dict[
    ScannerChoice, Callable[[Caller, Basis, Registries], tuple[RegistryApi, _Remove | None]]
] = {
    ScannerChoice.HARBOR: _harbor,
    ScannerChoice.ECR: _ecr,
    ScannerChoice.QUAY: _quay,
}
