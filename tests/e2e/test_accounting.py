"""Accounting files: strict CSV, PowerMTA's columns, every recipient exactly once, any accident."""
import json
import re
import subprocess

from peers import wait_until
from sluice import read_csv

COLUMNS = ["type", "timeLogged", "timeQueued", "orig", "rcpt", "orcpt", "dsnAction", "dsnStatus",
           "dsnDiag", "dsnMta", "bounceCat", "srcType", "srcMta", "dlvType", "dlvSourceIp",
           "dlvDestinationIp", "dlvEsmtpAvailable", "dlvSize", "vmta", "jobId", "envId", "queue",
           "vmtaPool"]
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d{4}\Z")


def test_a_delivered_record(sluice, receiver):
    with sluice.dialogue() as talk:
        talk.greet("feeder.test")
        talk("MAIL FROM:<a@sender.test> ENVID=env+2B7")
        talk("RCPT TO:<b@example.test> ORCPT=rfc822;old@example.test")
        talk("DATA")
        talk(b"X-Job: j1\r\nSubject: x\r\n\r\nx\r\n.\r\n")
    record = sluice.wait_records(1, "d")[0]
    header = sluice.acct_path.read_text().split("\n")[0].rstrip("\r").split(",")
    assert header == COLUMNS
    assert TIME.match(record.timeLogged) and TIME.match(record.timeQueued)
    wanted = {"orig": "a@sender.test", "rcpt": "b@example.test", "dsnAction": "relayed",
              "dsnMta": "mx0.example.test (127.0.1.1)", "srcType": "smtp", "dlvType": "smtp",
              "srcMta": "feeder.test (127.0.0.1)", "dlvSourceIp": "127.0.0.11",
              "dlvDestinationIp": "127.0.1.1", "vmta": "a", "jobId": "j1", "envId": "env+7",
              "queue": "example.test/a"}
    assert {k: getattr(record, k) for k in wanted} == wanted
    assert record.dsnStatus.startswith("2.0.0")
    assert record.dsnDiag.startswith("smtp;250 2.0.0 accepted as T")
    assert record.orcpt == "rfc822;old@example.test"
    assert "PIPELINING" in record.dlvEsmtpAvailable
    assert int(record.dlvSize) > 10


def test_nasty_replies_are_quoted(sluice, receiver):
    text = '550 5.1.1 "no", he said; a,b'
    receiver.script([{"stage": "rcpt", "domain": "example.test", "reply": text}])
    sluice.inject("a@sender.test", "b@example.test")
    assert sluice.wait_records(1, "b", "b@example.test")[0].dsnDiag == "smtp;" + text


def test_multi_line_replies_become_one_line(sluice, receiver):
    receiver.script([{"stage": "rcpt", "domain": "example.test",
                      "reply": "550-5.1.1 first line\n550-5.1.1 second\n550 5.1.1 third"}])
    sluice.inject("a@sender.test", "b@example.test")
    diag = sluice.wait_records(1, "b", "b@example.test")[0].dsnDiag
    assert diag.startswith("smtp;550 5.1.1 first line") and "third" in diag
    assert "\n" not in diag and "\r" not in diag


def test_a_queue_that_cannot_connect_has_tq_records(sluice, receiver):
    receiver.unlisten("127.0.1.1")
    for i in range(10):
        sluice.inject("a@sender.test", f"m{i}@example.test")
    record = sluice.wait_records(1, "tq")[0]
    assert record.queue == "example.test/a" and "127.0.1.1" in record.dsnMta
    assert not sluice.records("t"), "a failure of the site is not one of each recipient"
    receiver.listen("127.0.1.1")
    wait_until(lambda: len(sluice.final()) == 10, 20, "all ten")


def test_json_chosen_fields_and_filter(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    dns.domain("other.test", "127.0.1.2")
    sluice = make_sluice(smtp_port=receiver.port, acct=False)
    lines = sluice.folder / "a.json"
    few = sluice.folder / "few.csv"
    sluice.extra = (f"[acct-file {lines}]\nrecords = d,b\nformat = json\n"
                    f"[acct-file {few}]\nrecords = d\nfields = rcpt,domain,msgId,seq\n"
                    "queue-filter = other.test/*\n")
    sluice.start()
    sluice.inject("a@sender.test", ["b@example.test", "c@other.test"])
    wait_until(lambda: lines.exists() and lines.read_bytes().count(b"\n") == 2, 10, "two lines")
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert {r["rcpt"] for r in rows} == {"b@example.test", "c@other.test"}
    wait_until(lambda: few.exists() and few.read_bytes().count(b"\n") == 2, 10, "one record")
    records = read_csv(few.read_bytes())
    assert [(r.type, r.rcpt, r.domain) for r in records] == [("d", "c@other.test", "other.test")]
    assert int(records[0].msgId) > 0 and int(records[0].seq) > 0


def test_rotation_and_compression(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port,
                         acct={"records": "d", "move-interval": "1s", "compress": "zstd"}).start()

    def finished():
        return sorted(p for p in sluice.folder.glob("acct*.zst"))
    for i in range(3):
        sluice.inject("a@sender.test", f"m{i}@example.test")
        receiver.wait("messages", i + 1)
        wait_until(lambda n=i: len(finished()) > n, 10, "a finished file")
    seen = []
    for path in finished():
        data = subprocess.run(["zstd", "-dcq", str(path)], check=True, capture_output=True).stdout
        seen += [r.rcpt for r in read_csv(data)]
    seen += [r.rcpt for r in sluice.records("d")]
    assert sorted(seen) == [f"m{i}@example.test" for i in range(3)]
    assert not list(sluice.folder.glob("*.tmp"))


def test_a_file_cut_or_lengthened_by_a_crash_is_put_right(sluice, receiver):
    """What lies behind the stored offset after kill -9 is not trusted: each line once."""
    for i in range(20):
        sluice.inject("a@sender.test", f"m{i}@example.test")
    sluice.wait_records(20, "d")
    wait_until(lambda: sluice.counter("acct_waiting") == 0, 10, "the checkpoint")
    sluice.kill_all()
    with open(sluice.acct_path, "ab") as f:
        f.write(b"d,half a line that was never comm")
    sluice.start(write=False)
    sluice.inject("a@sender.test", "m20@example.test")
    sluice.wait_records(21, "d")
    assert sorted(r.rcpt for r in sluice.records("d", whole=True)) == sorted(
        f"m{i}@example.test" for i in range(21))


def test_accounting_goes_on_over_spooler_deaths(sluice, receiver):
    for i in range(60):
        sluice.inject("a@sender.test", f"m{i}@example.test")
        if i % 20 == 10:
            old = sluice.kill("spooler")
            sluice.wait_respawn("spooler", old)
            wait_until(lambda: sluice.cli("show", "status")["accepting"], 10, "new mail accepted")
    wait_until(lambda: len(sluice.final()) == 60, 30, "60 final records")
    read_csv(sluice.acct_path.read_bytes())
