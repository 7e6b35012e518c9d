"""The tools themselves: a receiver that does not misbehave as told would make other tests pass."""
import csv
import hashlib
import json
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
import time
import types

import dns.message
import dns.query
import dns.rcode
import pytest

from peers import ROOT, Dialogue, tool, wait_until
from sluice import Kill, ledger, parse_log_line, read_csv

sys.path.insert(0, str(ROOT / "tests" / "bench"))
import measure  # noqa: E402


def client(receiver, ip="127.0.1.1", source=None):
    return Dialogue(ip, receiver.port, source)


def send(talk, rcpt="b@example.test", body=b"Subject: x\r\n\r\nx\r\n"):
    """The replies to MAIL, RCPT, DATA and the dot, as far as they went well."""
    replies = []
    for line in ("MAIL FROM:<a@sender.test>", f"RCPT TO:<{rcpt}>", "DATA"):
        replies.append(talk(line))
        if replies[-1][:1] not in ("2", "3"):
            return replies
    return replies + [talk(body + b".\r\n")]


# The receiver

def test_a_message_and_its_journal(receiver):
    with client(receiver, "127.0.1.3", "127.0.0.9") as talk:
        talk.greet("me.test")
        assert [r[:3] for r in send(talk, body=b"H: 1\r\n\r\n..dot\r\nx\r\n")] == [
            "250", "250", "354", "250"]
        talk("QUIT")
    message = receiver.messages("b@example.test")[0]
    assert message["from"] == "a@sender.test" and message["size"] == 17
    assert message["body_sha256"] == hashlib.sha256(b".dot\r\nx\r\n").hexdigest()
    assert message["header"] == "H: 1\r\n\r\n"
    assert receiver.stored(message) == b"H: 1\r\n\r\n.dot\r\nx\r\n"
    conn = receiver.connection_of(message)
    assert (conn["listen"], conn["source"]) == ("127.0.1.3", "127.0.0.9")
    assert receiver.ehlo_of(message) == "me.test"


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r\n.\r\r\n"],
                         ids=repr)
def test_the_receiver_takes_no_false_end(receiver, end):
    with client(receiver) as talk:
        talk.greet()
        for line in ("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"):
            talk(line)
        talk.send(b"H: 1\r\n\r\nx" + end + b"more")
        assert talk.silent()
        talk.send(b"\r\n.\r\n")
        assert talk.reply()[0].startswith("250")
    message = receiver.messages()[0]
    assert message["bare_cr"] + message["bare_lf"] >= 1
    assert receiver.stored(message).startswith(b"H: 1\r\n\r\nx")


def test_split_at_every_byte(receiver):
    """The end of the data and the stuffing are found wherever packets break."""
    data = b"H: 1\r\n\r\n..a\r\n.\r.b\r\n...\r\nend\r\n.\r\n"
    wanted = b"H: 1\r\n\r\n.a\r\n\r.b\r\n..\r\nend\r\n"
    with client(receiver) as talk:
        talk.greet()
        for line in ("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"):
            talk(line)
        for i in range(len(data)):
            talk.send(data[i:i + 1])
            time.sleep(0.001)
        assert talk.reply()[0].startswith("250")
    assert receiver.stored(receiver.messages()[0]) == wanted


@pytest.mark.parametrize("stage,replies", [("connect", 0), ("ehlo", 1), ("mail", 2), ("rcpt", 3),
                                           ("data", 4), ("dot", 5)])
@pytest.mark.parametrize("how", ["before", "after", "reset"])
def test_closing_at_each_stage(receiver, stage, replies, how):
    receiver.script([{"stage": stage, "nth": 1, "close": how}
                     | ({"reply": "421 4.0.0 bye"} if how == "after" else {})])
    with client(receiver) as talk:
        got = ["".join(talk.reply())]
        for line in ("EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA", "x\r\n."):
            if got[-1][:1] in ("", "4"):
                break
            try:
                got.append(talk(line))
            except OSError:
                got.append("")
        if how == "after":
            assert got[-1] == "421 4.0.0 bye" and len(got) == replies + 1
            assert talk.at_end()
        else:
            assert got[-1] == "" and len(got) == replies + 1
    with client(receiver) as talk:
        talk.greet()
        assert send(talk)[-1].startswith("250")


