"""Copies one image or lists tags with the library alone: what the command line adds is the difference.

usage: python -m benchmarks.copy_driver [--ca-file FILE] copy SOURCE TARGET | list REPOSITORY

SOURCE and TARGET are references with a tag, or oci:DIR:tag.
"""

import sys
from pathlib import Path

from ci_registry.cancel import Cancel
from ci_registry.network.client import HttpClient
from ci_registry.network.settings import HttpSettings
from ci_registry.oci.reference import parse_reference
from ci_registry.registry.interface import Repository
from ci_registry.registry.layout import Layout
from ci_registry.registry.remote import RemoteRegistry
from ci_registry.registry.transfer import blobs_of, manifests_of, upload_blobs


def open_place(registry: RemoteRegistry, text: str) -> tuple[Repository, str]:
    """Return a repository and the tag in it."""
    if text.startswith("oci:"):
        folder, _, tag = text.removeprefix("oci:").rpartition(":")
        return Layout.create(Path(folder)), tag
    reference = parse_reference(text)
    return registry.repository(reference), reference.tag or "latest"


def copy(registry: RemoteRegistry, source_text: str, target_text: str) -> None:
    """Copy blobs, children, and the image itself straight under its tag."""
    source, source_tag = open_place(registry, source_text)
    target, target_tag = open_place(registry, target_text)
    root = source.fetch(source_tag)
    manifests = manifests_of(source, root.descriptor)
    upload_blobs(
        source,
        target,
        blobs_of(manifests),
        workers=4,
        cancel=Cancel(),
        on_event=lambda _: None,
        image=target_text,
    )
    for manifest in manifests[:-1]:
        target.push(manifest.digest, manifest.body, manifest.media_type)
    target.push(target_tag, root.body, root.media_type)


def main() -> int:
    """Do it."""
    arguments = sys.argv[1:]
    ca_file = None
    if arguments[0] == "--ca-file":
        ca_file = Path(arguments[1])
        arguments = arguments[2:]
    with HttpClient(HttpSettings(ca_file=ca_file), Cancel()) as client:
        registry = RemoteRegistry(client)
        if arguments[0] == "copy":
            copy(registry, *arguments[1:])
        else:
            print("\n".join(registry.repository(arguments[1]).tags()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
