"""The SMTP dialogue with feeders: commands, replies, limits, smuggling, real clients."""
import os
import pathlib
import re
import shutil
import smtplib
import subprocess

import pytest

from peers import Dialogue, wait_until

ENHANCED = re.compile(r"^[245]\d\d [245]\.\d{1,3}\.\d{1,3} \S")
ENV = "MAIL FROM:<a@sender.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n"


@pytest.fixture
def talk(sluice):
    with sluice.dialogue() as dialogue:
        dialogue.greet()
        yield dialogue


def envelope(talk, rcpt="b@example.test", sender="a@sender.test"):
    assert talk(f"MAIL FROM:<{sender}>").startswith("250 2.1.0")
    assert talk(f"RCPT TO:<{rcpt}>").startswith("250 2.1.5")
    assert talk("DATA").startswith("354 ")


def test_greeting_and_extensions(sluice):
    with sluice.dialogue() as talk:
        greeting, ehlo = talk.greet()
        assert greeting.startswith("220 sluice.test ")
        lines = ehlo.split("\n")
        assert lines[0].startswith("250-sluice.test")
        words = {line[4:].split()[0] for line in lines[1:]}
        assert {"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES",
                "CHUNKING"} <= words
        assert talk("NOOP").startswith("250 2.0.0")
        assert talk("RSET").startswith("250 2.0.0")
        assert talk("VRFY b@example.test").startswith("252 2.")
        assert talk("QUIT").startswith("221 2.0.0")
        assert talk.at_end()


def test_helo_offers_no_extensions(sluice):
    with sluice.dialogue() as talk:
        talk.reply()
        assert talk("HELO client.test").startswith("250 ")
        assert talk("MAIL FROM:<a@sender.test>").startswith("250 ")


def test_a_message_arrives_with_received_date_and_message_id(sluice, receiver):
    sluice.inject("a@sender.test", "b@example.test", "line one\r\n.dot\r\n..dots\r\n")
    receiver.wait("messages", 1)
    event = receiver.messages("b@example.test")[0]
    data = receiver.stored(event)
    header, _, body = data.partition(b"\r\n\r\n")
    assert body == b"line one\r\n.dot\r\n..dots\r\n"
    names = [line.split(b":")[0].lower() for line in header.split(b"\r\n")
             if line[:1] not in b" \t"]
    assert names[0] == b"received"
    for name in (b"date", b"message-id", b"from", b"subject"):
        assert names.count(name) == 1
    assert b"127.0.0.1" in header and b"feeder.test" in header
    assert event["bare_cr"] == event["bare_lf"] == 0


def test_hide_message_source(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port, source={"hide-message-source": "yes"}).start()
    sluice.inject("a@sender.test", "b@example.test")
    receiver.wait("messages", 1)
    header = receiver.messages()[0]["header"]
    assert header.lower().startswith("received:")
    assert "127.0.0.1" not in header and "feeder.test" not in header


def test_x_headers_choose_and_vanish(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port, vmtas={
        "a": ["127.0.0.11 a.sluice.test"], "b": ["127.0.0.12 b.sluice.test"]}).start()
    sluice.inject("a@sender.test", "b@example.test", vmta="b", job="job-7")
    receiver.wait("messages", 1)
    event = receiver.messages()[0]
    assert receiver.connection_of(event)["source"] == "127.0.0.12"
    assert "x-virtual-mta" not in event["header"].lower()
    assert "x-job" not in event["header"].lower()
    record = sluice.wait_records(1, "d")[0]
    assert (record.vmta, record.jobId) == ("b", "job-7")
    with pytest.raises(smtplib.SMTPDataError) as refused:
        sluice.inject("a@sender.test", "b@example.test", vmta="nobody")
    assert refused.value.smtp_code == 550


def test_a_pipelined_group_is_answered_in_order(talk):
    talk.send("MAIL FROM:<a@sender.test>\r\nRCPT TO:<b@example.test>\r\n"
              "RCPT TO:<not an address>\r\nRCPT TO:<c@example.test>\r\nDATA\r\n")
    codes = ["".join(talk.reply())[:3] for _ in range(5)]
    assert codes == ["250", "250", codes[2], "250", "354"] and codes[2][0] == "5"
    talk.send("Subject: x\r\n\r\nx\r\n.\r\nNOOP\r\nQUIT\r\n")
    assert [talk.reply()[0][:3] for _ in range(3)] == ["250", "250", "221"]


