"""The systemd units of a release: jobs, limits, and exceptions from the sandbox."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import release_texts

from bake.bundle import release_files
from bake.host import paths
from bake.host.programs import run, which


def test_a_job_may_take_longer_than_usual(app: Path) -> None:
    timers = {"digest": {"run": "true", "when": "daily"}, "report": {"run": "true", "when": "daily", "limit": "2h"}}
    found = release_texts(app, timers=timers, limits={"steps": "40m"}, release=["true"])
    seconds = {"app-job@report": 7200, "app-job@setup": 2400, "app-job@release": 2400, "app-setup": 8400}
    texts = {f"settings/units/{unit}.service.d/60-limit.conf": limit for unit, limit in seconds.items()}
    assert {name: text for name, text in found.items() if "60-limit" in name} == {
        name: f"[Service]\nTimeoutStartSec={limit}\n" for name, limit in texts.items()
    }
    # app-configure installs only units of these names.
    ours = (paths.rootfs() / "usr/lib/app/configure").read_text()
    assert '"ap[pt]*.service.d/?0-*.conf"' in ours
    assert not [name for name in release_texts(app, timers={"digest": timers["digest"]}) if "60-limit" in name]


def test_a_job_has_a_bound_of_memory_and_dies_before_the_site(app: Path) -> None:
    name = "settings/units/app-job@.service.d/60-memory.conf"
    jobs: list[dict[str, Any]] = [
        {"timers": {"digest": {"run": "true", "when": "daily"}}}, {"setup": ["true"]}, {"release": ["true"]},
        {"django": {"settings": "shop.settings"}},
    ]  # fmt: skip
    texts = {release_texts(app, **recipe)[name] for recipe in jobs}
    assert len(texts) == 1 and "\nMemoryMax=75%\n" in min(texts)
    sandbox = (paths.rootfs() / "etc/systemd/system/app.service.d/50-sandbox.conf").read_text()
    of_job, of_site = (int(text.partition("OOMScoreAdjust=")[2].split()[0]) for text in (min(texts), sandbox))
    assert of_job > of_site
    assert name not in release_texts(app)


def test_the_build_of_a_release_has_a_bound_of_memory_and_no_better_chance_than_the_site() -> None:
    """Python needs gigabytes to compile a module of some wheels, and of a hostile one."""
    units = paths.rootfs() / "etc/systemd/system"
    of_build, of_site = ((units / f"{name}.service.d/50-sandbox.conf").read_text() for name in ("app-build", "app"))
    scores = [int(text.partition("\nOOMScoreAdjust=")[2].split()[0]) for text in (of_build, of_site)]
    assert scores[0] >= scores[1] and "\nMemoryMax=85%\n" in of_build


def test_large_uploads_are_not_kept_in_memory(app: Path) -> None:
    names = [f"settings/units/{unit}.service.d/60-tmp.conf" for unit in ("app", "app-next", "app-job@")]
    found = release_texts(app, limits={"body": "1G"})
    assert [found[name] for name in names] == ["[Service]\nEnvironment=TMPDIR=/var/tmp\n"] * 3
    assert not {*names} & {*release_texts(app, limits={"body": "10M"})}


def test_jobs_and_what_the_sandbox_allows(app: Path) -> None:
    timers = {"digest": {"run": "flask send", "when": "daily"}}
    setup = ["flask db upgrade", "echo 'it is' done"]
    found = release_texts(app, setup=setup, timers=timers, sandbox={"allow": ["jit"]}, secrets=["KEY", "URL"])
    timer = configparser.ConfigParser()
    timer.read_string(found["settings/units/app-digest.timer"])
    assert dict(timer["Timer"]) == {"oncalendar": "daily", "persistent": "yes", "unit": "app-job@digest.service"}
    assert found["settings/units/app.service.d/60-timers.conf"] == "[Unit]\nWants=app-digest.timer\n"
    assert timer["Unit"]["After"] == "app.service", "the app's steps and its start come first"
    assert release_files.feature_files("steps")["settings/secret"].mode == 0o755
    assert release_files.feature_files("steps").keys() <= found.keys()
    for service in ("app", "app-next", "app-job@"):
        allowed = found[f"settings/units/{service}.service.d/60-allow.conf"]
        assert allowed == "[Service]\nMemoryDenyWriteExecute=no\n"
    assert found["settings/jobs/digest"] == "flask send\n"
    (app / "setup").write_text(found["settings/jobs/setup"])
    said = run(["sh", "-e", app / "setup"], check=False, env={"PATH": "/nowhere"})
    assert said.stdout == "step 1 of 2: flask db upgrade\n"
    assert said.status != 0


def opened(app: Path, *doors: str) -> set[str]:
    """The lines that the sandbox gets for these doors."""
    found = release_texts(app, sandbox={"allow": list(doors)})
    names = [f"settings/units/{unit}.service.d/60-allow.conf" for unit in ("app", "app-next", "app-job@")]
    assert len({found.get(name) for name in names}) == 1
    return {*found.get(names[0], "").splitlines()} - {"[Service]"}


def test_a_door_of_the_sandbox_opens_what_it_is_for(app: Path) -> None:
    assert opened(app) == set()
    assert opened(app, "proc") == {"ProcSubset=all"}
    assert opened(app, "nice") == {"SystemCallFilter=@resources"}
    browser = opened(app, "browser")
    assert browser > opened(app, "jit", "proc") and "RestrictNamespaces=user pid net" in browser
    assert opened(app, "nice", "proc") == {"ProcSubset=all", "SystemCallFilter=@resources"}


@pytest.mark.skipif(which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_reads_the_doors(app: Path, tmp_path: Path) -> None:
    """systemd itself rates the app's unit with each of them; an unknown word in them would be a warning."""
    ratings = {}
    for door in ("", "jit", "proc", "nice", "browser"):
        root = tmp_path / f"root-{door}"
        units = root / "etc/systemd/system"
        shutil.copytree(paths.rootfs() / "etc/systemd/system", units)
        (root / "usr/lib/systemd/system").mkdir(parents=True)
        allowed = release_texts(app, sandbox={"allow": [door] if door else []})
        (units / "app.service.d/60-allow.conf").write_text(
            allowed.get("settings/units/app.service.d/60-allow.conf", "")
        )
        told = run(["systemd-analyze", "security", "--offline=true", f"--root={root}", "app.service"], check=False)
        assert not re.search("60-allow|50-sandbox|unknown", told.stderr.lower()), told.stderr
        rating = re.search(r"exposure level for app.service: ([\d.]+)", told.stdout)
        assert rating, told.stderr
        ratings[door] = float(rating[1])
    assert ratings == {"": 1.3, "jit": 1.3, "proc": 1.3, "nice": 1.4, "browser": 2.0}


