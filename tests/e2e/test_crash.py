"""kill -9 of every process at any time: nothing lost, nothing twice but what was open."""
import contextlib
import ctypes
import ctypes.util
import json
import os
import random
import signal
import subprocess
import threading
import time

import pytest

from peers import tool, wait_until
from sluice import Kill, Sluice, ledger, parse_log_line

DOMAINS = 20
KILLS = int(os.environ.get("E2E_KILLS", "200" if os.environ.get("SLUICE_TORTURE") else "8"))
VMTAS = {f"v{i}": [f"127.0.0.{30 + i} v{i}.sluice.test"] for i in range(3)}


@pytest.fixture
def setup(make_sluice, make_receiver, dns):
    """5 % of the recipients are refused, 5 % deferred once; replies take a moment."""
    receiver = make_receiver(addresses=f"127.0.1.1-127.0.1.{DOMAINS}")
    dns.generate(r"d(\d+)\.test", lambda m: {"MX": [(10, f"mx{m[1]}.test")]})
    dns.generate(r"mx(\d+)\.test", lambda m: {"A": [f"127.0.1.{1 + int(m[1])}"]})
    receiver.script([{"stage": "rcpt", "percent": 5, "reply": "550 5.1.1 no such user"},
                     {"stage": "rcpt", "percent": [5, 10], "once": "rcpt",
                      "reply": "450 4.2.1 later"},
                     {"stage": "dot", "delay": 5}])
    sluice = make_sluice(smtp_port=receiver.port, vmtas=VMTAS, source={"suppress-local-dsn": "yes"},
                         domains={"*": {"retry-after": "1s", "retry-after-dns-error": "1s"}})
    return sluice.start(), receiver


class Feeder:
    """tests/bench/source in the background, reconnecting while the server is away."""

    def __init__(self, sluice, folder, messages, rate=0, first_id=0):
        self.log = folder / f"feeder{first_id}.log"
        self.process = subprocess.Popen(
            [tool("source"), "--to", f"{sluice.ip}:{sluice.port}", "--messages", str(messages),
             "--domains", str(DOMAINS), "--vmtas", str(len(VMTAS)), "--connections", "10",
             "--size", "2000", "--retry", "60", "--log", str(self.log), "--first-id",
             str(first_id), "--rate", str(rate)], stdout=subprocess.PIPE, text=True)

    def finish(self, timeout=90):
        out, _ = self.process.communicate(timeout=timeout)
        return json.loads(out)

    def fates(self):
        """id -> status"""
        found = {}
        for line in self.log.read_text().splitlines():
            number, status = line.split()[:2]
            found[int(number)] = status
        return found


def settle(sluice, receiver, feeder, timeout=60):
    """Waits until every accepted recipient has its record, then compares."""
    feeder.finish()
    fates = feeder.fates()
    accepted = {f"m{i}@d{i % DOMAINS}.test" for i, status in fates.items() if status == "ok"}
    unknown = {f"m{i}@d{i % DOMAINS}.test" for i, status in fates.items() if status == "unknown"}
    assert "refused" not in fates.values()

    def all_there():
        return accepted <= {r.rcpt for r in sluice.records("d,b")}
    try:
        wait_until(all_there, timeout, "final records", pause=0.2)
    except TimeoutError:
        pass        # the ledger says which
    wait_until(lambda: sluice.queued() == 0, 20, "an empty spool")
    verdict = ledger(accepted, sluice.records("d,b"), receiver.journal(), sluice.kills)
    assert verdict.lost == []
    assert verdict.doubled == []
    assert set(verdict.unexpected) <= unknown
    assert verdict.excess == []         # each duplicate was open at a kill, or had just ended
    assert sluice.rows("list") == []
    assert sluice.cli("spool", "check")["problems"] == 0
    wait_until(lambda: not any(r["in_use"] for r in sluice.rows("show", "limits")), 10,
               "no slot to be held")
    return verdict


@pytest.mark.parametrize("role", ["worker", "spooler", "resolver"])
def test_a_process_dies_under_load(setup, tmp_path, role):
    sluice, receiver = setup
    feeder = Feeder(sluice, tmp_path, 3000, rate=1500)
    for i in range(3):
        receiver.wait("messages", 200 + 500 * i, timeout=30)
        vmta = f"v{i}" if role == "worker" else None
        old = sluice.kill(role, vmta)
        sluice.wait_respawn(role, old, vmta)
    settle(sluice, receiver, feeder)


