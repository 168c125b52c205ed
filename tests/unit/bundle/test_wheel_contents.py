"""Wheels as anybody may have made them: what the host refuses, and what the machine's own program never does."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import PROGRAMS

from bake.bundle.wheel_contents import require_safe
from bake.errors import WheelError

METADATA = {
    "thing-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: thing\nVersion: 1\n",
    "thing-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
#: Left behind by code of the wheel, should any Python run it.
MARK = "import os; open({marker!r}, 'a').write(f'uid {{os.getuid()}}\\n')\n"


def wheel(folder: Path, files: Mapping[str, str | bytes], mode: int = 0o644) -> Path:
    """Make a wheel of these files and what each wheel has; `mode` is that of the files, type and all."""
    folder.mkdir(exist_ok=True)
    path = folder / "thing-1-py3-none-any.whl"
    listed = {**files, **METADATA}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in listed.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (mode if name in files else 0o644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
        archive.writestr(
            "thing-1.dist-info/RECORD", "".join(f"{name},,\n" for name in [*listed]) + "thing-1.dist-info/RECORD,,\n"
        )
    return path


def test_an_ordinary_wheel_is_safe(tmp_path: Path) -> None:
    files = {
        "thing/__init__.py": "", "thing-1.data/scripts/thing": "#!python\n", "thing-1.data/data/share/x..y": "",
        "distutils-precedence.pth": "import os\n",
        "thing-1.dist-info/entry_points.txt": "[console_scripts]\nthing = x:y\n",
    }  # fmt: skip
    require_safe(wheel(tmp_path, files, stat.S_IFREG | 0o755))


@pytest.mark.parametrize(
    ("name", "told"),
    [("../../../etc/cron.d/x", "is outside"), ("/etc/cron.d/x", "is outside"), ("a/../../x", "is outside"),
     ("thing-1.data/data/../../x", "is outside"), ("a\\..\\x", "is outside"), ("thing-1.data/etc/x", "'etc'")],
)  # fmt: skip
def test_a_path_outside_its_folder_is_refused(tmp_path: Path, name: str, told: str) -> None:
    with pytest.raises(WheelError, match=rf"refuses to unpack thing-1-py3-none-any\.whl: .*{told}"):
        require_safe(wheel(tmp_path, {name: ""}))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    with pytest.raises(WheelError, match="x is a link or a device"):
        require_safe(wheel(tmp_path, {"x": "/etc/passwd"}, kind | 0o777))


@pytest.mark.parametrize("bit", [stat.S_ISUID, stat.S_ISGID])
def test_set_uid_bits_are_refused(tmp_path: Path, bit: int) -> None:
    with pytest.raises(WheelError, match="set-uid"):
        require_safe(wheel(tmp_path, {"x": ""}, stat.S_IFREG | 0o755 | bit))


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WheelError, match="bytes would unpack to 104,857,"):
        require_safe(wheel(tmp_path, {"zeros": bytes(100 << 20)}))


@pytest.mark.parametrize("text", ["[console_scripts]\n../../x = a:b\n", "[gui_scripts]\n/etc/x = a:b\n"])
def test_a_command_outside_of_bin_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(WheelError, match="would be outside bin"):
        require_safe(wheel(tmp_path, {"thing-1.dist-info/entry_points.txt": text}))


@pytest.mark.parametrize("content", [b"", b"PK\3\4 half a zip"])
def test_what_is_no_zip_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "thing-1-py3-none-any.whl"
    path.write_bytes(content)
    with pytest.raises(WheelError, match="cannot be read"):
        require_safe(path)


def build(release: Path) -> subprocess.CompletedProcess[str]:
    """Run the machine's own program; `installer` is the one of this Python."""
    (release / "source").mkdir(exist_ok=True)
    words = [sys.executable, "-I", PROGRAMS / "build-venv", release, "/srv/app/releases/12ab"]
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)


