"""The command `sluice`: every view as a table and as JSON, exit statuses, with the daemon down too."""
import json
import re
import time

import pytest

from peers import wait_until
from sluice import CliError

VIEWS = [("show", "status"), ("show", "queues"), ("show", "vmtas"), ("show", "limits"),
         ("show", "rates"), ("show", "version"), ("show", "settings", "example.test/a"), ("list",),
         ("spool", "check"), ("spool", "stat")]


@pytest.fixture
def held(sluice, receiver):
    """Three recipients of one message that the receiver defers."""
    receiver.script([{"stage": "rcpt", "domain": "example.test", "reply": "450 4.2.1 come back"}])
    sluice.domains["*"]["retry-after"] = "1h"
    sluice.reload()
    sluice.inject("a@sender.test", [f"m{i}@example.test" for i in range(3)], job="j1")
    sluice.wait_records(3, "t")
    return sluice


@pytest.mark.parametrize("view", VIEWS, ids=" ".join)
def test_views_for_people_and_programs(held, view):
    done = held.run(*view)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() and done.stderr == ""
    assert "\x1b" not in done.stdout          # no colour: this is no terminal
    json.loads(held.run("--json", *view).stdout)


def test_status(held):
    status = held.cli("show", "status")
    assert sorted((p["role"], p["vmta"]) for p in status["processes"] if p["vmta"] != "{default}") \
        == [("master", None), ("resolver", None), ("spooler", None), ("worker", "a")]
    assert status["accepting"] is True
    assert status["counters"]["received_recipients"] == 3
    assert status["counters"]["received_messages"] == 1
    assert status["spool"]["recipients"] == 3
    assert status["traffic"]["in"]["messages"]["total"] == 1


def test_queues_and_why_they_wait(held):
    row, = held.rows("show", "queues", "example.test/*")
    assert (row["queue"], row["recipients"], row["paused"], row["mode"]) == (
        "example.test/a", 3, False, "normal")
    assert row["bytes"] > 0 and row["next_retry"] > time.time() * 1000
    assert "450 4.2.1 come back" in row["last_error"]
    one = held.cli("show", "queue", "example.test/a")
    assert one["queue"] == "example.test/a" and one["site"] == "example.test"
    assert [e["count"] for e in one["errors"] if "450 4.2.1 come back" in e["text"]] == [3]
    assert one["last_error"] == row["last_error"]
    assert one["next_retry"] == row["next_retry"] and one["next_expiry"] == row["next_expiry"]
    assert [(m["host"], m["address"], m["state"]) for m in one["mx"]] == [
        ("mx0.example.test", "127.0.1.1", "ok")]
    assert held.rows("show", "queues", "nothing.test/*") == []


def test_queues_by_mode_error_and_order(make_sluice, receiver, dns):
    """Deferred with an error; paused and large; paused and in back-off; one that a rate holds."""
    for i, name in enumerate(("deferred", "large", "backoff", "limited"), 1):
        dns.domain(f"{name}.test", f"127.0.1.{i}")
    receiver.script([{"stage": "rcpt", "domain": "deferred.test", "reply": "450 4.2.1 come back"}])
    sluice = make_sluice(smtp_port=receiver.port, domains={
        "*": {"retry-after": "1h"}, "limited.test": {"max-msg-rate": "1/h"}}).start()
    for name in ("large", "backoff"):
        sluice.cli("pause", "queue", f"{name}.test/*")
    sluice.inject("a@sender.test", [f"m{i}@deferred.test" for i in range(4)])
    sluice.inject("a@sender.test", [f"m{i}@limited.test" for i in range(4)])
    sluice.inject("a@sender.test", ["m0@large.test", "m1@large.test"], "x" * 70 + "\r\n")
    sluice.inject("a@sender.test", ["m0@large.test"], ("x" * 70 + "\r\n") * 900)
    sluice.inject("a@sender.test", ["m0@backoff.test"])
    sluice.cli("set", "queue", "--mode=backoff", "backoff.test/*")
    sluice.wait_records(4, "t")

    def queues(*options):
        return [q["queue"].split(".")[0] for q in sluice.rows("show", "queues", *options)
                if q["recipients"]]

    wait_until(lambda: "max-msg-rate" in sluice.rows("show", "queues", "limited.test/*")[0][
        "waiting_for"], 10, "the rate to hold")
    assert queues("--sort", "name") == ["backoff", "deferred", "large", "limited"]
    assert queues() == queues("--sort", "recipients")
    counts = [q["recipients"] for q in sluice.rows("show", "queues", "--sort", "recipients")]
    assert counts == sorted(counts, reverse=True) and counts[0] == 4
    assert queues("--sort", "bytes")[0] == "large"
    assert queues("--sort", "bytes", "--maxitems", "1") == ["large"]
    assert queues("--mode", "backoff") == ["backoff"]
    assert queues("--mode", "normal", "--sort", "name") == ["deferred", "large", "limited"]
    assert queues("--errors") == ["deferred"]
    assert queues("--errors", "--mode", "backoff") == []
    with pytest.raises(CliError):
        sluice.cli("show", "queues", "--sort", "colour")


