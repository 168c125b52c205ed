"""Requirements that name a repository, a URL or a path: parsed, or refused with the next step."""

from __future__ import annotations

import pytest

from bake.app.direct_reference import DirectReference
from bake.app.requirement_line import parse
from bake.config.debian import DEBIAN_13
from bake.errors import RequirementError

GIT = "https://code.example/shop/six.git"
ARCHIVE = "https://code.example/six/archive/main.zip"
NT = "os_name == 'nt'"


@pytest.mark.parametrize(
    ("text", "requirement", "reference"),
    [
        (f"git+{GIT}", "six", DirectReference(git=GIT)),
        (f"git+{GIT}@v1.0#egg=Six", "Six", DirectReference("Six", git=GIT, commit="v1.0")),
        (
            f"-e git+{GIT}@a/b#egg=six[x]&subdirectory=py", "six[x]",
            DirectReference("six", "[x]", git=GIT, commit="a/b", folder="py"),
        ),
        (f"six [x] @ git+{GIT}@abc ; {NT}", f"six[x] ; {NT}", DirectReference("six", "[x]", NT, git=GIT, commit="abc")),
        (f"git+{GIT}#egg=six; {NT}", f"six ; {NT}", DirectReference("six", "", NT, git=GIT)),
        ("git+https://git@code.example/shop/six.git", "six", DirectReference(git=GIT)),
        (ARCHIVE, "main", DirectReference(url=ARCHIVE)),
        (f"six @ {ARCHIVE}#sha256=ab", "six", DirectReference("six", url=ARCHIVE, sha256="ab")),
        ("./libs/six[x]", "six[x]", DirectReference("", "[x]", path="libs/six")),
        ("-e libs/six", "six", DirectReference(path="libs/six")),
        ("six @ file:libs/../six", "six", DirectReference("six", path="six")),
        ("six-1.17.0-py2.py3-none-any.whl", "six", DirectReference(path="six-1.17.0-py2.py3-none-any.whl")),
    ],
)  # fmt: skip
def test_a_direct_reference_has_a_name_and_a_source(text: str, requirement: str, reference: DirectReference) -> None:
    line = parse(text, "requirements.txt:1", DEBIAN_13)
    assert (line.text, line.reference) == (requirement, reference)


@pytest.mark.parametrize("text", ["six==1.0", "six~=1.0 ; os_name == 'a/b'", "six[x]>=1,<2"])
def test_a_requirement_on_the_index_has_none(text: str) -> None:
    assert parse(text, "requirements.txt:1", DEBIAN_13).reference is None


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("git+ssh://git@code.example/six.git", "by https only"),
        ("git+file:///srv/six", "by https only"),
        ("hg+https://code.example/six", "by https only"),
        ("http://code.example/six.zip", "by https only"),
        (f"git+{GIT}@--upload-pack=x", "by https only"),
        ("https://[::1/a-1.zip", "by https only"),
        ("git+https://[::1/a.git#egg=a", "by https only"),
        ("../six", "Move its files into the app's folder"),
        ("six @ file:///srv/six", "write its version, as `pip list --format=freeze` prints it"),
        (f"git+{GIT}#subdirectory=../x", "Move its files into the app's folder"),
        ("six @ file:.", "The image contains the app's own folder"),
    ],
)
def test_other_sources_are_refused_with_the_next_step(text: str, hint: str) -> None:
    with pytest.raises(RequirementError, match=r"requirements\.txt:1: bake cannot use ") as caught:
        parse(text, "requirements.txt:1", DEBIAN_13)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "address",
    [
        "git+https://user:secret@code.example/six.git",
        "git+https://user:se@secret@code.example/six.git",
        "git+https://ghp_secret@code.example/six.git",
        "http://code.example/six.zip?token=secret",
    ],
)
def test_a_password_in_an_address_is_not_shown(address: str) -> None:
    with pytest.raises(RequirementError, match=r"code\.example/six") as caught:
        parse(address, "requirements.txt:1", DEBIAN_13)
    assert "secret" not in caught.value.message + caught.value.hint


def test_the_user_git_in_an_address_is_shown() -> None:
    with pytest.raises(RequirementError, match=r"//git@code\.example/six\.git"):
        parse("git+ssh://git@code.example/six.git", "requirements.txt:1", DEBIAN_13)
