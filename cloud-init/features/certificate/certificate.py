"""Order a certificate for this machine's names as soon as they lead here; certbot.timer renews it.

app-look.timer runs this with the word `look` about once a minute, until each name has one. To look where a name leads
costs nobody anything. Orders are rare: Let's Encrypt allows 5 failed ones a name and hour, and pauses names that fail
for long (letsencrypt.org/docs/rate-limits). Lies in a release beside its settings; Python's standard library only.
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

#: certbot's own folder.
CERTBOT = Path("/etc/letsencrypt")
NAMES = Path("/run/app/names")
RECIPE = Path("/srv/app/current/recipe.json")
#: The address that the launch or else the recipe gives; nothing where neither does.
EMAIL = Path("/run/app/email")
#: The same for who issues: the address of an ACME directory, or the word `staging`.
AUTHORITY = Path("/etc/app/authority")
#: Where an order's time is written down before it is made.
STATE = Path("/var/lib/app-certificate/orders.json")
#: Nothing was ordered yet. Times are Unix's: orders made, the first of those for the names that were tried, and
#: until when the authority wants none.
NOTHING = {"orders": [], "since": 0, "tried": [], "until": 0}
#: What nginx answers over HTTP, whatever the name.
CHALLENGES = Path("/var/lib/letsencrypt/http/.well-known/acme-challenge")
LOGS = Path("/run/app/certbot")
#: Held while it runs: somebody may ask while the timer does.
LOCK = Path("/run/app/certificate.lock")
#: Has nginx serve a certificate that has come.
HOOK = Path("/etc/letsencrypt/renewal-hooks/deploy/app")
#: What the provider says of this machine, its public addresses among it.
INSTANCE = Path("/run/cloud-init/instance-data.json")
HOUR, DAY = 3600, 86400
#: Orders in an hour, at most.
HOURLY = 4
TIMER = "app-look.timer"
#: Seconds until an authority that did not answer is asked again.
UNHEARD = 120
WEEK = 7 * DAY


def elsewhere(name: str, token: str) -> str | None:
    """Why a name does not lead to this machine; None where it does.

    Each of its addresses is one of this machine's, or brings back a token that nobody else has.
    """
    asking = ("--legend=no", "--cache=no", "--synthesize=no", "--protocol=dns")
    try:
        told = command("resolvectl", "query", *asking, name, patience=60)
    except (StepError, subprocess.TimeoutExpired) as problem:
        return str(problem).splitlines()[-1]
    own, said = command("hostname", "-I").split(), INSTANCE.read_text() if INSTANCE.exists() else ""
    found = re.findall(r"(?<= )[0-9a-f]*[.:][0-9a-f.:]+(?=\s)", told)
    for address in found:
        if address not in own and f'"{address}"' not in said and not brings(token, address, name):
            return f"{name} resolves to {address}, not to this machine"
    return None if found else f"{name} has no address"


def brings(token: str, address: str, name: str) -> bool:
    """Whether an address, asked for a name, answers with this machine's token."""
    connection = http.client.HTTPConnection(address, 80, timeout=5)
    try:
        connection.request("GET", f"/.well-known/acme-challenge/{token}", headers={"Host": name})
        return connection.getresponse().read(99).decode() == token
    except (OSError, ValueError, http.client.HTTPException):
        return False


def pause(state: dict, ready: list[str], now: float, *, asked: bool) -> float:
    """Seconds until the next order may be made.

    A quarter of an hour between orders, for six hours; then each pause doubles, up to a day. Names that were in none
    of these orders are tried at once, as is all when somebody `asked`, but never more than HOURLY in an hour.
    """
    # A clock that was years ahead has left times that are still to come.
    orders = [then for then in state["orders"] if then <= now]
    busy = orders[-HOURLY] + HOUR - now if len(orders) >= HOURLY else 0
    told = state["until"] - now
    tries = [] if asked or is_new(state, ready, now) else [then for then in orders if then >= state["since"]]
    steady = tries[-1] + min(DAY, max(HOUR / 4, tries[-1] - state["since"] - 5.75 * HOUR)) - now if tries else 0
    return max(busy, told if told < WEEK else 0, steady)


def is_new(state: dict, ready: list[str], now: float) -> bool:
    """Whether a name was in none of the orders that failed, or these were made by a clock that was ahead."""
    return state["since"] > now or not set(ready) <= set(state["tried"])


def note(state: dict, ready: list[str], now: float, *, asked: bool) -> dict:
    """The state with an order that is about to be made."""
    if asked or is_new(state, ready, now):
        state = {**state, "since": now, "tried": sorted({*state["tried"], *ready})}
    return {**state, "orders": [*state["orders"], now][-HOURLY:]}


def order(names: list[str], lineage: str, options: list[str]) -> issued.Issued:
    """Have certbot order one certificate for names; what came of it. Raises StepError."""
    shutil.rmtree(LOGS, ignore_errors=True)
    clear(lineage)
    command(
        "certbot", "certonly", "-n", "--agree-tos", "--cert-name", lineage, "--logs-dir", LOGS,
        "--renew-with-new-domains", *options, "--domains", ",".join(names),
        env={"PYTHONPATH": ""},
    )  # fmt: skip
    # certbot itself leaves that to the kernel, for half a minute.
    os.sync()
    came = kept(lineage)
    if not set(names) & came.names:
        raise StepError(f"certbot issued no readable certificate for {lineage}")
    return came


