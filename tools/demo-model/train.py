#!/usr/bin/env python3
"""Train the demo model from scratch for a given time, on conversations that are generated meanwhile.

    train.py --tokenizer tokenizer.json --heldout heldout.jsonl --out checkpoint --minutes 7.5

Worker processes generate and tokenize conversations of four lengths and fill a pool in the device's memory; each step
draws a batch of one length from the pool. What the assistant says counts fully, all else a little. One GPU and about
16 cores are what this is made for; on a CPU it runs as well, for trying it out (--device cpu --layers 2 --d 64 ...).
"""
import argparse
import math
import multiprocessing
import os
import queue
import random
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np

import generate
import heldout
from model import Config, build, load_checkpoint, save_checkpoint

# Length of a document in tokens: share of all tokens.
LENGTHS = {256: 0.18, 512: 0.24, 1024: 0.30, 2048: 0.28}
OTHER_WEIGHT = 0.1  # of the tokens that the assistant does not say


def load_tokenizer(path):
    from tokenizers import Tokenizer
    return Tokenizer.from_file(path)


def weights_of(ids, tokenizer_ids):
    """How much each token of a document counts."""
    start, assistant = tokenizer_ids
    starts = np.flatnonzero(ids == start)
    if not len(starts):
        return np.ones(len(ids), np.float32)  # plain text
    weights = np.full(len(ids), OTHER_WEIGHT, np.float32)
    ends = np.append(starts[1:], len(ids))
    for first, end in zip(starts, ends):
        if first + 1 < len(ids) and ids[first + 1] == assistant:
            weights[first + 4:end] = 1.0  # start, role, end, blank line: 4 tokens
    return weights


