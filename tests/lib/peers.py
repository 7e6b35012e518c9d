"""What Sluice talks to in tests: the scriptable receiver, certificates, ports, small clients.

Rules of the receiver (tests/lib/receiver.c), replaced as a whole by Receiver.script():

  limits    {"per": "listen|source|pair|all", "max": 20, "listen": GLOB, "source": GLOB,
             "reply": "421 ...", "reset": false, "together": true}
            together: all connections that listen and source match count as one
            {"event": "connect|message|rcpt", "max": N, "window": SECONDS, "per": ...}
  features  {"listen": GLOB, "pipelining": true, "8bitmime": true, "smtputf8": true, "dsn": false,
             "enhancedstatuscodes": true, "starttls": false, "size": -1, "ehlo": true}
  rules     {"stage": "connect|ehlo|helo|mail|rcpt|data|body|dot|rset|quit|starttls|other", ...}
    match   listen, source, from, local, domain (globs; local and domain: of the recipient, in the
            stages after RCPT of the first accepted one), percent N or [LO, HI] (by hash of the
            recipient), once rcpt|conn|source|listen, and counted on the rule or, with
            "per": "connection", on each connection: nth, every, first, after
    act     reply TEXT (lines by \\n), raw BYTES, repeat LINE with times N (0: endless), delay MS,
            drip MS (a byte at a time), cut N (only N bytes of the reply, then the connection ends),
            close before|after|reset, hang, tls start|garbage|close|hang (stage starttls),
            after-bytes N (stage body: trouble when that much of the message has come in)

The first rule that matches at a stage decides.
"""
import json
import os
import pathlib
import random
import select
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def build_dir():
    """Where the binaries are: $BUILD, the folder of $SLUICED, or build/debug."""
    if os.environ.get("BUILD"):
        return pathlib.Path(os.environ["BUILD"]).resolve()
    sluiced = os.environ.get("SLUICED")
    return pathlib.Path(sluiced).resolve().parent if sluiced else ROOT / "build" / "debug"


def tool(name):
    """A compiled test tool, e.g. tool("receiver"): in $SLUICE_TOOLS or beside the binaries."""
    folder = pathlib.Path(os.environ.get("SLUICE_TOOLS") or build_dir() / "tests")
    path = folder / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there; `make tools` builds it")
    return str(path)


def free_port(*ips):
    """A port that is free on these addresses, below the range of ephemeral ports."""
    ips = ips or ("127.0.0.1",)
    for _ in range(200):
        port = random.randrange(10000, 30000)
        try:
            for ip in ips:
                family = socket.AF_INET6 if ":" in ip else socket.AF_INET
                with socket.socket(family, socket.SOCK_STREAM) as sock:
                    sock.bind((ip, port))
        except OSError:
            continue
        return port
    raise OSError("no free port")