def kept(lineage: str) -> issued.Issued:
    """The certificate that certbot keeps; one without names where it is not whole, or could not be renewed."""
    conf = CERTBOT / f"renewal/{lineage}.conf"
    whole = conf.exists() and "[renewalparams]" in conf.read_text()
    return issued.read(CERTBOT / "live" / lineage) if whole else issued.Issued()


def lasts(found: issued.Issued) -> bool:
    """Whether more than a sixth of a certificate's life is left."""
    return time.time() < found.end - (found.end - found.begin) / 6


def clear(lineage: str) -> None:
    """Take away what a power cut has left of a certificate or an account: certbot would go on beside it for ever."""
    if not kept(lineage).names:
        (CERTBOT / f"renewal/{lineage}.conf").unlink(missing_ok=True)
        for folder in ("live", "archive"):
            shutil.rmtree(CERTBOT / folder / lineage, ignore_errors=True)
    for account in list(CERTBOT.glob("accounts/**/regr.json")):
        if not account.read_bytes():
            shutil.rmtree(account.parent)


def heard() -> tuple[int, float]:
    """What certbot's log tells: how many orders were made, and how long the authority wants to be left alone."""
    log = "".join(path.read_text(errors="replace") for path in LOGS.glob("*.log"))
    waits = [float(text) for text in re.findall(r"Retry-After: (\d+)", log)]
    if "rateLimited" in log:
        waits.append(HOUR)
    orders = len(re.findall(r'\{(?:\\n|\s)*"identifiers"', log))
    return orders, min(max(waits, default=0), 0.9 * WEEK)


def read(now: float) -> dict:
    """What was ordered when. What cannot be read is taken for an order just made."""
    try:
        return {**NOTHING, **json.loads(STATE.read_text())}
    except FileNotFoundError:
        return NOTHING
    except ValueError:
        return {**NOTHING, "until": now + HOUR}


def pace(lineage: str, found: issued.Issued) -> None:
    """Have certbot renew a certificate after two thirds of its life.

    certbot's own 30 days before the end are all of the life of a shorter one: it would be renewed twice a day.
    """
    path = CERTBOT / f"renewal/{lineage}.conf"
    before = path.read_text()
    rest = re.sub("(?m)^#? ?renew_before_expiry.*\n", "", before)
    after = f"renew_before_expiry = {(found.end - found.begin) / 180:.0f} minutes\n{rest}"
    if after != before:
        write(path, after)


def main() -> None:
    """Look, and order what is ready and missing."""
    wanted = json.loads(RECIPE.read_text())
    authority = AUTHORITY.read_text().strip() if AUTHORITY.exists() else wanted.get("authority", "")
    lineage = "staging" if "staging" in authority else "app"
    given, now = NAMES.read_text().split(), time.time()
    names, zone = given, None
    if "dns" in wanted:
        module = importlib.import_module("zone")
        names, zone = module.needed(given), module.Zone(wanted["dns"])
    state = read(now)
    have = kept(lineage)
    # What certbot could not renew in time is ordered anew, without the names that have gone elsewhere.
    good = have.names if lasts(have) else frozenset()
    missing = set(names) - good
    if not missing:
        print("every name has its certificate" if names else "no domains: using the placeholder")
        if names:
            pace(lineage, have)
        if state["tried"]:
            # It came, and then something stopped us.
            finish({**state, "tried": []})
        command("systemctl", "stop", TIMER)
        if NAMES.read_text().split() != given:
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
    # A certificate is not ordered anew without a name that it has, for what may be a hiccup.
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
    # Its new name may come to the disk seconds later: what a power cut forgets would be ordered twice.
    os.sync()
    email = EMAIL.read_text().strip()
    options = zone.options if zone else ["--webroot", "-w", CHALLENGES.parents[1]]
    options += ["--email", email] if email else ["--register-unsafely-without-email"]
    # One name that is refused should not hold up the others for ever.
    options += ["--allow-subset-of-names"] if again and not good else []
    options += ["--staging"] if authority == "staging" else ["--server", authority] if authority else []
    print("ordering a certificate for", *ready, flush=True)
    try:
        came = order(ready, lineage, options)
    except (StepError, subprocess.TimeoutExpired):
        made, wait = heard()
        state = {**state, "orders": [*before["orders"], *[now] * made][-HOURLY:]} if made else before
        wait = wait if made else max(wait, UNHEARD)
        write(STATE, json.dumps({**state, "until": time.time() + wait * random.uniform(1, 1.1)}))
        raise
    pace(lineage, came)
    # By a clock that is months ahead it is over when it comes, as the next one would be.
    finish({**state, "tried": [] if set(ready) <= came.names and lasts(came) else state["tried"]})


def finish(state: dict) -> None:
    """Have nginx serve what has come; certbot calls the hook for renewals alone."""
    command(HOOK)
    write(STATE, json.dumps({**state, "until": 0}))


if __name__ == "__main__":
    os.umask(0o022)
    try:
        # Root's alone: whoever can open it can hold it.
        LOCK.touch(0o600)
        with LOCK.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            main()
    except (StepError, subprocess.SubprocessError, OSError, ValueError) as problem:
        print(f"<3>app-certificate failed: {problem}", flush=True)
        sys.exit(1)
