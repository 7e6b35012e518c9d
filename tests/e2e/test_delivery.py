"""Delivery: where mail goes, over which connections, and what odd receivers make of it."""
import collections
import os
import pathlib
import subprocess
import tempfile
import time

import pytest

from peers import free_port, wait_until
from postfix import Postfix

QUICK = {"retry-after": "1s", "retry-after-dns-error": "1s", "bounce-upon-nxdomain": "1s"}


@pytest.fixture
def make(make_sluice, receiver):
    """A started daemon that delivers to the receiver, retrying every second."""
    def start(everywhere=None, **options):
        domains = options.pop("domains", {})
        domains["*"] = dict(QUICK, **(everywhere or {}))
        return make_sluice(smtp_port=receiver.port, domains=domains, **options).start()
    return start


def used(receiver):
    """Listening addresses that took mail: address -> messages"""
    return {ip: t["messages"] for ip, t in receiver.stats()["listen"].items() if t["messages"]}


# MX, addresses, DNS

def test_lowest_preference_first(make, receiver, dns):
    dns.domain("example.test", (20, "127.0.1.2"), (10, "127.0.1.1"), (30, "127.0.1.3"))
    sluice = make()
    for i in range(5):
        sluice.inject("a@sender.test", f"m{i}@example.test")
    receiver.wait("messages", 5)
    assert used(receiver) == {"127.0.1.1": 5}


def test_equal_preferences_share(make, receiver, dns):
    dns.domain("example.test", *[(10, f"127.0.1.{i}") for i in range(1, 5)])
    sluice = make({"max-msg-per-connection": "1"})
    for i in range(40):
        sluice.inject("a@sender.test", f"m{i}@example.test")
    receiver.wait("messages", 40)
    assert len(used(receiver)) == 4


def test_the_next_mx_takes_over(make, receiver, dns):
    dns.domain("example.test", (10, "127.0.1.1"), (20, "127.0.1.2"))
    receiver.unlisten("127.0.1.1")
    sluice = make()
    sluice.inject("a@sender.test", "b@example.test")
    receiver.wait("messages", 1)
    assert used(receiver) == {"127.0.1.2": 1}
    assert sluice.wait_records(1, "d")[0].dsnMta == "mx1.example.test (127.0.1.2)"


def test_the_next_address_of_a_host_takes_over(make, receiver, dns):
    dns.domain("example.test", (10, ["127.0.1.1", "127.0.1.2"]))
    receiver.unlisten("127.0.1.1")
    make().inject("a@sender.test", "b@example.test")
    receiver.wait("messages", 1)


def test_domain_with_only_an_address(make, receiver, dns):
    dns.set("plain.test", A=["127.0.1.4"])
    sluice = make({"bounce-upon-no-mx": "1h"})
    sluice.inject("a@sender.test", "b@plain.test")
    receiver.wait("messages", 1)
    assert sluice.wait_records(1, "d")[0].dsnMta == "plain.test (127.0.1.4)"


def test_no_mx_bounces_at_once_where_told(make, dns):
    dns.set("plain.test", A=["127.0.1.4"])
    sluice = make({"bounce-upon-no-mx": "yes"})
    sluice.inject("a@sender.test", "b@plain.test")
    assert sluice.wait_records(1, "b", "b@plain.test")[0].dsnStatus.startswith("5.")


def test_no_mx_and_nobody_listening_bounces_after_the_time(make, receiver, dns):
    dns.set("plain.test", A=["127.0.1.4"])
    receiver.unlisten("127.0.1.4")
    sluice = make({"bounce-upon-no-mx": "2s"})
    began = time.monotonic()
    sluice.inject("a@sender.test", "b@plain.test")
    sluice.wait_records(1, "b", "b@plain.test")
    assert time.monotonic() - began >= 1.9


def test_null_mx_bounces_at_once(make, dns):
    dns.set("null.test", MX=[(0, ".")], A=["127.0.1.1"])
    sluice = make()
    sluice.inject("a@sender.test", "b@null.test")
    assert sluice.wait_records(1, "b", "b@null.test")[0].dsnStatus.startswith("5.1.10")


