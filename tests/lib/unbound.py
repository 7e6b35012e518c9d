"""An Unbound of our own that knows some domains by heart: a DNS server as fast as operators have."""
import pathlib
import subprocess

import dns.exception
import dns.message
import dns.query

from peers import wait_until


def mail_domains(count, addresses=100):
    """dN.test -> MX mxN.test -> A 127.0.1.x"""
    for i in range(count):
        yield f"d{i}.test. 3600 IN MX 10 mx{i}.test."
        yield f"mx{i}.test. 3600 IN A 127.0.1.{1 + i % addresses}"


class Unbound:
    """Answers with `records` for names below test.; zones = {"x.test.": "deny", …}: what it does with these
    (unbound.conf(5), local-zone). Postfix knows no port but 53."""

    def __init__(self, folder, ip, records, zones=None, port=53):
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.ip, self.port, self.address = ip, port, f"{ip}:{port}"
        lines = ["server:", f"interface: {ip}", f"port: {port}", "do-daemonize: no",
                 "access-control: 127.0.0.0/8 allow", 'chroot: ""', 'username: ""',
                 f'pidfile: "{folder}/unbound.pid"', "use-syslog: no", "verbosity: 0",
                 "num-threads: 1", 'local-zone: "test." static']
        lines += [f'local-zone: "{name}" {kind}' for name, kind in (zones or {}).items()]
        lines += [f'local-data: "{record}"' for record in records]
        lines.append('local-data: "ready.test. 3600 IN A 127.0.0.1"')
        conf = folder / "unbound.conf"
        conf.write_text("\n".join(lines) + "\n")
        self.process = subprocess.Popen(["unbound", "-d", "-c", str(conf)],
                                        stdin=subprocess.DEVNULL)
        wait_until(self._answers, 20, f"unbound on {self.address}")

    def _answers(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"unbound ended; is port {self.port} of {self.ip} taken?")
        try:
            query = dns.message.make_query("ready.test", "A")
            return bool(dns.query.udp(query, self.ip, port=self.port, timeout=0.5).answer)
        except (dns.exception.DNSException, OSError):
            return False

    def stop(self):
        self.process.terminate()
        self.process.wait(10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