def test_the_family_dies_at_once_and_starts_again(setup, tmp_path):
    sluice, receiver = setup
    feeder = Feeder(sluice, tmp_path, 3000, rate=1500)
    for i in range(2):
        receiver.wait("messages", 300 + 700 * i, timeout=30)
        sluice.kill_all()
        sluice.start(write=False)
    settle(sluice, receiver, feeder)


def test_master_dies_and_a_new_one_starts_beside_survivors(setup, tmp_path):
    sluice, receiver = setup
    feeder = Feeder(sluice, tmp_path, 3000, rate=1000)
    receiver.wait("messages", 300, timeout=30)
    survivors = set(sluice.family()) - {sluice.kill("master")}
    sluice.start(write=False, timeout=30)
    sluice.kills.append(Kill(sluice.kills[-1][0], time.time()))     # survivors end when they see it
    assert not survivors & set(sluice.family()), "survivors of the old family are still there"
    settle(sluice, receiver, feeder)


def test_survivors_end_by_themselves(setup):
    sluice, _ = setup
    sluice.kill("master")
    wait_until(lambda: not sluice.family(), 8, "the survivors to end")


def test_a_worker_that_hangs_does_not_hold_up_others(setup):
    sluice, receiver = setup
    pid = sluice.pid("worker", "v0")
    os.kill(pid, signal.SIGSTOP)
    try:
        sluice.inject("a@source.test", "x1@d1.test", vmta="v1")
        wait_until(lambda: [m for m in receiver.messages() if "x1@d1.test" in m["rcpts"]] or
                   sluice.records("b", "x1@d1.test"), 5, "the other virtual MTA")
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.limit(120 + 3 * KILLS)
def test_random_kills(setup, tmp_path):
    """The ledger in small: E2E_KILLS more of them make it the real thing."""
    sluice, receiver = setup
    number = KILLS
    feeder = Feeder(sluice, tmp_path, number * 400, rate=800)
    rng = random.Random(int(os.environ.get("E2E_SEED", "1")))
    while len(sluice.kills) < number:
        time.sleep(rng.uniform(0.05, 0.5))
        target = rng.choice(["worker", "worker", "worker", "spooler", "resolver", "master", "all"])
        if target == "all":
            sluice.kill_all()
            sluice.start(write=False, timeout=70)
        elif target == "master":
            sluice.kill("master")
            sluice.start(write=False, timeout=70)
            sluice.kills[-1] = Kill(sluice.kills[-1][0], time.time())
        else:
            vmta = rng.choice(list(VMTAS)) if target == "worker" else None
            if [p for p in sluice.processes(target, vmta) if p["pid"] > 0]:
                sluice.kill(target, vmta)
    verdict = settle(sluice, receiver, feeder, timeout=120)
    print(f"{number} kills, {len(verdict.duplicates)} duplicates, all of transactions open at a "
          f"kill of their own process, {verdict.open} of which there were")


def test_sigterm_ends_in_time_and_keeps_the_mail(setup):
    sluice, receiver = setup
    receiver.script([{"stage": "dot", "delay": 4000}])
    for i in range(10):
        sluice.inject("a@source.test", f"m{i}@d{i}.test")
    receiver.wait("mails", 1)
    began = time.monotonic()
    assert sluice.stop() == 0
    assert time.monotonic() - began < 35
    receiver.script()
    sluice.start(write=False)
    wait_until(lambda: len(sluice.final()) == 10, 30, "all ten")
    verdict = ledger({f"m{i}@d{i}.test" for i in range(10)}, sluice.records("d,b"),
                     receiver.journal())
    assert verdict.lost == verdict.doubled == verdict.duplicates == []


def test_a_second_daemon_is_kept_out(setup):
    sluice, _ = setup
    other = Sluice(sluice.folder / "other", acct=False)
    other.global_.update({"spool-dir": sluice.spool, "runtime-dir": sluice.runtime})
    other.start(ready=False)
    try:
        line = other.wait_log(contains="spool is in use", timeout=10)
        assert str(sluice.process.pid) in line or any(
            str(pid) in line for pid in sluice.family())
    finally:
        other.clean_up()
    assert sluice.processes("spooler")


