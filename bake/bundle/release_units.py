"""Generate the systemd units of a release: timers, processes, limits, and exceptions from the sandbox."""

from __future__ import annotations

from bake.config import contract, field_types
from bake.config.providers import AWS_METADATA_SERVICES
from bake.config.recipe import Recipe
from bake.config.sections import Process, Updates
from bake.host.templates import render


def units(recipe: Recipe) -> dict[str, str]:
    """Return systemd units: the app's timers, exceptions from its sandbox, and the folder to keep certificates in."""
    texts = {
        f"app-{name}.timer": render(
            "release/units/job.timer.j2", name=name, when=field_types.in_zone(job.when, recipe.timezone)
        )
        for name, job in recipe.timers.items()
    }
    if texts:
        wants = render("release/units/60-timers.conf.j2", timers=tuple(texts))
        texts[f"{contract.SERVICE}.service.d/60-timers.conf"] = wants
    if recipe.swap:
        program = f"{contract.CURRENT}/settings/swap"
        values = {"program": program, "file": contract.SWAP_FILE, "size": recipe.swap, "check": contract.CHECK}
        texts[f"{contract.SWAP}.service"] = render("release/units/swap.service.j2", **values)
        texts[f"{contract.SERVICE}.service.d/60-swap.conf"] = render(
            "release/units/60-swap.conf.j2", unit=contract.SWAP
        )
    for unit, seconds in job_limits(recipe).items():
        texts[f"{unit}.service.d/60-limit.conf"] = render("release/units/60-limit.conf.j2", seconds=seconds)
    for name, process in process_instances(recipe).items():
        if process.memory or process.stop:
            text = render("release/units/60-process.conf.j2", memory=process.memory, stop=process.stop)
            texts[f"{contract.PROCESS}{name}.service.d/60-process.conf"] = text
    if recipe.updates != Updates():
        reboot = render("release/units/60-reboot.conf.j2", time=recipe.updates.reboot)
        texts["apt-daily-upgrade.service.d/60-reboot.conf"] = reboot
    drop_ins = app_drop_ins(recipe).items()
    texts |= {f"{unit}.service.d/{name}": text for unit in app_units(recipe) for name, text in drop_ins}
    keep = recipe.certificate.keep
    if keep and keep.startswith("/"):
        texts[f"{contract.KEEP}.service.d/60-place.conf"] = render("release/units/60-place.conf.j2", folder=keep)
    return texts


def app_drop_ins(recipe: Recipe) -> dict[str, str]:
    """Return the settings of each unit that runs as the app's user, by file name."""
    drop_ins: dict[str, str] = {}
    if recipe.sandbox.allow:
        drop_ins["60-allow.conf"] = render("release/units/60-allow.conf.j2", allow=recipe.sandbox.allow)
    # /tmp is in memory on Debian 13, and frameworks keep large uploads there.
    if recipe.limits.body > contract.BODY:
        drop_ins["60-tmp.conf"] = render("release/units/60-tmp.conf.j2")
    if uses_role(recipe):
        drop_ins["60-role.conf"] = render("release/units/60-role.conf.j2", addresses=AWS_METADATA_SERVICES)
    return drop_ins


def app_units(recipe: Recipe) -> list[str]:
    """Return the units of an app that run as its user. Only an app with processes has a unit for them."""
    return [unit for unit in contract.APP_UNITS if unit != contract.PROCESS or recipe.processes]


def job_limits(recipe: Recipe) -> dict[str, int]:
    """Return the limits in seconds that differ from those of the units: of the app's jobs, and of app-setup."""
    limits = {f"app-job@{name}": job.limit for name, job in recipe.timers.items() if job.limit}
    if steps := recipe.limits.steps:
        # app-setup waits for both, and has an hour for all else.
        limits |= {"app-job@setup": steps, "app-job@release": steps, contract.SETUP: 2 * steps + 3600}
    return limits


def process_instances(recipe: Recipe) -> dict[str, Process]:
    """Return the app's processes by the instance of their unit, such as queue-1 and queue-2."""
    processes = (recipe.processes or {}).items()
    return {f"{name}-{number}": process for name, process in processes for number in range(1, process.count + 1)}


def uses_role(recipe: Recipe) -> bool:
    """Return whether the app can get the credentials of the instance's role."""
    return recipe.aws is not None and recipe.aws.role
