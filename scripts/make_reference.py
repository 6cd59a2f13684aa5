"""Writes what is made from the model: action.yml, the GitLab template, and the reference pages.

usage: python scripts/make_reference.py [--check]

With --check nothing is written; files that are not current are named and the exit code is 1.
"""

import json
import sys
from pathlib import Path

import click

from ci_registry.cli.main import cli
from ci_registry.config.options import OptionSpec, all_options
from ci_registry.config.reference import render_reference
from ci_registry.config.schema import json_schema

ROOT = Path(__file__).resolve().parents[1]
NOT_IN_TEMPLATE = ("registry-username", "registry-password", "report-dir")
"""Secrets are CI/CD variables on GitLab, never inputs; report_dir is a template input of its own."""

OUTPUTS = {
    "verdict": "pass, warn, block or incomplete",
    "exit-code": "the exit code of the run",
    "failed-step": "the first step that stopped the run; empty when none did",
    "digest": "digest of the index or manifest; empty with several images",
    "image": "registry/repository; empty with several images",
    "image-ref": "registry/repository@digest; empty with several images",
    "refs": "JSON: every reference written",
    "tags": "JSON: the tags moved",
    "platform-digests": "JSON: platform to digest",
    "pushed": "true or false",
    "reused": "true when every image was taken from an earlier run instead of being built",
    "signed": "true or false",
    "counts": "JSON: findings by severity",
    "blocking-count": "number of findings that block",
    "waived-count": "number of findings that are waived",
    "junit": "path of the JUnit report",
    "result": "path of result.json",
    "report-dir": "folder of the reports",
    "plan": "JSON: what was to be done to each image, and why",
    "cache": "JSON: steps taken from the layer cache, steps built, seconds",
    "images": "JSON: verdict, digest, references and counts per image",
}

ACTION_HEAD = """\
# Made by scripts/make_reference.py from ci_registry/config/model.py; a test compares them.
name: ci-registry
description: Build, scan, judge, push, sign and tag container images in one step; nothing gets a name before it passed.
branding:
  icon: shield
  color: blue
inputs:
"""

TEMPLATE_HEAD = """\
# Made by scripts/make_reference.py from ci_registry/config/model.py; a test compares them.
#
# include:
#   - project: <mirror of ci-registry>     # or local: / remote:
#     ref: v1.2.3
#     file: /gitlab-templates/image.yml
#     inputs: {runner_image: registry.example/ci-registry@sha256:…}
#
# Inputs left empty mean "not given": .ci-registry.yml and the defaults count. Write $$ for a dollar sign.
# Credentials and keys are CI/CD variables: CIREG_REGISTRY_USERNAME, CIREG_REGISTRY_PASSWORD (default:
# CI_REGISTRY_USER, CI_REGISTRY_PASSWORD), COSIGN_PRIVATE_KEY, COSIGN_PASSWORD, COSIGN_PUBLIC_KEY.
spec:
  inputs:
    job_name:
      default: ci-registry
      regex: ^[a-z][a-z0-9-]{0,40}$
      description: Name of the job; its hidden base is called the same with a dot in front.
    stage:
      default: build
      description: Stage of the job.
    runner_image:
      description: Job image with Python, ci-registry and a builder, pinned by digest (gitlab-templates/Dockerfile makes one).
    rules:
      type: array
      default:
        - {if: '$CIREG_DISABLED == "true"', when: never}
        - {if: '$CI_PIPELINE_SOURCE == "merge_request_event"'}
        - {if: '$CI_COMMIT_BRANCH && $CI_OPEN_MERGE_REQUESTS', when: never}
        - {if: '$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH'}
        - {if: '$CI_COMMIT_TAG'}
      description: When the job runs.
    allow_failure:
      type: boolean
      default: false
      description: Whether the pipeline goes on after a failure.
    report_dir:
      default: ci-registry-report
      description: Folder for the reports.
    dotenv_prefix:
      default: IMAGE_
      regex: ^[A-Z][A-Z0-9_]{0,40}$
      description: Start of the names of the variables for later jobs; each include of a pipeline needs its own.
"""

TEMPLATE_BODY = """\
---
".$[[ inputs.job_name ]]":
  stage: $[[ inputs.stage ]]
  image:
    name: $[[ inputs.runner_image ]]
    entrypoint: [""]
  variables:
    CIREG_REPORT_DIR: $[[ inputs.report_dir ]]
    CIREG_DOTENV_PREFIX: $[[ inputs.dotenv_prefix ]]
{variables}
  script:
    - ci-registry run
  interruptible: true
  allow_failure: $[[ inputs.allow_failure ]]
  rules: $[[ inputs.rules ]]
  artifacts:
    when: always
    paths: ["$[[ inputs.report_dir ]]/"]
    reports:
      dotenv: $[[ inputs.report_dir ]]/image.env
      junit: $[[ inputs.report_dir ]]/junit-ci-registry.xml
      container_scanning: $[[ inputs.report_dir ]]/gl-container-scanning-report.json
      cyclonedx: $[[ inputs.report_dir ]]/sbom-*.cdx.json

"$[[ inputs.job_name ]]":
  extends: ".$[[ inputs.job_name ]]"
"""


def inputs() -> tuple[OptionSpec, ...]:
    """Return the settings that are inputs of the action."""
    return tuple(spec for spec in all_options() if spec.wrapper_input)


