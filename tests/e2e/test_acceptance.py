"""The long runs: figures that the product promises. `make torture`, or SLUICE_TORTURE=1; one has a short form."""
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
from unbound import Unbound, mail_domains

TORTURE = bool(os.environ.get("SLUICE_TORTURE"))
pytestmark = pytest.mark.limit(1800)
long = pytest.mark.skipif(not TORTURE, reason="long; SLUICE_TORTURE=1 (make torture) runs it")


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


@long
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


def backlog_rate_of_postfix(receiver, first_id, count=30000):
    """Deferred messages per second that a tuned Postfix delivers after a restart and a flush."""
    seen = receiver.stats()["seen"]
    with tempfile.TemporaryDirectory(prefix="sluice-postfix-") as folder:
        pathlib.Path(folder).chmod(0o755)
        dns = Unbound(folder, "127.0.0.56", mail_domains(100))
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
            dns.stop()


@long
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


@long
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


@long
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


def addresses_of(vmta):
    """Two for each: v0 from .20, v1 to v3 from .22, v8 (which comes later) .28, v4 to v7 from .30."""
    number = {8: 28}.get(vmta, 20 + 2 * vmta if vmta < 4 else 22 + 2 * vmta)
    return [f"127.0.0.{number}", f"127.0.0.{number + 1}"]


def vmta_section(vmta):
    section = {"smtp-source-host": [f"{ip} v{vmta}.sluice.test" for ip in addresses_of(vmta)]}
    return dict(section, **{"max-smtp-out": "6"}) if vmta == 0 else section


def all_kinds_of_domains(dns):
    """d0.test, d1.test …: by turns of a provider, of hosts with a cap, of two addresses, of their own."""
    def hosts(match):
        kind, number = int(match[1]) % 5, int(match[1]) // 5
        names = {0: [f"mx{number % 3}.google.test"], 1: ["mx1.ms.test", "mx2.ms.test"],
                 2: [f"a{number}.ip.test"], 3: [f"a{number}.pair.test"],
                 4: [f"own{number}.test"]}[kind]
        return {"ttl": 3600, "MX": [(10, name) for name in names]}

    dns.keep_log = False
    dns.generate(r"d(\d+)\.test", hosts)
    for pattern, address in ((r"mx([0-2])\.google\.test", lambda n: 1 + n % 2),
                             (r"mx([12])\.ms\.test", lambda n: 2 + n),
                             (r"a(\d+)\.ip\.test", lambda n: 5),
                             (r"a(\d+)\.pair\.test", lambda n: 6),
                             (r"own(\d+)\.test", lambda n: 10 + n)):
        dns.generate(pattern, lambda m, address=address: {
            "ttl": 3600, "A": [f"127.0.1.{address(int(m[1]))}"]})


def what_receivers_allow():
    sources = [ip for vmta in range(9) for ip in addresses_of(vmta)]
    return [{"per": "all", "max": 40},
            {"together": True, "source": "127.0.0.2[01]", "max": 6},
            {"together": True, "source": "127.0.0.2[2-9]", "max": 12},
            {"together": True, "listen": "127.0.1.[12]", "max": 10},
            {"per": "pair", "listen": "127.0.1.[34]", "max": 2},
            {"per": "listen", "listen": "127.0.1.5", "max": 8},
            {"per": "listen", "listen": "127.0.1.6", "max": 15},
            {"per": "pair", "listen": "127.0.1.6", "max": 3},
            {"per": "pair", "listen": "127.0.1.1?", "max": 1}] + [
                {"together": True, "listen": "127.0.1.[12]", "source": ip, "max": 2}
                for ip in sources]


def test_all_caps_at_once(make_sluice, make_receiver, dns):
    """Total, virtual MTA, pool, provider, its sources, addresses, pairs, hosts, sources of a queue:
    with deaths, with a virtual MTA and a pool member that a reload adds. Nobody is turned away."""
    count = int(os.environ.get("E2E_MESSAGES", "100000" if TORTURE else "4000"))
    receiver = make_receiver(addresses="127.0.1.1-127.0.1.19", journal=False, ids=2 * count,
                             digest=False)
    all_kinds_of_domains(dns)
    receiver.script(limits=what_receivers_allow(), rules=[{"stage": "dot", "delay": 10}])
    pool = "[virtual-mta-pool p]\nvirtual-mta = {}\npool-max-smtp-out = 12\n"
    provider = ("[provider google]\nmx = *.google.test\nmax-smtp-out = 10\n"
                "source-ip-max-smtp-out = 127/8 2\n")
    sluice = make_sluice(
        smtp_port=receiver.port, vmtas={f"v{i}": vmta_section(i) for i in range(8)}, acct=False,
        total_max_smtp_out="40", mx_connection_limit="*.ms.test 2",
        ip_connection_limit=["127.0.1.5 8", "127.0.1.6 15", "127.0.1.0/24 3 per-source-ip"],
        domains={"*": {"retry-after": "1s"}, "google.rollup": {"smtp-port": str(receiver.port)},
                 ", ".join(f"d{i}.test" for i in range(4, 50, 5)):
                 {"source-ip-max-smtp-out": "127/8 1"}},
        extra=provider + pool.format("v1, v2, v3")).start()
    refused = done = 0
    for share, kills in ((count * 7 // 10, ("v2", "v5", "v0")), (count * 3 // 10, ("v8",))):
        if done:
            sluice.vmtas["v8"] = vmta_section(8)
            sluice.source["default-virtual-mta"] = "v8"
            sluice.extra = provider + pool.format("v1, v2, v3, v8")
            sluice.reload()
        feeders = [subprocess.Popen(
            [tool("source"), "--to", f"{sluice.ip}:{sluice.port}", "--messages", str(part),
             "--domains", "50", "--connections", "20", "--first-id", str(first), "--retry", "60",
             *extra], stdout=subprocess.DEVNULL) for part, first, extra in (
                 (share * 3 // 4, done, ("--vmtas", "8")),
                 (share // 4, done + share * 3 // 4, ()))]
        receiver.wait("seen", done + share // 10, timeout=120)
        receiver.mark()
        for vmta in kills:
            old = sluice.kill("worker", vmta)
            sluice.wait_respawn("worker", old, vmta)
        receiver.wait("seen", done + share // 2, timeout=600)
        use = receiver.stats()["all"]["*"]
        assert [feeder.wait(600) for feeder in feeders] == [0, 0]
        done += share * 3 // 4 + share // 4
        receiver.wait("seen", done, timeout=600)
        refused += receiver.stats()["refused"]
        print(f"mean use {use['mean']:.2f} of 40, peak {use['peak']}; {refused} refused")
        assert refused == 0
        assert use["peak"] <= 40 and (use["mean"] >= 36 or not TORTURE)
    wait_until(lambda: not [r for r in sluice.rows("show", "limits") if r["in_use"]], 20,
               "all places to be given back")
