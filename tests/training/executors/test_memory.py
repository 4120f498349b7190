"""What the files of Linux say of memory."""

import os
import sys
from pathlib import Path

import pytest

from orchestrator.training.executors import memory
from orchestrator.training.executors.memory import Limit

GB = 10**9


def write(root: Path, files: dict[str, str]) -> tuple[Path, Path]:
    """The folders of processes and of control groups."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "proc", root / "groups"


SECOND = {
    "proc/meminfo": "MemTotal:       24000000 kB\nMemFree: 1 kB\n",
    "proc/vmstat": "nr_free_pages 5\noom_kill 7\n",
    "proc/self/cgroup": "0::/user/job\n",
    "groups/user/memory.max": f"{2 * GB}\n",
    "groups/user/memory.events": "low 0\noom 4\noom_kill 3\noom_group_kill 0\n",
    "groups/user/job/memory.max": "max\n",
    "groups/user/job/memory.events": "low 0\noom 2\noom_kill 1\n",
}
FIRST = {
    "proc/meminfo": "MemTotal:       24000000 kB\n",
    "proc/self/cgroup": "5:cpu,cpuacct:/other\n4:memory:/job\n0::/\n",
    "groups/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "groups/memory/job/memory.limit_in_bytes": f"{3 * GB}\n",
    "groups/memory/job/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n",
}


def test_of_the_second_version_of_control_groups_all_around_count(tmp_path: Path) -> None:
    folders = write(tmp_path, SECOND)
    assert memory.limit(*folders) == Limit(2 * GB, "its control group may take 2.0 GB")
    assert memory.kills(*folders) == 1


def test_of_the_first_version_the_controller_for_memory_counts(tmp_path: Path) -> None:
    folders = write(tmp_path, FIRST)
    assert memory.limit(*folders) == Limit(3 * GB, "its control group may take 3.0 GB")
    assert memory.kills(*folders) == 5


def test_in_a_container_the_groups_may_be_seen_from_their_root_only(tmp_path: Path) -> None:
    files = {name: text for name, text in SECOND.items() if name.startswith("proc")}
    seen = {"groups/memory.max": f"{GB}\n", "groups/memory.events": "oom_kill 2\n"}
    folders = write(tmp_path, files | seen)
    assert memory.limit(*folders) == Limit(GB, "its control group may take 1.0 GB")
    assert memory.kills(*folders) == 2


def test_without_control_groups_the_machine_counts(tmp_path: Path) -> None:
    folders = write(tmp_path, {name: SECOND[name] for name in ("proc/meminfo", "proc/vmstat")})
    assert memory.limit(*folders) == Limit(24_000_000 * 1024, "the machine has 24.6 GB")
    assert memory.kills(*folders) == 7


@pytest.mark.parametrize("text", ["", "MemTotal:\n", "\n\n", "oom_kill many\n", "a:b\n"])
def test_what_is_not_there_or_not_as_it_should_be_is_not_known(tmp_path: Path, text: str) -> None:
    assert memory.limit(tmp_path, tmp_path) is None
    assert memory.kills(tmp_path, tmp_path) is None
    assert memory.peak(1, tmp_path) is None
    files = ["proc/meminfo", "proc/vmstat", "proc/self/cgroup", "proc/1/status"]
    folders = write(tmp_path, dict.fromkeys(files, text))
    assert memory.limit(*folders) is None
    assert memory.kills(*folders) is None
    assert memory.peak(1, folders[0]) is None


@pytest.mark.skipif(sys.platform != "linux", reason="the files of Linux")
def test_the_peak_is_what_a_process_has_had() -> None:
    before = memory.peak(os.getpid())
    assert before is not None
    block = bytearray(b"x" * (before + 100 * 10**6 - memory_now()))
    del block
    after = memory.peak(os.getpid())
    assert after is not None
    assert after - before > 90 * 10**6
    assert not memory.is_stopped(os.getpid())


def memory_now() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_sizes_are_decimal() -> None:
    assert memory.as_text(21_340_000_000) == "21.3 GB"
    assert memory.as_text(999_000_000) == "999 MB"
