"""Joins command line, environment, settings file and defaults into the settings of one run."""

import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import Enum
from typing import Final, cast

from ci_registry.config.conversion import did_you_mean, read_as
from ci_registry.config.destinations import destinations as destinations  # noqa: PLC0414 - part of what loading offers
from ci_registry.config.model import (
    IMAGE_NAME_PATTERN,
    ImageSettings,
    InlineDocument,
    RunOptions,
    Settings,
)
from ci_registry.config.options import OptionSpec, Scope, all_options, format_value
from ci_registry.config.text_values import bare_names, node_from_text
from ci_registry.config.yaml_reader import Node, read_document
from ci_registry.errors import ConfigError, Problem, UsageError
from ci_registry.results import SettingValue
from ci_registry.secret import MASK

_PREFIX = "CIREG_"
_NO_SETTINGS = (
    "CIREG_DISABLED",
    "CIREG_DOTENV_PREFIX",
    "CIREG_WORK_DIR",
    "CIREG_CACHE_DIR",
    "CIREG_PEERS_DIR",
)
_NO_SETTING_PREFIXES = ("CIREG_SECRET_", "CIREG_TEST_")


class SameAsCheckout(Enum):
    """The type of `SAME_AS_CHECKOUT`."""

    SAME_AS_CHECKOUT = "same as checkout"


SAME_AS_CHECKOUT: Final = SameAsCheckout.SAME_AS_CHECKOUT
"""For `load_settings`: the checked-out file is itself the trusted one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """The bytes of a settings file and where they are from."""

    path: str
    """As the person named it: `.ci-registry.yml`."""
    data: bytes
    ref: str = ""
    """The git ref that it was read from; empty for the checkout."""

    @property
    def label(self) -> str:
        """`main:.ci-registry.yml`, or the path alone."""
        return f"{self.ref}:{self.path}" if self.ref else self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The settings of one run and where each came from."""

    settings: Settings
    """`images` holds every image of the file; those of this run are `selected`."""
    run: RunOptions
    selected: tuple[str, ...]
    """Names of the images to work on, in the order of the file."""
    values: tuple[SettingValue, ...]
    """Every effective value and its source, in the order of the model; secrets are `***`."""
    notes: tuple[str, ...]


