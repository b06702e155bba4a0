"""A real SLURM cluster of one node on the loopback of this machine, for tests: slurmctld, slurmd and munge of Debian.

It lives in /etc/slurm/slurm.conf because the job steps of Snakemake's plugin find no other place; a file there that is
not this module's is left alone, and so is the cluster that it belongs to.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

CONFIG = Path("/etc/slurm/slurm.conf")
MARK = "# Written by the tests of dctkd for a cluster that lives as long as they do.\n"
PROGRAMS = ("slurmctld", "slurmd", "squeue", "sbatch", "scontrol", "scancel", "munged")
NUM_CORES = 4
"""Of the node, as far as SLURM knows: some jobs run side by side also on a small machine."""


def why_not():
    """Say why no cluster can be started here; None if one can."""
    if os.geteuid() != 0:
        return "starting slurmctld and slurmd needs root"
    if missing := [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]:
        return f"{', '.join(missing)} not installed: make test-slurm installs them where there is apt-get"
    if CONFIG.exists() and not CONFIG.read_text().startswith(MARK):
        return f"{CONFIG} belongs to another cluster, which is left alone"
    return None


def wait_until(is_true, what, limit_s=60.0):
    """Wait for an event that only looking can tell."""
    deadline = time.monotonic() + limit_s
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {limit_s:g} s")
        time.sleep(0.1)


def run(*command):
    """Run a command of SLURM's and return what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    try:
        done.check_returncode()
    except subprocess.CalledProcessError as error:
        error.add_note(done.stderr)
        raise
    return done.stdout


@dataclass
class Cluster:
    """One node; its daemons can be killed and started again."""

    folder: Path
    daemons: dict = field(default_factory=dict)

    def start(self):
        for name in ("state", "spool", "log"):
            (self.folder / name).mkdir(parents=True)
        CONFIG.parent.mkdir(exist_ok=True)
        CONFIG.write_text(MARK + self._config())
        self.start_daemon("munged", "--foreground", "--force", "--socket", str(self._munge_socket()))
        wait_until(self._munge_socket().exists, "munged opens its socket")
        self.start_daemon("slurmctld", "-D")
        self.start_slurmd()
        return self

    def start_slurmd(self):
        self.start_daemon("slurmd", "-D")
        self.wait_for_node("the node comes up")

    def wait_for_node(self, what):
        wait_until(lambda: self.node_state() in ("IDLE", "MIXED", "ALLOCATED"), what)

    def start_daemon(self, name, *arguments):
        output = (self.folder / "log" / f"{name}.out").open("ab")
        program = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
        command = [program, *arguments]
        if name == "munged":  # it refuses to run as root with files that belong to its own user
            Path("/run/munge").mkdir(exist_ok=True)
            shutil.chown("/run/munge", "munge", "munge")
            command = ["runuser", "-u", "munge", "--", *command]
        with output:
            self.daemons[name] = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)

    def kill(self, name):
        self.daemons[name].kill()
        self.daemons[name].wait()

    def run_urgent_job(self, seconds):
        """Run a job that takes the whole node; others that are queued again give way to it."""
        run(
            "sbatch",
            "--partition=urgent",
            f"--cpus-per-task={NUM_CORES}",
            f"--wrap=sleep {seconds}",
            "--output=/dev/null",
        )

    def lose_node(self):
        """Take the node down under its jobs, then bring it back, as when a machine crashes and is started again."""
        host = socket.gethostname().split(".")[0]
        run("scontrol", "update", f"NodeName={host}", "State=DOWN", "Reason=test")
        wait_until(lambda: self.node_state() == "DOWN", "the node is down")
        # Its daemon may have brought it back already, and SLURM refuses to resume a node that is up.
        subprocess.run(["scontrol", "update", f"NodeName={host}", "State=RESUME"], capture_output=True, check=False)
        self.wait_for_node("the node is back")

    def stop(self):
        """End jobs, then daemons, and take the configuration away."""
        try:
            subprocess.run(["scancel", "--user", "root"], check=False, timeout=60)
            wait_until(lambda: not run("squeue", "--noheader"), "jobs end", 30)
        except (TimeoutError, subprocess.SubprocessError):
            pass
        finally:
            for name in reversed(self.daemons):
                if self.daemons[name].poll() is None:
                    os.killpg(self.daemons[name].pid, signal.SIGTERM)
                    self.daemons[name].wait(timeout=30)
            CONFIG.unlink(missing_ok=True)

    def node_state(self):
        try:
            state = run("sinfo", "--noheader", "--format=%T").strip()
        except subprocess.SubprocessError:
            return ""
        return state.upper().rstrip("*~#!%$@^-")

    def jobs(self):
        """Map each job that is known to (state, what it does), as the profile's README looks at them."""
        lines = run("squeue", "--states=all", "--noheader", "--format=%i|%T|%k").splitlines()
        return {number: (state, comment) for number, state, comment in (line.split("|", 2) for line in lines)}

    def job_of(self, rule):
        """Return the number of the newest job of a rule, None if there is none."""
        found = [number for number, (_, comment) in self.jobs().items() if comment.startswith(f"rule_{rule}")]
        return max(found, key=int, default=None)

    def num_restarts(self, job):
        shown = run("scontrol", "show", "job", "--oneliner", job)
        return int(shown.split("Restarts=")[1].split()[0])

    @staticmethod
    def _munge_socket():
        return Path("/run/munge/munge.socket.2")

    def _config(self):
        host = socket.gethostname().split(".")[0]
        megabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**6
        return f"""\
ClusterName=dctkd
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
# A job that is queued again waits so long; the default is two minutes.
AuthInfo=cred_expire=5
SlurmUser=root
SlurmdUser=root
SlurmctldPort=36817
SlurmdPort=36818
StateSaveLocation={self.folder}/state
SlurmdSpoolDir={self.folder}/spool
SlurmctldPidFile={self.folder}/slurmctld.pid
SlurmdPidFile={self.folder}/slurmd.pid
SlurmctldLogFile={self.folder}/log/slurmctld.log
SlurmdLogFile={self.folder}/log/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
EnforcePartLimits=ALL
KillWait=10
SlurmdTimeout=300
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 CPUs={NUM_CORES} RealMemory={megabytes // 2} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=9 PreemptMode=OFF
"""