def work(number, seed, tokenizer_path, lengths, out):
    """Worker: shards of rows of one length, for ever. A row has one token more than its length."""
    os.nice(5)
    rng = random.Random(seed * 1000 + number)
    tokenizer = load_tokenizer(tokenizer_path)
    pad = tokenizer.token_to_id("<|finetune_right_pad_id|>")
    tokenizer_ids = tokenizer.token_to_id("<|start_header_id|>"), tokenizer.encode("assistant").ids[0]
    share = [lengths[length] / length for length in lengths]
    while True:
        length = rng.choices(list(lengths), share)[0]
        count = max(1, 65536 // length)
        # The estimate of the length is rough: a little too long, and cut; now and then a short one.
        documents = [generate.document(rng, length * (1.1 if rng.random() < 0.95 else rng.uniform(0.3, 1.0)))
                     for _ in range(count)]
        rows = np.full((count, length + 1), pad, np.int16)
        weights = np.zeros((count, length + 1), np.float16)
        for i, encoding in enumerate(tokenizer.encode_batch_fast(documents, add_special_tokens=False)):
            ids = np.array(encoding.ids[:length + 1], np.int16)
            rows[i, :len(ids)] = ids
            weights[i, :len(ids)] = weights_of(ids, tokenizer_ids)
        out.put((length, rows, weights))


class Pool:
    """Rows of each length on the device; when full, new rows take the place of the oldest."""

    def __init__(self, torch, device, source, rows_max):
        self.torch, self.device, self.source, self.made = torch, device, source, 0
        self.rows, self.weights, self.filled, self.next = {}, {}, {}, {}
        for length in LENGTHS:
            n = max(256, rows_max // length)
            self.rows[length] = torch.zeros((n, length + 1), dtype=torch.int16, device=device)
            self.weights[length] = torch.zeros((n, length + 1), dtype=torch.float16, device=device)
            self.filled[length] = self.next[length] = 0

    def take(self, wait=0.0, most=64):
        """Move finished shards in."""
        for _ in range(most):
            try:
                length, rows, weights = self.source.get(timeout=wait) if wait else self.source.get_nowait()
            except queue.Empty:
                return
            n, at = len(self.rows[length]), self.next[length]
            where = (self.torch.arange(len(rows)) + at) % n
            self.rows[length][where.to(self.device)] = self.torch.from_numpy(rows).to(self.device)
            self.weights[length][where.to(self.device)] = self.torch.from_numpy(weights).to(self.device)
            self.next[length] = (at + len(rows)) % n
            self.filled[length] = min(n, self.filled[length] + len(rows))
            self.made += rows.size

    def batch(self, length, tokens):
        index = self.torch.randint(self.filled[length], (max(1, tokens // length),), device=self.device)
        rows, weights = self.rows[length][index].long(), self.weights[length][index].float()
        return rows[:, :-1], rows[:, 1:], weights[:, 1:]


def to_arrays(model):
    """The weights under their GGUF names."""
    return {name: p.detach().float().cpu().numpy() for name, p in model.named_parameters()}


def complete(torch, model, tokenizer, prompts, most, device, batch=48):
    """Greedy answers. Each step computes everything anew: slow and simple, for a few hundred prompts."""
    stop = {tokenizer.token_to_id("<|eot_id|>"), tokenizer.token_to_id("<|end_of_text|>")}
    answers = [None] * len(prompts)
    encoded = [tokenizer.encode(p, add_special_tokens=False).ids for p in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
    context = model.cos.shape[0]
    for first in range(0, len(order), batch):
        chosen = order[first:first + batch]
        lengths = torch.tensor([len(encoded[i]) for i in chosen], device=device)
        width = min(context, int(lengths.max()) + most)
        ids = torch.zeros((len(chosen), width), dtype=torch.long, device=device)
        for row, i in enumerate(chosen):
            ids[row, :len(encoded[i])] = torch.tensor(encoded[i], device=device)
        begins, done, rows = lengths.clone(), torch.zeros(len(chosen), dtype=torch.bool, device=device), \
            torch.arange(len(chosen), device=device)
        stops = torch.tensor(sorted(stop), device=device)
        for _ in range(most):
            longest = int(lengths.max())
            if longest >= width or bool(done.all()):
                break
            hidden = model.hidden(ids[:, :longest])
            following = model.logits(hidden[rows, lengths - 1]).float().argmax(-1)
            done |= torch.isin(following, stops)
            ids[rows, lengths] = torch.where(done, ids[rows, lengths], following)
            lengths = torch.where(done, lengths, lengths + 1)
        for row, i in enumerate(chosen):
            answers[i] = tokenizer.decode(ids[row, begins[row]:lengths[row]].tolist())
    return answers


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--heldout", required=True)
    parser.add_argument("--out", required=True, help="folder for the checkpoint")
    parser.add_argument("--from", dest="start", help="folder of a checkpoint to go on from")
    parser.add_argument("--minutes", type=float, default=7.5, help="time for the steps, compilation not counted")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch-tokens", type=int, default=262144)
    parser.add_argument("--pool-tokens", type=int, default=100_000_000,
                        help="tokens of each length that the pool keeps")
    parser.add_argument("--first-tokens", type=int, default=4_000_000, help="tokens to wait for before the first step")
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    for name in ("layers", "d", "ff", "heads", "kv_heads", "head_dim"):
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=getattr(Config, name))
    a = parser.parse_args()

    source = multiprocessing.get_context("spawn").Queue(maxsize=256)
    workers = [multiprocessing.get_context("spawn").Process(
        target=work, args=(i, a.seed, a.tokenizer, LENGTHS, source), daemon=True) for i in range(a.workers)]
    for worker in workers:
        worker.start()

    import torch
    torch.manual_seed(a.seed)
    torch.set_float32_matmul_precision("high")
    tokenizer = load_tokenizer(a.tokenizer)
    config = Config(vocabulary=tokenizer.get_vocab_size(), layers=a.layers, d=a.d, ff=a.ff, heads=a.heads,
                    kv_heads=a.kv_heads, head_dim=a.head_dim)
    model = build(config)
    if a.start:
        _, arrays = load_checkpoint(a.start)
        model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    model.to(a.device)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {a.workers} workers", flush=True)
    if a.compile:
        torch._dynamo.config.recompile_limit = 64
        for block in model.blk:  # the same code eight times: compiled once for each length
            block.compile(dynamic=False)
        model.loss = torch.compile(model.loss, dynamic=False)

    decayed = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW([dict(params=decayed, weight_decay=0.05), dict(params=others, weight_decay=0.0)],
                                  lr=a.rate, betas=(0.9, 0.97), eps=1e-8, fused=a.device == "cuda")
    pool = Pool(torch, a.device, source, a.pool_tokens)
    while pool.made < a.first_tokens or min(pool.filled.values()) == 0:
        pool.take(wait=1.0)
    print(f"pool has {pool.made:,} tokens", flush=True)

    # a share of the tokens is a share of the steps, since a step has the same number of tokens at any length
    draw = random.Random(a.seed)

    def step(length):
        x, y, w = pool.batch(length, a.batch_tokens)
        with torch.autocast(a.device, torch.bfloat16, enabled=a.device == "cuda"):
            loss = model.loss(model.hidden(x), y, w)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        return loss.detach()

    compiled = time.monotonic()
    for length in LENGTHS:  # compile before the clock runs
        step(length)
        optimizer.zero_grad(set_to_none=True)
    if a.device == "cuda":
        torch.cuda.synchronize()
    print(f"first steps took {time.monotonic() - compiled:.0f} s", flush=True)

    started = printed = saved = time.monotonic()
    steps, sums, since = 0, {}, 0
    while True:
        now = time.monotonic()
        progress = (now - started) / (60 * a.minutes)
        if progress >= 1:
            break
        rate = a.rate * min(1.0, (steps + 1) / 200) * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = rate
        length = draw.choices(list(LENGTHS), list(LENGTHS.values()))[0]
        loss = step(length)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        sums.setdefault(length, []).append(loss)
        steps += 1
        since += 1
        pool.take(most=16)
        if steps % 8 == 0 and a.device == "cuda":
            torch.cuda.synchronize()  # the clock must not run ahead of the device
        if now - printed > 15:
            losses = " ".join(f"{n}: {torch.stack(sums[n]).mean().item():.4f}" for n in sorted(sums))
            print(f"{now - started:5.0f} s  step {steps}  rate {rate:.2e}  loss {losses}  "
                  f"{since * a.batch_tokens / (now - printed) / 1e6:.2f} M tokens/s, {pool.made / 1e6:.0f} M made",
                  flush=True)
            printed, sums, since = now, {}, 0
        if now - saved > 100:
            save_checkpoint(a.out, config, to_arrays(model))
            saved = now
    print(f"{steps} steps, {steps * a.batch_tokens / 1e6:.0f} M tokens seen, {pool.made / 1e6:.0f} M made, "
          f"{time.monotonic() - started:.0f} s", flush=True)
    for worker in workers:
        worker.terminate()

    save_checkpoint(a.out, config, to_arrays(model))
    items = heldout.read(a.heldout)
    model = build(config).to(a.device)  # not compiled, in f32
    _, arrays = load_checkpoint(a.out)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    with torch.no_grad():
        answers = complete(torch, model.eval(), tokenizer, [item["prompt"] for item in items], 48, a.device)
    heldout.report(items, answers, show=6)
    return 0


if __name__ == "__main__":
    sys.exit(main())
