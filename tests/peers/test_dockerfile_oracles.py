"""Our Dockerfile parser and ignore matcher against the Go packages that BuildKit uses."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ci_registry.dockerfile.expand import ExpansionError, Rules, expand
from ci_registry.dockerfile.ignore import IgnoreMatcher, read_patterns
from ci_registry.dockerfile.model import Instruction
from ci_registry.dockerfile.parse import parse_dockerfile
from ci_registry.errors import BuildError
from tests.support.dockerfiles import BAD_DOCKERFILES, DOCKERFILES, IGNORE_FILES, PATHS, WORDS
from tests.support.peers import find_peer


def ask(oracle: str, questions: Sequence[Mapping[str, object]]) -> list[dict[str, Any]]:
    path = find_peer(oracle)
    assert path is not None
    run = subprocess.run(
        [path], input=json.dumps(questions).encode(), capture_output=True, check=True, timeout=60
    )
    answers: list[dict[str, Any]] = json.loads(run.stdout)
    assert len(answers) == len(questions)
    return answers


def compare_ignore(questions: Sequence[tuple[str, Sequence[str]]]) -> None:
    answers = ask("oracle-ignore", [{"Text": text, "Paths": paths} for text, paths in questions])
    for (text, paths), answer in zip(questions, answers, strict=True):
        patterns = read_patterns(text)
        if answer["error"]:
            with pytest.raises(BuildError):
                IgnoreMatcher(patterns)
            continue
        matcher = IgnoreMatcher(patterns)
        assert list(patterns) == (answer["patterns"] or []), text
        excluded = [matcher.matches_with_parents(path) for path in paths]
        assert dict(zip(paths, excluded, strict=True)) == dict(
            zip(paths, answer["excluded"], strict=True)
        ), text


def arguments_of(instruction: Instruction) -> list[str]:
    """The arguments in the shape of BuildKit's nodes."""
    if instruction.keyword == "ARG":
        return [n if v is None else f"{n}={v}" for n, v in instruction.pairs]
    if instruction.keyword in ("ENV", "LABEL"):
        old_form = "=" not in instruction.text.split(maxsplit=2)[1]
        separator = "" if old_form else "="
        return [text for n, v in instruction.pairs for text in (n, v or "", separator)]
    return list(instruction.arguments)


def flags_of(instruction: Instruction) -> list[str]:
    return [
        f"--{f.name}" if f.value is None else f"--{f.name}={f.value}" for f in instruction.flags
    ]


def compare_dockerfiles(texts: Sequence[str]) -> None:
    answers = ask("oracle-dockerfile", [{"Text": text} for text in texts])
    for text, answer in zip(texts, answers, strict=True):
        if answer["error"]:
            with pytest.raises(BuildError):
                print(parse_dockerfile(text, file="Dockerfile"), answer)
            continue
        parsed = parse_dockerfile(text, file="Dockerfile")
        assert parsed.escape == answer["escape"]
        assert [stage.name for stage in parsed.stages] == answer["stages"]
        ours = list(parsed.global_args)
        for stage in parsed.stages:
            ours += [stage.origin, *stage.instructions]
        ours.sort(key=lambda i: i.first_line)
        for instruction, node in zip(ours, answer["nodes"], strict=True):
            assert instruction.keyword == node["keyword"].upper()
            assert (instruction.first_line, instruction.last_line) == (node["first"], node["last"])
            heredocs = [
                (h.name, h.content, h.expand, h.strip_tabs, h.file_descriptor)
                for h in (instruction.trigger or instruction).heredocs
            ]
            assert heredocs == [
                (h["Name"], h["Content"], h["Expand"], h["Chomp"], h["FileDescriptor"])
                for h in node["heredocs"] or []
            ], text
            if instruction.keyword == "ONBUILD":
                continue
            assert flags_of(instruction) == (node["flags"] or []), text
            assert arguments_of(instruction) == (node["args"] or []), text
            assert instruction.is_exec == node["exec"], text