def test_rules_count_match_and_share(receiver):
    receiver.script([
        {"stage": "rcpt", "local": "nth", "nth": 2, "reply": "550 second"},
        {"stage": "rcpt", "local": "every", "every": 3, "reply": "550 third"},
        {"stage": "rcpt", "local": "first", "first": 1, "reply": "450 first"},
        {"stage": "rcpt", "local": "once*", "once": "rcpt", "reply": "450 once"},
        {"stage": "rcpt", "domain": "share.test", "percent": [10, 30], "reply": "550 share"},
        {"stage": "rcpt", "from": "evil@*", "reply": "550 from"}])
    with client(receiver) as talk:
        talk.greet()
        talk("MAIL FROM:<a@b.test>")

        def codes(*rcpts):
            return [talk(f"RCPT TO:<{r}>")[:3] for r in rcpts]
        assert codes(*["nth@x.test"] * 3) == ["250", "550", "250"]
        assert codes(*["every@x.test"] * 6) == ["250", "250", "550"] * 2
        assert codes(*["first@x.test"] * 2) == ["450", "250"]
        assert codes("once1@x.test", "once2@x.test", "once1@x.test") == ["450", "450", "250"]
        shared = codes(*[f"m{i}@share.test" for i in range(1000)])
        assert 150 <= shared.count("550") <= 250
        assert shared == codes(*[f"m{i}@share.test" for i in range(1000)])
        talk("RSET")
        talk("MAIL FROM:<evil@b.test>")
        assert codes("x@x.test") == ["550"]


def test_limits_and_what_was_seen_of_them(receiver):
    receiver.script(limits=[{"per": "source", "source": "127.0.0.7", "max": 2},
                            {"per": "listen", "listen": "127.0.1.2", "max": 1, "reset": True},
                            {"event": "connect", "listen": "127.0.1.4", "max": 2, "window": 0.5}])
    held = [client(receiver, source="127.0.0.7") for _ in range(2)]
    assert all(talk.greet()[0].startswith("220") for talk in held)
    with client(receiver, source="127.0.0.7") as third:
        assert third.reply()[0].startswith("421 4.7.0 too many") and third.at_end()
    one = client(receiver, "127.0.1.2")
    one.greet()
    with client(receiver, "127.0.1.2") as two:
        assert two.at_end()
    assert [client(receiver, "127.0.1.4").reply()[0][:3] for _ in range(3)] == ["220", "220", "421"]
    time.sleep(0.6)
    assert client(receiver, "127.0.1.4").reply()[0][:3] == "220"
    stats = receiver.stats()
    assert stats["source"]["127.0.0.7"]["peak"] == 2 and stats["refused"] == 3
    assert stats["source"]["127.0.0.7"]["refused"] == 1
    receiver.mark()
    time.sleep(0.3)
    assert 1.9 <= receiver.stats()["source"]["127.0.0.7"]["mean"] <= 2.01
    for talk in held + [one]:
        talk.close()
    wait_until(lambda: receiver.stats()["source"]["127.0.0.7"]["current"] == 0, 5, "the end")


def test_delays_drips_cuts_and_long_replies(receiver):
    receiver.script([{"stage": "mail", "delay": 300}, {"stage": "rcpt", "drip": 20},
                     {"stage": "rset", "repeat": "250-line", "times": 1000, "reply": "250 end"},
                     {"stage": "other", "cut": 5, "reply": "250 whole"}])
    with client(receiver) as talk:
        talk.greet()
        began = time.monotonic()
        assert talk("MAIL FROM:<a@b.test>").startswith("250")
        assert 0.28 <= time.monotonic() - began < 1
        began = time.monotonic()
        assert talk("RCPT TO:<c@d.test>").startswith("250 2.1.5")
        assert time.monotonic() - began > 0.3
        assert len(talk("RSET").split("\n")) == 1001
        talk.send("NOOP\r\n")
        assert talk.sock.recv(100) == b"250 w" and talk.sock.recv(100) == b""


def test_endless_and_withheld_replies(receiver):
    receiver.script([{"stage": "mail", "repeat": "250-more", "times": 0, "reply": "250-begin"},
                     {"stage": "rset", "hang": True}])
    with client(receiver) as talk:
        talk.greet()
        talk.send("MAIL FROM:<a@b.test>\r\n")
        got = 0
        while got < 1 << 20:
            got += len(talk.sock.recv(65536))
    with client(receiver) as talk:
        talk.greet()
        talk.send("RSET\r\nNOOP\r\n")
        assert talk.silent()
    receiver.wait("open", at_most=0)


