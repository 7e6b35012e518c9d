"""Providers: domains that are rolled up by the hosts of their MX records."""
VMTAS = {f"v{i}": [f"127.0.0.{20 + i} v{i}.sluice.test"] for i in range(3)}


def fill(sluice, rcpts, vmtas=None):
    """One message to each recipient, the virtual MTAs in turn."""
    client = sluice.smtp()
    names = list(vmtas or [None])
    for i, rcpt in enumerate(rcpts):
        sluice.inject("a@sender.test", rcpt, vmta=names[i % len(names)], client=client)
    client.quit()


def test_a_provider_has_one_cap_over_all_virtual_mtas(make_sluice, receiver, dns):
    """By host, by network, by name, as PowerMTA writes it: all take part in the same cap."""
    dns.set("by-host.test", MX=[(10, "in.big.test")])
    dns.set("in.big.test", A=["127.0.1.1"])
    dns.set("by-list.test", MX=[(10, "in.old.test")])
    dns.set("in.old.test", A=["127.0.1.2"])
    dns.domain("by-network.test", "127.0.1.3")
    dns.domain("by-name.test", "127.0.1.4")
    receiver.script(limits=[{"per": "all", "max": 3}], rules=[{"stage": "dot", "delay": 20}])
    sluice = make_sluice(smtp_port=receiver.port, vmtas=VMTAS, extra=(
        "[provider big]\nmx = *.big.test\nmx-ip = 127.0.1.3/32\ndomains = by-name.test\n"
        "max-smtp-out = 3\n[mx-rollup-list]\nmx = *.old.test big.rollup\n")).start()
    names = ["by-host", "by-list", "by-network", "by-name"]
    fill(sluice, [f"m{i}@{names[i // 3 % 4]}.test" for i in range(240)], VMTAS)
    receiver.wait("messages", 240, timeout=30)
    assert receiver.stats()["refused"] == 0
    assert receiver.stats()["all"]["*"]["peak"] == 3
    row, = [r for r in sluice.rows("show", "limits") if r["kind"] == "provider"]
    assert (row["name"], row["cap"]) == ("big", 3)


def test_one_connection_carries_several_domains(make_sluice, receiver, dns):
    dns.set("in.big.test", A=["127.0.1.1"])
    for i in range(5):
        dns.set(f"d{i}.test", MX=[(10, "in.big.test")])
    sluice = make_sluice(smtp_port=receiver.port, acct={
        "records": "d,b,t,tq", "fields": "*,provider"}, extra=(
            "[provider big]\nmx = *.big.test\n[domain big.rollup]\nmax-smtp-out = 1\n")).start()
    sluice.cli("pause", "queue", "*/*")
    fill(sluice, [f"m{i}@d{i % 5}.test" for i in range(20)])
    sluice.cli("resume", "queue", "*/*")
    records = sluice.wait_records(20, "d")
    assert {(r.queue, r.provider) for r in records} == {("big.rollup/a", "big")}
    by_connection = {}
    for m in receiver.messages():
        for rcpt in m["rcpts"]:
            by_connection.setdefault(m["c"], set()).add(rcpt.split("@")[1])
    assert max(len(domains) for domains in by_connection.values()) == 5, by_connection


def test_commands_take_the_name_of_a_providers_site(make_sluice, receiver, dns):
    dns.set("in.big.test", A=["127.0.1.1"])
    dns.domain("other.test", "127.0.1.2")
    for i in range(3):
        dns.set(f"d{i}.test", MX=[(10, "in.big.test")])
    receiver.script(rules=[{"stage": "rcpt", "reply": "450 4.2.1 later"}])
    dns.set("alone.test", MX=[(10, "in.big.test")])
    sluice = make_sluice(smtp_port=receiver.port, extra="[provider big]\nmx = *.big.test\n", domains={
        "*": {"retry-after": "1h"}, "alone.test": {"disable-mx-rollup": "yes"}}).start()
    fill(sluice, ["a@d0.test", "a@d1.test", "a@d2.test", "a@other.test"])
    sluice.wait_records(4, "t")
    rows = sluice.rows("show", "queues", "big.rollup/*")
    assert {(r["queue"], r["site"]) for r in rows} == {(f"d{i}.test/a", "big.rollup")
                                                       for i in range(3)}
    row, = sluice.rows("show", "providers")
    assert (row["provider"], row["queues"], row["recipients"]) == ("big", 3, 3)
    answers = {d: sluice.cli("resolve", d) for d in ("d1.test", "alone.test", "gone.test")}
    assert [a["provider"] for a in answers.values()] == ["big", None, None]
    assert answers["d1.test"]["provider_by"] == "mx"
    assert "its own site" in answers["alone.test"]["provider_by"]
    assert sluice.cli("resolve", "other.test")["provider"] is None
    site = sluice.cli("show", "queue", "Big.rollup/a")
    assert (site["queue"], site["provider"], site["mode"]) == ("big.rollup/a", "big", "normal")
    assert (site["queue_count"], site["recipients"], len(site["queues"])) == (3, 3, 3)
    assert sum(e["count"] for e in site["errors"] if "4.2.1" in e["text"]) == 3
    assert {x["kind"] for x in site["limits"]} >= {"queue"}
    text = sluice.run("show", "queue", "big.rollup/a").stdout
    assert "big.rollup/a" in text and "d2.test/a" in text and "4.2.1 later" in text
    assert "no such queue" in sluice.run("show", "queue", "none.rollup/a").stderr
    assert len(sluice.rows("list", "--queue", "big.rollup/a")) == 3
    assert sluice.cli("pause", "queue", "big.rollup/*")["queues"] == 3
    assert {r["queue"] for r in sluice.rows("show", "queues", "--paused")} == \
        {f"d{i}.test/a" for i in range(3)}
    assert sluice.cli("resume", "queue", "big.rollup/*")["queues"] == 3
    receiver.script()
    assert sluice.cli("schedule", "big.rollup/a", "--retry-recipients",
                      "--no-spread")["recipients"] == 3
    sluice.wait_records(3, "d")
    fill(sluice, ["b@other.test"])
    sluice.wait_records(1, "d", "b@other.test")
    assert sluice.cli("delete", "--queue", "big.rollup/*")["deleted"] == 0
    assert sluice.queued() == 1


def test_queue_to_leads_mail_to_another_queue(make_sluice, receiver, dns):
    sluice = make_sluice(smtp_port=receiver.port, domains={
        "one.test, two.test": {"queue-to": "Relay.test"},
        "relay.test": {"smtp-hosts": f"[127.0.1.7]:{receiver.port}"}}).start()
    fill(sluice, ["a@one.test", "a@two.test"])
    records = sluice.wait_records(2, "d")
    assert {(r.rcpt, r.queue) for r in records} == {("a@one.test", "relay.test/a"),
                                                          ("a@two.test", "relay.test/a")}
    assert {r.dsnMta for r in records} == {"127.0.1.7 (127.0.1.7)"}
