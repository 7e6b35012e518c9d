"""What operators order: pause, resume, delete, schedule; held over restarts, exact about what is held."""
import time

import pytest

from peers import wait_until
from sluice import CliError


@pytest.fixture
def two(sluice, receiver, dns):
    dns.domain("other.test", "127.0.1.2")
    return sluice, receiver


def rcpts(sluice, *filters):
    return sorted(r["recipient"] for r in sluice.rows("list", *filters))


def test_a_paused_queue_sends_nothing_and_others_go_on(two):
    sluice, receiver = two
    sluice.cli("pause", "queue", "example.test/*")
    for i in range(5):
        sluice.inject("a@sender.test", [f"m{i}@example.test", f"m{i}@other.test"])
    receiver.wait("rcpts", 5)
    wait_until(lambda: sluice.queued() == 5, 10, "the others to be gone")
    assert receiver.stats()["listen"].get("127.0.1.1", {"total": 0})["total"] == 0
    paused = [q for q in sluice.rows("show", "queues", "--paused") if q["recipients"]]
    assert [(q["queue"], q["paused"], q["recipients"]) for q in paused] == [
        ("example.test/a", True, 5)]
    sluice.cli("resume", "queue", "example.test/*")
    receiver.wait("rcpts", 10)


def test_a_pause_holds_over_restarts(two):
    sluice, receiver = two
    sluice.cli("pause", "queue", "example.test/a")
    sluice.inject("a@sender.test", "b@example.test")
    sluice.stop()
    sluice.start(write=False)
    sluice.inject("a@sender.test", ["c@example.test", "d@other.test"])
    wait_until(lambda: receiver.messages("d@other.test"), 10, "the other queue")
    assert not receiver.messages("b@example.test") and not receiver.messages("c@example.test")
    assert [r["queue"] for r in sluice.rows("show", "paused")] == ["example.test/a"]
    sluice.cli("resume", "queue", "example.test/a")
    receiver.wait("rcpts", 3)


def test_a_resumed_queue_says_why_it_has_few_connections(two):
    sluice, receiver = two
    receiver.script([{"stage": "dot", "delay": 3000}])
    sluice.cli("pause", "queue", "example.test/*")
    for i in range(5):
        sluice.inject("a@sender.test", f"m{i}@example.test")
    sluice.cli("resume", "queue", "example.test/*")
    wait_until(lambda: sluice.cli("show", "queue", "example.test/a")["waiting_for"].startswith(
        "max-smtp-out of the queue, resumed (1 of 20): resume-ramp until 20"), 10, "the hold")


def test_an_order_for_a_virtual_mta_that_is_not_there_says_so(two):
    sluice, _ = two
    for order in (["pause", "queue", "example.test/mta"], ["set", "queue", "--mode=backoff", "*/mta"],
                  ["disable", "source", "127.0.0.11", "*/mta"]):
        assert sluice.cli(*order) == {"queues": 0, "later": True, "unknown_vmta": "mta"}
    assert sluice.cli("pause", "queue", "example.test/a") == {"queues": 0, "later": True}
    assert sluice.cli("resume", "queue", "*") == {"queues": 0, "later": False}


def test_no_transaction_starts_after_the_answer(two):
    sluice, receiver = two
    receiver.script([{"stage": "dot", "delay": 20}])
    client = sluice.smtp()
    for i in range(300):
        sluice.inject("a@sender.test", f"m{i}@example.test", client=client)
    sluice.cli("pause", "queue", "example.test/*")
    answered = time.time()
    time.sleep(0.5)
    late = [e for e in receiver.journal("mail") if e["t"] > answered + 0.05]
    assert late == []
    sluice.cli("resume", "queue", "*/*")
    wait_until(lambda: len(sluice.final()) == 300, 30, "all of them")


