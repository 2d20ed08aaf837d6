#!/usr/bin/env python3
"""Whole models of transformers in NF4 on one GPU and on several, in tensor parallel, in turns within one call.

    python3 bench/scripts/parallel.py --model llama,qwen --gpus 1,2 --csv bench/results/parallel.csv

Starts its processes by itself, one for each GPU of each number of GPUs, and needs no network. The models are those of
e2e.py: full size, random weights, the same for every number of GPUs; nf4.tensor_parallel() cuts them on the GPU. Modes:
decode is a step that torch.compile made one graph of, in a CUDA graph, with a static cache; graph is that without
torch.compile, which saves minutes; prefill is one pass over --prompt tokens.

All processes compile at the same time, and then take turns: --rounds times each problem. A speed-up is the median of
the ratios within a round; the base is the smallest number of GPUs. all_reduce is the share of NCCL's kernels in a
step's GPU time, with what the GPUs wait there for each other. Logits are compared with those of the smallest number.
"""

import argparse
import os
import queue
import statistics
import tempfile
import time
import traceback

import e2e
import numpy as np
import records
import torch
import torch.distributed as dist
import torch.multiprocessing as processes
import transformers

import nf4

os.environ.setdefault("NCCL_NVLS_ENABLE", "0")  # NVLink multicast, which not every host has
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "4")  # in each of the processes


class Job:
    """A model on so many GPUs."""

    def __init__(self, key, gpus, index):
        self.key, self.gpus, self.index = key, gpus, index
        self.title = e2e.CONFIGS[key][0]


def build(job, arguments, device):
    """The model, or the part of it for this process; and its memory in GB."""
    config = e2e.shortened(e2e.CONFIGS[job.key][1](), arguments.layers)
    model = e2e.build(config, device, packed=True)
    if job.gpus > 1:
        model = nf4.tensor_parallel(model)
        e2e.release()
    return model, e2e.memory(device)


def logits(model):
    """Of a short prompt, an array in float32."""
    prompt = torch.arange(16, device=model.device)[None] * 7 + 1
    return model(prompt, use_cache=False).logits[0].float().cpu().numpy()


def problems(arguments):
    """(mode, batch) of what is measured for each job."""
    return [(mode, batch) for mode in arguments.mode for batch in ([1] if mode == "prefill" else arguments.batch)]


def prepare(model, mode, batch, arguments):
    """A function that takes a sample, in ms a step, one step alone, and what a graph of it reads, to be kept."""
    if mode == "prefill":
        prompt = torch.ones(batch, arguments.prompt, dtype=torch.long, device=model.device)

        def step():
            model(prompt, use_cache=False, logits_to_keep=1)

        step()
        return lambda: e2e.milliseconds(model.device, step, 2), step, step
    step, rewind = e2e.decoding_step(model, batch, arguments)
    # Not the default error mode: the thread that watches over NCCL asks for events meanwhile.
    graph = e2e.capture(step if mode == "graph" else e2e.compile_step(step), capture_error_mode="thread_local")

    def sample():
        rewind()
        return e2e.milliseconds(model.device, graph.replay, arguments.steps)

    return sample, graph.replay, step


def wait(barrier, job):
    """For all processes; those of a job begin together then."""
    torch.cuda.synchronize()
    barrier.wait(900)
    if job.gpus > 1:
        dist.barrier()
        torch.cuda.synchronize()


