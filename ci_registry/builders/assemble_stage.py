"""Carries out the instructions of stages for one platform."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ci_registry.builders.assemble_archive import Archives
from ci_registry.builders.assemble_base import BaseImage, BaseImages, Place
from ci_registry.builders.assemble_config import (
    SETTERS,
    ConfigProblem,
    Expander,
    StageConfig,
    expander,
    set_arguments,
)
from ci_registry.builders.assemble_content import ContentStore
from ci_registry.builders.assemble_copy import CopyRules, copy_one, copy_pattern
from ci_registry.builders.assemble_layers import WrittenLayer, write_layer
from ci_registry.builders.assemble_owner import resolve_owner
from ci_registry.builders.assemble_refusals import is_remote, is_symbolic, refusal_in
from ci_registry.builders.assemble_tree import (
    InlineBytes,
    Node,
    NodeKind,
    Tree,
    TreeError,
)
from ci_registry.dockerfile.expand import HEREDOC_BODY, ExpansionError, expand
from ci_registry.dockerfile.ignore import IgnoreMatcher
from ci_registry.dockerfile.lex import parse_heredoc_word
from ci_registry.dockerfile.model import Dockerfile, Heredoc, Instruction
from ci_registry.dockerfile.parse import parse_dockerfile
from ci_registry.dockerfile.stages import (
    SCRATCH,
    BuildArguments,
    ResolvedStage,
    find_stage,
    global_arguments,
    reachable_stages,
    source_stage,
)
from ci_registry.errors import BuildError
from ci_registry.oci.platform import Platform
from ci_registry.registry.layout import Layout

_OCTAL = re.compile(r"[0-7]{1,5}")
_MODE_MASK = 0o7777


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What all stages of one build share."""

    dockerfile: Dockerfile
    target: str
    output: Layout
    contents: ContentStore
    bases: BaseImages
    context: Callable[[], Tree]
    """The build context, listed when it is first asked for."""
    check: Callable[[], None]
    """Raises when the build is cancelled or out of time."""
    mtime: int


@dataclass(slots=True, kw_only=True)
class BuiltStage:
    """A stage while it is built and afterwards."""

    resolved: ResolvedStage
    config: StageConfig
    load_tree: Callable[[], Tree]
    base: BaseImage | None = None
    """The image from outside that the stage, or the first of its parents, starts from."""
    layers: list[WrittenLayer] = field(default_factory=list)
    """Written on top of `base`, those of parents included."""
    history: list[tuple[str, bool]] = field(default_factory=list)
    """Instruction and whether it made a layer, parents included."""
    _tree: Tree | None = None

    @property
    def tree(self) -> Tree:
        """The files; those of the base image are indexed when they are first needed."""
        if self._tree is None:
            self._tree = self.load_tree()
        return self._tree


