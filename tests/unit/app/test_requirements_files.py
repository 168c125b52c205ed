"""What an app needs, read from its files."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import write

from bake.app.direct_reference import DirectReference
from bake.app.index_options import default_index
from bake.app.requirements_files import requirement_lines, requirements_file
from bake.config.debian import DEBIAN_12, DEBIAN_13
from bake.errors import RequirementError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flask\n==1.0\n", "requirements.txt:2: bake cannot use '==1.0'"),
        ("flask\nfoo bar\n", "requirements.txt:2: bake cannot use 'foo bar'"),
        ("flask \\\n  >=3\n-e .\n", "requirements.txt:3: bake cannot use '-e .'"),
        ("./lib\n", "requirements.txt:1: lib does not exist in "),
        ("git+ssh://code.example/x.git\n", "requirements.txt:1: "),
        ("x @ http://code.example/x.whl\n", "requirements.txt:1: "),
        ("x @ ${PWD}\n", "requirements.txt:1: bake cannot use 'x @ ${PWD}'"),
        ("x@/srv/x\n", "requirements.txt:1: bake cannot use 'x@/srv/x'"),
        ("x @ ../x-1-py3-none-any.whl#here\n", "requirements.txt:1: "),
        ("--extra-index-url https://packages.example/\n", "requirements.txt:1: bake does not use the package index"),
        ("-f https://packages.example/\n", "requirements.txt:1: bake cannot use '-f"),
        ("--frobnicate\n", "requirements.txt:1: "),
        ("-r missing.txt\n", "requirements.txt:1: missing.txt cannot be read: No such file"),
        ("-r requirements.txt\n", "requirements.txt:1: the file includes itself"),
        ("-r more/base.txt\n", "more/base.txt:2: bake cannot use '-e ..'"),
    ],
)
def test_lines_that_are_not_taken(app: Path, text: str, said: str) -> None:
    (app / "more").mkdir()
    (app / "more" / "base.txt").write_text("flask\n-e ..\n")
    (app / "requirements.txt").write_text(text)
    with pytest.raises(RequirementError) as caught:
        requirement_lines(app, "requirements.txt", DEBIAN_13)
    assert caught.value.message.startswith(said)
    assert caught.value.hint or "cannot be read" in said


@pytest.mark.parametrize("name", ["requirements.txt", "uv.lock", "Pipfile.lock", "pylock.toml"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_requirements_that_are_no_text(app: Path, name: str, encoding: str) -> None:
    (app / "pyproject.toml").write_text("[project]\nname = 'shop'\nversion = '1'\n")
    (app / name).write_text("flask\n", encoding=encoding)
    with pytest.raises(RequirementError) as caught:
        requirement_lines(app, name, DEBIAN_13)
    assert caught.value.message == f"{app / name} is not UTF-8 text"
    assert caught.value.hint == "Save it as UTF-8. PowerShell saves UTF-16 by default."


def test_included_files_and_constraints(app: Path) -> None:
    (app / "more").mkdir()
    (app / "requirements.txt").write_text(
        "\ufeff-r more/base.txt\n--prefer-binary\n-c more/limits.txt\nredis[hiredis]>=5 # why\n"
    )
    (app / "more" / "base.txt").write_text('Flask; python_version > "3"\n')
    (app / "more" / "limits.txt").write_text("werkzeug<4\n")
    lines = requirement_lines(app, "requirements.txt", DEBIAN_13)
    assert [(line.text, line.location, line.constraint) for line in lines] == [
        ('Flask; python_version > "3"', "more/base.txt:1", False),
        ("werkzeug<4", "more/limits.txt:1", True),
        ("redis[hiredis]>=5", "requirements.txt:4", False),
    ]


def test_pyproject(app: Path) -> None:
    project = '[project]\nname = "x"\nrequires-python = ">=3.9"\ndependencies = [\n  "flask>=3",\n]\n'
    (app / "pyproject.toml").write_text(project)
    lines = requirement_lines(app, "pyproject.toml", DEBIAN_13)
    assert [(line.text, line.location) for line in lines] == [("flask>=3", "pyproject.toml:5")]
    for addition, said in (
        (project.replace(">=3.9", "<3.12"), "requires-python"),
        (project + "[tool.uv.sources]\nFlask = { workspace = true }\n", "sources"),
        (
            project + '[tool.uv.sources]\nFlask = { path = "../flask" }\n',
            r"5: bake cannot use 'flask @ file:\.\./flask'",
        ),
        (project + "[x\n", "line 7"),
    ):
        (app / "pyproject.toml").write_text(addition)
        with pytest.raises(RequirementError, match=said):
            requirement_lines(app, "pyproject.toml", DEBIAN_13)


@pytest.mark.parametrize(
    ("versions", "python"),
    [(">=3.14", "3.14"), (">=3.12.2,<3.13", "3.12"), (">=3.14.5,<3.14.6", "3.14.5"), ("==3.12.*,<3.12.4", "3.12.3")],
)
def test_the_oldest_python_that_a_project_admits_is_proposed(app: Path, versions: str, python: str) -> None:
    (app / "pyproject.toml").write_text(f'[project]\nname = "x"\nrequires-python = "{versions}"\n')
    with pytest.raises(RequirementError) as refused:
        requirement_lines(app, "pyproject.toml", DEBIAN_13)
    assert f'write `python: "{python}"` there' in refused.value.hint


@pytest.mark.parametrize(
    ("files", "command"),
    [
        ({"pyproject.toml": '[tool.poetry.dependencies]\nsix = "^1 || ^2"\n'}, "poetry export"),
        ({"environment.yml": ""}, "pip list"),
    ],
)
def test_tools_that_are_not_asked_have_a_way_out(app: Path, files: dict[str, str], command: str) -> None:
    for name, text in files.items():
        (app / name).write_text(text)
    with pytest.raises(RequirementError) as caught:
        requirements_file(app)
    assert f"`{command}" in caught.value.hint
    (app / "requirements.txt").write_text("six\n")
    assert requirements_file(app) == "requirements.txt"


def test_a_source_that_uv_would_use_is_that_of_the_requirement(app: Path) -> None:
    project = '[project]\nname = "x"\ndependencies = ["Six[a]>=1 ; os_name == \'posix\'", "flask"]\n'
    source = '[tool.uv.sources]\nsix = {git = "https://code.example/six.git", tag = "v1", subdirectory = "py"}\n'
    (app / "pyproject.toml").write_text(project + source)
    six, flask = requirement_lines(app, "pyproject.toml", DEBIAN_13)
    expected = DirectReference(
        "six", "[a]", '(os_name == "posix")', git="https://code.example/six.git", commit="v1", folder="py"
    )
    assert (six.reference, six.location, flask.reference) == (expected, "pyproject.toml:3", None)


def test_older_projects_say_it_in_setup_py(app: Path) -> None:
    (app / "setup.py").write_text("from setuptools import setup\nsetup(name='x',\n  install_requires=['six>=1'])\n")
    assert requirements_file(app) == "setup.py"
    assert [(line.text, line.location) for line in requirement_lines(app, "setup.py", DEBIAN_13)] == [
        ("six>=1", "setup.py:3")
    ]


def test_a_list_of_bake_yaml(app: Path) -> None:
    lines = requirement_lines(app, ("flask", "six>=1"), DEBIAN_13)
    assert [(line.text, line.location) for line in lines] == [
        ("flask", "requirements[0]"),
        ("six>=1", "requirements[1]"),
    ]


def test_a_missing_include_leads_to_its_line(app: Path) -> None:
    (app / "requirements.txt").write_text("flask\n-r nofile.txt\n")
    with pytest.raises(RequirementError) as caught:
        requirement_lines(app, "requirements.txt", DEBIAN_13)
    assert caught.value.message.startswith("requirements.txt:2: nofile.txt cannot be read: No such file")
    assert caught.value.hint == "Create the file, or remove that line."


def test_the_default_index_and_idle_options_are_no_obstacle(app: Path) -> None:
    (app / "requirements.txt").write_text(
        f"-i {default_index()}\n--extra-index-url={default_index()}/\n--trusted-host packages.example\nsix\n"
    )
    assert [line.text for line in requirement_lines(app, "requirements.txt", DEBIAN_13)] == ["six"]


@pytest.mark.parametrize("text", ["-e .\n", ".\n", "-e ./\n", "--editable=.\n"])
def test_the_own_folder_means_the_requirements_of_the_project(app: Path, text: str) -> None:
    write(
        app,
        {"requirements.txt": text, "setup.py": "from setuptools import setup\nsetup(install_requires=['six>=1'])\n"},
    )
    lines = requirement_lines(app, "requirements.txt", DEBIAN_13)
    assert [(line.text, line.location) for line in lines] == [("six>=1", "setup.py:2")]


def test_an_extra_of_the_own_folder_adds_its_requirements(app: Path) -> None:
    project = '[project]\nname = "x"\ndependencies = ["six"]\noptional-dependencies = {web = ["flask"]}\n'
    write(app, {"requirements.txt": "-e .[web]\n", "pyproject.toml": project})
    assert [line.text for line in requirement_lines(app, "requirements.txt", DEBIAN_13)] == ["six", "flask"]
    (app / "requirements.txt").write_text(".[nothing]\n")
    with pytest.raises(RequirementError, match=r"pyproject\.toml has no extra nothing"):
        requirement_lines(app, "requirements.txt", DEBIAN_13)


def test_computed_requirements_of_the_own_folder_are_refused(app: Path) -> None:
    write(
        app, {"requirements.txt": "-e .\n", "setup.py": "from setuptools import setup\nsetup(install_requires=f())\n"}
    )
    with pytest.raises(RequirementError, match=r"requirements\.txt:1: .*setup\.py computes its requirements"):
        requirement_lines(app, "requirements.txt", DEBIAN_13)


def test_a_requirements_file_without_lines_gives_way_to_the_project(app: Path) -> None:
    write(
        app,
        {
            "requirements.txt": "# see setup.py\n",
            "setup.py": "from setuptools import setup\nsetup(install_requires=['six'])\n",
        },
    )
    assert requirements_file(app) == "setup.py"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("pyproject.toml", '[project]\nname = "x"\ndynamic = ["dependencies"]\n'
         '[tool.setuptools.dynamic]\ndependencies = {file = ["deps/base.in"]}\n'),
        ("setup.cfg", "[options]\ninstall_requires = file: deps/base.in\n"),
    ],
)  # fmt: skip
def test_a_project_may_keep_its_requirements_in_another_file(app: Path, file: str, text: str) -> None:
    write(app, {file: text, "deps/base.in": "# why\nsix\n"})
    assert requirements_file(app) == file
    lines = requirement_lines(app, file, DEBIAN_13)
    assert [(line.text, line.location) for line in lines] == [("six", "deps/base.in:2")]


@pytest.mark.parametrize(
    ("names", "file"),
    [
        (
            ["requirements/base.txt", "requirements/production.txt", "requirements/dev.txt"],
            "requirements/production.txt",
        ),
        (["requirements/prod.txt", "requirements/test.txt"], "requirements/prod.txt"),
        (["requirements/base.in", "requirements/base.txt", "requirements/dev.in"], "requirements/base.txt"),
        (["requirements-prod.txt", "requirements-dev.txt"], "requirements-prod.txt"),
        (["Requirements.txt"], "Requirements.txt"),
        (["requirements.in"], "requirements.in"),
        (["notes.txt"], None),
    ],
)
def test_requirements_in_another_place_are_found(app: Path, names: list[str], file: str | None) -> None:
    write(app, dict.fromkeys(names, "six\n"))
    assert requirements_file(app) == file


def test_several_requirements_files_are_a_question(app: Path) -> None:
    write(app, dict.fromkeys(["requirements/web.txt", "requirements/worker.txt"], "six\n"))
    with pytest.raises(RequirementError) as caught:
        requirements_file(app)
    assert caught.value.details == "requirements: requirements/web.txt\nrequirements: requirements/worker.txt"


def test_what_a_machine_never_needs_is_left_out_and_noted(app: Path) -> None:
    notes: list[str] = []
    (app / "requirements.txt").write_text("uWSGI==2.0.28\nsix\npkg-resources==0.0.0\n")
    lines = requirement_lines(app, "requirements.txt", DEBIAN_13, notes=notes)
    assert [line.text for line in lines] == ["six"]
    assert notes == [
        "not installed: uWSGI==2.0.28 (requirements.txt:1): the machine's own server serves the app",
        "not installed: pkg-resources==0.0.0 (requirements.txt:3): "
        "Debian's pip lists it by mistake; it is a part of setuptools",
    ]


def test_an_index_of_a_project_is_never_dropped(app: Path) -> None:
    project = '[project]\nname = "x"\ndependencies = ["six"]\n[[tool.uv.index]]\nurl = "https://packages.example/"\n'
    (app / "pyproject.toml").write_text(project)
    with pytest.raises(RequirementError, match=r"\[\[tool\.uv\.index\]\]: bake does not use the package index"):
        requirement_lines(app, "pyproject.toml", DEBIAN_13)
    assert requirement_lines(app, "pyproject.toml", DEBIAN_13, "https://packages.example/")


def test_a_pipfile_without_a_lock_is_resolved(app: Path) -> None:
    notes: list[str] = []
    text = '[packages]\nsix = "*"\nflask = {version = ">=3", extras = ["async"]}\n'
    text += "wmi = {version = '*', sys_platform = \"== 'win32'\"}\n"
    (app / "Pipfile").write_text(f'[[source]]\nurl = "{default_index()}"\n{text}')
    assert requirements_file(app) == "Pipfile"
    lines = requirement_lines(app, "Pipfile", DEBIAN_13, notes=notes)
    assert [line.text for line in lines] == ["six", "flask[async]>=3", "wmi ; sys_platform == 'win32'"]
    assert notes == ["Pipfile.lock is missing: bake resolves the newest versions that Pipfile allows"]
    (app / "Pipfile").write_text('[packages]\nsix = "1.17"\nflask = {version = "3"}\n')
    assert [line.text for line in requirement_lines(app, "Pipfile", DEBIAN_13)] == ["six==1.17", "flask==3"]


def test_a_path_whose_project_excludes_the_python_is_refused_before_its_build(tmp_path: Path) -> None:
    project = '[project]\nname = "web"\nversion = "1"\nrequires-python = ">=3.13"\n'
    write(tmp_path, {"requirements.txt": "./web\n", "web/pyproject.toml": project})
    assert [line.name for line in requirement_lines(tmp_path, "requirements.txt", DEBIAN_13)] == ["web"]
    with pytest.raises(RequirementError, match=r"web/pyproject.toml: requires-python is '>=3.13'") as caught:
        requirement_lines(tmp_path, "requirements.txt", DEBIAN_12)
    assert '`python: "3.13"`' in caught.value.hint
    (tmp_path / "requirements.txt").write_text("./web ; python_version > '3.12'\n")
    requirement_lines(tmp_path, "requirements.txt", DEBIAN_12)
