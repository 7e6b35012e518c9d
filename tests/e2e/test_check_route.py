"""`sluice check route`: what would become of a message, and by which lines."""
import json

import pytest

from peers import wait_until

PLACES = ("[source 127.0.0.9]\ndefault-virtual-mta = p\n"
          "[source 127.0.0.7]\nalways-allow-relaying = no\nrelay-domain = plain.test\n"
          "[virtual-mta-pool p]\nvirtual-mta = b, c\npool-max-smtp-out = 9\nmax-smtp-out = 4\n"
          "[provider big]\nmx = *.big.test\nmax-smtp-out = 30\nsource-ip-max-smtp-out = 127/8 5\n"
          "[domain big.rollup]\nmax-smtp-out = 11\n[domain */c]\nretry-after = 7m\n")


@pytest.fixture
def places(make_sluice, dns):
    dns.domain("plain.test", "127.0.1.1")
    dns.set("d.test", MX=[(10, "in.big.test")])
    dns.set("in.big.test", A=["127.0.1.2"])
    return make_sluice(vmtas={name: [f"127.0.0.1{i} {name}.sluice.test"]
                              for i, name in enumerate("abc")},
                       ip_connection_limit="127.0.1.2 6", mx_connection_limit="*.big.test 3",
                       extra=PLACES)


def route(sluice, *args, refused=False):
    done = sluice.run("--json", "check", "route", *args)
    assert done.returncode == (1 if refused else 0), done.stderr
    return json.loads(done.stdout)


def caps(answer):
    return {(row["kind"], row["name"]): row["cap"] for row in answer["limits"]}


def origins(rows):
    return {row["directive"]: (row["value"], row["section"]) for row in rows}


def test_by_default_by_header_and_by_pool(places):
    places.start()
    one = route(places, "-f", "s@x.test", "-r", "u@plain.test", "--client", "127.0.0.1")
    assert (one["virtual_mta"], one["rule"], one["queue"], one["provider"]) == (
        "a", "default-virtual-mta", "plain.test/a", None)
    assert origins(one["source_rules"])["default-virtual-mta"] == ("a", "[source 127.0.0.0/8]")
    one = route(places, "-r", "u@plain.test", "-H", "X-Virtual-MTA: c", "--client", "127.0.0.1")
    assert (one["virtual_mta"], one["rule"], one["pool"]) == ("c", "X-Virtual-MTA", None)
    assert origins(one["settings"])["retry-after"] == ("7m", "[domain */c]")
    assert one["source_addresses"] == [{"address": "127.0.0.12", "helo": "c.sluice.test"}]
    one = route(places, "-r", "u@plain.test", "--client", "127.0.0.9", "--vmta", "c")
    assert (one["pool"], one["virtual_mta"], one["selection"]) == ("p", "c", "round-robin")
    assert [m["vmta"] for m in one["members"]] == ["b", "c"]
    assert caps(one)["pool", "p"] == 9 and caps(one)["vmta", "c"] == 4


def test_the_provider_comes_from_dns_and_with_it_the_limits(places):
    places.write_config()
    one = route(places, "-r", "u@d.test")
    assert one["provider"] is None and "not reachable" in one["provider_by"]
    places.start(write=False)
    one = route(places, "-r", "u@D.test", "-H", "X-Virtual-MTA: b")
    assert (one["provider"], one["provider_by"], one["site"]) == ("big", "mx", "big.rollup/b")
    assert caps(one) == {("total", ""): 1200, ("vmta", "b"): 4, ("pool", "p"): 9,
                         ("provider", "big"): 30, ("provider-source-ip", "127.0.0.11"): 5,
                         ("queue", "big.rollup/b"): 11, ("ip", "127.0.1.2"): 6,
                         ("mx", "in.big.test"): 3}
    people = places.run("check", "route", "-r", "u@d.test").stdout
    assert "big.rollup/a" in people and "in.big.test" in people