@torch.no_grad()
def run(job, rank, jobs, barrier, results, arguments, folder):
    """What a process does. Rank 0 of a job tells the results."""
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    nf4.enable()
    if job.gpus > 1:
        dist.init_process_group("nccl", f"file://{folder}/{job.index}", rank=rank, world_size=job.gpus, device_id=device)

    def tell(*what):
        if rank == 0:
            results.put((job.index, *what))

    for other in jobs:  # one after another: a model is whole for a moment
        if other is job:
            start = time.perf_counter()
            model, memory = build(job, arguments, device)
            tell("built", memory, time.perf_counter() - start, logits(model))
        wait(barrier, job)
    prepared = {}
    for mode, batch in problems(arguments):
        start = time.perf_counter()
        prepared[mode, batch] = prepare(model, mode, batch, arguments)
        tell("prepared", mode, batch, time.perf_counter() - start)
    wait(barrier, job)
    for turn in range(arguments.rounds):
        for problem in problems(arguments):
            for other in jobs if turn % 2 else reversed(jobs):
                if other is job:
                    tell("sample", *problem, prepared[problem][0]())
                wait(barrier, job)
    tell("sampled", torch.cuda.max_memory_allocated() / 1e9)
    for problem in problems(arguments):
        for other in jobs:
            if other is job and job.gpus > 1:
                times = e2e.times_by_kind(prepared[problem][1])
                tell("share", *problem, times.get("between GPUs", 0) / sum(times.values()))
            wait(barrier, job)
    tell("done")
    wait(barrier, job)
    prepared.clear()  # NCCL waits for CUDA graphs that hold its operations
    e2e.release()
    if job.gpus > 1:
        dist.destroy_process_group()


def work(number, jobs, barrier, results, arguments, folder):
    """Process `number` of all; an exception of one ends all."""
    job, rank = [(job, rank) for job in jobs for rank in range(job.gpus)][number]
    try:
        run(job, rank, [job if other.index == job.index else other for other in jobs], barrier, results, arguments, folder)
    except BaseException:
        results.put((job.index, "failed", f"{job.title} on {job.gpus} GPUs, process {rank}:\n{traceback.format_exc()}"))
        barrier.abort()
        raise


class Outcome:
    """What a job told."""

    def __init__(self):
        self.samples, self.shares, self.prepared = {}, {}, {}
        self.memory = self.peak = float("nan")
        self.logits = None


def gather(context, results, jobs, show):
    """The outcomes of all jobs, by their index. show(outcomes) once all samples are there, in case a profiler fails, and
    once all is."""
    outcomes = {job.index: Outcome() for job in jobs}
    sampled = done = 0
    while done < len(jobs):
        try:
            index, what, *values = results.get(timeout=5)
        except queue.Empty:
            context.join(0)  # raises what a process raised
            continue
        job, outcome = jobs[[job.index for job in jobs].index(index)], outcomes[index]
        if what == "built":
            outcome.memory, seconds, outcome.logits = values
            print(f"{job.title} on {job.gpus}: built in {seconds:.1f} s, {outcome.memory:.1f} GB a GPU", flush=True)
        elif what == "prepared":
            mode, batch, seconds = values
            print(f"{job.title} on {job.gpus}: {mode}, batch {batch} ready in {seconds:.1f} s", flush=True)
        elif what == "sample":
            mode, batch, ms = values
            outcome.samples.setdefault((mode, batch), []).append(ms)
        elif what == "share":
            mode, batch, outcome.shares[mode, batch] = values
        elif what == "sampled":
            (outcome.peak,) = values
            sampled += 1
            if sampled == len(jobs):
                show(outcomes)
        elif what == "done":
            done += 1
        else:
            raise SystemExit(values[0])
    show(outcomes)


