"""Define the names and rules that bake and the machine's programs share: paths, units, variables, health, limits.

The machine's programs have the same values, because they cannot import bake. tests/unit/config/test_contract.py
compares both sides. `bake.config.contract_files` defines the JSON files.
"""

from __future__ import annotations

# Settings: the files that a user or a launch writes.
SETTINGS = "/etc/app"
SOURCE = f"{SETTINGS}/source.json"
DOMAINS = f"{SETTINGS}/domains"
EMAIL = f"{SETTINGS}/email"
ENV = f"{SETTINGS}/env"
SECRETS = f"{SETTINGS}/secrets.env"
#: On EC2: references to secrets, and the id of the data volume.
SECRET_REFERENCES = f"{SETTINGS}/secrets.aws"
VOLUME = f"{SETTINGS}/data"

# Releases of the app.
APP = "/srv/app"
RELEASES = f"{APP}/releases"
CURRENT = f"{APP}/current"
PREVIOUS = f"{APP}/previous"
#: Receives releases: in parts from a document, or as bundles.
INCOMING = "/var/lib/app-incoming"
#: Files of a release, relative to its folder.
RECIPE, LOCK, FETCH_SOURCE, FETCH_WHEELS = "recipe.json", "lock.txt", "fetch-source", "fetch-wheels"
#: An interpreter for the app: its origin, and its archive, which the machine unpacks beside the wheels.
PYTHON, PYTHON_ARCHIVE = "python.json", "wheels/python.tar.gz"
#: The text in `settings/static-location` that the machine replaces by the URL of the static files.
STATIC_URL = "STATIC_URL"

#: The earlier set of the machine's own files, and the record of the current one.
MACHINE_SET = "/var/lib/app-machine"

# The app's data, static files that a framework collects, and records of a bake.
DATA = "/var/lib/app"
CACHE = "/var/cache/app"
COLLECTED_STATIC = f"{CACHE}/static"
OBSERVED = "/var/lib/app-observed.json"
AUTHOR = "/var/lib/app-author.json"

#: The swap file, for `swap` in bake.yaml.
SWAP_FILE = "/var/swap"

# State since the boot.
RUN = "/run/app"
#: The host names that the machine answers to, one a line.
NAMES = f"{RUN}/names"
#: The socket that nginx connects to: a link to that of the app.
DOOR = f"{RUN}/uwsgi.sock"
#: The socket of app.service.
SOCKET = f"{RUN}/app.sock"
#: The result of app-setup's last run.
RESULT = f"{RUN}/result.json"
#: Exists while bake makes, checks or runs an image. With `observe` in it, the machine observes the app's writes.
CHECK = "/run/app-check"
CHECK_ENV = f"{CHECK}/env"
CHECK_RULES = f"{CHECK}/network.nft"
CHECK_OBSERVE = f"{CHECK}/observe"
#: The steps that a bake skipped, one a line.
CHECK_NOTES = f"{CHECK}/notes"
#: The result of a boot whose bundle was not uploaded in time.
CHECK_LATE = f"{CHECK}/late.json"
#: The folder from which systemd reads the units of a release, and those of one boot.
RUNTIME_UNITS = "/run/systemd/system"

# The machine's own programs.
PROGRAMS = "/usr/lib/app"
PACKAGES = f"{PROGRAMS}/packages"
FIREWALL = f"{PROGRAMS}/firewall.nft"

# Units, without `.service`.
SERVICE, NEXT, JOB, PROCESS = "app", "app-next", "app-job@", "app-process@"
SETUP, KEEP, SWAP = "app-setup", "app-keep", "app-swap"
#: The units that run as the app's user.
APP_UNITS = (SERVICE, NEXT, JOB, PROCESS)

#: The app's user and its uid.
USER, UID = "app", 800

#: Variables that the machine sets for the app, and those that a release sets for bake's Django settings.
RELEASE_VARIABLE, WORKERS_VARIABLE, NEXT_VARIABLE = "APP_RELEASE", "APP_WORKERS", "APP_NEXT"
DOMAINS_VARIABLE = "APP_DOMAINS"
#: Set by a release whose ASGI app is loaded once for all workers.
PRELOAD = "APP_PRELOAD"
DJANGO_SETTINGS, DJANGO_MEDIA, DJANGO_AUTHOR = "APP_DJANGO_SETTINGS", "APP_DJANGO_MEDIA", "APP_DJANGO_AUTHOR"

#: The version of a release's layout. A machine runs only releases with the layout of its own programs.
LAYOUT = "6"
#: Debian's name of an architecture to the kernel's name.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}

#: Kinds of errors in RESULT: a service of the app does not start; its health check fails; a setting is missing.
#: Any other exception of Python is possible, most often STEP.
NOT_STARTED, UNHEALTHY, WAITING, STEP = "NotStarted", "Unhealthy", "Waiting", "StepError"

#: A label of a domain name in ASCII (RFC 1123), and a name whose last label begins with a letter. A wildcard has `*.`
#: before it.
LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
DOMAIN = rf"(?:{LABEL}\.)+[a-z][a-z0-9-]{{0,61}}[a-z0-9]"

#: Defaults of `limits`: bytes of a request's body, seconds of a request, threads of a worker.
BODY, REQUEST, THREADS = 10 << 20, 60, 8
#: Seconds that nginx waits longer than the limit for a request, so that the app's server reports the timeout, and
#: seconds after which uWSGI kills a worker whose Python is blocked.
TIMEOUT_MARGIN, SERVER_MARGIN = 5, 10
#: Names of the jobs and units of the machine, which an app's job cannot have.
RESERVED_JOBS = (
    "author", "build", "certificate", "configure", "journal", "keep",
    "look", "next", "release", "setup", "static", "zram",
)  # fmt: skip


def is_healthy(status: int, has_path: bool) -> bool:
    """Return whether an HTTP status means a healthy app. 0 means that there was no answer.

    2xx and 3xx are healthy; without a health path in bake.yaml (`has_path`), any status below 500 is.
    """
    return 0 < status < (400 if has_path else 500)
