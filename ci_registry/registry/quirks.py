"""What is known of each kind of registry where it differs from the specification: one row per kind.

A row is found by the host's name, or by what the registry says of itself with its first answers. It
never replaces asking: it decides what is not even tried, how a token is asked for, and which advice a
person gets. What no row needs is not here: every blob goes out as one POST and one PUT (several PATCHes
are broken on ECR), a mount always names its source (Quay wants that), and the token of a mount may read the
source (Docker Hub wants that).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ci_registry.network.message import Headers
from ci_registry.registry.challenge import parse_challenges


class RegistryKind(StrEnum):
    """Whose registry it is."""

    DOCKER_HUB = "Docker Hub"
    GHCR = "GHCR"
    ECR = "ECR"
    ACR = "ACR"
    GAR = "GAR"
    GITLAB = "GitLab"
    HARBOR = "Harbor"
    QUAY = "Quay"
    DISTRIBUTION = "distribution"
    CI_REGISTRY = "ci-registry serve"
    ZOT = "zot"
    UNKNOWN = "unknown"


class UntagBy(StrEnum):
    """How one tag is taken away while its manifest stays."""

    OCI = "oci"
    """`DELETE` of the tag as the specification says; older versions answer 400 or 405."""
    OWN_API = "own-api"
    """Only by an API of the registry's own, or not at all: the specification's way is not tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """One kind of registry."""

    kind: RegistryKind
    hosts: tuple[str, ...] = ()
    """Regular expressions, each for a whole host with its port."""
    untag: UntagBy = UntagBy.OCI
    untag_advice: str = ""
    """How a person removes a tag alone there; deleting the manifest would take the other tags along."""
    token_actions: Mapping[str, str] = field(default_factory=dict)
    """Actions that its token service calls otherwise."""
    tags_per_page: int = 1000
    """What to ask of a tag list: its cap; some refuse more than 1000."""
    referrers_advice: str = ""
    """What to know when its referrers API refuses."""
    realm: str = ""
    """Prefix of the only address where its token service may be."""
    limits_advice: str = ""
    """What to do when it limits requests."""
    login_advice: str = ""
    """How to log in where a password is not what it wants; `{host}` is its name."""
    honours_if_match: bool = False
    """Whether a manifest PUT with `If-Match` or `If-None-Match` is refused when the tag has moved."""