def test_nothing_of_a_wheel_runs_while_its_virtualenv_is_built(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    run = MARK.format(marker=str(marker))
    files = {"evil.pth": run, "sitecustomize.py": run, "usercustomize.py": run, "thing/__init__.py": run}
    wheel(tmp_path / "wheels", files)
    done = build(tmp_path)
    assert done.returncode == 0, done.stderr
    python = tmp_path / "venv" / "bin" / "python"
    assert (tmp_path / "venv" / "lib" / f"python3.{sys.version_info[1]}" / "site-packages" / "evil.pth").exists()
    assert not marker.exists()
    # The wheel is one that runs code: the virtualenv's own Python does it at its start.
    subprocess.run([python, "-c", ""], check=True)
    assert marker.exists()


def test_the_later_of_two_wheels_with_the_same_file_wins(tmp_path: Path) -> None:
    points = {"thing-1.dist-info/entry_points.txt": "[console_scripts]\ntool = shared:main\n"}
    for name in ("first", "second"):
        made = wheel(tmp_path / "made", {"shared.py": name, **points})
        with zipfile.ZipFile(made) as source:
            members = {entry.replace("thing-1", f"{name}-1"): source.read(entry) for entry in source.namelist()}
        (tmp_path / "wheels").mkdir(exist_ok=True)
        with zipfile.ZipFile(tmp_path / "wheels" / f"{name}-1-py3-none-any.whl", "w") as archive:
            for entry, content in members.items():
                archive.writestr(entry, content.replace(b"thing-1", name.encode() + b"-1"))
    done = build(tmp_path)
    assert done.returncode == 0, done.stderr
    (packages,) = (tmp_path / "venv").glob("lib/python3.*/site-packages")
    assert (packages / "shared.py").read_text() == "second"
    assert os.access(tmp_path / "venv" / "bin" / "tool", os.X_OK)
    assert {path.name for path in packages.glob("*.dist-info")} == {"first-1.dist-info", "second-1.dist-info"}


def test_a_virtualenv_is_whole(tmp_path: Path) -> None:
    files = {
        "thing/__init__.py": "x = 1\n", "thing/bad.py": "print 'x'\n",
        "thing-1.data/scripts/tool": "#!python\nimport thing\n",
        "thing-1.data/headers/thing.h": "", "thing-1.data/data/share/thing.txt": "",
        "thing-1.dist-info/entry_points.txt": "[console_scripts]\nthing = thing:main\n",
    }  # fmt: skip
    wheel(tmp_path / "wheels", files)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "app.py").write_text("import thing\n")
    done = build(tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    venv = tmp_path / "venv"
    for name in ("tool", "thing"):
        assert (venv / "bin" / name).read_text().startswith("#!/srv/app/releases/12ab/venv/bin/python\n")
        assert os.access(venv / "bin" / name, os.X_OK)
    assert (venv / "share" / "thing.txt").exists() and list(venv.glob("include/site/**/thing.h"))
    assert str(tmp_path) not in (venv / "pyvenv.cfg").read_text() + (venv / "bin" / "activate").read_text()
    (packages,) = venv.glob("lib/python3.*/site-packages")
    compiled = {path.name.partition(".")[0] for path in (packages / "thing" / "__pycache__").iterdir()}
    assert compiled == {"__init__"} and list((tmp_path / "source" / "__pycache__").glob("app.*.pyc"))
    assert (packages / "thing-1.dist-info" / "INSTALLER").read_text() == "app-setup"
    # As its release, under its own name.
    shutil.copytree(venv, tmp_path / "moved", symlinks=True)
    said = subprocess.run([tmp_path / "moved/bin/python", "-c", "import thing; print(thing.x)"], capture_output=True)
    assert said.stdout == b"1\n"


@pytest.mark.parametrize(
    "name",
    ["../../../../escaped", "{place}/escaped", "thing-1.data/data/../escaped", "thing-1.data/scripts/../../../escaped",
     "thing-1.data/data/bin/python", "thing-1.data/data/pyvenv.cfg", "thing-1.data/data/lib64/../../escaped"],
)  # fmt: skip
def test_the_machine_writes_nothing_outside_of_a_virtualenv(tmp_path: Path, name: str) -> None:
    release = tmp_path / "releases" / "new"
    release.mkdir(parents=True)
    wheel(release / "wheels", {name.format(place=tmp_path): "x"})
    before = sorted(tmp_path.rglob("*"))
    done = build(release)
    assert done.returncode != 0
    assert "outside" in done.stderr or "already exists" in done.stderr
    new = {path for path in set(tmp_path.rglob("*")) - set(before) if not path.is_relative_to(release / "venv")}
    assert new <= {release / "source"}
    assert (release / "venv" / "bin" / "python").is_symlink()
    assert "executable" in (release / "venv" / "pyvenv.cfg").read_text()


def test_a_command_of_a_wheel_stays_in_its_bin(tmp_path: Path) -> None:
    release = tmp_path / "new"
    release.mkdir()
    wheel(release / "wheels", {"thing-1.dist-info/entry_points.txt": "[console_scripts]\n../../../escaped = a:b\n"})
    assert "outside its folder" in build(release).stderr
    assert not (tmp_path / "escaped").exists()
