"""Reads what every command starts from: CI context, settings, policy, waivers; nothing is opened yet.

An adapter gets its own section of the settings, never all of them, and never the environment of
this process beyond what it names.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ci_registry.cancel import Cancel
from ci_registry.ci.context import CiContext
from ci_registry.ci.detect import detect, is_gitlab
from ci_registry.ci.git import Git
from ci_registry.ci.gitlab import gitlab_image
from ci_registry.ci.trusted import TrustedSource, trusted_source
from ci_registry.config.load import SAME_AS_CHECKOUT, Loaded, SourceFile, load_settings
from ci_registry.config.model import FailOn, InlineDocument, Settings, ToolsMode
from ci_registry.errors import ConfigError, Problem, SetupError, StorageError, UsageError
from ci_registry.events import EventSink
from ci_registry.files import read_file
from ci_registry.process import LockedPrograms, ProcessRunner
from ci_registry.secret import Masker

if TYPE_CHECKING:
    from ci_registry.policy.model import Policy
    from ci_registry.policy.waivers import Waiver

CONFIG_FILE = ".ci-registry.yml"
WAIVER_FILE = "waivers.yml"
_MAX_FILE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What the process that runs a command hands over."""

    env: Mapping[str, str]
    options: Mapping[str, object]
    """Settings from the command line, by option name, as text."""
    folder: Path
    cancel: Cancel
    masker: Masker
    on_event: EventSink
    now: Callable[[], datetime]
    random: Callable[[int], bytes]
    print_command: Callable[[str], None]
    lone_image: bool = False
    """The options describe the only image, whatever the settings file has: `scan TARGET`."""
    reports: tuple[Path, ...] = ()
    """Reports of scanners that somebody else ran: their findings are judged."""
    report_db_date: datetime | None = None
    """When the advisories behind `reports` were made, for those that do not say."""
    groups: set[int] = field(default_factory=set)
    """The process groups of the programs that run at the moment."""
    locked: LockedPrograms | None = None
    """The only programs that may be started, once the settings are read; None: any."""

    @property
    def runner(self) -> ProcessRunner:
        """Runs programs for this caller."""
        return ProcessRunner(
            cancel=self.cancel, masker=self.masker, groups=self.groups, locked=self.locked
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """Settings, CI context and the documents that decide, all read and checked."""

    loaded: Loaded
    ci: CiContext
    project: Path
    trusted: TrustedSource
    policy: "Policy"
    waivers: "tuple[Waiver, ...]"
    env: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def settings(self) -> Settings:
        """The effective settings."""
        return self.loaded.settings


def with_locked_programs(caller: Caller, settings: Settings) -> Caller:
    """Return the caller whose runner starts only the programs that the settings list, if they say so."""
    if settings.tools.mode is not ToolsMode.LOCKED:
        return caller
    return replace(caller, locked=LockedPrograms(allowed=settings.tools.programs))


def project_folder(caller: Caller) -> Path:
    """Return the folder that relative paths start from.

    Raises:
        UsageError: the one named is no folder.
    """
    name = str(
        caller.options.get("working-directory") or caller.env.get("CIREG_WORKING_DIRECTORY") or "."
    )
    folder = (caller.folder / name).resolve()
    if not folder.is_dir():
        raise UsageError(f"the working directory {name} is no folder")
    return folder


def read_basis(caller: Caller, *, needs_images: bool = True, decides_verdict: bool = True) -> Basis:
    """Read CI context, settings, policy and waivers.

    Args:
        caller: who runs the command.
        needs_images: whether settings without any image are an error.
        decides_verdict: false for commands that only move or show images: a broken policy does not
            stop them, and where the trusted ref can't be read (a job without a checkout), what only
            it may set keeps its default. Their context names no commit.

    Raises:
        ConfigError, UsageError, SetupError: something that a person wrote is wrong.
    """
    project = project_folder(caller)
    git = Git(run=caller.runner, env=caller.env, folder=project)
    ci = detect(caller.env, git, with_commit=decides_verdict)
    policy_ref = str(caller.options.get("policy-ref") or caller.env.get("CIREG_POLICY_REF") or "")
    offline = caller.options.get("offline", caller.env.get("CIREG_OFFLINE") == "true") is True
    try:
        trusted = trusted_source(ci, git, policy_ref=policy_ref, offline=offline)
    except SetupError as error:
        if decides_verdict:
            raise
        trusted = _nothing_trusted(error)
    documents = _Documents(trusted=trusted, now=caller.now(), wanted=decides_verdict)
    loaded = _load(caller, project, trusted, documents, needs_images=needs_images)
    settings = loaded.settings
    if settings.auth.registry_password:
        caller.masker.add(settings.auth.registry_password)
    notes = (*ci.notes, *loaded.notes, *((trusted.note,) if trusted.note else ()))
    notes += _changed_documents(settings, project, trusted) if decides_verdict else ()
    return Basis(
        loaded=loaded,
        ci=ci,
        project=project,
        trusted=trusted,
        policy=documents.policy,
        waivers=documents.waivers,
        env=caller.env,
        notes=notes,
    )


def _nothing_trusted(error: SetupError) -> TrustedSource:
    """Return a source that has no file, so that nobody decides anything."""
    return TrustedSource(
        label="untrusted",
        commit="none",
        read=lambda _path: None,
        note=f"{error.headline}: what only the trusted ref may set keeps its default",
    )


class _Documents:
    """Policy and waivers, read while the settings are, so that all mistakes are told at once."""

    def __init__(self, *, trusted: TrustedSource, now: datetime, wanted: bool) -> None:
        from ci_registry.policy.builtin import BUILT_IN

        self._trusted = trusted
        self._now = now
        self._wanted = wanted
        self.policy: Policy = BUILT_IN
        self.waivers: tuple[Waiver, ...] = ()

    def read(self, settings: Settings) -> tuple[Problem, ...]:
        """Read both, when they are wanted; returns what is wrong in them."""
        if not self._wanted:
            return ()
        problems: list[Problem] = []
        try:
            self.policy = _read_policy(settings, self._trusted)
        except ConfigError as error:
            problems += error.problems
        try:
            self.waivers = _read_waivers(settings, self._trusted, self._now)
        except ConfigError as error:
            problems += error.problems
        return tuple(problems)


def _load(
    caller: Caller,
    project: Path,
    trusted: TrustedSource,
    documents: _Documents,
    *,
    needs_images: bool,
) -> Loaded:
    named = str(caller.options.get("config") or caller.env.get("CIREG_CONFIG") or "")
    path = named or CONFIG_FILE
    file = project / path
    if named and not file.is_file():
        raise UsageError(f"there is no settings file {named}")
    checkout = None
    if file.is_file():
        checkout = SourceFile(path=path, data=read_file(file, max_bytes=_MAX_FILE_BYTES))
    env, options = dict(caller.env), dict(caller.options)
    own_image = gitlab_image(env) if is_gitlab(env) else ""
    if own_image and checkout is None and not options.get("image") and not env.get("CIREG_IMAGE"):
        env["CIREG_IMAGE"] = own_image
    same = trusted.is_checkout
    data = None if same else trusted.read(path)
    loaded = load_settings(
        checkout=checkout,
        trusted=SAME_AS_CHECKOUT
        if same
        else None
        if data is None
        else SourceFile(path=path, data=data, ref=trusted.label),
        env=env,
        options=options,
        needs_images=needs_images,
        lone_image=caller.lone_image,
        check_documents=documents.read,
    )
    if checkout is not None and not same and data is None:
        note = f"{trusted.label} has no {path}: what decides the verdict takes effect once merged"
        loaded = replace(loaded, notes=(*loaded.notes, note))
    settings = loaded.settings
    if own_image and not settings.registry and not settings.registries:
        loaded = replace(loaded, settings=replace(settings, registry=own_image))
    return loaded


def _changed_documents(
    settings: Settings, project: Path, trusted: TrustedSource
) -> tuple[str, ...]:
    """Tell which policy and waiver files of the checkout do not count yet."""
    if trusted.is_checkout:
        return ()
    policy = settings.policy if isinstance(settings.policy, str) else ""
    notes = []
    for path in filter(None, (policy, settings.waivers or WAIVER_FILE)):
        file = project / path
        changed = _content(file) if file.is_file() else None
        counts = trusted.read(path)
        if changed != counts:
            basis = f"that of {trusted.label}" if counts is not None else "none"
            what = path if changed is not None else f"the removal of {path}"
            notes.append(f"{what} takes effect once merged; until then {basis} counts")
    return tuple(notes)


def _content(file: Path) -> bytes:
    try:
        return read_file(file, max_bytes=_MAX_FILE_BYTES)
    except StorageError:
        return b""  # it does not count, so it need not be readable: only that it is another one matters


def _read_policy(settings: Settings, trusted: TrustedSource) -> "Policy":
    policy = _named_policy(settings, trusted)
    if trusted.label == "untrusted":
        policy = replace(policy, source=f"untrusted: {policy.source}")
    if settings.fail_on is FailOn.NONE:
        return policy
    from ci_registry.policy.evaluate import with_fail_on

    return with_fail_on(policy, settings.fail_on)


def _named_policy(settings: Settings, trusted: TrustedSource) -> "Policy":
    if not settings.policy:
        from ci_registry.policy.builtin import BUILT_IN

        return BUILT_IN
    from ci_registry.policy.reader import read_policy

    if isinstance(settings.policy, InlineDocument):
        inline = settings.policy
        policy = read_policy(inline.text.encode(), file=inline.file, first_line=inline.line)
        return replace(policy, source=f"{inline.file} ({trusted.label})")
    data = trusted.read(settings.policy)
    if data is None:
        message = f"the policy file does not exist at {trusted.label}"
        raise ConfigError((Problem(message=message, file=settings.policy),))
    policy = read_policy(data, file=settings.policy)
    return replace(policy, source=f"{settings.policy} ({trusted.label})")


def _read_waivers(
    settings: Settings, trusted: TrustedSource, now: datetime
) -> "tuple[Waiver, ...]":
    name = settings.waivers or WAIVER_FILE
    data = trusted.read(name)
    if data is None:
        if settings.waivers:
            raise ConfigError(
                (Problem(message=f"the waiver file does not exist at {trusted.label}", file=name),)
            )
        return ()
    from ci_registry.policy.waivers import read_waivers

    return read_waivers(data, file=name, today=now.date())
