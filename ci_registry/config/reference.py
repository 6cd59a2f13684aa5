"""The reference page of all settings, as Markdown."""

from ci_registry.config.options import OptionSpec, Scope, all_options

_TITLES = {
    Scope.SETTINGS: ("Settings of the run", "Keys of `.ci-registry.yml`."),
    Scope.IMAGE: (
        "Settings of one image",
        "Keys below `images.<name>`. As an option or variable they need exactly one selected image.",
    ),
    Scope.RUN: ("Options of one call", "Never in the file."),
}


def render_reference() -> str:
    """Return one Markdown table per scope; the same for the same model."""
    parts = []
    for scope, (title, text) in _TITLES.items():
        specs = [spec for spec in all_options() if spec.scope is scope]
        rows = [_row(spec) for spec in specs]
        head = "| key | option, variable | default | meaning |\n|---|---|---|---|"
        parts.append("\n".join([f"## {title}\n\n{text}\n", head, *rows]))
    return "\n\n".join(parts) + "\n"


def _row(spec: OptionSpec) -> str:
    key = "-" if spec.hidden else _code(spec.key.replace("*", "<name>"))
    names = _code(spec.env)
    if not spec.is_secret:
        names = f"{_code(spec.option)} {names}"
    default = _code(spec.default_text) if spec.default_text else "-"
    return f"| {key} | {names} | {default} | {_meaning(spec)} |"


def _meaning(spec: OptionSpec) -> str:
    parts = [spec.help]
    if spec.choices:
        parts.append(f"One of {', '.join(_code(word) for word in spec.choices)}.")
    if spec.trusted:
        parts.append("Read from the trusted ref.")
    if spec.wrapper_input:
        parts.append("Input of both wrappers.")
    return " ".join(parts).replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text}`"
