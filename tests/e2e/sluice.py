"""A running Sluice for tests: its own folder, spool, ports and configuration.

    with Sluice(folder, dns=dns, smtp_port=receiver.port) as sluice:
        sluice.inject("a@sender.test", ["b@example.test"])
        receiver.wait("messages", 1)
        assert sluice.final()["b@example.test"].type == "d"

The configuration is text made of sections; every argument of Sluice() adds to it. The daemon runs
with --debug: all processes as the invoking user, the log on stderr.
"""
import collections
import csv
import io
import json
import os
import pathlib
import re
import signal
import smtplib
import socket
import subprocess
import threading
import time
import types

from peers import Dialogue, build_dir, free_port, wait_until

FIELD = re.compile(r'([A-Za-z_][\w.-]*)=("(?:[^"\\]|\\.)*"|\S*)')


def parse_log_line(line):
    """key=value pairs of one log line as a dict."""
    fields = {}
    for key, value in FIELD.findall(line):
        if value.startswith('"'):
            try:
                value = json.loads(value)
            except ValueError:
                value = value[1:-1]
        fields[key] = value
    return fields


def read_csv(data, whole=True):
    """Strict RFC 4180: a header line, equal numbers of fields. `whole`: no half line at the end."""
    if not whole:
        data = data[:data.rfind(b"\n") + 1]
    elif data:
        assert data.endswith(b"\n"), f"the file ends within a line: {data[-200:]!r}"
    rows = list(csv.reader(io.StringIO(data.decode("utf-8"), newline=""), strict=True))
    if not rows:
        return []
    header = [name.replace("-", "_") for name in rows[0]]
    assert header[0] == "type", f"first column is {header[0]!r}"
    assert len(set(header)) == len(header), f"a column twice: {header}"
    records = []
    for row in rows[1:]:
        assert len(row) == len(header), f"{len(row)} fields under {len(header)}: {row}"
        records.append(types.SimpleNamespace(**dict(zip(header, row))))
    return records


class CliError(Exception):
    def __init__(self, args, status, out, err):
        super().__init__(f"sluice {' '.join(args)}: exit status {status}: {err.strip() or out}")
        self.status, self.out, self.err = status, out, err


