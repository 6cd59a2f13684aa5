"""Version order of every ecosystem against its own tool, and against the Go modules of other scanners.

Where they differ among themselves, we go by the ecosystem's own rule; what is then left out of a
comparison is said by a predicate with the reason in its docstring. Debian against dpkg stands in
`test_dpkg_versions.py`.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence

import pytest
from univers import versions as univers

from ci_registry.advisories.versions import compare
from tests.support.advisories import DATA
from tests.support.peers import PEERS, find_peer
from tests.support.version_pairs import ECOSYSTEMS, random_pairs

Pair = tuple[str, str]
Answers = Sequence[int | None]
COUNT = 3000
MAVEN = PEERS / "maven" / "maven-artifact-3.9.11.jar"
_FOLDERS = {"rpm": "AlmaLinux9", "go": "Go", "pep440": "PyPI"}


def real_versions(grammar: str) -> list[str]:
    """Return the versions in the sample advisories; none when the samples are not there."""
    folder = DATA / "osv" / _FOLDERS.get(grammar, "none")
    found: set[str] = set()
    for path in sorted(folder.glob("*.json")):
        for item in json.loads(path.read_text())["affected"]:
            found |= {v for r in item.get("ranges", ()) for e in r["events"] for v in e.values()}
            found.update(item.get("versions", ()))
    return sorted(v for v in found if v != "0" and not re.fullmatch(r"[0-9a-f]{40}", v))


def check(
    grammar: str,
    ask: Callable[[list[Pair]], Answers],
    *,
    leave_out: Callable[[Pair], bool] = lambda _pair: False,
    count: int = COUNT,
) -> None:
    """Compare thousands of pairs, both ways round."""
    made = random_pairs(grammar, count, real=real_versions(grammar))
    pairs = [pair for pair in made if not leave_out(pair)]
    answers = ask(pairs)
    assert len(answers) == len(pairs)
    asked = [
        (pair, answer) for pair, answer in zip(pairs, answers, strict=True) if answer is not None
    ]
    ecosystem = ECOSYSTEMS[grammar]
    wrong = [(pair, a) for pair, a in asked if compare(ecosystem, *pair) != a]
    wrong += [(pair, a) for pair, a in asked if compare(ecosystem, pair[1], pair[0]) != -a]
    assert wrong == []
    assert len(asked) >= 2000
    assert {answer for _, answer in asked} == {-1, 0, 1}


def _go_modules(scheme: str) -> Callable[[list[Pair]], Answers]:
    def ask(pairs: list[Pair]) -> Answers:
        questions = [{"scheme": scheme, "a": a, "b": b} for a, b in pairs]
        program = find_peer("oracle-versions")
        assert program is not None
        done = subprocess.run(
            [program], input=json.dumps(questions), capture_output=True, text=True, check=True
        )
        answers: list[int | None] = json.loads(done.stdout)
        return [None if a is None else (a > 0) - (a < 0) for a in answers]

    return ask


def _program(*argv: str) -> Callable[[list[Pair]], Answers]:
    """Return an oracle that reads lines "a<TAB>b" and prints -1, 0, 1 or x for each."""

    def ask(pairs: list[Pair]) -> Answers:
        text = "".join(f"{a}\t{b}\n" for a, b in pairs)
        done = subprocess.run(argv, input=text, capture_output=True, text=True, check=True)
        return [None if line == "x" else int(line) for line in done.stdout.split()]

    return ask


_RUBY = """
STDIN.each_line(chomp: true) do |line|
  a, b = line.split("\t")
  begin puts(Gem::Version.new(a) <=> Gem::Version.new(b)) rescue puts("x") end
