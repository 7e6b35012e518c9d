"""Mail that cannot go must not hold up mail that can: dead domains, and bulk before urgent mail."""
import contextlib
import json
import os
import resource
import socket
import subprocess
import time

import pytest

from peers import free_port, tool, wait_until
from unbound import Unbound

TORTURE = bool(os.environ.get("SLUICE_TORTURE"))
pytestmark = pytest.mark.limit(1800 if TORTURE else 120)


def address(network, number):
    return f"127.{network}.{number >> 8}.{number & 255}"


def feed(sluice, messages, domain, domains, first_id=0, sender="a@source.test"):
    """Returns how long it took until the last 250."""
    began = time.monotonic()
    done = subprocess.run(
        [tool("source"), "--to", f"{sluice.ip}:{sluice.port}", "--messages", str(messages),
         "--domain", domain, "--domains", str(domains), "--first-id", str(first_id), "--size",
         "2000", "--connections", "20", "--from", sender],
        capture_output=True, text=True, timeout=900, check=False)
    assert json.loads(done.stdout)["accepted"] == messages, done.stderr
    return time.monotonic() - began


# --- dead domains ---

DEAD = 10000 if TORTURE else 400
LIVING = 1000 if TORTURE else 40
EACH = 150 if TORTURE else 60
# The default total cap, or a small one that so few domains fill, too.
CAP = 1200 if TORTURE else 40
REPLY_TAKES = 200 if TORTURE else 50    # ms for each message: places are what is short


@contextlib.contextmanager
def silent_hosts(numbers, port):
    """Addresses where a SYN gets no answer: a socket that listens, with its queue full."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.ExitStack() as stack:
        for number in numbers:
            listener = stack.enter_context(socket.socket())
            listener.bind((address(2, number), port))
            listener.listen(0)
            stack.enter_context(socket.create_connection((address(2, number), port), 5))
        with socket.socket() as one_more:
            one_more.settimeout(0.2)
            with pytest.raises(TimeoutError):
                one_more.connect((address(2, numbers[0]), port))
        yield


def dead_and_living(folder):
    """dead0.test, dead1.test …: by turns unknown, without an answer, refusing, silent."""
    records, zones = [], {}

    def has_host(domain, network, number):
        records.append(f"{domain}. 3600 IN MX 10 mx.{domain}.")
        records.append(f"mx.{domain}. 3600 IN A {address(network, 256 + number)}")

    for number in range(LIVING):
        has_host(f"living{number}.test", 1, number)
    for number in range(DEAD):
        domain, kind = f"dead{number}.test", number % 4
        if kind == 1:
            zones[f"{domain}."] = ("refuse", "deny")[number // 4 % 2]
        elif kind > 1:
            has_host(domain, (3, 2)[kind - 2], number)
    return Unbound(folder, "127.0.0.57", records, zones, port=free_port("127.0.0.57"))


def rate_of_living(make_sluice, receiver, resolver, with_dead):
    """Messages a second, from the first one in until the last one out, in a new daemon."""
    sluice = make_sluice(smtp_port=receiver.port, dns=resolver, source={"suppress-local-dsn": "yes"},
                         **({} if TORTURE else {"total_max_smtp_out": str(CAP)})).start()
    if with_dead:
        feed(sluice, 3 * DEAD, "dead%d.test", DEAD)
    before = receiver.stats()["messages"]
    began = time.monotonic()
    fed = feed(sluice, EACH * LIVING, "living%d.test", LIVING)
    receiver.wait("messages", before + EACH * LIVING, timeout=600)
    took = time.monotonic() - began
    stats = receiver.stats()
    print(f"{'beside dead domains' if with_dead else 'alone'}: {EACH * LIVING / took:.0f}/s, "
          f"{took:.1f} s, fed in {fed:.1f} s, peak {stats['all']['*']['peak']}, "
          f"load {os.getloadavg()[0]:.1f}")
    if with_dead:
        assert len(sluice.records("tq")) >= DEAD / 10, "dead domains were tried meanwhile"
    assert stats["refused"] == 0 and stats["duplicates"] == 0
    sluice.wait_queued(3 * DEAD if with_dead else 0)
    assert sluice.stop() == 0
    return EACH * LIVING / took


def test_dead_domains_do_not_slow_living_ones(make_sluice, make_receiver, tmp_path):
    receiver = make_receiver(addresses=f"{address(1, 256)}-{address(1, 255 + LIVING)}",
                             journal=False, digest=False)
    receiver.script(limits=[{"per": "all", "max": CAP}, {"per": "listen", "max": 20}],
                    rules=[{"stage": "dot", "delay": REPLY_TAKES}])
    with (dead_and_living(tmp_path / "unbound") as resolver,
          silent_hosts(range(256 + 3, 256 + DEAD, 4), receiver.port)):
        alone = rate_of_living(make_sluice, receiver, resolver, False)
        beside = rate_of_living(make_sluice, receiver, resolver, True)
    assert beside >= alone * (0.9 if TORTURE else 0.5), f"{alone:.0f}/s, {beside:.0f}/s"


# --- urgent mail ---

BULK = int(os.environ.get("E2E_QUEUED", "1000000" if TORTURE else "4000"))
URGENT = 100 if TORTURE else 20
RATE = 10


def test_urgent_mail_passes_a_full_queue(make_sluice, receiver, dns):
    dns.domain("slow.test", "127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port, acct=False, domains={
        "slow.test": {"max-msg-rate": f"{RATE}/s", "smtp-hosts": "mx0.slow.test"},
        "urgent.test": {"queue-to": "slow.test", "recipient-priority": "100"}}).start()
    feed(sluice, BULK, "slow.test", 1)

    def delivered(domain, since=0.0):
        return [e["t"] for e in receiver.journal("dot") for r in e["rcpts"]
                if r.endswith("@" + domain) and e["t"] >= since]

    wait_until(lambda: delivered("slow.test"), 30, "bulk to move")
    began = time.time()
    feed(sluice, URGENT, "urgent.test", 1, first_id=BULK)
    limit = 0.3 * URGENT
    wait_until(lambda: len(delivered("urgent.test")) == URGENT, limit + 10, "urgent mail")
    took = max(delivered("urgent.test")) - began
    bulk = len(delivered("slow.test", began))
    queues = sluice.rows("show", "queues")
    print(f"{URGENT} urgent messages before {sluice.queued()} of bulk: the last after {took:.1f} s, "
          f"meanwhile {bulk} of bulk; load {os.getloadavg()[0]:.1f}")
    assert [q["queue"] for q in queues] == ["slow.test/a"], "one queue"
    assert took <= limit
    assert bulk >= URGENT / 4, "bulk still moves"
    assert len(delivered("slow.test") + delivered("urgent.test")) <= RATE * (took + 60)
