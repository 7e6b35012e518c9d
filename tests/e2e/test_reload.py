"""Reload: a good file drops nothing, a bad one changes nothing; --check."""
import os
import resource
import signal
import smtplib

import pytest

from peers import Dialogue, free_port, wait_until
from sluice import CliError


def test_check_accepts_a_good_file_and_names_every_error(make_sluice):
    sluice = make_sluice()
    assert sluice.check()[0] == 0
    sluice.extra = "[domain *]\nmax-smtp-outt = 3\nretry-after = soon\n[nonsense]\n"
    status, err = sluice.check()
    lines = sluice.config_text().split("\n")
    assert status == 1
    for wrong in ("max-smtp-outt = 3", "retry-after = soon", "[nonsense]"):
        assert f"{sluice.conf}:{lines.index(wrong) + 1}" in err, err
    assert "max-smtp-out" in err          # the nearest name


def test_a_bad_file_stops_the_start(make_sluice):
    sluice = make_sluice(extra="[domain *]\nfoo = bar\n")
    sluice.start(ready=False)
    assert sluice.process.wait(10) == 1


def test_a_bad_file_changes_nothing(sluice, receiver):
    generation = sluice.cli("show", "status")["generation"]
    sluice.extra = "[domain *]\nmax-smtp-out = many\n"
    sluice.write_config()
    with pytest.raises(CliError) as refused:
        sluice.cli("reload")
    assert refused.value.status == 1 and "max-smtp-out" in refused.value.err + refused.value.out
    assert sluice.cli("show", "status")["generation"] == generation
    sluice.inject("a@sender.test", "b@example.test")
    receiver.wait("messages", 1)


@pytest.mark.parametrize("by_signal", [False, True], ids=["command", "SIGHUP"])
def test_a_good_file_drops_no_connection(sluice, receiver, by_signal):
    with sluice.dialogue() as talk:
        talk.greet()
        talk("MAIL FROM:<a@sender.test>")
        talk("RCPT TO:<b@example.test>")
        pids = {p["pid"] for p in sluice.processes()}
        sluice.domains["*"]["max-smtp-out"] = "7"
        sluice.reload(by_signal=by_signal)
        assert {p["pid"] for p in sluice.processes()} == pids
        assert talk("DATA").startswith("354")
        assert talk(b"Subject: x\r\n\r\nx\r\n.\r\n").startswith("250")
    receiver.wait("messages", 1)
    rows = {r["directive"]: r["value"] for r in sluice.rows("show", "settings", "example.test/a")}
    assert rows["max-smtp-out"] == "7"


def test_a_changed_cap_takes_effect(sluice, receiver):
    receiver.script([{"stage": "dot", "delay": 50}])
    sluice.domains["*"]["max-smtp-out"] = "2"
    sluice.reload()
    for i in range(40):
        sluice.inject("a@sender.test", f"m{i}@example.test")
    receiver.wait("messages", 40)
    assert receiver.stats()["listen"]["127.0.1.1"]["peak"] <= 2


def test_virtual_mtas_come_and_go(sluice, receiver):
    sluice.vmtas["late"] = ["127.0.0.77 late.sluice.test"]
    sluice.reload()
    wait_until(lambda: sluice.processes("worker", "late"), 10, "the new worker")
    sluice.inject("a@sender.test", "b@example.test", vmta="late")
    receiver.wait("messages", 1)
    assert receiver.connection_of(receiver.messages()[0])["source"] == "127.0.0.77"
    del sluice.vmtas["late"]
    sluice.reload()
    wait_until(lambda: not sluice.processes("worker", "late"), 30, "the worker to end")
    with pytest.raises(smtplib.SMTPDataError):
        sluice.inject("a@sender.test", "b@example.test", vmta="late")


