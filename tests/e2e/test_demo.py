"""`make demo` must work as the README says."""
import os
import subprocess

from peers import ROOT, build_dir


def test_demo(tmp_path):
    done = subprocess.run([str(ROOT / "tests" / "demo" / "run"), str(tmp_path / "demo")],
                          capture_output=True, text=True, timeout=100, check=False,
                          env=dict(os.environ, BUILD=str(build_dir())))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Done: 10 delivered, 1 bounced, 1 waiting" in done.stdout
    assert "\x1b" not in done.stdout