def test_events_of_a_queue(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    receiver.script([{"stage": "ehlo", "reply": "450 4.3.0 not today"}])
    sluice = make_sluice(smtp_port=receiver.port,
                         domains={"*": {"retry-after": "30m"}}).start()
    sluice.inject("a@sender.test", "b@example.test")
    sluice.wait_records(1, "tq")
    one = sluice.cli("show", "queue", "example.test/a")
    assert one["retry_position"] == 1 and one["since"] and one["reason"] == one["last_error"]
    assert one["next_retry"] > time.time() * 1000 and "retry at" in one["waiting_for"]
    receiver.script()
    sluice.cli("schedule", "example.test/*", "--no-spread")
    sluice.wait_records(1, "d")
    sluice.cli("pause", "queue", "example.test/*")
    sluice.cli("resume", "queue", "example.test/*")
    wait_until(lambda: "resumed" in str(sluice.cli("show", "queue", "example.test/a")), 5, "all")
    events = [e["text"] for e in sluice.cli("show", "queue", "example.test/a")["events"]]
    expected = ["[127.0.1.1] failed: 450 4.3.0 not today", "waits until ", "brought forward",
                "connected to ", "delivers again after 1 failure", "paused", "resumed"]
    found = [next((i for i, e in enumerate(events) if text in e), None) for text in expected]
    assert None not in found and found == sorted(found), events
    assert "delivers again after 1" in sluice.run("show", "queue", "example.test/a").stdout


def test_list_and_show_message(held):
    rows = held.rows("list", "--queue", "example.test/*")
    assert sorted(r["recipient"] for r in rows) == [f"m{i}@example.test" for i in range(3)]
    assert {(r["sender"], r["job"], r["state"], r["attempts"]) for r in rows} == {
        ("a@sender.test", "j1", "deferred", 1)}
    assert "450 4.2.1 come back" in rows[0]["last_reply"]
    assert len(held.rows("list", "--max", "2")) == 2
    message = held.cli("show", "message", rows[0]["msgid"])
    assert (message["sender"], message["job"]) == ("a@sender.test", "j1")
    assert sorted(r["recipient"] for r in message["recipients"]) == [
        f"m{i}@example.test" for i in range(3)]
    assert held.run("show", "message", "1").returncode == 1


def test_the_spool_can_be_read_with_the_daemon_down(held):
    rows = held.rows("list")
    held.stop()
    assert held.rows("list") == rows
    assert held.cli("spool", "check")["problems"] == 0
    stat = held.cli("spool", "stat")
    assert (stat["messages"], stat["recipients"], stat["due"], stat["fresh"]) == (1, 3, 3, 0)
    down = held.run("show", "status")
    assert down.returncode == 3
    assert len(down.stderr.strip().split("\n")) == 1


def test_exit_statuses(held):
    assert held.run("frobnicate").returncode == 2
    assert held.run("show").returncode == 2
    assert held.run("list", "--frobnicate").returncode == 2
    assert held.run("pause", "queue").returncode == 2
    usage = held.run("-h")
    assert usage.returncode == 0 and "show status" in usage.stdout
    for command in (("list", "-h"), ("delete", "-h"), ("show", "queues", "-h")):
        done = held.run(*command)
        assert done.returncode == 0 and re.search(r"(?i)example", done.stdout), command


def test_unique_prefixes(held):
    assert held.cli("sh", "stat")["spool"]["recipients"] == 3
    assert held.run("s", "q").returncode == 2        # show, schedule, spool …


def test_settings_show_where_they_come_from(held):
    rows = {r["directive"]: r for r in held.rows("show", "settings", "example.test/a")}
    assert rows["retry-after"]["value"] in ("1h", "1h0m", "60m", "3600s")
    assert rows["retry-after"]["file"] == str(held.conf)
    line = held.conf.read_text().split("\n")[rows["retry-after"]["line"] - 1]
    assert line.startswith("retry-after")
    assert rows["bounce-after"]["value"] == "4d12h"


def test_resolve(sluice, dns):
    dns.domain("many.test", (10, "127.0.1.1"), (20, ["127.0.1.2", "::1"]))
    answer = sluice.cli("resolve", "many.test")
    assert answer["status"] == "ok"
    assert [(h["preference"], h["host"], sorted(h["addresses"])) for h in answer["hosts"]] == [
        (10, "mx0.many.test", ["127.0.1.1"]), (20, "mx1.many.test", ["127.0.1.2", "::1"])]
    assert "mx0.many.test" in sluice.run("resolve", "many.test").stdout
    assert sluice.cli("resolve", "nowhere.test")["status"] == "nxdomain"
    dns.set("none.test", MX=[(0, ".")])
    assert sluice.cli("resolve", "none.test")["status"] == "null-mx"


def test_clear_dnscache(sluice, dns):
    dns.domain("moves.test", "127.0.1.1", ttl=3600)
    dns.domain("stays.test", "127.0.1.3", ttl=3600)

    def addresses(domain):
        return [a for h in sluice.cli("resolve", domain)["hosts"] for a in h["addresses"]]
    assert addresses("moves.test") == ["127.0.1.1"] and addresses("stays.test") == ["127.0.1.3"]
    for domain in ("moves.test", "stays.test"):
        dns.domain(domain, "127.0.1.2", ttl=3600)
    assert addresses("moves.test") == ["127.0.1.1"]
    assert sluice.cli("clear", "dnscache", "moves.test")["cleared"] > 0
    assert addresses("moves.test") == ["127.0.1.2"] and addresses("stays.test") == ["127.0.1.3"]
    sluice.cli("clear", "dnscache", "*")
    assert addresses("stays.test") == ["127.0.1.2"]


def test_inject(sluice, receiver):
    done = sluice.run("inject", "-f", "a@sender.test", "b@example.test", "c@example.test",
                      stdin="Subject: by hand\n\nhello\n.\n")
    assert done.returncode == 0, done.stderr
    receiver.wait("rcpts", 2)
    assert receiver.stored(receiver.messages()[0]).endswith(b"hello\r\n.\r\n")
    refused = sluice.run("inject", "-f", "a@sender.test", "not an address", stdin="x\n")
    assert refused.returncode == 1


def test_check_config(sluice, tmp_path):
    assert sluice.run("check", "config").returncode == 0
    bad = tmp_path / "bad.conf"
    bad.write_text("[global]\nhost-nam = x\n")
    done = sluice.run("check", "config", str(bad))
    assert done.returncode == 1
    assert f"{bad}:2" in done.stderr + done.stdout and "host-name" in done.stderr + done.stdout


def test_shutdown(sluice):
    assert sluice.run("shutdown").returncode == 0
    sluice.process.wait(30)
    assert sluice.process.returncode == 0
    wait_until(lambda: not sluice.family(), 5, "everybody to end")
    with pytest.raises(CliError):
        sluice.cli("show", "status")
