"""Amazon ECR's scans, basic and enhanced, over its own API: botocore signs the requests and pages.

botocore is an optional part (`pip install 'ci-registry[ecr]'`) and finds the login as the AWS tools do.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ci_registry.advisories.severity import severity_of_word
from ci_registry.errors import (
    AccessError,
    CiRegistryError,
    IntegrityError,
    NetworkError,
    NotFoundError,
    RegistryError,
    SetupError,
    ToolError,
)
from ci_registry.oci.reference import Reference
from ci_registry.scanners.given_report import GivenReport
from ci_registry.scanners.registry_side import Looked, Stage
from ci_registry.scanners.reported import Reported
from ci_registry.strict import as_list, as_object, as_text

_HOST = re.compile(
    r"(?P<account>\d{12})\.dkr[.-]ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|on\.aws)"
)
_DONE = frozenset({"COMPLETE", "ACTIVE"})
_WAITING = frozenset({"IN_PROGRESS", "PENDING"})
_REFUSED = frozenset(
    {
        "FAILED",
        "FINDINGS_UNAVAILABLE",
        "IMAGE_ARCHIVED",
        "LIMIT_EXCEEDED",
        "SCAN_ELIGIBILITY_EXPIRED",
        "UNSUPPORTED_IMAGE",
    }
)
_NO_LOGIN = frozenset(
    {
        "AccessDeniedException",
        "ExpiredTokenException",
        "IncompleteSignatureException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "UnrecognizedClientException",
    }
)
_ABSENT = frozenset({"ImageNotFoundException", "RepositoryNotFoundException"})
_ALREADY = frozenset({"LimitExceededException", "ValidationException"})
"""Why a scan may not be asked for although there is one: once a day, and never with enhanced scanning."""
_UNSUPPORTED = frozenset({"ImageArchivedException", "UnsupportedImageTypeException"})
_MAX_PAGES = 1000
_WHAT = "ECR's report"
_Json = Mapping[str, object]
Call = Callable[..., dict[str, Any]]
"""Calls an operation: its name and its parameters; raises `EcrError` or another of ours."""


class EcrError(RegistryError):
    """ECR refused; `code` is its name for why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EcrApi:
    """Asks ECR about images of the registry in the reference's host name."""

    open_region: Callable[[str], Call]
    """Opens the API of a region, once."""

    @property
    def name(self) -> str:
        """`ecr`."""
        return "ecr"

    def check(self, place: Reference) -> None:
        """Make sure that the host is one of ECR's and that botocore is there.

        Raises:
            SetupError: one of both is not so.
        """
        self._call(place)

    def _call(self, place: Reference) -> Call:
        match = _HOST.fullmatch(place.registry)
        if match is None:
            raise SetupError(
                f"{place.registry} is no registry of ECR",
                hint="it is called ACCOUNT.dkr.ecr.REGION.amazonaws.com; choose another scanner for others",
            )
        return self.open_region(match["region"])

    def _ask(self, place: Reference, operation: str, **more: object) -> dict[str, Any]:
        """Call an operation about the image.

        Raises:
            EcrError: it was refused for a reason that is the caller's to judge.
            AccessError, NotFoundError, NetworkError: the usual ones.
        """
        call = self._call(place)
        try:
            return call(
                operation,
                registryId=place.registry[:12],
                repositoryName=place.repository,
                imageId={"imageDigest": str(place.digest)},
                **more,
            )
        except EcrError as error:
            if error.code in _NO_LOGIN:
                raise AccessError(
                    f"{error.message} ({place})",
                    hint=f"the AWS login needs ecr:{operation} for this repository",
                ) from error
            if error.code in _ABSENT:
                raise NotFoundError(f"{error.message} ({place})", hint="check the name") from error
            raise

    def start(self, place: Reference) -> Looked | None:
        """Ask for a basic scan; where one may not be asked for, the one that there is counts.

        Raises:
            CiRegistryError: ECR can't be asked.
        """
        try:
            self._ask(place, "StartImageScan")
        except EcrError as error:
            if error.code in _UNSUPPORTED:
                return Looked(stage=Stage.REFUSED, word=error.code)
            if error.code not in _ALREADY:
                raise
        return None

    def look(self, place: Reference) -> Looked:
        """Read the state of the scan, with all findings once it is done.

        Raises:
            ToolError: ECR says something that nobody knows, or half a report.
            CiRegistryError: ECR can't be asked.
        """
        try:
            first = self._ask(place, "DescribeImageScanFindings", maxResults=1000)
        except EcrError as error:
            if error.code == "ScanNotFoundException":
                return Looked(stage=Stage.WAITING, word="no scan yet")
            if error.code in _UNSUPPORTED:
                return Looked(stage=Stage.REFUSED, word=error.code)
            raise
        told = first.get("imageScanStatus") or {}
        status, why = str(told.get("status", "")), str(told.get("description") or "")
        if status in _WAITING:
            return Looked(stage=Stage.WAITING, word=status)
        if status in _REFUSED:
            return Looked(stage=Stage.REFUSED, word=f"{status}: {why}" if why else status)
        if status not in _DONE:
            raise ToolError(
                f"cannot read ECR's report about {place}: its status is {status[:50]!r}, which nobody knows"
            )
        try:
            report = _parsed(first, tuple(self._pages(place, first)))
        except IntegrityError as error:
            raise ToolError(f"cannot read ECR's report about {place}: {error.message}") from error
        return Looked(stage=Stage.DONE, word=status, report=report)

    def _pages(self, place: Reference, page: dict[str, Any]) -> Iterator[_Json]:
        """Yield the findings of every page."""
        for _ in range(_MAX_PAGES):
            yield as_object(page.get("imageScanFindings") or {}, what=f"{_WHAT}: imageScanFindings")
            token = page.get("nextToken")
            if not token:
                return
            page = self._ask(place, "DescribeImageScanFindings", maxResults=1000, nextToken=token)
        raise IntegrityError(f"{_WHAT}: more than {_MAX_PAGES} pages")

    def remove(self, place: Reference) -> None:
        """Take a manifest away by digest: ECR's registry can't do that over the distribution API.

        Raises:
            CiRegistryError: it is still there.
        """
        done = self._call(place)(
            "BatchDeleteImage",
            registryId=place.registry[:12],
            repositoryName=place.repository,
            imageIds=[{"imageDigest": str(place.digest)}],
        )
        failures = [
            f for f in done.get("failures") or [] if f.get("failureCode") != "ImageNotFound"
        ]
        if failures:
            raise EcrError(
                f"ECR did not delete {place}: {failures[0].get('failureReason', 'no reason given')}",
                code=str(failures[0].get("failureCode", "")),
            )