def test_nxdomain_bounces_after_a_second_look(make, dns):
    sluice = make()
    began = time.monotonic()
    sluice.inject("a@sender.test", "b@nowhere.test")
    record = sluice.wait_records(1, "b", "b@nowhere.test")[0]
    assert record.dsnStatus.startswith("5.1.2")
    assert time.monotonic() - began >= 0.9
    assert len(dns.queries("nowhere.test", "MX")) >= 2


def test_servfail_never_bounces_and_recovers(make, receiver, dns):
    dns.set("broken.test", rcode="SERVFAIL")
    sluice = make()
    sluice.inject("a@sender.test", "b@broken.test")
    sluice.wait_records(1, "tq")
    assert not sluice.records("b")
    dns.domain("broken.test", "127.0.1.5")
    receiver.wait("messages", 1, timeout=30)


def test_cname_is_followed_and_a_loop_is_not_fatal(make, receiver, dns):
    dns.set("alias.test", CNAME="real.test")
    dns.domain("real.test", "127.0.1.6")
    dns.set("loop.test", CNAME="pool.test")
    dns.set("pool.test", CNAME="loop.test")
    sluice = make()
    sluice.inject("a@sender.test", ["b@alias.test", "b@loop.test"])
    receiver.wait("messages", 1)
    assert receiver.messages("b@alias.test")
    wait_until(lambda: sluice.records("tq,b"), 15, "something about loop.test")
    assert sluice.cli("show", "status")


def test_truncated_answers_come_by_tcp(make, receiver, dns):
    dns.domain("big.test", "127.0.1.7")
    dns.set("big.test", MX=[(10, "mx0.big.test")], tc=True)
    make().inject("a@sender.test", "b@big.test")
    receiver.wait("messages", 1)
    assert dns.queries("big.test", "MX", "tcp")


@pytest.mark.parametrize("trouble", [{"wrong_id": True}, {"garbage": True}, {"wrong_name": True},
                                     {"drop": 1}], ids=lambda t: next(iter(t)))
def test_bad_dns_answers_are_survived(make, receiver, dns, trouble):
    dns.domain("odd.test", "127.0.1.8")
    good = {"MX": [(10, "mx0.odd.test")]}
    dns.set("odd.test", **good, **trouble)
    sluice = make(dns_timeout="500ms")
    sluice.inject("a@sender.test", "b@odd.test")
    if "drop" not in trouble:
        wait_until(lambda: len(dns.queries("odd.test", "MX")) >= 2, 15, "a second question")
        assert receiver.stats()["messages"] == 0
        dns.set("odd.test", **good)
    receiver.wait("messages", 1, timeout=30)


def test_a_dead_resolver_is_passed_over(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port, dns_timeout="500ms",
                         resolver=f"127.0.0.54:{free_port('127.0.0.54')}, {dns.address}").start()
    sluice.inject("a@sender.test", "b@example.test")
    receiver.wait("messages", 1, timeout=30)


def test_slow_and_dead_destinations_do_not_slow_others(make, receiver, dns):
    dns.set("slow.test", delay=3, MX=[(10, "mx0.fine.test")])
    dns.set("dead.test", drop=True)
    dns.domain("silent.test", "127.0.1.10")
    dns.domain("fine.test", "127.0.1.11")
    receiver.script([{"stage": "connect", "listen": "127.0.1.10", "hang": True}])
    sluice = make()
    for name in ("slow", "dead", "silent"):
        for i in range(30):
            sluice.inject("a@sender.test", f"m{i}@{name}.test")
    began = time.monotonic()
    sluice.inject("a@sender.test", "b@fine.test")
    wait_until(lambda: receiver.messages("b@fine.test"), 5, "the living destination")
    assert time.monotonic() - began < 2


# Connections and transactions

