"""When the support of distribution releases ends.

Debian with LTS, Ubuntu without Pro, RHEL and its relatives with the maintenance phase, SUSE without LTSS.
From the life-cycle pages of wiki.debian.org/LTS, ubuntu.com/about/release-cycle, alpinelinux.org/releases,
access.redhat.com/support/policy/updates/errata, wiki.almalinux.org, wiki.rockylinux.org, docs.fedoraproject.org,
aws.amazon.com/amazon-linux-2/faqs, suse.com/lifecycle, en.opensuse.org/Lifetime,
learn.microsoft.com/azure/azure-linux and the collection endoflife.date, as of November 2026. A release that is
not listed is one we don't know about, which is neither supported nor ended.
"""

from collections.abc import Mapping
from datetime import date

SUPPORT_ENDS: Mapping[str, Mapping[str, date]] = {
    "debian": {
        "7": date(2018, 5, 31),
        "8": date(2020, 6, 30),
        "9": date(2022, 6, 30),
        "10": date(2024, 6, 30),
        "11": date(2026, 8, 31),
        "12": date(2028, 6, 30),
        "13": date(2030, 6, 30),
    },
    "ubuntu": {
        "14.04": date(2019, 4, 25),
        "16.04": date(2021, 4, 30),
        "18.04": date(2023, 5, 31),
        "20.04": date(2025, 5, 31),
        "22.04": date(2027, 4, 30),
        "23.10": date(2024, 7, 11),
        "24.04": date(2029, 4, 30),
        "24.10": date(2025, 7, 10),
        "25.04": date(2026, 1, 15),
        "26.04": date(2031, 4, 30),
    },
    "alpine": {
        "3.12": date(2022, 5, 1),
        "3.13": date(2022, 11, 1),
        "3.14": date(2023, 5, 1),
        "3.15": date(2023, 11, 1),
        "3.16": date(2024, 5, 23),
        "3.17": date(2024, 11, 22),
        "3.18": date(2025, 5, 9),
        "3.19": date(2025, 11, 1),
        "3.20": date(2026, 4, 1),
        "3.21": date(2026, 11, 1),
        "3.22": date(2027, 5, 1),
        "3.23": date(2027, 11, 1),
    },
    "rhel": {
        "6": date(2020, 11, 30),
        "7": date(2024, 6, 30),
        "8": date(2029, 5, 31),
        "9": date(2032, 5, 31),
        "10": date(2035, 5, 31),
    },
    "centos": {
        "6": date(2020, 11, 30),
        "7": date(2024, 6, 30),
        "8": date(2024, 5, 31),
        "9": date(2027, 5, 31),
        "10": date(2030, 1, 1),
    },
    "almalinux": {"8": date(2029, 3, 1), "9": date(2032, 5, 31), "10": date(2035, 5, 31)},
    "rocky": {"8": date(2029, 5, 31), "9": date(2032, 5, 31), "10": date(2035, 5, 31)},
    "ol": {
        "6": date(2021, 3, 31),
        "7": date(2024, 12, 31),
        "8": date(2029, 7, 31),
        "9": date(2032, 6, 30),
        "10": date(2035, 6, 30),
    },
    "fedora": {
        "34": date(2022, 6, 7),
        "35": date(2022, 12, 13),
        "36": date(2023, 5, 16),
        "37": date(2023, 12, 5),
        "38": date(2024, 5, 21),
        "39": date(2024, 11, 26),
        "40": date(2025, 5, 13),
        "41": date(2025, 12, 15),
        "42": date(2026, 5, 13),
        "43": date(2026, 12, 9),
    },
    "amzn": {"2018": date(2023, 12, 31), "2": date(2026, 6, 30), "2023": date(2029, 6, 30)},
    "sles": {
        "12.4": date(2020, 6, 30),
        "12.5": date(2024, 10, 31),
        "15": date(2019, 12, 31),
        "15.1": date(2021, 1, 31),
        "15.2": date(2021, 12, 31),
        "15.3": date(2022, 12, 31),
        "15.4": date(2023, 12, 31),
        "15.5": date(2024, 12, 31),
        "15.6": date(2025, 12, 31),
        "15.7": date(2031, 7, 31),
    },
    "opensuse-leap": {
        "15.0": date(2019, 12, 3),
        "15.1": date(2021, 2, 2),
        "15.2": date(2022, 1, 4),
        "15.3": date(2022, 12, 31),
        "15.4": date(2023, 12, 7),
        "15.5": date(2024, 12, 31),
        "15.6": date(2026, 4, 30),
        "16.0": date(2027, 10, 31),
    },
    "photon": {"1.0": date(2022, 2, 28), "2.0": date(2022, 12, 31), "3.0": date(2024, 3, 1)},
    "mariner": {"1.0": date(2023, 8, 31), "2.0": date(2025, 7, 31)},
    "azurelinux": {"3.0": date(2027, 8, 31)},
}
"""`ID` of os-release → release → last day of support that nobody has to pay for."""
ROLLING = frozenset({"arch", "chainguard", "opensuse-tumbleweed", "wolfi"})
"""Distributions without releases: what is supported is the newest of each package."""