def test_a_virtual_mta_with_mail_becomes_an_orphan_and_comes_back(sluice, receiver, dns):
    dns.domain("held.test", "127.0.1.15")
    receiver.script([{"stage": "rcpt", "domain": "held.test", "reply": "450 4.2.1 later"}])
    sluice.vmtas["gone"] = ["127.0.0.78 gone.sluice.test"]
    sluice.reload()
    sluice.inject("a@sender.test", "b@held.test", vmta="gone")
    sluice.wait_records(1, "t")
    kept = sluice.vmtas.pop("gone")
    sluice.reload()
    wait_until(lambda: [p for p in sluice.processes("worker", "gone") if p["orphan"]], 20,
               "the orphan")
    receiver.script()
    assert len(sluice.rows("list")) == 1
    sluice.vmtas["gone"] = kept
    sluice.reload()
    receiver.wait("messages", 1, timeout=30)
    assert receiver.connection_of(receiver.messages()[0])["source"] == "127.0.0.78"


def test_listeners_come_and_go(sluice):
    port = free_port(sluice.ip)
    sluice.extra = f"[smtp-listener {sluice.ip}:{port}]\n"
    sluice.reload()
    with Dialogue(sluice.ip, port) as talk:
        assert talk.greet()[0].startswith("220")
    held = Dialogue(sluice.ip, port)
    held.greet()
    sluice.extra = ""
    sluice.reload()
    with pytest.raises(ConnectionRefusedError):
        Dialogue(sluice.ip, port)
    assert held("NOOP").startswith("250")
    held.close()
    with sluice.dialogue() as talk:
        assert talk.greet()[0].startswith("220")


def test_reload_under_load_loses_nothing(sluice, receiver):
    client = sluice.smtp()
    for i in range(200):
        sluice.inject("a@sender.test", f"m{i}@example.test", client=client)
        if i % 40 == 0:
            sluice.domains["*"]["max-smtp-out"] = str(3 + i // 40)
            sluice.reload()
    assert len(sluice.wait_records(200, "d", timeout=30)) == 200
    assert receiver.stats()["messages"] == 200


@pytest.mark.parametrize("role", ["worker", "resolver", "spooler"])
def test_a_process_that_cannot_take_a_configuration_is_replaced(sluice, receiver, role):
    """Without a free descriptor it gets the message without the file that belongs to it."""
    pid = sluice.processes(role)[0]["pid"]
    used = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    free = min(set(range(len(used) + 1)) - used)
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, hard))
    sluice.vmtas["late"] = ["127.0.0.77 late.sluice.test"]
    sluice.reload()
    sluice.wait_log(contains="cannot use the new configuration: it is started again")
    wait_until(lambda: sluice.processes(role) and sluice.processes(role)[0]["pid"] != pid, 20,
               f"another {role}")
    wait_until(lambda: sluice.processes("worker", "late"), 20, "the new worker")
    sluice.inject("a@sender.test", "b@example.test", vmta="late")
    receiver.wait("messages", 1)
    assert receiver.connection_of(receiver.messages()[0])["source"] == "127.0.0.77"
    sluice.reload()


def test_a_drain_outlives_the_spooler(sluice):
    def refused():
        with sluice.dialogue() as talk:
            return talk.reply()[0].startswith("421 ")
    sluice.cli("drain")
    wait_until(refused, 5, "new connections to be refused")
    sluice.wait_respawn("spooler", sluice.kill("spooler"))
    sluice.wait_log(msg="started again")
    wait_until(refused, 5, "the new spooler to refuse them, too")
    sluice.cli("drain", "--off")
    wait_until(lambda: not refused(), 5, "new connections to be served")


@pytest.mark.skipif("SLUICE_TORTURE" not in os.environ, reason="takes half a minute: make torture")
def test_a_process_that_never_answers_does_not_hold_a_reload(sluice, receiver):
    pid = sluice.pid("resolver")
    os.kill(pid, signal.SIGSTOP)
    sluice.cli("reload", timeout=120)
    assert sluice.log_lines(contains="does not take the new configuration")
    sluice.wait_respawn("resolver", pid, timeout=60)
    sluice.inject("a@sender.test", "b@example.test")
    receiver.wait("messages", 1, timeout=30)
