"""What the registry commands print: text for people, JSON for machines."""

from collections.abc import Iterable

from ci_registry.cli.console import clean
from ci_registry.registry.copy import CopyOutcome, CopyStatus
from ci_registry.wiring.copying import CopyReport

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size_text(size_bytes: int) -> str:
    """Return a size as people read it: `12.3 MB`, a thousand to a step."""
    size = float(size_bytes)
    for unit in _UNITS[:-1]:
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} {_UNITS[-1]}"


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """Return rows as aligned columns, foreign text made harmless."""
    cleaned = [tuple(clean(cell) for cell in row) for row in rows]
    if not cleaned:
        return ""
    widths = [max(map(len, column)) for column in zip(*cleaned, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cleaned
    )
    return "".join(f"{line}\n" for line in lines)


def copy_as_text(report: CopyReport) -> str:
    """Return what was copied, a line per tag that changed or failed, and the sum."""
    lines = [_copy_line(o, dry_run=report.dry_run) for o in report.outcomes]
    copied = report.count(CopyStatus.COPIED)
    would = "would be " if report.dry_run else ""
    total = (
        f"{copied} {would}copied, {report.count(CopyStatus.PRESENT)} up to date,"
        f" {report.count(CopyStatus.FAILED)} failed;"
        f" {size_text(report.bytes_sent)} {would}sent to {report.target}"
    )
    lines += [f"note: {note}" for note in report.notes]
    if report.dry_run:
        lines.append("note: nothing was written; the right to push was not checked")
    return "".join(f"{clean(line)}\n" for line in [*filter(None, lines), total])


def _copy_line(outcome: CopyOutcome, *, dry_run: bool) -> str:
    name = outcome.item.tag or outcome.item.source
    if outcome.error is not None:
        return f"FAILED      {name}: {outcome.error.headline}"
    image = outcome.image
    if outcome.status is CopyStatus.PRESENT:
        return f"up to date  {name} {outcome.digest}" if image is not None else ""
    detail = ""
    if image is not None:
        parts = [f"{image.manifests} manifests", f"{image.blobs} blobs"]
        parts += [f"{image.mounted} of them mounted"] if image.mounted else []
        parts += [size_text(image.bytes_sent)]
        parts += [f"{image.referrers} referrers"] if image.referrers else []
        detail = f" ({', '.join(parts)})"
    word = "would copy" if dry_run else "copied"
    return f"{word:<11} {name} {outcome.digest}{detail}"


def copy_as_json(report: CopyReport) -> dict[str, object]:
    """Return a copy's outcome as JSON values; versioned, only additions within a version."""
    return {
        "schema_version": 1,
        "source": report.source,
        "target": report.target,
        "dry_run": report.dry_run,
        "copied": report.count(CopyStatus.COPIED),
        "up_to_date": report.count(CopyStatus.PRESENT),
        "failed": report.count(CopyStatus.FAILED),
        "bytes_sent": report.bytes_sent,
        "exit_code": int(report.exit_code),
        "notes": list(report.notes),
        "items": [_item_json(outcome) for outcome in report.outcomes],
    }


def _item_json(outcome: CopyOutcome) -> dict[str, object]:
    image, error = outcome.image, outcome.error
    item: dict[str, object] = {
        "source": outcome.item.source,
        "tag": outcome.item.tag,
        "status": outcome.status,
        "digest": outcome.digest,
    }
    if image is not None:
        item |= {
            "manifests": image.manifests,
            "blobs": image.blobs,
            "mounted": image.mounted,
            "bytes_sent": image.bytes_sent,
            "referrers": image.referrers,
            "notes": list(image.notes),
        }
    if error is not None:
        item |= {"error": error.headline, "hint": error.hint, "exit_code": int(error.exit_code)}
    return item
