"""Dockerfiles become instructions and stages, or an error that names the line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.dockerfile.model import Instruction
from ci_registry.dockerfile.mounts import mounts_of
from ci_registry.dockerfile.parse import parse_dockerfile
from ci_registry.errors import BuildError, ExitCode
from tests.support.dockerfiles import BAD_DOCKERFILES, DOCKERFILES


def only(text: str) -> Instruction:
    (instruction,) = parse_dockerfile(f"FROM a\n{text}", file="Dockerfile").stages[0].instructions
    return instruction


@pytest.mark.parametrize("text", DOCKERFILES)
def test_odd_but_valid_files_are_accepted(text: str) -> None:
    assert parse_dockerfile(text, file="Dockerfile").stages


@pytest.mark.parametrize("text", BAD_DOCKERFILES)
def test_bad_files_fail_the_build_and_name_the_file(text: str) -> None:
    with pytest.raises(BuildError) as caught:
        parse_dockerfile(text, file="sub/Dockerfile")
    assert caught.value.exit_code == ExitCode.BUILD
    assert caught.value.file == "sub/Dockerfile"
    assert caught.value.line >= 1


def test_unknown_instruction_names_its_line_and_the_likely_word() -> None:
    with pytest.raises(BuildError) as caught:
        parse_dockerfile("FROM a\n\n# c\nCOYP a b\n", file="Dockerfile")
    assert caught.value.headline == "Dockerfile:4: unknown instruction: COYP"
    assert caught.value.hint == "did you mean 'COPY'?"


def test_unknown_flag_suggests_the_known_one() -> None:
    with pytest.raises(BuildError, match="unknown flag --chowm") as caught:
        parse_dockerfile("FROM a\nCOPY --chowm=1 a b\n", file="Dockerfile")
    assert caught.value.hint == "did you mean 'chown'?"


def test_lines_count_continuations_comments_and_heredocs() -> None:
    text = "FROM a\nRUN x \\\n  # why\n\n  y\nCOPY <<E /f\n1\nE\nCMD z\n"
    run, copy, cmd = parse_dockerfile(text, file="Dockerfile").stages[0].instructions
    assert (run.first_line, run.last_line) == (2, 5)
    assert run.arguments == ("x   y",)
    assert (copy.first_line, copy.last_line) == (6, 8)
    assert (cmd.first_line, cmd.last_line) == (9, 9)


def test_empty_continuation_lines_are_warned_about() -> None:
    parsed = parse_dockerfile("FROM a\nRUN x \\\n\n y\n", file="Dockerfile")
    assert parsed.warnings == ((3, "empty continuation line"),)


def test_escape_directive_changes_continuation_and_escapes() -> None:
    parsed = parse_dockerfile("# escape=`\nFROM a\nRUN c:\\x `\n y\n", file="Dockerfile")
    assert parsed.escape == "`"
    assert parsed.stages[0].instructions[0].arguments == ("c:\\x  y",)


def test_directive_after_a_comment_counts_for_nothing() -> None:
    parsed = parse_dockerfile("# hello\n# escape=`\nFROM a\n", file="Dockerfile")
    assert parsed.escape == "\\"


def test_syntax_and_check_are_read_and_options_of_syntax_dropped() -> None:
    parsed = parse_dockerfile(
        "#syntax=docker/dockerfile:1 x\n# check=skip=all\nFROM a\n", file="Dockerfile"
    )
    assert (parsed.syntax, parsed.syntax_line) == ("docker/dockerfile:1", 1)
    assert parsed.check == "skip=all"


def test_syntax_counts_below_a_shebang_but_escape_does_not() -> None:
    parsed = parse_dockerfile("#!/bin/x\n# escape=`\n# syntax=s\nFROM a\n", file="Dockerfile")
    assert (parsed.syntax, parsed.syntax_line, parsed.escape) == ("s", 3, "\\")


def test_longest_line_is_65535_bytes() -> None:
    line = "RUN " + "x" * (65_535 - 4)
    assert parse_dockerfile(f"FROM a\n{line}\n", file="Dockerfile").stages
    with pytest.raises(BuildError, match="65535 bytes"):
        parse_dockerfile(f"FROM a\n{line}x\n", file="Dockerfile")
    with pytest.raises(BuildError, match="65535 bytes"):
        parse_dockerfile("FROM a\nRUN " + "é" * 32_766 + "\n", file="Dockerfile")


def test_exec_form_falls_back_to_shell_form_unless_it_is_an_array_of_other_things() -> None:
    assert only('CMD ["a", "b"]').is_exec
    assert not only('CMD ["a", "b"').is_exec
    assert not only('CMD ["a"] b').is_exec
    assert only('CMD ["\\ud800"]').arguments == ("\ufffd",)
    with pytest.raises(BuildError, match="strings only"):
        only('CMD ["a", 1]')


def test_env_keeps_quotes_and_the_old_form_takes_the_whole_rest() -> None:
    assert only("ENV a=\"b c\" d='e' f=\\ g").pairs == (("a", '"b c"'), ("d", "'e'"), ("f", "\\ g"))
    assert only("ENV a b  c=d").pairs == (("a", "b  c=d"),)


def test_arg_without_default_differs_from_an_empty_one() -> None:
    assert only("ARG a b= c=1").pairs == (("a", None), ("b", ""), ("c", "1"))


def test_flags_end_at_the_first_word_or_at_a_double_dash() -> None:
    copy = only("COPY --from=x --link -- --a b")
    assert (copy.flag("from"), copy.has_flag("link")) == ("x", True)
    assert copy.arguments == ("--a", "b")


def test_heredocs_strip_tabs_only_with_dash_and_expand_only_unquoted() -> None:
    copy = only("COPY <<-A <<'B' /d/\n\t\t1\n\tA\n\t2\nB\n")
    assert [(h.name, h.body, h.expand) for h in copy.heredocs] == [
        ("A", "1\n", True),
        ("B", "\t2\n", False),
    ]


def test_json_arguments_start_no_heredoc() -> None:
    assert only('RUN ["<<EOF"]').heredocs == ()


def test_stage_names_are_lower_case_and_global_args_stand_apart() -> None:
    parsed = parse_dockerfile(
        "ARG v=1\nFROM --platform=$P a:$v AS Build\nFROM build\n", file="Dockerfile"
    )
    assert [a.pairs for a in parsed.global_args] == [(("v", "1"),)]
    assert [(s.name, s.base, s.platform) for s in parsed.stages] == [
        ("build", "a:$v", "$P"),
        ("", "build", ""),
    ]


def test_instruction_above_from_names_its_line() -> None:
    with pytest.raises(BuildError, match="above the first FROM") as caught:
        parse_dockerfile("ARG a\nENV b=c\nFROM a\n", file="Dockerfile")
    assert caught.value.line == 2


def test_onbuild_trigger_is_an_instruction_of_its_own() -> None:
    onbuild = only("ONBUILD COPY --from=x a b")
    assert onbuild.trigger is not None
    assert (onbuild.trigger.keyword, onbuild.trigger.flag("from")) == ("COPY", "x")


def test_mounts_are_read_and_know_whether_they_read_the_context() -> None:
    run = only("RUN --mount=target=/x --mount=type=cache,dst=/c --mount=from=b,src=/s,target=/y t")
    bind, cache, stage = mounts_of(run)
    assert (bind.type, bind.target, bind.reads_context) == ("bind", "/x", True)
    assert (cache.target, cache.reads_context) == ("/c", False)
    assert (stage.source_stage, stage.source, stage.reads_context) == ("b", "/s", False)


def test_comments_above_an_instruction_stay_with_it() -> None:
    text = "FROM a\n\n# one\n# two\nRUN x\nRUN y\n"
    first, second = parse_dockerfile(text, file="Dockerfile").stages[0].instructions
    assert first.comments == ("one", "two")
    assert second.comments == ()


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="FROMCPYRUNab \\\n\"'<`#=[]-$,é\t\r", max_size=80))
def test_any_text_parses_or_fails_with_a_line(text: str) -> None:
    try:
        parsed = parse_dockerfile(text, file="D")
    except BuildError as error:
        assert error.line >= 1  # noqa: PT017 - both outcomes are right
    else:
        last = max(i.last_line for s in parsed.stages for i in (s.origin, *s.instructions))
        assert last <= text.count("\n") + 1
