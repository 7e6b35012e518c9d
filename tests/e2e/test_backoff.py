"""Back-off and disabled sources: what operators order, what blocks tell, and that a restart forgets nothing."""
from peers import wait_until

BLOCKED = ("550 5.7.1 Unfortunately, messages from [127.0.0.11] weren't sent. Please contact your "
           "Internet service provider since part of their network is on our block list (S3140).")
BLOCK_LIST = """
[smtp-pattern-list blocks]
reply = /S3140/ disable-source-ip, reenable-after=12h, reroute=b
"""
RCPTS = 300



def test_block_of_an_address_bounces_nothing(make_sluice, receiver, dns):
    dns.domain("block.test", "127.0.1.1")
    dns.domain("ops.test", "127.0.1.2")
    receiver.script(rules=[{"stage": "mail", "listen": "127.0.1.1", "source": "127.0.0.11",
                            "reply": BLOCKED}])
    sluice = make_sluice(smtp_port=receiver.port, extra=BLOCK_LIST, domains={
        "*": {"disabled-source-ip-notify": "ops@ops.test", "smtp-pattern-list": "blocks",
              "retry-after": "1s"}},
        vmtas={"a": ["127.0.0.11 a.sluice.test"], "b": ["127.0.0.21 b.sluice.test"]}).start()
    with sluice.smtp() as client:
        for i in range(RCPTS):
            sluice.inject("a@sender.test", f"r{i}@block.test", client=client)
    sluice.wait_records(RCPTS + 1, "d", timeout=30)
    sluice.wait_empty()
    assert sluice.records("b") == []
    assert {r.dlvSourceIp for r in sluice.records("d") if r.rcpt.endswith("@block.test")} == {
        "127.0.0.21"}
    row, = sluice.rows("show", "disabled", "sources")
    assert (row["source"], row["queue"], row["by"]) == ("127.0.0.11", "block.test/a", "reply")
    assert "S3140" in row["reason"] and row["until"] - row["since"] == 12 * 3600 * 1000
    mail, = receiver.messages("ops@ops.test")
    text = receiver.stored(mail).decode()
    assert "Subject: Sluice: source addresses of block.test/a\r\n" in text
    assert "Auto-Submitted: auto-generated\r\n" in text
    assert "127.0.0.11 is no longer used for block.test/a" in text and "S3140" in text


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
