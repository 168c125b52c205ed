"""What each feature costs of the 16,384 bytes of a pasted document. `nox -s system -- bytes` prints it alone."""

import re

import pytest

from bake.bundle import release_files
from bake.config import contract
from bake.config.debian import TARGETS
from bake.config.providers import SMALLEST_LIMIT
from bake.document import cloud_config, machine_files, release_source
from bake.document.machine_files import File

#: Features of every machine, by the files that make them; the first that fits takes a file.
FEATURES = {
    "bringing a release": r"usr/lib/app/(setup|step\.py|serving\.py|packages)|app-setup",
    "wheels unpacked by a user of their own": r"build",
    "settings of this machine": r"usr/lib/app/configure|app-configure",
    "wrong settings left out": r"given\.py",
    "certificates read": r"certbot|letsencrypt",
    "nginx": r"nginx",
    "uWSGI and the app's unit": r"uwsgi\.ini|wsgi\.py|app\.(service|socket)|app-job",
    "firewall": r"nft",
    "boot, accounts, folders": r"usr/lib/app/boot|sysusers|tmpfiles",
    "logins": r"ssh|keys-only",
    "updates, logs, names": r"apt\.conf|journald|resolved",
}


def size(files, target):
    """Bytes of the smallest text that holds these files."""
    return cloud_config.packed(files, target, stripped=True).size


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
def test_each_feature_s_share_of_a_document(target, capsys):
    files = [*machine_files.files(target), release_source.stanza(target, parts="ab" * 32)]
    groups: dict[str, list[File]] = {name: [] for name in FEATURES}
    for file in files[:-1]:
        name = next((name for name, pattern in FEATURES.items() if re.search(pattern, file.path)), None)
        assert name, f"{file.path} belongs to no feature: add it to FEATURES"
        groups[name].append(file)
    assert all(groups.values())
    whole = size(files, target)
    # What a document would save without it: files that are alike cost less together.
    rows = {name: whole - size([file for file in files if file not in group], target) for name, group in groups.items()}
    for name in ("updates", "ssh-limit", "zero-downtime", "certificate", "steps", "django"):
        brought = [
            cloud_config.minified(File(f"{contract.INCOMING}/{'ab' * 32}/{path}", file.mode, file.text.encode()))
            for path, file in release_files.feature_files(name).items()
        ]
        rows[f"release: {name}"] = size([*files, *brought], target) - whole
    with capsys.disabled():
        print(f"\n{target.name}: {whole:,} of {SMALLEST_LIMIT:,} bytes are the machine's")
        for name, cost in sorted(rows.items(), key=lambda row: -row[1]):
            print(f"{cost:7,}  {name}")
    # Room for an app of ten lines and its lock.
    assert whole < SMALLEST_LIMIT - 850
    assert all(cost > 0 for cost in rows.values())
