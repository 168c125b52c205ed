"""Front ends: built once, part of the release and its digest, and faults with the next step. The builder is a fake."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import builder_fakes
import pytest
from app_files import NO_LOCK
from conftest import Fake, write

from bake.bundle import release_archive
from bake.bundle.app_source import AppSource
from bake.bundle.wheel_builder import LOCK_OPTIONS, LockOptions
from bake.config.recipe import Recipe
from bake.errors import AssetsError
from bake.host.cache import Age
from bake.host.progress import Reporter
from bake.host.terminal import Terminal

pytestmark = pytest.mark.usefixtures("cache_folder")
#: Tells bake the next step, as assets.sh does.
STEP = 'step() { python3 -I "$2/announce.py" "$1" <&0; }\nstep run "$2"\n'
#: A build that writes a page with the source's text, and a link to it in the log.
BUILD = (
    STEP + 'cd "$2/app"; mkdir -p static/dist; cat front/main.js > static/dist/main.js; echo built >&2\n'
    'cd "$OLDPWD"; step pack "$2"; exec tar --create --directory="$2/app" static/dist\n'
)
FILES = {"app.py": "app = 1\n", "front/main.js": "one\n", "front/package.json": "{}", ".gitignore": "static/dist\n"}


@pytest.fixture
def report() -> Reporter:
    return Reporter(Terminal(file=io.StringIO(), width=1000))


def output(report: Reporter) -> str:
    text: str = report.console.file.getvalue()  # type: ignore[attr-defined]
    return text


def source(folder: Path, **keys: object) -> AppSource:
    assets = {"source": "front", "run": "npm run build", "folder": "static/dist"}
    values = {"name": "shop", "wsgi": "app:app", "base": "debian-13", "requirements": (), "assets": assets, **keys}
    return AppSource(folder, Recipe.model_validate(values), NO_LOCK)


def collect(app: AppSource, report: Reporter, options: LockOptions = LOCK_OPTIONS) -> dict[str, bytes]:
    """Bundle an app; the content of its files below source/, and the bundle's digest."""
    bundle = release_archive.collect(app, app.folder.parent / "bundle.tar", report, options)
    with tarfile.open(bundle.path) as tar:
        names = [member.name for member in tar]
        assert len(names) == len({*names})
        contents = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
        values = {name.removeprefix("source/"): stream.read() for name, stream in contents.items() if stream}
    return {**values, "digest": bundle.sha256.encode()}


def test_a_front_end_is_built_once_and_is_part_of_the_release(
    fake: Fake, tmp_path: Path, cache_folder: Path, app: Path, report: Reporter
) -> None:
    builder_fakes.install(fake, tmp_path, BUILD)
    write(app, {**FILES, "static/dist/stale.js": "old", "static/logo.svg": "logo"})
    first = collect(source(app), report)
    assert first["static/dist/main.js"] == b"one\n" and first["static/logo.svg"] == b"logo"
    assert "static/dist/stale.js" not in first and first["app.py"] == b"app = 1\n"
    assert "built static/dist, 1 files" in output(report) and "excluded: static" not in output(report)
    assert collect(source(app), report) == first
    assert "from the cache; nothing changed" in output(report) and len(builder_fakes.lines(tmp_path, "builds")) == 1
    (app / "front/main.js").write_text("two\n")
    second = collect(source(app), report)
    assert second["static/dist/main.js"] == b"two\n" and second["digest"] != first["digest"]
    # Other commands, and --refresh, build again too.
    collect(source(app, assets={"source": "front", "run": "npm run all", "folder": "static/dist"}), report)
    for manifest in cache_folder.glob("assets/*/assets.json"):
        manifest.write_text('{"created": 0}')
    collect(source(app), report, LockOptions(Age(refresh=True)))
    assert len(builder_fakes.lines(tmp_path, "builds")) == 4
    (call, *_) = builder_fakes.lines(tmp_path, "mmdebstrap.calls")
    assert ",nodejs,npm," in call


def test_a_folder_that_bake_excludes_is_in_the_release_if_it_is_built(
    fake: Fake, tmp_path: Path, app: Path, report: Reporter
) -> None:
    script = BUILD.replace("static/dist", "dist")
    builder_fakes.install(fake, tmp_path, script)
    write(app, {**FILES, "dist/stale.js": "old"})
    static = {"/assets": "dist"}
    assets = {"source": "front", "run": "npm run build", "folder": "dist"}
    content = collect(source(app, assets=assets, static=static), report)
    assert content["dist/main.js"] == b"one\n" and "dist/stale.js" not in content
    assert "dist/" not in output(report)


def test_a_failed_build_is_not_kept(fake: Fake, tmp_path: Path, app: Path, report: Reporter) -> None:
    builder_fakes.install(fake, tmp_path, STEP + "echo Oh dear >&2; exit 3")
    write(app, FILES)
    with pytest.raises(AssetsError, match="`npm run build` failed with exit status 3") as caught:
        collect(source(app), report)
    assert "Oh dear" in caught.value.details
    (tmp_path / "build.sh").write_text(BUILD)
    assert collect(source(app), report)["static/dist/main.js"] == b"one\n"


@pytest.mark.parametrize(
    ("options", "build", "message"),
    [
        (LockOptions(builds=False), True, "bake builds none for a pasted document"),
        (LOCK_OPTIONS, False, "`build: off` forbids its build"),
    ],
)
def test_without_a_build_the_folder_has_to_be_there(
    app: Path, report: Reporter, options: LockOptions, build: bool, message: str
) -> None:
    write(app, FILES)
    with pytest.raises(AssetsError) as caught:
        collect(source(app, build=build), report, options)
    assert message in caught.value.message and "`!/static/dist/`" in caught.value.hint
    write(app, {".gitignore": "", "static/dist/main.js": "committed"})
    assert collect(source(app, build=build), report, options)["static/dist/main.js"] == b"committed"
    assert "as in the app's folder; bake built nothing" in output(report)


def test_a_link_in_the_place_of_the_folder_is_refused(app: Path, report: Reporter) -> None:
    write(app, {**FILES, "other/a": "", ".gitignore": ""})
    (app / "static").symlink_to("other")
    with pytest.raises(AssetsError, match="static is a file or a link in the app's folder"):
        collect(source(app), report)