UNKNOWN = Quirks(
    kind=RegistryKind.UNKNOWN, untag_advice="use the registry's own interface to remove the tag"
)
ROWS = (
    Quirks(
        kind=RegistryKind.DOCKER_HUB,
        hosts=(r"docker\.io", r"index\.docker\.io", r"registry-1\.docker\.io"),
        untag=UntagBy.OWN_API,
        untag_advice="Docker Hub removes a tag alone by its own API only:"
        " DELETE https://hub.docker.com/v2/repositories/NAMESPACE/NAME/tags/TAG",
        realm="https://auth.docker.io/",
        limits_advice="log in to Docker Hub, or name a mirror in network.mirrors",
    ),
    Quirks(
        kind=RegistryKind.GHCR,
        hosts=(r"ghcr\.io", r"containers\.[a-z0-9.-]+\.ghe\.com"),
        untag=UntagBy.OWN_API,
        untag_advice="GHCR deletes only whole package versions, with every tag on them:"
        " put the tag on a throw-away image, then delete that version on GitHub",
        limits_advice="GitHub allows 1000 requests an hour with GITHUB_TOKEN",
    ),
    Quirks(
        kind=RegistryKind.ECR,
        hosts=(
            r"[0-9]+\.dkr\.ecr(?:-fips)?\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?",
            r"public\.ecr\.aws",
        ),
        untag=UntagBy.OWN_API,
        untag_advice="ECR removes a tag alone by its own API only, and the last tag takes the image along:"
        " aws ecr batch-delete-image --repository-name NAME --image-ids imageTag=TAG",
        referrers_advice="ECR refuses some artifacts there (aws/containers-roadmap#2783)",
        login_advice="ECR wants a token of AWS: install docker-credential-ecr-login and name it in"
        ' ~/.docker/config.json: "credHelpers": {{"{host}": "ecr-login"}}',
    ),
    Quirks(
        kind=RegistryKind.ACR,
        hosts=(r"[a-z0-9-]+\.azurecr\.(?:io|cn|us)",),
        untag_advice="az acr repository untag --image NAME:TAG (`delete` would take the image along);"
        " a locked tag must be unlocked first",
        tags_per_page=100,
        referrers_advice="ACR has no referrers API in registries with customer-managed keys",
        login_advice="log in with az acr login, or install docker-credential-acr-env and name it in"
        ' ~/.docker/config.json: "credHelpers": {{"{host}": "acr-env"}}',
    ),
    Quirks(
        kind=RegistryKind.GAR,
        hosts=(r"[a-z0-9-]+-docker\.pkg\.dev", r"(?:[a-z]+\.)?gcr\.io"),
        untag_advice="gcloud artifacts docker tags delete IMAGE:TAG",
        login_advice="run gcloud auth configure-docker {host}, which names docker-credential-gcloud in"
        ' ~/.docker/config.json: "credHelpers": {{"{host}": "gcloud"}}',
    ),
    Quirks(
        kind=RegistryKind.GITLAB,
        hosts=(r"registry\.gitlab\.com", r"registry\.gitlab\..+"),
        untag_advice="GitLab removes a tag alone by DELETE"
        " /projects/ID/registry/repositories/ID/tags/TAG of its API",
    ),
    Quirks(
        kind=RegistryKind.HARBOR,
        hosts=(r"demo\.goharbor\.io",),
        untag=UntagBy.OWN_API,
        untag_advice="Harbor removes a tag alone by its own API only: DELETE"
        " /api/v2.0/projects/PROJECT/repositories/NAME/artifacts/DIGEST/tags/TAG",
        tags_per_page=100,
    ),
    Quirks(
        kind=RegistryKind.QUAY,
        hosts=(r"quay\.io",),
        untag_advice="remove the tag in Quay's web interface",
        token_actions={"delete": "push"},
        tags_per_page=100,
    ),
    Quirks(
        kind=RegistryKind.DISTRIBUTION,
        untag_advice="registries built on distribution remove a tag alone since version 3, where"
        " storage.delete.enabled is set; others have an interface of their own for it",
    ),
    Quirks(
        kind=RegistryKind.CI_REGISTRY,
        untag_advice="this registry was started read-only, or without the right to delete",
        honours_if_match=True,
    ),
    Quirks(
        kind=RegistryKind.ZOT,
        hosts=(r"(?:[a-z0-9-]+\.)*zothub\.io",),
        untag_advice="allow this user to delete in zot's accessControl",
    ),
    UNKNOWN,
)
_BY_KIND = {row.kind: row for row in ROWS}
_SERVICES = {
    "harbor-registry": RegistryKind.HARBOR,
    "container_registry": RegistryKind.GITLAB,
}
"""What a challenge calls its service, where that tells whose it is."""
_SERVERS = {"zot": RegistryKind.ZOT, "ci-registry": RegistryKind.CI_REGISTRY}
"""How the field `Server` begins."""
_REALM_PATHS = {"/v2/auth": RegistryKind.QUAY, "/jwt/auth": RegistryKind.GITLAB}
"""How the address of a token service ends."""


def quirks_of(kind: RegistryKind) -> Quirks:
    """Return the row of a kind."""
    return _BY_KIND[kind]


def quirks_of_host(host: str) -> Quirks:
    """Return the row for a registry as users write it; `UNKNOWN` when the name does not tell."""
    name = host.lower()
    for row in ROWS:
        if any(re.fullmatch(pattern, name) for pattern in row.hosts):
            return row
    return UNKNOWN


def better_known(known: Quirks, headers: Headers) -> Quirks:
    """Return `known`, or what an answer tells more of; a row found by name or by a token service stays."""
    if known.kind not in (RegistryKind.UNKNOWN, RegistryKind.DISTRIBUTION):
        return known
    found = quirks_from_answer(headers)
    return known if found.kind is RegistryKind.UNKNOWN else found


def quirks_from_answer(headers: Headers) -> Quirks:
    """Return the row that the fields of an answer tell of, most of all those of a 401; else `UNKNOWN`."""
    for challenge in parse_challenges(headers.all("WWW-Authenticate")):
        kind = _SERVICES.get(challenge.parameters.get("service", ""))
        realm = challenge.parameters.get("realm", "").partition("?")[0]
        by_path = [found for path, found in _REALM_PATHS.items() if realm.endswith(path)]
        if kind is not None:
            return quirks_of(kind)
        if by_path:
            return quirks_of(by_path[0])
    if "Gitlab-Container-Registry-Version" in headers:
        return quirks_of(RegistryKind.GITLAB)
    for name, kind in _SERVERS.items():
        if headers.get("Server").lower().startswith(name):
            return quirks_of(kind)
    if headers.get("Docker-Distribution-Api-Version") == "registry/2.0":
        return quirks_of(RegistryKind.DISTRIBUTION)
    return UNKNOWN