@pytest.fixture
def members(places, dns):
    """Domains whose mail hosts are mixed: names or addresses, of the lowest preference or not."""
    dns.set("by-ip.test", MX=[(10, "mx1.far.test"), (10, "mx2.far.test"), (20, "mx.small.test")])
    for host, address in (("mx1.far.test", "127.0.3.1"), ("mx2.far.test", "127.0.3.2"),
                          ("mx.small.test", "127.0.4.1")):
        dns.set(host, A=[address])
    dns.set("mixed.test", MX=[(10, "mx1.far.test"), (10, "in.big.test")])
    dns.set("apart.test", MX=[(10, "in.big.test")])
    dns.set("gone.test", rcode="SERVFAIL")
    places.extra = PLACES + (
        "[provider far]\nmx-ip = 127.0.3.0/24\n[domain far.rollup]\nmax-smtp-out = 12\n"
        "smtp-pattern-list = far\n[smtp-pattern-list far]\nreply = /far away/ skip-mx\n"
        "[domain apart.test]\ndisable-mx-rollup = yes\nmax-smtp-out = 13\n")
    return places


BELONGS = {"d.test": ("big", "11"), "by-ip.test": ("far", "12"), "apart.test": (None, "13"),
           "mixed.test": (None, "20"), "gone.test": (None, "20"), "plain.test": (None, "20")}


@pytest.mark.parametrize("domain", BELONGS)
def test_every_command_knows_the_provider_as_the_worker_does(members, domain):
    provider, cap = BELONGS[domain]
    members.start()
    one = route(members, "-r", f"u@{domain}")
    assert (one["provider"], one["site"]) == (
        provider, f"{provider}.rollup/a" if provider else f"{domain}/a")
    rows = {r["directive"]: r["value"] for r in members.rows("show", "settings", f"{domain}/a")}
    assert rows["max-smtp-out"] == cap
    reply = json.loads(members.run("--json", "check", "reply", f"{domain}/a",
                                   "451 4.4.1 far away").stdout)
    assert reply["provider"] == provider
    assert [m["list"] for m in reply["matches"]] == (["far"] if provider == "far" else [])
    said = members.run("show", "settings", domain).stderr
    assert (f"of the provider {provider}, by its mail hosts" in said) == bool(provider), said
    assert ("not known" in said) == (domain == "gone.test"), said
    assert members.run("--json", "show", "settings", domain).stderr == ""
    # what the worker did with mail for it
    if provider:
        members.inject("s@x.test", [f"u@{domain}"])

        def at_provider():
            done = members.run("--json", "show", "queue", f"{provider}.rollup/a")
            return done.returncode == 0 and [
                q["queue"] for q in json.loads(done.stdout)["queues"]] == [f"{domain}/a"]
        wait_until(at_provider, 10, f"{domain} to be a member of {provider}")


def test_without_a_daemon_it_says_what_it_does_not_know(members):
    members.write_config()
    assert "not reachable" in members.run("show", "settings", "d.test/a").stderr
    reply = json.loads(members.run("--json", "check", "reply", "d.test/a", "250 ok").stdout)
    assert reply["provider"] is None and "not reachable" in reply["provider_by"]


def test_what_would_be_refused(places):
    for args, reason in ((("-r", "u@d.test", "--client", "127.0.0.7"), "relaying is not allowed"),
                         (("-r", "u@d.test", "--client", "192.0.2.9"), "relaying is not allowed"),
                         (("-r", "u@d.test", "-H", "X-Virtual-MTA: gone"), "X-Virtual-MTA names no")):
        places.write_config()
        assert reason in route(places, *args, refused=True)["refused"]
    assert not route(places, "-r", "u@plain.test", "--client", "127.0.0.7")["refused"]
    for args, error in ((("-r", "nobody"), "not an address"), ((), "-r"),
                        (("-r", "u@d.test", "--client", "me"), "not an IP address"),
                        (("-r", "u@d.test", "--client", "127.0.0.9", "--vmta", "a"), "no member")):
        done = places.run("check", "route", *args)
        assert done.returncode in (1, 2) and error in done.stderr, (args, done.stderr)