def test_two_messages_over_one_connection(sluice, receiver, talk):
    for i in range(2):
        envelope(talk, f"m{i}@example.test")
        assert talk(b"Subject: x\r\n\r\nx\r\n.\r\n").startswith("250 2.")
    receiver.wait("messages", 2)
    assert sluice.wait_records(2, "d")


@pytest.mark.parametrize("line,code", [
    ("FOO", "500 5.5."), ("MAIL FROM:a b c", "501 5."), ("MAIL FROM:<a@sender.test> FOO=1",
                                                        "555 5.5.4"),
    ("MAIL FROM:<a@sender.test> SIZE=abc", "501 5.5.4"),
    ("MAIL FROM:<a@sender.test> BODY=FOO", "501 5.5.4"),
    ("MAIL FROM:<a b@sender.test>", "501 5.1.7"), ("MAIL FROM:<@>", "501 5.1.7"),
    ("RCPT TO:<b@example.test>", "503 5.5.1"), ("DATA", "503 5.5.1"),
    ("BDAT abc", "501 5.5.4"), ("EHLO", "501 5."),
    ("AUTH PLAIN AGEAYg==", "50"), ("STARTTLS now", "50"), ("DATA foo", "50"),
])
def test_errors_have_a_proper_reply(talk, line, code):
    reply = talk(line)
    assert reply.startswith(code), reply
    assert ENHANCED.match(reply), reply
    if line.startswith("BDAT"):     # what follows may be data: the server must not go on
        assert talk.at_end()
    else:
        assert talk("NOOP").startswith("250")


@pytest.mark.parametrize("line,code", [
    ("RCPT TO:<>", "5"), ("RCPT TO:<b@>", "501 5.1.3"), ("RCPT TO:<b c@example.test>", "501 5.1.3"),
    ("RCPT TO:<b@exa_mple..test>", "501 5.1.3"), ("RCPT TO:<b@example.test> NOTIFY=FOO", "501 5.5.4"),
    ("RCPT TO:<b@example.test> FOO=1", "555 5.5.4"), ("MAIL FROM:<c@sender.test>", "503 5.5.1"),
    ("RCPT TO:<b@example.test> NOTIFY=NEVER,FAILURE", "501 5.5.4"),
    ("DATA", "5"),
])
def test_errors_inside_a_transaction(talk, line, code):
    assert talk("MAIL FROM:<a@sender.test>").startswith("250")
    reply = talk(line)
    assert reply.startswith(code), reply
    assert ENHANCED.match(reply), reply
    assert talk("RCPT TO:<b@example.test>").startswith("250 2.1.5")


def test_dsn_parameters_are_taken(talk):
    assert talk("MAIL FROM:<a@sender.test> RET=HDRS ENVID=Q+2B1").startswith("250")
    assert talk("RCPT TO:<b@example.test> NOTIFY=FAILURE,DELAY "
                "ORCPT=rfc822;b+40old.test").startswith("250")


def test_relaying_is_refused_unless_allowed(make_sluice, receiver):
    sluice = make_sluice(smtp_port=receiver.port, source={"always-allow-relaying": "no",
                                                          "relay-domain": "ours.test"}).start()
    with sluice.dialogue() as talk:
        talk.greet()
        talk("MAIL FROM:<a@sender.test>")
        assert talk("RCPT TO:<b@example.test>").startswith("550 5.7.1")
        assert talk("RCPT TO:<b@ours.test>").startswith("250 2.1.5")
        assert talk("RCPT TO:<b@sub.ours.test>").startswith("550 5.7.1")


def test_closed_by_default(make_sluice, receiver):
    """Without a [source] nobody may relay."""
    sluice = make_sluice(smtp_port=receiver.port)
    sluice.source = {}
    with sluice.start().dialogue() as talk:
        talk.greet()
        talk("MAIL FROM:<a@sender.test>")
        assert talk("RCPT TO:<b@example.test>").startswith("550 5.7.1")


def test_no_service(make_sluice):
    sluice = make_sluice(source={"smtp-service": "no"}).start()
    with sluice.dialogue() as talk:
        assert talk.reply()[0].startswith("521 ")


