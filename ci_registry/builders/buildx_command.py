"""Composes the `docker buildx build` command line of one request."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ci_registry.builders.context_link import LinkedContext
from ci_registry.builders.interface import BuildRequest
from ci_registry.files import write_atomic
from ci_registry.oci.reference import is_loopback, parse_reference

EPOCH = "SOURCE_DATE_EPOCH"
SECRET_VARIABLE = "CIREG_SECRET_{}"  # noqa: S105 - a name, no password


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildCommand:
    """Arguments after `docker`, and the variables that carry secret values beside them."""

    arguments: tuple[str, ...]
    secret_env: Mapping[str, str]


def oci_output(layout: Path, *, fixed_times: bool = False) -> str:
    """Return the `--output` value that writes an OCI layout directory.

    `fixed_times` has BuildKit unpack, change and pack again every layer above the base: seconds for
    each hundred megabytes, in every build.
    """
    rewrite = ("rewrite-timestamp=true",) if fixed_times else ()
    return fields("type=oci", f"dest={layout}", "tar=false", "oci-mediatypes=true", *rewrite)


def engine_output(name: str) -> str:
    """Return the `--output` value that loads the image into the engine's own store."""
    return fields("type=docker", f"name={name}")


def fields(*parts: str) -> str:
    """Join `key=value` parts as buildx splits them: one line of CSV."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(parts)
    return buffer.getvalue()


def build_command(
    request: BuildRequest,
    linked: LinkedContext,
    *,
    output: str,
    metadata: Path,
    builder: str = "",
    import_cache: bool = True,
    export_cache: bool = True,
    fixed_times: bool = False,
) -> BuildCommand:
    """Return the command; everything that decides the result is said explicitly.

    Args:
        request: what to build.
        linked: the paths to name instead of the request's.
        output: see `oci_output` and `engine_output`.
        metadata: file that buildx writes its metadata to.
        builder: name of the buildx builder; empty for the user's current one.
        import_cache: whether cache may be read.
        export_cache: whether cache may be written.
        fixed_times: whether the time of the commit goes into layers, see `wants_fixed_times`.
    """
    secrets, secret_env = _secrets(request)
    arguments = (
        ("buildx", "build", "--progress", "rawjson", "--provenance=false", "--sbom=false")
        + (("--builder", builder) if builder else ())
        + ("--platform", ",".join(str(platform) for platform in request.platforms))
        + ("--output", output, "--metadata-file", str(metadata), "--file", str(linked.dockerfile))
        + (("--target", request.target) if request.target else ())
        + (("--no-cache",) if request.no_cache else ())
        + (("--pull",) if request.pull else ())
        + _network(request.network)
        + _pairs("--build-arg", _build_args(request, fixed_times=fixed_times))
        + _pairs("--label", request.labels)
        + secrets
        + (_cache_from(request) if import_cache and not request.no_cache else ())
        + (_cache_to(request) if export_cache and request.cache.export else ())
        + (str(linked.context),)
    )
    return BuildCommand(arguments=arguments, secret_env=secret_env)


def wants_fixed_times(request: BuildRequest, dockerfile: str) -> bool:
    """Whether layers must be the same when they are built again from nothing.

    That is so when the Dockerfile or its arguments speak of `SOURCE_DATE_EPOCH`, and without a cache.
    Otherwise the cache keeps layers as they are: the time of the commit in them would make every
    COPY and WORKDIR, and all behind them, new with each commit.
    """
    return request.no_cache or EPOCH in request.build_args or EPOCH in dockerfile


def _build_args(request: BuildRequest, *, fixed_times: bool) -> dict[str, str]:
    """Return the build arguments; BuildKit takes the time for layers and config from one of them."""
    epoch = {EPOCH: str(request.source_date_epoch)} if fixed_times else {}
    return epoch | dict(request.build_args)


def _pairs(option: str, values: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(part for name in sorted(values) for part in (option, f"{name}={values[name]}"))


def _network(network: str) -> tuple[str, ...]:
    """Return the options for RUN's network; the host's needs an entitlement."""
    if network == "default":
        return ()
    return ("--network", network, *(("--allow", "network.host") if network == "host" else ()))


def _secrets(request: BuildRequest) -> tuple[tuple[str, ...], dict[str, str]]:
    options: list[str] = []
    env: dict[str, str] = {}
    for number, secret in enumerate(request.secrets):
        if secret.value is not None:
            name = SECRET_VARIABLE.format(number)
            env[name] = secret.value.reveal()
            options += ["--secret", fields(f"id={secret.id}", f"env={name}")]
        else:
            options += ["--secret", fields(f"id={secret.id}", f"src={secret.file}")]
    return tuple(options), env


def _registry_fields(reference: str, request: BuildRequest) -> tuple[str, ...]:
    plain = parse_reference(reference).registry in request.plain_http
    insecure = ("registry.insecure=true",) if plain else ()
    return ("type=registry", f"ref={reference}", *insecure)


def _cache_from(request: BuildRequest) -> tuple[str, ...]:
    options = (fields(*_registry_fields(ref, request)) for ref in request.cache.imports)
    return tuple(part for option in options for part in ("--cache-from", option))


def _cache_to(request: BuildRequest) -> tuple[str, ...]:
    """Return the export option; the media types are explicit because old daemons default otherwise."""
    cache = request.cache
    options = ("image-manifest=true", "oci-mediatypes=true", "ignore-error=true")
    where = _registry_fields(cache.export, request)
    return ("--cache-to", fields(*where, f"mode={cache.export_mode}", *options))


def create_arguments(request: BuildRequest, name: str, image: str) -> tuple[str, ...]:
    """Return the arguments that make and start a private builder; writes its configuration.

    Args:
        request: decides whether the builder needs this machine's network or plain HTTP.
        name: of the builder.
        image: of BuildKit, pinned by digest.
    """
    caches = (*request.cache.imports, *filter(None, (request.cache.export,)))
    local = any(is_loopback(parse_reference(ref).registry) for ref in caches)
    entitled = ("--buildkitd-flags", "--allow-insecure-entitlement network.host")
    return (
        *("buildx", "create", "--name", name, "--driver", "docker-container", "--bootstrap"),
        *("--driver-opt", f"image={image}"),
        # Its loopback must be ours, or it can't reach a registry there.
        *(("--driver-opt", "network=host") if local or request.network == "host" else ()),
        *(entitled if request.network == "host" else ()),
        *_buildkitd_config(request),
    )


def _buildkitd_config(request: BuildRequest) -> tuple[str, ...]:
    """Write the BuildKit configuration that allows hosts without TLS, when there are any."""
    if not request.plain_http:
        return ()
    path = request.work / "buildkitd.toml"
    tables = (f"[registry.{json.dumps(host)}]\n  http = true\n" for host in request.plain_http)
    write_atomic(path, "".join(tables), sync=False)
    return ("--buildkitd-config", str(path))
