"""What operators run into: a spool used twice, files that are missing, damaged or full, wrong settings."""
import contextlib
import os
import signal
import subprocess
import tempfile
import pathlib
import shutil

import pytest

from peers import tool, wait_until

ROOT = os.geteuid() == 0


def test_another_runtime_dir_does_not_open_the_same_spool_again(make_sluice, receiver, tmp_path):
    first = make_sluice(smtp_port=receiver.port).start()
    second = make_sluice(smtp_port=receiver.port, spool_dir=first.spool,
                         runtime_dir=tmp_path / "elsewhere")
    second.start(ready=False)
    line = second.wait_log(contains="the spool is in use")
    assert "another runtime-dir" in line
    first.stop()
    second.wait_log(msg="ready")


def test_a_missing_directory_of_an_accounting_file_is_made(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port)
    sluice.acct_path = sluice.folder / "log" / "deeper" / "acct.csv"
    sluice.start()
    sluice.inject("a@sender.test", "b@example.test")
    sluice.wait_records(1, "d")


def test_counts_the_records_that_wait_for_their_file(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port)
    blocked = sluice.folder / "log"
    blocked.write_text("a file where the directory should be")
    sluice.acct_path = blocked / "acct.csv"
    sluice.start()
    sluice.inject("a@sender.test", ["b@example.test", "c@example.test"])

    def count(name):
        return sluice.cli("show", "status")["counters"][name]
    wait_until(lambda: count("acct_waiting") == 2, 10, "two records that wait")
    assert count("acct_records") == 0
    sluice.kill("spooler")
    wait_until(lambda: count("commits") and count("acct_waiting") == 2, 10, "the same after a new start")
    blocked.unlink()
    blocked.mkdir()
    sluice.wait_records(2, "d")
    wait_until(lambda: count("acct_waiting") == 0 and count("acct_records") == 2, 10, "none")


def test_reload_says_what_waits_for_a_restart_and_what_is_doubtful(make_sluice, receiver):
    sluice = make_sluice(smtp_port=receiver.port).start()
    sluice.global_["max-workers"] = "77"
    sluice.vmtas["far"] = ["198.51.100.25 far.test"]
    sluice.write_config()
    assert "max-workers" in sluice.cli("reload", "--dry-run")["notes"]
    assert sluice.cli("show", "status")["generation"] == 0
    done = sluice.run("reload")
    assert "max-workers is changed, but takes effect only with a restart" in done.stdout
    assert "reloaded" in done.stdout
    line = sluice.wait_log(contains="not on this machine")
    assert "198.51.100.25" in line and "vmta=far" in line


