"""Prints what an image is made of: as an indented tree, and as JSON."""

from collections.abc import Iterator

from ci_registry.cli.console import clean
from ci_registry.cli.registry_lists import referrer_json
from ci_registry.cli.registry_text import size_text
from ci_registry.registry.image_tree import ConfigFacts, Node, NodeKind
from ci_registry.wiring.reading import Inspection

_LONGEST = 200


def tree_as_text(inspection: Inspection) -> str:
    """Return the tree, one line per manifest, layer and referrer."""
    lines = [str(inspection.place), *_node(inspection.tree, "")]
    return "".join(f"{clean(line)}\n" for line in lines)


def _node(node: Node, indent: str) -> Iterator[str]:
    platform = _platform(node)
    size = f" {size_text(node.layers_bytes)} in {len(node.layers)} layers" if node.layers else ""
    yield f"{indent}{node.kind}{f' {platform}' if platform else ''} {node.descriptor.digest}{size}"
    inner = f"{indent}  "
    if node.artifact_type:
        yield f"{inner}type: {node.artifact_type}"
    if node.config is not None:
        yield from (f"{inner}{line}" for line in _facts(node.config))
    for key, value in sorted(node.annotations.items()):
        yield f"{inner}annotation {key}: {value[:_LONGEST]}"
    for layer in node.layers:
        yield f"{inner}layer {layer.digest} {size_text(layer.size)} {layer.media_type}"
    for item in node.referrers:
        found = item.descriptor
        kind = item.tag or found.artifact_type or found.media_type
        yield f"{inner}referrer {found.digest} {kind}"
    for child in node.children:
        yield from _node(child, inner)


def _platform(node: Node) -> str:
    if node.descriptor.platform is not None and node.kind is not NodeKind.ATTESTATION:
        return str(node.descriptor.platform)
    return str(node.config.platform) if node.config is not None else ""


def _facts(config: ConfigFacts) -> Iterator[str]:
    rows = (
        ("created", config.created),
        ("user", config.user),
        ("working dir", config.working_dir),
        ("entrypoint", " ".join(config.entrypoint)),
        ("command", " ".join(config.command)),
        ("environment", ", ".join(config.env_names)),
        ("ports", ", ".join(config.ports)),
    )
    yield from (f"{name}: {text[:_LONGEST]}" for name, text in rows if text)
    for key, value in sorted(config.labels.items()):
        yield f"label {key}: {value[:_LONGEST]}"


def tree_as_json(inspection: Inspection) -> dict[str, object]:
    """Return the tree as JSON values; versioned, only additions within a version."""
    return {
        "schema_version": 1,
        "reference": str(inspection.place),
        "manifest": _node_json(inspection.tree),
    }


def _node_json(node: Node) -> dict[str, object]:
    found = node.descriptor
    return {
        "kind": node.kind,
        "digest": found.digest,
        "media_type": found.media_type,
        "size": found.size,
        "platform": _platform(node) or None,
        "artifact_type": node.artifact_type,
        "annotations": dict(node.annotations),
        "config": _config_json(node.config) if node.config is not None else None,
        "layers": [
            {"digest": layer.digest, "media_type": layer.media_type, "size": layer.size}
            for layer in node.layers
        ],
        "layers_bytes": node.layers_bytes,
        "referrers": [referrer_json(item) for item in node.referrers],
        "manifests": [_node_json(child) for child in node.children],
    }


def _config_json(config: ConfigFacts) -> dict[str, object]:
    return {
        "platform": str(config.platform),
        "created": config.created,
        "user": config.user,
        "working_dir": config.working_dir,
        "entrypoint": list(config.entrypoint),
        "command": list(config.command),
        "env_names": list(config.env_names),
        "ports": list(config.ports),
        "labels": dict(config.labels),
    }
