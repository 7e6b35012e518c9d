"""The long runs: figures that the product promises. `make torture`, or SLUICE_TORTURE=1."""
import collections
import json
import os
import pathlib
import re
import subprocess
import tempfile
import time

import pytest

from peers import Dialogue, free_port, tool, wait_until
from postfix import Postfix

pytestmark = [pytest.mark.skipif(not os.environ.get("SLUICE_TORTURE"),
                                 reason="long; SLUICE_TORTURE=1 (make torture) runs it"),
              pytest.mark.limit(1800)]


def feed(sluice, messages, *extra, log=None):
    args = [tool("source"), "--to", f"{sluice.ip}:{sluice.port}", "--messages", str(messages),
            "--retry", "120", *extra]
    if log:
        args += ["--log", str(log)]
    done = subprocess.run(args, capture_output=True, text=True, timeout=1500, check=False)
    report = json.loads(done.stdout)
    assert report["accepted"] == messages, (report, done.stderr)
    return report


def many_domains(dns, addresses):
    dns.keep_log = False
    dns.generate(r"d(\d+)\.test", lambda m: {"ttl": 3600, "MX": [(10, f"mx{m[1]}.test")]})
    dns.generate(r"mx(\d+)\.test",
                 lambda m: {"ttl": 3600, "A": [f"127.0.1.{1 + int(m[1]) % addresses}"]})


def memory_of(pid):
    """Pss_Anon + Pss_Shmem in bytes"""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * sum(int(kb) for kb in re.findall(r"^Pss_(?:Anon|Shmem):\s+(\d+)", text, re.M))


def test_200000_messages_byte_for_byte(make_sluice, make_receiver, dns, tmp_path):
    count = int(os.environ.get("E2E_MESSAGES", "200000"))
    receiver = make_receiver(addresses="127.0.1.1-127.0.1.100")
    many_domains(dns, 100)
    receiver.script([{"stage": "rcpt", "percent": 5, "reply": "550 5.1.1 no such user"},
                     {"stage": "rcpt", "percent": [5, 10], "once": "rcpt",
                      "reply": "450 4.2.1 later"}])
    sluice = make_sluice(smtp_port=receiver.port, source={"suppress-local-dsn": "yes"},
                         domains={"*": {"retry-after": "5s"}}).start()
    log = tmp_path / "feeder.log"
    feed(sluice, count, "--size", "mix", "--domains", "1000", "--connections", "50", log=log)
    wait_until(lambda: sluice.queued() == 0, 900, "an empty spool", pause=1)
    wait_until(lambda: sluice.counter("acct_waiting") == 0, 60, "the accounting file")
    final = sluice.final()
    delivered = collections.Counter()
    digests = {}
    for message in receiver.messages():
        for rcpt in message["rcpts"]:
            delivered[rcpt] += 1
            digests[rcpt] = message["body_sha256"]
    assert max(delivered.values()) == 1
    assert len(final) == count
    for line in log.read_text().splitlines():
        number, _, _, _, digest = line.split()[:5]
        rcpt = f"m{number}@d{int(number) % 1000}.test"
        if final[rcpt].type == "d":
            assert digests[rcpt] == digest, rcpt
        else:
            assert rcpt not in digests and "550 5.1.1" in final[rcpt].dsnDiag
    bounced = sum(r.type == "b" for r in final.values())
    assert 0.04 * count < bounced < 0.06 * count
    assert 0.04 * count < len(sluice.records("t")) < 0.06 * count


def unbound(folder, ip):
    """Knows d0.test to d99.test, on port 53: Postfix can be told no other."""
    lines = ["server:", f"interface: {ip}", "access-control: 127.0.0.0/8 allow", 'chroot: ""',
             'username: ""', f'pidfile: "{folder}/unbound.pid"', "use-syslog: no",
             "do-daemonize: no", "num-threads: 1", 'local-zone: "test." static']
    for i in range(100):
        lines += [f'local-data: "d{i}.test. 3600 IN MX 10 mx{i}.test."',
                  f'local-data: "mx{i}.test. 3600 IN A 127.0.1.{1 + i}"']
    conf = pathlib.Path(folder) / "unbound.conf"
    conf.write_text("\n".join(lines) + "\n")
    return subprocess.Popen(["unbound", "-d", "-c", str(conf)], stdin=subprocess.DEVNULL)