# --- the report


def _parsed(first: _Json, pages: tuple[_Json, ...]) -> GivenReport:
    findings = pages[0]
    enhanced = [item for page in pages for item in _items(page, "enhancedFindings")]
    basic = [item for page in pages for item in _items(page, "findings")]
    image = as_object(first.get("imageId") or {}, what=f"{_WHAT}: imageId")
    reported = [item for n, entry in enumerate(basic) for item in _basic(entry, n)]
    reported += [item for n, entry in enumerate(enhanced) for item in _enhanced(entry, n)]
    return GivenReport(
        what=_WHAT,
        format="JSON",
        tool="ECR enhanced" if enhanced else "ECR",
        reported=tuple(reported),
        manifest_digests=(str(image.get("imageDigest", "")),),
        made_at=_time(findings.get("imageScanCompletedAt")),
        database_built_at=_time(findings.get("vulnerabilitySourceUpdatedAt")),
        says_fixes=not basic,
    )


def _items(page: _Json, key: str) -> list[_Json]:
    items = as_list(page.get(key) or [], what=f"{_WHAT}: {key}")
    return [as_object(item, what=f"{_WHAT}: {key}[{n}]") for n, item in enumerate(items)]


def _time(value: object) -> datetime | None:
    """Return a time of botocore's; its zone is the machine's."""
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else None


def _basic(entry: _Json, number: int) -> Iterator[Reported]:
    what = f"{_WHAT}: findings[{number}]"
    attributes = {
        str(item.get("key", "")): str(item.get("value") or "")
        for item in _objects(entry.get("attributes"), f"{what}: attributes")
    }
    vectors = [attributes[k] for k in ("CVSS3_VECTOR", "CVSS2_VECTOR") if attributes.get(k)]
    yield _reported(
        entry,
        identity=as_text(entry.get("name"), what=f"{what}: name"),
        package=(attributes.get("package_name", ""), attributes.get("package_version", "")),
        vectors=vectors,
        url=str(entry.get("uri") or ""),
    )


def _objects(value: object, what: str) -> list[_Json]:
    return [as_object(item, what=what) for item in as_list(value or [], what=what)]