def load_settings(
    *,
    checkout: SourceFile | None,
    trusted: SourceFile | SameAsCheckout | None,
    env: Mapping[str, str],
    options: Mapping[str, object],
    needs_images: bool = True,
    lone_image: bool = False,
    check_documents: Callable[[Settings], tuple[Problem, ...]] = lambda _settings: (),
) -> Loaded:
    """Return the effective settings: command line > environment > file > default.

    Args:
        checkout: the settings file of the change under test; None when there is none.
        trusted: the file of the trusted ref, which alone sets what decides the verdict; None when
            that ref has no file.
        env: the environment; an empty `CIREG_…` value means not given.
        options: command line, by `OptionSpec.name`: text, a tuple of texts for lists, a bool for flags;
            what was not given is absent.
        needs_images: whether having no image at all is an error.
        lone_image: make one image of the options, whatever images the file has.
        check_documents: reads the files that the settings name and returns what is wrong in them,
            which is reported together with the rest; a broken setting has its default there.

    Raises:
        ConfigError: something in the files, environment or options is wrong; all of it at once.
        UsageError: no image is named, or image options are given while several images are selected.
    """
    loading = _Loading(checkout, trusted, env, options)
    return loading.load(
        needs_images=needs_images, lone_image=lone_image, check_documents=check_documents
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Value:
    """An effective value, its printable form and its source."""

    value: object
    shown: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A settings file that was read; without `node` there is none or it is broken."""

    settings: Settings = field(default_factory=Settings)
    node: Node | None = None
    label: str = ""

    def value(self, spec: OptionSpec, image: str = "") -> _Value:
        """Return what the file says, or the default."""
        prefix = ("images", image) if image else ()
        node = self.node.find(*prefix, *spec.path) if self.node else None
        if node is None:
            return _Value(value=spec.default, shown=spec.default_text, source="default")
        value: object = self.settings.images.get(image) if image else self.settings
        for name in spec.path:
            value = getattr(value, name)
        source = f"{self.label}:{node.line}"
        return _Value(value=value, shown=format_value(value), source=source)


class _Loading:
    """One call of `load_settings`."""

    def __init__(
        self,
        checkout: SourceFile | None,
        trusted: SourceFile | SameAsCheckout | None,
        env: Mapping[str, str],
        options: Mapping[str, object],
    ) -> None:
        self._problems: list[Problem] = []
        self._notes: list[str] = []
        self._values: list[SettingValue] = []
        self._env = env
        self._options = options
        self._checkout = self._read(checkout)
        self._trusted = self._checkout
        if not isinstance(trusted, SameAsCheckout):
            self._trusted = self._read(trusted, only_trusted=True)
        self._given: dict[str, _Value] = {}

    def load(
        self,
        *,
        needs_images: bool,
        lone_image: bool,
        check_documents: Callable[[Settings], tuple[Problem, ...]],
    ) -> Loaded:
        self._check_names()
        for spec in all_options():
            if (value := self._read_given(spec)) is not None:
                self._given[spec.name] = value
        settings = cast(
            "Settings", _assemble(Settings, self._effective(Scope.SETTINGS, self._given))
        )
        run = cast("RunOptions", _assemble(RunOptions, self._effective(Scope.RUN, self._given)))
        self._note_differences()
        self._problems += check_documents(settings)
        self._raise_problems()
        known = () if lone_image else tuple(self._checkout.settings.images)
        images, selected = self._images(known, run.only, needs_images=needs_images)
        settings = replace(settings, images=images)
        self._check(settings, selected)
        self._raise_problems()
        values, notes = tuple(self._values), tuple(self._notes)
        return Loaded(settings=settings, run=run, selected=selected, values=values, notes=notes)

    def _raise_problems(self) -> None:
        if self._problems:
            raise ConfigError(tuple(dict.fromkeys(self._problems)))

    def _read(self, file: SourceFile | None, *, only_trusted: bool = False) -> _File:
        if file is None:
            return _File()
        try:
            node = read_document(file.data, file=file.label)
        except ConfigError as error:
            self._problems.extend(error.problems)
            return _File(label=file.label)
        if only_trusted:
            node = _trusted_part(node)
        settings = read_as(node, Settings, self._problems)
        if settings is None:
            return _valid_part(node, file.label)
        return _File(settings=settings, node=node, label=file.label)

    def _check_names(self) -> None:
        by_env = {spec.env: spec for spec in all_options()}
        for name, value in self._env.items():
            if not name.startswith(_PREFIX) or not value.strip() or name in by_env:
                continue
            if name in _NO_SETTINGS or name.startswith(_NO_SETTING_PREFIXES):
                continue
            hint = did_you_mean(name, by_env)
            self._problems.append(Problem(message=f"unknown setting {name}", hint=hint))
        by_name = {spec.name: spec for spec in all_options()}
        for name in self._options:
            if name not in by_name:
                hint = did_you_mean(name, by_name)
                self._problems.append(Problem(message=f"unknown option --{name}", hint=hint))

    def _read_given(self, spec: OptionSpec) -> _Value | None:
        """Return what command line or environment say; None when neither says anything."""
        raw: object
        if spec.name in self._options:
            raw, source = self._options[spec.name], spec.option
        elif self._env.get(spec.env, "").strip():
            raw, source = self._env[spec.env], spec.env
        else:
            return None
        node = node_from_text(spec, raw, where=source, env=self._env, problems=self._problems)
        value: object = read_as(
            node, spec.type, self._problems, path=source, metadata=spec.metadata
        )
        if value is None:
            return _Value(value=spec.default, shown="", source=source)
        hidden = bare_names(spec, raw)
        printable = value
        if isinstance(value, dict):
            printable = {name: MASK if name in hidden else text for name, text in value.items()}
        return _Value(value=value, shown=format_value(printable), source=source)

    def _effective(
        self, scope: Scope, given: Mapping[str, _Value], image: str = ""
    ) -> dict[tuple[str, ...], object]:
        """Return and record the effective value of every option of a scope, by path."""
        result = {}
        for spec in all_options():
            if spec.scope is not scope:
                continue
            file = self._trusted if spec.trusted else self._checkout
            if scope is Scope.RUN:
                file = _File()
            found = given.get(spec.name) or file.value(spec, image)
            result[spec.path] = found.value
            key = spec.key.replace("*", image)
            self._values.append(SettingValue(key=key, value=found.shown, source=found.source))
        return result

    def _note_differences(self) -> None:
        """Tell which deciding values of the checkout do not count yet."""
        for spec in all_options():
            if not spec.trusted or self._trusted is self._checkout or spec.name in self._given:
                continue
            changed, counts = self._checkout.value(spec), self._trusted.value(spec)
            if _essence(changed.value) != _essence(counts.value):
                where = changed.source if changed.source != "default" else "the change"
                basis = f"{counts.shown or 'the default'} ({counts.source})"
                self._notes.append(
                    f"{spec.key}: {changed.shown or 'the default'} ({where}) takes effect once "
                    f"merged; until then {basis} counts"
                )

    def _images(
        self, known: tuple[str, ...], only: tuple[str, ...], *, needs_images: bool
    ) -> tuple[dict[str, ImageSettings], tuple[str, ...]]:
        """Return every image with its effective settings, and the names of the selected ones."""
        specs = [s for s in all_options() if s.scope is Scope.IMAGE]
        overrides = {s.name: v for s in specs if (v := self._given.get(s.name)) is not None}
        names = known or _name_from_repository(overrides)
        selected = _select(names, only)
        if not names and (needs_images or overrides):
            raise UsageError(
                "no image to work on",
                hint="name it under `images:` in .ci-registry.yml, or give --image "
                "(CIREG_IMAGE), for example ghcr.io/acme/api",
            )
        if overrides and len(selected) != 1:
            sources = ", ".join(value.source for value in overrides.values())
            raise UsageError(
                f"{sources} need exactly one image, and {len(selected)} are selected: "
                f"{', '.join(selected)}",
                hint="select one with --only, or write the values into the settings file",
            )
        images = {}
        for name in names:
            given = overrides if name in selected else {}
            values = self._effective(Scope.IMAGE, given, name)
            images[name] = cast("ImageSettings", _assemble(ImageSettings, values))
        return images, selected

    def _check(self, settings: Settings, selected: tuple[str, ...]) -> None:
        """Look for what each value alone can't show."""
        if settings.registry and settings.registries:
            self._problems.append(
                Problem(message="both `registry` and `registries` are given", hint="choose one")
            )
        for name in selected:
            image = settings.images[name]
            node = self._checkout.node.find("images", name) if self._checkout.node else None
            file, line = (node.file, node.line) if node else ("", 0)
            if image.from_engine and image.from_layout:
                message = f"images.{name}: both from_engine and from_layout are given"
                self._problems.append(Problem(message=message, file=file, line=line))
            try:
                destinations(settings, name)
            except UsageError as error:
                message = f"images.{name}: {error.message}"
                self._problems.append(
                    Problem(message=message, file=file, line=line, hint=error.hint)
                )


def _name_from_repository(overrides: Mapping[str, _Value]) -> tuple[str, ...]:
    """Return the name of the one image that exists without a file: the last part of its repository."""
    if "image" not in overrides:
        return ()
    repository = str(overrides["image"].value)
    name = re.split("[:@]", repository.rstrip("/").rpartition("/")[2])[0].lower()
    if not re.fullmatch(IMAGE_NAME_PATTERN, name):
        source = overrides["image"].source
        raise UsageError(
            f"{source}: not a repository: {repository!r}",
            hint="write a name such as api, or a full one such as ghcr.io/acme/api",
        )
    return (name,)


def _select(names: tuple[str, ...], only: tuple[str, ...]) -> tuple[str, ...]:
    for name in only:
        if name not in names:
            known = f"known: {', '.join(names)}" if names else "there are none"
            raise UsageError(
                f"no image is called {name!r}", hint=did_you_mean(name, names) or known
            )
    return tuple(name for name in names if name in only) if only else names


def _trusted_part(node: Node) -> Node:
    """Return the part of a settings file that decides the verdict; the rest need not even be valid."""
    keys = {spec.path[0] for spec in all_options() if spec.trusted}
    return replace(node, entries=tuple(pair for pair in node.entries if pair[0].text in keys))


def _valid_part(node: Node, label: str) -> _File:
    """Return what a broken settings file says under its valid keys: further mistakes are found by it."""
    alone = (replace(node, entries=(pair,)) for pair in node.entries)
    valid = tuple(one.entries[0] for one in alone if read_as(one, Settings, []) is not None)
    rest = replace(node, entries=valid)
    settings = read_as(rest, Settings, [])
    return (
        _File(label=label) if settings is None else _File(settings=settings, node=rest, label=label)
    )


def _essence(value: object) -> object:
    """Return what makes two values differ; where a document stands in its file does not."""
    return value.text if isinstance(value, InlineDocument) else value


def _assemble(
    owner: type, values: Mapping[tuple[str, ...], object], path: tuple[str, ...] = ()
) -> object:
    """Make a settings dataclass and its sections of values by path; the rest keeps its default."""
    hints = typing.get_type_hints(owner)
    arguments = {}
    for item in fields(owner):
        here, target = (*path, item.name), hints[item.name]
        if here in values:
            arguments[item.name] = values[here]
        elif is_dataclass(target):
            arguments[item.name] = _assemble(typing.cast("type", target), values, here)
    return owner(**arguments)
