"""Warm-ups: new addresses have a number of recipients for each site and day."""
import time

import pytest

from peers import wait_until


@pytest.fixture
def noon():
    """A time zone in which the day does not end while a test runs."""
    return {"TZ": f"NOON{time.gmtime().tm_hour - 12:+d}"}


def fill(sluice, count, domain):
    client = sluice.smtp()
    for i in range(count):
        sluice.inject("a@sender.test", f"m{i}@{domain}", client=client)
    client.quit()


def wait_held(sluice, queue, text):
    """Until `show queues` says that the queue waits for that."""
    def said():
        return [r["waiting_for"] for r in sluice.rows("show", "queues") if r["queue"] == queue]
    wait_until(lambda: any(text in s for s in said()), 10, text)


def test_each_address_has_its_number_and_keeps_its_count_over_restarts(make_sluice, receiver, dns, noon):
    dns.domain("one.test", "127.0.1.1")
    dns.domain("two.test", "127.0.1.2")
    sluice = make_sluice(smtp_port=receiver.port, env=noon, vmtas={
        "new": ["127.0.0.11 new1.sluice.test", "127.0.0.12 new2.sluice.test"]}, extra=(
        "[warm-up fresh]\nvirtual-mta = new\nschedule = 3,6\npace = none\n")).start()
    fill(sluice, 10, "one.test")
    receiver.wait("messages", 6)
    wait_held(sluice, "one.test/new",
              "warm-up fresh: day 1, 3 of 3 to one.test from 127.0.0.11, until 00:00")
    fill(sluice, 4, "two.test")  # another site has its own count
    receiver.wait("messages", 10)
    sluice.stop()
    sluice.start()
    fill(sluice, 3, "two.test")
    receiver.wait("messages", 12)
    wait_held(sluice, "two.test/new", "warm-up fresh: day 1, 3 of 3 to two.test")
    assert sluice.queued() == 5
    assert receiver.stats()["messages"] == 12
    assert {s["messages"] for s in receiver.stats()["source"].values()} == {6}


def test_mail_over_the_number_goes_through_another_virtual_mta(make_sluice, receiver, dns, noon):
    dns.domain("one.test", "127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port, env=noon, vmtas={
        "new": ["127.0.0.11 new.sluice.test"], "old": ["127.0.0.12 old.sluice.test"]}, extra=(
        "[warm-up fresh]\nvirtual-mta = new\nschedule = 3\npace = none\noverflow = old\n")).start()
    fill(sluice, 10, "one.test")
    receiver.wait("messages", 10)
    sources = {name: s["messages"] for name, s in receiver.stats()["source"].items()}
    assert sources == {"127.0.0.11": 3, "127.0.0.12": 7}
    sluice.wait_records(10, "d")
    assert sorted(r.vmta for r in sluice.records("d")) == 3 * ["new"] + 7 * ["old"]