def test_tls_good_and_bad(receiver):
    receiver.script(features=[{"starttls": True}])
    with smtplib.SMTP("127.0.1.1", receiver.port) as smtp:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        smtp.starttls(context=context)
        smtp.sendmail("a@b.test", ["c@d.test"], "Subject: x\r\n\r\nover TLS\r\n" + "y\r\n" * 50000)
    assert receiver.journal("tls")[0]["protocol"].startswith("TLSv1.")
    receiver.script([{"stage": "starttls", "reply": "220 go", "tls": "garbage"}],
                    features=[{"starttls": True}])
    with smtplib.SMTP("127.0.1.1", receiver.port) as smtp:
        with pytest.raises((ssl.SSLError, smtplib.SMTPException, OSError)):
            smtp.starttls(context=context)
        smtp.close()


def test_features_are_per_address(receiver):
    receiver.script(features=[{"listen": "127.0.1.2", "pipelining": False, "8bitmime": False,
                               "size": 1000, "dsn": True}, {"listen": "127.0.1.3", "ehlo": False}])
    words = {}
    for ip in ("127.0.1.1", "127.0.1.2", "127.0.1.3"):
        with client(receiver, ip) as talk:
            words[ip] = talk.greet()[1]
    assert "PIPELINING" in words["127.0.1.1"] and "DSN" not in words["127.0.1.1"]
    assert "PIPELINING" not in words["127.0.1.2"] and "SIZE 1000" in words["127.0.1.2"]
    assert words["127.0.1.3"].startswith("502")


def test_trouble_inside_the_body(receiver):
    receiver.script([{"stage": "body", "nth": 1, "after-bytes": 100000, "close": "reset"},
                     {"stage": "body", "nth": 1, "after-bytes": 50, "reply": "421 4.3.0 enough"}])
    for wanted in ("", "421"):
        with client(receiver) as talk:
            talk.greet()
            for line in ("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"):
                talk(line)
            try:
                talk.send(b"x" * 70 + b"\r\n" + b"y" * 300000)
                got = "".join(talk.reply())[:3]
            except OSError:
                got = ""
            assert got in (wanted, "")      # a RST may overtake the reply
    assert len(receiver.journal("abort")) == 2
    with client(receiver) as talk:
        talk.greet()
        assert send(talk)[-1].startswith("250")


def test_hosts_that_die_and_come_back(receiver):
    receiver.unlisten("127.0.1.5")
    with pytest.raises(ConnectionRefusedError):
        client(receiver, "127.0.1.5")
    receiver.listen("127.0.1.5")
    with client(receiver, "127.0.1.5") as talk:
        assert talk.greet()[0].startswith("220")
        receiver.drop(listen="127.0.1.5", reset=True)
        assert talk.at_end()


def test_a_misspelt_rule_is_an_error(receiver):
    for wrong in ({"stage": "rcpt", "replay": "550 x"}, {"stage": "recipient", "reply": "550 x"},
                  {"stage": "rcpt", "close": "yes"}):
        with pytest.raises(ValueError):
            receiver.script([wrong])


def test_open_transactions_show_in_the_journal(receiver):
    with client(receiver) as talk:
        talk.greet()
        talk("MAIL FROM:<a@b.test>")
        began = receiver.journal("mail")[0]
        assert not [e for e in receiver.journal() if e.get("tx") == began["tx"]
                    and e["ev"] in ("dot", "abort")]
    receiver.wait("aborted", 1)
    assert receiver.journal("abort", tx=began["tx"])[0]["why"] == "peer"


# The feeder

