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
