"""The settings about scanning, and about the programs that may be started."""

from dataclasses import dataclass
from datetime import timedelta

from ci_registry.config.choices import DatabaseSignature, ScannerChoice, ToolsMode
from ci_registry.config.setting_field import mapping_setting, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSettings:
    """`scan`: how images are scanned."""

    scanner: tuple[ScannerChoice, ...] = setting(
        (ScannerChoice.OSV,),
        "Scanner: osv is built in, trivy and grype are the programs of that name, harbor, ecr and quay those of the registry. Several, separated by commas, are all asked, and the stricter one counts.",
        surface="scanner",
        trusted=True,
        single=True,
    )
    db: str = setting(
        "auto",
        "Advisory database: auto (scan.databases, else osv: osv.dev's API, trivy: its published database), offline (only what is cached), a folder or compiled file, or references of database artifacts, separated by commas, tried in order.",
        surface="scan-db",
        trusted=True,
    )
    databases: tuple[str, ...] = setting(
        (),
        "References of advisory databases in your own registry that `db: auto` uses, tried in order; see `ci-registry db push`.",
        trusted=True,
        commas=True,
        pattern=r"(?:oci://)?[^\s,]+/[^\s,]+",
        pattern_hint="a reference such as registry.example/security/advisories:latest",
    )
    db_signature: DatabaseSignature = setting(
        DatabaseSignature.REQUIRED,
        "Whether a database artifact named by tag must be signed by a key of `trust`; one named by digest needs no signature.",
        trusted=True,
    )
    osv_api: str = setting(
        "https://api.osv.dev",
        "Address of the OSV API that `db: auto` asks; a mirror of it may be named.",
        trusted=True,
        pattern=r"https?://\S+",
        pattern_hint="an http or https address",
    )
    trivy_db: str = setting(
        "auto",
        "Database of trivy, when scan.db is of another scanner: a folder with db/trivy.db and db/metadata.json; auto: scan.db.",
        trusted=True,
    )
    grype_db: str = setting(
        "auto",
        "Database of grype: a folder that grype imported one into, or a file vulnerability.db; auto: scan.db when that is a folder, else the one that scan.grype_listing names.",
        trusted=True,
    )
    grype_listing: str = setting(
        "https://grype.anchore.io/databases/v6/latest.json",
        "Address that says which database of grype is the latest; a mirror of it may be named.",
        trusted=True,
        pattern=r"https?://\S+",
        pattern_hint="an http or https address",
    )
    server: str = setting(
        "",
        "Address of a trivy server that trivy sends lists of packages to; it has the database then.",
        trusted=True,
        pattern=r"https?://[^\s/?#@]+/?",
        pattern_hint="an address such as https://trivy.example:4954",
    )
    server_token: str = setting(
        "env://TRIVY_TOKEN",
        "Source of the token for `scan.server`, never the token itself: env://NAME.",
        trusted=True,
        pattern=r"env://[A-Za-z_][A-Za-z0-9_]*",
        pattern_hint="env://NAME, never the token itself",
        masked=True,
    )
    staging: str = setting(
        "",
        "Repository that holds an image for the time of its scan by harbor, ecr or quay, which read only what is in the registry; images that are published already do without.",
        trusted=True,
        pattern=r"[^\s,@]+/[^\s,@]+",
        pattern_hint="a repository such as registry.example/ci/staging",
    )
    registry_is_current: bool = setting(
        False,
        "Take the time of a registry's report for the age of its advisories, where the registry does not say it: you promise that they are kept up to date.",
        trusted=True,
    )
    quay_token: str = setting(
        "env://QUAY_TOKEN",
        "Source of the OAuth token for Quay's API, never the token itself: env://NAME.",
        trusted=True,
        pattern=r"env://[A-Za-z_][A-Za-z0-9_]*",
        pattern_hint="env://NAME, never the token itself",
        masked=True,
    )
    baseline: str = setting(
        "",
        "What findings are compared with: release (the image at the tag latest of the first destination; release:TAG for another tag), an image, or the result.json of an earlier run; rules with onlyNew count only what is new against it.",
        surface="baseline",
        trusted=True,
        pattern=r"release(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?|[^\s,]*[/.][^\s,]*",
        pattern_hint="release, release:TAG, an image such as registry.example/team/api:stable, or a path that ends in .json",
    )
    read_new_base: bool = setting(
        False,
        "Pull and read a newer base image whose packages nobody attests, to say how many findings a rebuild fixes.",
        trusted=True,
    )
    max_db_age: timedelta = setting(
        timedelta(hours=48), "Oldest database that still counts, for example 48h.", trusted=True
    )
    timeout: timedelta = setting(
        timedelta(minutes=15), "Longest time that the scan of one platform may take.", trusted=True
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolsSettings:
    """`tools`: which programs may be started."""

    mode: ToolsMode = setting(
        ToolsMode.ANY,
        "any: the first on PATH, its sha256 is recorded; locked: only programs that tools.programs lists.",
        trusted=True,
    )
    programs: dict[str, tuple[str, ...]] = mapping_setting(
        "The sha256 of each program that may be started, by its name: trivy=SHA256,SHA256 lines.",
        trusted=True,
        key_pattern=r"[A-Za-z0-9][A-Za-z0-9._+-]*",
        value_pattern=r"[0-9a-f]{64}",
        value_hint="a sha256, 64 hexadecimal digits in lower case",
    )
