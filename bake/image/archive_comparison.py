"""Compare the packages of an image with Debian's security archive, before the image is run or launched."""

from __future__ import annotations

import lzma
import time

from bake.disk import security_updates
from bake.errors import BakeError
from bake.host import download, paths
from bake.host.files import atomic_output, digest
from bake.image.manifest import ImageManifest

#: Seconds that the archive has for its whole answer, and seconds in which the answer is used again.
PATIENCE, AN_HOUR = 5, 3600
#: The number of packages to name.
SHOWN = 5


def missing_updates(facts: ImageManifest) -> str:
    """Return a line about the security updates that an image lacks, or "" if its packages or its archive are unknown.

    The line claims nothing if the archive does not answer.
    """
    if not facts.packages or not facts.security_url:
        return ""
    try:
        index = _index(facts.security_url)
        names = security_updates.outdated(index, dict(facts.packages))
    except (BakeError, OSError, lzma.LZMAError) as error:
        message = error.message if isinstance(error, BakeError) else str(error)
        return f"the image is not compared with the security archive: {message}"
    if not names:
        return "the security archive has no newer versions of the image's packages"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"the image lacks security updates of {', '.join(names[:SHOWN])}{more}"


def _index(suite: str) -> str:
    """Return the text of the index of a suite, by its URL. Raises NetworkError, and LZMAError if it is damaged."""
    copy = paths.cache() / "security" / f"{digest([suite])}.xz"
    if not copy.exists() or time.time() - copy.stat().st_mtime > AN_HOUR:
        packed = download.fetch(f"{suite}/{security_updates.INDEX}", PATIENCE)
        text = security_updates.unpack(packed)
        with atomic_output(copy) as partial:
            partial.write_bytes(packed)
        return text
    return security_updates.unpack(copy.read_bytes())
