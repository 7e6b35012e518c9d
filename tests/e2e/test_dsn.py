"""Bounce messages (RFC 3464), read by Python's parser; never for the null sender."""
import email
import email.policy

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


def test_a_bounce_that_bounces_ends_there(sluice, receiver):
    receiver.script([{"stage": "rcpt", "reply": "550 5.1.1 nobody is here"}])
    sluice.inject("a@sender.test", "bad@example.test")
    wait_until(lambda: len(sluice.records("b")) == 2, 15, "both bounces")
    sluice.wait_empty()
    assert {r.rcpt: r.orig for r in sluice.records("b")} == {
        "bad@example.test": "a@sender.test", "a@sender.test": ""}
