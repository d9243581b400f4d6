"""The processes that train one trial together; a single one needs no launcher, MPI or port."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from nas_t2i.errors import UserError


@dataclass(frozen=True)
class Ranks:
    """This process among those of its trial."""

    rank: int
    size: int
    device: torch.device
    # What plain values pass over where there are several: between hosts. Over NCCL, the host of
    # each rank would wait for its device.
    hosts: distributed.ProcessGroup | None = None

    @classmethod
    def alone(cls, device: str = "cpu") -> Ranks:
        """Return the only rank of a process that is in no group."""
        return cls(0, 1, torch.device(device))

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes the records."""
        return self.rank == 0

    @property
    def device_name(self) -> str:
        """What trains, for the record: "none used" on the CPU, else the accelerator by its name."""
        if self.device.type == "cpu":
            return "none used"
        return f"{self.size} x {torch.cuda.get_device_name(self.device)}"

    def share(self, count: int) -> range:
        """Return this rank's slice of `count` things, contiguous, sizes differing by at most 1."""
        return range(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def sum(self, values: Tensor) -> Tensor:
        """Return the element-wise sum over the ranks, on each of them."""
        if self.size > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def agree(self, value: Any) -> Any:
        """Return the first rank's value, on each of them. Plain values of our own making only."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, group=self.hosts)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's value, in rank order, on each of them."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value, group=self.hosts)
        return values

    def wait(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            distributed.barrier()

    def leave(self) -> None:
        """Leave the process group: the last thing that a rank does, with nothing under way."""
        if distributed.is_initialized():
            distributed.destroy_process_group()


def join_ranks(device: str) -> Ranks:
    """Join the process group that the environment describes (RANK, WORLD_SIZE, LOCAL_RANK, …).

    Without a launcher it is a group of one. `device` is "cpu" (gloo) or "cuda" (NCCL; the rank's
    device is LOCAL_RANK).
    """
    if device == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_RANK", 0))
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(local)}
    chosen = torch.device("cuda", local) if device == "cuda" else torch.device("cpu")
    if device == "cuda":
        torch.cuda.set_device(chosen)
    if not distributed.is_initialized():
        backend = "nccl" if device == "cuda" else "gloo"
        if size == 1:
            store = distributed.HashStore()  # type: ignore[attr-defined]  # public, by its docs
            distributed.init_process_group(backend, store=store, rank=0, world_size=1)
        else:
            distributed.init_process_group(backend, init_method="env://")
    hosts = distributed.new_group(backend="gloo") if size > 1 else None
    assert not isinstance(hosts, int)  # as it is for who is not in the group
    return Ranks(rank, size, chosen, hosts)


def check_cuda_after_fork() -> None:
    """Raise UserError where processes forked from this one could not use CUDA."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # a trial gets its own; any will do
            torch.cuda.init()  # type: ignore[no-untyped-call]
            status = 0
        except RuntimeError as error:
            print(error, file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    if os.waitpid(pid, 0)[1]:
        raise UserError("something that it imported has started CUDA")