end
"""
_PHP = r"""
require '/usr/share/php/Composer/Semver/autoload.php';
$parser = new Composer\Semver\VersionParser();
while (($line = fgets(STDIN)) !== false) {
  [$a, $b] = explode("\t", rtrim($line, "\n"));
  try { echo version_compare($parser->normalize($a), $parser->normalize($b)), "\n"; }
  catch (UnexpectedValueException $e) { echo "x\n"; }
}
"""
_NODE = """
const semver = require(process.argv[1]);
for (const line of require('fs').readFileSync(0, 'utf8').split('\\n').filter(Boolean)) {
  const [a, b] = line.split('\\t');
  console.log(semver.valid(a) && semver.valid(b) ? semver.compare(a, b) : 'x');
}
"""


@pytest.mark.peer("rpm")
def test_rpm_order_is_that_of_rpm() -> None:
    def ask(pairs: list[Pair]) -> Answers:
        answers: list[int] = []
        for start in range(0, len(pairs), 500):
            calls = "".join(
                f'print(rpm.vercmp("{a}","{b}").." ")' for a, b in pairs[start : start + 500]
            )
            done = subprocess.run(
                ["rpm", "--eval", f"%{{lua: {calls}}}"], capture_output=True, text=True, check=True
            )
            answers += map(int, done.stdout.split())
        return answers

    check("rpm", ask)


@pytest.mark.peer("ruby")
def test_gem_order_is_that_of_rubygems() -> None:
    check("gem", _program("ruby", "-e", _RUBY))


@pytest.mark.peer("php")
def test_packagist_order_is_that_of_composer() -> None:
    check("composer", _program("php", "-r", _PHP))


@pytest.mark.skipif(
    shutil.which("java") is None or not MAVEN.exists(), reason="Java and Maven's jar are not there"
)
def test_maven_order_is_that_of_maven() -> None:
    def ask(pairs: list[Pair]) -> Answers:
        """Maven's own demonstration program compares each argument with the one before it."""
        name = "org.apache.maven.artifact.versioning.ComparableVersion"
        argv = ["java", "-cp", str(MAVEN), name, *(version for pair in pairs for version in pair)]
        printed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        signs = re.findall(r"^   \S+ (<|>|==) \S+$", printed, re.MULTILINE)
        return [{"<": -1, ">": 1, "==": 0}[sign] for sign in signs[::2]]

    check("maven", ask)


@pytest.mark.peer("node")
def test_npm_order_is_that_of_node() -> None:
    module = PEERS / "npm" / "node_modules" / "semver"
    if not module.is_dir():
        pytest.skip("node's semver is not there")
    check("npm", _program("node", "-e", _NODE, str(module)))


def _nothing(_pair: Pair) -> bool:
    return False


def _leading_zero(pair: Pair) -> bool:
    """apk-tools 2 reads `1.01` as a fraction, apk-tools 3 (which we follow) as text; the module is of 2."""
    return any(re.search(r"\.0\d", version) for version in pair)


def _gem_mixed(pair: Pair) -> bool:
    """The module takes `b2` for one word; RubyGems, and we, for a word and a number."""
    return any(re.search(r"[a-z]\d", version) for version in pair)


def _maven_odd(pair: Pair) -> bool:
    """The module is of Maven 3.6 and Maven 4 in parts; only shapes that all of them agree on are compared."""
    shape = r"\d+(\.\d+){0,3}(-(alpha|beta|milestone|rc|snapshot|sp|jre)(-[1-9]\d*)?)?"
    return not all(re.fullmatch(shape, version.lower()) for version in pair)


@pytest.mark.go_peer("oracle-versions")
@pytest.mark.parametrize(
    ("grammar", "leave_out"),
    [
        ("apk", _leading_zero),
        ("bitnami", _nothing),
        ("deb", _nothing),
        ("gem", _gem_mixed),
        ("go", _nothing),
        ("npm", _nothing),
        ("pep440", _nothing),
        ("rpm", _nothing),
        ("toolchain", _nothing),
    ],
)
def test_order_is_that_of_the_go_modules(grammar: str, leave_out: Callable[[Pair], bool]) -> None:
    check(grammar, _go_modules(grammar), leave_out=leave_out, count=2 * COUNT)


@pytest.mark.go_peer("oracle-versions")
def test_plain_maven_order_is_that_of_the_go_module() -> None:
    check("maven", _go_modules("maven"), leave_out=_maven_odd, count=10 * COUNT)


def _univers(kind: type[univers.Version]) -> Callable[[list[Pair]], Answers]:
    def order(a: str, b: str) -> int | None:
        try:
            left, right = kind(a), kind(b)
            return (left > right) - (left < right)
        except (univers.InvalidVersion, ValueError, TypeError):
            return None

    return lambda pairs: [order(a, b) for a, b in pairs]


@pytest.mark.parametrize(
    ("grammar", "kind"),
    [
        ("deb", univers.DebianVersion),
        ("rpm", univers.RpmVersion),
        ("gem", univers.RubygemsVersion),
        ("nuget", univers.NugetVersion),
        ("npm", univers.SemverVersion),
        ("pep440", univers.PypiVersion),
    ],
)
def test_order_is_that_of_univers(grammar: str, kind: type[univers.Version]) -> None:
    check(grammar, _univers(kind))
