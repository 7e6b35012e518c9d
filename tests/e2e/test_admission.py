"""When there is no room: 452 early, nothing lost, and mail again as soon as there is."""
import smtplib

import pytest

from peers import wait_until

MIB = ("x" * 70 + "\r\n") * (1024 * 1024 // 72)


@pytest.fixture
def make(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")

    def start(**options):
        return make_sluice(smtp_port=receiver.port, domains={"*": {"retry-after": "1s"}},
                           **options).start()
    return start


def accepts(sluice):
    """The reply to MAIL, or the greeting that turned us away."""
    with sluice.dialogue() as talk:
        greeting = "".join(talk.reply())
        if not greeting.startswith("220"):
            return greeting
        talk("EHLO client.test")
        return talk("MAIL FROM:<a@sender.test>")


def test_too_little_free_space(make, receiver):
    sluice = make(min_free_space="1000000G")
    wait_until(lambda: accepts(sluice).startswith("452 4.3.1"), 10, "452")
    status = sluice.cli("show", "status")
    assert status["accepting"] is False and status["why_not"]
    sluice.global_["min-free-space"] = "0"
    sluice.reload()
    wait_until(lambda: accepts(sluice).startswith("250"), 10, "250 again")
    assert sluice.cli("show", "status")["accepting"] is True
    sluice.inject("a@sender.test", "b@example.test")
    receiver.wait("messages", 1)


def test_a_full_spool_takes_mail_again_when_some_has_left(make, receiver):
    receiver.script([{"stage": "rcpt", "domain": "example.test", "reply": "450 4.2.1 later"}])
    sluice = make(spool_max_size="16M")
    taken = 0
    with pytest.raises(smtplib.SMTPResponseException) as full:
        for i in range(40):
            sluice.inject("a@sender.test", f"m{i}@example.test", MIB)
            taken += 1
    assert full.value.smtp_code == 452 and b"4.3.1" in full.value.smtp_error
    assert 10 <= taken <= 20
    receiver.script()
    wait_until(lambda: accepts(sluice).startswith("250"), 20, "room")
    wait_until(lambda: len(sluice.final()) == taken, 20, "all that was accepted")
    assert all(r.type == "d" for r in sluice.final().values())


def test_a_message_that_says_it_is_larger_than_the_room_left(make, receiver):
    receiver.script([{"stage": "rcpt", "domain": "example.test", "reply": "450 4.2.1 later"}])
    sluice = make(spool_max_size="16M")
    for i in range(4):
        sluice.inject("a@sender.test", f"m{i}@example.test", MIB)
    with sluice.dialogue() as talk:
        talk.greet()

        def refused():
            reply = talk("MAIL FROM:<a@sender.test> SIZE=14000000")
            talk("RSET")
            return reply.startswith("452 4.3.1")
        wait_until(refused, 10, "452 before the data")
        assert talk("MAIL FROM:<a@sender.test> SIZE=2000000").startswith("250")


def test_bodies_in_memory_share_a_budget(make, receiver):
    sluice = make(max_body_memory="1M")
    part = b"x" * 70 + b"\r\n"
    talks = [sluice.dialogue() for _ in range(12)]
    codes = []
    for talk in talks:
        talk.greet()
        talk("MAIL FROM:<a@sender.test>")
        talk("RCPT TO:<b@example.test>")
        codes.append(talk("DATA")[:3])
        if codes[-1] == "354":
            talk.send(part * 2500)
    replies = []
    for talk, code in zip(talks, codes):
        if code == "354":
            try:
                talk.send(b".\r\n")
                replies.append("".join(talk.reply())[:9])
            except OSError:
                replies.append("")
        talk.close()
    refused = [r for r in replies if r.startswith("452 4.3.1")] + [c for c in codes if c == "452"]
    accepted = [r for r in replies if r.startswith("250")]
    assert refused and accepted, (codes, replies)
    receiver.wait("messages", len(accepted))
    sluice.inject("a@sender.test", "after@example.test")
    wait_until(lambda: receiver.messages("after@example.test"), 10, "mail afterwards")


def test_too_many_connections(make, receiver):
    sluice = make(total_max_smtp_in="3")
    held = [sluice.dialogue() for _ in range(3)]
    assert all(talk.greet()[0].startswith("220") for talk in held)
    with sluice.dialogue() as talk:
        assert talk.reply()[0].startswith("421 4.")
        assert talk.at_end()
    for talk in held:
        talk.close()
    wait_until(lambda: accepts(sluice).startswith("250"), 10, "room for another")
