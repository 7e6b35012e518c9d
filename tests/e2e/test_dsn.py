"""Bounce messages (RFC 3464), read by Python's parser; never for the null sender."""
import email
import email.policy
import time

import pytest

from peers import wait_until


@pytest.fixture
def bounce(sluice, receiver):
    """Sends mail that is refused and returns the DSN as it arrived at the sender's host."""
    receiver.script([{"stage": "rcpt", "local": "bad*", "reply": "550 5.1.1 no such user"}])

    def run(rcpts=("bad@example.test",), sender="a@sender.test", body="hello\r\n", **options):
        sluice.inject(sender, list(rcpts), body, **options)
        wait_until(lambda: receiver.messages(sender), 15, "a DSN")
        event = receiver.messages(sender)[-1]
        return event, email.message_from_bytes(receiver.stored(event), policy=email.policy.default)
    return run


def test_a_bounce_is_a_proper_report(bounce):
    event, dsn = bounce()
    assert event["from"] == ""
    assert dsn.get_content_type() == "multipart/report"
    assert dsn.get_param("report-type") == "delivery-status"
    assert dsn["To"] and "a@sender.test" in dsn["To"]
    assert dsn["Auto-Submitted"].startswith("auto-")
    assert dsn["Message-ID"] and dsn["Date"] and dsn["From"] and dsn["Subject"]
    human, status, original = list(dsn.iter_parts())
    assert human.get_content_type() == "text/plain"
    assert "bad@example.test" in human.get_content()
    assert status.get_content_type() == "message/delivery-status"
    per_message, *per_rcpt = status.get_payload()
    assert per_message["Reporting-MTA"].startswith("dns;")
    assert len(per_rcpt) == 1
    assert per_rcpt[0]["Final-Recipient"].replace(" ", "") == "rfc822;bad@example.test"
    assert per_rcpt[0]["Action"] == "failed"
    assert per_rcpt[0]["Status"].startswith("5.1.1")
    assert "550 5.1.1 no such user" in per_rcpt[0]["Diagnostic-Code"]
    assert "mx0.example.test" in per_rcpt[0]["Remote-MTA"]
    assert original.get_content_type() in ("message/rfc822", "text/rfc822-headers")
    assert "Subject: test" in original.as_string()


def test_every_line_of_it_is_within_limits(bounce, receiver):
    event, _ = bounce(body=("y" * 70 + "\r\n") * 20)
    data = receiver.stored(event)
    assert event["bare_cr"] == event["bare_lf"] == 0
    assert max(len(line) for line in data.split(b"\r\n")) <= 998


def test_only_headers_of_large_messages(bounce, receiver):
    event, dsn = bounce(body=("z" * 70 + "\r\n") * 3000)
    assert list(dsn.iter_parts())[2].get_content_type() == "text/rfc822-headers"
    assert event["size"] < 20000


def test_none_for_the_null_sender(sluice, receiver):
    receiver.script([{"stage": "rcpt", "local": "bad*", "reply": "550 5.1.1 no such user"}])
    sluice.inject("", "bad@example.test")
    sluice.wait_records(1, "b")
    sluice.inject("a@sender.test", "good@example.test")
    receiver.wait("messages", 1)
    sluice.wait_empty()
    assert receiver.stats()["messages"] == 1


