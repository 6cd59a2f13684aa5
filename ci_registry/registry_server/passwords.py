"""A file of users, one a line: `name:scrypt$…`, or `name:$2y$…` as `htpasswd -B` writes it (bcrypt)."""

import base64
import binascii
import hashlib
import hmac
import importlib.util
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from ci_registry.errors import ConfigError, Problem, SetupError
from ci_registry.files import read_file
from ci_registry.secret import Secret

COST_LOG2 = 15
"""scrypt's N is 2 to this: 32 MiB and about 0.1 s for one password."""
_BLOCK, _PARALLEL, _KEY_BYTES, _SALT_BYTES = 8, 1, 32, 16
_MOST_LOG2 = 18
_MEMORY_BYTES = 1024**3
_MAX_FILE_BYTES = 4 * 1024 * 1024
_AT_ONCE = 2
"""How many passwords are hashed at once: others wait, so that guessing can't take all memory."""
_REMEMBERED = 1000
_WRONG_LINE = "neither NAME:scrypt$… nor a bcrypt line of htpasswd -B"
_LINE = re.compile(
    r"scrypt\$([0-9]{1,2})\$([0-9]{1,2})\$([0-9]{1,2})\$([^$]{1,100})\$([^$]{1,100})"
)
_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
_MOST_ROUNDS_LOG2 = 16
"""A bcrypt password with more takes longer than anybody waits."""


class _Stored(Protocol):
    """A password as it stands in the file."""

    def matches(self, password: str) -> bool:
        """Whether it is the hash of this password; takes a while, on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bcrypt:
    """A password as `htpasswd -B` writes it."""

    text: bytes

    def matches(self, password: str) -> bool:
        """Whether it is the hash of this password."""
        import bcrypt  # noqa: PLC0415 - an extra; whoever has no such file needs none of it

        try:
            return bcrypt.checkpw(password.encode(), self.text)
        except ValueError:
            return False  # bcrypt has no passwords of more than 72 bytes, or with a NUL


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scrypt:
    """A password as `serve hash-password` writes it."""

    log2: int
    block: int
    parallel: int
    salt: bytes
    key: bytes

    def matches(self, password: str) -> bool:
        """Whether it is the hash of this password; takes a tenth of a second."""
        key = hashlib.scrypt(
            password.encode(),
            salt=self.salt,
            n=1 << self.log2,
            r=self.block,
            p=self.parallel,
            maxmem=_MEMORY_BYTES,
            dklen=len(self.key),
        )
        return hmac.compare_digest(key, self.key)


def hash_password(password: Secret, random: Callable[[int], bytes]) -> str:
    """Return a password as it is stored: `scrypt$15$8$1$SALT$KEY`, salt and key in base64."""
    salt = random(_SALT_BYTES)
    key = hashlib.scrypt(
        password.reveal().encode(),
        salt=salt,
        n=1 << COST_LOG2,
        r=_BLOCK,
        p=_PARALLEL,
        maxmem=_MEMORY_BYTES,
        dklen=_KEY_BYTES,
    )
    texts = (base64.b64encode(part).decode() for part in (salt, key))
    return "$".join(("scrypt", f"{COST_LOG2}", f"{_BLOCK}", f"{_PARALLEL}", *texts))


def _parse(text: str) -> _Stored | None:
    found = _BCRYPT.fullmatch(text)
    if found is not None:
        is_known = 4 <= int(found[1]) <= _MOST_ROUNDS_LOG2
        return _Bcrypt(text=text.encode()) if is_known else None
    match = _LINE.fullmatch(text)
    if match is None or not 10 <= int(match[1]) <= _MOST_LOG2:
        return None
    if not (1 <= int(match[2]) <= 16 and 1 <= int(match[3]) <= 4):
        return None
    try:
        salt, key = (base64.b64decode(part, validate=True) for part in (match[4], match[5]))
    except binascii.Error:
        return None
    if len(salt) < _SALT_BYTES or len(key) < _KEY_BYTES:
        return None
    return _Scrypt(
        log2=int(match[1]), block=int(match[2]), parallel=int(match[3]), salt=salt, key=key
    )


def _check_bcrypt(path: Path) -> None:
    if importlib.util.find_spec("bcrypt") is None:
        raise SetupError(
            f"{path} stores passwords as bcrypt, and the Python package bcrypt is not installed",
            hint="pip install 'ci-registry[htpasswd]', or make lines with: ci-registry serve hash-password NAME",
        )


class Users:
    """Checks passwords; those found right are remembered, because Docker sends one with each request."""

    def __init__(self, stored: dict[str, _Stored], random: Callable[[int], bytes]) -> None:
        self._stored = stored
        self._nobody = next(iter(stored.values()))
        """Compared with for users that do not exist, so that they take as long."""
        self._key = random(32)
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        self._right: dict[bytes, None] = {}

    @classmethod
    def read(cls, path: Path, random: Callable[[int], bytes]) -> Self:
        """Read a users file, also one of `htpasswd -B`; empty lines and lines with `#` first are comments.

        Raises:
            StorageError: it can't be read.
            ConfigError: a line is wrong, or there is no user at all.
            SetupError: passwords are stored as bcrypt, and the package for that is not there.
        """
        stored: dict[str, _Stored] = {}
        problems: list[Problem] = []
        lines = read_file(path, max_bytes=_MAX_FILE_BYTES).decode(errors="replace").splitlines()
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name, _, text = line.strip().partition(":")
            found = _parse(text)
            if found is None or not name or name in stored:
                what = _WRONG_LINE if name not in stored else f"user {name} is there twice"
                problems.append(Problem(message=what, file=str(path), line=number))
            else:
                stored[name] = found
        if not stored and not problems:
            problems.append(Problem(message="no user in it", file=str(path)))
        if problems:
            hint = "make lines with: ci-registry serve hash-password NAME"
            raise ConfigError(tuple(problems), hint=hint)
        if any(isinstance(found, _Bcrypt) for found in stored.values()):
            _check_bcrypt(path)
        return cls(stored, random)

    def check(self, user: str, password: str) -> bool:
        """Whether this is the password of the user; as slow for a user that does not exist."""
        seal = hmac.new(
            self._key, f"{len(user)}:{user}{password}".encode(), hashlib.sha256
        ).digest()
        if seal in self._right:
            return True
        stored = self._stored.get(user)
        with self._turns:
            is_right = (stored or self._nobody).matches(password) and stored is not None
        if is_right:
            if len(self._right) >= _REMEMBERED:
                self._right.clear()
            self._right[seal] = None
        return is_right
