"""The table of readers of language packages, one per kind of file.

A new reader is three things, and nothing else has to change:

1. a value of `interest.Reader`, an `Interest` that says how much of such a file is kept, and an entry in
   one of the tables of `interest.py` that finds the file by its name (large files: `Interest.sift`, which
   sees the file in pieces while the layer is read);
2. a module with a function that turns the files into a `Reading`: packages, and what could not be read.
   `Package.path` is the `printable` path of the file that the package was read from; of something inside
   an archive it is the archive's path, `!/` and the path inside. Ownership by OS packages goes by it;
3. a line in `LANGUAGE_READERS`.

The purl type also belongs into `scanners.coverage.INVENTORIED_KINDS` once everything of it is read.
Readers of system packages (dpkg, apk, rpm) need the distribution and stand in `systems.py`.
"""

from collections.abc import Callable, Mapping, Sequence

from ci_registry.inventory.composer import read_composer
from ci_registry.inventory.conda import read_conda
from ci_registry.inventory.dotnet import read_dotnet
from ci_registry.inventory.embedded_sbom import read_embedded_sboms
from ci_registry.inventory.golang import read_golang
from ci_registry.inventory.interest import Reader
from ci_registry.inventory.java import read_java
from ci_registry.inventory.node import read_node
from ci_registry.inventory.python import read_python
from ci_registry.inventory.reading import ImageFile, Reading
from ci_registry.inventory.ruby import read_ruby
from ci_registry.inventory.rust import read_rust

ReadFiles = Callable[[Sequence[ImageFile]], Reading]

LANGUAGE_READERS: Mapping[Reader, ReadFiles] = {
    Reader.PYTHON: read_python,
    Reader.NODE: read_node,
    Reader.SBOM: read_embedded_sboms,
    Reader.JAVA: read_java,
    Reader.RUBY: read_ruby,
    Reader.COMPOSER: read_composer,
    Reader.DOTNET: read_dotnet,
    Reader.CONDA: read_conda,
    Reader.GOLANG: read_golang,
    Reader.RUST: read_rust,
}
