"""Runs the main job on embedded parts: two images, one passes and is signed, one is blocked.

Needs no engine, no registry and no network. Everything happens in a dry run: the registry is
inside the process, the key is thrown away. The advisories are three invented records.
"""

import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPORTS = HERE.parents[1] / "demo-report"
BLOCKED = 1


def main() -> int:
    """Run the demo; 0 when it came out as it should."""
    with tempfile.TemporaryDirectory() as folder:
        advisories = Path(folder)
        for record in sorted((HERE / "advisories").glob("*.json")):
            (advisories / record.name).write_bytes(record.read_bytes())
        facts = {"built": datetime.now(UTC).isoformat(), "ecosystems": ["Debian:12", "PyPI"]}
        (advisories / "database.json").write_text(json.dumps(facts))
        command = [
            *(sys.executable, "-I", "-m", "ci_registry", "run", "--dry-run", "--offline"),
            *("--working-directory", str(HERE), "--builder", "assemble"),
            *("--scan-db", str(advisories), "--report-dir", str(REPORTS)),
        ]
        print("$ ci-registry", *command[4:], flush=True)
        code = subprocess.run(command, check=False).returncode
    if code != BLOCKED:
        print(
            f"the demo ended with exit code {code}; it should end with {BLOCKED} (worker is blocked)"
        )
        return code or 1
    print(f"\nAs it should: web passed and was signed, worker is blocked. Reports: {REPORTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
