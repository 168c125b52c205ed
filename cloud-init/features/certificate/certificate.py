"""Order a certificate for this machine's names as soon as they resolve to it. certbot.timer renews it.

app-look.timer runs this with the argument `look` about once a minute, until each name has a certificate. Checking a
name is cheap, but orders are rare: Let's Encrypt allows 5 failed ones per name and hour, and pauses names that fail for
long (letsencrypt.org/docs/rate-limits). Part of a release's settings; Python's standard library only.
"""

import fcntl
import http.client
import importlib
import json
import os
import random
import re
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

import issued
from step import StepError, command, write

#: certbot's folder.
CERTBOT = Path("/etc/letsencrypt")
NAMES = Path("/run/app/names")
RECIPE = Path("/srv/app/current/recipe.json")
#: The email address of the launch, or else of the recipe; may be empty.
EMAIL = Path("/run/app/email")
#: The certificate authority of the launch, before that of the recipe: the URL of an ACME directory, or `staging`.
AUTHORITY = Path("/etc/app/authority")
#: The times of the orders. Each is written before the order is made.
STATE = Path("/var/lib/app-certificate/orders.json")
#: The state before the first order. Times are Unix times: `orders` are the last orders, `since` is the first order for
#: the names in `tried`, and the authority accepts no order before `until`.
NOTHING = {"orders": [], "since": 0, "tried": [], "until": 0}
#: The folder that nginx serves over HTTP under any name.
CHALLENGES = Path("/var/lib/letsencrypt/http/.well-known/acme-challenge")
LOGS = Path("/run/app/certbot")
#: Lock of this program, because a user may start it while the timer runs it.
LOCK = Path("/run/app/certificate.lock")
#: Makes nginx load a new certificate.
HOOK = Path("/etc/letsencrypt/renewal-hooks/deploy/app")
#: The provider's metadata of this machine, with its public addresses.
INSTANCE = Path("/run/cloud-init/instance-data.json")
HOUR, DAY = 3600, 86400
#: The largest number of orders in an hour.
HOURLY = 4
TIMER = "app-look.timer"
#: Seconds until a retry if the authority did not answer.
UNHEARD = 120
WEEK = 7 * DAY


def elsewhere(name: str, token: str) -> str | None:
    """Return the reason why a name does not resolve to this machine; None if it does.

    Each address of the name must belong to this machine, or answer with `token`, which only this machine has.
    """
    asking = ("--legend=no", "--cache=no", "--synthesize=no", "--protocol=dns")
    try:
        answer = command("resolvectl", "query", *asking, name, patience=60)
    except (StepError, subprocess.TimeoutExpired) as problem:
        return str(problem).splitlines()[-1]
    own, instance = command("hostname", "-I").split(), INSTANCE.read_text() if INSTANCE.exists() else ""
    addresses = re.findall(r"(?<= )[0-9a-f]*[.:][0-9a-f.:]+(?=\s)", answer)
    for address in addresses:
        if address not in own and f'"{address}"' not in instance and not brings(token, address, name):
            return f"{name} resolves to {address}, not to this machine"
    return None if addresses else f"{name} has no address"


def brings(token: str, address: str, name: str) -> bool:
    """Return whether an address answers with this machine's token under a name."""
    connection = http.client.HTTPConnection(address, 80, timeout=5)
    try:
        connection.request("GET", f"/.well-known/acme-challenge/{token}", headers={"Host": name})
        return connection.getresponse().read(99).decode() == token
    except (OSError, ValueError, http.client.HTTPException):
        return False


def pause(state: dict, ready: list[str], now: float, *, asked: bool) -> float:
    """Return the seconds until the next order is allowed.

    Orders are a quarter of an hour apart for six hours. Then each pause doubles, up to a day. New names, and orders
    that a user `asked` for, skip this pause. HOURLY and the time that the authority asked for always apply.
    """
    # Ignore times in the future: they were written while the clock was wrong.
    orders = [then for then in state["orders"] if then <= now]
    busy = orders[-HOURLY] + HOUR - now if len(orders) >= HOURLY else 0
    left = state["until"] - now
    tries = [] if asked or is_new(state, ready, now) else [then for then in orders if then >= state["since"]]
    steady = tries[-1] + min(DAY, max(HOUR / 4, tries[-1] - state["since"] - 5.75 * HOUR)) - now if tries else 0
    return max(busy, left if left < WEEK else 0, steady)


