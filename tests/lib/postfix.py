"""A Postfix of our own: configuration, queue and log in a folder, nothing of the system's touched.

Used as the yardstick of the benchmark (tuned) and as a real receiver in end-to-end tests. Needs root.
Its DNS comes from /etc/resolv.conf, which knows no ports: it is started in a mount name space of its
own, in which that file names our resolver (port 53 of some loopback address).
"""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

PROGRAMS = "/usr/lib/postfix/sbin"

# What a Postfix for bulk mail gets: processes, concurrency, no delays, no chroot, no TLS, connection
# reuse on demand. default_destination_recipient_limit stays as it is: 1 would turn reuse off.
TUNED = {
    "default_process_limit": "200",
    "default_destination_concurrency_limit": "50",
    "smtp_destination_concurrency_limit": "50",
    "initial_destination_concurrency": "20",
    "qmgr_message_active_limit": "50000",
    "qmgr_message_recipient_limit": "50000",
    "in_flow_delay": "0",
    "smtp_connection_cache_on_demand": "yes",
    "smtp_tls_security_level": "none",
    "smtpd_tls_security_level": "none",
    "smtpd_peername_lookup": "no",
    "smtpd_client_connection_count_limit": "0",
    "smtpd_client_connection_rate_limit": "0",
    "smtpd_error_sleep_time": "0",
    "smtpd_timeout": "300s",
    "local_header_rewrite_clients": "",
    "message_size_limit": "50000000",
    "minimal_backoff_time": "300s",
    "smtp_host_lookup": "dns",
    "smtp_address_preference": "ipv4",
}

MASTER = """
{ip}:{port} inet n - n - 200 smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - 100 smtp
relay unix - - n - 100 smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
pickup unix n - n 60 1 pickup
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    def __init__(self, folder, port, ip="127.0.0.1", smtp_port=None, resolver=None, wrapper=(),
                 **settings):
        """resolver: an IP whose port 53 answers; smtp_port: where receivers listen;
        settings: main.cf parameters over the tuned ones."""
        self.folder = pathlib.Path(folder).resolve()
        self.config = self.folder / "etc"
        self.queue = self.folder / "queue"
        self.log = self.folder / "postfix.log"
        self.ip, self.port, self.resolver = ip, port, resolver
        self.wrapper = list(wrapper)
        self.process = None
        self.settings = {
            "compatibility_level": "3.6",
            "queue_directory": self.queue, "data_directory": self.folder / "data",
            "daemon_directory": PROGRAMS, "command_directory": "/usr/sbin",
            "mail_owner": "postfix", "setgid_group": "postdrop",
            "myhostname": "postfix.bench.test", "mydomain": "bench.test",
            "myorigin": "postfix.bench.test", "mydestination": "", "mynetworks": "127.0.0.0/8",
            "inet_interfaces": "127.0.0.1", "inet_protocols": "ipv4",
            "smtpd_relay_restrictions": "permit_mynetworks, reject",
            "smtpd_recipient_restrictions": "permit_mynetworks, reject",
            "alias_maps": "", "alias_database": "", "biff": "no",
            "maillog_file": self.log, "maillog_file_prefixes": self.folder,
            "smtputf8_enable": "no",
        }
        if smtp_port:
            self.settings["smtp_tcp_port"] = smtp_port
        self.settings.update(TUNED)
        self.settings.update(settings)

    @staticmethod
    def why_not():
        """None, or why it cannot run here."""
        if os.geteuid() != 0:
            return "Postfix needs root"
        if not os.path.exists(PROGRAMS + "/master") or not shutil.which("postfix"):
            return "Postfix is not installed (etc/install-deps does it)"
        return None

    def _prepare(self):
        # Unprivileged daemons of Postfix must get through to its folders.
        for parent in [self.folder, *self.folder.parents]:
            if parent.exists() and not parent.stat().st_mode & 0o001:
                raise RuntimeError(f"{parent} may not be entered by user postfix")
        for path in (self.config, self.queue, self.folder / "data"):
            path.mkdir(parents=True, exist_ok=True)
        shutil.chown(self.folder / "data", "postfix")
        main = "".join(f"{k} = {v}\n" for k, v in self.settings.items())
        (self.config / "main.cf").write_text(main)
        (self.config / "master.cf").write_text(MASTER.format(ip=self.ip, port=self.port))
        (self.config / "dynamicmaps.cf").write_text("")
        (self.folder / "resolv.conf").write_text(
            f"nameserver {self.resolver}\noptions timeout:5 attempts:2\n" if self.resolver else "")

    def untuned(self):
        """Names of tuned parameters that the running configuration does not have, or not so."""
        done = subprocess.run(["postconf", "-c", str(self.config), *TUNED], capture_output=True,
                              text=True, check=False)
        got = dict(line.partition(" = ")[::2] for line in done.stdout.splitlines())
        return [name for name, value in TUNED.items() if got.get(name, "").strip() != value]

    def start(self, timeout=30.0):
        self._prepare()
        # start-fg under a shell of our own: the mount is gone with the processes.
        script = 'set -e; '
        if self.resolver:
            script += 'mount --bind "$1/resolv.conf" /etc/resolv.conf; '
        script += 'exec postfix -c "$1/etc" start-fg'
        command = ["unshare", "-m", "--propagation", "private"] if self.resolver else []
        self.process = subprocess.Popen(
            self.wrapper + command + ["sh", "-c", script, "sh", str(self.folder)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            start_new_session=True)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError("postfix did not start: "
                                   + self.process.stderr.read().decode() + self.log_text()[-2000:])
            try:
                with socket.create_connection((self.ip, self.port), 1) as sock:
                    sock.settimeout(5)
                    if sock.recv(100).startswith(b"220"):
                        return self
            except OSError:
                time.sleep(0.05)
        raise TimeoutError("postfix does not answer: " + self.log_text()[-2000:])

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def master_pid(self):
        return int((self.queue / "pid" / "master.pid").read_text())

    def flush(self):
        subprocess.run(["postqueue", "-c", str(self.config), "-f"], check=True,
                       capture_output=True)

    def stop(self, timeout=20.0):
        if not self.process:
            return
        try:
            os.kill(self.master_pid(), signal.SIGTERM)
        except (OSError, ValueError):
            pass
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process.stderr.close()
        self.process = None
