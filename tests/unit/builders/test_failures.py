"""Error texts of real builders, and whose fault they are."""

import pytest

from ci_registry.builders.failures import Failure, build_failure
from ci_registry.errors import BuildError, SetupError, ToolError

SOURCE = "failed to resolve source metadata for"
HEAD = "unexpected status from HEAD request to http://127.0.0.1:5000/v2/x/y/manifests/1:"
PULL = "creating build container: initializing source docker://127.0.0.1:5000/x:1:"

CASES = [
    # buildx 0.29
    ('process "/bin/sh -c exit 7" did not complete successfully: exit code: 7', BuildError),
    ("dockerfile parse error on line 2: unknown instruction: COPI", BuildError),
    ('failed to compute cache key: failed to calculate checksum of ref a::b: "/x": not found', BuildError),
    ("base name ($X) should not be blank", BuildError),
    (f"r.example/x:1: {SOURCE} r.example/x:1: r.example/x:1: not found", SetupError),
    (f"127.0.0.1:5000/x/y:1: {SOURCE} 127.0.0.1:5000/x/y:1: {HEAD} 401 Unauthorized", SetupError),
    (f"127.0.0.1:5000/x/y:1: {SOURCE} 127.0.0.1:5000/x/y:1: {HEAD} 403 Forbidden", SetupError),
    (f"127.0.0.1:429/x/y:1: {SOURCE} 127.0.0.1:429/x/y:1: {HEAD} 403 Forbidden", SetupError),
    (f"127.0.0.1:5000/x/y:1: {SOURCE} 127.0.0.1:5000/x/y:1: {HEAD} 429 Too Many Requests", ToolError),
    (f"127.0.0.1:5000/x/y:1: {SOURCE} 127.0.0.1:5000/x/y:1: {HEAD} 500 Internal Server Error", ToolError),
    (f'a:1: {SOURCE} a:1: failed to do request: Head "https://a/v2/": dial tcp: lookup a: no such host', ToolError),
    (f"a:1: {SOURCE} a:1: pull access denied, repository does not exist or may require authorization", SetupError),
    ("secret zip: not found", SetupError),
    ('target stage "zip" could not be found', SetupError),
    ("failed to read dockerfile: open Dockerfile: no such file or directory", SetupError),
    ("failed to read dockerfile: failed to create temp dir: stat /tmp: no such file", ToolError),
    ("write /var/lib/x: no space left on device", ToolError),
    ("Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?", ToolError),
    ("permission denied while trying to connect to the Docker daemon socket", SetupError),
    ("rpc error: code = Unavailable desc = error reading from server: EOF", ToolError),
    ("panic: runtime error", ToolError),
    # buildah 1.28
    ('building at STEP "RUN exit 3": while running runtime: exit status 3', BuildError),
    (f"{PULL} reading manifest 1 in 127.0.0.1:5000/x: unauthorized: authentication required", SetupError),
    (f"{PULL} pinging container registry 127.0.0.1:5000: invalid status code from registry 500 (Internal Server Error)", ToolError),
    (f"{PULL} pinging container registry 127.0.0.1:5000: too many requests to registry", ToolError),
    (f'{PULL} pinging container registry: Get "http://x/": dial tcp 127.0.0.1:1: connect: connection refused', ToolError),
    # the classic builder
    ("The command '/bin/sh -c exit 7' returned a non-zero code: 7", BuildError),
    (f"{SOURCE} 127.0.0.1:5000/x:1: manifest for 127.0.0.1:5000/x:1 not found: manifest unknown", SetupError),
    (f"{SOURCE} x:1: received unexpected HTTP status: 503 Service Unavailable", ToolError),
]  # fmt: skip


def failure(text: str, line: int = 0, output: str = "") -> Failure:
    return Failure(
        tool="buildx",
        image="api",
        dockerfile_name="Dockerfile",
        text=text,
        line=line,
        output=output,
    )


@pytest.mark.parametrize(("text", "kind"), CASES)
def test_real_text_gives_the_right_kind(text: str, kind: type[Exception]) -> None:
    line = 3 if kind is BuildError else 0
    assert type(build_failure(failure(text, line))) is kind


def test_what_a_failing_instruction_prints_does_not_change_the_kind() -> None:
    text = 'process "/bin/sh -c curl https://x || exit 22" did not complete successfully: exit code: 22'
    output = "curl: (22) The requested URL returned error: 503\nconnection refused"
    error = build_failure(failure(text, 7, output))
    assert isinstance(error, BuildError)
    assert (error.line, error.log) == (7, output)


def test_full_disk_inside_an_instruction_is_infrastructure() -> None:
    text = 'process "/bin/sh -c dd" did not complete successfully: exit code: 1'
    error = build_failure(failure(text, 7, "dd: writing: No space left on device"))
    assert type(error) is ToolError
    assert error.line == 7


def test_killed_process_hints_at_memory() -> None:
    error = build_failure(failure('process "x" did not complete successfully: exit code: 137', 2))
    assert "memory" in error.hint


def test_foreign_platform_is_a_matter_of_setup() -> None:
    text = 'process "/bin/sh -c true" did not complete successfully: exit code: 255'
    error = build_failure(failure(text, 2, "exec /bin/sh: exec format error"))
    assert type(error) is SetupError
    assert "emulation" in error.hint


def test_headline_names_the_base_once() -> None:
    text = f"r.example/x:1: {SOURCE} r.example/x:1: r.example/x:1: not found"
    error = build_failure(failure(text, 1))
    assert error.headline == (
        "Dockerfile:1: the image r.example/x:1 that api needs does not exist: r.example/x:1: not found"
    )


def test_parse_error_without_a_frame_takes_the_line_from_the_text() -> None:
    error = build_failure(failure("dockerfile parse error on line 12: unknown instruction: X"))
    assert error.line == 12