def is_new(state: dict, ready: list[str], now: float) -> bool:
    """Return whether a name was in none of the failed orders, or whether their times are in the future."""
    return state["since"] > now or not set(ready) <= set(state["tried"])


def note(state: dict, ready: list[str], now: float, *, asked: bool) -> dict:
    """Return the state with a new order, before it is made."""
    if asked or is_new(state, ready, now):
        state = {**state, "since": now, "tried": sorted({*state["tried"], *ready})}
    return {**state, "orders": [*state["orders"], now][-HOURLY:]}


def order(names: list[str], lineage: str, options: list[str]) -> issued.Issued:
    """Order a certificate for names with certbot, and return it. Raises StepError."""
    shutil.rmtree(LOGS, ignore_errors=True)
    clear(lineage)
    command(
        "certbot", "certonly", "-n", "--agree-tos", "--cert-name", lineage, "--logs-dir", LOGS,
        "--renew-with-new-domains", *options, "--domains", ",".join(names),
        env={"PYTHONPATH": ""},
    )  # fmt: skip
    # certbot does not sync, and the kernel may write the files half a minute later.
    os.sync()
    came = kept(lineage)
    if not set(names) & came.names:
        raise StepError(f"certbot issued no readable certificate for {lineage}")
    return came


def kept(lineage: str) -> issued.Issued:
    """Return certbot's certificate; one without names if it is incomplete or cannot be renewed."""
    conf = CERTBOT / f"renewal/{lineage}.conf"
    whole = conf.exists() and "[renewalparams]" in conf.read_text()
    return issued.read(CERTBOT / "live" / lineage) if whole else issued.Issued()


def lasts(known: issued.Issued) -> bool:
    """Return whether more than a sixth of a certificate's lifetime is left."""
    return time.time() < known.end - (known.end - known.begin) / 6


def clear(lineage: str) -> None:
    """Delete an incomplete certificate or account that a power cut left. certbot would never replace it."""
    if not kept(lineage).names:
        (CERTBOT / f"renewal/{lineage}.conf").unlink(missing_ok=True)
        for folder in ("live", "archive"):
            shutil.rmtree(CERTBOT / folder / lineage, ignore_errors=True)
    for account in list(CERTBOT.glob("accounts/**/regr.json")):
        if not account.read_bytes():
            shutil.rmtree(account.parent)


def heard() -> tuple[int, float]:
    """Return the number of orders in certbot's log, and the seconds that the authority asks to wait."""
    log = "".join(path.read_text(errors="replace") for path in LOGS.glob("*.log"))
    waits = [float(text) for text in re.findall(r"Retry-After: (\d+)", log)]
    if "rateLimited" in log:
        waits.append(HOUR)
    orders = len(re.findall(r'\{(?:\\n|\s)*"identifiers"', log))
    return orders, min(max(waits, default=0), 0.9 * WEEK)


def read(now: float) -> dict:
    """Return the state of the orders. If it is unreadable, the next order is an hour away."""
    try:
        return {**NOTHING, **json.loads(STATE.read_text())}
    except FileNotFoundError:
        return NOTHING
    except ValueError:
        return {**NOTHING, "until": now + HOUR}


def pace(lineage: str, known: issued.Issued) -> None:
    """Configure certbot to renew a certificate after two thirds of its lifetime.

    certbot's default is 30 days before the end. Certificates with a shorter lifetime would be renewed twice a day.
    """
    path = CERTBOT / f"renewal/{lineage}.conf"
    before = path.read_text()
    rest = re.sub("(?m)^#? ?renew_before_expiry.*\n", "", before)
    after = f"renew_before_expiry = {(known.end - known.begin) / 180:.0f} minutes\n{rest}"
    if after != before:
        write(path, after)