def test_connections_are_used_again(make, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    sluice = make({"max-smtp-out": "1"})
    client = sluice.smtp()
    for i in range(50):
        sluice.inject("a@sender.test", f"m{i}@example.test", client=client)
    receiver.wait("messages", 50)
    assert receiver.stats()["connections"] <= 10


def test_messages_per_connection_are_limited(make, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    sluice = make({"max-msg-per-connection": "3"})
    for i in range(10):
        sluice.inject("a@sender.test", f"m{i}@example.test")
    receiver.wait("messages", 10)
    receiver.wait("open", at_most=0)
    assert max(e["messages"] for e in receiver.journal("close")) <= 3


def test_recipients_share_a_transaction(make, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    sluice = make({"max-rcpt-per-message": "10"})
    sluice.inject("a@sender.test", [f"m{i}@example.test" for i in range(25)])
    receiver.wait("rcpts", 25)
    counts = [len(m["rcpts"]) for m in receiver.messages()]
    assert max(counts) <= 10 and len(counts) <= 6
    assert len(sluice.wait_records(25, "d")) == 25


def test_one_bad_recipient_among_good_ones(make, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    receiver.script([{"stage": "rcpt", "local": "bad", "reply": "550 5.1.1 no such user here"},
                     {"stage": "rcpt", "local": "later", "once": "rcpt",
                      "reply": "450 4.2.1 try again"}])
    sluice = make()
    sluice.inject("a@sender.test", [f"{x}@example.test" for x in ("good", "bad", "later")])
    # the notification of the bounce has a record of its own
    wait_until(lambda: {f"{x}@example.test" for x in ("good", "bad", "later")}
               <= set(sluice.final()), 15, "three final records")
    final = sluice.final()
    assert [final[f"{x}@example.test"].type for x in ("good", "bad", "later")] == ["d", "b", "d"]
    assert final["bad@example.test"].dsnDiag == "smtp;550 5.1.1 no such user here"
    transient = sluice.records("t", "later@example.test")
    assert len(transient) == 1 and transient[0].dsnDiag == "smtp;450 4.2.1 try again"


def test_source_address_and_ehlo_name(make, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    sluice = make(vmtas={"a": ["127.0.0.11 a.sluice.test"],
                         "b": ["127.0.0.12 b.sluice.test", "127.0.0.13 c.sluice.test"]},
                  everywhere={"max-msg-per-connection": "1"})
    for i in range(8):
        sluice.inject("a@sender.test", f"m{i}@example.test", vmta="ab"[i % 2])
    receiver.wait("messages", 8)
    pairs = collections.Counter((receiver.connection_of(m)["source"], receiver.ehlo_of(m))
                                for m in receiver.messages())
    assert pairs[("127.0.0.11", "a.sluice.test")] == 4
    assert pairs[("127.0.0.12", "b.sluice.test")] == 2
    assert pairs[("127.0.0.13", "c.sluice.test")] == 2
    for record in sluice.wait_records(8, "d"):
        assert record.dlvSourceIp == {"a": "127.0.0.11"}.get(record.vmta, record.dlvSourceIp)


def test_a_pool_takes_its_members_in_turn(make, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    sluice = make(vmtas={"a": ["127.0.0.11 a.sluice.test"], "b": ["127.0.0.12 b.sluice.test"]},
                  extra="[virtual-mta-pool p]\nvirtual-mta = a\nvirtual-mta = b\n")
    for i in range(10):
        sluice.inject("a@sender.test", f"m{i}@example.test", vmta="p")
    records = sluice.wait_records(10, "d")
    assert collections.Counter(r.vmta for r in records) == {"a": 5, "b": 5}


def test_ipv6_when_there_is_a_source_for_it(make_receiver, make_sluice, dns):
    receiver = make_receiver(addresses=["[::1]", "127.0.1.1"])
    dns.domain("six.test", (10, ["::1"]), (20, "127.0.1.1"))
    sluice = make_sluice(smtp_port=receiver.port, vmtas={
        "a": ["127.0.0.11 a.sluice.test", "::1 six.sluice.test"], "b": ["127.0.0.12"]}).start()
    sluice.inject("a@sender.test", "m1@six.test", vmta="a")
    sluice.inject("a@sender.test", "m2@six.test", vmta="b")
    receiver.wait("messages", 2)
    where = {m["rcpts"][0]: receiver.connection_of(m)["listen"] for m in receiver.messages()}
    assert where == {"m1@six.test": "::1", "m2@six.test": "127.0.1.1"}


def test_smtp_hosts_take_the_place_of_dns(make, receiver, dns):
    sluice = make(domains={"fixed.test": {"smtp-hosts": "[127.0.1.12]"}})
    sluice.inject("a@sender.test", "b@fixed.test")
    receiver.wait("messages", 1)
    assert used(receiver) == {"127.0.1.12": 1}
    assert not dns.queries("fixed.test")


def test_groups_of_smtp_hosts_take_over_in_their_order(make, receiver, dns):
    dns.domain("gateway.test", (10, "127.0.1.1"), (20, "127.0.1.2"))
    dns.set("spare.test", A=["127.0.1.3"])
    dns.domain("last.test", "127.0.1.4")
    sluice = make({"max-msg-per-connection": "1"}, domains={"fixed.test": {
        "smtp-hosts": "lookup-mx:gateway.test; spare.test; lookup-mx:last.test"}})
    for i in range(1, 5):
        sluice.inject("a@sender.test", f"m{i}@fixed.test")
        receiver.wait("messages", i)
        assert used(receiver) == {f"127.0.1.{k}": 1 for k in range(1, i + 1)}
        receiver.unlisten(f"127.0.1.{i}")
    assert not dns.queries("fixed.test")
    assert {r.dsnMta.split()[0] for r in sluice.wait_records(4, "d")} == {
        "mx0.gateway.test", "mx1.gateway.test", "spare.test", "mx0.last.test"}


def test_discard(make, receiver):
    sluice = make(domains={"hole.test": {"type": "discard"}})
    sluice.inject("a@sender.test", "b@hole.test")
    assert sluice.wait_records(1, "d", "b@hole.test")[0].dlvType == "discard"
    assert receiver.stats()["connections"] == 0


# TLS

def test_tls_is_used_where_offered(make, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    receiver.script(features=[{"starttls": True}])
    make().inject("a@sender.test", "b@example.test")
    receiver.wait("messages", 1)
    assert receiver.stats()["handshakes"] == 1


@pytest.mark.parametrize("how", ["garbage", "close"])
def test_a_failed_handshake_goes_on_in_clear(make, receiver, dns, how):
    dns.domain("example.test", "127.0.1.1")
    receiver.script([{"stage": "starttls", "tls": how, "reply": "220 go"}],
                    features=[{"starttls": True}])
    sluice = make({"retry-after": "1h"})
    sluice.inject("a@sender.test", "b@example.test")
    receiver.wait("messages", 1)
    assert receiver.stats()["handshakes"] == 0
    before = len(receiver.journal("reply", stage="starttls"))
    sluice.inject("a@sender.test", "c@example.test")
    receiver.wait("messages", 2)
    assert len(receiver.journal("reply", stage="starttls")) == before     # remembered


def test_refused_starttls_goes_on_in_clear(make, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    receiver.script([{"stage": "starttls", "reply": "454 4.7.0 not now"}],
                    features=[{"starttls": True}])
    make().inject("a@sender.test", "b@example.test")
    receiver.wait("messages", 1)


@pytest.mark.parametrize("features,rules", [
    ([], []), ([{"starttls": True}], [{"stage": "starttls", "tls": "garbage", "reply": "220 go"}])],
    ids=["not offered", "failing"])
def test_required_tls_never_goes_in_clear(make, receiver, dns, features, rules):
    dns.domain("example.test", "127.0.1.1")
    receiver.script(rules, features=features)
    sluice = make(domains={"example.test": {"require-starttls": "yes"}})
    sluice.inject("a@sender.test", "b@example.test")
    wait_until(lambda: sluice.records("t,tq"), 15, "a transient record")
    assert receiver.stats()["mails"] == 0 and not sluice.records("d,b")
    receiver.script(features=[{"starttls": True}])
    receiver.wait("messages", 1, timeout=30)
    assert receiver.stats()["handshakes"] >= 1


def test_bytes_pipelined_before_tls_are_discarded(make, receiver, dns):
    """What comes in clear with the reply to STARTTLS must not be taken as said under TLS."""
    dns.domain("example.test", "127.0.1.1")
    receiver.script([{"stage": "starttls", "raw": "220 go\r\n250-evil\r\n250 PIPELINING\r\n"},
                     {"stage": "ehlo", "nth": 2, "per": "connection",
                      "reply": "250 receiver.test"}], features=[{"starttls": True}])
    sluice = make()
    sluice.inject("a@sender.test", "b@example.test")
    receiver.wait("messages", 1)
    assert sluice.wait_records(1, "d")


# Trouble at each point

STAGES = ["connect", "ehlo", "mail", "rcpt", "data", "dot"]


@pytest.mark.parametrize("stage", STAGES)
def test_421_at_any_point_is_tried_again(make, receiver, dns, stage):
    dns.domain("example.test", "127.0.1.1")
    receiver.script([{"stage": stage, "nth": 1, "close": "after", "reply": "421 4.3.2 busy"}])
    sluice = make()
    sluice.inject("a@sender.test", "b@example.test")
    receiver.wait("messages", 1)
    assert len(sluice.wait_records(1, "d")) == 1
    assert not sluice.records("b")


@pytest.mark.parametrize("how", ["before", "reset"])
@pytest.mark.parametrize("stage", STAGES)
def test_lost_connections_at_any_point(make, receiver, dns, stage, how):
    dns.domain("example.test", "127.0.1.1")
    receiver.script([{"stage": stage, "nth": 1, "close": how}])
    sluice = make()
    sluice.inject("a@sender.test", "b@example.test")
    receiver.wait("messages", 1)
    assert len(sluice.wait_records(1, "d")) == 1
    if stage == "dot":
        assert sluice.records("t,tq"), "a connection lost after the final dot is told of"


@pytest.mark.parametrize("bytes_", [0, 30000])
def test_lost_connection_inside_the_body(make, receiver, dns, bytes_):
    dns.domain("example.test", "127.0.1.1")
    receiver.script([{"stage": "body", "nth": 1, "after-bytes": bytes_, "close": "reset"}])
    sluice = make()
    sluice.inject("a@sender.test", "b@example.test", ("x" * 70 + "\r\n") * 2000)
    receiver.wait("messages", 1)
    assert receiver.messages()[0]["body_size"] == 72 * 2000


@pytest.mark.parametrize("cut", [0, 1, 3, 10])
def test_replies_that_break_off(make, receiver, dns, cut):
    dns.domain("example.test", "127.0.1.1")
    receiver.script([{"stage": "mail", "nth": 1, "cut": cut, "close": "reset"},
                     {"stage": "ehlo", "nth": 1, "cut": cut}])
    sluice = make()
    sluice.inject("a@sender.test", "b@example.test")
    receiver.wait("messages", 1)


@pytest.mark.parametrize("stage", ["connect", "ehlo", "mail", "rcpt", "data", "dot"])
def test_silence_at_any_point_times_out(make, receiver, dns, stage):
    dns.domain("example.test", "127.0.1.1")
    receiver.script([{"stage": stage, "nth": 1, "hang": True}])
    names = ("smtp-greeting-timeout", "smtp-ehlo-timeout", "smtp-mail-timeout",
             "smtp-rcpt-timeout", "smtp-data-timeout", "smtp-data-termination-timeout")
    sluice = make({name: "1s" for name in names})
    sluice.inject("a@sender.test", "b@example.test")
    receiver.wait("messages", 1)


HOSTILE = {
    "no code": {"raw": "hello\r\n"}, "short": {"raw": "25\r\n"}, "binary": {"raw": "\x01\x02\x7f\r\n"},
    "bare LF": {"raw": "250 ok\n"}, "code changes": {"raw": "250-a\r\n550 b\r\n"},
    "no space": {"raw": "250ok\r\n"}, "code 999": {"raw": "999 what\r\n"},
    "code 100": {"raw": "150 wait\r\n"}, "huge": {"repeat": "250-" + "x" * 500, "times": 5000,
                                                  "reply": "250 ok"},
    "long line": {"raw": "250 " + "y" * 100000 + "\r\n"},
    "endless": {"repeat": "250-more", "times": 0, "reply": "250-begin"},
    "too many": {"raw": "250 ok\r\n250 ok\r\n250 ok\r\n"},
    "utf-8": {"raw": "450 4.0.0 gr\u00fc\u00dfe\r\n"},
}


@pytest.mark.parametrize("stage", ["ehlo", "mail", "rcpt"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_replies(make, receiver, dns, name, stage):
    """Whatever a receiver says once: no crash, no loss, one final record in the end."""
    dns.domain("example.test", "127.0.1.1")
    receiver.script([dict(HOSTILE[name], stage=stage, nth=1)])
    sluice = make({"smtp-mail-timeout": "2s", "smtp-rcpt-timeout": "2s",
                   "smtp-ehlo-timeout": "2s"})
    sluice.inject("a@sender.test", "b@example.test")
    wait_until(sluice.final, 20, "a final record")
    worker = sluice.pid("worker", "a")
    sluice.inject("a@sender.test", "after@example.test")
    wait_until(lambda: receiver.messages("after@example.test"), 10, "the next message")
    assert sluice.pid("worker", "a") == worker


@pytest.mark.parametrize("stage,reply,status", [
    ("mail", "550 5.7.1 sender refused", "5.7.1"), ("rcpt", "551 user not local", "5."),
    ("data", "554 5.6.0 no", "5.6.0"), ("dot", "554 5.7.1 spam", "5.7.1"),
    ("dot", "552-5.3.4 first line\n552 5.3.4 too big", "5.3.4")])
def test_permanent_refusals_bounce(make, receiver, dns, stage, reply, status):
    dns.domain("example.test", "127.0.1.1")
    receiver.script([{"stage": stage, "domain": "example.test" if stage != "mail" else "*",
                      "from": "a@sender.test", "reply": reply}])
    sluice = make()
    sluice.inject("a@sender.test", "b@example.test")
    record = sluice.wait_records(1, "b", "b@example.test")[0]
    assert record.dsnStatus.startswith(status)
    assert record.dsnDiag.startswith("smtp;" + reply[:3]) and "\n" not in record.dsnDiag
    assert record.dsnAction == "failed"


def test_receivers_without_extensions(make, receiver, dns):
    dns.domain("old.test", "127.0.1.2")
    dns.domain("older.test", "127.0.1.3")
    plain = {"pipelining": False, "8bitmime": False, "smtputf8": False,
             "enhancedstatuscodes": False}
    receiver.script(features=[dict(plain, listen="127.0.1.2"),
                              dict(plain, listen="127.0.1.3", ehlo=False)])
    sluice = make()
    sluice.inject("a@sender.test", ["b@old.test", "b@older.test"])
    receiver.wait("messages", 2)
    assert receiver.journal("ehlo", proto="HELO")
    assert all(e["args"] == "" for e in receiver.journal("mail"))


def test_smtputf8_needs_a_receiver_that_has_it(make, receiver, dns):
    dns.domain("old.test", "127.0.1.2")
    receiver.script(features=[{"listen": "127.0.1.2", "smtputf8": False}])
    sluice = make()
    with sluice.dialogue() as talk:
        talk.greet()
        talk("MAIL FROM:<a@sender.test> SMTPUTF8")
        talk("RCPT TO:<ünal@old.test>".encode() + b"\r\n")
        talk("DATA")
        assert talk(b"Subject: x\r\n\r\nx\r\n.\r\n").startswith("250")
    record = sluice.wait_records(1, "b")[0]
    assert record.dsnStatus.startswith("5.6.7")


def test_size_is_declared_and_respected(make, receiver, dns):
    dns.domain("small.test", "127.0.1.2")
    receiver.script(features=[{"listen": "127.0.1.2", "size": 3000}])
    sluice = make()
    sluice.inject("a@sender.test", "ok@small.test", "x\r\n")
    receiver.wait("messages", 1)
    assert "SIZE=" in receiver.journal("mail")[0]["args"]
    sluice.inject("a@sender.test", "big@small.test", ("x" * 70 + "\r\n") * 100)
    assert sluice.wait_records(1, "b", "big@small.test")[0].dsnStatus.startswith("5.3.4")
    assert receiver.stats()["messages"] == 1 or not receiver.messages("big@small.test")


def test_retries_follow_the_list(make, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    receiver.script([{"stage": "rcpt", "first": 4, "reply": "450 4.2.1 later"}])
    sluice = make({"retry-after": "1s,2s,1s"})
    sluice.inject("a@sender.test", "b@example.test")
    receiver.wait("messages", 1, timeout=20)
    times = [e["t"] for e in receiver.journal("rcpt", rcpt="b@example.test")]
    gaps = [b - a for a, b in zip(times, times[1:])]
    for gap, wanted in zip(gaps, (1, 2, 1, 1)):
        assert wanted - 0.1 <= gap <= wanted + 1.5, gaps
    assert len(sluice.records("t")) == 4


def test_mail_expires(make, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    receiver.script([{"stage": "rcpt", "domain": "example.test", "reply": "450 4.2.1 later"}])
    sluice = make({"bounce-after": "3s"})
    began = time.monotonic()
    sluice.inject("a@sender.test", "b@example.test")
    record = sluice.wait_records(1, "b", "b@example.test")[0]
    assert time.monotonic() - began >= 2.9
    assert "450 4.2.1 later" in record.dsnDiag
    assert not receiver.messages("b@example.test")


# Real peers

@pytest.mark.skipif(bool(Postfix.why_not()), reason=str(Postfix.why_not()))
def test_a_real_postfix_receives(make_sluice, dns):
    with tempfile.TemporaryDirectory(prefix="sluice-postfix-") as folder:
        pathlib.Path(folder).chmod(0o755)
        postfix = Postfix(folder, free_port("127.0.2.1"), ip="127.0.2.1",
                          mydestination="example.test", local_transport="discard:",
                          local_recipient_maps="", smtpd_recipient_restrictions=
                          "check_recipient_access inline:{bad@example.test=REJECT}, "
                          "permit_auth_destination, reject").start()
        try:
            dns.domain("example.test", "127.0.2.1")
            sluice = make_sluice(smtp_port=postfix.port).start()
            client = sluice.smtp()
            for i in range(100):
                sluice.inject("a@sender.test", f"m{i}@example.test", client=client)
            sluice.inject("a@sender.test", "bad@example.test")
            wait_until(lambda: len(sluice.final()) == 101, 30, "101 final records")
            final = sluice.final()
            assert final["bad@example.test"].type == "b"
            assert sum(r.type == "d" for r in final.values()) == 100
            wait_until(lambda: postfix.log_text().count("relay=none") >= 100
                       or postfix.log_text().count("status=sent") >= 100, 10, "Postfix's log")
        finally:
            postfix.stop()


def test_smtp_sink_receives(make_sluice, dns):
    port = free_port("127.0.2.2")
    sink = subprocess.Popen(["smtp-sink", "-u", "nobody", f"127.0.2.2:{port}", "100"]
                            if os.geteuid() == 0
                            else ["smtp-sink", f"127.0.2.2:{port}", "100"])
    try:
        dns.domain("example.test", "127.0.2.2")
        sluice = make_sluice(smtp_port=port, domains={"*": {"retry-after": "1s"}}).start()
        client = sluice.smtp()
        for i in range(200):
            sluice.inject("a@sender.test", f"m{i}@example.test", client=client)
        assert len(sluice.wait_records(200, "d", timeout=30)) == 200
    finally:
        sink.terminate()
        sink.wait(10)
