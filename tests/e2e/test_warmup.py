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


def test_operators_see_warm_ups_and_set_their_day(make_sluice, receiver, dns, noon):
    dns.domain("one.test", "127.0.1.1")
    dns.domain("two.test", "127.0.1.2")
    dns.domain("spam.test", "127.0.1.3")
    sluice = make_sluice(smtp_port=receiver.port, env=noon, vmtas={
        "new": ["127.0.0.11 new1.sluice.test", "127.0.0.12 new2.sluice.test"]}, extra=(
        "[warm-up fresh]\nvirtual-mta = new\nschedule = 2,5,9\npace = none\n")).start()
    idle, _ = sluice.rows("show", "warmup")
    assert {k: idle[k] for k in ("ip", "site", "warm_up", "vmta", "day", "number", "used", "left")} == {
        "ip": "127.0.0.11", "site": "", "warm_up": "fresh", "vmta": "new", "day": 1, "number": 2,
        "used": 0, "left": 2}
    receiver.script(rules=[{"stage": "rcpt", "domain": "spam.test",
                            "reply": "550 5.7.1 this is spam"}])
    sluice.inject("", "m@spam.test")
    sluice.wait_records(1, "b")
    fill(sluice, 8, "one.test")
    sluice.wait_queued(4)

    def rows(site="one.test"):
        return {r["ip"]: r for r in sluice.rows("show", "warmup") if r["site"] == site}

    wait_until(lambda: sum(r["attempted"] for r in rows().values()) == 4)
    assert [r["used"] for r in rows().values()] == [2, 2]
    spam, = rows("spam.test").values()
    assert (spam["attempted"], spam["policy"], spam["used"]) == (1, 1, 1)
    refused = sluice.run("set", "warmup", "127.0.0.11", "--day", "4")
    assert refused.returncode == 1 and "its schedule has 3 days" in refused.stderr
    refused = sluice.run("set", "warmup", "127.0.0.99", "--pause")
    assert refused.returncode == 1 and "no warm-up holds for 127.0.0.99" in refused.stderr
    said = sluice.run("set", "warmup", "127.0.0.11", "--day", "2", "--pause").stdout
    assert "goes on with day 2" in said and "paused" in said
    receiver.wait("messages", 7)  # three more from that address: of 5, two are tried already
    sluice.wait_queued(1)
    row = rows()["127.0.0.11"]
    assert (row["day"], row["number"], row["used"], row["paused"]) == (2, 5, 5, True)
    assert row["why"] == "set by an operator"
    sluice.stop()
    sluice.start()
    assert rows()["127.0.0.11"] == row
    fill(sluice, 20, "two.test")  # also holds for sites that had no mail before
    receiver.wait("messages", 7 + 5 + 2)
    assert rows("two.test")["127.0.0.11"]["number"] == 5
    said = sluice.run("set", "warmup", "127.0.0.11", "--resume").stdout
    assert "the next days follow the schedule" in said
    assert not rows()["127.0.0.11"]["paused"]
    table = sluice.run("show", "warmup").stdout
    assert "NUMBER" in table and "two.test" in table


def test_domains_of_a_provider_share_the_number(make_sluice, receiver, dns, noon):
    for i in (1, 2):
        dns.set(f"d{i}.test", MX=[(10, "in.big.test")])
    dns.set("in.big.test", A=["127.0.1.1"])
    dns.domain("other.test", "127.0.1.2")
    sluice = make_sluice(smtp_port=receiver.port, env=noon, vmtas={
        "new": ["127.0.0.11 new.sluice.test"]}, extra=(
        "[provider big]\nmx = *.big.test\n"
        "[warm-up big]\nvirtual-mta = new\nprovider = big\nschedule = 5\npace = none\n"
        "[warm-up rest]\nvirtual-mta = new\nschedule = 2\npace = none\n")).start()
    for name in ("d1", "d2", "other"):
        fill(sluice, 4, f"{name}.test")
    sluice.wait_queued(5)
    left = [r["queue"] for r in sluice.rows("show", "queues", "d?.test/new")]
    for queue in left:  # one of them may have got rid of all its mail
        wait_held(sluice, queue, "warm-up big: day 1, 5 of 5 to big from 127.0.0.11")
    assert left
    wait_held(sluice, "other.test/new", "warm-up rest: day 1, 2 of 2 to other.test")
    used = {r["site"]: r["used"] for r in sluice.rows("show", "warmup") if r["used"]}
    assert used == {"big.rollup": 5, "other.test": 2}
    assert receiver.stats()["messages"] == 7
