"""The contract between bake and the machine's programs: this module loads both sides, and compares them."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from types import ModuleType

import pytest
from conftest import PROGRAMS, REPOSITORY

from bake.bundle import release_files
from bake.config import contract, field_types
from bake.config.contract_files import MachineCheck, MachineLimits, MachineRecipe, Result, Source
from bake.config.sections import OPTIONS, Limits
from bake.document import cloud_config
from bake.host import paths
from bake.image.manifest import ObservedPaths
from bake.verify import pages, record

ROOTFS = REPOSITORY / "cloud-init" / "rootfs"
UNITS = ROOTFS / "etc/systemd/system"
Program = Callable[..., ModuleType]
#: Paths of bake's own on a machine.
PATH = re.compile(r"/(?:srv|var/lib|var/cache|etc|run|usr/lib)/app(?!\w)(?:[\w./-]*\w)?")


def text(name: str) -> str:
    """Return a file of every machine, by its path below /."""
    return (ROOTFS / name).read_text()


def feature(program: Program, name: str) -> ModuleType:
    """Load a program of a release: feature/file."""
    path = paths.features() / name
    return program(path.name, path.parent)


def setting(file: str, name: str, separator: str = " ") -> str:
    """Return the value of a setting of nginx or uWSGI, which is in the file once."""
    (value,) = re.findall(rf"^ *{name}{separator}(.+?);?$", file, re.M)
    return str(value)


#: The constants of the machine's programs that bake knows by another name.
CONSTANTS = {
    ("setup", "SOURCE"): contract.SOURCE,
    ("setup", "RELEASES"): contract.RELEASES,
    ("setup", "CURRENT"): contract.CURRENT,
    ("setup", "PREVIOUS"): contract.PREVIOUS,
    ("setup", "INCOMING"): contract.INCOMING,
    ("setup", "PACKAGES"): contract.PACKAGES,
    ("setup", "RESULT"): contract.RESULT,
    ("setup", "VOLUME"): contract.VOLUME,
    ("serving.py", "RUN"): contract.RUN,
    ("serving.py", "NAMES"): contract.NAMES,
    ("serving.py", "DOOR"): contract.DOOR,
    ("serving.py", "SOCKET"): contract.SOCKET,
    ("serving.py", "APP"): contract.SERVICE,
    ("configure", "CURRENT"): contract.CURRENT,
    ("configure", "UNITS"): contract.RUNTIME_UNITS,
    ("upgrade/renew.py", "HOME"): contract.MACHINE_SET,
    ("upgrade/renew.py", "PROGRAMS"): contract.PROGRAMS,
    ("upgrade/renew.py", "RESULT"): contract.RESULT,
    ("upgrade/renew.py", "SOURCE"): contract.SOURCE,
    ("upgrade/renew.py", "RELEASES"): contract.RELEASES,
    ("upgrade/renew.py", "CURRENT"): contract.CURRENT,
    ("upgrade/renew.py", "PREVIOUS"): contract.PREVIOUS,
    ("certificate/certificate.py", "NAMES"): contract.NAMES,
    ("certificate/certificate.py", "RECIPE"): f"{contract.CURRENT}/{contract.RECIPE}",
    ("aws/aws.py", "REFERENCES"): contract.SECRET_REFERENCES,
    ("aws/volume.py", "ASKED"): contract.VOLUME,
    ("aws/volume.py", "DATA"): contract.DATA,
    ("aws/volume.py", "OWNER"): contract.USER,
    ("django/django/app_settings.py", "SOURCE"): f"{contract.CURRENT}/source",
    ("django/django/app_settings.py", "DATA"): contract.DATA,
    ("django/django/app_settings.py", "COLLECTED"): contract.COLLECTED_STATIC,
    ("asgi/asgi.py", "REQUEST"): contract.REQUEST,
    ("run/run.py", "REQUEST"): contract.REQUEST,
    ("wsgi/wsgi_server.py", "REQUEST"): contract.REQUEST,
    ("asgi/asgi.py", "MARGIN"): contract.SERVER_MARGIN,
    ("wsgi/wsgi_server.py", "MARGIN"): contract.SERVER_MARGIN,
    ("wsgi/wsgi_server.py", "THREADS"): contract.THREADS,
    ("wsgi/wsgi_server.py", "BODY"): contract.BODY,
    ("zero-downtime/exchange.py", "NEXT"): contract.NEXT,
    ("certificate-keep/keep.py", "CHECKED"): contract.CHECK,
    ("author-server/author.py", "AUTHOR"): contract.AUTHOR,
    ("author-server/author.py", "STAND_INS"): contract.CHECK_ENV,
    ("author-server/observe.py", "OBSERVED"): contract.OBSERVED,
    ("author-server/observe.py", "WANTED"): contract.CHECK_OBSERVE,
    ("author-server/observe.py", "DROP_INS"): contract.RUNTIME_UNITS,
    ("steps/secret", "SECRETS"): contract.SECRETS,
    ("steps/steps.py", "CHECK"): contract.CHECK,
    ("steps/steps.py", "DATA"): contract.DATA,
    ("steps/steps.py", "NOTES"): contract.CHECK_NOTES,
    ("steps/steps.py", "OBSERVED"): contract.OBSERVED,
}


@pytest.mark.parametrize(("name", "constant"), CONSTANTS, ids=map(" ".join, CONSTANTS))
def test_a_constant_of_a_program_is_the_contract_s(name: str, constant: str) -> None:
    folder = PROGRAMS if "/" not in name else paths.features()
    folder = folder.parent if name.startswith("upgrade/") else folder
    values = assigned(ast.parse((folder / name).read_text()))
    # configure and renew.py get the root of the machine, so their paths are relative.
    assert f"/{values[constant]}".replace("//", "/") == f"/{CONSTANTS[name, constant]}".replace("//", "/")


def assigned(tree: ast.Module) -> dict[str, str]:
    """Return the constants of a module that are texts or paths, including those that are below another one."""
    values: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            (target,) = node.targets
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            nodes = node.value.elts if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple) else None
            for name, value in zip(names, nodes or [node.value], strict=False):
                if isinstance(name, ast.Name) and (found := evaluated(value, values)) is not None:
                    values[name.id] = found
    return values


def evaluated(node: ast.expr, values: dict[str, str]) -> str | None:
    """Return the value of a text, of Path(text), of a known name, or of a path below one; None for anything else."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Name):
        return values.get(node.id)
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "Path":
        return evaluated(node.args[0], values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        parts = evaluated(node.left, values), evaluated(node.right, values)
        return "/".join(filter(None, parts)) if all(parts) else None
    return None


def test_the_constants_of_a_program_are_read() -> None:
    tree = ast.parse("A = Path('/run/app')\nB, C = A / 'x', 'app'\nD = f(1)\nE, F = g()")
    assert assigned(tree) == {"A": "/run/app", "B": "/run/app/x", "C": "app"}


def strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the texts of a module with their lines, without docstrings."""
    nodes = [node for node in ast.walk(tree) if hasattr(node, "body") and isinstance(node.body, list)]
    docstrings = {id(node.body[0].value) for node in nodes if node.body and isinstance(node.body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


MODULES = [path for path in sorted((REPOSITORY / "bake").rglob("*.py")) if "tree" not in path.parts]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_bake_writes_a_path_or_a_unit_of_the_machine_in_one_module(path: Path) -> None:
    # machine_set.py has the list of all files of a machine, which its own test compares with the files.
    if path in (Path(contract.__file__), REPOSITORY / "bake/document/machine_set.py"):
        return
    unit = re.compile(r"\bapp(?:-[a-z]+)?@?\.(?:service|socket|timer)\b")
    found = [
        (line, match)
        for line, value in strings(ast.parse(path.read_text()))
        for match in [*PATH.findall(value), *unit.findall(value), *re.findall(r"APP_[A-Z]+|skuid 800", value)]
        # The mount point of a bake's seed disk is of no interest to the machine's programs.
        if not match.startswith("/run/app-seed")
    ]
    assert found == [], "take it from bake.config.contract"


@pytest.mark.parametrize("folder", ["cloud-init", "packer", "tests/machine", "tests/proof"])
def test_the_machine_s_files_have_no_path_outside_the_contract_s_folders(folder: str) -> None:
    folders = (
        contract.SETTINGS, contract.APP, contract.INCOMING, contract.DATA, contract.CACHE, contract.OBSERVED,
        contract.AUTHOR, contract.RUN, contract.CHECK, contract.PROGRAMS, contract.MACHINE_SET,
    )  # fmt: skip
    #: Private to the machine: a unit's folder, marks of the first boot.
    own = ("/run/app-new", "/run/app-upgrade", "/run/app-seed", "/var/lib/app-certificate", "/var/lib/app-scratch")
    pattern = re.compile(r"/(?:srv|var/lib|var/cache|etc|run|usr/lib)/app[\w-]*(?:\.json)?")
    files = [path for path in (REPOSITORY / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    found = {match for path in files for match in pattern.findall(path.read_text())}
    assert len(found) > 2 and found <= {*folders, *own}


def test_the_scripts_over_ssh_have_the_contract_s_paths() -> None:
    text = "".join(path.read_text() for path in (REPOSITORY / "cloud-init/remote").iterdir())
    found = {match.removesuffix(".partial") for match in PATH.findall(text)}
    names = {contract.SOURCE, contract.CURRENT, contract.PREVIOUS, contract.RELEASES, contract.NAMES, contract.AUTHOR}
    names |= {contract.RESULT, f"{contract.CURRENT}/{contract.LOCK}", contract.INCOMING}
    # The lock of pushes, the release before one on trial, the folder that an upgrade unpacks, and a path in a comment.
    own = {f"{contract.RUN}/lock", f"{contract.MACHINE_SET}/new", f"{contract.MACHINE_SET}/new/renew.py"}
    own |= {f"{contract.PROGRAMS}/setup", "/srv/app/tried-after"}
    assert found - own == names | {contract.MACHINE_SET, contract.PROGRAMS}
    services = set(re.findall(r"\b(app[\w@-]*)\.service", text)) - {"app-upgrade"}
    assert services == {contract.SETUP, contract.NEXT, contract.SERVICE} and f"'{contract.JOB}*'" in text
    assert f" {contract.RECIPE}\n" in text


def test_the_folders_exist_at_boot_with_the_app_s_user() -> None:
    # Without a user, a folder and its parents are root's.
    made = dict(re.findall(r"^d +(\S+)(?: \d+ (\w+))?", text("usr/lib/tmpfiles.d/app.conf"), re.M))
    owners = {contract.SETTINGS: "", contract.RELEASES: "", contract.DATA: contract.USER}
    assert f"{contract.RELEASES}/".startswith(f"{contract.APP}/")
    assert made.items() >= owners.items()
    sandbox = text("etc/systemd/system/app.service.d/50-sandbox.conf")
    assert setting(sandbox, "User", "=") == setting(sandbox, "Group", "=") == contract.USER
    folders = {"StateDirectory": contract.DATA, "CacheDirectory": contract.CACHE}
    parents = {"StateDirectory": "/var/lib", "CacheDirectory": "/var/cache"}
    assert {name: f"{parents[name]}/{setting(sandbox, name, '=')}" for name in folders} == folders
    run = setting(text("etc/systemd/system/app-configure.service"), "RuntimeDirectory", "=")
    assert f"/run/{run}" == contract.RUN


def test_the_uid_is_the_same_everywhere() -> None:
    assert re.findall(rf"^u {contract.USER} (\d+) ", text("usr/lib/sysusers.d/app.conf"), re.M) == [str(contract.UID)]
    rules = text("usr/lib/app/firewall.nft") + release_files.role_rules()
    rules += cloud_config.CheckSettings({}).rules
    assert set(re.findall(r"skuid (\S+)", rules)) == {str(contract.UID)}
    assert f'include "{contract.CHECK}/*.nft"' in rules and contract.CHECK_RULES.startswith(f"{contract.CHECK}/")
    assert f'include "{contract.CURRENT}/settings/*.nft"' in rules


def test_the_units_have_these_names() -> None:
    units = {path.name for path in [*UNITS.iterdir(), *paths.features().glob("*/units/*")]}
    names = {*contract.APP_UNITS, contract.SETUP, contract.KEEP}
    assert {f"{name}.service" for name in names} <= units
    folders = [UNITS, *paths.features().glob("*/units")]
    for name in contract.APP_UNITS:
        folder = next(path for path in folders if (path / f"{name}.service").exists())
        assert setting((folder / f"{name}.service.d/50-sandbox.conf").read_text(), "User", "=") == contract.USER
    job = setting(text("etc/systemd/system/app-job@.service"), "ExecStart", "=")
    assert job == f"/bin/sh -e {contract.CURRENT}/settings/jobs/%i"
    features = [paths.features() / name for name in ("steps/steps.py", "author-server/observe.py")]
    for path in (PROGRAMS / "setup", *features):
        started = set(re.findall(r"\b(app(?:-[a-z]+)?@?)[\w{}]*\.service", path.read_text()))
        assert started <= {*contract.APP_UNITS, contract.SETUP, "app-configure", "app-build"}


def test_a_job_of_the_app_has_no_name_of_the_machine_s() -> None:
    units = {path.name for path in [*UNITS.iterdir(), *paths.features().glob("*/units/*")]}
    names = {re.sub(r"^app-|\..*$", "", name) for name in units if re.match(r"app-[a-z]+\.", name)}
    scripts = {path.name.partition(".")[0] for path in (REPOSITORY / "cloud-init/release/jobs").iterdir()}
    jobs = {*scripts - {"steps"}, "setup", "author"}
    assert names | jobs == set(contract.RESERVED_JOBS)


def test_the_environment_has_these_names(program: Program) -> None:
    assigns = re.findall(r"(APP_[A-Z]+)=", text("usr/lib/app/configure"))
    machine = [contract.RELEASE_VARIABLE, contract.WORKERS_VARIABLE, contract.NEXT_VARIABLE]
    assert sorted(assigns) == sorted([*machine, contract.DOMAINS_VARIABLE])
    # The machine ignores a user's values of its own variables.
    given = program("given.py")
    for name in machine:
        assert not given.ASSIGNMENT.fullmatch(f"{name}=x") and given.ASSIGNMENT.fullmatch(f"{name}X=x")
    assert {*re.findall(r"\$\((APP_[A-Z]+)\)", text("usr/lib/app/uwsgi.ini"))} == {
        contract.RELEASE_VARIABLE, contract.WORKERS_VARIABLE,
    }  # fmt: skip
    settings = (paths.features() / "django/django/app_settings.py").read_text()
    variables = {contract.DJANGO_SETTINGS, contract.DJANGO_MEDIA, contract.DJANGO_AUTHOR, contract.DOMAINS_VARIABLE}
    assert {*re.findall(r"\"(APP_[A-Z_]+)\"", settings)} == variables
    unit = (paths.features() / "zero-downtime/units/app-next.service").read_text()
    assert f"{contract.WORKERS_VARIABLE}=${{{contract.NEXT_VARIABLE}}} " in unit
    script = (REPOSITORY / "cloud-init/release/jobs/release.sh.j2").read_text()
    assert {*re.findall(r"\$(\w+)", script)} == {contract.RELEASE_VARIABLE}


def test_the_domain_pattern_is_the_same(program: Program) -> None:
    given = program("given.py")
    assert given.LINE % rf"(?!\S{{254}})(?:\*\.)?{contract.DOMAIN}" == given.DOMAIN.pattern
    label = "a" * 63
    names = {f"{label}.{label}", "a.b1", "xn--p1ai.xn--p1ai"}
    wrong = {"a", "a.b", "a.1b", f"{label}a.example", f"a.{label}b", "-a.example", "a-.example", "a_b.example", "a..b"}
    for name in names | wrong:
        assert bool(given.DOMAIN.fullmatch(name)) == bool(re.fullmatch(contract.DOMAIN, name)) == (name in names)


@pytest.mark.parametrize("path", [None, "/healthz"])
def test_the_health_rule_is_the_same(serving: ModuleType, path: str | None) -> None:
    recipe = {"check": {"health": path}} if path else {}
    for status in range(100, 600):
        try:
            serving.await_health(recipe, lambda path, host, status=status: status)
            healthy = True
        except serving.Unhealthy:
            healthy = False
        if status == 503:
            continue
        assert healthy == contract.is_healthy(status, path is not None), status
    assert not contract.is_healthy(0, False) and not contract.is_healthy(503, False)


def test_the_default_limits_are_the_same() -> None:
    nginx, uwsgi = text("usr/lib/app/nginx/nginx.conf"), text("usr/lib/app/uwsgi.ini")
    limits = Limits()
    body = setting(nginx, "client_max_body_size")
    assert int(body[:-1]) * field_types.SIZES[body[-1].upper()] == limits.body == contract.BODY
    seconds = {setting(nginx, name) for name in ("uwsgi_read_timeout", "uwsgi_send_timeout")}
    assert seconds == {f"{contract.REQUEST + contract.TIMEOUT_MARGIN}s"}
    assert int(setting(uwsgi, "harakiri", " = ")) == contract.REQUEST + contract.SERVER_MARGIN
    assert limits.request == contract.REQUEST
    assert int(setting(uwsgi, "threads", " = ")) == limits.threads == contract.THREADS
    exchange = (paths.features() / "zero-downtime/exchange.py").read_text()
    assert f'get("request", {contract.REQUEST}) + {contract.TIMEOUT_MARGIN}' in exchange


def test_the_values_of_an_environment_file_are_quoted_alike(rooted: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    value = "a\"b\\c$d`e 'f' #g"
    text = release_files.environment({"KEY": value})
    secret = feature(rooted, "steps/secret")
    secret.main("KEY", value)
    assert secret.SECRETS.read_text() == text
    aws = feature(rooted, "aws/aws.py")
    monkeypatch.setattr(aws, "references", lambda: [{"name": "KEY"}])
    monkeypatch.setattr(aws, "value", lambda reference: value)
    aws.fetch({})
    assert aws.VALUES.read_text() == text
    assert rooted("given.py").ASSIGNMENT.fullmatch(text)


def test_the_keys_that_only_root_reads_are_the_same(program: Program) -> None:
    keys = {name: (option.key, Path(contract.SETTINGS, option.file)) for name, option in OPTIONS.items()}
    assert keys == feature(program, "aws/aws.py").KEYS
    for option, program_path in {"dns": "zone.py", "keep": "keep.py"}.items():
        tree = ast.parse((paths.features() / f"certificate-{option}" / program_path).read_text())
        assert assigned(tree)["KEY"] == str(keys[option][1])


# JSON files


def keys_read(path: Path, *names: str) -> set[str]:
    """Return the keys that a program reads of the dictionaries with these names: x.get("k"), x["k"], "k" in x."""
    keys: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        key: ast.expr | None = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            owner, key = node.func.value, node.args[0]
        elif isinstance(node, ast.Subscript):
            owner, key = node.value, node.slice
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            owner, key = node.comparators[0], node.left
        if key is not None and ast.unparse(owner) in names and isinstance(key, ast.Constant):
            keys.add(str(key.value))
    return keys


def test_the_machine_reads_the_fields_of_recipe_json() -> None:
    programs = [path for path in PROGRAMS.iterdir() if path.is_file() and path.suffix in ("", ".py")]
    programs += [path for path in paths.features().glob("*/*") if path.suffix == ".py" or path.name == "secret"]
    programs += [*(REPOSITORY / "tests/machine").glob("*.py"), REPOSITORY / "tests/conftest.py"]
    programs = [path for path in programs if path.name not in ("boot", "tls-listener")]
    keys = set().union(*(keys_read(path, "recipe", "read_recipe(partial)", "content") for path in programs))
    text = "".join(path.read_text() for path in programs)
    keys |= set(re.findall(r'"recipe\.json"\)\.read_text\(\)\)\["(\w+)"\]', text))
    # steps.py reads the commands by the name of their job.
    keys |= set(re.findall(r'\brun\("(\w+)", release, recipe\)', text))
    assert keys == set(MachineRecipe.model_fields)
    checks = set().union(*(keys_read(path, "check", "recipe['check']", "recipe.get('check', {})") for path in programs))
    checks |= keys_read(REPOSITORY / "bake/verify/pages.py", "check")
    checks |= keys_read(PROGRAMS / "serving.py", "recipe.get('check') or {}")
    assert checks == set(MachineCheck.model_fields)
    limits = set().union(
        *(
            keys_read(path, "recipe.get('limits', {})", "recipe.get('limits') or {}", "recipe['limits']", "limits")
            for path in programs
        )
    )
    assert limits <= set(MachineLimits.model_fields)


def test_the_machine_reads_the_fields_of_source_json() -> None:
    keys = keys_read(PROGRAMS / "setup", "source")
    # bake alone reads the layout, before a push.
    assert keys == set(Source.model_fields) - {"layout"}


def test_the_machine_writes_the_fields_of_its_result(program: Program, setup: ModuleType) -> None:
    tree = ast.parse((PROGRAMS / "setup").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    (update,) = (call for call in calls if ast.unparse(call.func) == "result.update")
    setup.begin("app")
    assert {*setup.result, *(keyword.arg for keyword in update.keywords)} == set(Result.model_fields)
    # A kind is the name of an exception.
    step = program("step.py")
    for kind in (contract.NOT_STARTED, contract.UNHEALTHY, contract.WAITING, contract.STEP):
        assert issubclass(getattr(step, kind), step.StepError)


def test_the_machine_writes_the_fields_of_the_observed_paths(program: Program) -> None:
    observe = feature(program, "author-server/observe.py")
    observed = observe.Observed({"a": True}, ["b"], ["c"])
    assert ObservedPaths.of(asdict(observed)) == ObservedPaths({"a": True}, ("b",), ("c",))
    assert set(asdict(observed)) == set(asdict(ObservedPaths()))
    assert keys_read(paths.features() / "steps/steps.py", "seen") <= set(asdict(observed))


def test_the_machine_writes_the_fields_of_a_record() -> None:
    tree = ast.parse((paths.features() / "author-server/crawl.py").read_text())
    assert assigned(tree)["VERSION"] == str(record.VERSION)
    (answer,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Answer")
    rows = [node for node in answer.body if isinstance(node, ast.AnnAssign)]
    # The program omits default values, so both sides need the same ones. `path` is required there.
    defaults = {ast.unparse(row.target): ast.literal_eval(row.value) if row.value else "" for row in rows}
    assert defaults == {item.name: item.default for item in fields(record.Answer)}
    (task,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Task")
    arguments = {ast.unparse(row.target) for row in task.body if isinstance(row, ast.AnnAssign)}
    assert arguments == {*pages.Crawl.__annotations__}
    (main,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
    (written,) = (node.value for node in ast.walk(main) if isinstance(node, ast.Return))
    assert keys_of(written) == {"version", *(item.name for item in fields(record.Record))}


def test_the_machine_writes_the_fields_of_the_author_s_record() -> None:
    tree = ast.parse((paths.features() / "author-server/author.py").read_text())
    assigns = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    (written,) = (node.value for node in assigns if ast.unparse(node.targets[0]) == "facts")
    assert keys_of(written) == {item.name for item in fields(record.AuthorRecord)}


def keys_of(node: ast.expr | None) -> set[object]:
    """Return the keys of a dictionary in a program's text."""
    assert isinstance(node, ast.Dict)
    return {key.value for key in node.keys if isinstance(key, ast.Constant)}
