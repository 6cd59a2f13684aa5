"""Reads the reports of other scanners that a call names."""

from ci_registry.errors import IntegrityError, UsageError
from ci_registry.files import read_file
from ci_registry.scanners.given_report import GivenReport
from ci_registry.scanners.report_formats import MAX_REPORT_BYTES, read_report
from ci_registry.wiring.basis import Caller


def read_reports(caller: Caller) -> tuple[GivenReport, ...]:
    """Read the reports of other scanners.

    Raises:
        UsageError: one can't be understood; the message names file and place.
    """
    reports = []
    for path in caller.reports:
        data = read_file(caller.folder / path, max_bytes=MAX_REPORT_BYTES)
        try:
            reports.append(read_report(data, what=str(path)))
        except IntegrityError as error:
            raise UsageError(error.message, hint=error.hint) from error
    return tuple(reports)
