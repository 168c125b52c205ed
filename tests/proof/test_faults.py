"""What the machine gets over by itself."""

import time

#: Seconds within which a killed app answers again. systemd waits 2 s, and may wait 120 s for an app to start on an
#: emulated machine; a page may take 60 s.
PATIENCE = 180


def eventually(true, patience=PATIENCE):
    deadline = time.monotonic() + patience
    while not (done := true()) and time.monotonic() < deadline:
        time.sleep(1)
    return done


def test_a_killed_app_comes_back(host, healthy):
    before = host.run("systemctl show --value --property MainPID app.service").stdout.strip()
    assert before != "0"
    assert host.run("kill -KILL %s", before).rc == 0
    assert eventually(healthy)
    assert host.run("systemctl show --value --property MainPID app.service").stdout.strip() != before


def test_a_killed_web_server_comes_back(host, healthy):
    assert host.run("systemctl kill --signal KILL nginx.service").rc == 0
    assert eventually(healthy)


def test_an_app_that_is_down_is_told_to_visitors(host, fetch, healthy):
    assert host.run("systemctl stop app.socket app.service").rc == 0
    try:
        answer = fetch("/", "https", body=True)
        assert answer.status == 503
        assert answer.headers["retry-after"] == "10"
        assert b"One moment" in answer.body
    finally:
        assert host.run("systemctl restart app-setup.service").rc == 0
    assert eventually(healthy)


def test_a_challenge_is_answered_and_text_compressed(host, fetch):
    folder = "/var/lib/letsencrypt/http/.well-known/acme-challenge"
    host.run(f"mkdir -p {folder} && seq 1000 > {folder}/probe")
    answer = fetch("/.well-known/acme-challenge/probe", options="--compressed", body=True)
    host.run("rm -r /var/lib/letsencrypt/http/.well-known")
    assert answer.body.split() == [b"%d" % number for number in range(1, 1001)]
    assert answer.headers["content-encoding"] == "gzip"


#: Sends half a request, and then nothing; prints the seconds until the server had enough.
SLOW_CLIENT = """
import contextlib, socket, time
started = time.monotonic()
client = socket.create_connection(('127.0.0.1', 80))
client.sendall(b'GET / HTTP/1.1\\r\\nHost: ')
with contextlib.suppress(ConnectionResetError):
    client.recv(1)
print(time.monotonic() - started)
"""


def test_a_slow_client_is_let_go(host):
    # nginx's patience with headers is 5 s.
    assert 4 < float(host.run("timeout 30 python3 -c %s", SLOW_CLIENT).stdout) < 15


def test_names_given_on_the_machine_are_the_only_ones_answered(host, fetch):
    host.run("echo only.example > /etc/app/domains")
    try:
        assert host.run("systemctl restart app-configure && systemctl reload nginx && sleep 1").rc == 0
        # nginx answers for itself here: the app may be slow.
        for scheme in ("http", "https"):
            assert fetch("/.well-known/acme-challenge/none", scheme, as_name="only.example").status == 404
        # 52 and 56: the server closed without an answer; 35: the TLS handshake was refused.
        assert fetch("/", "http", as_name="stranger.example").headers["curl"] in ("52", "56")
        assert fetch("/", "https", as_name="stranger.example").headers == {"curl": "35"}
    finally:
        host.run("rm /etc/app/domains; systemctl restart app-configure; systemctl reload nginx")


#: Has nginx and sshd answer at each address, asks as root, as the app's user, and in the app's unit as root.
METADATA = """
ask() { "$@" curl -s -o /dev/null --max-time 5 $url; printf '%s ' $?; }
for address in {addresses}; do
    ip address add $address dev lo nodad 2> /dev/null || ip address add $address dev lo
    case $address in fe80*) host="[$address%25lo]" ;; *:*) host="[$address]" ;; *) host=$address ;; esac
    printf '%s ' $address
    url=http://$host/; ask; ask setpriv --reuid=app --regid=app --clear-groups
    ask systemd-run --quiet --pipe --wait --collect {deny}
    url=telnet://$host:22; ask setpriv --reuid=app --regid=app --clear-groups
    echo
    ip address delete $address dev lo
done
"""


def test_the_app_reaches_no_metadata_service_that_answers(host, recipe):
    """What the rules are for: an address that does answer, and neither the app's user nor its unit reaches."""
    addresses = "169.254.169.254 169.254.42.42 168.63.129.16 100.100.100.200 fe80::a9fe:a9fe fd00:ec2::254 "
    addresses += "fd00:a9fe:a9fe::1 fd00:42::42 fd00:c1::a9fe:a9fe fd20:ce::254"
    shown = host.run("systemctl show --property IPAddressDeny --property IPAddressAllow app.service").stdout
    deny = " ".join(f"-p '{line}'" for line in shown.splitlines() if not line.endswith("="))
    script = METADATA.replace("{addresses}", addresses).replace("{deny}", deny)
    rows = [row.split() for row in host.run("sh -c %s", script).stdout.splitlines()]
    opened = {"169.254.169.254", "fd00:ec2::254"} if recipe.get("aws", {}).get("role") else set()
    # curl says 7 where it is refused at once; 28 would be a packet that left and was not answered.
    assert {row[0]: row[1:] for row in rows} == {
        address: ["0", "0", "0", "7"] if address in opened else ["0", "7", "7", "7"] for address in addresses.split()
    }


def test_the_app_cannot_write_where_it_should_not(host):
    # In the app's own sandbox, as its own user: what systemd was told is what the kernel does.
    command = (
        "systemd-run --quiet --pipe --wait --collect -p User=app -p ProtectSystem=strict "
        "-p StateDirectory=app -p StateDirectoryMode=0750 "
        "sh -c 'touch /var/lib/app/probe && rm /var/lib/app/probe && ! touch /srv/app/current/source/probe'"
    )
    assert host.run(command).rc == 0
