"""Which value wins, where it came from, and what is refused when values are joined."""

from collections.abc import Mapping

import pytest

from ci_registry.config.destinations import destinations, no_destination_error
from ci_registry.config.load import (
    SAME_AS_CHECKOUT,
    Loaded,
    SameAsCheckout,
    SourceFile,
    load_settings,
)
from ci_registry.config.model import (
    ImageSettings,
    InlineDocument,
    PushMode,
    ScannerChoice,
    Settings,
)
from ci_registry.errors import CiRegistryError, ConfigError, UsageError
from ci_registry.oci.platform import Platform
from ci_registry.secret import Secret

TWO = "registry: ghcr.io/acme\nimages: {api: {target: run}, web: {}}\n"
ONE = "registry: ghcr.io/acme\nimages: {api: {target: run}}\n"


def source(text: str, ref: str = "") -> SourceFile:
    return SourceFile(path=".ci-registry.yml", data=text.encode(), ref=ref)


def load(
    text: str | None = ONE,
    *,
    trusted: SourceFile | SameAsCheckout | None = SAME_AS_CHECKOUT,
    env: Mapping[str, str] | None = None,
    needs_images: bool = True,
    lone_image: bool = False,
    **options: object,
) -> Loaded:
    return load_settings(
        checkout=source(text) if text is not None else None,
        trusted=trusted,
        env=env or {},
        options={name.replace("_", "-"): value for name, value in options.items()},
        needs_images=needs_images,
        lone_image=lone_image,
    )


def refusal(**arguments: object) -> str:
    with pytest.raises(CiRegistryError) as caught:
        load(**arguments)  # type: ignore[arg-type]
    return f"{caught.value} | {caught.value.hint}"


def sources(loaded: Loaded) -> dict[str, tuple[str, str]]:
    return {v.key: (v.value, v.source) for v in loaded.values}


def test_command_line_beats_environment_beats_file_beats_default() -> None:
    text = "images: {api: {}}\nscan: {scanner: trivy, db: offline, timeout: 1m}\n"

    loaded = load(
        text,
        env={"CIREG_SCANNER": "osv", "CIREG_SCAN_DB": "/db"},
        scan_db="/other",
        needs_images=True,
    )

    assert loaded.settings.scan.scanner == (ScannerChoice.OSV,)
    found = sources(loaded)
    assert found["scan.scanner"] == ("osv", "CIREG_SCANNER")
    assert found["scan.db"] == ("/other", "--scan-db")
    assert found["scan.timeout"] == ("1m", ".ci-registry.yml:2")
    assert found["scan.max_db_age"] == ("48h", "default")


@pytest.mark.parametrize("empty", ["", "  ", "\n"])
def test_an_empty_variable_means_not_given(empty: str) -> None:
    loaded = load(env={"CIREG_TARGET": empty, "CIREG_SCANNER": empty, "CIREG_NO_SUCH": empty})

    assert loaded.settings.images["api"].target == "run"
    assert sources(loaded)["scan.scanner"] == ("osv", "default")


def test_an_empty_option_is_given_and_resets_a_text() -> None:
    assert load(target="").settings.images["api"].target == ""


def test_image_options_apply_to_the_one_selected_image() -> None:
    loaded = load(TWO, env={"CIREG_PLATFORMS": "linux/arm64, linux/amd64\n"}, only=("web",))

    assert loaded.selected == ("web",)
    assert loaded.settings.images["web"].platforms == (
        Platform("linux", "arm64"),
        Platform("linux", "amd64"),
    )
    assert loaded.settings.images["api"].platforms == (Platform("linux", "amd64"),)
    assert sources(loaded)["images.api.platforms"] == ("linux/amd64", "default")


def test_image_options_with_several_images_are_refused_by_name() -> None:
    text = refusal(text=TWO, env={"CIREG_PLATFORMS": "linux/arm64"}, target="x")

    assert "CIREG_PLATFORMS" in text
    assert "--target" in text
    assert "need exactly one image, and 2 are selected: api, web" in text
    assert "--only" in text


def test_an_unknown_image_is_refused_with_the_nearest_name() -> None:
    assert refusal(text=TWO, only=("wbe",)) == "no image is called 'wbe' | did you mean 'web'?"


def test_without_a_file_one_image_is_named_after_its_repository() -> None:
    loaded = load(None, env={"CIREG_IMAGE": "ghcr.io/Acme/Shop-API"})

    assert loaded.selected == ("shop-api",)
    assert [str(d) for d in destinations(loaded.settings, "shop-api")] == ["ghcr.io/acme/shop-api"]


def test_no_image_at_all_says_what_to_do() -> None:
    text = refusal(text=None)

    assert text.startswith("no image to work on | ")
    assert "CIREG_IMAGE" in text
    assert load(None, needs_images=False).selected == ()