def test_connections_of_a_client_are_limited(make_sluice):
    sluice = make_sluice(source={"max-smtp-in": "2"}).start()
    held = [sluice.dialogue() for _ in range(2)]
    for talk in held:
        assert talk.greet()[0].startswith("220")
    with sluice.dialogue() as third:
        assert third.reply()[0].startswith("421 4.7.0")
        assert third.at_end()
    assert held[0]("QUIT").startswith("221") and held[0].at_end()

    def free_again():
        with sluice.dialogue() as talk:
            return talk.reply()[0].startswith("220")
    wait_until(free_again, 5, "the place of the one that left")
    held[1].close()


# Limits

def test_size_is_limited(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port, source={"max-message-size": "10K"}).start()
    with sluice.dialogue() as talk:
        assert "SIZE 10240" in talk.greet()[1]
        assert talk("MAIL FROM:<a@sender.test> SIZE=20000").startswith("552 5.3.4")
        envelope(talk)
        talk.send(b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 300 + b".\r\n")
        assert talk.reply()[0].startswith("552 5.3.4")
        envelope(talk)
        assert talk(b"small\r\n.\r\n").startswith("250 2.")
    receiver.wait("messages", 1)


def test_recipients_are_limited(make_sluice, receiver):
    sluice = make_sluice(smtp_port=receiver.port, source={"max-rcpt-per-message": "3"}).start()
    with sluice.dialogue() as talk:
        talk.greet()
        talk("MAIL FROM:<a@sender.test>")
        for i in range(3):
            assert talk(f"RCPT TO:<b{i}@example.test>").startswith("250")
        assert talk("RCPT TO:<b3@example.test>").startswith("452 4.5.3")


def test_hops_are_limited(make_sluice, receiver):
    sluice = make_sluice(smtp_port=receiver.port, source={"max-message-hops": "5"}).start()
    with sluice.dialogue() as talk:
        talk.greet()
        envelope(talk)
        assert talk(b"Received: by x\r\n" * 6 + b"\r\nloop\r\n.\r\n").startswith("554 5.4.6")
        envelope(talk)
        assert talk(b"Received: by x\r\n" * 5 + b"\r\nno loop\r\n.\r\n").startswith("250 2.")


def test_overlong_lines(talk):
    assert ENHANCED.match(talk("NOOP " + "x" * 5000))
    assert talk("NOOP").startswith("250")
    talk.send(b"MAIL FROM:<" + b"x" * 200000 + b"@sender.test>\r\n")
    reply = talk.reply()
    assert reply and reply[0].startswith("5")


def test_idle_clients_are_let_go(make_sluice):
    sluice = make_sluice(source={"smtp-command-timeout": "1s"}).start()
    with sluice.dialogue() as talk:
        talk.greet()
        assert talk.reply()[0].startswith("421 4.4.2")
        assert talk.at_end()


# Smuggling: nothing but CRLF . CRLF ends a message, and a bare CR or LF is refused

SMUGGLES = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\n.\r", b"\r.\n",
            b"\r\n\x00.\r\n", b"\n\n.\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\n"]


@pytest.mark.parametrize("end", SMUGGLES, ids=repr)
def test_smuggled_end_of_data(sluice, receiver, talk, end):
    """A second message behind a false end is never one, and a bare CR or LF is refused."""
    envelope(talk)
    inner = b"MAIL FROM:<evil@sender.test>\r\nRCPT TO:<victim@example.test>\r\nDATA\r\n"
    talk.send(b"Subject: outer\r\n\r\nouter" + end + inner + b"Subject: inner\r\n\r\ninner\r\n.\r\n")
    first = talk.reply()
    if re.search(rb"(?<!\r)\n|\r(?!\n)", end):
        assert first[0].startswith("5") and ENHANCED.match(first[0]), first
    real_end = end.endswith(b"\r\n.\r\n")
    if not real_end:        # all of it was one message: no further reply but that to QUIT
        try:
            talk.send("QUIT\r\n")
        except OSError:
            pass
        second = talk.reply()
        assert second == [] or second[0].startswith("221"), (first, second)
    with sluice.dialogue() as clean:
        clean.greet()
        envelope(clean, "clean@example.test")
        assert clean(b"Subject: clean\r\n\r\nclean\r\n.\r\n").startswith("250")
    sluice.wait_records(1, "d", "clean@example.test")
    if not real_end:
        assert not [m for m in receiver.messages() if "victim@example.test" in m["rcpts"]]
    for message in receiver.messages():
        assert message["bare_cr"] == message["bare_lf"] == 0


