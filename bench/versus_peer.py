"""llama.cpp as a process that answers orders: started by versus.py with the Python of the peer's own environment.

    versus_peer.py MODEL THREADS ROWS_MAX SEQUENCES_MAX
    versus_peer.py --quantize IN OUT FILE_TYPE PURE

One line of JSON on standard input is one order, ["prefill", tokens], ["decode", tokens] or ["batch", sequences,
tokens]; one line on standard output is its seconds. The first line out is the load's. As llama-bench does it, tokens
are given and not sampled; every decode takes its logits. Flash attention, f16 KV, everything else as llama.cpp has it
by default.
"""
import ctypes
import json
import os
import sys
import time

import llama_cpp as ll


@ll.llama_log_callback
def silent(level, text, data):
    pass


class Peer:
    def __init__(self, path, threads, rows, sequences):
        begun = time.perf_counter()
        self.model = ll.llama_model_load_from_file(path.encode(), ll.llama_model_default_params())
        if not self.model:
            sys.exit(f"llama.cpp does not load {path}")
        self.load_s = time.perf_counter() - begun
        self.threads, self.rows = threads, rows
        self.vocab = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(self.model))
        self.batch = ll.llama_batch_init(max(rows, sequences), 0, 1)
        self.context = None
        self.sequences = 0

    def open(self, sequences, tokens_each):
        """A context for so many sequences; the last one is kept where it fits."""
        if self.context and self.sequences == sequences and self.tokens_each >= tokens_each:
            ll.llama_memory_clear(ll.llama_get_memory(self.context), True)
            return
        if self.context:
            ll.llama_free(self.context)
        settings = ll.llama_context_default_params()
        settings.n_ctx = sequences * ((tokens_each + 255) // 256 * 256)
        settings.n_batch = settings.n_ubatch = max(self.rows, sequences)
        settings.n_seq_max = sequences
        settings.n_threads = settings.n_threads_batch = self.threads
        settings.flash_attn_type = ll.LLAMA_FLASH_ATTN_TYPE_ENABLED
        settings.no_perf = True
        self.context = ll.llama_init_from_model(self.model, settings)
        if not self.context:
            sys.exit("llama.cpp makes no context")
        self.sequences, self.tokens_each = sequences, tokens_each

    def run(self, rows):
        """rows: (token, position, sequence, wants logits)."""
        for i, (token, position, sequence, wanted) in enumerate(rows):
            self.batch.token[i], self.batch.pos[i], self.batch.logits[i] = token % self.vocab, position, wanted
            self.batch.n_seq_id[i], self.batch.seq_id[i][0] = 1, sequence
        self.batch.n_tokens = len(rows)
        if ll.llama_decode(self.context, self.batch):
            sys.exit("llama_decode failed")
        ll.llama_get_logits_ith(self.context, len(rows) - 1)  # waits for them

    def prefill(self, tokens):
        self.open(1, tokens)
        self.run([(1, 0, 0, True)])  # a pass that warms up, as the others have one
        ll.llama_memory_clear(ll.llama_get_memory(self.context), True)
        begun = time.perf_counter()
        for first in range(0, tokens, self.rows):
            end = min(tokens, first + self.rows)
            self.run([(i * 7919 + 1, i, 0, i + 1 == tokens) for i in range(first, end)])
        return time.perf_counter() - begun

    def batch_of(self, sequences, tokens):
        self.open(sequences, tokens + 1)
        self.run([(s * 104729 + 1, 0, s, True) for s in range(sequences)])
        begun = time.perf_counter()
        for i in range(tokens):
            self.run([(s * 104729 + i * 7919 + 1, 1 + i, s, True) for s in range(sequences)])
        return time.perf_counter() - begun


def main():
    ll.llama_log_set(silent, ctypes.c_void_p(0))
    ll.llama_backend_init()
    if sys.argv[1] == "--quantize":
        source, target, file_type, pure = sys.argv[2:]
        settings = ll.llama_model_quantize_default_params()
        settings.ftype, settings.pure, settings.nthread = int(file_type), bool(int(pure)), os.cpu_count()
        settings.allow_requantize = True
        sys.exit(ll.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(settings)))
    peer = Peer(sys.argv[1], *map(int, sys.argv[2:]))
    print(peer.load_s, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if order[0] == "prefill":
            seconds = peer.prefill(order[1])
        else:
            seconds = peer.batch_of(*order[1:]) if order[0] == "batch" else peer.batch_of(1, order[1])
        print(seconds, flush=True)


main()
