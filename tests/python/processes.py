"""Processes of torch.distributed: on GPUs each begins anew, as CUDA needs; else they are forks of one that has imported
what they need, which takes longer than most of what they do."""

import multiprocessing

import torch.multiprocessing

IMPORTED = ["bitsandbytes", "peft", "torch.distributed.fsdp", "transformers"]  # those that are there


def start(work, arguments, count, on_gpus):
    """Calls work(rank, *arguments) in `count` processes and waits for them; the first error of one is raised."""
    multiprocessing.set_forkserver_preload(IMPORTED)
    torch.multiprocessing.start_processes(work, arguments, count, start_method="spawn" if on_gpus else "forkserver")
