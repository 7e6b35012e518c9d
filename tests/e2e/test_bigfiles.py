"""Large and mixed bodies arrive byte for byte; a body is on disk before its 250."""
import hashlib
import json
import random
import subprocess

from peers import tool, wait_until


def body_of(size, seed):
    """Lines of every kind: dots first, long, empty, 8-bit."""
    rng = random.Random(seed)
    block = b"".join([b".\r\n", b"..\r\n", b". \r\n", b"\r\n", rng.randbytes(64).hex().encode()
                      + b"\r\n", b"x" * 990 + b"\r\n", b"\xe4\xf6\r\n"])
    return (block * (size // len(block) + 1))[:size - 2].rstrip(b"\r\n.") + b"\r\n"


def test_20_mb_bodies(sluice, receiver):
    wanted = {}
    for i, size in enumerate((20_000_000, 20_000_001, 262_144, 262_143, 262_145, 1_000_000)):
        body = body_of(size, i)
        wanted[f"m{i}@example.test"] = hashlib.sha256(body).hexdigest()
        sluice.inject("a@sender.test", f"m{i}@example.test", body,
                      mail_options=["BODY=8BITMIME"])
    receiver.wait("messages", len(wanted), timeout=60)
    got = {m["rcpts"][0]: m["body_sha256"] for m in receiver.messages()}
    assert got == wanted
    wait_until(lambda: not list((sluice.spool / "big").glob("*")), 10, "big/ to be empty")


def test_a_big_body_in_chunks(sluice, receiver):
    """BDAT, with chunks that end inside lines, a dot at the start of one, and more than fits in memory."""
    lines = b"".join(b".%d " % i + b"x" * (i % 900) + b"\r\n" for i in range(3000))
    data = b"Subject: chunks\r\n\r\n" + lines
    with sluice.dialogue() as talk:
        talk.greet()
        talk("MAIL FROM:<a@sender.test>")
        talk("RCPT TO:<b@example.test>")
        for at in range(0, len(data), 200001):
            part = data[at:at + 200001]
            last = b" LAST" if at + 200001 >= len(data) else b""
            assert talk(b"BDAT %d%s\r\n" % (len(part), last) + part).startswith("250")
    receiver.wait("messages", 1)
    stored = receiver.stored(receiver.messages()[0])
    assert b"\r\nSubject: chunks\r\n" in stored and stored.endswith(b"\r\n\r\n" + lines)


def test_a_big_body_survives_kill_9(sluice, receiver):
    receiver.script([{"stage": "rcpt", "reply": "450 4.2.1 later"}])
    body = body_of(5_000_000, 9)
    sluice.inject("a@sender.test", "b@example.test", body, mail_options=["BODY=8BITMIME"])
    sluice.wait_records(1, "t")
    sluice.kill_all()
    stray = sluice.spool / "big" / "999999999999999"
    stray.write_bytes(b"a body without a row")
    receiver.script()
    sluice.start(write=False)
    receiver.wait("messages", 1, timeout=30)
    assert receiver.messages()[0]["body_sha256"] == hashlib.sha256(body).hexdigest()
    wait_until(lambda: not stray.exists(), 10, "the stray file to be removed")


def test_a_receiver_that_reads_slowly(sluice, receiver):
    receiver.script([{"stage": "body", "after-bytes": 100000, "nth": 1, "delay": 1500}])
    body = body_of(8_000_000, 3)
    sluice.inject("a@sender.test", "slow@example.test", body, mail_options=["BODY=8BITMIME"])
    sluice.inject("a@sender.test", "fast@example.test", "small\r\n")
    receiver.wait("messages", 2, timeout=30)
    assert receiver.messages("slow@example.test")[0]["body_sha256"] == \
        hashlib.sha256(body).hexdigest()


def test_a_connection_lost_in_a_big_body_starts_again(sluice, receiver):
    receiver.script([{"stage": "body", "nth": 1, "after-bytes": 3_000_000, "close": "reset"}])
    body = body_of(6_000_000, 4)
    sluice.inject("a@sender.test", "b@example.test", body, mail_options=["BODY=8BITMIME"])
    receiver.wait("messages", 1, timeout=30)
    assert receiver.messages()[0]["body_sha256"] == hashlib.sha256(body).hexdigest()


def test_a_mix_of_sizes(sluice, receiver, tmp_path):
    """As in the acceptance run: log-uniform sizes, some large, digests compared."""
    log = tmp_path / "feeder.log"
    done = subprocess.run(
        [tool("source"), "--to", f"{sluice.ip}:{sluice.port}", "--messages", "1500", "--size",
         "mix", "--domain", "example.test", "--connections", "10", "--log", str(log)],
        capture_output=True, text=True, timeout=100, check=True)
    assert json.loads(done.stdout)["accepted"] == 1500
    receiver.wait("messages", 1500, timeout=60)
    wanted = {}
    for line in log.read_text().splitlines():
        number, _, _, _, digest = line.split()[:5]
        wanted[f"m{number}@example.test"] = digest
    got = {}
    for message in receiver.messages():
        assert message["rcpts"][0] not in got, "delivered twice"
        got[message["rcpts"][0]] = message["body_sha256"]
    assert got == wanted


def test_a_lost_database_does_not_take_its_bodies_along(make_sluice, receiver):
    """data.mdb is gone, big/ is not: what may still be restored is kept, and said."""
    sluice = make_sluice(smtp_port=receiver.port)
    (sluice.spool / "big").mkdir(parents=True)
    body = sluice.spool / "big" / "1795312345678901"
    body.write_bytes(b"Subject: x\r\n\r\nx\r\n")
    sluice.start()
    sluice.wait_log(contains="the spool is empty, but bodies")
    assert body.exists()