def wait_until(condition, timeout=10.0, what="the condition", pause=0.02):
    """Polls where there is no event to wait for. Returns the condition's (true) value."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s for {what}")
        time.sleep(pause)


def certificate(folder, name="receiver.test"):
    """A self-signed certificate and its key in one PEM file."""
    folder = pathlib.Path(folder)
    pem = folder / f"{name}.pem"
    if pem.exists():
        return str(pem)
    key, crt = folder / "key.tmp", folder / "crt.tmp"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "30", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}",
         "-keyout", str(key), "-out", str(crt)], check=True, capture_output=True)
    pem.write_text(crt.read_text() + key.read_text())
    key.unlink()
    crt.unlink()
    return str(pem)


class Receiver:
    """A running receiver. Counters: connections refused limited open mails messages rcpts rejected
    aborted bytes handshakes duplicates seen."""

    def __init__(self, folder, addresses="127.0.1.1-127.0.1.20", port=None, journal=True, ids=0,
                 store=False, tls=True, digest=True, name="receiver", extra=()):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        # A socket's name is limited to 107 bytes, pytest's folders are long.
        self.control_path = f"/tmp/rcv-{os.getpid()}-{random.randrange(1 << 30):x}"
        self.journal_path = self.folder / f"{name}.jsonl"
        self.store_path = self.folder / f"{name}.d"
        args = ["--control", self.control_path, "--stdin"]
        if journal:
            args += ["--journal", str(self.journal_path)]
        if ids:
            args += ["--ids", str(ids)]
        if store:
            self.store_path.mkdir(exist_ok=True)
            args += ["--store", str(self.store_path)]
        if tls:
            args += ["--cert", certificate(self.folder)]
        if not digest:
            args += ["--no-digest"]
        ranges = [addresses] if isinstance(addresses, str) else list(addresses)
        self.process, self.port = self._start(args + list(extra), ranges, port)
        self._socket = None
        self._read = 0
        self._events = []

    @staticmethod
    def _start(args, ranges, port):
        for _ in range(20):
            chosen = port or free_port(ranges[0].split("-")[0].strip("[]"))
            listens = [x for r in ranges for x in ("--listen", f"{r}:{chosen}")]
            process = subprocess.Popen([tool("receiver")] + args + listens,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, text=True)
            if process.stdout.readline().strip() == "ready":
                return process, chosen
            error = process.stderr.read()
            process.wait()
            if port or "in use" not in error:
                raise RuntimeError(f"the receiver did not start: {error}")
        raise RuntimeError("the receiver found no port")

    def command(self, timeout=10.0, **request):
        if not self._socket:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(self.control_path)
        self._socket.settimeout(timeout)
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        data = b""
        try:
            while not data.endswith(b"\n"):
                more = self._socket.recv(1 << 20)
                if not more:
                    raise RuntimeError("the receiver has gone")
                data += more
        except socket.timeout:
            self._socket.close()
            self._socket = None
            raise
        answer = json.loads(data)
        if not answer.pop("ok"):
            raise ValueError(f"receiver: {answer['error']}")
        return answer

    def script(self, rules=(), limits=(), features=()):
        """Replaces all rules. Features count for connections made afterwards."""
        self.command(cmd="rules", rules=list(rules), limits=list(limits), features=list(features))

    def stats(self):
        return self.command(cmd="stats")

    def mark(self):
        """Peaks, means and counts per address begin again."""
        self.command(cmd="mark")

    def wait(self, counter, at_least=None, at_most=None, timeout=15.0):
        """Returns when the counter is there; TimeoutError with all counters otherwise."""
        request = {"cmd": "wait", "counter": counter}
        if at_least is not None:
            request["min"] = at_least
        if at_most is not None:
            request["max"] = at_most
        try:
            self.command(timeout=timeout, **request)
        except socket.timeout:
            stats = {k: v for k, v in self.stats().items() if not isinstance(v, dict)}
            raise TimeoutError(f"receiver: waited {timeout} s for {counter} "
                               f">= {at_least} <= {at_most}; has {stats}") from None

    def unlisten(self, ip):
        self.command(cmd="unlisten", listen=ip)

    def listen(self, ip):
        self.command(cmd="listen", listen=f"{ip}:{self.port}")

    def drop(self, listen=None, source=None, reset=False):
        request = {"cmd": "drop", "reset": reset}
        if listen:
            request["listen"] = listen
        if source:
            request["source"] = source
        self.command(**request)

    # The journal. Bytes come as latin-1 characters.

    def journal(self, event=None, **match):
        """All events so far, or those of one kind with these members."""
        self.command(cmd="flush")
        with open(self.journal_path, "rb") as f:
            f.seek(self._read)
            data = f.read()
        end = data.rfind(b"\n") + 1
        self._read += end
        self._events += [json.loads(line) for line in data[:end].splitlines()]
        return [e for e in self._events if (event is None or e["ev"] == event)
                and all(e.get(k) == v for k, v in match.items())]

    def messages(self, rcpt=None):
        """Accepted messages (the "dot" events), in order."""
        return [e for e in self.journal("dot") if e["reply"].startswith("2")
                and (rcpt is None or rcpt in e["rcpts"])]

    def connection_of(self, event):
        """The "conn" event of an event's connection: listen, source, ports."""
        return self.journal("conn", c=event["c"])[0]

    def ehlo_of(self, event):
        return [e["name"] for e in self.journal("ehlo", c=event["c"])][-1]

    def stored(self, event):
        """The message as it was received (with store=True), without dot-stuffing."""
        return (self.store_path / f"{event['tx']}.eml").read_bytes()

    def stop(self):
        if self._socket:
            self._socket.close()
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            pipe.close()
        try:
            os.unlink(self.control_path)
        except FileNotFoundError:
            pass
        return self.process.returncode


class Dialogue:
    """A raw SMTP client: what is sent is exactly what is written here."""

    def __init__(self, ip, port, source=None, timeout=10.0):
        self._in = b""
        try:
            self.sock = socket.create_connection((ip, port), timeout,
                                                 (source, 0) if source else None)
        except ConnectionResetError:
            self.sock = None        # accepted and reset at once: an end like any other

    def send(self, data):
        if not self.sock:
            raise ConnectionResetError
        self.sock.sendall(data.encode() if isinstance(data, str) else data)

    def reply(self):
        """One whole reply as a list of its lines; [] at the end of the connection."""
        lines = []
        while True:
            while b"\n" not in self._in:
                try:
                    more = self.sock.recv(65536) if self.sock else b""
                except ConnectionResetError:
                    more = b""
                if not more:
                    return lines
                self._in += more
            line, _, self._in = self._in.partition(b"\n")
            assert line.endswith(b"\r"), f"a reply line without CR: {line!r}"
            lines.append(line[:-1].decode("latin-1"))
            if lines[-1][3:4] != "-":
                return lines

    def __call__(self, line):
        """Sends a line, returns the reply as one text with its lines joined by newlines."""
        self.send(line if isinstance(line, bytes) else line.encode() + b"\r\n")
        return "\n".join(self.reply())

    def greet(self, name="client.test"):
        greeting = "\n".join(self.reply())
        return greeting, self(f"EHLO {name}")

    def silent(self, seconds=0.3):
        """True when nothing more comes for that long."""
        return not self._in and not select.select([self.sock], [], [], seconds)[0]

    def at_end(self):
        """True when the peer has closed the connection and sent nothing before."""
        return self.reply() == []

    def close(self):
        if self.sock:
            self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
