"""The effect of directives that no other test looks at: on the wire, in records, files, log or exit status."""
import os
import pathlib
import re
import smtplib
import socket
import stat
import subprocess
import time

import pytest

from peers import free_port, wait_until
from sluice import read_csv

QUICK = {"retry-after": "1s", "retry-after-dns-error": "1s"}


@pytest.fixture
def make(make_sluice, receiver, dns):
    """A started daemon; example.test goes to the receiver, retrying every second."""
    dns.domain("example.test", "127.0.1.1")
    dns.domain("sender.test", "127.0.1.9")

    def start(everywhere=None, **options):
        domains = options.pop("domains", {})
        domains["*"] = dict(QUICK, **(everywhere or {}))
        return make_sluice(smtp_port=receiver.port, domains=domains, **options).start()
    return start


def send(sluice, rcpts="b@example.test", **more):
    sluice.inject("a@sender.test", rcpts, **more)


def root_only():
    return pytest.mark.skipif(os.getuid() != 0, reason="needs root")


# [global]

@root_only()
def test_user_and_group(make_sluice, tmp_path):
    """Without --debug the spooler and the workers run as user and group."""
    sluice = make_sluice(user="nobody", group="nogroup")
    os.chmod(tmp_path, 0o755)
    for folder in (sluice.folder, sluice.spool, sluice.runtime):
        os.chown(folder, 65534, 65534)
    for parent in sluice.folder.parents:
        if str(parent).startswith("/tmp/"):
            os.chmod(parent, os.stat(parent).st_mode | 0o755)
    sluice.write_config()
    command = [sluice._binary("SLUICED", "sluiced"), "-c", str(sluice.conf)]
    sluice.process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def by_role():
        found = {p["role"]: p["pid"] for p in status_or_nothing(sluice) if p["state"] == "running"}
        return found if {"spooler", "worker", "resolver"} <= set(found) else None
    pids = wait_until(by_role, 20, "the daemon")
    for role in ("spooler", "worker", "resolver"):
        text = pathlib.Path(f"/proc/{pids[role]}/status").read_text()
        assert re.search(r"^Uid:\s+65534\s+65534\s+65534", text, re.M), f"{role}: {text}"
        assert re.search(r"^Gid:\s+65534\s+65534\s+65534", text, re.M), f"{role}: {text}"


def status_or_nothing(sluice):
    done = sluice.run("--json", "show", "status")
    return sluice.processes() if done.returncode == 0 else []


def test_spool_max_size(make, receiver):
    receiver.unlisten("127.0.1.1")
    sluice = make(spool_max_size="16M")

    def refused():
        try:
            send(sluice, body=(b"x" * 70 + b"\r\n") * 13000)
        except smtplib.SMTPResponseException as answer:
            return answer
        return None
    answer = wait_until(refused, 20, "a refusal")
    assert answer.smtp_code == 452 and answer.smtp_error.startswith(b"4.3.1")
    assert sluice.queued() >= 14


def test_min_free_space(make):
    sluice = make(min_free_space="1000000T")
    with sluice.dialogue() as talk:
        talk.greet()
        assert talk("MAIL FROM:<a@sender.test>").startswith("452 4.3.1")


def test_control_socket(make_sluice):
    path = f"/tmp/sluice-ctl-{os.getpid()}"
    sluice = make_sluice(control_socket=path).start()
    try:
        assert stat.S_ISSOCK(os.stat(path).st_mode)
        assert sluice.processes("spooler")
    finally:
        sluice.stop()


@root_only()
@pytest.mark.parametrize("directive, may_change", [("control_group", True), ("monitor_group", False)])
def test_groups_of_the_control_socket(make_sluice, directive, may_change):
    """A member of the group may show; only the control group may also change."""
    sluice = make_sluice(**{directive: "games"})
    for folder in [sluice.folder, *sluice.folder.parents]:
        if str(folder).startswith("/tmp/"):
            os.chmod(folder, os.stat(folder).st_mode | 0o755)
    sluice.start()

    def run(group, *args):
        command = ["setpriv", "--reuid=65534", f"--regid={group}", "--clear-groups",
                   sluice._binary("SLUICE", "sluice"), "-c", str(sluice.conf), *args]
        return subprocess.run(command, capture_output=True, text=True, check=False).returncode
    assert run("games", "show", "status") == 0
    assert run("nogroup", "show", "status") != 0
    assert (run("games", "pause", "queue", "x.test/a") == 0) == may_change


