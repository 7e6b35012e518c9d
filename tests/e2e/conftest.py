"""Fixtures: every test has its own folder, ports, DNS server, receiver and daemon."""
import os
import pathlib
import signal
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "lib")]

from dnsserver import DnsServer  # noqa: E402
from peers import Receiver  # noqa: E402
from sluice import Sluice  # noqa: E402

LIMIT_SECONDS = int(os.environ.get("E2E_TEST_LIMIT", "120"))


def pytest_configure(config):
    config.addinivalue_line("markers", "limit(seconds): longest time of this test")


@pytest.fixture(autouse=True)
def time_limit(request):
    """A test that hangs fails, with the daemon's log, instead of stopping the run."""
    marker = request.node.get_closest_marker("limit")
    seconds = marker.args[0] if marker else LIMIT_SECONDS

    def on_alarm(*_):
        raise TimeoutError(f"the test took over {seconds} s")

    old = signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for daemon in getattr(item, "daemons", []):
            report.sections.append((f"log of {daemon.conf}", daemon.log_tail(120)))


@pytest.fixture
def dns():
    server = DnsServer("127.0.0.53")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def make_receiver(tmp_path):
    """Starts receivers: make_receiver(addresses="127.0.1.1-127.0.1.20", ...)"""
    running = []

    def make(**options):
        running.append(Receiver(tmp_path / f"receiver{len(running)}", **options))
        return running[-1]

    yield make
    for receiver in running:
        receiver.stop()


@pytest.fixture
def receiver(make_receiver):
    return make_receiver(store=True)


@pytest.fixture
def make_sluice(request, tmp_path, dns):
    """Makes (does not start) daemons: make_sluice(smtp_port=..., domains={...}, ...)"""
    request.node.daemons = []

    def make(**options):
        options.setdefault("dns", dns)
        number = len(request.node.daemons)
        daemon = Sluice(tmp_path / f"sluice{number}", **options)
        request.node.daemons.append(daemon)
        return daemon

    yield make
    trouble = []
    for daemon in request.node.daemons:
        daemon.clean_up()
        trouble += [line for line in daemon.log if "AddressSanitizer" in line
                    or "runtime error:" in line or "panic" in line.split('msg=')[0]]
    assert not trouble, "the daemon's log tells of a bug:\n" + "\n".join(trouble)


@pytest.fixture
def sluice(make_sluice, receiver, dns):
    """A started daemon with one virtual MTA; example.test goes to 127.0.1.1."""
    dns.domain("example.test", "127.0.1.1")
    dns.domain("sender.test", "127.0.1.9")
    return make_sluice(smtp_port=receiver.port,
                       domains={"*": {"retry-after": "1s", "retry-after-dns-error": "1s"}}).start()