def test_a_lone_image_is_that_of_the_options_whatever_the_file_has() -> None:
    loaded = load(TWO, lone_image=True, image="ghcr.io/other/app", from_layout="out")

    assert loaded.selected == ("app",)
    assert set(loaded.settings.images) == {"app"}
    assert loaded.settings.images["app"].from_layout == "out"
    assert loaded.settings.registry == "ghcr.io/acme"


def test_an_image_option_without_any_image_is_not_ignored() -> None:
    assert refusal(text=None, needs_images=False, context="src").startswith("no image to work on")


def test_unknown_variables_are_refused_but_not_those_of_other_parts() -> None:
    fine = {
        "CIREG_SECRET_X": "1",
        "CIREG_TEST_Y": "1",
        "CIREG_DISABLED": "1",
        "CIREG_DOTENV_PREFIX": "API_",
        "CIREG_PEERS_DIR": "x",
    }

    assert load(env=fine).notes == ()
    assert refusal(env={"CIREG_SCANER": "x"}) == (
        "unknown setting CIREG_SCANER (did you mean 'CIREG_SCANNER'?) | "
    )


def test_an_unknown_option_name_is_refused() -> None:
    assert refusal(scanerr="osv").startswith("unknown option --scanerr (did you mean 'scanner'?)")


def test_all_problems_of_all_sources_come_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load(
            "images: {api: {tag: x}}\n",
            env={"CIREG_SCANER": "x", "CIREG_OFFLINE": "yes"},
            network_retries="many",
            trusted=source("policy: [1]\n", ref="main"),
        )

    assert [str(p) for p in caught.value.problems] == [
        ".ci-registry.yml:1: unknown key 'tag' in images.api (did you mean 'tags'?)",
        "main:.ci-registry.yml:1: policy must be text, not a list",
        "unknown setting CIREG_SCANER (did you mean 'CIREG_SCANNER'?)",
        "--network-retries must be a whole number from 0 to 20, not many",
        "CIREG_OFFLINE must be true or false, not yes",
    ]


def test_build_arguments_take_bare_names_from_the_environment_and_hide_them() -> None:
    env = {"CIREG_BUILD_ARGS": "A=x=y\nTOKEN\n", "TOKEN": "s3cret"}

    loaded = load(env=env)

    assert loaded.settings.images["api"].build_args == {"A": "x=y", "TOKEN": "s3cret"}
    assert sources(loaded)["images.api.build_args"] == ("A=x=y, TOKEN=***", "CIREG_BUILD_ARGS")


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        (
            {"CIREG_BUILD_ARGS": "TOKEN"},
            "CIREG_BUILD_ARGS: the environment has no variable 'TOKEN'",
        ),
        ({"CIREG_LABELS": "vendor"}, "CIREG_LABELS: 'vendor' has no value (write NAME=value)"),
        ({"CIREG_LABELS": "a=1\na=2"}, "CIREG_LABELS: 'a' is given twice"),
        ({"CIREG_TAGS": "a,{brnch}"}, "CIREG_TAGS[1] must be a tag of letters"),
    ],
)
def test_malformed_lines_are_refused(env: dict[str, str], expected: str) -> None:
    assert refusal(env=env).startswith(expected)


def test_secrets_never_show() -> None:
    loaded = load(env={"CIREG_REGISTRY_PASSWORD": " hunter2 \n"})

    assert loaded.settings.auth.registry_password == Secret(" hunter2 ")
    assert "hunter2" not in repr(loaded)
    assert sources(loaded)["auth.registry_password"] == ("***", "CIREG_REGISTRY_PASSWORD")


def test_a_key_in_place_of_its_name_is_refused_without_showing_it() -> None:
    text = refusal(env={"CIREG_SIGN_KEY": "-----BEGIN PRIVATE KEY-----\nMIGH"})

    assert "never the key itself, not ***" in text
    assert "MIGH" not in text


def test_what_decides_comes_from_the_trusted_file_only() -> None:
    change = "images: {api: {}}\npolicy: lax.yml\npublish: {push: always}\nbuild: {pull: true}\n"
    main = source("images: {other: {}}\npolicy: strict.yml\nbuild: {pull: false}\n", ref="main")

    loaded = load(change, trusted=main)

    assert loaded.settings.policy == "strict.yml"
    assert loaded.settings.publish.push is PushMode.AUTO
    assert loaded.settings.build.pull is True
    assert loaded.selected == ("api",)
    assert sources(loaded)["policy"] == ("strict.yml", "main:.ci-registry.yml:2")
    assert loaded.notes == (
        "publish.push: always (.ci-registry.yml:3) takes effect once merged; until then auto (default) counts",
        "policy: lax.yml (.ci-registry.yml:2) takes effect once merged; until then strict.yml (main:.ci-registry.yml:2) counts",
    )


def test_a_trusted_ref_without_a_file_means_defaults() -> None:
    loaded = load(ONE + "policy: {spec: {rules: []}}\n", trusted=None)

    assert loaded.settings.policy == ""
    assert len(loaded.notes) == 1