def main() -> None:
    """Check the names, and order a certificate for those that resolve to this machine and have none."""
    recipe = json.loads(RECIPE.read_text())
    authority = AUTHORITY.read_text().strip() if AUTHORITY.exists() else recipe.get("authority", "")
    lineage = "staging" if "staging" in authority else "app"
    domains, now = NAMES.read_text().split(), time.time()
    names, zone = domains, None
    if "dns" in recipe:
        module = importlib.import_module("zone")
        names, zone = module.needed(domains), module.Zone(recipe["dns"])
    state = read(now)
    have = kept(lineage)
    # If certbot could not renew a certificate in time, order a new one without the names that now resolve elsewhere.
    good = have.names if lasts(have) else frozenset()
    missing = set(names) - good
    if not missing:
        print("every name has its certificate" if names else "no domains: using the placeholder")
        if names:
            pace(lineage, have)
        if state["tried"]:
            # The last run was interrupted after the certificate was issued.
            finish({**state, "tried": []})
        command("systemctl", "stop", TIMER)
        if NAMES.read_text().split() != domains:
            command("systemctl", "start", "--no-block", TIMER)
        return
    token = secrets.token_urlsafe()
    CHALLENGES.mkdir(parents=True, exist_ok=True)
    (CHALLENGES / token).write_text(token)
    try:
        problems = {name: (zone.refusal if zone else elsewhere)(name, token) for name in names}
    finally:
        (CHALLENGES / token).unlink()
    ready = [name for name in names if not problems[name]]
    print("".join(f"waiting: {problem}\n" for problem in problems.values() if problem), end="", flush=True)
    # Do not order a certificate without a name that the current one has, because the failure may be temporary.
    if not missing & set(ready) or good & set(names) - set(ready):
        return
    asked = "look" not in sys.argv
    left = pause(state, ready, now, asked=asked)
    if left > 0:
        print(f"the next order is possible in {left / 60:.0f} min")
        return
    before, again = state, not is_new(state, ready, now)
    state = note(state, ready, now, asked=asked)
    write(STATE, json.dumps(state))
    # The rename may reach the disk seconds later. A power cut before that would lead to a second order.
    os.sync()
    email = EMAIL.read_text().strip()
    options = zone.options if zone else ["--webroot", "-w", CHALLENGES.parents[1]]
    options += ["--email", email] if email else ["--register-unsafely-without-email"]
    # A refused name must not block the other names forever.
    options += ["--allow-subset-of-names"] if again and not good else []
    options += ["--staging"] if authority == "staging" else ["--server", authority] if authority else []
    print("ordering a certificate for", *ready, flush=True)
    try:
        came = order(ready, lineage, options)
    except (StepError, subprocess.TimeoutExpired):
        count, wait = heard()
        state = {**state, "orders": [*before["orders"], *[now] * count][-HOURLY:]} if count else before
        wait = wait if count else max(wait, UNHEARD)
        write(STATE, json.dumps({**state, "until": time.time() + wait * random.uniform(1, 1.1)}))
        raise
    pace(lineage, came)
    # If the clock is months ahead, the new certificate looks expired, and another order would not help.
    finish({**state, "tried": [] if set(ready) <= came.names and lasts(came) else state["tried"]})


def finish(state: dict) -> None:
    """Make nginx load the new certificate, and write the state. certbot runs the hook for renewals only."""
    command(HOOK)
    write(STATE, json.dumps({**state, "until": 0}))


if __name__ == "__main__":
    os.umask(0o022)
    try:
        # Only root can open the file, because everyone who can open it can hold the lock.
        LOCK.touch(0o600)
        with LOCK.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            main()
    except (StepError, subprocess.SubprocessError, OSError, ValueError) as problem:
        print(f"<3>app-certificate failed: {problem}", flush=True)
        sys.exit(1)
