"""Several scanners on one image: each sees the same view, one result is judged, and none may fail."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from ci_registry.files import storage_error
from ci_registry.findings import ScanResult
from ci_registry.oci.reference import Reference
from ci_registry.scanners.interface import ImageView, ReadsRegistry, Scanner, ScannerInfo
from ci_registry.scanners.merging import merge_results


@dataclass(frozen=True, slots=True, kw_only=True)
class SeveralScanners:
    """Asks all of them at the same time; the trouble of one is the trouble of the scan."""

    scanners: tuple[Scanner, ...]
    """At least two, of different names."""

    @property
    def name(self) -> str:
        """All names, for example `osv+trivy`."""
        return "+".join(scanner.name for scanner in self.scanners)

    def probe(self) -> ScannerInfo:
        """Make sure that every one of them can run."""
        found = [scanner.probe() for scanner in self.scanners]
        return ScannerInfo(
            name=self.name,
            version="+".join(info.version for info in found),
            program=", ".join(info.program for info in found if info.program),
            sha256=", ".join(info.sha256 for info in found if info.sha256),
            database="; ".join(f"{info.name}: {info.database}" for info in found),
        )

    def check_place(self, published: Reference | None) -> None:
        """Have those that read images in a registry make sure of their place."""
        for scanner in self.scanners:
            if isinstance(scanner, ReadsRegistry):
                scanner.check_place(published)

    def scan(self, view: ImageView) -> ScanResult:
        """Scan with each, and merge what they found and could see.

        Raises:
            CiRegistryError: one of them failed.
        """
        views = [self._own_view(view, scanner) for scanner in self.scanners]
        with ThreadPoolExecutor(max_workers=len(self.scanners)) as pool:
            futures = [
                pool.submit(scanner.scan, own)
                for scanner, own in zip(self.scanners, views, strict=True)
            ]
            return merge_results([future.result() for future in futures])

    @staticmethod
    def _own_view(view: ImageView, scanner: Scanner) -> ImageView:
        """Return the view with a work folder of its own."""
        work = view.work / scanner.name
        try:
            work.mkdir()
        except OSError as error:
            raise storage_error(error, work, "make") from error
        return replace(view, work=work)
