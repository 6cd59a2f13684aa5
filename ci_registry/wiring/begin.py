"""The beginning of a run: the settings are read and the key is loaded while other things are imported."""

from dataclasses import dataclass

from ci_registry.config.model import SignMode
from ci_registry.signers.interface import Signer
from ci_registry.wiring.ahead import Ahead
from ci_registry.wiring.basis import Basis, Caller, read_basis
from ci_registry.wiring.signing import signer_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What a run starts from."""

    basis: Basis
    signer: Ahead[Signer | None]


def begin_run(caller: Caller, *, signs: bool = False) -> Ahead[Begun]:
    """Return what reads settings and documents; `start` it before importing what comes next.

    `signs` says that the command may sign: then the key is loaded as soon as it is known which.
    """

    def begin() -> Begun:
        basis = read_basis(caller)
        signer = signer_of(caller, basis)
        mode, is_change = basis.settings.sign.mode, basis.ci.is_change_request
        if signs and mode is not SignMode.OFF and not is_change:
            signer.start()
        return Begun(basis=basis, signer=signer)

    return Ahead(begin)