def test_queued_mail_survives_a_restart(setup):
    sluice, receiver = setup
    for i in range(5):
        receiver.unlisten(f"127.0.1.{1 + i}")
        sluice.inject("a@source.test", f"m{i}@d{i}.test")
    wait_until(lambda: len(sluice.records("tq")) >= 1, 10, "a failed connection")
    assert sluice.stop() == 0
    assert len(sluice.rows("list")) == 5
    for i in range(5):
        receiver.listen(f"127.0.1.{1 + i}")
    sluice.start(write=False)
    wait_until(lambda: len(sluice.final()) == 5, 20, "all five")


@contextlib.contextmanager
def write_lock(spool):
    """While it lasts a commit does not end: LMDB lets one process write at a time."""
    lmdb = ctypes.CDLL(ctypes.util.find_library("lmdb") or "liblmdb.so.0")
    env, txn = ctypes.c_void_p(), ctypes.c_void_p()
    assert lmdb.mdb_env_create(ctypes.byref(env)) == 0
    assert lmdb.mdb_env_open(env, os.fsencode(spool), 0, 0o640) == 0
    assert lmdb.mdb_txn_begin(env, None, 0, ctypes.byref(txn)) == 0
    try:
        yield
    finally:
        lmdb.mdb_txn_abort(txn)
        lmdb.mdb_env_close(env)


def freeze(sluice):
    """Stops all children: {pid: name}"""
    children = {p["pid"]: p.get("vmta") or p["role"] for p in sluice.processes()
                if p["role"] != "master"}
    for pid in children:
        os.kill(pid, signal.SIGSTOP)
    return children


@pytest.mark.limit(150)
def test_what_hangs_is_replaced_and_what_is_slow_is_not(make_sluice, receiver, dns):
    """All that takes half a minute and more, side by side: a daemon of which every child hangs, one
    in which a commit does not end while it reloads, and one that waits for the first one's spool."""
    dns.domain("example.test", "127.0.1.1")
    hung = make_sluice(smtp_port=receiver.port).start()
    slow = make_sluice(smtp_port=receiver.port).start()
    kept_out = make_sluice(spool_dir=hung.spool, runtime_dir=hung.runtime)
    kept_out.start(ready=False)
    spooler = slow.pid("spooler")
    feeder = threading.Thread(target=slow.inject, args=("a@sender.test", "slow@example.test"),
                              kwargs={"client": slow.smtp(timeout=120)})
    with write_lock(slow.spool):
        feeder.start()
        slow.wait_log(msg="a commit takes long: is the disk slow?")
        slow.vmtas["b"] = ["127.0.0.12"]
        slow.write_config()
        os.kill(slow.process.pid, signal.SIGHUP)
        children = freeze(hung)
        for pid in children:
            hung.wait_log(timeout=50, msg="hangs: it is aborted and started again", pid=pid)
        for pid in children:
            hung.wait_log(msg="died by a signal", pid=pid)
        wait_until(lambda: len(hung.log_lines(msg="started again")) == len(children), 20,
                   f"new processes for {children}")
        hung.inject("a@sender.test", "hung@example.test")
        hung.wait_records(1, "d", "hung@example.test")
        # It was asked for its new configuration 30 s ago.
        assert not slow.log_lines(msg="reloaded")
    slow.wait_log(msg="reloaded")
    feeder.join()
    slow.wait_records(1, "d", "slow@example.test")
    assert slow.pid("spooler") == spooler
    assert slow.processes("worker", "b")
    kept_out.process.wait(60)
    assert kept_out.process.returncode == 1
    assert kept_out.wait_log(contains=f"spool {hung.spool} is still in use by master")