@pytest.mark.parametrize("directive", ["spool-dir", "runtime-dir", "control-socket"])
def test_a_reload_cannot_move_the_spool(make_sluice, receiver, tmp_path, dns, directive):
    """A process started again after such a reload would have used another spool than the others."""
    dns.domain("example.test", "127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port).start()
    old = sluice.global_.get(directive)
    sluice.global_[directive] = tmp_path / "elsewhere"
    sluice.write_config()
    os.kill(sluice.process.pid, signal.SIGHUP)
    line = sluice.wait_log(msg="the configuration was not changed")
    assert f"{directive} is changed" in line
    sluice.global_.pop(directive)
    if old:
        sluice.global_[directive] = old
    sluice.write_config()
    pid = sluice.kill("spooler")
    sluice.wait_respawn("spooler", pid)
    sluice.wait_log(msg="started again", spooler="spooler")
    sluice.inject("a@sender.test", "b@example.test")
    sluice.wait_records(1, "d")


@pytest.mark.parametrize("damage", ["garbage", "short"])
def test_a_damaged_spool_is_said_to_be_damaged_and_left_alone(make_sluice, receiver, damage):
    sluice = make_sluice(smtp_port=receiver.port).start()
    sluice.stop()
    data = sluice.spool / "data.mdb"
    before = os.urandom(8192) + data.read_bytes()[8192:] if damage == "garbage" else b"x" * 100
    data.write_bytes(before)
    sluice.start(ready=False)
    sluice.wait_log(contains="the spool is damaged")
    done = sluice.run("spool", "stat")
    assert done.returncode == 1 and "damaged" in done.stderr
    wait_until(lambda: "does not start" in sluice.cli("show", "status")["why_not"], 10, "the reason")
    assert data.read_bytes() == before


def test_says_when_a_process_is_back(make_sluice, receiver):
    sluice = make_sluice(smtp_port=receiver.port).start()
    for role, name in (("worker", "a"), ("resolver", "resolver"), ("spooler", "spooler")):
        sluice.kill(role, name if role == "worker" else None)
        sluice.wait_log(msg="started again", **{role: name})


def test_says_which_process_is_away(make_sluice, receiver):
    sluice = make_sluice(smtp_port=receiver.port).start()

    def said_by(*command):
        return lambda: "is starting or busy" in (text := sluice.run(*command).stderr) and text

    sluice.kill("worker", "a")
    text = wait_until(said_by("show", "queue", "x.test/a"), 5, "the answer")
    assert "the worker of a, which answers this," in text
    sluice.kill("spooler")
    assert "the spooler, which" in wait_until(said_by("show", "queues"), 5, "the answer")


def test_says_which_limit_turns_feeders_away(make_sluice, receiver):
    sluice = make_sluice(smtp_port=receiver.port, total_max_smtp_in="1").start()
    with sluice.dialogue() as one:
        one.reply()
        for _ in range(5):
            with sluice.dialogue() as other:
                assert "".join(other.reply()).startswith("421")
    line = sluice.wait_log(directive="total-max-smtp-in", limit="1")
    assert "client=127.0.0.1" in line
    assert len(sluice.log_lines(directive="total-max-smtp-in")) == 1, "once a minute"


def test_says_that_no_resolver_answers(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port, domains={"*": {"retry-after-dns-error": "1s"}},
                         resolver="127.0.0.154:9")
    sluice.start()
    sluice.inject("a@sender.test", "b@example.test")
    sluice.wait_log(contains="no DNS resolver answers", server="127.0.0.154:9")
    sluice.global_["resolver"] = dns.address
    sluice.reload()
    sluice.wait_records(1, "d")


@pytest.mark.skipif(not ROOT, reason="mounts a small file system")
def test_a_fast_feeder_does_not_use_up_the_room_for_outcomes(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    small = pathlib.Path(tempfile.mkdtemp(prefix="sluice-small-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(small)], check=True)
    try:
        sluice = make_sluice(smtp_port=receiver.port, spool_dir=small / "spool", min_free_space="16M")
        sluice.start()
        sluice.run("pause", "queue", "*")
        fed = subprocess.run([tool("source"), "--to", f"{sluice.ip}:{sluice.port}", "--messages", "12000",
                              "--connections", "4", "--size", "4000", "--domain", "example.test"],
                             capture_output=True, text=True, timeout=60, check=False)
        assert '"accepted":0' not in fed.stdout and fed.returncode != 0, fed.stdout
        assert shutil.disk_usage(small).free > 2 << 20, "the reserve is used up"
        assert not sluice.log_lines(contains="the spool cannot grow")
        sluice.run("resume", "queue", "*")
        sluice.wait_empty(60)
        wait_until(lambda: sluice.cli("show", "status")["accepting"], 10, "mail accepted again")
        sluice.stop()
    finally:
        sluice.clean_up()
        subprocess.run(["umount", str(small)], check=False)
        small.rmdir()


@pytest.mark.skipif(not ROOT, reason="mounts a small file system")
def test_an_order_that_finds_no_room_is_refused_and_holds_up_nothing(make_sluice, receiver):
    small = pathlib.Path(tempfile.mkdtemp(prefix="sluice-small-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small)], check=True)
    try:
        sluice = make_sluice(smtp_port=receiver.port, spool_dir=small / "spool").start()
        filler = small / "filler"
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

        def refused():
            return sluice.run("pause", "queue", "full.test/*", timeout=15).stderr

        said = wait_until(refused, 20, "the free pages of the spool to be used up")
        assert "the spool has no room to store this order: nothing was changed" in said
        sluice.reload()
        assert not sluice.log_lines(contains="does not take the new configuration")
        filler.unlink()
        sluice.cli("pause", "queue", "full.test/*")
        sluice.stop()
    finally:
        sluice.clean_up()
        subprocess.run(["umount", str(small)], check=False)
        small.rmdir()