@pytest.mark.parametrize("line", [b"NOOP\n", b"NO\rOP\r\n", b"NOOP\r\r\n"], ids=repr)
def test_bare_line_endings_in_commands(talk, line):
    talk.send(line + (b"\r\n" if line.endswith(b"P\n") else b""))
    reply = talk.reply()
    assert not reply or reply[0][0] in "45", reply


def test_nothing_before_the_greeting_is_needed_and_garbage_does_no_harm(sluice):
    for blob in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                 b"\x00" * 5000 + b"\r\n", b"\xff\xfe\r\n" * 200):
        with sluice.dialogue() as talk:
            talk.reply()
            talk.send(blob)
            reply = talk.reply() if b"\r\n" in blob else ["500"]
            assert not reply or reply[0][0] in "45", reply
    with sluice.dialogue() as talk:
        assert talk.greet()[0].startswith("220")


# BDAT, SMTPUTF8, 8BITMIME

def test_bdat_in_pieces(sluice, receiver, talk):
    talk("MAIL FROM:<a@sender.test>")
    talk("RCPT TO:<b@example.test>")
    first = b"Subject: chunks\r\n\r\n.leading dot\r\npart "
    second = b"two\r\n"
    assert talk(b"BDAT %d\r\n" % len(first) + first).startswith("250 2.")
    assert talk(b"BDAT %d LAST\r\n" % len(second) + second).startswith("250 2.")
    receiver.wait("messages", 1)
    data = receiver.stored(receiver.messages()[0])
    assert data.partition(b"\r\n\r\n")[2] == b".leading dot\r\npart two\r\n"


def test_bdat_mixed_with_data_is_refused(talk):
    talk("MAIL FROM:<a@sender.test>")
    talk("RCPT TO:<b@example.test>")
    assert talk(b"BDAT 6\r\nS: x\r\n").startswith("250")
    assert talk("DATA").startswith("503 5.5.1")


def test_smtputf8_addresses(sluice, receiver, talk):
    assert talk("MAIL FROM:<jürgen@sender.test>".encode() + b"\r\n").startswith("5")
    assert talk("MAIL FROM:<jürgen@sender.test> SMTPUTF8".encode() + b"\r\n").startswith("250")
    assert talk("RCPT TO:<ünal@example.test>".encode() + b"\r\n").startswith("250")
    assert talk("DATA").startswith("354")
    assert talk("Subject: grüße\r\n\r\näöü\r\n.\r\n".encode()).startswith("250")
    receiver.wait("messages", 1)
    event = receiver.journal("mail")[0]
    assert event["from"].encode("latin-1").decode() == "jürgen@sender.test"
    assert "SMTPUTF8" in event["args"]


def test_both_spellings_of_a_domain_share_a_queue(sluice, receiver, dns, talk):
    ascii_name = "xn--e1afmkfd.xn--p1ai"
    dns.domain(ascii_name, "127.0.1.1")
    receiver.script(features=[{"listen": "127.0.1.1", "smtputf8": False}])
    sluice.cli("pause", "queue", "*/*")
    assert talk("MAIL FROM:<a@sender.test> SMTPUTF8").startswith("250")
    assert talk("RCPT TO:<a@пример.рф>".encode() + b"\r\n").startswith("250")
    assert talk("RCPT TO:<b@ПРИМЕР.РФ>".encode() + b"\r\n").startswith("250")
    assert talk("RCPT TO:<c@XN--e1afmkfd.xn--p1ai>").startswith("250")
    assert talk("RCPT TO:<d@♥.рф>".encode() + b"\r\n").startswith("501 5.1.3")
    assert talk("DATA").startswith("354")
    assert talk("Subject: x\r\n\r\nx\r\n.\r\n").startswith("250")
    row, = sluice.rows("show", "queues")
    assert (row["queue"], row["recipients"]) == (f"{ascii_name}/a", 3)
    assert sluice.cli("show", "queue", "пример.рф/a")["queue"] == f"{ascii_name}/a"
    assert sluice.cli("resolve", "пример.рф")["status"] == "ok"
    sluice.cli("resume", "queue", "*/*")
    receiver.wait("rcpts", 3)
    assert sorted(r["rcpt"] for r in receiver.journal("rcpt")) == [
        f"{x}@{ascii_name}" for x in "abc"]


