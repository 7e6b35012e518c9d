"""Rates: no window at the receiver ever holds more, over virtual MTAs, restarts and crashes."""
import re
import time
from collections import Counter

from peers import wait_until

VMTAS = {f"v{i}": [f"127.0.0.{20 + i} v{i}.sluice.test"] for i in range(4)}


def fill(sluice, count, domain, vmtas):
    client = sluice.smtp()
    for i in range(count):
        sluice.inject("a@sender.test", f"m{i}@{domain}", vmta=vmtas[i % len(vmtas)], client=client)
    client.quit()


def fullest(times, length):
    """The most that any window of this length holds."""
    times, start, most = sorted(times), 0, 0
    for i, t in enumerate(times):
        while t - times[start] >= length:
            start += 1
        most = max(most, i - start + 1)
    return most


def times(receiver, domain):
    return [e["t"] for e in receiver.journal("rcpt") if e["rcpt"].endswith("@" + domain)]


def test_virtual_mtas_share_the_rates_of_a_provider_and_of_a_pool(make_sluice, receiver, dns):
    """A restart and a kill -9 of all processes in between."""
    dns.domain("big.test", "127.0.1.1")
    dns.domain("pool.test", "127.0.1.2")
    sluice = make_sluice(smtp_port=receiver.port, vmtas=VMTAS, extra=(
        "[provider big]\ndomains = big.test\nmax-msg-rate = 48/12s\n"
        "[virtual-mta-pool p]\nvirtual-mta = v2, v3\npool-max-msg-rate = 60/11s\n")).start()
    fill(sluice, 200, "big.test", ["v0", "v1"])
    fill(sluice, 200, "pool.test", ["v2", "v3"])

    def more(count):
        now = len(times(receiver, "big.test"))
        wait_until(lambda: len(times(receiver, "big.test")) >= now + count, 20, "mail to go on")
    more(16)
    assert sluice.stop() == 0
    sluice.start()
    more(16)
    sluice.kill_all()
    sluice.start()
    more(20)
    big, pool = times(receiver, "big.test"), times(receiver, "pool.test")
    assert 40 <= fullest(big, 12) <= 48
    assert 40 <= fullest(pool, 11) <= 60
    sources = {e["c"]: e["source"] for e in receiver.journal("conn")}
    by_source = Counter(sources[e["c"]] for e in receiver.journal("rcpt"))
    assert min(by_source.values()) >= 10, by_source


def test_show_queues_says_what_a_queue_waits_for(make_sluice, receiver, dns):
    dns.domain("slow.test", "127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port,
                         domains={"slow.test": {"max-msg-rate": "2/h"}}).start()
    sluice.inject("a@sender.test", "a@slow.test")

    def text():
        return [r for r in sluice.rows("show", "queues") if "max-msg-rate" in str(r)]
    wait_until(text, 10, "the reason")
    assert re.search(r"max-msg-rate 2/h: until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", str(text()))
    assert receiver.stats()["connections"] == 0, "none that the rate cannot use"
    rate, = sluice.rows("show", "rates")
    assert (rate["of"], rate["name"], rate["counts"], rate["rate"]) == (
        "queue", "slow.test/a", "recipients", "2/h")
    assert 1000 < rate["opens"] / 1000 - time.time() < 2000
    assert re.search(r"in \d+m", sluice.run("show", "rates").stdout)
    sluice.domains["slow.test"]["max-msg-rate"] = "600/m"
    began = time.monotonic()
    sluice.reload()
    receiver.wait("messages", 1, timeout=10)
    assert time.monotonic() - began < 5, "a reload changes the rate at once"
