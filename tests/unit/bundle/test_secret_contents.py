"""Private keys and tokens in an app's files: refused with file and line, and no false alarms."""

from __future__ import annotations

import base64
import io
import json
import random
import string
from pathlib import Path

import conftest
import pytest
import trustme
from app_files import gather
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from bake.bundle import release_archive, secret_contents
from bake.bundle.app_source import AppSource
from bake.config import loader
from bake.config.recipe import Recipe
from bake.config.sections import App
from bake.errors import SecretError
from bake.host.progress import Reporter
from bake.host.terminal import Terminal

pytestmark = pytest.mark.usefixtures("cache_folder")

#: The repository contains no text with the form of a secret, so the tests make them from parts.
RANDOM = random.Random(20)
ALPHANUMERIC = string.ascii_letters + string.digits
PLAIN = serialization.NoEncryption()
ENCODINGS = serialization.PrivateFormat


def word(length: int, letters: str = ALPHANUMERIC) -> str:
    return "".join(RANDOM.choices(letters, k=length))


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, form: ENCODINGS) -> str:
    return key.private_bytes(serialization.Encoding.PEM, form, PLAIN).decode()


RSA = rsa.generate_private_key(65537, 2048)
PKCS8, PKCS1 = pem(RSA, ENCODINGS.PKCS8), pem(RSA, ENCODINGS.TraditionalOpenSSL)
SEC1 = pem(ec.generate_private_key(ec.SECP256R1()), ENCODINGS.TraditionalOpenSSL)
OPENSSH = pem(ed25519.Ed25519PrivateKey.generate(), ENCODINGS.OpenSSH)
ED25519 = pem(ed25519.Ed25519PrivateKey.generate(), ENCODINGS.PKCS8)
LOCKED = RSA.private_bytes(
    serialization.Encoding.PEM, ENCODINGS.TraditionalOpenSSL, serialization.BestAvailableEncryption(b"x")
).decode()
KEY_ID = f"AKI{'A'}{word(16, string.ascii_uppercase + '234567')}"
SECRET = f"{word(19)}/{word(18)}+{word(1)}"
PUTTY = f"""PuTTY-User-Key-File-{3}: ssh-ed25519
Encryption: none
Comment: shop
Public-Lines: 2
{word(64)}
{word(40)}
Private-Lines: 1
{word(48)}
Private-MAC: {word(64, "0123456789abcdef")}
"""
#: A text with a secret, the line of the secret in it, and words of its description.
SECRETS = {
    "pkcs8": (PKCS8, 2, "a private key"),
    "pkcs1": (PKCS1, 2, "a private key"),
    "sec1": (SEC1, 2, "a private key"),
    "ed25519": (ED25519, 2, "a private key"),
    "openssh": (OPENSSH, 2, "a private key"),
    "locked": (LOCKED, 5, "a private key"),
    "windows": (PKCS8.replace("\n", "\r\n"), 2, "a private key"),
    "python": ("KEY = (\n" + "".join(f"    {line!r}\n" for line in SEC1.splitlines(keepends=True)) + ")", 3, "private"),
    "commented": ("".join(f"# {line}\n" for line in PKCS1.splitlines()), 2, "a private key"),
    "yaml": ("key: |\n" + "".join(f"  {line}\n" for line in PKCS8.splitlines()), 3, "a private key"),
    "pgp": (f"-----BEGIN PGP PRIVATE KEY {'BLOCK'}-----\nVersion: GnuPG v2\n\n{word(64)}\n{word(64)}\n", 4, "private"),
    "google": (json.dumps({"type": "service_account", "private_key": PKCS8}, indent=1), 3, "a private key"),
    "putty": (PUTTY, 8, "PuTTY"),
    "age": (f"# public key: age1x\nAGE-SECRET-{'KEY'}-1{word(58, 'QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L')}\n", 2, "age"),
    "aws": (f"[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n", 3, "AWS"),
    "aws csv": (f"Access key ID,Secret access key\n{KEY_ID},{SECRET}\n", 2, "AWS"),
    "aws python": (f"import boto3\ns3 = boto3.client('s3', '{KEY_ID}', '{SECRET}')\n", 2, "AWS"),
    "aws json": (json.dumps({"SecretAccessKey": SECRET}), 1, "AWS"),
    "github": (f"TOKEN = 'gh{'p'}_{word(36)}'", 1, "GitHub"),
    "github fine": (f"github_{'pat'}_{word(22)}_{word(59)}", 1, "GitHub"),
    "gitlab": (f"glpat{'-'}{word(20)}", 1, "GitLab"),
    "slack": (f"xox{'b'}-{word(12, '0987')}-{word(12, '0987')}-{word(24)}", 1, "Slack"),
    "slack webhook": (f"https://hooks.slack.{'com'}/services/T{word(8, 'AB')}/B{word(8, 'AB')}/{word(24)}", 1, "Slack"),
    "stripe": (f"stripe.api_key = 'sk_{'live'}_{word(24)}'", 1, "Stripe"),
    "openai": (f"sk-{'proj'}-{word(120)}", 1, "OpenAI"),
    "anthropic": (f"sk-{'ant'}-api03-{word(95)}", 1, "Anthropic"),
    "digitalocean": (f"dop_{'v1'}_{word(64, '0123456789abcdef')}", 1, "DigitalOcean"),
    "sendgrid": (f"SG{'.'}{word(22)}.{word(43)}", 1, "SendGrid"),
    "pypi": (f"pypi-{'AgE'}IcHlwaS5vcmc{word(80)}", 1, "PyPI"),
    "npm": (f"npm{'_'}{word(36)}", 1, "npm"),
}
CERTIFICATE = trustme.CA().cert_pem.bytes().decode()
PUBLIC = RSA.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
).decode()  # fmt: skip
HARMLESS = {
    "docs": "[default]\nid = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n",
    "id alone": f"AWS_ACCESS_KEY_ID={KEY_ID}\n",
    "id beside a commit": f"{KEY_ID} is of commit {word(39, '0123456789abcdef')}",
    "code": "if text.startswith('-----BEGIN PRIVATE KEY-----'):\n    raise ValueError('a private key')\n",
    "ellipsis": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg...\n-----END PRIVATE KEY-----\n",
    "crosses": f"-----BEGIN RSA PRIVATE KEY-----\n{'x' * 64}\n-----END RSA PRIVATE KEY-----\nghp_{'x' * 36}\n",
    "counting": f"GITHUB_TOKEN=ghp_{(ALPHANUMERIC * 2)[:36]}\nsk_live_your_key_here_is_secret\n",
    "certificate": CERTIFICATE,
    "public key": PUBLIC,
    "certificate after a mention": f"BEGIN PRIVATE KEY is the other one\n{CERTIFICATE}",
    "settings": f"SECRET_KEY = '{word(50)}'\nAPI_SECRET = '{word(40)}'\n",
    "environment": "AWS_SECRET_ACCESS_KEY = os.environ['AWS_SECRET_ACCESS_KEY']\n",
    "test key of Stripe": f"sk_test_{word(24)}",
    "lock file": "".join(f"    --hash=sha256:{word(64, '0123456789abcdef')} \\\n" for _ in range(50)),
    "data url": f"data:image/png;base64,{base64.b64encode(RANDOM.randbytes(3000)).decode()}",
}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_refused_with_file_and_line(app: Path, name: str) -> None:
    text, line, description = SECRETS[name]
    conftest.write(app, {"app.py": "app = 1\n", "sub/notes.txt": f"one\ntwo\n{text}"})
    with pytest.raises(SecretError, match="contains a secret") as caught:
        gather(app)
    assert caught.value.details.startswith(f"sub/notes.txt:{line + 2}: ") and description in caught.value.details
    # The message is for logs, so it does not repeat the secret.
    assert SECRET not in str(vars(caught.value)) and caught.value.code == 19


