"""Started by root, the daemon keeps little of it: users, groups and capabilities of its processes."""
import os
import pathlib
import pwd
import shutil
import signal
import tempfile

import pytest

from peers import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change users")

# CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_NET_BIND_SERVICE
MASTER_CAPS = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10


@pytest.fixture
def as_nobody(make_sluice, receiver, dns):
    """A daemon as in production, its children being nobody, in folders that nobody can reach."""
    dns.domain("example.test", "127.0.1.1")
    nobody = pwd.getpwnam("nobody")
    place = pathlib.Path(tempfile.mkdtemp(prefix="sluice-user-"))
    place.chmod(0o755)
    sluice = make_sluice(smtp_port=receiver.port, debug=False, user="nobody", spool_dir=place / "spool",
                         runtime_dir=place / "run")
    sluice.spool, sluice.runtime = place / "spool", place / "run"
    sluice.acct_path = place / "acct" / "acct.csv"
    sluice.acct_path.parent.mkdir()
    os.chown(sluice.acct_path.parent, nobody.pw_uid, nobody.pw_gid)
    yield sluice.start(), nobody.pw_uid
    sluice.clean_up()
    shutil.rmtree(place)


def status(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {k: v.split() for k, _, v in (line.partition(":") for line in lines)}


def test_users_and_capabilities(as_nobody, receiver):
    sluice, uid = as_nobody
    sluice.inject("a@sender.test", "b@example.test")
    receiver.wait("messages", 1)
    sluice.wait_records(1, "d")
    for process in sluice.processes():
        seen = status(process["pid"])
        effective = int(seen["CapEff"][0], 16)
        if process["role"] == "master":
            assert effective & ~MASTER_CAPS == 0, seen["CapEff"]
            continue
        assert seen["Uid"] == [str(uid)] * 4, process
        assert "0" not in seen["Gid"] and "0" not in seen["Groups"], process
        assert effective == 0 and int(seen["CapPrm"][0], 16) == 0, process
        assert seen["NoNewPrivs"] == ["1"], process


def test_spool_is_closed_to_others(as_nobody):
    sluice, uid = as_nobody
    sluice.inject("a@sender.test", "b@example.test")
    sluice.wait_records(1, "d")
    for path in (sluice.spool, *sluice.spool.iterdir()):
        info = path.stat()
        assert info.st_uid == uid, path
        assert info.st_mode & 0o007 == 0, f"{path} is open to everybody: {info.st_mode:o}"


def test_the_daemon_still_reloads_respawns_and_stops(as_nobody, receiver):
    sluice, uid = as_nobody
    old = sluice.kill("spooler")
    sluice.wait_respawn("spooler", old)
    sluice.domains["*"]["max-smtp-out"] = "5"
    sluice.reload()
    sluice.vmtas["b"] = ["127.0.0.12"]
    sluice.reload()
    sluice.inject("a@sender.test", "b@example.test", vmta="b")
    receiver.wait("messages", 1)
    assert status(sluice.pid("worker", "b"))["Uid"][0] == str(uid)
    assert sluice.stop() == 0


def test_a_process_hears_of_masters_death_whatever_it_does(as_nobody):
    """What it hears has it killed 5 s later (test_ipc_child): one that hangs reads no pipe."""
    sluice, _ = as_nobody
    children = [p["pid"] for p in sluice.processes() if p["role"] != "master"]
    for pid in children:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(status(pid)["State"][0] == "T" for pid in children), 5, "them to stop")
    sluice.kill("master")
    for pid in children:
        assert int(status(pid)["ShdPnd"][0], 16) & 1 << signal.SIGUSR1 - 1, status(pid)
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: not sluice.family(), 10, "the survivors to end")