#: What systemd 252 computes for each unit that runs code of the app, or speaks to others.
EXPOSURES = {
    "app": 1.3, "app-next": 1.3, "app-job@any": 1.1, "app-process@any": 1.1, "app-build": 1.0, "nginx": 2.7,
    "certbot": 2.6, "app-look": 2.6, "app-certificate": 2.6, "app-keep": 2.6,
}  # fmt: skip


@pytest.mark.skipif(which("systemd-analyze") is None, reason="no systemd here")
def test_each_unit_that_runs_the_app_or_speaks_to_others_is_closed_in(tmp_path: Path) -> None:
    units = tmp_path / "etc/systemd/system"
    shutil.copytree(paths.rootfs() / "etc/systemd/system", units)
    for name in ("certificate", "certificate-keep", "processes", "zero-downtime"):
        shutil.copytree(paths.features() / name / "units", units, dirs_exist_ok=True)
    (tmp_path / "usr/lib/systemd/system").mkdir(parents=True)
    # The units of Debian, and the transient one.
    for name in ("nginx", "certbot", "app-build"):
        (units / f"{name}.service").write_text("[Service]\nExecStart=/bin/true\n")
    ratings = {}
    for name in EXPOSURES:
        argv = ["systemd-analyze", "security", "--offline=true", f"--root={tmp_path}", f"{name}.service"]
        rating = re.search(r"Overall exposure level for \S+: ([\d.]+)", run(argv, check=False).stdout)
        ratings[name] = float(rating[1]) if rating else 10
    assert {name: rating for name, rating in ratings.items() if rating > EXPOSURES[name]} == {}


def test_a_time_zone_and_a_locale_are_those_of_the_app_and_its_timers(app: Path) -> None:
    timers = {
        "a": {"run": "true", "when": "Mon 06:30"}, "b": {"run": "true", "when": "daily UTC"},
        "c": {"run": "true", "when": "Mon..Fri"},
    }  # fmt: skip
    made = release_texts(app, timezone="Europe/Berlin", locale="de_DE.UTF-8", timers=timers, env={"A": "1"})
    assert made["settings/env"].splitlines() == ['A="1"', 'LANG="de_DE.UTF-8"', 'TZ="Europe/Berlin"']
    times = [re.findall("OnCalendar=(.*)", made[f"settings/units/app-{name}.timer"]) for name in timers]
    assert times == [["Mon 06:30 Europe/Berlin"], ["daily UTC"], ["Mon..Fri Europe/Berlin"]]
    recipe = json.loads(made["recipe.json"])
    assert {"locales-all", "tzdata"} <= {*recipe["packages"]} and "timezone" not in recipe
    assert release_texts(app, timezone="Europe/Berlin", env={"TZ": "UTC"})["settings/env"] == 'TZ="UTC"\n'
    assert "settings/env" not in release_texts(app)


def test_a_swap_file_is_made_by_a_unit_that_the_app_wants(app: Path) -> None:
    made = release_texts(app, swap="1G")
    unit = made["settings/units/app-swap.service"]
    assert "ExecStart=/srv/app/current/settings/swap /var/swap 1073741824\n" in unit
    assert "ConditionPathExists=!/run/app-check\n" in unit
    assert made["settings/units/app.service.d/60-swap.conf"] == "[Unit]\nWants=app-swap.service\n"
    assert release_files.feature_files("swap").keys() <= made.keys()
    assert not [name for name in release_texts(app) if "swap" in name]


def test_a_small_machine_gets_compressed_swap_before_the_app_starts(app: Path) -> None:
    made = release_texts(app)
    unit = made["settings/units/app-zram.service"]
    assert "ConditionMemory=<900M\n" in unit and "Before=app.service\n" in unit
    assert made["settings/units/app.service.d/60-zram.conf"] == "[Unit]\nWants=app-zram.service\n"


def test_the_app_s_journal_writes_to_no_terminal(app: Path, tmp_path: Path) -> None:
    """journald reads journald@app.conf.d for it, and not journald.conf.d."""
    made = release_texts(app)
    for unit in ("app", "app-next", "app-job@"):
        text = made[f"settings/units/{unit}.service.d/60-journal.conf"]
        assert "Wants=app-journal.service\nAfter=app-journal.service\n" in text
    start = made["settings/units/app-journal.service"].partition("\nExecStart=")[2]
    # systemd joins the lines, and reads \n and $$.
    words = shlex.split(start.replace("\\\n", " ").replace("\\n", "\n").replace("$$", "$"))
    run([word.replace("/run/systemd", str(tmp_path)) for word in words])
    for name in ("app", "nginx"):
        assert (tmp_path / f"journald@{name}.conf.d/60-app.conf").read_text() == "[Journal]\nForwardToWall=no\n"
