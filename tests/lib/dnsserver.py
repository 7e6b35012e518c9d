#!/usr/bin/python3
"""An authoritative DNS server for tests: answers from a dict, misbehaves on request.

As a library (a thread, changed while it runs):

    dns = DnsServer("127.0.0.53")
    dns.set("example.test", MX=[(10, "mx.example.test")])
    dns.set("mx.example.test", A=["127.0.1.1"], AAAA=["::1"])
    dns.set("slow.test", delay=2.0, MX=[...])
    dns.generate(r"d(\\d+)\\.test", lambda m: {"MX": [(10, f"mx{m[1]}.test")]})
    dns.log                      # [(time, "udp"|"tcp", name, type)]

Keys of an entry: record types (MX, A, AAAA, CNAME, TXT, TLSA with lists or a single text), `ttl`,
and trouble: `rcode` ("SERVFAIL", "NXDOMAIN", "REFUSED", ...), `delay` (seconds), `drop` (True: never
answers; N: the first N questions), `tc` (truncated over UDP), `wrong_id`, `wrong_name`, `garbage`,
`only` (a list of types that the trouble is about). Names without an entry: NXDOMAIN.

As a program:
    dnsserver.py --listen 127.0.0.53:5353 [--zone FILE.json] [--addresses 100]
`--addresses N` generates dNNN.test -> MX mxNNN.test -> A 127.0.1.(1 + NNN % N).
It prints "ready" and ends with its stdin.
"""
import argparse
import collections
import heapq
import json
import re
import selectors
import socket
import struct
import sys
import threading
import time

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

TROUBLE = {"ttl", "rcode", "delay", "drop", "tc", "wrong_id", "wrong_name", "garbage", "only"}


def rdata_texts(rdtype, value):
    """The presentation forms of one entry's records of a type."""
    if isinstance(value, (str, bytes)) or (rdtype == "MX" and isinstance(value, tuple)):
        value = [value]
    texts = []
    for item in value:
        if rdtype == "MX":
            preference, host = item
            texts.append(f"{preference} {host if host == '.' else host.rstrip('.') + '.'}")
        elif rdtype in ("CNAME", "NS", "PTR"):
            texts.append(item.rstrip(".") + ".")
        else:
            texts.append(item)
    return texts


