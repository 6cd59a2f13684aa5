"""Loads the key of a run: from where the settings say, or one that lives for a dry run only."""

from ci_registry.signers.interface import Signer
from ci_registry.wiring.ahead import Ahead
from ci_registry.wiring.basis import Basis, Caller


def signer_of(caller: Caller, basis: Basis) -> Ahead[Signer | None]:
    """Return what loads the key of a run, once: deriving it from a password takes a tenth of a second."""
    if basis.loaded.run.dry_run:
        return Ahead(_throw_away_signer)
    return Ahead(lambda: load_signer(caller, basis))


def load_signer(caller: Caller, basis: Basis) -> Signer | None:
    """Load the private key that `sign.key` names; None when its source is empty.

    Raises:
        SetupError: the key is there but can't be used.
    """
    from ci_registry.signers.keys import load_private_key, read_key_source, read_password

    pem = read_key_source(basis.settings.sign.key, caller.env, folder=basis.project)
    if pem is None:
        return None
    caller.masker.add(pem)
    password = read_password(caller.env)
    if password is not None:
        caller.masker.add(password)
    return load_private_key(pem, password)


def _throw_away_signer() -> Signer:
    """Make a key that exists in memory only, for dry runs."""
    from ci_registry.signers.native import generate_signer

    return generate_signer()