def test_delete_by_filter(two):
    sluice, receiver = two
    sluice.cli("pause", "queue", "*/*")
    for i in range(4):
        sluice.inject(f"s{i % 2}@sender.test", [f"m{i}@example.test", f"m{i}@other.test"],
                      job=f"j{i % 2}")
    sluice.wait_queued(8)
    assert len(rcpts(sluice, "--queue", "example.test/*")) == 4
    assert len(rcpts(sluice, "--job", "j1")) == 4
    assert rcpts(sluice, "--rcpt", "m2@*") == ["m2@example.test", "m2@other.test"]
    assert len(rcpts(sluice, "--orig", "s0@sender.test")) == 4
    assert sluice.cli("delete", "--dry-run", "--job", "j1")["would_delete"] == 4
    assert sluice.cli("delete", "--dry-run", "--orig", "s0@*", "--rcpt", "m2@*")["would_delete"] == 2
    assert sluice.queued() == 8
    assert sluice.cli("delete", "--job", "j1", "--queue", "example.test/*") == {
        "deleted": 2, "in_flight": 0}
    sluice.wait_queued(6)
    records = sluice.wait_records(2, "b")
    assert sorted(r.rcpt for r in records) == ["m1@example.test", "m3@example.test"]
    sluice.cli("resume", "queue", "*/*")
    wait_until(lambda: len(sluice.final()) == 8, 20, "eight final records")
    assert receiver.stats()["rcpts"] == 6


def test_delete_by_envelope_id_and_age(two):
    sluice, _ = two
    sluice.cli("pause", "queue", "*/*")
    sluice.inject("a@sender.test", "m0@example.test", mail_options=["ENVID=e7"])
    sluice.inject("a@sender.test", "m1@example.test")
    sluice.wait_queued(2)
    assert rcpts(sluice, "--envid", "e7") == ["m0@example.test"]
    assert sluice.cli("delete", "--dry-run", "--older-than", "1h")["would_delete"] == 0
    assert sluice.cli("delete", "--envid", "e7")["deleted"] == 1
    wait_until(lambda: rcpts(sluice, "--older-than", "1s") == ["m1@example.test"], 10, "its age")
    assert sluice.cli("delete", "--older-than", "1s")["deleted"] == 1
    sluice.wait_empty()


def test_delete_tells_the_sender_or_nobody_as_it_is_told(two):
    sluice, receiver = two
    sluice.cli("pause", "queue", "example.test/*")
    sluice.inject("a@sender.test", ["told@example.test", "untold@example.test", "plain@example.test"])
    sluice.wait_queued(3)
    sluice.cli("delete", "--rcpt", "untold@*", "--no-accounting")
    sluice.cli("delete", "--rcpt", "plain@*")
    sluice.cli("delete", "--rcpt", "told@*", "--dsn")
    wait_until(lambda: receiver.messages("a@sender.test"), 15, "the notification")
    sluice.wait_empty()
    assert sorted(r.rcpt for r in sluice.wait_records(2, "b")) == [
        "plain@example.test", "told@example.test"]
    dsn, = receiver.messages("a@sender.test")
    text = receiver.stored(dsn).decode()
    assert dsn["from"] == "" and "Action: failed" in text
    assert "told@example.test" in text and "untold@" not in text and "plain@" not in text


def test_delete_while_some_are_in_flight(two):
    """What a connection has in hand ends by its own outcome; nobody is deleted and delivered."""
    sluice, receiver = two
    receiver.script([{"stage": "dot", "delay": 300}])
    client = sluice.smtp()
    for i in range(200):
        sluice.inject("a@sender.test", f"m{i}@example.test", client=client)
    receiver.wait("messages", 5)
    answer = sluice.cli("delete", "--queue", "example.test/*")
    receiver.script()
    wait_until(lambda: len(sluice.final()) == 200, 30, "200 final records")
    assert answer["deleted"] == len(sluice.records("b")) > 0
    delivered = {r for m in receiver.messages() for r in m["rcpts"]}
    for rcpt, record in sluice.final().items():
        assert (record.type == "d") == (rcpt in delivered), record
    sluice.wait_empty()


def test_delete_and_schedule_say_how_far_they_are(two):
    sluice, _ = two
    sluice.cli("pause", "queue", "*/*")
    client = sluice.smtp()
    for i in range(3):
        sluice.inject("a@sender.test", [f"m{k}@example.test" for k in range(900)], client=client)
    sluice.wait_queued(2700)
    answer = sluice.control("delete", queue="example.test/*")
    progress = [line["progress"]["deleted"] for line in answer if "progress" in line]
    assert progress and progress == sorted(progress) and 0 < progress[0] < 2700
    assert answer[-2:] == [{"data": {"deleted": 2700, "in_flight": 0}}, {"status": "success"}]


