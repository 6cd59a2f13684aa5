"""Makes the parts of a run: builders, scanner, signer, registries; adapters are imported when chosen."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ci_registry.builders.interface import Builder
from ci_registry.cache import DiskCache
from ci_registry.config.model import BuilderChoice
from ci_registry.oci.reference import Reference, parse_reference
from ci_registry.pipeline.state import Parts
from ci_registry.registry.interface import Repository
from ci_registry.registry.remote import check_push_right
from ci_registry.scanners.interface import Scanner
from ci_registry.signers.interface import Signer
from ci_registry.wiring.basis import Basis, Caller, with_locked_programs
from ci_registry.wiring.dry_run import open_dry_run
from ci_registry.wiring.registries import Registries, open_registries
from ci_registry.wiring.scanners import make_scanner
from ci_registry.wiring.staging_place import staging_hosts

if TYPE_CHECKING:
    from ci_registry.builders.docker_engine import DockerEngine

_ENGINE_TIMEOUT_S = 10.0


@contextlib.contextmanager
def open_parts(
    caller: Caller,
    basis: Basis,
    work: Path,
    cache: DiskCache,
    *,
    signer: Callable[[], Signer | None],
    dry_run: bool,
) -> Iterator[Parts]:
    """Open everything that a run is made of; closed at the end."""
    caller = with_locked_programs(caller, basis.settings)
    with contextlib.ExitStack() as stack:
        registries = stack.enter_context(
            open_registries(caller, basis, hosts=staging_hosts(basis.settings))
        )
        target: Callable[[Reference], Repository] = registries.open
        check_push = _push_checker(registries)
        if dry_run:
            real = None if basis.settings.runtime.offline else registries.open
            stand_ins = stack.enter_context(open_dry_run(caller, real, work))
            target, check_push = stand_ins.target, stand_ins.check
        scanner: list[Scanner] = []
        lock = threading.Lock()

        def open_scanner() -> Scanner:
            with lock:  # images ask at the same time: one scanner, one database, for all of them
                if not scanner:
                    scanner.append(make_scanner(caller, basis, registries, cache))
                return scanner[0]

        yield Parts(
            builders=make_builders(caller, basis, registries, cache),
            export_from_engine=lambda *args: _docker_engine(caller).export_image(*args),
            open_scanner=open_scanner,
            load_signer=signer,
            source=registries.open_source,
            target=target,
            check_push=check_push,
            docker_config=registries.docker_config,
        )


def _push_checker(registries: Registries) -> Callable[[Reference], None]:
    return lambda place: check_push_right(registries.open(place))


# --- builders


class _Builders(Mapping[str, Builder]):
    """The builders in the order in which `auto` tries them; each is imported when it is asked for."""

    def __init__(self, makers: Mapping[str, Callable[[], Builder]]) -> None:
        self._makers = makers
        self._made: dict[str, Builder] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Builder:
        with self._lock:
            if name not in self._made:
                self._made[name] = self._makers[name]()
            return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def make_builders(
    caller: Caller, basis: Basis, registries: Registries, cache: DiskCache
) -> Mapping[str, Builder]:
    """Return all builders, in the order in which `auto` tries them."""

    def buildah() -> Builder:
        from ci_registry.builders.buildah import Buildah

        return Buildah(
            run=caller.runner, env=caller.env, on_event=caller.on_event, masker=caller.masker
        )

    def assemble() -> Builder:
        from ci_registry.builders.assemble import Assemble

        return Assemble(open_base=_base_opener(registries), cancel=caller.cancel)

    return _Builders(
        {
            str(BuilderChoice.BUILDX): lambda: _buildx(caller, basis, cache),
            str(BuilderChoice.DOCKER_ENGINE): lambda: _docker_engine(caller),
            str(BuilderChoice.BUILDAH): buildah,
            str(BuilderChoice.ASSEMBLE): assemble,
        }
    )


def _buildx(caller: Caller, basis: Basis, cache: DiskCache) -> Builder:
    from ci_registry.builders.buildx import Buildx
    from ci_registry.builders.buildx_shortcuts import Shortcuts
    from ci_registry.builders.context import hash_context
    from ci_registry.network.local_socket import get_over_socket

    def ask_engine(socket: Path, target: str) -> bytes | None:
        return get_over_socket(socket, target, timeout_s=_ENGINE_TIMEOUT_S)

    return Buildx(
        run=caller.runner,
        env=caller.env,
        on_event=caller.on_event,
        masker=caller.masker,
        hash_context=hash_context,
        buildkit_image=basis.settings.build.buildkit_image,
        shortcuts=Shortcuts(ask_engine=ask_engine, cache=cache),
    )


def _docker_engine(caller: Caller) -> "DockerEngine":
    from ci_registry.builders.context import pack_context
    from ci_registry.builders.docker_engine import DockerEngine

    return DockerEngine(
        env=caller.env,
        on_event=caller.on_event,
        masker=caller.masker,
        cancel=caller.cancel,
        pack_context=pack_context,
    )


def _base_opener(registries: Registries) -> Callable[[str], tuple[Repository, str]]:
    def open_base(name: str) -> tuple[Repository, str]:
        reference = parse_reference(name)
        return registries.open_source(reference), reference.target

    return open_base
