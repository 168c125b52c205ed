"""A baked image goes to AWS and comes back: the same bytes, which boot as an instance with EC2's metadata service."""

import json
import os
import sys
from pathlib import Path

import amazon
import boto3
import metadata
import pytest
import servers
from test_ami import digest, read_back, registered

from bake import disk, proof, vm
from bake.run import run

pytestmark = pytest.mark.long

#: This file runs itself again in a namespace, with this in its environment.
INSIDE = "BAKE_TEST_PUBLISHED"
SETTINGS = ("--domain", "shop.example", "--env", "MOOD=good", "--with-secrets")


@pytest.mark.skipif(INSIDE in os.environ, reason="this is the outside")
def test_the_bytes_that_were_tested_are_launched(baked, bake, tmp_path):
    folder, image, _ = baked
    launch = bake("render", folder, "--launch", "--provider", "aws", *SETTINGS, SECRET_KEY="a", SPARE_KEY="b")
    assert launch.code == 0, launch.stderr
    (tmp_path / "user-data").write_text(launch.stdout)
    namespaces = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    given = {"image": str(image), "place": str(tmp_path), "accelerator": vm.accelerator()}
    done = run(
        [*namespaces, sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider", f"{__file__}::test_inside"],
        env={INSIDE: json.dumps(given)}, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.status == 0 and "1 passed" in done.stdout, done.stdout[-8000:]
    print(done.stdout[-2000:])


@pytest.mark.skipif(INSIDE not in os.environ, reason="the other case runs it in a namespace")
def test_inside(monkeypatch):
    given = json.loads(os.environ[INSIDE])
    image, work = Path(given["image"]), Path(given["place"])
    run(["ip", "link", "set", "lo", "up"])
    with amazon.moto(work) as url, amazon.Gate(url, work).open() as gate:
        for name, value in amazon.environment(gate.url, work).items():
            monkeypatch.setenv(name, value)
        said = run([sys.executable, "-m", "bake", "ami", image], cwd=work, env={"BAKE_CACHE": str(work / "cache")})
        print(said.stderr)
        found, root = registered(boto3.client("ec2"), said.stdout.strip())
        assert found["ImdsSupport"] == "v2.0"
        back, raw = work / "back.raw", work / "checked.raw"
        disk.to_raw(image, raw)
        read_back(root["SnapshotId"], back)
    # A volume has whole GiB, as the image has.
    os.truncate(back, raw.stat().st_size)
    assert digest(back) == digest(raw)
    raw.unlink()
    vm.make_key(work / "key", "pair")
    key = vm.public_key(work / "key")
    service, words = metadata.ec2((work / "user-data").read_text(), key)
    with servers.serve(metadata.server(service)):
        machine = vm.boot(
            back, None, work / "vm", work / "key", accel=given["accelerator"], network=metadata.NETWORK, more=words
        )
        try:
            machine.await_ssh()
            assert machine.ssh("cloud-init status --wait", check=False, timeout=300).status == 0
            assert machine.ssh("cloud-id").stdout.strip() == "aws"
            assert key in machine.ssh("cat ~/.ssh/authorized_keys").stdout
            assert machine.ssh("cat /etc/app/domains").stdout == "shop.example\n"
            assert 'MOOD="good"' in machine.ssh("cat /etc/app/env").stdout
            asked = "curl -s -o /dev/null -w %{http_code} -H 'Host: shop.example' http://127.0.0.1/steps"
            assert machine.ssh(asked).stdout == "200"
            assert [name for name, _ in proof.look(machine, ["machine"], work / "vm").failures] == []
        finally:
            machine.stop()