def test_a_removed_policy_is_noted_and_still_counts() -> None:
    loaded = load(ONE, trusted=source("policy: strict.yml\n", ref="main"))

    assert loaded.settings.policy == "strict.yml"
    assert loaded.notes[0].startswith("policy: the default (the change) takes effect once merged")


def test_an_inline_policy_that_only_moved_is_no_difference() -> None:
    policy = "policy:\n  spec: {rules: []}\n"

    loaded = load(ONE + policy, trusted=source(policy, ref="main"))

    assert loaded.notes == ()
    assert loaded.settings.policy == InlineDocument(
        text="spec: {rules: []}\n", file="main:.ci-registry.yml", line=2
    )


def test_broken_parts_of_the_trusted_file_that_decide_nothing_do_not_matter() -> None:
    loaded = load(ONE, trusted=source("imagez: 3\nbuild: [1]\npolicy: p.yml\n", ref="main"))

    assert loaded.settings.policy == "p.yml"


def test_the_environment_beats_the_trusted_file_too() -> None:
    loaded = load(ONE, trusted=source("fail_on: low\n"), env={"CIREG_FAIL_ON": "critical"})

    assert sources(loaded)["fail_on"] == ("critical", "CIREG_FAIL_ON")
    assert loaded.notes == ()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(registry="ghcr.io/Acme/"), ["ghcr.io/acme/api"]),
        (Settings(registries=("a.io", "b.io:5000/x", "a.io")), ["a.io/api", "b.io:5000/x/api"]),
        (Settings(registry="localhost"), ["localhost/api"]),
        (Settings(), []),
        (
            Settings(registry="a.io", images={"api": ImageSettings(repository="Quay.io/x/Api")}),
            ["quay.io/x/api"],
        ),
        (
            Settings(registry="a.io", images={"api": ImageSettings(repository="team/api")}),
            ["a.io/team/api"],
        ),
    ],
)
def test_destinations_join_registry_and_repository(settings: Settings, expected: list[str]) -> None:
    assert [str(d) for d in destinations(settings, "api")] == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(registry="https://ghcr.io"), "must not have a scheme"),
        (Settings(registry="acme"), "'acme' has no host"),
        (Settings(registry="a.io", images={"api": ImageSettings(repository="x:1")}), "no.*tag"),
        (Settings(images={"api": ImageSettings(repository="a.io/x:1")}), "must not have a tag"),
        (
            Settings(registry="a.io", images={"api": ImageSettings(repository="a b")}),
            "not an image",
        ),
    ],
)
def test_malformed_destinations_are_refused(settings: Settings, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        destinations(settings, "api")


def test_a_malformed_destination_stops_loading_with_the_line_of_the_image() -> None:
    text = refusal(text="registry: ghcr.io\nimages:\n  api: {repository: 'x:1'}\n")

    assert text.startswith(
        ".ci-registry.yml:3: images.api: repository 'ghcr.io/x:1' must not have a"
    )


def test_contradicting_settings_are_refused() -> None:
    text = refusal(
        text="registry: a.io\nregistries: [b.io]\nimages: {api: {from_engine: x, from_layout: y}}\n"
    )

    assert "both `registry` and `registries`" in text
    assert "both from_engine and from_layout" in text


def test_the_missing_registry_is_explained() -> None:
    assert "--registry" in no_destination_error("api").hint


def test_mirrors_are_lists_in_the_file_and_comma_separated_in_the_environment() -> None:
    expected = {"docker.io": ("mirror.example/hub", "other.example:5000")}
    text = ONE + "network: {mirrors: {docker.io: [mirror.example/hub, 'other.example:5000']}}\n"
    assert load(text).settings.network.mirrors == expected
    env = {"CIREG_NETWORK_MIRRORS": "docker.io=mirror.example/hub, other.example:5000"}
    assert load(env=env).settings.network.mirrors == expected


@pytest.mark.parametrize(
    "line",
    [
        "network: {mirrors: {docker.io: ['https://mirror.example']}}",
        "network: {mirrors: {docker.io: mirror.example}}",
        "network: {mirrors: {'docker.io/library': [mirror.example]}}",
        "auth: {realms: {r.example: 'ftp://auth.example'}}",
        "auth: {realms: {r.example: 'https://user@auth.example'}}",
    ],
)
def test_mirrors_and_realms_of_another_form_are_refused(line: str) -> None:
    assert "must be" in refusal(text=ONE + line) or "must match" in refusal(text=ONE + line)


def test_a_change_can_not_say_where_logins_are_sent() -> None:
    changed = ONE + "auth: {realms: {r.example: 'https://evil.example/'}}\n"
    counts = source(ONE + "auth: {realms: {r.example: 'https://auth.example/'}}\n", ref="main")
    loaded = load(changed, trusted=counts)
    assert loaded.settings.auth.realms == {"r.example": "https://auth.example/"}
    assert any("auth.realms" in note for note in loaded.notes)


def test_a_password_is_refused_in_a_file_that_may_name_realms() -> None:
    text = ONE + "auth: {registry_password: hunter2}\n"
    assert "auth.registry_password is never read from a file" in refusal(text=text)
