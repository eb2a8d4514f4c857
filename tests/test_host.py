import json
from pathlib import Path

import pytest

from enqueuer.errors import ConfigurationError
from enqueuer.host import available_bytes, check_room, total_bytes
from tests.support.scripts import run_script

GROUPS = "sys/fs/cgroup"


@pytest.fixture
def available(tmp_path):
    """Computes the available bytes on a machine with these files."""

    def look(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return available_bytes(tmp_path)

    return look


MEMINFO = {"proc/meminfo": "MemTotal: 2000 kB\nMemFree: 10 kB\nMemAvailable:    1000 kB\n"}


def test_available_memory_is_unknown_without_proc(available):
    assert available({}) is None


def test_without_limits_the_machines_free_memory_is_available(available):
    unlimited = {f"{GROUPS}/box/memory.max": "max\n", f"{GROUPS}/box/memory.current": "900\n"}
    assert available({**MEMINFO, "proc/self/cgroup": "0::/box\n", **unlimited}) == 1_024_000


def test_the_tightest_control_group_decides(available):
    files = {
        "proc/self/cgroup": "0::/pod/box\n",
        f"{GROUPS}/pod/box/memory.max": "9000\n",
        f"{GROUPS}/pod/box/memory.current": "900\n",
        f"{GROUPS}/pod/memory.max": "5000\n",
        f"{GROUPS}/pod/memory.current": "3000\n",
    }
    assert available({**MEMINFO, **files}) == 2000


def test_cached_files_do_not_count_as_used(available):
    files = {
        "proc/self/cgroup": "0::/\n",
        f"{GROUPS}/memory.max": "5000\n",
        f"{GROUPS}/memory.current": "4900\n",
        f"{GROUPS}/memory.stat": "anon 100\nactive_file 300\ninactive_file 1000\nshmem 9\n",
    }
    assert available(files) == 1400


def test_control_groups_of_version_1_count_too(available):
    files = {
        "proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/box\n0::/\n",
        f"{GROUPS}/memory/box/memory.limit_in_bytes": "5000\n",
        f"{GROUPS}/memory/box/memory.usage_in_bytes": "4000\n",
        f"{GROUPS}/memory/box/memory.stat": "active_file 9\ntotal_inactive_file 500\n",
    }
    assert available(files) == 1500


def test_a_groups_path_may_be_the_hosts_inside_a_container(available):
    files = {f"{GROUPS}/memory.max": "5000\n", f"{GROUPS}/memory.current": "1000\n"}
    assert available({"proc/self/cgroup": "0::/../../kubepods/pod1\n", **files}) == 4000


def test_a_group_above_its_limit_has_no_memory_left(available):
    files = {f"{GROUPS}/memory.max": "5000\n", f"{GROUPS}/memory.current": "5001\n"}
    assert available({"proc/self/cgroup": "0::/\n", **files}) == 0


def test_total_memory_is_the_machines_or_the_tightest_groups_limit(available, tmp_path):
    available(MEMINFO)
    assert total_bytes(tmp_path) == 2_048_000
    available(
        {
            "proc/self/cgroup": "0::/box\n",
            f"{GROUPS}/box/memory.max": "9000\n",
            f"{GROUPS}/box/memory.current": "8999\n",
        }
    )
    assert total_bytes(tmp_path) == 9000


def test_total_memory_is_known_without_proc(tmp_path):
    assert total_bytes(tmp_path) >= total_bytes()


def test_more_processes_than_the_machine_can_hold_are_refused_with_the_most_that_it_can():
    check_room(1)
    with pytest.raises(ConfigurationError, match=r"do not fit this machine: .* GB, so \d+ at most"):
        check_room(10**7)


def run(source: str, directory: Path) -> object:
    return json.loads(run_script(f"import json, resource\nfrom enqueuer.host import *\n{source}", directory))


def test_the_file_limit_is_raised_to_the_hard_limit(tmp_path: Path) -> None:
    source = """
resource.setrlimit(resource.RLIMIT_NOFILE, (150, 300))
print(json.dumps([raise_file_limit(), resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""
    assert run(source, tmp_path) == [300, [300, 300]]


def test_a_file_limit_too_low_for_remote_workers_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    source = """
resource.setrlimit(resource.RLIMIT_NOFILE, (50, 60))
try:
    raise_file_limit(for_remote=True)
except OSError as error:
    print(json.dumps(str(error)))
"""
    text = run(source, tmp_path)
    assert "may open 60 files" in str(text) and "ulimit -n" in str(text)


def test_without_remote_workers_any_file_limit_is_accepted(tmp_path: Path) -> None:
    source = """
resource.setrlimit(resource.RLIMIT_NOFILE, (50, 60))
print(json.dumps(raise_file_limit()))
"""
    assert run(source, tmp_path) == 60


@pytest.mark.parametrize(("limit", "last_slab"), [(100, 49), (10_000, 7_951)])
def test_slabs_leave_twice_as_many_descriptors_free_as_connections_do(
    tmp_path: Path, limit: int, last_slab: int
) -> None:
    source = f"""
resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))
print(json.dumps([is_among_last({last_slab}), is_among_last({last_slab + 1})]))
"""
    assert run(source, tmp_path) == [False, True]