def test_none_when_suppressed(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    dns.domain("sender.test", "127.0.1.9")
    receiver.script([{"stage": "rcpt", "local": "bad*", "reply": "550 5.1.1 no such user"}])
    sluice = make_sluice(smtp_port=receiver.port, source={"suppress-local-dsn": "yes"}).start()
    sluice.inject("a@sender.test", "bad@example.test")
    sluice.wait_records(1, "b")
    sluice.wait_empty()
    assert receiver.stats()["messages"] == 0


def test_notify_never_and_ret_and_envid(sluice, receiver):
    receiver.script([{"stage": "rcpt", "local": "bad*", "reply": "550 5.1.1 no such user"}])
    sluice.inject("a@sender.test", "bad1@example.test", rcpt_options=["NOTIFY=NEVER"])
    sluice.wait_records(1, "b")
    sluice.wait_empty()
    assert receiver.stats()["messages"] == 0
    with sluice.dialogue() as talk:
        talk.greet()
        talk("MAIL FROM:<a@sender.test> RET=HDRS ENVID=my+2Benv")
        talk("RCPT TO:<bad2@example.test> NOTIFY=FAILURE ORCPT=rfc822;orig+40x.test")
        talk("DATA")
        talk(b"Subject: x\r\n\r\nsecret body\r\n.\r\n")
    receiver.wait("messages", 1)
    dsn = email.message_from_bytes(receiver.stored(receiver.messages()[0]),
                                   policy=email.policy.default)
    status = list(dsn.iter_parts())[1].get_payload()
    assert status[0]["Original-Envelope-Id"] == "my+env"
    assert status[1]["Original-Recipient"].replace(" ", "") == "rfc822;orig@x.test"
    assert "secret body" not in dsn.as_string()


def send_with_notify(sluice):
    with sluice.dialogue() as talk:
        talk.greet()
        assert talk("MAIL FROM:<a@sender.test> RET=HDRS ENVID=my+2Benv").startswith("250")
        assert talk("RCPT TO:<yes@example.test> NOTIFY=SUCCESS,FAILURE "
                    "ORCPT=rfc822;orig+40x.test").startswith("250")
        assert talk("RCPT TO:<no@example.test> NOTIFY=FAILURE").startswith("250")
        talk("DATA")
        assert talk(b"Subject: x\r\n\r\nsecret body\r\n.\r\n").startswith("250")


def test_notify_success_is_passed_on_to_a_receiver_that_reports(sluice, receiver):
    receiver.script(features=[{"listen": "127.0.1.1", "dsn": True}])
    send_with_notify(sluice)
    sluice.wait_records(2, "d")
    sluice.wait_empty()
    mail, = receiver.journal("mail")
    assert "RET=HDRS" in mail["args"].split() and "ENVID=my+2Benv" in mail["args"].split()
    rcpts = {r["rcpt"]: r["args"].split() for r in receiver.journal("rcpt")}
    assert sorted(rcpts["yes@example.test"]) == ["NOTIFY=SUCCESS,FAILURE",
                                                 "ORCPT=rfc822;orig+40x.test"]
    assert rcpts["no@example.test"][0] == "NOTIFY=FAILURE"
    time.sleep(1)
    assert receiver.stats()["messages"] == 1, "the receiver reports, nobody else"


def test_notify_success_is_answered_for_a_receiver_that_does_not(sluice, receiver):
    receiver.script(features=[{"listen": "127.0.1.1", "dsn": False}])
    send_with_notify(sluice)
    receiver.wait("messages", 2)
    mail = receiver.journal("mail")[0]
    assert "RET" not in mail["args"] and "ENVID" not in mail["args"]
    assert all("NOTIFY" not in r["args"] and "ORCPT" not in r["args"]
               for r in receiver.journal("rcpt") if "example" in r["rcpt"])
    report, = receiver.messages("a@sender.test")
    dsn = email.message_from_bytes(receiver.stored(report), policy=email.policy.default)
    status = list(dsn.iter_parts())[1].get_payload()
    assert status[0]["Original-Envelope-Id"] == "my+env"
    assert len(status) == 2, "only of the recipient that asked"
    assert status[1]["Action"] == "relayed" and status[1]["Status"].startswith("2.")
    assert status[1]["Final-Recipient"].replace(" ", "") == "rfc822;yes@example.test"
    assert status[1]["Original-Recipient"].replace(" ", "") == "rfc822;orig@x.test"
    assert "secret body" not in dsn.as_string()
    assert len(sluice.wait_records(1, "d", "yes@example.test")) == 1


def test_a_bounce_that_bounces_ends_there(sluice, receiver):
    receiver.script([{"stage": "rcpt", "reply": "550 5.1.1 nobody is here"}])
    sluice.inject("a@sender.test", "bad@example.test")
    wait_until(lambda: len(sluice.records("b")) == 2, 15, "both bounces")
    sluice.wait_empty()
    assert {r.rcpt: r.orig for r in sluice.records("b")} == {
        "bad@example.test": "a@sender.test", "a@sender.test": ""}
