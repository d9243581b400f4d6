import pytest

from nas_t2i.search.resume.faults import Faults, failed, fault_of, is_to_be_tried, kills_for_memory


@pytest.mark.parametrize(
    ("reason", "fault"),
    [
        ("[Errno 28] No space left on device", "disk"),
        ("events.jsonl can't be written: Disk quota exceeded", "disk"),
        ("out of memory: the kernel killed a process for it", "memory"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "memory"),
        ("killed by SIGKILL (out of memory?)", "killed"),
        ("killed by SIGKILL (out of memory: the kernel killed a process for it)", "memory"),
        ("silent for 10 minutes, killed", "lost"),
        ("exit status 1: another rank was lost (out of memory?): connection closed", "lost"),
        ("rank 1 was lost: The actor is unavailable", "lost"),
        ("node 10.0.0.3 was lost", "node"),
        ("out of memory: Ray ended it, node 10.0.0.3 had too little", "memory"),
        ("CUDA error: device-side assert triggered", "device"),
        ("ValueError: the mask is empty", ""),
    ],
)
def test_what_is_at_fault(reason, fault):
    assert fault_of(reason) == fault
    assert failed(reason).fault == fault


def test_out_of_memory_is_tried_again_only_where_there_is_something_to_halve(tmp_path):
    end = failed("out of memory: 2 GiB")
    assert Faults(1, tmp_path).again(end, 1, micro_batch=4)
    assert not Faults(1, tmp_path).again(end, 1, micro_batch=1)
    assert not Faults(1, tmp_path).again(end, 2, micro_batch=4)


def test_a_lost_node_is_no_fault_of_its_trial_but_for_twenty_of_them(tmp_path):
    end = failed("node 10.0.0.3 was lost")
    assert Faults(0, tmp_path).again(end, 20, micro_batch=None)
    assert not Faults(0, tmp_path).again(end, 21, micro_batch=None)
    assert is_to_be_tried(end.state, end.fault, 30, 0)


def test_the_kernels_count_of_kills_for_memory(tmp_path):
    file = tmp_path / "vmstat"
    file.write_text("nr_free_pages 5\noom_kill 17\noom_kill_other 3\n")
    assert kills_for_memory(file) == 17
    file.write_text("nr_free_pages 5\n")  # of an older kernel
    assert kills_for_memory(file) == 0
    assert kills_for_memory(tmp_path / "none") == 0