def test_a_message_that_kills_is_tried_alone_then_set_aside(make_sluice, receiver, dns):
    """A fault while it is in hand, three times. Other mail goes on; in the end it is delivered."""
    dns.domain("example.test", "127.0.1.1")
    asan = os.environ.get("ASAN_OPTIONS", "") + ":handle_segv=0"
    sluice = make_sluice(smtp_port=receiver.port, env={"ASAN_OPTIONS": asan}).start()
    receiver.script([{"stage": "dot", "from": "poison@sender.test", "hang": True}])
    sluice.inject("poison@sender.test", "victim@example.test")
    msgid = wait_until(lambda: sluice.rows("list"), 5, "it to be in the spool")[0]["msgid"]

    def transactions():
        return [e for e in receiver.journal("mail") if e["from"] == "poison@sender.test"]
    for deaths in range(1, 4):
        wait_until(lambda n=deaths: len(transactions()) == n, 15, f"try {deaths}")
        since = len(sluice.log)
        os.kill(sluice.pid("worker", "a"), signal.SIGSEGV)
        sluice.wait_log(since=since, msg="died with messages in hand: their crashes are counted",
                        messages=1, msgids=msgid)
        sluice.wait_log(since=since, msg="started again", worker="a")
        assert sluice.cli("show", "message", msgid)["crashes"] == deaths
        sluice.inject("a@sender.test", f"other{deaths}@example.test")
        sluice.wait_records(1, "d", f"other{deaths}@example.test")
    record, = sluice.wait_records(1, "t", "victim@example.test")
    why = "local: set aside: 3 workers died with it in hand"
    assert record.dsnDiag == f"x-sluice;{why}"
    victim, = sluice.cli("show", "message", msgid)["recipients"]
    assert victim["last_reply"] == why and len(transactions()) == 3

    # An operator who does not want to wait for the hour.
    receiver.script()
    sluice.cli("schedule", "example.test/a", "--retry-recipients", "--no-spread")
    sluice.wait_records(1, "d", "victim@example.test")
    sluice.inject("a@sender.test", "behind@example.test")
    sluice.wait_records(1, "d", "behind@example.test")
    alone = transactions()[-1]["c"]
    assert len(receiver.journal("mail", c=alone)) == 1, "nothing else over its connection"
    sluice.wait_empty()


def test_a_sigkill_blames_no_message(sluice, receiver):
    receiver.script([{"stage": "dot", "from": "innocent@sender.test", "hang": True}])
    sluice.inject("innocent@sender.test", "b@example.test")
    receiver.wait("mails", 1)
    sluice.kill("worker", "a")
    sluice.wait_log(msg="started again", worker="a")
    message, = sluice.rows("list")
    assert sluice.cli("show", "message", message["msgid"])["crashes"] == 0
    assert not sluice.log_lines(contains="died with messages in hand")


def flip_in_shared_memory(pid, text):
    """Changes a bit where this text stands in what the process shares with its family."""
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps, open(f"/proc/{pid}/mem", "r+b") as mem:
        for line in maps:
            if " rw-s " not in line:
                continue
            begin, end = (int(x, 16) for x in line.split()[0].split("-"))
            mem.seek(begin)
            at = mem.read(end - begin).find(text)
            if at >= 0:
                mem.seek(begin + at)
                mem.write(bytes([text[0] ^ 1]))
                return True
    return False


def test_a_bad_report_is_set_aside_and_its_worker_replaced(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port, max_workers=4, outcome_ring_size="64K").start()
    receiver.script([{"stage": "dot", "once": "rcpt", "delay": 2000,
                      "reply": "250 2.0.0 what the ring must hold"}])
    worker, spooler = sluice.pid("worker", "a"), sluice.pid("spooler")
    sluice.inject("a@sender.test", "b@example.test")
    receiver.wait("mails", 1)
    os.kill(spooler, signal.SIGSTOP)        # so that the report stays where it is
    try:
        wait_until(lambda: flip_in_shared_memory(worker, b"what the ring must hold"), 15,
                   "the report")
    finally:
        os.kill(spooler, signal.SIGCONT)
    line = sluice.wait_log(msg="a worker's outcome ring is corrupt; the record is set aside and the "
                               "worker restarted")
    path = parse_log_line(line)["file"]
    sluice.wait_log(msg="a worker's outcome ring is corrupt; it is started again", worker="a")
    sluice.wait_log(msg="started again", worker="a")
    assert sluice.pid("worker", "a") != worker and sluice.pid("spooler") == spooler
    assert os.path.dirname(path) == str(sluice.spool / "bad-outcomes")
    with open(path, "rb") as f:
        assert b"vhat the ring must hold" in f.read()
    # What it told is lost, so the mail goes out once more.
    sluice.wait_records(1, "d", "b@example.test")
    assert len(receiver.messages()) == 2
    sluice.wait_empty()
