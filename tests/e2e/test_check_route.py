"""`sluice check route`: what would become of a message, and by which lines."""
import json

import pytest

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
    hint = places.run("show", "settings", "d.test").stderr
    assert hint.endswith("sluice check route -r postmaster@d.test\n"), hint
    assert places.run("--json", "show", "settings", "d.test").stderr == ""


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
