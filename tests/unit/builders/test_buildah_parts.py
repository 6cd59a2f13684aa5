"""What a buildah can't build, which line a step is, and its registries configuration."""

import tomllib
from pathlib import Path

import pytest

from ci_registry.builders.buildah_features import line_of_step, missing_features, parse_version
from ci_registry.builders.buildah_registries import registries_config
from ci_registry.dockerfile.parse import parse_dockerfile

FILE = """FROM alpine AS one
RUN <<EOF
echo
EOF
ADD --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 https://x /x
COPY --link a /a
RUN --network=none true
FROM alpine
COPY --from=one a /a
RUN exit 3
"""


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("buildah version 1.28.2 (image-spec 1.1.0-rc2, runtime-spec 1.0.2-dev)", (1, 28)),
        ("1.41.0-dev", (1, 41)),
        ("unknown", (0, 0)),
    ],
)
def test_version_is_read(text: str, version: tuple[int, int]) -> None:
    assert parse_version(text) == version


def test_missing_features_are_told_with_line_and_version() -> None:
    dockerfile = parse_dockerfile(FILE, file="Dockerfile")
    found = [(str(missing), missing.line) for missing in missing_features(dockerfile, (1, 28))]
    assert found == [
        ("RUN <<EOF needs buildah >= 1.33", 2),
        ("ADD --checksum needs buildah >= 1.33", 5),
        ("COPY --link needs buildah >= 1.41", 6),
        ("RUN --network needs buildah >= 1.30", 7),
    ]
    assert [m.what for m in missing_features(dockerfile, (1, 33))] == ["COPY --link"]
    assert missing_features(dockerfile, (1, 45)) == ()


@pytest.mark.parametrize(
    ("step", "line"),
    [
        ("[2/2] STEP 3/3: RUN exit 3", 10),
        ("[1/2] STEP 3/5: ADD https://x /x", 5),
        ("STEP 1/5: FROM alpine AS one", 1),
        ("STEP 9/9: RUN x", 0),
        ("COMMIT", 0),
    ],
)
def test_step_is_found_in_the_dockerfile(step: str, line: int) -> None:
    assert line_of_step(parse_dockerfile(FILE, file="Dockerfile"), step) == line


def test_stages_of_one_length_are_told_apart_by_the_text() -> None:
    text = "FROM a AS x\nRUN one\nFROM b\nRUN two\n"
    dockerfile = parse_dockerfile(text, file="Dockerfile")
    assert line_of_step(dockerfile, "[1/2] STEP 2/2: RUN one") == 2
    assert line_of_step(dockerfile, "[2/2] STEP 2/2: RUN two") == 4
    assert line_of_step(dockerfile, "[2/2] STEP 2/2: RUN three") == 0


def test_plain_http_is_for_loopback_and_named_hosts_only(tmp_path: Path) -> None:
    data = tomllib.loads(registries_config({"HOME": str(tmp_path)}, ("plain.example:5000",)))
    insecure = [r["location"] for r in data["registry"] if r.get("insecure")]
    assert insecure == ["127.0.0.1", "localhost", "[::1]", "plain.example:5000"]


def test_mirrors_of_the_machine_stay(tmp_path: Path) -> None:
    own = tmp_path / "registries.conf"
    own.write_text(
        'unqualified-search-registries = ["quay.io"]\n[[registry]]\nlocation = "docker.io"\n'
        '[[registry.mirror]]\nlocation = "mirror.example"\n[[registry]]\nprefix = "localhost"\nlocation = "l"\n'
    )
    data = tomllib.loads(registries_config({"CONTAINERS_REGISTRIES_CONF": str(own)}, ()))
    assert data["unqualified-search-registries"] == ["quay.io"]
    assert data["registry"][0]["mirror"] == [{"location": "mirror.example"}]
    assert [r["location"] for r in data["registry"]] == ["docker.io", "l", "127.0.0.1", "[::1]"]


@pytest.mark.parametrize("text", ["[registries.search]\nregistries = []\n", "no toml ["])
def test_configuration_that_cannot_be_joined_is_replaced(text: str, tmp_path: Path) -> None:
    own = tmp_path / "registries.conf"
    own.write_text(text)
    data = tomllib.loads(registries_config({"CONTAINERS_REGISTRIES_CONF": str(own)}, ()))
    assert data["unqualified-search-registries"] == ["docker.io"]
