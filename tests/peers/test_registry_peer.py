"""Our registry client against the real distribution, 2.8 and 3.1, with crane as the second opinion."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from ci_registry.cancel import Cancel
from ci_registry.errors import AccessError, RegistryError
from ci_registry.events import Event, Progress
from ci_registry.oci import media_types
from ci_registry.oci.digest import digest_of
from ci_registry.oci.manifest import Descriptor, Index
from ci_registry.registry.credentials import (
    Credentials,
    credential_sources,
    write_docker_config,
)
from ci_registry.registry.interface import BlobOutcome
from ci_registry.registry.layout import Layout
from ci_registry.registry.referrers import fallback_tag
from ci_registry.registry.remote import RemoteRepository, check_push_right
from ci_registry.registry.transfer import (
    blobs_of,
    copy_image,
    manifests_of,
    publish_manifests,
    upload_blobs,
)
from ci_registry.secret import Secret
from tests.support.distribution import BOTH, OLD, PASSWORD, USER, basic_auth, running_distribution
from tests.support.images import ImageSpec, make_layout
from tests.support.peers import find_peer, peer_environment
from tests.support.remote import login, remote_repository
from tests.support.tls import Authority

pytestmark = pytest.mark.peer("crane")


@pytest.fixture(scope="module", params=BOTH)
def program(request: pytest.FixtureRequest) -> str:
    """The registry's program."""
    return str(request.param)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, program: str) -> Iterator[str]:
    """An open registry for all tests of this module; each uses repositories of its own."""
    with running_distribution(tmp_path_factory.mktemp("open"), program=program) as running:
        yield running


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An image for two platforms with some MB of layers."""
    noise = b"".join(digest_of(str(n).encode()).encode() for n in range(120_000))
    specs = (
        ImageSpec(layers=[{"big": noise}, {"b": "2"}], architecture="amd64"),
        ImageSpec(layers=[{"a": "1"}], architecture="arm64"),
    )
    return Layout(make_layout(tmp_path / "layout", *specs).layout)


def crane(
    *argv: str, config: Path | None = None, env: Mapping[str, str] = MappingProxyType({})
) -> str:
    own = {"DOCKER_CONFIG": str(config)} if config else {}
    env = {**peer_environment(), **own, **env}
    program = find_peer("crane")
    assert program is not None
    done = subprocess.run(
        [program, *argv], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def copy(source: Layout, target: RemoteRepository) -> Descriptor:
    root = source.root()
    copy_image(
        source, target, root, workers=4, cancel=Cancel(), on_event=lambda _: None, image="app"
    )
    return root


def referrer(subject: Descriptor, note: str) -> bytes:
    empty = Descriptor(
        media_type=media_types.OCI_EMPTY,
        digest=digest_of(media_types.EMPTY_JSON),
        size=len(media_types.EMPTY_JSON),
    ).to_json()
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "artifactType": "application/x-note",
        "config": empty,
        "layers": [empty],
        "subject": subject.to_json(),
        "annotations": {"note": note},
    }
    return json.dumps(document).encode()


def test_crane_sees_the_bytes_that_we_pushed_and_nothing_before_the_tag(
    host: str, layout: Layout, tmp_path: Path
) -> None:
    events: list[Event] = []
    root = layout.root()
    manifests = manifests_of(layout, root)
    with remote_repository(host, "push/app") as target:
        check_push_right(target)
        pushed = upload_blobs(
            layout,
            target,
            blobs_of(manifests),
            workers=4,
            cancel=Cancel(),
            on_event=events.append,
            image="app",
        )
        assert {blob.outcome for blob in pushed} == {BlobOutcome.UPLOADED}
        assert target.resolve(root.digest) is None
        assert publish_manifests(layout, target, root) == root.digest
        assert target.tags() == ()
        index = layout.fetch(root.digest)
        target.push("v1", index.body, index.media_type)
        assert target.tags() == ("v1",)
        again = upload_blobs(
            layout,
            target,
            blobs_of(manifests),
            workers=4,
            cancel=Cancel(),
            on_event=events.append,
            image="app",
        )
        assert {blob.outcome for blob in again} == {BlobOutcome.PRESENT}
    finished = {
        event.what: event.done
        for event in events
        if isinstance(event, Progress) and event.detail.get("outcome") == "uploaded"
    }
    assert finished == {blob.digest: blob.size for blob in blobs_of(manifests)}
    assert crane("digest", f"{host}/push/app:v1") == root.digest
    crane("validate", "--remote", f"{host}/push/app:v1")
    crane("pull", "--format", "oci", f"{host}/push/app:v1", str(tmp_path / "pulled"))
    assert Layout(tmp_path / "pulled").root().digest == root.digest


def test_a_pulled_image_is_the_image_that_crane_pushed(
    host: str, layout: Layout, tmp_path: Path
) -> None:
    crane("push", "--index", str(layout.path), f"{host}/pull/app:v1")
    target = Layout.create(tmp_path / "pulled")
    with remote_repository(host, "pull/app") as source:
        found = source.resolve("v1")
        assert found is not None
        copy_image(
            source, target, found, workers=4, cancel=Cancel(), on_event=lambda _: None, image="app"
        )
    assert target.root().digest == found.digest
    # crane makes one more index around the layout's: children, our index, its index
    pulled = manifests_of(target, found)
    assert [m.body for m in pulled[:-1]] == [m.body for m in manifests_of(layout, layout.root())]
    assert crane("digest", f"{host}/pull/app:v1") == pulled[-1].digest


def test_a_sibling_repository_is_mounted_from(host: str, layout: Layout) -> None:
    with remote_repository(host, "mount/a") as first, remote_repository(host, "mount/b") as second:
        root = copy(layout, first)
        pushed = upload_blobs(
            layout,
            second,
            blobs_of(manifests_of(layout, root)),
            workers=4,
            cancel=Cancel(),
            on_event=lambda _: None,
            image="app",
            mount_from=(first.name,),
        )
        assert {blob.outcome for blob in pushed} == {BlobOutcome.MOUNTED}
        publish_manifests(layout, second, root)
        second.push("v1", second.fetch(root.digest).body, root.media_type)
    assert crane("digest", f"{host}/mount/b:v1") == root.digest


def test_a_mount_from_a_repository_without_the_blob_becomes_an_upload(
    host: str, layout: Layout
) -> None:
    blob = blobs_of(manifests_of(layout, layout.root()))[0]
    with remote_repository(host, "nomount/a") as target:
        pushed = target.push_blob(
            blob, lambda: layout.open(blob.digest), mount_from=(f"{host}/absent/repo",)
        )
    assert pushed.outcome is BlobOutcome.UPLOADED


def test_referrers_go_to_the_fallback_tag_because_this_registry_has_no_api(
    host: str, layout: Layout
) -> None:
    with remote_repository(host, "refer/app") as target:
        root = copy(layout, target)
        subject = Descriptor(media_type=root.media_type, digest=root.digest, size=root.size)
        empty = media_types.EMPTY_JSON
        target.push_blob(
            Descriptor(media_type=media_types.OCI_EMPTY, digest=digest_of(empty), size=2),
            lambda: iter((empty,)),
        )
        notes = {
            target.attach(subject, referrer(subject, note), media_types.OCI_MANIFEST): note
            for note in ("one", "two")
        }
        found = target.referrers(root.digest)
        assert {entry.digest: entry.annotations["note"] for entry in found} == notes
        index = target.fetch(fallback_tag(root.digest))
        assert isinstance(index, Index)
        assert {entry.artifact_type for entry in index.manifests} == {"application/x-note"}
    listed = json.loads(crane("manifest", f"{host}/refer/app:{fallback_tag(root.digest)}"))
    assert {entry["digest"] for entry in listed["manifests"]} == set(notes)


def test_a_referrer_that_crane_deleted_does_not_stop_the_next_one(
    host: str, layout: Layout
) -> None:
    with remote_repository(host, "stale/app") as target:
        root = copy(layout, target)
        subject = Descriptor(media_type=root.media_type, digest=root.digest, size=root.size)
        empty = media_types.EMPTY_JSON
        target.push_blob(
            Descriptor(media_type=media_types.OCI_EMPTY, digest=digest_of(empty), size=2),
            lambda: iter((empty,)),
        )
        gone = target.attach(subject, referrer(subject, "one"), media_types.OCI_MANIFEST)
        crane("delete", f"{host}/stale/app@{gone}")
        added = target.attach(subject, referrer(subject, "two"), media_types.OCI_MANIFEST)
        assert [entry.digest for entry in target.referrers(root.digest)] == [added]


@pytest.mark.peer("oras")
def test_oras_discovers_what_we_attached_and_we_what_oras_attached(
    host: str, layout: Layout, tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text("hello")
    with remote_repository(host, "oras/app") as target:
        root = copy(layout, target)
        subject = Descriptor(media_type=root.media_type, digest=root.digest, size=root.size)
        empty = media_types.EMPTY_JSON
        target.push_blob(
            Descriptor(media_type=media_types.OCI_EMPTY, digest=digest_of(empty), size=2),
            lambda: iter((empty,)),
        )
        ours = target.attach(subject, referrer(subject, "ours"), media_types.OCI_MANIFEST)
        program = find_peer("oras")
        assert program is not None
        outputs = []
        for argv in (
            ["attach", "--artifact-type", "application/x-oras", "note.txt:text/plain"],
            ["discover", "--format", "json"],
        ):
            name = f"{host}/oras/app@{root.digest}"
            done = subprocess.run(
                [program, argv[0], "--plain-http", name, *argv[1:]],
                cwd=tmp_path,
                env=peer_environment(),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            outputs.append(done.stdout)
        assert ours in outputs[-1]
        types = {entry.artifact_type for entry in target.referrers(root.digest)}
    assert types == {"application/x-note", "application/x-oras"}


def test_a_tag_is_removed_alone_or_not_at_all(host: str, layout: Layout, program: str) -> None:
    with remote_repository(host, "untag/app") as target:
        root = copy(layout, target)
        body = layout.fetch(root.digest).body
        for tag in ("one", "two"):
            target.push(tag, body, root.media_type)
        if program == OLD:
            with pytest.raises(RegistryError) as caught:
                target.untag("one")
            assert caught.value.code == "UNSUPPORTED"
        else:
            assert target.untag("one")
        assert (target.resolve("one") is None) == (program != OLD)
    assert crane("digest", f"{host}/untag/app:two") == root.digest


def test_deleting_a_manifest_takes_it_from_crane_too(host: str, layout: Layout) -> None:
    with remote_repository(host, "delete/app") as target:
        root = copy(layout, target)
        target.delete(root.digest)
        target.delete(root.digest)
        assert target.resolve(root.digest) is None


def test_the_right_password_pushes_and_the_wrong_one_is_an_access_error(
    tmp_path: Path, layout: Layout, program: str
) -> None:
    with running_distribution(tmp_path, basic_auth(tmp_path), program=program) as host:
        with remote_repository(host, "team/app", credentials=login(host, USER, "wrong")) as wrong:
            with pytest.raises(AccessError) as caught:
                check_push_right(wrong)
            assert f"docker login {host}" in caught.value.hint
        with (
            remote_repository(host, "team/app") as anonymous,
            pytest.raises(AccessError, match="HTTP 401"),
        ):
            anonymous.resolve("v1")
        source = login(host, USER, PASSWORD)
        found = source.find(host, "team/app")
        assert found is not None
        write_docker_config(tmp_path / "docker", {host: found})
        with remote_repository(host, "team/app", credentials=source) as target:
            root = copy(layout, target)
            target.push("v1", layout.fetch(root.digest).body, root.media_type)
        digest = crane("digest", f"{host}/team/app:v1", config=tmp_path / "docker")
        assert digest == root.digest


def test_one_with_tls_on_loopback_is_reached_with_its_ca(
    tmp_path: Path, layout: Layout, program: str
) -> None:
    """Go answers plain HTTP with 400 and a sentence; crane, which trusts the same CA, sees what we pushed."""
    authority = Authority(tmp_path)
    files = authority.issue("registry")
    with running_distribution(tmp_path, basic_auth(tmp_path), tls=files, program=program) as host:
        with remote_repository(
            host, "a/b", credentials=login(host, USER, PASSWORD), ca_file=authority.file
        ) as repository:
            root = copy(layout, repository)
            repository.push("v1", layout.fetch(root.digest).body, root.media_type)
            assert repository.tags() == ("v1",)
        config = tmp_path / "docker"
        write_docker_config(config, {host: Credentials(username=USER, password=Secret(PASSWORD))})
        trusting = {"SSL_CERT_FILE": str(authority.file)}
        assert crane("digest", f"{host}/a/b:v1", config=config, env=trusting) == root.digest


def test_a_login_by_crane_is_a_login_for_us(tmp_path: Path, program: str) -> None:
    def no_helper(*_: object, **__: object) -> None:
        raise AssertionError("no helper is configured")

    with running_distribution(tmp_path, basic_auth(tmp_path), program=program) as host:
        config = tmp_path / "docker"
        crane("auth", "login", host, "-u", USER, "-p", PASSWORD, config=config)
        chain = credential_sources({"DOCKER_CONFIG": str(config)}, no_helper)  # type: ignore[arg-type]
        with remote_repository(host, "team/app", credentials=chain) as target:
            assert target.resolve("v1") is None


def test_all_of_many_tags_are_listed(host: str) -> None:
    body = json.dumps(
        {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": []}
    ).encode()
    wanted = tuple(f"t{number:03}" for number in range(120))
    with remote_repository(host, "many/tags") as target:
        for tag in wanted:
            target.push(tag, body, media_types.OCI_INDEX)
        assert target.tags() == wanted
    assert tuple(sorted(crane("ls", f"{host}/many/tags").split())) == wanted