def compare_words(questions: Sequence[tuple[str, str, Mapping[str, str]]]) -> None:
    asked = [
        {"Word": word, "Escape": escape, "Env": [f"{k}={v}" for k, v in env.items()]}
        for word, escape, env in questions
    ]
    for (word, escape, env), answer in zip(questions, ask("oracle-dockerfile", asked), strict=True):
        if answer["error"]:
            with pytest.raises(ExpansionError):
                expand(word, env, Rules(escape=escape))
            continue
        result = expand(word, env, Rules(escape=escape))
        assert result.text == answer["result"], word
        if "${" not in word:  # BuildKit loses the word in front of a ${…} with a modifier
            assert list(result.words) == (answer["words"] or []), word


BOUNDED = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
IGNORE_LINE = st.text(alphabet="ab.*?!/\\[]^-d# $(", max_size=8)
PATH = st.lists(st.text(alphabet="ab.d5$(^-", min_size=1, max_size=3), min_size=1, max_size=4).map(
    lambda parts: "/".join("x" if part in (".", "..") else part for part in parts)
)


@pytest.mark.go_peer("oracle-ignore")
class TestIgnore:
    def test_written_cases_agree(self) -> None:
        compare_ignore([(text, PATHS) for text in IGNORE_FILES])

    @BOUNDED
    @given(
        st.lists(
            st.tuples(
                st.lists(IGNORE_LINE, max_size=5).map("\n".join),
                st.lists(PATH, min_size=1, max_size=6),
            ),
            min_size=1,
            max_size=40,
        )
    )
    def test_random_patterns_agree(self, questions: list[tuple[str, list[str]]]) -> None:
        compare_ignore(questions)


DOCKERFILE_PART = st.sampled_from(
    [
        "FROM a AS b\n", "FROM scratch\n", "ARG X=1\n", "ARG\n", "COPY a b\n", "RUN x", " \\\n", "\\\n",
        "\n", " ", "#c\n", "# escape=`\n", "`\n", "<<EOF", "<<-'E'", "EOF\n", "\tE\n", "ENV a=b", "ENV a b",
        '["a", "b"]', "[1]", "--flag=1 ", "--from=b ", "--link ", '"', "'", "LABEL x=", "ONBUILD ", "CMD ", "x y\n",
        "\r\n", "\t", "$a", "HEALTHCHECK CMD x\n", "HEALTHCHECK NONE\n", 'VOLUME ["/a"]\n', 'SHELL ["/bin/sh"]\n',
        "RUN --mount=type=bind,from=b,target=/x true\n", "RUN --network=none x\n", "FORM a\n", "\ufeff", "é",
    ]
)  # fmt: skip


@pytest.mark.go_peer("oracle-dockerfile")
class TestDockerfiles:
    def test_written_cases_agree(self) -> None:
        compare_dockerfiles([*DOCKERFILES, *BAD_DOCKERFILES])

    @BOUNDED
    @given(
        st.lists(
            st.lists(DOCKERFILE_PART, max_size=12).map("".join).map("FROM x\n".__add__)
            | st.lists(DOCKERFILE_PART, max_size=12).map("".join),
            min_size=1,
            max_size=40,
        )
    )
    def test_random_files_agree(self, texts: list[str]) -> None:
        compare_dockerfiles(texts)

    def test_written_words_agree(self) -> None:
        env = {"PWD": "/home", "SHELL": "bash", "NULL": "", "FILE": "a/b.tar.gz", "K": "한국어"}
        compare_words([(word, "\\", env) for word in WORDS])
        compare_words([(word, "`", env) for word in WORDS])

    @BOUNDED
    @given(
        st.lists(
            st.tuples(
                st.text(alphabet="ab$${}:-+?#%/*\\'\" <é1_.", max_size=14),
                st.sampled_from("\\`"),
                st.fixed_dictionaries(
                    {}, optional={"a": st.text("ab/*.", max_size=6), "b": st.just("")}
                ),
            ),
            min_size=1,
            max_size=60,
        )
    )
    def test_random_words_agree(self, questions: list[tuple[str, str, dict[str, str]]]) -> None:
        compare_words(questions)