def _enhanced(entry: _Json, number: int) -> Iterator[Reported]:
    """Yield one finding per package; those that AWS calls closed are gone, suppressed ones count."""
    what = f"{_WHAT}: enhancedFindings[{number}]"
    if entry.get("status") == "CLOSED":
        return
    details = as_object(entry.get("packageVulnerabilityDetails") or {}, what=what)
    identity = str(details.get("vulnerabilityId") or entry.get("title") or "")
    if not identity:
        raise IntegrityError(f"{what}: it names no vulnerability")
    related = as_list(details.get("relatedVulnerabilities") or [], what=what)
    vectors = [str(i.get("scoringVector") or "") for i in _objects(details.get("cvss"), what)]
    packages = _objects(details.get("vulnerablePackages"), what) or [{}]
    scores = as_object(entry.get("epss") or {}, what=what)
    score = scores.get("score")
    for package in packages:
        yield _reported(
            entry,
            identity=identity,
            package=(str(package.get("name") or ""), _version(package)),
            aliases=tuple(str(name) for name in related),
            path=str(package.get("filePath") or "").lstrip("/"),
            fix=str(package.get("fixedInVersion") or "").replace("NotAvailable", ""),
            vectors=[vector for vector in vectors if vector],
            url=str(details.get("sourceUrl") or ""),
            epss=float(score) if isinstance(score, int | float) else None,
        )


def _version(package: _Json) -> str:
    """Put epoch, version and release together, as dpkg and rpm write them."""
    version, release = (str(package.get(key) or "") for key in ("version", "release"))
    epoch = package.get("epoch")
    whole = f"{version}-{release}" if release else version
    return f"{epoch}:{whole}" if epoch else whole


def _reported(
    entry: _Json,
    *,
    identity: str,
    package: tuple[str, str],
    aliases: tuple[str, ...] = (),
    path: str = "",
    fix: str | None = None,
    vectors: list[str],
    url: str,
    epss: float | None = None,
) -> Reported:
    """Make a finding; `fix` is None where the kind of report does not say."""
    word = str(entry.get("severity") or "")
    lines = str(entry.get("title") or entry.get("description") or "").strip().splitlines()
    return Reported(
        id=identity,
        vendor_ids=aliases,
        kind="",
        name=package[0],
        version=package[1],
        path=path,
        purl="",
        layer="",
        fixed_version=fix or "",
        severity=severity_of_word(word),
        severity_source="ecr",
        severities=(("ecr", word), *(("cvss", vector) for vector in vectors)),
        title=lines[0][:200] if lines else "",
        url=url,
        published_at=None,
        epss=epss,
        fix_state="" if fix is None else "fixed" if fix else "not-fixed",
    )


# --- botocore


def open_region(region: str, *, timeout_s: float, retries: int) -> Call:
    """Return what calls ECR in a region; each call is retried by botocore.

    Raises:
        SetupError: botocore is not installed.
    """
    try:
        import botocore.config  # noqa: PLC0415 - optional, and 200 ms
        import botocore.exceptions  # noqa: PLC0415 - as above
        import botocore.session  # noqa: PLC0415 - as above
    except ImportError as error:
        raise SetupError(
            "scanner ecr needs botocore, which is not installed",
            hint="pip install 'ci-registry[ecr]'",
        ) from error
    config = botocore.config.Config(
        connect_timeout=timeout_s,
        read_timeout=timeout_s,
        retries={"total_max_attempts": retries + 1, "mode": "standard"},
    )
    client = botocore.session.get_session().create_client("ecr", region_name=region, config=config)

    def call(operation: str, **parameters: object) -> dict[str, Any]:
        method = client.meta.method_to_api_mapping
        name = next(python for python, api in method.items() if api == operation)
        try:
            answer: dict[str, Any] = getattr(client, name)(**parameters)
        except botocore.exceptions.ClientError as error:
            raise _refusal(error.response, operation) from error
        except botocore.exceptions.NoCredentialsError as error:
            raise AccessError(
                "there is no AWS login",
                hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role",
            ) from error
        except botocore.exceptions.BotoCoreError as error:
            raise NetworkError(f"cannot call ecr:{operation}: {_first_line(error)}") from error
        return answer

    return call


def _refusal(response: Mapping[str, Any], operation: str) -> CiRegistryError:
    error = response.get("Error") or {}
    code, message = str(error.get("Code", "")), str(error.get("Message", ""))
    status = (response.get("ResponseMetadata") or {}).get("HTTPStatusCode", 0)
    return EcrError(
        f"ecr:{operation} was refused: {code}: {message[:200]}",
        code=code,
        status=status if isinstance(status, int) else 0,
    )


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