class PlatformBuild:
    """Builds the stages that a target needs, for one platform."""

    def __init__(self, workshop: Workshop, arguments: BuildArguments) -> None:
        self._shop = workshop
        self._dockerfile = workshop.dockerfile
        self._arguments = arguments
        self._globals = global_arguments(self._dockerfile, arguments, workshop.target)
        self._built: dict[int, BuiltStage] = {}
        self._images: dict[str, Tree] = {}
        self._archives = Archives(workshop.contents)
        self.warnings: list[str] = []

    @property
    def _platform(self) -> Platform:
        return self._arguments.platform

    @property
    def declared(self) -> set[str]:
        """Names of the `ARG`s above the first `FROM` and in the stages that were built."""
        names = {name for arg in self._dockerfile.global_args for name, _ in arg.pairs}
        return names.union(*(stage.config.declared for stage in self._built.values()))

    def run(self) -> BuiltStage:
        """Build the target and what it needs.

        Raises:
            BuildError: an instruction can't be carried out; with its line.
            SetupError: a base can't be had, or the context can't be read.
            ToolError: a registry failed.
        """
        target = find_stage(self._dockerfile, self._shop.target)
        stages = reachable_stages(self._dockerfile, self._shop.target, self._arguments)
        chain = _chain(stages, target.index)
        for resolved in stages:
            self._built[resolved.stage.index] = self._build(
                resolved, keeps_layers=resolved.stage.index in chain
            )
        return self._built[target.index]

    def _build(self, resolved: ResolvedStage, *, keeps_layers: bool) -> BuiltStage:
        stage, triggers = self._start(resolved)
        for instruction in (*triggers, *resolved.instructions):
            self._shop.check()
            try:
                self._carry_out(stage, instruction)
            except (TreeError, ConfigProblem) as error:
                raise self._error(instruction, f"{instruction.keyword}: {error}") from error
            changes = stage.tree.take_changes() if instruction.keyword in _MAKES_FILES else ()
            if changes and keeps_layers:
                shop = self._shop
                stage.layers.append(
                    write_layer(shop.output, changes, shop.contents, mtime=shop.mtime)
                )
            stage.history.append((instruction.text, bool(changes)))
        return stage

    def _error(self, instruction: Instruction, message: str, hint: str = "") -> BuildError:
        return BuildError(
            message, hint=hint, file=self._dockerfile.file, line=instruction.first_line
        )

    def _start(self, resolved: ResolvedStage) -> tuple[BuiltStage, tuple[Instruction, ...]]:
        """Return a stage as it is below its first instruction, and the triggers of its base image."""
        if resolved.parent is not None:
            parent = self._built[resolved.parent]
            child = BuiltStage(
                resolved=resolved,
                config=parent.config.child(),
                load_tree=lambda: parent.tree.copied(),  # noqa: PLW0108 - only then is the base indexed
                base=parent.base,
                layers=list(parent.layers),
                history=list(parent.history),
            )
            return child, ()
        if resolved.base == SCRATCH:
            platform = resolved.platform or self._platform
            config = StageConfig.scratch(platform)
            return BuiltStage(resolved=resolved, config=config, load_tree=Tree), ()
        return self._start_from_image(resolved)

    def _start_from_image(
        self, resolved: ResolvedStage
    ) -> tuple[BuiltStage, tuple[Instruction, ...]]:
        origin = resolved.stage.origin
        platform = resolved.platform or self._platform
        place = Place(file=self._dockerfile.file, line=origin.first_line)
        image = self._shop.bases.load(resolved.base, platform, place)
        config = StageConfig.of_base(image.config, platform)
        triggers = tuple(self._trigger(text, origin) for text in config.texts("OnBuild"))
        config.settings.pop("OnBuild", None)
        if refusal := refusal_in(triggers):
            raise replace(refusal, reason=f"ONBUILD of {resolved.base}: {refusal.reason}").error(
                self._dockerfile.file
            )
        stage = BuiltStage(
            resolved=resolved,
            config=config,
            load_tree=lambda: self._shop.bases.tree(image),
            base=image,
        )
        return stage, triggers

    def _trigger(self, text: str, origin: Instruction) -> Instruction:
        parsed = parse_dockerfile(f"FROM scratch\n{text}\n", file=f"ONBUILD of {origin.text}")
        (instruction,) = parsed.stages[0].instructions
        return replace(instruction, first_line=origin.first_line, last_line=origin.last_line)

    # --- instructions

    def _carry_out(self, stage: BuiltStage, instruction: Instruction) -> None:
        expanded = expander(stage.config, self._dockerfile.escape)
        keyword = instruction.keyword
        if keyword == "ARG":
            set_arguments(
                stage.config, instruction, expanded, self._arguments.values, self._globals
            )
        elif keyword in ("COPY", "ADD"):
            self._copy(stage, instruction, expanded)
        elif keyword in SETTERS:
            SETTERS[keyword](stage.config, instruction, expanded)
            if keyword == "WORKDIR":
                self._make_workdir(stage)
        else:
            raise self._error(instruction, f"unknown instruction: {keyword}")

    def _make_workdir(self, stage: BuiltStage) -> None:
        path = stage.config.text("WorkingDir")
        user = stage.config.text("User")
        tree = stage.tree
        where = tree.resolve(path)
        missing = tree.get(where) is None
        owner = resolve_owner(user, tree, self._shop.contents) if user and missing else (0, 0)
        tree.make_directories(where, 0o755, owner)

    def _copy(self, stage: BuiltStage, instruction: Instruction, expanded: Expander) -> None:
        *words, last = instruction.arguments
        heredocs = [_heredoc(word, instruction) for word in words]
        sources = [expanded(w) for w, h in zip(words, heredocs, strict=True) if h is None]
        destination = stage.config.absolute(expanded(last))
        self._check_destination(stage, destination, len(words))
        rules = self._rules(stage, instruction, expanded)
        for source in sources:
            if instruction.keyword == "ADD" and is_remote(source):
                raise self._error(instruction, f"ADD of a remote file: {source}")
            tree = self._source(instruction, stage.resolved.stage.index)
            if not copy_pattern(tree, source, stage.tree, destination, rules):
                self.warnings.append(
                    f"{self._dockerfile.file}:{instruction.first_line}: {source} matches nothing"
                )
        for heredoc in heredocs:
            if heredoc is not None:
                tree = _heredoc_tree(heredoc, stage.config.variables)
                no_archive = replace(rules, archives=None)
                copy_one(tree, (heredoc.name,), stage.tree, destination, no_archive)

    def _check_destination(self, stage: BuiltStage, destination: str, sources_count: int) -> None:
        """Several sources need a folder; BuildKit would overwrite one with the other."""
        if sources_count < 2 or destination.endswith("/"):
            return
        node = stage.tree.get(stage.tree.resolve(destination))
        if node is None or not node.is_directory:
            raise TreeError(
                f"{sources_count} sources need a folder as destination: write {destination}/"
            )

    def _rules(self, stage: BuiltStage, instruction: Instruction, expanded: Expander) -> CopyRules:
        chown = expanded(instruction.flag("chown") or "")
        excludes = IgnoreMatcher(
            instruction.flag_values("exclude"), file=f"{self._dockerfile.file}: --exclude"
        )
        unpacks = instruction.keyword == "ADD"
        if instruction.flag("unpack") is not None:
            unpacks = instruction.has_flag("unpack")
        return CopyRules(
            owner=resolve_owner(chown, stage.tree, self._shop.contents) if chown else None,
            mode=_mode(expanded(instruction.flag("chmod") or "")),
            link=instruction.has_flag("link"),
            excluded=excludes.matches_with_parents,
            archives=self._archives if unpacks else None,
        )

    def _source(self, instruction: Instruction, before: int) -> Tree:
        name = instruction.flag("from") if instruction.keyword == "COPY" else None
        if not name:
            return self._shop.context()
        index = source_stage(self._dockerfile, instruction, name, before=before)
        if index is not None:
            return self._built[index].tree
        if name == SCRATCH:
            return Tree()
        if name not in self._images:
            place = Place(file=self._dockerfile.file, line=instruction.first_line)
            image = self._shop.bases.load(name, self._platform, place)
            self._images[name] = self._shop.bases.tree(image)
        return self._images[name]