def test_negative_answers_are_kept_no_longer(make_sluice, receiver, dns):
    sluice = make_sluice(smtp_port=receiver.port, dns_negative_ttl_max="1s",
                         domains={"*": dict(QUICK, **{"bounce-upon-nxdomain": "never"})}).start()
    send(sluice, "b@late.test")
    sluice.wait_records(1, "tq")
    dns.domain("late.test", "127.0.1.1")
    receiver.wait("messages", 1, timeout=20)


def test_source_of_virtual_mtas_that_name_none(make, receiver):
    sluice = make(vmtas={"a": {}}, smtp_source_host="127.0.0.21 global.sluice.test")
    send(sluice)
    receiver.wait("messages", 1)
    event = receiver.messages()[0]
    assert receiver.connection_of(event)["source"] == "127.0.0.21"
    assert receiver.ehlo_of(event) == "global.sluice.test"


# Without --debug root would change to users that a test machine need not have.
AS_WHO_STARTS_IT = {"user": "root", "group": "root"} if os.getuid() == 0 else {}


def test_log_and_log_level(make_sluice, tmp_path):
    """The log goes to a file; debug has lines that info has not."""
    counts = {}
    for level in ("error", "debug"):
        path = tmp_path / f"{level}.log"
        sluice = make_sluice(log=path, log_level=level, **AS_WHO_STARTS_IT)
        sluice.write_config()
        command = [sluice._binary("SLUICED", "sluiced"), "-c", str(sluice.conf)]
        sluice.process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda s=sluice: status_or_nothing(s), 20, "the daemon")
        sluice.stop()
        counts[level] = len(path.read_text().splitlines()) if path.exists() else 0
    assert counts["error"] == 0 and counts["debug"] > 0


@pytest.mark.parametrize("timeout, least, most", [("1s", 0.8, 8), ("6s", 5, 20)])
def test_shutdown_waits_for_replies(make, receiver, timeout, least, most):
    receiver.script([{"stage": "dot", "hang": True}])
    sluice = make(shutdown_timeout=timeout)
    send(sluice)
    wait_until(lambda: receiver.journal("mail"), 10, "a transaction")
    time.sleep(0.5)
    start = time.monotonic()
    sluice.stop()
    assert least <= time.monotonic() - start <= most


def test_more_virtual_mtas_than_workers_is_an_error(make_sluice):
    status, error = make_sluice(max_workers="1").check()
    assert status == 1 and "max-workers is 1" in error


def map_sizes(pid):
    """Sizes of the shared mappings of a process."""
    sizes = []
    for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, flags = line.split()[:2]
        if flags[3] == "s":
            low, high = (int(x, 16) for x in span.split("-"))
            sizes.append(high - low)
    return sizes


@pytest.mark.parametrize("small, large", [
    ({"outcome_ring_size": "64K"}, {"outcome_ring_size": "16M"}),
    ({"max_live_queues": "1024"}, {"max_live_queues": "4194304"}),
    ({"max_workers": "4"}, {"max_workers": "64"})], ids=lambda s: next(iter(s)))
def test_shared_memory_is_as_large_as_told(make_sluice, small, large):
    largest = []
    for settings in (small, large):
        sluice = make_sluice(**dict({"max_workers": "8"}, **settings)).start()
        # the spool's map is private to LMDB's file and of one size, so sums compare
        largest.append(sum(map_sizes(sluice.process.pid)))
        sluice.stop()
    assert largest[1] > largest[0]


def test_bodies_in_memory_are_bounded(make):
    """Ten clients that have all sent most of a message hold more than 1 MiB together."""
    sluice = make(max_body_memory="1M")
    talks, codes = [sluice.dialogue() for _ in range(10)], []
    for talk in talks:
        talk.greet()
        talk("MAIL FROM:<a@sender.test>")
        talk("RCPT TO:<b@example.test>")
        if talk("DATA").startswith("354"):
            talk.send(b"Subject: x\r\n\r\n" + (b"z" * 76 + b"\r\n") * 2600)
            time.sleep(0.1)
        else:
            codes.append("452")
            talk.close()
    for talk in talks:
        if talk.sock.fileno() >= 0:
            codes.append(talk(b".\r\n")[:3])
            talk.close()
    assert set(codes) == {"250", "452"}


