"""Back-off and disabled sources: what operators order, what blocks tell, and that a restart forgets nothing."""
import os

from peers import ROOT, wait_until

BLOCKED = ("550 5.7.1 Unfortunately, messages from [127.0.0.11] weren't sent. Please contact your "
           "Internet service provider since part of their network is on our block list (S3140).")
POOL = """
[virtual-mta-pool out]
virtual-mta = a count 100000
virtual-mta = b count 1
selection = sequential
reselect = backoff
"""
RCPTS = 10000 if os.environ.get("SLUICE_TORTURE") else 300


def test_block_of_an_address_bounces_nothing(make_sluice, receiver, dns):
    """The rules are those of etc/providers.conf; all waits for the blocked address when the first mail goes."""
    dns.set("block.test", MX=[(10, "block-test.olc.protection.outlook.com")])
    dns.set("block-test.olc.protection.outlook.com", A=["127.0.1.1"])
    dns.domain("ops.test", "127.0.1.2")
    receiver.script(rules=[{"stage": "mail", "listen": "127.0.1.1", "source": "127.0.0.11",
                            "reply": BLOCKED}])
    sluice = make_sluice(
        smtp_port=receiver.port, include=ROOT / "etc" / "providers.conf", extra=POOL,
        domains={"*": {"disabled-source-ip-notify": "ops@ops.test", "retry-after": "1s"}},
        vmtas={"a": ["127.0.0.11 a.sluice.test"], "b": ["127.0.0.21 b.sluice.test"]},
        source={"default-virtual-mta": "out"}).start()
    sluice.cli("pause", "queue", "block.test/a")
    with sluice.smtp() as client:
        for i in range(RCPTS):
            sluice.inject("a@sender.test", f"r{i}@block.test", client=client)
    sluice.wait_queued(RCPTS)
    sluice.cli("resume", "queue", "block.test/a")
    sluice.wait_records(RCPTS + 1, "d", timeout=60)
    sluice.wait_empty()
    assert sluice.records("b") == []
    assert {r.dlvSourceIp for r in sluice.records("d") if r.rcpt.endswith("@block.test")} == {
        "127.0.0.21"}
    row, = sluice.rows("show", "disabled", "sources")
    assert (row["source"], row["queue"], row["by"]) == ("127.0.0.11", "microsoft.rollup/a", "reply")
    assert "S3140" in row["reason"] and row["until"] - row["since"] == 12 * 3600 * 1000
    mail, = receiver.messages("ops@ops.test")
    text = receiver.stored(mail).decode()
    assert "Subject: Sluice: source addresses of microsoft.rollup/a\r\n" in text
    assert "Auto-Submitted: auto-generated\r\n" in text
    assert "127.0.0.11 is no longer used for microsoft.rollup/a" in text and "S3140" in text


def test_orders_hold_over_restarts(make_sluice, receiver, dns):
    dns.domain("slow.test", "127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port, vmtas={
        "a": ["127.0.0.11 a1.sluice.test", "127.0.0.12 a2.sluice.test"]}, domains={
        "*": {"backoff-max-smtp-out": "1"}}).start()
    sluice.cli("set", "queue", "--mode=backoff", "slow.test/*")
    sluice.cli("disable", "source", "127.0.0.11", "*/a", "--reenable-after=1h", "--reason=blocked")
    sluice.inject("a@sender.test", "one@slow.test")
    record, = sluice.wait_records(1, "d")
    assert record.dlvSourceIp == "127.0.0.12"
    queue = sluice.cli("show", "queue", "slow.test/a")
    assert queue["mode"] == "backoff" and queue["mode_reason"].startswith("ordered by uid ")
    assert [c["mode"] for c in queue["mode_changes"]] == ["backoff"]
    sluice.stop()
    sluice.start()
    queue = sluice.cli("show", "queue", "slow.test/a")
    assert queue["mode"] == "backoff" and queue["mode_since"]
    row, = sluice.rows("show", "disabled", "sources")
    assert (row["source"], row["queue"], row["reason"]) == ("127.0.0.11", "*/a", "blocked")
    for i in range(3):
        sluice.inject("a@sender.test", f"r{i}@slow.test")
    sluice.wait_records(4, "d")
    assert {r.dlvSourceIp for r in sluice.records("d")} == {"127.0.0.12"}
    sluice.cli("enable", "source", "127.0.0.11", "*/*")
    sluice.cli("set", "queue", "--mode=normal", "slow.test")
    assert sluice.rows("show", "disabled", "sources") == []
    wait_until(lambda: sluice.cli("show", "queue", "slow.test/a")["mode"] == "normal")
    assert sluice.run("set", "queue", "slow.test").returncode == 2
    assert sluice.run("disable", "source", "mta1", "*/a").returncode == 1
