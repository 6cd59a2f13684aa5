"""A layer from the cache can't be told from one that was read, and its bytes are proven all the same."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.cache import DiskCache
from ci_registry.cancel import Cancel
from ci_registry.errors import IntegrityError
from ci_registry.inventory import layer_store
from ci_registry.inventory.inspect import InspectedImage, inspect_image
from ci_registry.inventory.interest import GO_BINARY, RUST_BINARY
from ci_registry.inventory.layer import Entry, Layer, read_layer
from ci_registry.inventory.layer_store import StoredLayers, decode_layer, encode_layer
from ci_registry.inventory.limits import DEFAULT_LIMITS, Limits
from ci_registry.inventory.tar_stream import Kind
from ci_registry.inventory.verified import OpenBlob
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.manifest import Descriptor
from tests.support.images import ImageSpec, MadeImage, debian_layer, make_layout, tar_of
from tests.support.inspection import LayoutReader

PADDING = {"srv/zeros": b"\0" * layer_store.SMALLEST_BYTES}
"""Makes a layer large enough to be kept."""
BASE = tar_of(dict(debian_layer(("openssl", "3.0.11-1~deb12u2", ""))) | PADDING)
LINKED = tar_of(
    {
        "opt/x-1.0.dist-info/real": "Name: x\nVersion: 1.0\n\n",
        "opt/x-1.0.dist-info/METADATA->real": None,
        "opt/go": b"\x7fELF" + b"." * 2000 + b"\xff Go buildinf:",
        "opt/empty.dist-info/METADATA": "",
    }
    | PADDING
)


@pytest.fixture
def store(tmp_path: Path) -> StoredLayers:
    return StoredLayers(cache=DiskCache(folder=tmp_path / "cache", max_bytes=1 << 30))


@pytest.fixture
def made(tmp_path: Path) -> MadeImage:
    return make_layout(tmp_path / "layout", ImageSpec(layers=[BASE, LINKED, {"a": "b"}]))


def inspect(
    made: MadeImage, store: StoredLayers | None, *, limits: Limits = DEFAULT_LIMITS
) -> InspectedImage:
    reader = LayoutReader(made.layout)
    return inspect_image(
        reader.root,
        read=reader.read,
        open_blob=reader.open_blob,
        cancel=Cancel(),
        limits=limits,
        layer_cache=store,
    )


def entries_of(store: StoredLayers) -> list[Path]:
    return sorted((store.cache.folder / "layers").glob("*"))


# --- the same as reading


def test_an_image_from_the_cache_equals_the_one_that_was_read(
    made: MadeImage, store: StoredLayers, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = inspect(made, None)
    first = inspect(made, store)
    inflated: list[Digest] = []

    def counted(descriptor: Descriptor, open_blob: OpenBlob, **more: Any) -> Layer:
        inflated.append(descriptor.digest)
        return read_layer(descriptor, open_blob, **more)

    monkeypatch.setattr("ci_registry.inventory.inspect.read_layer", counted)
    assert plain == first == inspect(made, store)
    assert inflated == [plain.platforms[0].layers[2].digest]  # too small to be kept
    assert {p.name for p in plain.platforms[0].inventory.packages} >= {"openssl", "x"}


paths = st.text(min_size=1, max_size=12) | st.binary(min_size=1, max_size=8).map(
    lambda raw: raw.decode("utf-8", "surrogateescape")
)
kept_entries = st.builds(
    Entry,
    path=paths,
    kind=st.sampled_from(Kind),
    link=st.just("") | paths,
    content=st.none() | st.binary(max_size=40),
    sums=st.sampled_from(((), (("md5", "d41d8cd98f00b204e9800998ecf8427e"), ("sha1", "da39a3ee")))),
    problem=st.just("") | st.text(max_size=10),
    program=st.sampled_from((None, GO_BINARY, RUST_BINARY)),
)
layers = st.builds(
    Layer,
    digest=st.binary(max_size=4).map(digest_of),
    diff_id=st.binary(max_size=4).map(digest_of),
    size_bytes=st.integers(0, 2**40),
    entries=st.lists(kept_entries, max_size=8).map(tuple),
)


@given(layers)
@settings(max_examples=100, deadline=None)
def test_any_layer_comes_back_unchanged(read: Layer) -> None:
    assert decode_layer(encode_layer(read)) == read


@given(layers, st.data())
@settings(max_examples=100, deadline=None)
def test_a_cut_entry_never_gives_a_layer(read: Layer, data: st.DataObject) -> None:
    body = encode_layer(read)
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises((ValueError, TypeError, KeyError, IndexError, IntegrityError)):
        decode_layer(body[:cut])


# --- bytes are proven in any case


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), lambda raw: raw[:-1], lambda raw: raw + b"x"],
    ids=["changed", "cut", "longer"],
)
def test_a_known_layer_whose_blob_was_changed_is_refused(
    made: MadeImage, store: StoredLayers, damage: Callable[[bytes], bytes]
) -> None:
    digest = inspect(made, store).platforms[0].layers[0].digest
    blob = LayoutReader(made.layout).path(digest)
    blob.write_bytes(damage(blob.read_bytes()))
    with pytest.raises(IntegrityError, match="layer 1 of linux/amd64"):
        inspect(made, store)


def test_a_known_layer_with_another_diff_id_in_the_config_is_refused(
    tmp_path: Path, store: StoredLayers
) -> None:
    good = make_layout(tmp_path / "good", ImageSpec(layers=[BASE]))
    inspect(good, store)
    wrong = make_layout(tmp_path / "wrong", ImageSpec(layers=[BASE, LINKED]))
    manifest = json.loads(LayoutReader(wrong.layout).path(wrong.manifests[0]).read_bytes())
    config_path = LayoutReader(wrong.layout).path(wrong.configs[0])
    config = json.loads(config_path.read_bytes())
    config["rootfs"]["diff_ids"].reverse()
    body = json.dumps(config).encode()
    manifest["config"] |= {"digest": digest_of(body), "size": len(body)}
    LayoutReader(wrong.layout).path(digest_of(body)).write_bytes(body)
    raw = json.dumps(manifest).encode()
    LayoutReader(wrong.layout).path(digest_of(raw)).write_bytes(raw)
    index = json.loads((wrong.layout / "index.json").read_bytes())
    index["manifests"][0] |= {"digest": digest_of(raw), "size": len(raw)}
    (wrong.layout / "index.json").write_text(json.dumps(index))
    with pytest.raises(IntegrityError, match="has the diff id"):
        inspect(wrong, store)


def test_a_proven_layer_is_not_read_again_and_an_unknown_one_is_all_the_same(
    made: MadeImage, store: StoredLayers
) -> None:
    plain = inspect(made, store)
    base, _, small = plain.platforms[0].layers
    reader = LayoutReader(made.layout)
    again = inspect_image(
        reader.root,
        read=reader.read,
        open_blob=reader.open_blob,
        cancel=Cancel(),
        layer_cache=store,
        is_proven=lambda blob: blob.digest in (base.digest, small.digest),
    )
    assert again == plain
    assert base.digest not in reader.opened
    assert small.digest in reader.opened  # its entries are not known, so it is read and hashed


# --- entries that do not count


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda _body: b"",
        lambda body: body[:100],
        lambda body: body + b"more",
        lambda body: body.replace(b'"kinds":[', b'"kinds":[99,', 1),
        lambda body: (2).to_bytes(8, "big") + b"[]",
        lambda body: body.replace(b"sha256:", b"sha999:", 1),
    ],
    ids=["empty", "cut", "longer", "odd columns", "a list", "no digest"],
)
def test_an_entry_that_is_not_in_order_is_read_again_and_rewritten(
    made: MadeImage, store: StoredLayers, rewrite: Callable[[bytes], bytes]
) -> None:
    plain = inspect(made, store)
    layer = plain.platforms[0].layers[0]
    key = layer_store._key(layer, frozenset(), DEFAULT_LIMITS)
    body = store.cache.get("layers", key, max_bytes=1 << 30)
    assert body is not None
    store.cache.put("layers", key, rewrite(body))
    assert store.get(layer, frozenset(), DEFAULT_LIMITS) is None
    assert inspect(made, store) == plain
    assert store.cache.get("layers", key, max_bytes=1 << 30) == body


def test_an_entry_about_another_layer_does_not_count(made: MadeImage, store: StoredLayers) -> None:
    first, second, _ = inspect(made, store).platforms[0].layers
    keys = [layer_store._key(layer, frozenset(), DEFAULT_LIMITS) for layer in (first, second)]
    other = store.cache.get("layers", keys[1], max_bytes=1 << 30)
    assert other is not None
    store.cache.put("layers", keys[0], other)
    assert store.get(first, frozenset(), DEFAULT_LIMITS) is None


def test_what_an_older_reader_found_does_not_count(
    made: MadeImage, store: StoredLayers, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = inspect(made, store).platforms[0].layers[0]
    assert store.get(layer, frozenset(), DEFAULT_LIMITS) is not None
    monkeypatch.setattr(layer_store, "reader_version", lambda: "other code")
    assert store.get(layer, frozenset(), DEFAULT_LIMITS) is None


@pytest.mark.parametrize("changed", ["interest.py", "layer.py", "node.py", "added.py"])
def test_the_version_changes_with_any_module_of_the_inventory(tmp_path: Path, changed: str) -> None:
    folder = Path(str(layer_store.__file__)).parent
    assert layer_store.reader_version() == layer_store.code_version(folder)
    for module in folder.glob("*.py"):
        (tmp_path / module.name).write_bytes(module.read_bytes())
    assert layer_store.code_version(tmp_path) == layer_store.reader_version()
    with (tmp_path / changed).open("ab") as file:
        file.write(b"# more\n")
    assert layer_store.code_version(tmp_path) != layer_store.reader_version()


def test_other_limits_and_other_wanted_paths_make_other_entries(
    made: MadeImage, store: StoredLayers
) -> None:
    layer = inspect(made, store).platforms[0].layers[0]
    assert store.get(layer, frozenset({"srv/zeros"}), DEFAULT_LIMITS) is None
    assert store.get(layer, frozenset(), Limits(kept_bytes=1)) is None


def test_tighter_limits_are_not_got_around_by_the_cache(
    made: MadeImage, store: StoredLayers
) -> None:
    inspect(made, store)
    with pytest.raises(IntegrityError, match="more than 1000 bytes"):
        inspect(made, store, limits=Limits(layer_bytes=1000))


def test_a_layer_with_too_many_findings_is_not_kept(
    made: MadeImage, store: StoredLayers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_store, "MAX_ENTRY_BYTES", 10)
    inspect(made, store)
    assert entries_of(store) == []


def test_several_runs_at_once_share_one_cache(made: MadeImage, store: StoredLayers) -> None:
    plain, found = inspect(made, None), list[InspectedImage]()
    threads = [
        threading.Thread(target=lambda: found.append(inspect(made, store))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [plain] * 4
    assert len(entries_of(store)) == 3  # base, linked, and linked again with the wanted file


def test_cancelling_reaches_a_known_layer(made: MadeImage, store: StoredLayers) -> None:
    inspect(made, store)
    reader, cancel = LayoutReader(made.layout), Cancel()

    def open_blob(digest: Digest) -> Iterator[bytes]:
        cancel.set("enough")
        yield from reader.open_blob(digest)

    with pytest.raises(Exception, match="enough"):
        inspect_image(
            reader.root,
            read=reader.read,
            open_blob=open_blob,
            cancel=cancel,
            layer_cache=store,
        )