@pytest.mark.parametrize("threads", [1, 5])
def test_session_threads(make_sluice, threads):
    sluice = make_sluice(session_threads=str(threads)).start()
    tasks = len(os.listdir(f"/proc/{sluice.pid('spooler')}/task"))
    other = make_sluice(session_threads=str(threads + 3)).start()
    assert len(os.listdir(f"/proc/{other.pid('spooler')}/task")) == tasks + 3


def test_domain_suffix(make, receiver):
    send(make(domain_suffix="example.test"), "plain")
    receiver.wait("messages", 1)
    assert receiver.messages()[0]["rcpts"] == ["plain@example.test"]


# [smtp-listener], [source]

def test_a_listener_names_a_source(make_sluice, receiver):
    sluice = make_sluice(source={"max-message-hops": "100"})
    port = free_port()
    sluice.extra = f"[source closed]\nsmtp-service = no\n[smtp-listener 127.0.0.1:{port}]\nsource = closed\n"
    sluice.start()
    with sluice.dialogue() as talk:
        assert talk.reply()[0].startswith("220")
    sluice.port = port
    with sluice.dialogue() as talk:
        assert talk.reply()[0].startswith("521")


def test_silence_inside_a_message_ends_it(make):
    sluice = make(source={"smtp-data-timeout": "1s", "smtp-command-timeout": "60s"})
    with sluice.dialogue() as talk:
        talk.greet()
        talk("MAIL FROM:<a@sender.test>")
        talk("RCPT TO:<b@example.test>")
        talk("DATA")
        talk.send(b"Subject: x\r\n")
        start = time.monotonic()
        assert "".join(talk.reply())[:3] in ("421", "451", "")
        assert time.monotonic() - start < 8


def test_processed_headers_stay_where_told(make, receiver):
    sluice = make(source={"retain-x-virtual-mta": "yes", "jobid-header": "x-campaign",
                          "retain-x-job": "yes", "process-x-envid": "yes"})
    send(sluice, vmta="a", headers={"X-Campaign": "spring", "X-Envid": "e-1", "X-Job": "other"})
    receiver.wait("messages", 1)
    header = receiver.messages()[0]["header"].lower()
    assert "x-virtual-mta: a" in header and "x-campaign: spring" in header
    assert "x-envid" not in header
    record = sluice.wait_records(1, "d")[0]
    assert (record.jobId, record.envId) == ("spring", "e-1")


def test_an_invalid_virtual_mta_may_pass(make, receiver):
    sluice = make(source={"reject-invalid-virtual-mta": "no"})
    send(sluice, vmta="nobody")
    receiver.wait("messages", 1)
    assert sluice.wait_records(1, "d")[0].vmta == "a"


def test_headers_are_removed_and_left_out(make, receiver):
    sluice = make(source={"remove-header": "x-secret, x-other", "remove-received-headers": "yes",
                          "add-received-header": "no", "add-date-header": "override",
                          "add-message-id-header": "no"})
    send(sluice, headers={"X-Secret": "1", "Received": "from x by y", "Date": "Mon, 1 Jan 2001 00:00:00 +0000"})
    receiver.wait("messages", 1)
    header = receiver.messages()[0]["header"].lower()
    for absent in ("x-secret", "received", "2001", "message-id"):
        assert absent not in header
    assert "date:" in header


def test_extensions_are_not_offered(make):
    sluice = make(source={"allow-chunking": "no", "allow-smtputf8": "no"})
    with sluice.dialogue() as talk:
        ehlo = talk.greet()[1]
        assert "CHUNKING" not in ehlo and "SMTPUTF8" not in ehlo
        assert talk(b"BDAT 3 LAST\r\nabc")[0] == "5"


# [virtual-mta]

def test_host_name_of_a_virtual_mta(make, receiver):
    sluice = make(vmtas={"a": {"smtp-source-ip": "127.0.0.22", "host-name": "named.sluice.test"}})
    send(sluice)
    receiver.wait("messages", 1)
    event = receiver.messages()[0]
    assert receiver.connection_of(event)["source"] == "127.0.0.22"
    assert receiver.ehlo_of(event) == "named.sluice.test"


# [domain]

