"""Reply patterns: what replies do to recipients, queues, sources and modes, as a user sees it."""
from peers import wait_until

LIST = """
[virtual-mta b]
smtp-source-host = 127.0.0.21 b.sluice.test
[smtp-pattern-list own]
reply = /temporarily deferred/ mode=backoff
reply = /welcome back/ mode=normal
reply = /^452 4\\.2\\.2 / bounce-rcpt
reply = /go elsewhere/ skip-mx
reply = /block list/ disable-source-ip, retry-rcpt
reply = /spam trap/ reroute=b
[bounce-category-patterns]
pattern = /x-mas/ seasonal
"""
OWN = {"*": {"smtp-pattern-list": "own", "retry-after": "1s", "backoff-retry-after": "1s",
             "max-smtp-out": "1", "backoff-max-smtp-out": "1"}}


def show(sluice, queue):
    return sluice.cli("show", "queue", queue)


def test_modes_come_and_go_with_replies(make_sluice, receiver, dns):
    dns.domain("slow.test", "127.0.1.1")
    receiver.script(rules=[
        {"stage": "rcpt", "first": 1, "reply": "451-4.7.0 mail is\r\n451 4.7.0 temporarily deferred"},
        {"stage": "rcpt", "domain": "slow.test", "reply": "250 2.1.5 ok"}])
    sluice = make_sluice(smtp_port=receiver.port, domains=OWN, extra=LIST).start()
    sluice.inject("a@sender.test", "one@slow.test")
    wait_until(lambda: show(sluice, "slow.test/a")["mode"] == "backoff")
    error, = [e for e in show(sluice, "slow.test/a")["errors"] if "deferred" in e["text"]]
    assert error["text"] == "451 4.7.0 mail is temporarily deferred"
    assert error["pattern"].startswith("own /temporarily deferred/ mode=backoff (")
    receiver.script(rules=[{"stage": "dot", "reply": "250 2.0.0 welcome back"}])
    wait_until(lambda: show(sluice, "slow.test/a")["mode"] == "normal")


def test_replies_decide_over_recipients_hosts_and_sources(make_sluice, receiver, dns):
    dns.set("two.test", MX=[(10, "first.test"), (20, "second.test")])
    dns.set("first.test", A=["127.0.1.1"])
    dns.set("second.test", A=["127.0.1.2"])
    dns.domain("blocked.test", "127.0.1.3")
    dns.domain("trap.test", "127.0.1.4")
    receiver.script(rules=[
        {"stage": "rcpt", "domain": "two.test", "listen": "127.0.1.1", "from": "full@*",
         "reply": "452 4.2.2 over quota since x-mas"},
        {"stage": "mail", "listen": "127.0.1.1", "from": "else@*", "reply": "550 5.3.2 go elsewhere"},
        {"stage": "mail", "listen": "127.0.1.3", "source": "127.0.0.11",
         "reply": "550 5.7.1 on our block list"},
        {"stage": "mail", "listen": "127.0.1.4", "source": "127.0.0.1?",
         "reply": "550 5.7.1 our spam trap"}])
    sluice = make_sluice(smtp_port=receiver.port, domains=OWN, extra=LIST, vmtas={
        "a": ["127.0.0.11 a1.sluice.test", "127.0.0.12 a2.sluice.test"]}).start()
    sluice.inject("full@sender.test", "bounced@two.test")
    sluice.inject("else@sender.test", "moved@two.test")
    sluice.inject("any@sender.test", [f"b{i}@blocked.test" for i in range(5)])
    sluice.inject("any@sender.test", [f"t{i}@trap.test" for i in range(5)])
    bounce, = sluice.wait_records(1, "b")
    assert (bounce.rcpt, bounce.bounceCat) == ("bounced@two.test", "seasonal")
    assert bounce.dsnStatus == "4.2.2 (mailbox full)"
    assert bounce.dsnDiag == ("smtp;452 4.2.2 over quota since x-mas "
                              "(bounce-rcpt by pattern list own)")
    moved, = sluice.wait_records(1, "d", "moved@two.test")
    assert moved.dsnMta == "second.test (127.0.1.2)"
    for i in range(5):
        record, = sluice.wait_records(1, "d", f"b{i}@blocked.test")
        assert record.dlvSourceIp == "127.0.0.12"
        record, = sluice.wait_records(1, "d", f"t{i}@trap.test")
        assert (record.vmta, record.dlvSourceIp) == ("b", "127.0.0.21")


def test_check_reply_needs_no_daemon(make_sluice, dns):
    sluice = make_sluice(domains=OWN, extra=LIST + (
        "[smtp-pattern-list big]\nreply = /deferred/ defer-queue\n"
        "[provider big]\ndomains = member.test\n"
        "[domain big.rollup]\nsmtp-pattern-list = big\n"))
    sluice.write_config()
    answer = sluice.cli("check", "reply", "x.test/a", "452-4.2.2 over quota\n452 4.2.2 x-mas")
    assert answer["subject"] == "452 4.2.2 over quota x-mas"
    assert answer["disposition"] == "bounce-rcpt" and answer["category"] == "seasonal"
    match, = answer["matches"]
    assert (match["kind"], match["list"], match["effect"]) == ("disposition", "own", True)
    answer = sluice.cli("check", "reply", "x.test/a", "452 4.2.2 x", "--phase", "dot")
    assert answer["disposition"] == "" and not answer["matches"][0]["effect"]
    answer = sluice.cli("check", "reply", "member.test/a", "451 temporarily deferred")
    assert answer["matches"][0]["actions"] == "defer-queue"
    assert sluice.run("check", "reply", "x.test/a", "what?").returncode == 2
