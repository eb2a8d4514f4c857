import pytest

from enqueuer.transport.memory import available_bytes, total_bytes

GROUPS = "sys/fs/cgroup"


@pytest.fixture
def available(tmp_path):
    """What is available on a machine with these files."""

    def look(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return available_bytes(tmp_path)

    return look


MEMINFO = {"proc/meminfo": "MemTotal: 2000 kB\nMemFree: 10 kB\nMemAvailable:    1000 kB\n"}


def test_nobody_says_anything_where_there_is_no_proc(available):
    assert available({}) is None


def test_without_limits_it_is_what_the_machine_has(available):
    unlimited = {f"{GROUPS}/box/memory.max": "max\n", f"{GROUPS}/box/memory.current": "900\n"}
    assert available({**MEMINFO, "proc/self/cgroup": "0::/box\n", **unlimited}) == 1_024_000


def test_the_tightest_group_on_the_way_up_decides(available):
    files = {
        "proc/self/cgroup": "0::/pod/box\n",
        f"{GROUPS}/pod/box/memory.max": "9000\n",
        f"{GROUPS}/pod/box/memory.current": "900\n",
        f"{GROUPS}/pod/memory.max": "5000\n",
        f"{GROUPS}/pod/memory.current": "3000\n",
    }
    assert available({**MEMINFO, **files}) == 2000


def test_copies_of_files_do_not_count_as_used(available):
    files = {
        "proc/self/cgroup": "0::/\n",
        f"{GROUPS}/memory.max": "5000\n",
        f"{GROUPS}/memory.current": "4900\n",
        f"{GROUPS}/memory.stat": "anon 100\nactive_file 300\ninactive_file 1000\nshmem 9\n",
    }
    assert available(files) == 1400


def test_the_first_version_of_control_groups_counts_too(available):
    files = {
        "proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/box\n0::/\n",
        f"{GROUPS}/memory/box/memory.limit_in_bytes": "5000\n",
        f"{GROUPS}/memory/box/memory.usage_in_bytes": "4000\n",
        f"{GROUPS}/memory/box/memory.stat": "active_file 9\ntotal_inactive_file 500\n",
    }
    assert available(files) == 1500


def test_inside_a_container_the_groups_path_may_be_the_hosts(available):
    files = {f"{GROUPS}/memory.max": "5000\n", f"{GROUPS}/memory.current": "1000\n"}
    assert available({"proc/self/cgroup": "0::/../../kubepods/pod1\n", **files}) == 4000


def test_a_group_above_its_limit_has_nothing_left(available):
    files = {f"{GROUPS}/memory.max": "5000\n", f"{GROUPS}/memory.current": "5001\n"}
    assert available({"proc/self/cgroup": "0::/\n", **files}) == 0


def test_what_there_is_at_all_is_the_machines_or_the_tightest_groups_limit(available, tmp_path):
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


def test_where_there_is_no_proc_the_system_still_says_how_much_there_is(tmp_path):
    assert total_bytes(tmp_path) >= total_bytes()
