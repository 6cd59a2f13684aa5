"""Makes the scanner of a run: one, or several that are asked together; adapters are imported when chosen."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ci_registry.cache import DiskCache
from ci_registry.config.model import ScannerChoice
from ci_registry.errors import NetworkError, ToolError
from ci_registry.network.message import Request
from ci_registry.process import find_program
from ci_registry.scanners.interface import Scanner
from ci_registry.secret import Secret
from ci_registry.wiring.basis import Basis, Caller
from ci_registry.wiring.database_choice import REGISTRY_SIDE
from ci_registry.wiring.registries import Registries

if TYPE_CHECKING:
    from ci_registry.advisories.compiled import CompiledDatabase

_MAX_VERSION_BYTES = 64 * 1024
_Maker = Callable[[Caller, Basis, Registries, DiskCache], Scanner]


def make_scanner(caller: Caller, basis: Basis, registries: Registries, cache: DiskCache) -> Scanner:
    """Return what the settings name: the embedded scanner, a program, or several of them together.

    Reports that the caller has take the place of the scanners in the settings, and stand beside those
    of the command line.

    Raises:
        ToolError: a program is missing.
        UsageError: a report can't be read.
        CiRegistryError: a database can't be had.
    """
    chosen = dict.fromkeys(basis.settings.scan.scanner if scanners_are_asked(caller) else ())
    given = (_reports(caller, basis),) if caller.reports else ()
    made: tuple[Scanner, ...] = (
        *given,
        *(_MAKERS[name](caller, basis, registries, cache) for name in chosen),
    )
    if len(made) == 1:
        return made[0]
    from ci_registry.scanners.several import SeveralScanners

    return SeveralScanners(scanners=made)


def scanners_are_asked(caller: Caller) -> bool:
    """Whether the scanners of the settings are asked: with reports only when the call names them."""
    return not caller.reports or "scanner" in caller.options


def _reports(caller: Caller, basis: Basis) -> Scanner:
    from ci_registry.scanners.from_report import ReportScanner
    from ci_registry.wiring.report_files import read_reports

    return ReportScanner(
        reports=read_reports(caller),
        now=caller.now,
        max_db_age=basis.settings.scan.max_db_age,
        database_built_at=caller.report_db_date,
    )


def _osv(caller: Caller, basis: Basis, registries: Registries, cache: DiskCache) -> Scanner:
    from ci_registry.advisories.compiled import CompiledDatabase
    from ci_registry.scanners.osv import OsvScanner
    from ci_registry.wiring.databases import open_osv_source

    source = open_osv_source(caller, basis, registries, cache)
    return OsvScanner(
        source=source,
        now=caller.now,
        max_db_age=basis.settings.scan.max_db_age,
        exploitation=source if isinstance(source, CompiledDatabase) else None,
    )


def _trivy(caller: Caller, basis: Basis, registries: Registries, cache: DiskCache) -> Scanner:
    from ci_registry.scanners.trivy import TrivyScanner
    from ci_registry.wiring.databases import exploitation_for_trivy, find_trivy_database

    if basis.settings.scan.server:
        return _trivy_server(caller, basis, registries, cache)
    program = _program("trivy", caller)
    scan = basis.settings.scan
    database, location, notes = find_trivy_database(caller, basis, registries)
    trivy = TrivyScanner(
        run=caller.runner,
        env=caller.env,
        program=program,
        database=database,
        now=caller.now,
        max_db_age=scan.max_db_age,
        timeout_s=scan.timeout.total_seconds(),
        on_event=caller.on_event,
        database_location=location,
        cache=cache,
    )
    return _marked(trivy, exploitation_for_trivy(caller, basis, registries, cache), notes)


def _marked(scanner: Scanner, marks: "CompiledDatabase | None", notes: tuple[str, ...]) -> Scanner:
    from ci_registry.scanners.exploitation import MarkingScanner

    if not marks and not notes:
        return scanner
    return MarkingScanner(scanner=scanner, source=marks, notes=notes)


def _trivy_server(
    caller: Caller, basis: Basis, registries: Registries, cache: DiskCache
) -> Scanner:
    from ci_registry.scanners.trivy_server import TrivyServerScanner

    scan = basis.settings.scan
    url = scan.server.rstrip("/")
    name = scan.server_token.removeprefix("env://")
    token = Secret(caller.env[name].strip()) if caller.env.get(name, "").strip() else None
    if token:
        caller.masker.add(token)

    def ask_version() -> bytes:
        request = Request(method="GET", url=f"{url}/version")
        answer = registries.client.request(request, max_body_bytes=_MAX_VERSION_BYTES)
        if not answer.ok:
            raise NetworkError(
                f"{request.shown} answered HTTP {answer.status}",
                hint="check that scan.server names a trivy server",
            )
        return answer.body

    return TrivyServerScanner(
        run=caller.runner,
        env=caller.env,
        program=_program("trivy", caller),
        url=url,
        token=token,
        ask_version=ask_version,
        now=caller.now,
        max_db_age=scan.max_db_age,
        timeout_s=scan.timeout.total_seconds(),
        on_event=caller.on_event,
        cache=cache,
    )


def _grype(caller: Caller, basis: Basis, registries: Registries, cache: DiskCache) -> Scanner:
    from ci_registry.scanners.grype import GrypeScanner
    from ci_registry.wiring.databases import exploitation_for_trivy
    from ci_registry.wiring.grype_databases import find_grype_database

    program = _program("grype", caller)
    scan = basis.settings.scan
    found = find_grype_database(caller, basis, registries.client, program)
    grype = GrypeScanner(
        run=caller.runner,
        env=caller.env,
        program=program,
        database=found.path,
        now=caller.now,
        max_db_age=scan.max_db_age,
        timeout_s=scan.timeout.total_seconds(),
        on_event=caller.on_event,
        database_location=found.location,
        cache=cache,
    )
    return _marked(grype, exploitation_for_trivy(caller, basis, registries, cache), found.notes)


def _program(name: str, caller: Caller) -> Path:
    found = find_program(name, caller.env)
    if found is None:
        raise ToolError(
            f"scanner {name} is named, but no program {name} is on PATH",
            hint=f"install {name}, or use the built-in scanner: --scanner osv",
        )
    if caller.locked is not None:
        # its version may be known from another run: it is not asked then
        caller.locked.check(found)
    return found


def _registry_side(name: ScannerChoice) -> _Maker:
    def make(caller: Caller, basis: Basis, registries: Registries, cache: DiskCache) -> Scanner:
        from ci_registry.wiring.databases import exploitation_for_trivy
        from ci_registry.wiring.registry_scanners import make_registry_scanner

        scanner = make_registry_scanner(name, caller, basis, registries)
        return _marked(scanner, exploitation_for_trivy(caller, basis, registries, cache), ())

    return make


_MAKERS: dict[ScannerChoice, _Maker] = {
    ScannerChoice.OSV: _osv,
    ScannerChoice.TRIVY: _trivy,
    ScannerChoice.GRYPE: _grype,
    **{name: _registry_side(name) for name in REGISTRY_SIDE},
}