class Sluice:
    def __init__(self, folder, dns=None, smtp_port=None, vmtas=None, domains=None, source=None,
                 extra="", acct=True, wrapper=(), env=None, debug=True, **settings):
        """vmtas: name -> list of "IP HOST" or dict of directives; domains: pattern -> dict;
        source: directives of [source 127.0.0.0/8]; settings: directives of [global] with _ for -;
        extra: text at the end of the configuration; wrapper: a command to run the daemon under;
        debug: False runs it as in production, changing users when started by root."""
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.conf = self.folder / "sluice.conf"
        self.spool = self.folder / "spool"
        self.runtime = self.folder / "run"
        self.acct_path = self.folder / "acct.csv"
        self.log_path = self.folder / "sluiced.log"
        for path in (self.spool, self.runtime):
            path.mkdir(exist_ok=True)
        self.ip = "127.0.0.1"
        self.port = free_port(self.ip)
        self.wrapper = list(wrapper)
        self.debug = debug
        self.env = dict(os.environ, **(env or {}))
        self.global_ = {"host-name": "sluice.test", "postmaster": "postmaster@sluice.test",
                        "spool-dir": self.spool, "runtime-dir": self.runtime,
                        "min-free-space": "0"}
        if dns:
            self.global_["resolver"] = dns.address
        self.global_.update({k.rstrip("_").replace("_", "-"): v for k, v in settings.items()})
        self.source = {"always-allow-relaying": "yes", "process-x-virtual-mta": "yes",
                       "process-x-job": "yes", "add-date-header": "yes",
                       "add-message-id-header": "yes"}
        self.vmtas = {"a": ["127.0.0.11 a.sluice.test"]} if vmtas is None else dict(vmtas)
        if self.vmtas:
            self.source["default-virtual-mta"] = next(iter(self.vmtas))
        self.source.update(source or {})
        everywhere = {"max-smtp-out": "20"}
        if smtp_port:
            everywhere["smtp-port"] = str(smtp_port)
        self.domains = {"*": everywhere}
        for pattern, directives in (domains or {}).items():
            self.domains.setdefault(pattern, {}).update(directives)
        self.acct = ({"records": "d,b,t,tq"} if acct is True else acct) or None
        self.extra = extra
        self.process = None
        self.kills = []
        self._spooler_died = 0.0
        self.log = []
        self._log_lock = threading.Condition()

    # Configuration

    @staticmethod
    def _section(header, directives):
        lines = [f"[{header}]"]
        for key, value in directives.items():
            for one in value if isinstance(value, (list, tuple)) else [value]:
                lines.append(f"{key} = {one}")
        return "\n".join(lines) + "\n"

    def config_text(self):
        parts = [self._section("global", self.global_),
                 self._section(f"smtp-listener {self.ip}:{self.port}", {}),
                 self._section("source 127.0.0.0/8", self.source)]
        for name, value in self.vmtas.items():
            if not isinstance(value, dict):
                value = {"smtp-source-host": value}
            parts.append(self._section(f"virtual-mta {name}", value))
        parts += [self._section(f"domain {p}", d) for p, d in self.domains.items()]
        if self.acct:
            parts.append(self._section(f"acct-file {self.acct_path}", self.acct))
        return "\n".join(parts) + "\n" + self.extra

    def write_config(self, text=None):
        self.conf.write_text(self.config_text() if text is None else text, encoding="utf-8")

    # Processes

    def _binary(self, variable, name):
        path = os.environ.get(variable) or str(build_dir() / name)
        assert os.path.exists(path), f"{path} is not there; run make first (or set {variable})"
        return path

    def check(self):
        """sluiced --check: (exit status, stderr)"""
        self.write_config()
        done = subprocess.run([self._binary("SLUICED", "sluiced"), "-c", str(self.conf),
                               "--check"], capture_output=True, text=True, timeout=30,
                              check=False)
        return done.returncode, done.stderr

    def start(self, ready=True, timeout=20.0, write=True):
        if write:
            self.write_config()
        command = self.wrapper + [self._binary("SLUICED", "sluiced"), "-c", str(self.conf)]
        if self.debug:
            command.append("--debug")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        env=self.env)
        since = len(self.log)
        threading.Thread(target=self._read_log, args=(self.process,), daemon=True).start()
        if ready:
            self.wait_log(msg="ready", since=since, timeout=timeout)
        return self

    def _read_log(self, process):
        with process.stderr, open(self.log_path, "ab") as copy:
            for raw in process.stderr:
                copy.write(raw)
                copy.flush()
                line = raw.decode("utf-8", "replace").rstrip("\n")
                with self._log_lock:
                    self.log.append(line)
                    self._log_lock.notify_all()
        with self._log_lock:
            self._log_lock.notify_all()

    def log_lines(self, since=0, contains=None, **fields):
        with self._log_lock:
            lines = self.log[since:]
        found = []
        for line in lines:
            if contains is not None and contains not in line:
                continue
            parsed = parse_log_line(line)
            if all(parsed.get(k) == str(v) for k, v in fields.items()):
                found.append(line)
        return found

    def wait_log(self, since=0, timeout=10.0, contains=None, **fields):
        """Waits for a log line that has these key=value pairs; returns it."""
        deadline = time.monotonic() + timeout
        while True:
            found = self.log_lines(since, contains, **fields)
            if found:
                return found[0]
            if self.process.poll() is not None and fields.get("msg") == "ready":
                raise AssertionError(f"sluiced ended with {self.process.returncode} before it "
                                     f"was ready:\n" + self.log_tail())
            with self._log_lock:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"waited {timeout} s for a log line with {contains or ''} "
                                       f"{fields}")
                self._log_lock.wait(min(left, 0.2))

    def log_tail(self, lines=80):
        with self._log_lock:
            return "\n".join(self.log[-lines:])

    def family(self):
        """Every live process of this daemon, also those whose master has died: pid -> state."""
        mine = os.fsencode(str(self.conf))
        found = {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as f:
                    args = f.read().split(b"\0")
                with open(f"/proc/{entry}/stat", encoding="latin-1") as f:
                    state = f.read().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if mine in args and args[0].endswith(b"sluiced") and state != "Z":
                found[int(entry)] = state
        return found

    def processes(self, role=None, vmta=None):
        """From `show status`: [{role, slot, vmta, pid}]"""
        found = self.cli("show", "status")["processes"]
        return [p for p in found if (role is None or p["role"] == role)
                and (vmta is None or p.get("vmta") == vmta)]

    def pid(self, role, vmta=None):
        found = self.processes(role, vmta)
        assert found, f"no process of role {role} {vmta or ''} in {self.processes()}"
        return found[0]["pid"]

    def kill(self, role, vmta=None):
        """kill -9 of a process by role; returns its pid once it is dead. self.kills gets the span
        of wall time in which it died, and whose transactions that can have cut."""
        pid = self.process.pid if role == "master" else self.pid(role, vmta)
        # What is in a ring outlives the spooler, but not the family.
        sources = None if role == "master" else set()
        if role == "worker":
            addresses = self.vmtas.get(vmta)
            sources = {a.split()[0] for a in addresses} if isinstance(addresses, list) else None
        self._kill([pid], sources)
        if role == "spooler":
            self._spooler_died = self.kills[-1][0]
        return pid

    def _kill(self, pids, sources=None):
        began = time.time()
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.process.pid in pids:
            self.process.wait(10)
        wait_until(lambda: not set(pids) & set(self.family()), 10, "the killed to be dead", 0.002)
        # A spooler that had just died may have left the rings of all workers unread.
        if sources is None and began - self._spooler_died < 3:
            began = self._spooler_died
        self.kills.append(Kill(began, time.time(), sources))

    def wait_respawn(self, role, old_pid, vmta=None, timeout=20.0):
        def found():
            try:
                return [p["pid"] for p in self.processes(role, vmta) if p["pid"] != old_pid]
            except CliError:
                return None
        return wait_until(found, timeout, f"a new {role} {vmta or ''}")[0]

    def kill_all(self):
        """kill -9 of the whole family at once; they end in any order."""
        pids = sorted(self.family())
        self._kill(pids)
        wait_until(lambda: not self.family(), 10, "the family to be gone")
        return pids

    def reload(self, by_signal=False, write=True):
        if write:
            self.write_config()
        if by_signal:
            since = len(self.log)
            os.kill(self.process.pid, signal.SIGHUP)
            return self.wait_log(since=since, msg="reloaded")
        return self.cli("reload", timeout=30)

    def stop(self, timeout=40.0):
        """SIGTERM; returns the exit status. Nobody of the family may be left."""
        if not self.process:
            return None
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(timeout)
        finally:
            if self.process.poll() is None:
                self.kill_all()
        wait_until(lambda: not self.family(), 10, f"the family to end: {self.family()}")
        return self.process.returncode

    def clean_up(self):
        """For the end of a test, however it ended."""
        if not self.process:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                pass
        for pid in self.family():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.process.poll() is None:
            self.process.wait(10)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.clean_up()

    # Commands

    def run(self, *args, stdin=None, timeout=60.0):
        """The command as an operator types it: CompletedProcess with text."""
        return subprocess.run([self._binary("SLUICE", "sluice"), "-c", str(self.conf), *args],
                              input=stdin, capture_output=True, text=True, timeout=timeout,
                              check=False, env=self.env)

    def cli(self, *args, stdin=None, timeout=60.0):
        """The command with --json: its data. CliError if the exit status is not 0."""
        done = self.run("--json", *args, stdin=stdin, timeout=timeout)
        if done.returncode:
            raise CliError(args, done.returncode, done.stdout, done.stderr)
        answer = json.loads(done.stdout) if done.stdout.strip() else None
        if isinstance(answer, dict) and "data" in answer and "status" in answer:
            answer = answer["data"]
        return answer

    def rows(self, *args):
        """What a command lists: a list of dicts."""
        answer = self.cli(*args)
        if isinstance(answer, dict):
            lists = [v for v in answer.values() if isinstance(v, list)]
            assert len(lists) == 1, f"not one list in the answer to {args}: {answer}"
            answer = lists[0]
        return answer or []

    def control(self, command, **args):
        """A command over the control socket: all lines of the answer (docs/control-protocol.md)."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(60)
            s.connect(str(self.runtime / "control.sock"))
            s.sendall(json.dumps({"command": command, "args": args}).encode() + b"\n")
            with s.makefile() as lines:
                return [json.loads(line) for line in lines]

    def counter(self, name):
        return self.cli("show", "status")["counters"][name]

    # Mail in

    def smtp(self, source=None, timeout=20.0):
        client = smtplib.SMTP(timeout=timeout, local_hostname="feeder.test",
                              source_address=(source, 0) if source else None)
        client.connect(self.ip, self.port)
        return client

    def dialogue(self, source=None):
        return Dialogue(self.ip, self.port, source)

    def inject(self, sender, rcpts, body="hello\r\n", headers=None, vmta=None, job=None,
               mail_options=(), rcpt_options=(), client=None):
        """One message; raises what smtplib raises when it is refused."""
        rcpts = [rcpts] if isinstance(rcpts, str) else rcpts
        head = {"From": sender, "Subject": "test"}
        if vmta:
            head["X-Virtual-MTA"] = vmta
        if job:
            head["X-Job"] = job
        head.update(headers or {})
        text = "".join(f"{k}: {v}\r\n" for k, v in head.items()) + "\r\n"
        data = text.encode() + (body if isinstance(body, bytes) else body.encode())
        own = client or self.smtp()
        try:
            return own.sendmail(sender, rcpts, data, mail_options, rcpt_options)
        finally:
            if not client:
                own.quit()

    # Accounting

    def records(self, type_=None, rcpt=None, whole=False):
        if not self.acct_path.exists():
            return []
        return [r for r in read_csv(self.acct_path.read_bytes(), whole)
                if (type_ is None or r.type in type_.split(","))
                and (rcpt is None or getattr(r, "rcpt", None) == rcpt)]

    def wait_records(self, count, type_=None, rcpt=None, timeout=15.0):
        """The records of these types, once there are at least `count`."""
        def enough():
            records = self.records(type_, rcpt)
            return records if len(records) >= count else None
        try:
            return wait_until(enough, timeout, "records")
        except TimeoutError:
            raise TimeoutError(f"waited {timeout} s for {count} records of {type_ or 'any type'} "
                               f"{rcpt or ''}; there are {self.records()}") from None

    def final(self):
        """rcpt -> its d or b record; fails when a recipient has two."""
        found = {}
        for record in self.records("d,b"):
            assert record.rcpt not in found, f"two final records: {found[record.rcpt]} {record}"
            found[record.rcpt] = record
        return found

    def queued(self):
        """Recipients in the spool, as the daemon counts them."""
        return self.cli("show", "status")["spool"]["recipients"]

    def wait_queued(self, count, timeout=20.0):
        wait_until(lambda: self.queued() == count, timeout, f"{count} queued recipients")

    def wait_empty(self, timeout=20.0):
        self.wait_queued(0, timeout)
        assert self.rows("list") == []


Verdict = collections.namedtuple("Verdict", "lost doubled unexpected duplicates excess open")


# Of what a process had open when it died, for a ledger that trusts nobody's clock to the millisecond
# on a busy machine: how long after a receiver's 250 the outcome may not yet be with the spooler.
SLACK = 1.0


class Kill(tuple):
    """(from, to) in wall time, and whose transactions that can have cut: source IPs; None: all."""

    def __new__(cls, began, ended, sources=None):
        kill = super().__new__(cls, (began, ended))
        kill.sources = sources
        return kill

    def may_cut(self, start, end, source, slack):
        return ((self.sources is None or source is None or source in self.sources)
                and start <= self[1] and self[0] <= end + slack)


def ledger(accepted, sluice_records, deliveries, kills=(), slack=SLACK):
    """Compares what was accepted with what came of it.

    accepted: recipients that got their 250. sluice_records: d and b records. deliveries: "conn" and
    "mail" events and accepted "dot" events of the receiver's journal. kills: of Kill.
    Returns Verdict(lost: accepted without a final record; doubled: with more than one; unexpected:
    final record or delivery without acceptance; duplicates: delivered more than once; excess:
    those of them whose earlier transaction was not open at any kill that can have cut it; open:
    how many accepted transactions were open at kills, without that slack)."""
    kills = [k if isinstance(k, Kill) else Kill(*k) for k in kills]
    finals = collections.Counter(r.rcpt for r in sluice_records if r.type in "db")
    source = {e["c"]: e["source"] for e in deliveries if e["ev"] == "conn"}
    began = {e["tx"]: (e["t"], source.get(e.get("c"))) for e in deliveries if e["ev"] == "mail"}
    seen = collections.defaultdict(list)
    cut = 0
    for event in deliveries:
        if event["ev"] == "dot" and event["reply"].startswith("2"):
            start, ip = began[event["tx"]]
            is_open = any(k.may_cut(start, event["t"], ip, slack) for k in kills)
            cut += any(k.may_cut(start, event["t"], ip, 0) for k in kills)
            for rcpt in event["rcpts"]:
                seen[rcpt].append((start, is_open))
    accepted = set(accepted)
    delivered = {r.rcpt for r in sluice_records if r.type == "d"}
    lost = sorted(r for r in accepted if not finals[r])
    lost += sorted(r for r in delivered if r not in seen)
    doubled = sorted(r for r, n in finals.items() if n > 1)
    unexpected = sorted((set(finals) | set(seen)) - accepted)
    duplicates = sorted(r for r, times in seen.items() if len(times) > 1)
    excess = [rcpt for rcpt in duplicates
              for _, is_open in sorted(seen[rcpt])[:-1] if not is_open]
    return Verdict(lost, doubled, unexpected, duplicates, excess, cut)
