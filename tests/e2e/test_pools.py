"""Pools, cold virtual MTAs, and mail that changes its virtual MTA: counted at the receiver, by source address."""
import collections

import pytest

from sluice import CliError

VMTAS = {"a": ["127.0.0.11 a.sluice.test"], "b": ["127.0.0.12 b.sluice.test"],
         "c": ["127.0.0.13 c.sluice.test"]}
IPS = {"127.0.0.11": "a", "127.0.0.12": "b", "127.0.0.13": "c"}


def pool(name, *members, **more):
    lines = [f"[virtual-mta-pool {name}]"] + [f"virtual-mta = {m}" for m in members]
    lines += [f"{key.replace('_', '-')} = {value}" for key, value in more.items()]
    return "\n".join(lines) + "\n"


def by_source(receiver):
    """Virtual MTA -> recipients that the receiver took from its address."""
    counts = collections.Counter()
    for message in receiver.messages():
        counts[IPS[receiver.connection_of(message)["source"]]] += len(message["rcpts"])
    return dict(counts)


def send(sluice, first, count, vmta, domain="example.test"):
    for i in range(first, first + count):
        sluice.inject("x@sender.test", f"r{i}@{domain}", vmta=vmta)


def test_weights_and_sequences_are_exact_over_a_restart_and_a_kill(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port, vmtas=VMTAS,
                         extra=pool("w", "a weight 5", "b weight 3", "c weight 2",
                                    selection="weighted") +
                         pool("s", "a count 4", "b count 2", selection="sequential")).start()
    send(sluice, 0, 13, "w")
    send(sluice, 100, 5, "s")
    old = sluice.pid("spooler")
    sluice.kill("spooler")
    sluice.wait_respawn("spooler", old)
    send(sluice, 20, 7, "w")
    assert sluice.stop() == 0
    sluice.start()
    send(sluice, 200, 7, "s")
    receiver.wait("messages", 32)
    # 20 by weight: 10, 6, 4; 12 in sequence: aaaabb aaaabb
    assert by_source(receiver) == {"a": 10 + 8, "b": 6 + 4, "c": 4}
    shown = {(row["pool"], row["member"]): row for row in sluice.rows("show", "pools")}
    assert [shown["w", m]["recipients"] for m in "abc"] == [10, 6, 4]
    assert [shown["s", m]["recipients"] for m in "ab"] == [8, 4]
    assert shown["s", "a"]["next"] and shown["w", "a"]["share"] == 5
    assert sluice.cli("reset", "pool", "s") == {"pool": "s"}
    assert sum(row["recipients"] for row in sluice.rows("show", "pools")) == 20
    with pytest.raises(CliError, match="no such pool"):
        sluice.cli("reset", "pool", "gone")


def test_cold_virtual_mtas_take_the_first_of_the_day(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    dns.domain("other.test", "127.0.1.2")
    sluice = make_sluice(smtp_port=receiver.port, vmtas=VMTAS,
                         domains={"example.test": {"max-cold-virtual-mta-msg": "3/d,100/d"}},
                         extra="[virtual-mta a]\ncold-virtual-mta = b, c\n").start()
    send(sluice, 0, 5, "a")
    assert sluice.stop() == 0
    sluice.start()
    send(sluice, 10, 5, "a")
    send(sluice, 20, 2, "a", "other.test")
    receiver.wait("messages", 12)
    assert by_source(receiver) == {"a": 4 + 2, "b": 3, "c": 3}


def test_mail_is_moved_by_command_and_by_configuration(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    dns.domain("other.test", "127.0.1.2")
    sluice = make_sluice(smtp_port=receiver.port, vmtas=VMTAS).start()
    sluice.cli("pause", "queue", "*/a")
    send(sluice, 0, 6, "a")
    send(sluice, 10, 2, "a", "other.test")
    sluice.wait_queued(8)
    with pytest.raises(CliError, match="no such virtual MTA"):
        sluice.cli("move", "--queue", "example.test", "--to-vmta", "gone")
    dry = sluice.cli("move", "--queue", "example.test/a", "--to-vmta", "b", "--dry-run")
    assert dry == {"would_move": 6}
    moved = sluice.cli("move", "--queue", "example.test/a", "--to-vmta", "b")
    assert moved == {"moved": 6, "in_flight": 0}
    receiver.wait("messages", 6)
    assert by_source(receiver) == {"b": 6}
    assert {r.queue for r in sluice.wait_records(6, "d")} == {"example.test/b"}
    sluice.extra = "[domain */a]\nreroute-to-virtual-mta = c\n"
    sluice.reload()
    assert len(sluice.rows("list")) == 2, "a paused queue gives nothing away"
    sluice.cli("resume", "queue", "*/a")
    send(sluice, 20, 1, "a")
    receiver.wait("messages", 9)
    assert by_source(receiver) == {"b": 6, "c": 3}
    shown = sluice.cli("show", "queue", "example.test/a")
    assert (shown["rerouted_to"], shown["rerouted_by"]) == ("c", "reroute-to-virtual-mta")


def test_mail_that_is_moved_to_where_it_is_goes_on(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port, vmtas=VMTAS, domains={
        "example.test": {"max-msg-rate": "3/s"}}).start()
    send(sluice, 0, 6, "a")
    receiver.wait("messages", 1)
    moved = sluice.cli("move", "--queue", "example.test/a", "--to-vmta", "a")
    assert moved["moved"] == 0
    receiver.wait("messages", 6)
    sluice.wait_empty()
    assert by_source(receiver) == {"a": 6}


def test_a_throttled_queue_goes_through_another_address(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    receiver.script([{"stage": "rcpt", "source": "127.0.0.11", "reply": "450 4.7.1 slow down"}])
    sluice = make_sluice(smtp_port=receiver.port, vmtas=VMTAS, domains={
        "*": {"smtp-pattern-list": "here", "backoff-reroute-to-virtual-mta": "b"}},
        extra="[smtp-pattern-list here]\nreply = /slow down/ mode=backoff\n").start()
    send(sluice, 0, 10, "a")
    receiver.wait("messages", 10)
    assert by_source(receiver) == {"b": 10}
    assert sluice.cli("show", "queue", "example.test/a")["rerouted_to"] == "b"
    send(sluice, 10, 1, "a")
    receiver.wait("messages", 11)
    assert [r.vmta for r in sluice.wait_records(1, "d", "r10@example.test")] == ["b"]