def backlog_rate_of_postfix(receiver, first_id, count=30000):
    """Deferred messages per second that a tuned Postfix delivers after a restart and a flush."""
    seen = receiver.stats()["seen"]
    with tempfile.TemporaryDirectory(prefix="sluice-postfix-") as folder:
        pathlib.Path(folder).chmod(0o755)
        dns = unbound(folder, "127.0.0.56")
        postfix = Postfix(folder, free_port("127.0.0.1"), smtp_port=receiver.port,
                          resolver="127.0.0.56")
        try:
            receiver.script([{"stage": "rcpt", "reply": "450 4.2.1 later"}])
            before = receiver.stats()["rejected"]
            postfix.start()
            done = subprocess.run(
                [tool("source"), "--to", f"{postfix.ip}:{postfix.port}", "--messages", str(count),
                 "--size", "1000", "--domains", "100", "--connections", "50", "--first-id",
                 str(first_id)], capture_output=True, text=True, timeout=300, check=False)
            assert json.loads(done.stdout)["accepted"] == count, done.stderr
            receiver.wait("rejected", before + count, timeout=300)
            postfix.stop()
            receiver.script()
            postfix.start()
            postfix.flush()
            receiver.wait("seen", seen + count // 20, timeout=60)
            began = time.monotonic()        # the best that it does: without the way up and the tail
            receiver.wait("seen", seen + count * 19 // 20, timeout=300)
            return count * 18 // 20 / (time.monotonic() - began)
        finally:
            postfix.stop()
            dns.terminate()
            dns.wait(10)


@pytest.mark.skipif(bool(Postfix.why_not()), reason=str(Postfix.why_not()))
def test_memory_does_not_grow_with_the_queue(make_sluice, make_receiver, dns):
    """1,000,000 queued: a worker's memory, the first delivery after a start, the drain."""
    count = int(os.environ.get("E2E_QUEUED", "1000000"))
    warm = 40000
    receiver = make_receiver(addresses="127.0.1.1-127.0.1.100", journal=False,
                             ids=2 * count + 2 * warm, digest=False)
    many_domains(dns, 100)
    sluice = make_sluice(smtp_port=receiver.port, acct=False,
                         domains={"*": {"retry-after": "2h"}}).start(timeout=60)
    # A worker that has once had as much in hand as it ever takes: the pages for that, and for its ring
    # (sparse until it has gone round), are there for good. Slow replies make mail wait in it.
    receiver.script([{"stage": "dot", "delay": 3000}])
    feed(sluice, warm, "--size", "1000", "--domains", "100", "--connections", "50",
         "--first-id", str(count + 2))
    receiver.script()
    receiver.wait("seen", warm, timeout=120)
    receiver.script([{"stage": "rcpt", "reply": "450 4.2.1 later"}])
    feed(sluice, 10000, "--size", "1000", "--domains", "100", "--connections", "50")
    wait_until(lambda: sluice.counter("transient_recipients") >= 10000, 120, "10,000 deferred")
    small = memory_of(sluice.pid("worker", "a"))
    feed(sluice, count - 10000, "--size", "1000", "--domains", "100", "--connections", "50",
         "--first-id", "10000")
    wait_until(lambda: sluice.counter("transient_recipients") >= count, 900, "all deferred",
               pause=1)
    assert sluice.queued() == count
    large = memory_of(sluice.pid("worker", "a"))
    print(f"a worker with 10,000: {small / 1e6:.1f} MB; with {count}: {large / 1e6:.1f} MB")
    assert large <= 1.2 * small and large < 48e6
    assert sluice.stop(timeout=60) == 0
    receiver.script()
    began = time.monotonic()
    sluice.start(write=False, timeout=60)
    sluice.inject("a@source.test", f"m{count + 1}@d1.test")
    receiver.wait("seen", warm + 1, timeout=30)
    first = time.monotonic() - began
    assert first <= 2, f"first delivery {first:.2f} s after the start"
    began = time.monotonic()
    sluice.cli("schedule", "*/*", "--no-spread", "--retry-recipients", timeout=900)
    receiver.wait("seen", count + warm + 1, timeout=900)
    took = time.monotonic() - began
    assert receiver.stats()["duplicates"] == 0
    assert sluice.stop(timeout=60) == 0
    postfix = backlog_rate_of_postfix(receiver, 2 * count)
    print(f"first delivery {first:.2f} s after the start; drained at {count / took:.0f}/s, "
          f"Postfix at {postfix:.0f}/s")
    assert count / took >= 3 * postfix


def test_50000_messages_to_one_address_that_refuses_above_20(make_sluice, make_receiver, dns):
    vmtas = {f"v{i}": [f"127.0.0.{20 + i} v{i}.sluice.test"] for i in range(8)}
    receiver = make_receiver(addresses="127.0.1.1", journal=False, ids=200000, digest=False)
    many_domains(dns, 1)
    receiver.script(limits=[{"per": "listen", "max": 20}], rules=[{"stage": "dot", "delay": 10}])
    sluice = make_sluice(smtp_port=receiver.port, vmtas=vmtas, acct=False,
                         ip_connection_limit="127.0.1.0/24 20",
                         domains={"*": {"retry-after": "1s"}}).start()
    done = 0
    # Over all virtual MTAs, with deaths; then everything in one, and then in another.
    for share, extra, kills in ((30000, ["--vmtas", "8"], ("v2", "v5", "v7")),
                                (10000, ["--vmtas", "1"], ()), (10000, [], ("v0",))):
        if not extra:
            sluice.source["default-virtual-mta"] = "v6"
            sluice.reload()
        feeder = subprocess.Popen(
            [tool("source"), "--to", f"{sluice.ip}:{sluice.port}", "--messages", str(share),
             "--domains", "50", "--connections", "50", "--first-id", str(done), "--retry", "60",
             *extra], stdout=subprocess.DEVNULL)
        receiver.wait("seen", done + share // 10, timeout=60)
        receiver.mark()
        for vmta in kills:
            old = sluice.kill("worker", vmta)
            sluice.wait_respawn("worker", old, vmta)
        receiver.wait("seen", done + share * 9 // 10, timeout=300)
        use = receiver.stats()["listen"]["127.0.1.1"]
        assert feeder.wait(300) == 0
        done += share
        receiver.wait("seen", done, timeout=300)
        print(f"mean use {use['mean']:.2f}, peak {use['peak']}")
        assert receiver.stats()["refused"] == 0
        assert use["peak"] <= 20 and use["mean"] >= 19


def test_10000_idle_feeders(make_sluice):
    sluice = make_sluice(total_max_smtp_in="11000").start()
    before = sum(memory_of(p["pid"]) for p in sluice.processes())
    helper = subprocess.Popen(
        ["/usr/bin/python3", "-c", """
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
held = []
for i in range(10000):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10, (f"127.0.3.{i % 200 + 1}", 0))
    assert s.recv(200).startswith(b"220"), i
    s.sendall(b"EHLO x\\r\\n")
    assert s.recv(2000).startswith(b"250"), i
    held.append(s)
print("connected", flush=True)
sys.stdin.read()
""", str(sluice.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert helper.stdout.readline() == "connected\n"
        total = sum(memory_of(p["pid"]) for p in sluice.processes())
        print(f"10,000 idle feeders: {total / 1e6:.1f} MB in all, {before / 1e6:.1f} MB without")
        assert total < 150e6
        with Dialogue(sluice.ip, sluice.port) as talk:
            assert talk.greet()[0].startswith("220")
    finally:
        helper.stdin.close()
        helper.wait(30)
