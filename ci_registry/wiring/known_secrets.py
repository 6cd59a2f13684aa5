"""Names the variables that hold secrets wherever we run, so that their values are masked from the start."""

from collections.abc import Iterator, Mapping

from ci_registry.secret import Secret

_NAMES = (
    "CIREG_REGISTRY_PASSWORD",
    "COSIGN_PRIVATE_KEY",
    "COSIGN_PASSWORD",
    "SIGSTORE_ID_TOKEN",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "ACTIONS_RUNTIME_TOKEN",
    "GITHUB_TOKEN",
    "GH_TOKEN",
    "CI_JOB_TOKEN",
    "CI_REGISTRY_PASSWORD",
    "CI_DEPLOY_PASSWORD",
    "CI_DEPENDENCY_PROXY_PASSWORD",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_CLIENT_SECRET",
)


def known_secrets(env: Mapping[str, str]) -> Iterator[Secret]:
    """Return the secrets in `env` that everybody knows by name; the settings name further ones."""
    for name in _NAMES:
        if env.get(name):
            yield Secret(env[name])