def test_the_feeder_against_a_receiver_that_refuses(make_receiver, tmp_path):
    receiver = make_receiver(addresses="127.0.1.1", ids=3000)
    receiver.script([{"stage": "rcpt", "percent": 5, "reply": "550 5.1.1 no"},
                     {"stage": "rcpt", "percent": [5, 10], "once": "rcpt", "reply": "450 4.2.1 no"},
                     {"stage": "dot", "every": 500, "close": "reset"}])
    log = tmp_path / "log"
    done = subprocess.run([tool("source"), "--to", f"127.0.1.1:{receiver.port}", "--messages",
                           "3000", "--size", "mix", "--domains", "7", "--log", str(log),
                           "--retry", "10"], capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    fates = [line.split()[1] for line in log.read_text().splitlines()]
    assert {s: fates.count(s) for s in ("ok", "refused", "unknown")} == {
        "ok": report["accepted"], "refused": report["refused"], "unknown": report["unknown"]}
    assert report["accepted"] + report["refused"] + report["unknown"] == 3000
    assert report["unknown"] > 0 and report["refused"] > 50 and report["sent_again"] > 50
    stats = receiver.stats()
    assert stats["seen"] == report["accepted"] and stats["duplicates"] == 0
    digests = {m["rcpts"][0].split("@")[0]: m["body_sha256"] for m in receiver.messages()}
    for line in log.read_text().splitlines():
        number, status, _, _, digest = line.split()[:5]
        if status == "ok":
            assert digests["m" + number] == digest


# DNS

def ask(server, name, rdtype, tcp=False, timeout=1.0):
    query = dns.message.make_query(name, rdtype)
    function = dns.query.tcp if tcp else dns.query.udp
    return function(query, server.ip, port=server.port, timeout=timeout)


def test_dns_answers_and_trouble():
    from dnsserver import DnsServer
    server = DnsServer("127.0.0.55")
    server.start()
    try:
        server.domain("a.test", "127.0.1.1", (20, ["127.0.1.2", "::1"]))
        answer = ask(server, "a.test", "MX").answer[0]
        assert sorted((r.preference, str(r.exchange)) for r in answer) == [
            (10, "mx0.a.test."), (20, "mx1.a.test.")]
        assert str(ask(server, "mx1.a.test", "AAAA").answer[0][0]) == "::1"
        nodata = ask(server, "mx0.a.test", "AAAA")
        assert not nodata.answer and nodata.authority and nodata.rcode() == dns.rcode.NOERROR
        assert ask(server, "none.test", "A").rcode() == dns.rcode.NXDOMAIN
        server.set("sf.test", rcode="SERVFAIL")
        assert ask(server, "sf.test", "MX").rcode() == dns.rcode.SERVFAIL
        server.set("tc.test", tc=True, A="127.0.1.9")
        assert not ask(server, "tc.test", "A").answer
        assert ask(server, "tc.test", "A", tcp=True).answer
        server.set("drop.test", drop=1, A="127.0.1.9")
        with pytest.raises(dns.exception.Timeout):
            ask(server, "drop.test", "A", timeout=0.2)
        assert ask(server, "drop.test", "A").answer
        server.set("id.test", wrong_id=True, A="127.0.1.9")
        with pytest.raises(dns.query.BadResponse):
            ask(server, "id.test", "A")
        server.set("only.test", rcode="SERVFAIL", only=["AAAA"], A="127.0.1.9")
        assert ask(server, "only.test", "A").answer
        assert ask(server, "only.test", "AAAA").rcode() == dns.rcode.SERVFAIL
        assert len(server.queries("tc.test", "A", "tcp")) == 1
        with pytest.raises(ValueError):
            server.set("x.test", delays=1)
    finally:
        server.stop()


# The judges

def record(type_, rcpt):
    return types.SimpleNamespace(type=type_, rcpt=rcpt)


def delivery(tx, start, end, *rcpts):
    return [{"ev": "mail", "tx": tx, "c": 1, "t": start},
            {"ev": "dot", "tx": tx, "t": end, "rcpts": list(rcpts), "reply": "250 ok"}]


def test_the_ledger_sees_what_is_wrong():
    once = delivery(1, 1.0, 1.1, "a", "b")
    good = [record("d", "a"), record("d", "b"), record("b", "c")]
    assert all(not x for x in ledger("abc", good, once))
    assert ledger("abc", good, once, kills=[(1.05, 1.06)]).open == 1
    assert ledger("abcd", good, once).lost == ["d"]
    assert ledger("abc", good + [record("b", "a")], once).doubled == ["a"]
    assert ledger("abc", good, delivery(1, 1, 1.1, "a")).lost == ["b"]
    assert ledger("ab", good, once).unexpected == ["c"]
    twice = once + delivery(2, 50.0, 50.1, "a")
    assert ledger("abc", good, twice, kills=[(1.05, 1.06)]).excess == []
    assert ledger("abc", good, twice, kills=[(40.0, 40.1)]).excess == ["a"]
    assert ledger("abc", good, twice).duplicates == ["a"]
    twice = [{"ev": "conn", "c": 1, "source": "127.0.0.9"}] + twice
    assert ledger("abc", good, twice, kills=[Kill(1.05, 1.06, {"127.0.0.9"})]).excess == []
    assert ledger("abc", good, twice, kills=[Kill(1.05, 1.06, {"127.0.0.8"})]).excess == ["a"]
    assert ledger("abc", good, twice, kills=[Kill(1.05, 1.06, set())]).excess == ["a"]


def test_csv_is_read_strictly():
    good = b'type,a,b\r\nd,"x ""y"", z",\r\n'
    assert vars(read_csv(good)[0]) == {"type": "d", "a": 'x "y", z', "b": ""}
    for bad in (b"type,a\r\nd\r\n", b"a,type\r\n1,d\r\n", b'type,a\r\nd,"x"y\r\n', good[:-2],
                b"type,a,a\r\nd,1,2\r\n"):
        with pytest.raises((AssertionError, csv.Error)):
            read_csv(bad)
    assert len(read_csv(good + b"d,half", whole=False)) == 1


def test_log_lines_are_parsed():
    line = 'time=2026-11-22T01:00:00Z level=info role=master msg="ready" config="/a b/c" n=3'
    fields = parse_log_line(line)
    assert fields["msg"] == "ready" and fields["config"] == "/a b/c" and fields["n"] == "3"


TRACE_GOOD = """\
100 1.000000 openat(AT_FDCWD, "/s/data.mdb", O_RDWR|O_DSYNC) = 9</s/data.mdb> <0.000010>
100 2.000000 read(5<socket:[77]>, "x\\r\\n.\\r\\n", 4096) = 6 <0.000010>
101 2.100000 fdatasync(8</s/data.mdb>) = 0 <0.050000>
101 2.200000 pwrite64(9</s/data.mdb>, "m", 1, 0) = 1 <0.010000>
100 2.300000 writev(5<socket:[77]>, [{iov_base="250 2.6.0 accepted\\r\\n", iov_len=20}], 1) = 20 <0.000010>
"""


def test_the_trace_shows_a_250_before_its_sync(tmp_path):
    lines = TRACE_GOOD.splitlines(keepends=True)
    cases = {"good": (lines, 0), "no meta page": (lines[:3] + lines[4:], None),
             "reply first": (lines[:2] + [lines[4].replace("2.300000", "2.050000")] + lines[2:4], 1),
             "reply while syncing": (lines[:3] + [lines[4].replace("2.300000", "2.120000")]
                                     + [lines[3]], 1),
             "sync before the message": (
                 [lines[0], lines[2].replace("2.1", "1.1"), lines[3].replace("2.2", "1.2"),
                  lines[1], lines[4]], 1)}
    for name, (text, early_count) in cases.items():
        path = tmp_path / "trace"
        path.write_text("".join(text))
        calls = measure.read_trace(path)
        replies, early = measure.check_order(calls, measure.syncs_in_trace(calls, "data.mdb"))
        assert replies == 1, name
        if early_count is not None:
            assert len(early) == early_count, name
    path.write_text("".join([lines[1], lines[4]]))
    assert len(measure.check_order(measure.read_trace(path), {"sync": [], "write": []})[1]) == 1


def test_wait_is_an_event(receiver):
    began = time.monotonic()

    def later():
        time.sleep(0.3)
        with client(receiver) as talk:
            talk.greet()
            send(talk)
    thread = threading.Thread(target=later)
    thread.start()
    receiver.wait("messages", 1)
    assert 0.25 < time.monotonic() - began < 1.5
    thread.join()
    with pytest.raises(TimeoutError):
        receiver.wait("messages", 5, timeout=0.2)
    assert receiver.stats()["messages"] == 1


def test_ports_are_really_free(receiver):
    with socket.socket() as sock, pytest.raises(OSError):
        sock.bind(("127.0.1.1", receiver.port))
