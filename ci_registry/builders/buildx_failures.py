"""What a failed call of buildx means: the build's fault, the cache's, the engine's, or a private builder's."""

from ci_registry.builders.buildx_progress import BuildLog
from ci_registry.builders.failures import Failure, build_failure, stopped_builder
from ci_registry.builders.interface import BuildRequest
from ci_registry.errors import BuildError, CiRegistryError, ToolError
from ci_registry.oci.reference import parse_reference
from ci_registry.process import Completed

_TOOL = "buildx"


class NoPrivateBuilderError(ToolError):
    """The BuildKit container could not be made; another way may still work."""


class CacheUnreadableError(ToolError):
    """The build failed because the cache that it had found could not be read."""


def failed_build(
    request: BuildRequest, done: Completed, log: BuildLog, *, imports: bool
) -> CiRegistryError:
    """Return the error of a call that failed; `imports` says whether it read a cache."""
    if (stopped := stopped_builder(_TOOL, request, done)) is not None:
        return stopped
    text = log.error or "\n".join(log.plain) or f"buildx ended with {done.exit_code}"
    failure = Failure(
        tool=_TOOL,
        image=request.image,
        dockerfile_name=request.dockerfile_name,
        text=text,
        line=log.source_line,
        output=log.failed_output,
    )
    error = build_failure(failure)
    read = imports and not request.no_cache and request.cache.imports
    if read and not isinstance(error, BuildError) and _is_about_cache(text, request):
        return CacheUnreadableError(error.message)
    return error


def _is_about_cache(text: str, request: BuildRequest) -> bool:
    """Whether an error may come from reading the cache; a base image gone missing looks the same."""
    if "failed to resolve source metadata" in text:
        return False
    names = {parse_reference(ref).name for ref in request.cache.imports}
    paths = {"/".join(("", "v2", name.partition("/")[2], "")) for name in names}
    hints = ("cache", "httpReadSeeker", "content descriptor", *names, *paths)
    return any(hint in text for hint in hints)