_MAKES_FILES = frozenset({"ADD", "COPY", "WORKDIR"})


def _chain(stages: tuple[ResolvedStage, ...], target: int) -> frozenset[int]:
    """Return the target and the stages that it is built upon."""
    parents: Mapping[int, int | None] = {s.stage.index: s.parent for s in stages}
    chain: list[int] = []
    index: int | None = target
    while index is not None:
        chain.append(index)
        index = parents[index]
    return frozenset(chain)


def _heredoc(word: str, instruction: Instruction) -> Heredoc | None:
    try:
        start = None if instruction.is_exec else parse_heredoc_word(word)
    except ExpansionError:
        return None  # a file name with a lone quote
    if start is None:
        return None
    return next((h for h in reversed(instruction.heredocs) if h.name == start.name), None)


def _heredoc_tree(heredoc: Heredoc, variables: Mapping[str, str]) -> Tree:
    if "/" in heredoc.name:
        raise TreeError(f"the heredoc {heredoc.name!r} is no file name")
    body = heredoc.body
    if heredoc.expand:
        try:
            body = expand(body, variables, HEREDOC_BODY).text
        except ExpansionError as error:
            raise ConfigProblem(f"cannot expand <<{heredoc.name}: {error}") from error
    data = body.encode("utf-8", "surrogateescape")
    tree = Tree()
    tree.put(
        (heredoc.name,),
        Node(kind=NodeKind.FILE, mode=0o644, size_bytes=len(data), content=InlineBytes(data)),
    )
    return tree


def _mode(text: str) -> int | None:
    if not text:
        return None
    if not _OCTAL.fullmatch(text) or int(text, 8) > _MODE_MASK:
        kind = "symbolic modes are not supported" if is_symbolic(text) else "no octal mode"
        raise ConfigProblem(f"--chmod={text}: {kind}: write it as 0644 or 755")
    return int(text, 8)
