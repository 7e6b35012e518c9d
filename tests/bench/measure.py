"""What a family of processes costs: CPU, memory, disk, system calls."""
import os
import pathlib
import re
import time

CPUACCT = pathlib.Path("/sys/fs/cgroup/cpuacct")
UNIFIED = (pathlib.Path("/sys/fs/cgroup"), pathlib.Path("/sys/fs/cgroup/unified"))
TICK = os.sysconf("SC_CLK_TCK")


class Family:
    """CPU and members of everything started under `wrapper`, also of what has ended. A cgroup does
    it if one can be made; else /proc (then `exact` is False: children that nobody waited for are
    missed)."""

    def __init__(self, name):
        self.root_pid = None
        self.path = self.file = None
        self.v1 = False
        self.exact = self._make_group(f"sluice-bench-{name}-{os.getpid()}")
        self.wrapper = []
        if self.exact:
            self.wrapper = ["sh", "-c", 'echo $$ >"$0"; exec "$@"', str(self.path / "cgroup.procs")]

    def _make_group(self, name):
        for base, usage in ((CPUACCT, "cpuacct.usage"), (UNIFIED[0], "cpu.stat"),
                            (UNIFIED[1], "cpu.stat")):
            path = base / name
            try:
                path.mkdir()
            except OSError:
                continue
            if (path / usage).exists() and (path / "cgroup.procs").exists():
                self.path, self.v1 = path, base == CPUACCT
                return True
            path.rmdir()
        return False

    def pids(self):
        if self.exact:
            return [int(p) for p in (self.path / "cgroup.procs").read_text().split()]
        children = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    stat = pathlib.Path(f"/proc/{entry}/stat").read_text(encoding="latin-1")
                except OSError:
                    continue
                children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
        found, todo = [], [self.root_pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            todo += children.get(pid, [])
        return found

    def cpu(self):
        """(user, system) seconds so far"""
        if self.exact and self.v1:
            text = (self.path / "cpuacct.stat").read_text().split()
            total = int((self.path / "cpuacct.usage").read_text()) / 1e9
            user, system = int(text[1]) / TICK, int(text[3]) / TICK
            share = user / (user + system) if user + system else 0.5
            return total * share, total * (1 - share)
        if self.exact:
            fields = dict(line.split() for line in (self.path / "cpu.stat").read_text().split("\n")
                          if line)
            return int(fields["user_usec"]) / 1e6, int(fields["system_usec"]) / 1e6
        user = system = 0
        for pid in self.pids():
            try:
                stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="latin-1")
            except OSError:
                continue
            fields = stat.rpartition(")")[2].split()
            user += int(fields[11]) + int(fields[13])
            system += int(fields[12]) + int(fields[14])
        return user / TICK, system / TICK

    def memory(self):
        """Bytes of Pss_Anon + Pss_Shmem (the page cache of a mapped spool is not the program's)."""
        total = 0
        for pid in self.pids():
            try:
                text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            total += sum(int(kb) for kb in re.findall(r"^Pss_(?:Anon|Shmem):\s+(\d+)", text, re.M))
        return total * 1024

    def close(self):
        if not self.exact:
            return
        for _ in range(100):
            try:
                self.path.rmdir()
                return
            except OSError:
                time.sleep(0.05)


def disk_written(path):
    """Bytes written so far to the disk that holds path (the whole disk), or None."""
    device = os.stat(path).st_dev
    for line in pathlib.Path("/proc/diskstats").read_text().splitlines():
        fields = line.split()
        if (int(fields[0]), int(fields[1])) == (os.major(device), os.minor(device)):
            return int(fields[9]) * 512
    return None


LINE = re.compile(r"^(?:\[pid +)?(\d+)\]? +(\d+\.\d+) (.*)$")
FILE = re.compile(r"(\w+)\((\d+)<([^>]*)>")
TOOK = re.compile(r" <(\d+\.\d+)>$")
REPLY = re.compile(r'"250 2\.[06]\.0 ')
TRACE = ["strace", "-f", "-y", "-ttt", "-T", "-s", "64", "-e",
         "trace=openat,fsync,fdatasync,msync,sync_file_range,pwrite64,pwritev,write,writev,"
         "read,readv,recvfrom,recvmsg,sendto,sendmsg", "-o"]


def read_trace(path):
    """Complete calls of a log made with TRACE: (start, end, name, text). A call that was
    interrupted by others' lines is joined again."""
    unfinished, calls = {}, []
    with open(path, encoding="latin-1") as f:
        for raw in f:
            match = LINE.match(raw)
            if not match:
                continue
            pid, at, text = int(match[1]), float(match[2]), match[3]
            if text.endswith("<unfinished ...>"):
                unfinished[pid] = (at, text[:-len("<unfinished ...>")])
                continue
            start, end = at, at
            took = TOOK.search(text)
            if text.startswith("<... ") and pid in unfinished:
                start, begin = unfinished.pop(pid)
                text = begin + text.partition("resumed>")[2]
            elif took:
                end = at + float(took[1])
            calls.append((start, end, text.partition("(")[0], text))
    return calls


def syncs_in_trace(calls, file=""):
    """What makes data durable, as {"sync": [(start, end)], "write": [...]}: fsync, fdatasync, msync;
    and writes through a descriptor opened with O_SYNC or O_DSYNC. `file`: part of the path."""
    synced = set()
    found = {"sync": [], "write": []}
    for start, end, name, text in calls:
        if name == "openat" and ("O_DSYNC" in text or "O_SYNC" in text):
            match = re.search(r"= (\d+)<([^>]*)>", text)
            if match:
                synced.add((match[1], match[2]))
            continue
        match = FILE.match(text)
        if name == "msync" or (match and file in match[3]):
            if name in ("fsync", "fdatasync", "msync", "sync_file_range"):
                found["sync"].append((start, end))
            elif name in ("pwrite64", "pwritev", "write", "writev") and \
                    (match[2], match[3]) in synced:
                found["write"].append((start, end))
    return found


def check_order(calls, syncs):
    """For each 250 after a message: has one of each kind of sync that occurs at all begun after the
    socket's last read and ended before the 250 was written? Returns (number of such replies, the
    texts of those that came too early)."""
    last_read, replies, early = {}, 0, []
    kinds = [spans for spans in syncs.values() if spans]
    for start, end, name, text in sorted(calls):
        match = FILE.match(text)
        if not match or not match[3].startswith(("socket:", "TCP")):
            continue
        if name in ("read", "readv", "recvfrom", "recvmsg"):
            last_read[match[3]] = end
        elif name in ("write", "writev", "sendto", "sendmsg") and REPLY.search(text):
            replies += 1
            since = last_read.get(match[3])
            durable = since is not None and kinds and all(
                any(since <= b and e <= start for b, e in spans) for spans in kinds)
            if not durable:
                early.append(text[:120])
    return replies, early