def describe(spec: OptionSpec) -> str:
    """Return the help of a setting with its effective default, as one line of YAML text."""
    text = spec.help.rstrip(".")
    if spec.choices:
        text += f" ({', '.join(spec.choices)})"
    if spec.default_text:
        text += f"; effective default: {spec.default_text}"
    return json.dumps(text + ".", ensure_ascii=False)


def action() -> str:
    """Return action.yml."""
    lines = [ACTION_HEAD.rstrip()]
    for spec in inputs():
        lines += [f"  {spec.name}:", f"    description: {describe(spec)}", "    default: ''"]
    lines += [
        "  python-path:",
        '    description: "Python 3.11 or newer to use; default: the first good python3."',
        "    default: ''",
        "outputs:",
    ]
    for name, text in OUTPUTS.items():
        lines += [
            f"  {name}:",
            f"    description: {json.dumps(text)}",
            f"    value: ${{{{ steps.run.outputs.{name} }}}}",
        ]
    lines += [
        "runs:",
        "  using: composite",
        "  steps:",
        "    - name: ci-registry run",
        "      id: run",
        "      shell: bash",
        "      env:",
        "        INPUT_PYTHON_PATH: ${{ inputs.python-path }}",
    ]
    lines += [f"        {spec.env}: ${{{{ inputs.{spec.name} }}}}" for spec in inputs()]
    lines += ["      run: '\"$GITHUB_ACTION_PATH/actions/start\" run'"]
    return "\n".join(lines) + "\n"


def template() -> str:
    """Return gitlab-templates/image.yml."""
    specs = [spec for spec in inputs() if spec.name not in NOT_IN_TEMPLATE]
    lines = [TEMPLATE_HEAD.rstrip()]
    for spec in specs:
        lines += [f"    {underscored(spec)}:", "      default: ''"]
        if spec.choices:
            quoted = ", ".join(f"'{choice}'" for choice in ("", *spec.choices))
            lines.append(f"      options: [{quoted}]")
        elif spec.is_flag:
            lines.append("      options: ['', 'true', 'false']")
        lines.append(f"      description: {describe(spec)}")
    variables = "\n".join(f"    {spec.env}: $[[ inputs.{underscored(spec)} ]]" for spec in specs)
    return "\n".join(lines) + "\n" + TEMPLATE_BODY.replace("{variables}", variables)


def underscored(spec: OptionSpec) -> str:
    """Return the name of a setting as a template input."""
    return spec.name.replace("-", "_")


def outputs_page() -> str:
    """Return docs/reference/outputs.md."""
    rows = "\n".join(f"| `{name}` | {text} |" for name, text in OUTPUTS.items())
    return (
        "# Outputs of the GitHub action\n\nAlways set, also when the step failed. The same values"
        " stand in `result.json`.\n\n| output | content |\n| --- | --- |\n" + rows + "\n"
    )


def commands_page() -> str:
    """Return docs/reference/commands.md: every command, its help, and the options that are no settings."""
    parts = [
        "# Commands",
        (
            "Every command that works on images also takes the settings as options: see"
            " [settings](settings.md). Results go to stdout, progress and logs to stderr."
        ),
    ]
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        if isinstance(command, click.Group):
            parts.append(f"## `ci-registry {name}`\n\n{_help(command)}")
            parts += _own_options(command)
            for part in command.commands.values():
                parts.append(f"### `ci-registry {name} {_usage(part)}`\n\n{_help(part)}")
                parts += _own_options(part)
        elif command is not None:
            parts.append(f"## `ci-registry {_usage(command)}`\n\n{_help(command)}")
            parts += _own_options(command)
    return "\n\n".join(parts) + "\n"


def _usage(command: click.Command) -> str:
    arguments = [
        p.make_metavar(click.Context(command))
        for p in command.params
        if isinstance(p, click.Argument)
    ]
    return " ".join([command.name or "", *arguments])


def _help(command: click.Command) -> str:
    return "\n".join(line.strip() for line in (command.help or "").replace("\b", "").splitlines())


def _own_options(command: click.Command) -> list[str]:
    rows = []
    for part in command.params:
        if isinstance(part, click.Option) and not (part.name or "").startswith("setting_"):
            names = ", ".join(f"`{name}`" for name in (*part.opts, *part.secondary_opts))
            rows.append(f"| {names} | {(part.help or '').strip()} |")
    return ["| option | meaning |\n| --- | --- |\n" + "\n".join(rows)] if rows else []


def files() -> dict[str, str]:
    """Return every made file and its content."""
    return {
        "action.yml": action(),
        "gitlab-templates/image.yml": template(),
        "docs/reference/settings.md": render_reference(),
        "docs/reference/outputs.md": outputs_page(),
        "docs/reference/commands.md": commands_page(),
        "docs/reference/ci-registry.schema.json": json.dumps(json_schema(), indent=2) + "\n",
    }


def main(argv: list[str]) -> int:
    """Write or check the files."""
    stale = []
    for name, text in files().items():
        path = ROOT / name
        if path.is_file() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in argv:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    for name in stale:
        sys.stdout.write(f"{'stale' if '--check' in argv else 'written'}: {name}\n")
    return 1 if stale and "--check" in argv else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
