"""A file of users whose passwords are stored as scrypt, `name:scrypt$…`, one a line."""

import base64
import binascii
import hashlib
import hmac
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ci_registry.errors import ConfigError, Problem
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
_LINE = re.compile(
    r"scrypt\$([0-9]{1,2})\$([0-9]{1,2})\$([0-9]{1,2})\$([^$]{1,100})\$([^$]{1,100})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """A password as it stands in the file."""

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
    return _Stored(
        log2=int(match[1]), block=int(match[2]), parallel=int(match[3]), salt=salt, key=key
    )


class Users:
    """Checks passwords; those found right are remembered, because Docker sends one with each request."""

    def __init__(self, stored: dict[str, _Stored], random: Callable[[int], bytes]) -> None:
        self._stored = stored
        self._nobody = _Stored(
            log2=COST_LOG2,
            block=_BLOCK,
            parallel=_PARALLEL,
            salt=random(_SALT_BYTES),
            key=random(_KEY_BYTES),
        )
        self._key = random(32)
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        self._right: dict[bytes, None] = {}

    @classmethod
    def read(cls, path: Path, random: Callable[[int], bytes]) -> Self:
        """Read a users file; empty lines and lines with `#` first are comments.

        Raises:
            StorageError: it can't be read.
            ConfigError: a line is wrong, or there is no user at all.
        """
        stored: dict[str, _Stored] = {}
        problems = []
        lines = read_file(path, max_bytes=_MAX_FILE_BYTES).decode(errors="replace").splitlines()
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name, _, text = line.strip().partition(":")
            found = _parse(text)
            if found is None or not name or name in stored:
                what = f"user {name} is there twice" if name in stored else "not NAME:scrypt$…"
                problems.append(Problem(message=what, file=str(path), line=number))
            else:
                stored[name] = found
        if not stored and not problems:
            problems.append(Problem(message="no user in it", file=str(path)))
        if problems:
            hint = "make lines with: ci-registry serve hash-password NAME"
            raise ConfigError(tuple(problems), hint=hint)
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
