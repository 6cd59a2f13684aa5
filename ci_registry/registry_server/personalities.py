"""How other registries differ from a friendly one, as options of the embedded registry: one row for each.

The first rows are the registries that people use; those after them show one oddity each. Tests run one
suite of a client over all of them. What each row is known from stands beside it; where it is not known how a
registry answers, the row says nothing and the registry is friendly.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from ci_registry.registry_server.options import (
    EXPIRED_TOKEN,
    Answer,
    Fault,
    FaultScript,
    Options,
    RateLimit,
    Reset,
    TokenAuth,
)

USER = "ann"
REFRESH_USER = "00000000-0000-0000-0000-000000000000"
"""Whose password is a refresh token, on ACR."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Personality:
    """One registry, or one oddity."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """What is set in `Options`."""
    tokens: Mapping[str, Any] | None = None
    """What is set in `TokenAuth`; None: it gives no tokens."""
    faults: Callable[[], tuple[Fault, ...]] = tuple
    """What goes wrong, from the start."""
    limit: int | None = None
    """How many reads of manifests are answered."""

    @property
    def gives_tokens(self) -> bool:
        """Whether clients need a login: `USER` with the password given to `options_with`."""
        return self.tokens is not None

    def options_with(self, password: str = "", **others: Any) -> Options:
        """Return fresh options: counters and scripts start anew; `others` are set on top.

        `password` is that of `USER`, where tokens are given; it is a refresh token too, where those are.
        """
        given: dict[str, Any] = dict(self.options)
        given["faults"] = FaultScript(self.faults())
        if self.limit is not None:
            given["rate_limit"] = RateLimit(self.limit)
        if self.tokens is not None:
            given["token_auth"] = TokenAuth(key=secrets.token_bytes(16), **self.tokens)
            given["users"] = {USER: password, REFRESH_USER: password}
        return replace(Options(conditional_put=False), **{**given, **others})


def _dropped() -> tuple[Fault, ...]:
    """The first read of each blob breaks off in the middle, and the first upload of each."""
    return (
        Fault(action=Reset(response_bytes=20_000), method="GET", path="/blobs/sha256:"),
        Fault(action=Reset(request_bytes=20_000), method="PUT", path="/blobs/uploads/"),
    )


def _busy() -> tuple[Fault, ...]:
    """Everything is refused once with `Retry-After`, then without."""
    told = Answer(status=429, headers=(("Retry-After", "1"),), body=b"<html>slow down</html>")
    return tuple(
        Fault(action=action, method=method, path=path)
        for method, path in _KINDS
        for action in (told, Answer(status=429))
    )


def _expiring() -> tuple[Fault, ...]:
    """The token of each kind of request has expired once."""
    return tuple(Fault(action=EXPIRED_TOKEN, method=method, path=path) for method, path in _KINDS)


_KINDS = (
    ("GET", "/manifests/"),
    ("HEAD", "/manifests/"),
    ("GET", "/blobs/"),
    ("HEAD", "/blobs/"),
    ("POST", "/blobs/uploads/"),
    ("PUT", "/blobs/uploads/"),
    ("PUT", "/manifests/"),
    ("GET", "/tags/list"),
)
_NO_UNTAG: Mapping[str, Any] = MappingProxyType({"tag_delete": False})
_HUB = {
    **_NO_UNTAG,
    "tag_delete_refusal": (405, "UNSUPPORTED"),  # only the Hub API removes a tag
    "child_delete_refusal": (403, "DENIED"),
    "referrers_api": False,  # not promised; clients must ask
    "catalog": False,
    "page_limit": 100,
    "accept_required": True,
}
_GHCR = {
    "referrers_api": False,
    "delete": False,
    "mount": False,
    "catalog": False,
    "page_limit": 100,
}
_ECR = {
    "patch_status": 201,
    "later_patches_dropped": True,
    "delete": False,
    "delete_status": 404,
    "mount": False,
    "most_tags_asked": 1000,
    "catalog": False,
}
_HARBOR = {
    **_NO_UNTAG,
    "tag_delete_refusal": (400, "UNSUPPORTED"),
    "child_delete_refusal": (412, "PRECONDITION"),
    "mount_refusal": (401, "UNAUTHORIZED"),
    "page_limit": 100,
}
_DISTRIBUTION = {
    "referrers_api": False,
    "accept_required": True,
    "most_repositories_asked": 1000,
    "upload_state": "_state=a%2Fb%20c%2B",
}
PERSONALITIES: Mapping[str, Personality] = {
    "docker-hub": Personality(
        options=_HUB, tokens={"service": "registry.docker.io", "anonymous_pull": True}, limit=200
    ),
    "ghcr": Personality(options=_GHCR, tokens={"service": "ghcr.io"}),
    "ecr": Personality(options=_ECR),
    "ecr-refuses-referrers": Personality(
        options={**_ECR, "referrers_api": False, "referrers_status": 405}
    ),
    "acr": Personality(
        options={"page_limit": 100, "delete_cascades": True},
        tokens={"path": "/oauth2/token", "refresh_user": REFRESH_USER},
    ),
    "acr-own-keys": Personality(
        options={"page_limit": 100, "referrers_api": False},
        tokens={"path": "/oauth2/token", "refresh_user": REFRESH_USER},
    ),
    "gar": Personality(
        options={
            "google_tags": True,
            "page_limit": 10_000,
            "tagged_delete_refusal": (400, "GOOGLE_MANIFEST_DANGLING_TAG"),
            "child_delete_refusal": (400, "GOOGLE_MANIFEST_DANGLING_PARENT_IMAGE"),
        },
        tokens={"path": "/v2/token"},
    ),
    "gitlab": Personality(
        options={
            "page_limit": 100,
            "referrers_api": False,
            "headers": (("Gitlab-Container-Registry-Version", "4.15.0-gitlab"),),
        },
        tokens={"path": "/jwt/auth", "service": "container_registry"},
    ),
    "harbor": Personality(
        options=_HARBOR, tokens={"path": "/service/token", "service": "harbor-registry"}
    ),
    "quay": Personality(
        options={
            "page_default": 50,
            "page_limit": 100,
            "mount_needs_source": True,
            "untagged_delete": False,
        },
        tokens={"path": "/v2/auth", "anonymous_pull": True},
    ),
    "distribution-2.8": Personality(
        options={
            **_DISTRIBUTION,
            **_NO_UNTAG,
            "tag_delete_refusal": (400, "DIGEST_INVALID"),
            "tag_paging": False,
        }
    ),
    "distribution-3.0": Personality(options={**_DISTRIBUTION, "page_limit": 100_000}),
    "distribution-3.1.0": Personality(options={**_DISTRIBUTION, "most_tags_asked": 1000}),
    "distribution-3.1": Personality(options=_DISTRIBUTION),
    "distribution-no-delete": Personality(options={**_DISTRIBUTION, "delete": False}),
    "zot": Personality(options={"headers": (("Server", "zot"),), "page_limit": 100}),
    "ci-registry": Personality(options={"conditional_put": True}),
    # one oddity each
    "friendly": Personality(),
    "no-referrers-api": Personality(options={"referrers_api": False}),
    "no-oci-subject": Personality(options={"oci_subject": False}),
    "no-mount": Personality(options={"mount": False}),
    "no-etag": Personality(options={"etag": False}),
    "small-pages": Personality(options={"page_limit": 7}),
    "pages-without-link": Personality(options={"page_limit": 50, "paging_link": False}),
    "tag-delete-405": Personality(
        options={**_NO_UNTAG, "tag_delete_refusal": (405, "UNSUPPORTED")}
    ),
    "immutable-tags": Personality(options={"immutable_tags": True}),
    "slow": Personality(options={"delay_s": 0.02}),
    "drops-connections": Personality(faults=_dropped),
    "busy": Personality(faults=_busy),
    "tokens-expire": Personality(tokens={}, faults=_expiring),
}