class DnsServer(threading.Thread):
    def __init__(self, ip="127.0.0.53", port=0, zone=None):
        super().__init__(daemon=True, name="dns-server")
        self.log = collections.deque(maxlen=1000000)
        self.keep_log = True
        self.negative_ttl = 5       # seconds, told in the SOA of answers without records
        self._lock = threading.Lock()
        self._zone = {}
        self._generators = []
        self._cache = {}
        self._drops = {}
        self._delayed = []
        self._serial = 0
        self._selector = selectors.DefaultSelector()
        self._bind(ip, port)
        self._wake_r, self._wake_w = socket.socketpair()
        self._selector.register(self._wake_r, selectors.EVENT_READ, self._on_wake)
        self._stopping = False
        for name, entry in (zone or {}).items():
            self.set(name, **entry)

    def _bind(self, ip, port):
        """UDP and TCP on the same port, whatever port that is."""
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        for _ in range(50):
            self._udp = socket.socket(family, socket.SOCK_DGRAM)
            self._tcp = socket.socket(family, socket.SOCK_STREAM)
            self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                self._udp.bind((ip, port))
                self._tcp.bind((ip, self._udp.getsockname()[1]))
                break
            except OSError:
                self._udp.close()
                self._tcp.close()
                if port:
                    raise
        else:
            raise OSError(f"no free port on {ip}")
        self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.ip, self.port = ip, self._udp.getsockname()[1]
        self._tcp.listen(128)
        for sock in (self._udp, self._tcp):
            sock.setblocking(False)
        self._selector.register(self._udp, selectors.EVENT_READ, self._on_udp)
        self._selector.register(self._tcp, selectors.EVENT_READ, self._on_accept)

    @property
    def address(self):
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"

    # What is served

    def set(self, name, **entry):
        """Replaces what is known about a name."""
        unknown = [k for k in entry if k not in TROUBLE and not k.isupper()]
        if unknown:
            raise ValueError(f"unknown member {unknown[0]!r}")
        with self._lock:
            self._zone[name.lower().rstrip(".")] = entry
            self._cache.clear()
            self._drops.pop(name.lower().rstrip("."), None)

    def unset(self, name):
        with self._lock:
            self._zone.pop(name.lower().rstrip("."), None)
            self._cache.clear()

    def generate(self, pattern, function):
        """Names that match the pattern: function(match) returns their entry."""
        with self._lock:
            self._generators.append((re.compile(pattern + r"\Z"), function))
            self._cache.clear()

    def domain(self, name, *hosts, ttl=60):
        """A domain with one MX per host: host is an IP, or (preference, IP or [IPs])."""
        records = []
        for i, host in enumerate(hosts):
            preference, ips = host if isinstance(host, tuple) else (10, host)
            ips = [ips] if isinstance(ips, str) else ips
            mx = f"mx{i}.{name}"
            self.set(mx, ttl=ttl, A=[a for a in ips if ":" not in a],
                     AAAA=[a for a in ips if ":" in a])
            records.append((preference, mx))
        self.set(name, ttl=ttl, MX=records)

    def queries(self, name=None, rdtype=None, transport=None):
        return [q for q in list(self.log)
                if (name is None or q[2] == name) and (rdtype is None or q[3] == rdtype)
                and (transport is None or q[1] == transport)]

    def _entry(self, name):
        entry = self._zone.get(name)
        if entry is not None:
            return entry
        for pattern, function in self._generators:
            match = pattern.match(name)
            if match:
                return function(match)
        return None

    # Answers

    def _fill(self, response, name, rdtype):
        """Adds records for name and type, following CNAMEs as an authoritative server does."""
        for _ in range(20):
            entry = self._entry(name)
            if entry is None:
                response.set_rcode(dns.rcode.NXDOMAIN)
                self._add_soa(response, name)
                return
            ttl = entry.get("ttl", 60)
            owner = dns.name.from_text(name)
            if entry.get("CNAME") and rdtype != "CNAME":
                texts = rdata_texts("CNAME", entry["CNAME"])
                rrset = dns.rrset.from_text(owner, ttl, "IN", "CNAME", *texts)
                if rrset in response.answer:
                    return              # a loop; what was found so far is the answer
                response.answer.append(rrset)
                name = texts[0].rstrip(".").lower()
                if self._entry(name) is None:
                    return
                continue
            texts = rdata_texts(rdtype, entry.get(rdtype) or [])
            if texts:
                response.answer.append(dns.rrset.from_text(owner, ttl, "IN", rdtype, *texts))
            else:
                self._add_soa(response, name)
            return

    def _add_soa(self, response, name):
        """RFC 2308: without it nobody may remember that there is nothing."""
        zone = name.rsplit(".", 1)[-1] + "."
        ttl = self.negative_ttl
        response.authority.append(dns.rrset.from_text(
            zone, ttl, "IN", "SOA", f"ns.{zone} hostmaster.{zone} 1 3600 600 86400 {ttl}"))

    def _answer(self, wire, transport):
        """(bytes or None, delay)"""
        query = dns.message.from_wire(wire, ignore_trailing=True)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        rdtype = dns.rdatatype.to_text(question.rdtype)
        if self.keep_log:
            self.log.append((time.time(), transport, name, rdtype))
        entry = self._entry(name) or {}
        trouble = entry
        if "only" in entry and rdtype not in entry["only"]:
            trouble = {k: v for k, v in entry.items() if k not in TROUBLE}
        if trouble.get("drop"):
            n = self._drops[name] = self._drops.get(name, 0) + 1
            if trouble["drop"] is True or n <= trouble["drop"]:
                return None, 0, False
        response = dns.message.make_response(query, recursion_available=True)
        if trouble.get("rcode"):
            response.set_rcode(dns.rcode.from_text(trouble["rcode"]))
        else:
            self._fill(response, name, rdtype)
        if trouble.get("wrong_name"):
            response.question[0].name = dns.name.from_text("other.invalid")
        wire_out = self._encode(response, query, transport, bool(trouble.get("tc")))
        if trouble.get("wrong_id"):
            wire_out = struct.pack("!H", (query.id + 1) & 0xffff) + wire_out[2:]
        if trouble.get("garbage"):
            wire_out = wire_out[:2] + b"\xff" * 40
        plain = not any(k in trouble for k in TROUBLE - {"ttl", "only", "rcode"})
        return wire_out, trouble.get("delay", 0), plain

    @staticmethod
    def _encode(response, query, transport, truncate):
        size = 65535
        if transport == "udp":
            size = max(query.payload, 512) if query.edns >= 0 else 512
        try:
            if truncate and transport == "udp":
                raise dns.exception.TooBig
            return response.to_wire(max_size=size)
        except dns.exception.TooBig:
            response.flags |= dns.flags.TC
            response.answer = []
            response.authority = []
            return response.to_wire()

    def _reply_to(self, wire, transport):
        if transport == "udp" and not self.keep_log:
            cached = self._cache.get(wire[2:])
            if cached:
                return wire[:2] + cached, 0
        with self._lock:
            try:
                answer, delay, plain = self._answer(wire, transport)
            except (dns.exception.DNSException, IndexError, ValueError) as error:
                print(f"dns-server: {error!r}", file=sys.stderr)
                return None, 0
            if plain and answer and transport == "udp" and not self.keep_log:
                self._cache[wire[2:]] = answer[2:]
        return answer, delay

    # Sockets

    def _later(self, delay, function):
        self._serial += 1
        heapq.heappush(self._delayed, (time.monotonic() + delay, self._serial, function))

    def _on_udp(self):
        for _ in range(64):
            try:
                wire, peer = self._udp.recvfrom(65535)
            except (BlockingIOError, InterruptedError):
                return
            answer, delay = self._reply_to(wire, "udp")
            if answer is None:
                continue
            if delay:
                self._later(delay, lambda a=answer, p=peer: self._udp.sendto(a, p))
                continue
            try:
                self._udp.sendto(answer, peer)
            except OSError:
                pass

    def _on_accept(self):
        try:
            sock, _ = self._tcp.accept()
        except OSError:
            return
        sock.setblocking(False)
        state = {"in": b""}
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._on_tcp(sock, state))

    def _on_tcp(self, sock, state):
        try:
            data = sock.recv(65535)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(sock)
            sock.close()
            return
        state["in"] += data
        while len(state["in"]) >= 2:
            size = struct.unpack("!H", state["in"][:2])[0]
            if len(state["in"]) < 2 + size:
                return
            wire, state["in"] = state["in"][2:2 + size], state["in"][2 + size:]
            answer, delay = self._reply_to(wire, "tcp")
            if answer is not None:
                framed = struct.pack("!H", len(answer)) + answer
                self._later(delay, lambda f=framed: self._send_tcp(sock, f))

    @staticmethod
    def _send_tcp(sock, data):
        try:
            sock.setblocking(True)
            sock.sendall(data)
            sock.setblocking(False)
        except OSError:
            pass

    def _on_wake(self):
        self._wake_r.recv(64)

    def run(self):
        while not self._stopping:
            wait = 1.0
            if self._delayed:
                wait = max(0.0, self._delayed[0][0] - time.monotonic())
            for key, _ in self._selector.select(wait):
                key.data()
            while self._delayed and self._delayed[0][0] <= time.monotonic():
                heapq.heappop(self._delayed)[2]()

    def stop(self):
        self._stopping = True
        self._wake_w.send(b"x")
        if self.is_alive():
            self.join(5)
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()
        self._wake_w.close()


def generate_domains(server, addresses, prefix="127.0.1."):
    """dNNN.test -> mxNNN.test -> one of `addresses` addresses, in turn."""
    server.generate(r"d(\d+)\.test", lambda m: {"ttl": 300, "MX": [(10, f"mx{m[1]}.test")]})
    server.generate(r"mx(\d+)\.test", lambda m: {
        "ttl": 300, "A": [f"{prefix}{1 + int(m[1]) % addresses}"]})


def main():
    parser = argparse.ArgumentParser(description="DNS server for tests")
    parser.add_argument("--listen", default="127.0.0.53:5353", metavar="IP:PORT")
    parser.add_argument("--zone", metavar="FILE", help="JSON: name -> entry")
    parser.add_argument("--addresses", type=int, default=0, metavar="N",
                        help="generate dNNN.test over N addresses")
    args = parser.parse_args()
    ip, _, port = args.listen.rpartition(":")
    zone = {}
    if args.zone:
        with open(args.zone, encoding="utf-8") as f:
            zone = json.load(f)
    server = DnsServer(ip.strip("[]"), int(port), zone)
    server.keep_log = False
    server.negative_ttl = 300
    if args.addresses:
        generate_domains(server, args.addresses)
    server.start()
    print("ready", server.address, flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
