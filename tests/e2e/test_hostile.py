"""Peers that do not play by the rules, with the whole daemon: operators' socket, DNS, limits over reloads."""
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from peers import wait_until


def control_path(sluice):
    return str(sluice.runtime / "control.sock")


def connected(s, path):
    try:
        s.connect(path)
        return True
    except BlockingIOError:
        return False


def silent(sluice, count):
    """Connections to the control socket that say nothing."""
    out = []
    for _ in range(count):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(15)
        wait_until(lambda: connected(s, control_path(sluice)), 10, "room in the backlog", 0.001)
        out.append(s)
    return out


def descriptors(sluice):
    return len(os.listdir(f"/proc/{sluice.process.pid}/fd"))


def test_silent_clients_of_the_control_socket_are_bounded(sluice):
    before = descriptors(sluice)
    crowd = silent(sluice, 600)
    wait_until(lambda: descriptors(sluice) <= before + 260, 5, "the others to be turned away")
    assert b"too many control connections" in crowd[-1].recv(1000)
    start = time.time()
    assert crowd[0].recv(1000) == b"" and time.time() - start < 12
    wait_until(lambda: descriptors(sluice) == before, 5, "all of them to be closed")
    assert sluice.cli("show", "status")


def test_a_request_that_drips_in_is_cut_off(sluice):
    drip = silent(sluice, 1)[0]
    start = time.time()
    with pytest.raises(OSError):
        while time.time() < start + 20:
            drip.sendall(b"x")
            time.sleep(0.5)
    assert time.time() < start + 14


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_clients_without_rights_do_not_keep_operators_out(make_sluice):
    sluice = make_sluice(control_group="games", monitor_group="tty")
    for folder in [sluice.folder, *sluice.folder.parents]:
        if str(folder).startswith("/tmp/"):
            os.chmod(folder, os.stat(folder).st_mode | 0o755)
    sluice.start()
    before = descriptors(sluice)
    code = ("import socket, sys, time\n"
            "all = [socket.socket(socket.AF_UNIX) for _ in range(500)]\n"
            f"for s in all: s.connect({control_path(sluice)!r})\n"
            "print('here', flush=True); time.sleep(60)\n")
    crowd = subprocess.Popen(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                              sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert crowd.stdout.readline() == b"here\n"
        wait_until(lambda: descriptors(sluice) <= before + 20, 5, "the others to be turned away")
        start = time.time()
        assert sluice.cli("show", "status") and time.time() - start < 2
    finally:
        crowd.kill()
        crowd.wait()


def test_clients_that_leave_during_a_reload_are_forgotten(sluice):
    before = descriptors(sluice)
    for _ in range(3):
        crowd = silent(sluice, 20)
        reload_ = silent(sluice, 1)[0]
        reload_.sendall(b'{"command": "reload", "args": {}}\n')
        for s in crowd:
            s.close()
        assert b"success" in reload_.makefile("rb").read()
    wait_until(lambda: descriptors(sluice) <= before + 2, 15, "all of them to be closed")


def test_a_spooler_that_hangs_does_not_hang_the_master(sluice):
    spooler, crowd = sluice.pid("spooler"), []
    os.kill(spooler, signal.SIGSTOP)
    try:
        for _ in range(900):
            crowd += silent(sluice, 1)
            crowd[-1].sendall(b'{"command": "show queues", "args": {}}\n')
        crowd[-1].settimeout(5)
        assert b"try again" in crowd[-1].recv(1000)
        assert sluice.control("show status")[-1] == {"status": "success"}
    finally:
        os.kill(spooler, signal.SIGCONT)
    crowd[0].settimeout(20)
    assert b"status" in crowd[0].recv(1000)


@pytest.mark.parametrize("request_", [
    b"\n", b"nonsense\n", b"[]\n", b"{}\n", b'{"command": 7}\n', b'{"command": "show queues"\n',
    b'{"command": "show queues", "args": 5}\n', b'{"command": "delete", "args": []}\n',
    b'{"command": "show queue", "args": {"queue": "/"}}\n', b"\0\0\0\n", b"\xff" * 100 + b"\n",
    b"[" * 60000 + b"\n", b'{"command": "resolve", "args": {"domain": "' + b"a" * 9000 + b'"}}\n',
    b"x" * 200000], ids=range(14))
def test_bad_requests_get_an_error(sluice, request_):
    pids = (sluice.pid("master"), sluice.pid("spooler"), sluice.pid("resolver"))
    s = silent(sluice, 1)[0]
    try:
        s.sendall(request_)
        answer = s.makefile("rb").read()
    except OSError:
        answer = b"error"
    assert b"error" in answer or b'"status":"success"' in answer
    assert pids == (sluice.pid("master"), sluice.pid("spooler"), sluice.pid("resolver"))
    assert sluice.cli("show", "status")


# Feeders

def test_recipients_and_headers_are_within_the_budget(make_sluice, receiver, dns):
    """One that gives hundreds of thousands of recipients, or headers without an end, takes no more than its part."""
    dns.domain("example.test", "127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port, max_body_memory="4M").start()
    with sluice.dialogue() as talk:
        talk.greet()
        talk("MAIL FROM:<a@sender.test>")
        codes = set()
        for i in range(60):
            talk.send("".join(f"RCPT TO:<{'x' * 50}{i}.{k}@example.test>\r\n"
                              for k in range(1000)).encode())
            codes |= {talk.reply()[0][:9] for _ in range(1000)}
        assert codes == {"250 2.1.5", "452 4.3.1"}
        assert talk("RSET").startswith("250")
        talk("MAIL FROM:<a@sender.test>")
        assert talk("RCPT TO:<b@example.test>").startswith("250")
    crowd = [sluice.dialogue() for _ in range(30)]
    for talk in crowd:
        talk.greet()
        talk("MAIL FROM:<a@sender.test>")
        talk("RCPT TO:<b@example.test>")
        assert talk("DATA").startswith("354")
        for _ in range(4):
            talk.send(b"X-Header: 1\r\n" * 4000)
    time.sleep(0.5)
    replies = []
    for talk in crowd:
        replies.append(talk("\r\nx\r\n.")[:3])
        talk.close()
    assert "452" in replies and "250" in replies
    sluice.inject("a@sender.test", "c@example.test")
    wait_until(lambda: receiver.messages("c@example.test"), 10, "mail as before")


# Caps over reloads

def opens_at_connects(receiver, after):
    """How many connections there were with each new one, from this time on."""
    events = [(e["t"], +1 if e["ev"] == "conn" else -1) for e in receiver.journal()
              if e["ev"] in ("conn", "close")]
    opened, out = 0, []
    for t, step in sorted(events, key=lambda e: e[0]):
        opened += step
        if step > 0 and t > after:
            out.append(opened)
    return out


def test_a_reload_that_lowers_a_cap(make_sluice, receiver, dns):
    """What was opened before goes on; no new one until there is room below the new cap."""
    for i in range(12):
        dns.domain(f"d{i}.test", "127.0.1.1")
    receiver.script([{"stage": "dot", "delay": 100}])
    sluice = make_sluice(smtp_port=receiver.port, ip_connection_limit="127.0.1.1 12", domains={
        "*": {"max-smtp-out": "1", "max-msg-per-connection": "10"}}).start()
    client = sluice.smtp()
    for i in range(600):
        sluice.inject("a@sender.test", f"m{i}@d{i % 12}.test", client=client)
    receiver.wait("messages", 100, timeout=30)
    sluice.global_["ip-connection-limit"] = "127.0.1.1 3"
    sluice.reload()
    done = time.time() + 0.2
    receiver.wait("messages", 600, timeout=60)
    assert max(opens_at_connects(receiver, done), default=0) <= 3


# DNS

@pytest.mark.parametrize("target", ["0.0.0.0", "0.0.0.1", "255.255.255.255", "224.0.0.1", "::",
                                    "ff02::1", "::ffff:127.0.0.1"])
def test_mx_that_is_no_host(make_sluice, make_receiver, dns, target):
    """connect() takes some of these for this machine."""
    receiver = make_receiver(addresses="127.0.0.11")
    dns.domain("odd.test", target)
    dns.domain("example.test", "127.0.0.11")
    sluice = make_sluice(smtp_port=receiver.port, domains={"*": {"bounce-upon-nxdomain": "never"}})
    sluice.start()
    sluice.inject("a@sender.test", "b@odd.test")
    sluice.wait_records(1, "tq")
    sluice.inject("a@sender.test", "b@example.test")
    receiver.wait("messages", 1)
    assert not receiver.messages("b@odd.test")


def test_many_mx_and_loops(make_sluice, receiver, dns):
    dns.domain("many.test", *[(10 + i, f"127.0.3.{1 + i}") for i in range(100)])
    dns.set("loop.test", ttl=0, MX=[(10, "a.loop.test")])
    dns.set("a.loop.test", ttl=0, CNAME="b.loop.test")
    dns.set("b.loop.test", ttl=0, CNAME="a.loop.test")
    dns.domain("zero.test", "127.0.1.1", ttl=0)
    sluice = make_sluice(smtp_port=receiver.port).start()
    for domain in ("many", "loop", "zero"):
        for i in range(20):
            sluice.inject("a@sender.test", f"b{i}@{domain}.test")
    receiver.wait("messages", 20)
    wait_until(lambda: len({r.queue for r in sluice.records("tq")}) == 2, 20,
               "both others to wait")
    time.sleep(2)
    assert len(dns.queries("a.loop.test")) < 40
    assert len(dns.queries("zero.test")) < 60