@pytest.mark.parametrize("name", HARMLESS)
def test_a_text_that_is_no_secret_is_shipped(app: Path, name: str) -> None:
    conftest.write(app, {"app.py": "app = 1\n", "sub/notes.txt": HARMLESS[name]})
    assert "source/sub/notes.txt" in [member.name for member in gather(app).members]


def test_all_secrets_are_reported_at_once(app: Path) -> None:
    conftest.write(app, {"a.txt": f"{PKCS8}{SEC1}", "b.py": SECRETS["github"][0], "c.py": "x = 1\n"})
    with pytest.raises(SecretError, match="3 secrets") as caught:
        gather(app)
    second = PKCS8.count("\n") + 2
    assert caught.value.details == f"a.txt:2: a private key\na.txt:{second}: a private key\nb.py:1: a token of GitHub"
    assert "`!/a.txt` and `!/b.py`" in caught.value.hint


def test_bakeignore_allows_a_file_by_its_name_only(app: Path) -> None:
    conftest.write(app, {"app.py": "app = 1\n", "shop/keys/public.txt": PKCS8, "shop/server.pem": PKCS8})
    for line in ("!*.txt", "!/shop/", "!public.txt", "shop/keys/public.txt.old"):
        (app / ".bakeignore").write_text(f"{line}\n")
        with pytest.raises(SecretError, match=r"contains a secret|2 secrets"):
            gather(app)
    for line in ("!/shop/keys/public.txt", "!shop/keys/public.txt"):
        (app / ".bakeignore").write_text(f"# the key of our examples\n{line}\n")
        names = [member.name for member in gather(app).members]
        assert "source/shop/keys/public.txt" in names and "source/shop/server.pem" not in names
    (app / ".bakeignore").unlink()
    (app / "shop/.bakeignore").write_text("!keys/public.txt\n")
    assert "source/shop/keys/public.txt" in [member.name for member in gather(app).members]


