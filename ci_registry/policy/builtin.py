"""The policy that counts when none is given."""

from typing import Final

from ci_registry.findings import Severity
from ci_registry.oci.digest import digest_of
from ci_registry.policy.model import Action, Policy, Rule

BUILT_IN_TEXT: Final = """\
# CRITICAL with a fix blocks, HIGH with a fix warns, everything else is listed.
apiVersion: v1
kind: Policy
metadata: {name: built-in}
spec:
  rules:
  - {severity: CRITICAL, action: BLOCK, onlyFixed: true}
  - {severity: HIGH, action: WARN, onlyFixed: true}
"""
"""The same as a document: to print, and to copy as the start of one's own."""

BUILT_IN: Final = Policy(
    name="built-in",
    rules=(
        Rule(id="critical-block", severity=Severity.CRITICAL, action=Action.BLOCK, only_fixed=True),
        Rule(id="high-warn", severity=Severity.HIGH, action=Action.WARN, only_fixed=True),
    ),
    digest=digest_of(BUILT_IN_TEXT.encode()),
    source="built-in",
)
"""A value of its own, so that judging by it needs no YAML; a test compares it with the text."""