def test_discard_as_bounce(make):
    sluice = make(domains={"hole.test": {"type": "discard", "discard-as-bounce": "yes"}})
    send(sluice, "b@hole.test")
    assert sluice.wait_records(1, "b", "b@hole.test")[0].dlvType == "discard"


def test_errors_end_a_connection(make, receiver):
    receiver.script([{"stage": "rcpt", "local": "bad*", "reply": "550 5.1.1 no"}])
    sluice = make({"max-errors-per-connection": "2", "max-smtp-out": "1"})
    for i in range(6):
        send(sluice, f"bad{i}@example.test", headers={"X-N": str(i)})
    sluice.wait_records(6, "b")
    assert receiver.stats()["connections"] >= 3


def test_recipients_wait_longer_than_the_site(make, receiver):
    receiver.script([{"stage": "rcpt", "local": "later", "once": "rcpt", "reply": "450 4.2.1 later"}])
    sluice = make({"retry-recipients-after": "4s"})
    send(sluice, "later@example.test")
    receiver.wait("messages", 1, timeout=20)
    record = sluice.wait_records(1, "t")[0]
    done = sluice.wait_records(1, "d")[0]
    assert record.rcpt == done.rcpt
    tries = [e["t"] for e in receiver.journal("rcpt")]
    assert tries[1] - tries[0] >= 3.9


@pytest.mark.parametrize("value, type_", [("yes", "b"), ("no", "tq")])
def test_a_5xx_greeting(make, receiver, value, type_):
    receiver.script([{"stage": "connect", "reply": "554 5.7.1 go away"}])
    sluice = make({"bounce-upon-5xx-greeting": value})
    send(sluice)
    assert sluice.wait_records(1, type_)[0].dsnDiag.startswith("smtp;554")


def test_an_idle_connection_is_used_again(make, receiver):
    sluice = make({"connection-idle-timeout": "10s"})
    send(sluice)
    receiver.wait("messages", 1)
    time.sleep(1)
    assert receiver.stats()["open"] == 1
    send(sluice)
    receiver.wait("messages", 2)
    assert receiver.stats()["connections"] == 1


def test_a_host_that_does_not_answer_the_connect(make_sluice, dns):
    dns.domain("far.test", "127.0.1.77")
    port = free_port("127.0.1.77")
    deaf = socket.socket()
    deaf.bind(("127.0.1.77", port))
    deaf.listen(0)
    fill = []
    for _ in range(4):   # a full backlog: the next SYN is not answered
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(("127.0.1.77", port))
        fill.append(one)
    time.sleep(0.3)
    sluice = make_sluice(smtp_port=port, domains={"*": dict(QUICK, **{"connect-timeout": "1s"})}).start()
    start = time.monotonic()
    send(sluice, "b@far.test")
    record = sluice.wait_records(1, "tq", timeout=20)[0]
    assert time.monotonic() - start < 15
    assert "timed out" in record.dsnDiag or "timeout" in record.dsnDiag
    for sock in fill + [deaf]:
        sock.close()


def test_a_receiver_that_stops_reading(make, receiver):
    receiver.script([{"stage": "body", "nth": 1, "after-bytes": 1000, "hang": True}])
    sluice = make({"data-send-timeout": "2s"})
    send(sluice, body=(b"z" * 76 + b"\r\n") * 200000)
    receiver.wait("messages", 1, timeout=30)
    assert "while sending the message" in sluice.records("tq,t")[0].dsnDiag


def test_starttls_is_not_used(make, receiver):
    receiver.script(features=[{"starttls": True}])
    send(make({"use-starttls": "no"}))
    receiver.wait("messages", 1)
    assert receiver.stats()["handshakes"] == 0


def test_ignored_extensions(make, receiver):
    receiver.script(features=[{"dsn": True}])
    for i, everywhere in enumerate(({}, {"ignore-8bitmime": "yes", "ignore-dsn": "yes",
                                         "ignore-pipelining": "yes"})):
        sluice = make(everywhere)
        send(sluice, f"m{i}@example.test", body="gr\u00fc\u00dfe\r\n", mail_options=["BODY=8BITMIME", "ENVID=e1"])
        receiver.wait("messages", i + 1)
        sluice.stop()
    first, second = receiver.journal("mail")
    assert "BODY=8BITMIME" in first["args"] and "ENVID" in first["args"]
    assert second["args"].replace("SIZE=", "").strip().isdigit() or second["args"] == ""


