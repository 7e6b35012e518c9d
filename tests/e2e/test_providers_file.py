"""etc/providers.conf: each rule does to a receiver's reply what tests/providers/replies.tsv says."""
import json
import pathlib
import subprocess

import pytest

from peers import ROOT, tool

RULES = ROOT / "etc" / "providers.conf"


def rows():
    for line in (ROOT / "tests" / "providers" / "replies.tsv").read_text().splitlines():
        if line and not line.startswith("#"):
            yield tuple(line.split("\t"))


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """What `sluice check reply` says; a configuration file is all that it needs."""
    conf = tmp_path_factory.mktemp("providers") / "sluice.conf"
    conf.write_text(f"[global]\nhost-name = mta.example.com\ninclude = {RULES}\n"
                    "[smtp-listener 127.0.0.1:2525]\n"
                    "[virtual-mta a]\nsmtp-source-host = 127.0.0.1\n")

    def run(domain, text):
        done = subprocess.run([tool("../sluice"), "-c", str(conf), "--json", "check", "reply",
                               f"{domain}/a", text], capture_output=True, text=True, timeout=30,
                              check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
    return run


def what(answer):
    """mode, disposition and source, as the table of replies names them."""
    done = set()
    for match in answer["matches"]:
        actions = [a.split("=")[0] for a in match["actions"].replace(" ", "").split(",")]
        if match["kind"] == "mode":
            done |= {a for a in match["actions"].replace(" ", "").split(",") if a.startswith("mode=")}
        elif match["kind"] == "disposition":
            done.add(answer["disposition"])
        elif match["kind"] == "source":
            assert "disable-source-ip" in actions
            done.add("disable-source-ip")
    return done or {"none"}


def test_each_rule_does_what_it_says(check):
    used, wrong = set(), []
    for provider, text, expected, category in rows():
        domain = "nobody.example" if provider == "common" else f"{provider}.rollup"
        answer = check(domain, text)
        used |= {m["line"] for m in answer["matches"] if pathlib.Path(m["file"]) == RULES}
        got = what(answer), answer["category"] if text[0] == "5" else "-"
        if got != (set(expected.split()), category):
            wrong.append(f"{provider}: {text}\n  expected {expected} {category}, got {got}")
    assert not wrong, "\n".join(wrong)
    rules = {number for number, line in enumerate(RULES.read_text().splitlines(), 1)
             if line.startswith("reply =")}
    unused = rules - used
    assert not unused, f"no reply in tests/providers/replies.tsv for line {sorted(unused)}"


def test_every_provider_has_a_site_and_careful_caps():
    text = RULES.read_text()
    names = [line[10:-1] for line in text.splitlines() if line.startswith("[provider ")]
    assert len(names) == len(set(names)) >= 17
    for name in names:
        assert f"[domain {name}.rollup]" in text
        assert f"\t{name}\t" in "\n" + "\t".join(["", *[r[0] for r in rows()], ""])
    # the consumer hosts of Microsoft must not fall to a later pattern
    assert names.index("microsoft") < names.index("office365")
    assert "0/0" not in "".join(li for li in text.splitlines() if li.startswith("ip-connection-limit"))