def test_a_sender_that_no_domain_can_have_is_refused(talk):
    assert talk("MAIL FROM:<a@♥.рф> SMTPUTF8".encode() + b"\r\n").startswith("501 5.1.7")


def test_eight_bit_body_is_declared(sluice, receiver, talk):
    assert talk("MAIL FROM:<a@sender.test> BODY=8BITMIME").startswith("250")
    talk("RCPT TO:<b@example.test>")
    talk("DATA")
    assert talk(b"Subject: x\r\n\r\n\xe4\xf6\xfc\r\n.\r\n").startswith("250")
    receiver.wait("messages", 1)
    assert "BODY=8BITMIME" in receiver.journal("mail")[0]["args"].upper()
    assert receiver.stored(receiver.messages()[0]).endswith(b"\xe4\xf6\xfc\r\n")


# Real clients

def test_swaks(sluice, receiver):
    subprocess.run(["swaks", "--server", f"{sluice.ip}:{sluice.port}", "--from", "a@sender.test",
                    "--to", "b@example.test,c@example.test", "--body", "from swaks",
                    "--pipeline"], check=True, capture_output=True, timeout=30)
    receiver.wait("rcpts", 2)


def test_msmtp(sluice, receiver, tmp_path):
    subprocess.run(["msmtp", "-C", "/dev/null", f"--host={sluice.ip}", f"--port={sluice.port}",
                    "--from=a@sender.test", "b@example.test"], check=True, capture_output=True,
                   input=b"Subject: msmtp\n\nfrom msmtp\n.\n", timeout=30, cwd=tmp_path)
    receiver.wait("messages", 1)
    assert receiver.stored(receiver.messages()[0]).endswith(b"from msmtp\r\n.\r\n")


def test_smtplib_with_many_recipients(sluice, receiver):
    sluice.inject("a@sender.test", [f"m{i}@example.test" for i in range(50)])
    receiver.wait("rcpts", 50)


def test_smtp_source(sluice, receiver):
    subprocess.run(["smtp-source", "-c", "-s", "10", "-m", "300", "-l", "2000", "-f",
                    "a@sender.test", "-t", "b@example.test", f"{sluice.ip}:{sluice.port}"],
                   check=True, capture_output=True, timeout=60)
    receiver.wait("messages", 300, timeout=30)


def test_nodemailer(sluice, receiver, tmp_path):
    paths = ["/usr/share/nodejs", str(pathlib.Path(tmp_path) / "node_modules")]
    if not os.path.isdir("/usr/share/nodejs/nodemailer"):
        npm = shutil.which("npm")
        done = npm and subprocess.run([npm, "install", "--no-audit", "--no-fund", "nodemailer@6"],
                                      cwd=tmp_path, capture_output=True, timeout=90, check=False)
        if not done or done.returncode:
            pytest.skip("nodemailer is neither a package here (node-nodemailer) nor can npm get it")
    script = """
        const t = require("nodemailer").createTransport({host: process.argv[1],
            port: +process.argv[2], secure: false, pool: true, maxConnections: 3});
        Promise.all([...Array(30).keys()].map(i => t.sendMail({from: "a@sender.test",
            to: [`m${i}@example.test`], subject: "héllo", text: "from nodemailer\\n.dot\\n",
            attachments: [{filename: "x.bin", content: Buffer.alloc(5000, i)}]})))
        .then(() => t.close(), e => { console.error(e); process.exit(1); });
    """
    subprocess.run(["node", "-e", script, sluice.ip, str(sluice.port)], check=True,
                   env=dict(os.environ, NODE_PATH=":".join(paths)), timeout=60)
    receiver.wait("messages", 30)


def test_many_idle_clients_do_not_stop_others(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port, total_max_smtp_in="500").start()
    idle = [Dialogue(sluice.ip, sluice.port) for _ in range(300)]
    sluice.inject("a@sender.test", "b@example.test")
    receiver.wait("messages", 1)
    for talk in idle:
        talk.close()
