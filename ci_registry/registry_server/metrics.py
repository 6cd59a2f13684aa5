"""Counts what the registry does, and writes the numbers in Prometheus' text format (version 0.0.4)."""

import threading
from dataclasses import dataclass

from ci_registry.registry_server.reachability import Collected

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_PREFIX = "ci_registry_server"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    """One metric: what `# HELP` and `# TYPE` say, and which counters belong to it."""

    name: str
    help: str
    kind: str = "counter"


_REQUESTS = _Family(name="requests_total", help="Requests answered, by method and status.")
_DURATION = _Family(name="request_seconds_total", help="Time spent on requests, by method.")
_RECEIVED = _Family(name="received_bytes_total", help="Bytes of request bodies that were read.")
_SENT = _Family(name="sent_bytes_total", help="Bytes of answer bodies that were sent.")
_UPLOADS = _Family(name="uploads_total", help="Uploads of blobs, by what came of them.")
_GC_RUNS = _Family(name="gc_runs_total", help="Garbage collections, by result.")
_GC_REMOVED = _Family(name="gc_removed_total", help="What garbage collections removed, by kind.")
_GC_BYTES = _Family(name="gc_removed_bytes_total", help="Bytes that garbage collections freed.")
_GC_LAST = _Family(
    name="gc_last_success_timestamp_seconds", help="When the last one ended.", kind="gauge"
)
_STORED = _Family(name="stored_bytes", help="Bytes of content that are stored.", kind="gauge")
_PENDING = _Family(name="pending_uploads", help="Uploads that are under way.", kind="gauge")
_FAMILIES = (
    *(_REQUESTS, _DURATION, _RECEIVED, _SENT, _UPLOADS),
    *(_GC_RUNS, _GC_REMOVED, _GC_BYTES, _GC_LAST, _STORED, _PENDING),
)


class Metrics:
    """The numbers since the start; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[tuple[str, str], float] = {}

    def _add(self, family: _Family, labels: str, amount: float) -> None:
        with self._lock:
            key = (family.name, labels)
            self._values[key] = self._values.get(key, 0) + amount

    def count_request(
        self, method: str, status: int, *, duration_s: float, received: int, sent: int
    ) -> None:
        """Count one request; `status` 0 is one whose client went away, sizes are in bytes."""
        known = method if method in _METHODS else "other"  # labels are for a few values
        self._add(_REQUESTS, f'{{method="{known}",status="{status or "aborted"}"}}', 1)
        self._add(_DURATION, f'{{method="{known}"}}', duration_s)
        self._add(_RECEIVED, "", received)
        self._add(_SENT, "", sent)

    def count_upload(self, outcome: str) -> None:
        """Count an upload: `started`, `finished`, `failed`, `cancelled`, `expired` or `mounted`."""
        self._add(_UPLOADS, f'{{outcome="{outcome}"}}', 1)

    def count_collection(self, collected: Collected, *, at: float) -> None:
        """Count a collection that ended at `at`, in seconds since 1970."""
        self._add(_GC_RUNS, '{result="ok"}', 1)
        removed = {
            "manifest": collected.manifests,
            "blob": collected.blobs,
            "upload": collected.uploads,
        }
        for kind, count in removed.items():
            self._add(_GC_REMOVED, f'{{kind="{kind}"}}', count)
        self._add(_GC_BYTES, "", collected.size_bytes)
        with self._lock:
            self._values[_GC_LAST.name, ""] = at

    def count_failed_collection(self) -> None:
        """Count a collection that ended with an error."""
        self._add(_GC_RUNS, '{result="failed"}', 1)

    def text(self, *, stored_bytes: int, pending_uploads: int) -> str:
        """Return everything, with the gauges that the caller knows."""
        with self._lock:
            values = dict(self._values)
        values[_STORED.name, ""] = stored_bytes
        values[_PENDING.name, ""] = pending_uploads
        lines = []
        for family in _FAMILIES:
            found = sorted(
                (labels, v) for (name, labels), v in values.items() if name == family.name
            )
            if not found:
                continue
            full = f"{_PREFIX}_{family.name}"
            lines += [f"# HELP {full} {family.help}", f"# TYPE {full} {family.kind}"]
            lines += [f"{full}{labels} {_number(value)}" for labels, value in found]
        return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.6f}"