@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize("deferred", [False, True])
def test_queues_show_when_their_first_recipient_expires(make_sluice, receiver, dns, count, deferred):
    """Fresh ones from the spool; many deferred ones from the worker's sweep."""
    dns.domain("slow.test", "127.0.1.3")
    receiver.script([{"stage": "rcpt", "reply": "450 4.2.0 later"}] if deferred else
                    [{"stage": "connect", "delay": 60000}])
    sluice = make_sluice(smtp_port=receiver.port,
                         domains={"*": {"bounce-after": "3d", "max-smtp-out": "1"}}).start()
    before = int(time.time() * 1000)
    sluice.inject("a@sender.test", [f"m{i}@slow.test" for i in range(count)])
    after = int(time.time() * 1000)
    sluice.inject("a@sender.test", [f"late{i}@slow.test" for i in range(count)])
    if deferred:
        sluice.wait_records(2 * count, "t")
    wait_until(lambda: sluice.rows("show", "queues")[0]["next_expiry"], 15, "the sweep")
    row, = sluice.rows("show", "queues")
    one = sluice.cli("show", "queue", "slow.test/a")
    for shown in (row, one):
        assert before <= shown["next_expiry"] - 3 * 86400000 <= after


def test_delete_needs_a_filter(two):
    sluice, _ = two
    with pytest.raises(CliError) as refused:
        sluice.cli("delete")
    assert refused.value.status in (1, 2)


def test_schedule_brings_the_next_try_forward(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    receiver.script([{"stage": "rcpt", "once": "rcpt", "reply": "450 4.2.1 later"}])
    sluice = make_sluice(smtp_port=receiver.port, domains={"*": {"retry-after": "1h"}}).start()
    for i in range(5):
        sluice.inject("a@sender.test", f"m{i}@example.test")
    sluice.wait_records(5, "t")
    assert receiver.stats()["messages"] == 0
    answer = sluice.cli("schedule", "example.test/*", "--retry-recipients", "--no-spread")
    assert answer == {"queues": 1, "matching": 1, "recipients": 5}
    receiver.wait("messages", 5)


def test_schedule_wakes_a_site_that_waits(make_sluice, receiver, dns):
    dns.domain("example.test", "127.0.1.1")
    receiver.unlisten("127.0.1.1")
    sluice = make_sluice(smtp_port=receiver.port, domains={"*": {"retry-after": "1h"}}).start()
    sluice.inject("a@sender.test", "b@example.test")
    sluice.wait_records(1, "tq")
    receiver.listen("127.0.1.1")
    sluice.cli("schedule", "*/*", "--no-spread")
    receiver.wait("messages", 1)


def test_drain_refuses_new_mail_and_goes_on_delivering(two):
    sluice, receiver = two
    sluice.inject("a@sender.test", "b@example.test")
    sluice.cli("drain")

    def refused():
        with sluice.dialogue() as talk:
            return talk.reply()[0].startswith("421 ")
    wait_until(refused, 5, "new connections to be refused")
    receiver.wait("messages", 1)
    sluice.cli("drain", "--off")
    wait_until(lambda: not refused(), 5, "new connections to be served")
    sluice.inject("a@sender.test", "c@example.test")
    receiver.wait("messages", 2)


def test_expiry_runs_on_in_a_paused_queue(make_sluice, receiver, dns):
    """Nobody expires before one attempt in this run: so defer once, then pause."""
    dns.domain("example.test", "127.0.1.1")
    receiver.script([{"stage": "rcpt", "domain": "example.test", "reply": "450 4.2.1 later"}])
    sluice = make_sluice(smtp_port=receiver.port, source={"suppress-local-dsn": "yes"},
                         domains={"*": {"retry-after": "1h", "bounce-after": "3s"}}).start()
    sluice.inject("a@sender.test", "b@example.test")
    sluice.wait_records(1, "t")
    sluice.cli("pause", "queue", "example.test/*")
    assert sluice.wait_records(1, "b", timeout=20)[0].rcpt == "b@example.test"
