"""`sluice trace`: one delivery with everything that was said and decided."""
import json
import os
import re
import subprocess
import time

import pytest

from peers import wait_until


def tool_path(sluice):
    return sluice._binary("SLUICE", "sluice")


def trace(sluice, *args, **options):
    """The objects that it prints."""
    out = sluice.run("--json", "trace", *args, timeout=15, **options)
    assert out.returncode == 0, out.stderr
    return [json.loads(line) for line in out.stdout.splitlines()]


def said(rows, kind):
    return [r["text"] for r in rows if r["kind"] == kind]


@pytest.fixture
def waiting(make_sluice, make_receiver, dns):
    """One message waits in d.test/a: its first try was answered with 421 at the greeting."""
    receiver = make_receiver()
    dns.domain("d.test", "127.0.1.1")
    receiver.script([{"stage": "connect", "reply": "421 4.3.2 not now"}])
    sluice = make_sluice(
        smtp_port=receiver.port, total_max_smtp_out="7",
        vmtas={"a": ["127.0.0.11 a.sluice.test", "127.0.0.12 b.sluice.test"]},
        domains={"*": {"retry-after": "1h"}}).start()
    sluice.inject("s@sender.test", "r@d.test", body="Hello\r\n.dot\r\nend\r\n")
    wait_until(lambda: [q for q in sluice.rows("show", "queues") if q["next_retry"]], 10,
               "the retry")
    return sluice, receiver


def test_a_delivery_from_the_look_up_to_the_outcome(waiting):
    sluice, receiver = waiting
    receiver.script(features=[{"starttls": True}])
    rows = trace(sluice, "d.test/a", "--source-ip", "127.0.0.12", "--log-data")
    kinds = [r["kind"] for r in rows]
    order = ["site", "dns", "limits", "connect", "connected", "tls", "message", "outcome", "closed"]
    assert sorted(order, key=kinds.index) == order
    assert any("brought forward" in t for t in said(rows, "site"))
    dns, = [r for r in rows if r["kind"] == "dns"]
    assert dns["hosts"] == [{"preference": 10, "host": "mx0.d.test", "address": "127.0.1.1"}]
    limits, = [r for r in rows if r["kind"] == "limits"]
    assert limits["taken"] and {"kind": "total", "name": "", "cap": 7} in limits["limits"]
    connect, = [r for r in rows if r["kind"] == "connect"]
    assert (connect["address"], connect["source"], connect["helo"]) == (
        "127.0.1.1", "127.0.0.12", "b.sluice.test")
    tls, = [r for r in rows if r["kind"] == "tls"]
    assert tls["protocol"].startswith("TLSv1.")
    sent = said(rows, "sent")
    assert sent[:3] == ["EHLO b.sluice.test", "STARTTLS", "EHLO b.sluice.test"]
    assert [line.split()[0] for line in sent[3:]] == ["MAIL", "RCPT", "DATA", ".", "QUIT"]
    assert said(rows, "received")[0].startswith("220 ") and "354" in str(said(rows, "received"))
    assert said(rows, "data")[-3:] == ["Hello", "..dot", "end"]
    outcome, = [r for r in rows if r["kind"] == "outcome"]
    assert (outcome["rcpt"], outcome["class"], outcome["code"]) == ("r@d.test", "delivered", 250)
    assert receiver.connection_of(receiver.messages("r@d.test")[0])["source"] == "127.0.0.12"


def test_what_goes_wrong_is_told(waiting):
    sluice, receiver = waiting
    rows = trace(sluice, "d.test/a")
    assert said(rows, "received") == ["421 4.3.2 not now"]
    assert said(rows, "failed") == ["421 4.3.2 not now"]
    assert said(rows, "outcome")[0].startswith("the site waits until ")
    assert not said(rows, "data")
    receiver.script([{"stage": "rcpt", "reply": "550 5.1.1 unknown"}])
    rows = trace(sluice, "d.test/a")
    outcome, = [r for r in rows if r["kind"] == "outcome"]
    assert (outcome["rcpt"], outcome["class"], outcome["code"]) == ("r@d.test", "bounced", 550)