@pytest.mark.parametrize(
    "name",
    ["tests/conftest.py", "shop/test/keys.txt", "test_login.py", "shop/login_test.py", "docs/setup.html", "README.md",
     "Docs/a.txt"],
)  # fmt: skip
def test_a_test_or_a_document_with_a_secret_is_excluded_and_named(app: Path, name: str) -> None:
    conftest.write(app, {"app.py": "app = 1\n", name: f"one\n{PKCS8}", "tests/other.py": "x = 1\n"})
    release = gather(app)
    names = [member.name for member in release.members]
    assert f"source/{name}" not in names and "source/tests/other.py" in names
    assert f"{name} (a secret in a test or a document)" in release.exclusion_notes
    (app / ".bakeignore").write_text(f"!/{name}\n")
    assert f"source/{name}" in [member.name for member in gather(app).members]


@pytest.mark.parametrize("name", ["testing.py", "shop/latest.py", "documents/a.txt", "attest/a.txt", "README.txt"])
def test_other_files_with_a_secret_are_refused(app: Path, name: str) -> None:
    conftest.write(app, {"app.py": "app = 1\n", name: PKCS8})
    with pytest.raises(SecretError):
        gather(app)


def test_only_the_app_s_own_files_are_read(app: Path) -> None:
    conftest.write(app, {"app.py": "app = 1\n", "venv/lib/tests/key.txt": PKCS8, "ignored.txt": PKCS8})
    (app / ".gitignore").write_text("ignored.txt\n")
    gather(app)
    # The source of an app from elsewhere is public.
    conftest.write(app, {"tests/key.txt": PKCS8})
    commit = App(git="https://git.example/shop", commit="0" * 40)
    assert "source/tests/key.txt" in [member.name for member in gather(app, Recipe(app=commit)).members]


def test_the_encoding_of_a_text_does_not_hide_a_secret_and_binaries_are_not_read(app: Path) -> None:
    (app / "notes.txt").write_bytes(PKCS8.encode("utf-16"))
    (app / "photo.png").write_bytes(b"\x89PNG\0\0" + PKCS8.encode())
    with pytest.raises(SecretError, match="a secret") as caught:
        gather(app)
    assert caught.value.details == "notes.txt:2: a private key"


def collect(folder: Path) -> None:
    """Make a bundle of an app with the recipe in its folder."""
    source = AppSource(folder, loader.read(folder))
    release_archive.collect(source, folder.parent / "bundle.tar", Reporter(Terminal(file=io.StringIO())))


IN_RECIPE = {
    "env": f"env:\n  STRIPE: {SECRETS['stripe'][0].split(chr(39))[1]}\n",
    "step": f"setup:\n- curl -u shop:{SECRETS['github fine'][0]} https://shop.example/\n",
    "timer": f'timers:\n  a: {{when: daily, run: "report --key {SECRETS["openai"][0]}"}}\n',
    "process": f"processes:\n  queue: worker --token {SECRETS['gitlab'][0]}\n",
    "key": "env:\n  KEY: '" + PKCS8.replace("\n", r"\n") + "'\n",
}


@pytest.mark.parametrize("name", IN_RECIPE)
def test_a_secret_of_the_recipe_that_goes_into_the_release_is_refused(app: Path, name: str) -> None:
    """bake writes the values of bake.yaml into other files, although the file itself stays out."""
    conftest.write(app, {"bake.yaml": f"wsgi: app:app\n{IN_RECIPE[name]}"})
    with pytest.raises(SecretError, match="contains a secret") as caught:
        collect(app)
    assert caught.value.details.startswith("bake.yaml:3: ")


def test_a_secret_of_the_recipe_that_stays_out_or_is_allowed_by_name_is_not_refused(app: Path) -> None:
    key = IN_RECIPE["env"].split()[-1]
    recipe = f"wsgi: app:app\n# {key}\ncheck:\n  env: {{STRIPE: {key}}}\n"
    conftest.write(app, {"bake.yaml": recipe})
    secret_contents.require_public_settings(app, loader.read(app))
    conftest.write(app, {"bake.yaml": f"{recipe}{IN_RECIPE['env']}"})
    with pytest.raises(SecretError) as caught:
        secret_contents.require_public_settings(app, loader.read(app))
    assert len(caught.value.details.splitlines()) == 3 and "`!/bake.yaml`" in caught.value.hint
    (app / ".bakeignore").write_text("!/bake.yaml\n")
    secret_contents.require_public_settings(app, loader.read(app))
    assert "source/bake.yaml" not in [member.name for member in gather(app, loader.read(app)).members]
