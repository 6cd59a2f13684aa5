"""Makes the root of an RPM distribution with the real rpmbuild and rpm."""

import subprocess
from pathlib import Path

METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nText\n"
SITE = "usr/lib/python3.9/site-packages"
FORMAT = (
    "%{NAME}|%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}|%{ARCH}|%{SOURCERPM}|%{MODULARITYLABEL}"
    "|%{VENDOR}\\n"
)
"""One line per package, fields divided by `|`; `%|EPOCH?{…}|` is rpm's way to say "if there is one"."""

_SPEC = """\
Name: {name}
Version: {version}
Release: {release}
Summary: A package for tests
License: MIT
Vendor: {vendor}
BuildArch: noarch
{more}
%description
A package for tests.
%install
mkdir -p %{{buildroot}}/{folder}
printf '{content}' > %{{buildroot}}/{folder}/METADATA
%files
/{folder}
%package libs
Summary: More of it
%description libs
More.
%files libs
"""
_PACKAGES = (
    ("python3-demo", "1.2", "3.el9", "AlmaLinux", "Epoch: 2"),
    ("nodejs", "18.12.1", "1.module_el9", "AlmaLinux", "ModularityLabel: nodejs:18:901:rhel9"),
    ("docker-ce", "24.0", "1.el9", "Docker", ""),
)


def make_rpm_root(folder: Path) -> Path:
    """Return a root with the files and the database of six packages, of which two are a vendor's."""
    root = folder / "root"
    root.mkdir()
    build = folder / "rpmbuild"
    for name, version, release, vendor, more in _PACKAGES:
        content = METADATA.format(name=name, version=version).replace("\n", "\\n")
        spec = folder / f"{name}.spec"
        spec.write_text(
            _SPEC.format(
                name=name,
                version=version,
                release=release,
                vendor=vendor,
                more=more,
                folder=f"{SITE}/{name.replace('-', '_')}-{version}.dist-info",
                content=content,
            )
        )
        _run("rpmbuild", "-bb", "--define", f"_topdir {build}", str(spec))
    made = sorted(str(path) for path in build.rglob("*.rpm"))
    _run("rpm", "--root", str(root), "--dbpath", "/var/lib/rpm", "--initdb")
    _run("rpm", "--root", str(root), "--dbpath", "/var/lib/rpm", "-i", "--nodeps", *made)
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/os-release").write_text('ID="almalinux"\nVERSION_ID="9.4"\n')
    (root / "etc/almalinux-release").write_text("AlmaLinux release 9.4 (Seafoam Ocelot)\n")
    return root


def ask_rpm(root: Path, *arguments: str) -> str:
    """Return what rpm itself says about the packages of a root."""
    return _run("rpm", "--root", str(root), "--dbpath", "/var/lib/rpm", *arguments)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