@pytest.mark.parametrize("value, pipelined", [("no", True), ("yes", False)])
def test_pipelining_is_ignored(make, receiver, value, pipelined):
    """Who pipelines has sent RCPT before the refusal of MAIL comes; who does not never sends it."""
    receiver.script([{"stage": "mail", "reply": "550 5.7.1 no"}])
    sluice = make({"ignore-pipelining": value})
    send(sluice)
    sluice.wait_records(1, "b")
    late = [e for e in receiver.journal("reply") if e["reply"].startswith("503")]
    assert bool(late) == pipelined


# [acct-file]

def test_formats_and_texts_of_accounting_files(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port, acct=False)
    one, two = sluice.folder / "one.csv", sluice.folder / "two.csv"
    sluice.extra = (f"[acct-file one]\npath = {one}\nrecords = d\nworld-readable = yes\niso-times = no\n"
                    "user-string = from here\nrecord-fields = d timeLogged, rcpt, userString\n"
                    f"[acct-file {two}]\nrecords = d\n")
    sluice.start()
    send(sluice)
    wait_until(lambda: one.exists() and one.read_bytes().count(b"\n") == 2, 10, "a record")
    wait_until(lambda: two.exists() and two.read_bytes().count(b"\n") == 2, 10, "a record")
    record = read_csv(one.read_bytes())[0]
    assert record.timeLogged.isdigit() and record.userString == "from here"
    assert set(vars(record)) == {"type", "timeLogged", "rcpt", "userString"}
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d{4}$", read_csv(two.read_bytes())[0].timeLogged)
    assert os.stat(one).st_mode & 0o004 and not os.stat(two).st_mode & 0o004


def test_finished_files_move(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port)
    done = sluice.folder / "done"
    done.mkdir()
    sluice.acct = {"records": "d", "move-interval": "1s", "move-to": done}
    sluice.start()
    send(sluice)
    wait_until(lambda: list(done.iterdir()), 15, "a moved file")
    assert read_csv(next(done.iterdir()).read_bytes())[0].rcpt == "b@example.test"


def test_finished_files_are_deleted(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port,
                         acct={"records": "d", "move-interval": "1s", "delete-after": "2s"}).start()
    send(sluice)

    def finished():
        return [p for p in sluice.folder.glob("acct*") if p != sluice.acct_path]
    first = wait_until(finished, 15, "a finished file")[0]
    time.sleep(2)
    send(sluice)    # the next file that is finished is when old ones are looked at
    wait_until(lambda: not first.exists(), 15, "its end")


def test_a_full_file_is_finished(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port, acct={"records": "d", "max-size": "1M"}).start()
    rcpts = [f"{'x' * 60}{i}@example.test" for i in range(1000)]
    for _ in range(4):
        send(sluice, rcpts)
    wait_until(lambda: len(list(sluice.folder.glob("acct*"))) > 1, 30, "a second file")


# The program itself

def test_version(make_sluice):
    done = subprocess.run([make_sluice()._binary("SLUICED", "sluiced"), "--version"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0 and re.search(r"\d+\.\d+", done.stdout)


def test_debug_stays_in_front_and_changes_no_user(make_sluice):
    """The log goes to stderr, whatever the file says; nobody has to be root."""
    sluice = make_sluice(log="/nowhere/sluice.log").start()
    assert sluice.log_lines(contains="ready")
    for process in sluice.processes():
        assert os.stat(f"/proc/{process['pid']}").st_uid == os.getuid()


# One name for two

ALIASES = [("global", "smtp-source-ip = 127.0.0.1"), ("global", "name-server = 127.0.0.1"),
           ("virtual-mta v", "helo-domain = x.test"), ("virtual-mta v", "smtp-source-ip = 127.0.0.1"),
           ("domain *", "smtp-port = 26"), ("domain *", "max-rcpt-per-transaction = 5"),
           ("acct-file /tmp/x", "rotate = 1h"), ("acct-file /tmp/x", "fields = rcpt"),
           ("acct-file /tmp/x", "format-text = csv")]


@pytest.mark.parametrize("section, line", ALIASES)
def test_aliases_are_taken(make_sluice, section, line):
    sluice = make_sluice()
    sluice.extra = f"[{section}]\n{line}\n"
    assert sluice.check()[0] == 0