def test_the_traced_connection_is_one_of_its_own(make_sluice, receiver, dns):
    """A busy queue goes on over its connections; people get a dialogue, without the message."""
    dns.domain("d.test", "127.0.1.1")
    receiver.script([{"stage": "dot", "delay": 150}])
    sluice = make_sluice(smtp_port=receiver.port, domains={"*": {"max-smtp-out": "2"}}).start()
    client = sluice.smtp()
    for i in range(60):
        sluice.inject("s@sender.test", f"r{i}@d.test", client=client)
    receiver.wait("messages", 4)
    done = sluice.run("trace", "d.test/a")
    assert done.returncode == 0, done.stderr
    lines = [line.split(None, 2) for line in done.stdout.splitlines()]
    assert ["<", "220"] in [[kind, text.split()[0]] for _, kind, text in lines]
    assert any(kind == "|" and "bytes of the message" in text for _, kind, text in lines)
    assert [text.split()[0] for _, kind, text in lines if kind == ">"].count("MAIL") == 1
    receiver.wait("messages", 60, timeout=20)
    assert receiver.stats()["listen"]["127.0.1.1"]["peak"] == 2
    sluice.wait_empty()


def test_what_cannot_be_traced_is_refused(waiting):
    sluice, receiver = waiting
    for args, error in ((("e.test/a",), "there is no such queue"),
                        (("d.test/x",), "no virtual MTA serves that queue"),
                        (("d.test/a", "--source-ip", "127.0.0.99"), "no such smtp-source-host"),
                        (("d.test/a", "--source-ip", "here"), "not an IP address")):
        done = sluice.run("trace", *args)
        assert done.returncode == 1 and error in done.stderr, (args, done.stderr)
    receiver.script([{"stage": "mail", "hang": True}])
    watcher = subprocess.Popen([tool_path(sluice), "-c", str(sluice.conf), "trace", "d.test/a"],
                               stdout=subprocess.PIPE, text=True)
    wait_until(lambda: "MAIL FROM" in watcher.stdout.readline(), 10, "the dialogue", pause=0)
    done = sluice.run("trace", "d.test/a")
    assert done.returncode == 1 and "is being traced already" in done.stderr
    watcher.terminate()     # the operator leaves: the delivery goes on
    watcher.wait(10)
    wait_until(lambda: "being traced" not in sluice.run("trace", "d.test/a", timeout=20).stderr
               if not receiver.script() and not receiver.drop() else False, 30, "the end of a trace")
    receiver.wait("messages", 1)
    sluice.wait_empty()


def test_a_recipient_that_waits_for_its_own_time_is_taken_ahead(waiting):
    sluice, receiver = waiting
    receiver.script([{"stage": "rcpt", "reply": "451 4.7.1 later"}])
    for attempt in range(2):
        rows = trace(sluice, "d.test/a")
        assert [r["class"] for r in rows if r["kind"] == "outcome"] == ["transient"], attempt
    assert any("no message is due" in text for text in said(rows, "site"))
    receiver.script()
    assert [r["class"] for r in trace(sluice, "d.test/a") if r["kind"] == "outcome"] == ["delivered"]
    sluice.wait_empty()
    assert len(sluice.wait_records(1, "d")) == 1


def test_what_holds_it_is_told_and_it_ends_when_nothing_moves(waiting):
    sluice, receiver = waiting
    receiver.script()
    sluice.domains["*"]["max-connect-rate"] = "1/h"     # a clock begins as if it had been used
    sluice.reload()
    began = time.monotonic()
    out = sluice.run("trace", "d.test/a", "--wait", "2s", timeout=15)
    assert out.returncode == 1 and "nothing has moved" in out.stderr
    held, = [line.split(maxsplit=2)[2] for line in out.stdout.splitlines() if " limits " in line]
    assert re.fullmatch(r"max-connect-rate 1/h.*: until \d{4}-\d\d-\d\d .*", held)
    assert 1.9 < time.monotonic() - began < 12
    assert not receiver.messages() and sluice.queued() == 1
    del sluice.domains["*"]["max-connect-rate"]
    sluice.reload()
    wait_until(lambda: receiver.messages("r@d.test"), 10, "the message, without the rate")