def report(jobs, outcomes, arguments):
    """A line for each problem, and the rows of the CSV file."""
    rows = []
    for key in arguments.model:
        of_model = sorted((job for job in jobs if job.key == key), key=lambda job: job.gpus)
        base = outcomes[of_model[0].index]
        for mode, batch in problems(arguments):
            for job in of_model:
                outcome = outcomes[job.index]
                times = outcome.samples[mode, batch]
                ms = statistics.median(times)
                tokens = arguments.prompt if mode == "prefill" else batch
                ratios = [one / own for one, own in zip(base.samples[mode, batch], times)]
                distance = np.linalg.norm(outcome.logits - base.logits) / np.linalg.norm(base.logits)
                share = outcome.shares.get((mode, batch), 0.0 if job.gpus == 1 else float("nan"))
                rows.append({
                    "model": job.title, "mode": mode, "batch": batch, "gpus": job.gpus, "ms": f"{ms:.3f}",
                    "tokens_per_s": f"{1e3 * tokens / ms:.1f}", "speedup": f"{statistics.median(ratios):.2f}",
                    "speedup_range": f"{min(ratios):.2f}-{max(ratios):.2f}", "all_reduce": f"{share:.3f}",
                    "weights_gb": f"{outcome.memory:.1f}", "weights_ratio": f"{outcome.memory / base.memory:.3f}",
                    "peak_gb": f"{outcome.peak:.1f}", "logits_distance": f"{distance:.1e}",
                })  # fmt: skip
                print(f"{job.title:14} {mode:8} batch {batch:3} on {job.gpus}: {ms:9.2f} ms "
                      f"{1e3 * tokens / ms:9.1f} tokens/s {rows[-1]['speedup']:>6}x ({rows[-1]['speedup_range']}), "
                      f"all-reduce {100 * share:4.1f}%, {outcome.memory:5.1f} GB a GPU "
                      f"({rows[-1]['weights_ratio']}), logits apart {distance:.1e}", flush=True)  # fmt: skip
    return rows


def parse():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words = lambda text: text.split(",")  # noqa: E731
    numbers = lambda text: [*map(int, text.split(","))]  # noqa: E731
    parser.add_argument("--model", type=words, default=["llama", "qwen"], help="of " + ", ".join(e2e.CONFIGS))
    parser.add_argument("--gpus", type=numbers, default=[1, 2])
    parser.add_argument("--batch", type=numbers, default=[1, 8, 32])
    parser.add_argument("--mode", type=words, default=["decode", "prefill"], help="of decode, graph, prefill")
    parser.add_argument("--layers", type=int, help="build so many layers only, to try something")
    parser.add_argument("--cache", type=int, default=192, help="tokens that a static cache has room for")
    parser.add_argument("--steps", type=int, default=16, help="decoding steps in a sample")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=1024, help="tokens of the prefill")
    parser.add_argument("--csv", metavar="FILE")
    arguments = parser.parse_args()
    for what, known in (("model", e2e.CONFIGS), ("mode", ("decode", "graph", "prefill"))):
        for name in getattr(arguments, what):
            if name not in known:
                parser.error(f"unknown {what} {name!r}; expected of {', '.join(known)}")
    there = torch.cuda.device_count()
    if max(arguments.gpus) > there:
        parser.error(f"--gpus is {max(arguments.gpus)}; there are {there}")
    return arguments


def show(outcomes, jobs, arguments, status):
    """Prints a report, and writes it to the CSV file."""
    facts = {
        "device": torch.cuda.get_device_name(0), "cpu": e2e.cpu(), "torch": torch.__version__,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())), "transformers": transformers.__version__,
        "bitsandbytes": status["bitsandbytes"], "libnf4": ".".join(map(str, nf4.version())), "context": e2e.CONTEXT,
        "cache": arguments.cache, "steps": arguments.steps, "rounds": arguments.rounds,
    }  # fmt: skip
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    records.write(arguments.csv, facts, report(jobs, outcomes, arguments))


def main():
    arguments = parse()
    status = nf4.status()
    pairs = [(key, gpus) for gpus in sorted(arguments.gpus, reverse=True) for key in arguments.model]
    jobs = [Job(key, gpus, index) for index, (key, gpus) in enumerate(pairs)]
    count = sum(job.gpus for job in jobs)
    spawn = processes.get_context("spawn")
    barrier, results = spawn.Barrier(count), spawn.Queue()
    with tempfile.TemporaryDirectory() as folder:
        context = processes.spawn(work, (jobs, barrier, results, arguments, folder), count, join=False)
        gather(context, results, jobs, lambda outcomes: show(outcomes, jobs, arguments, status))
        context.join()


if __name__ == "__main__":
    main()
