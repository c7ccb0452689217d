"""llama.cpp, through the low-level functions of llama-cpp-python: logits of every position, and greedy text.

Computes on the CPU alone, with keys and values in f16 as by default, or in q8_0. Only golden.py needs this; the package
takes ten minutes to build, which is why its numbers are kept as golden files.
"""
import ctypes

import llama_cpp as ll
import numpy as np

ll.llama_backend_init()


@ll.llama_log_callback
def _silent(level, text, data):
    pass


ll.llama_log_set(_silent, ctypes.c_void_p(0))


class Engine:
    def __init__(self, path, context, flash="auto", threads=1, extra=False, kv="f16"):
        parameters = ll.llama_model_default_params()
        parameters.n_gpu_layers = 0
        parameters.use_extra_bufts = extra
        self.model = ll.llama_model_load_from_file(path.encode(), parameters)
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {path}")
        self.vocab = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(self.model))
        settings = ll.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = context
        settings.n_threads = settings.n_threads_batch = threads
        settings.flash_attn_type = {"auto": -1, "off": 0, "on": 1}[flash]
        settings.type_k = settings.type_v = {"f16": ll.GGML_TYPE_F16, "q8_0": ll.GGML_TYPE_Q8_0}[kv]
        self.context = ll.llama_init_from_model(self.model, settings)
        if not self.context:
            raise RuntimeError(f"llama.cpp makes no context for {path}")
        self.batch = ll.llama_batch_init(context, 0, 1)

    def close(self):
        ll.llama_batch_free(self.batch)
        ll.llama_free(self.context)
        ll.llama_model_free(self.model)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def forget(self):
        ll.llama_memory_clear(ll.llama_get_memory(self.context), True)

    def append(self, tokens, position):
        """Logits [tokens][vocab] f32 of tokens that stand at position and behind it."""
        self.batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            self.batch.token[i] = token
            self.batch.pos[i] = position + i
            self.batch.n_seq_id[i] = 1
            self.batch.seq_id[i][0] = 0
            self.batch.logits[i] = 1
        if ll.llama_decode(self.context, self.batch):
            raise RuntimeError("llama_decode failed")
        rows = [np.ctypeslib.as_array(ll.llama_get_logits_ith(self.context, i), shape=(self.vocab,)).copy()
                for i in range(len(tokens))]
        return np.array(rows, np.float32)

    def logits(self, tokens, step=False):
        self.forget()
        if not step:
            return self.append(tokens, 0)
        return np.concatenate([self.append([token], position) for position, token in enumerate(tokens)])

    def tokenize(self, text):
        """With beginning-of-text as the model wants it, and special tokens by name."""
        room = len(text.encode()) + 16
        ids = (ll.llama_token * room)()
        count = ll.llama_tokenize(ll.llama_model_get_vocab(self.model), text.encode(), len(text.encode()), ids, room,
                                  True, True)
        return list(ids[:count])

    def detokenize(self, tokens):
        text = bytearray()
        for token in tokens:
            piece = ctypes.create_string_buffer(256)
            count = ll.llama_token_to_piece(ll.llama_model_get_vocab(self.model), token, piece, 256, 0, True)
            text += piece.raw[:count]
        return text.decode()

    def greedy(self, prompt, count, ends):
        """The next tokens, each the lowest id among the largest logits, until one of ends, which is not among them, or
        count; and for each choice, the end's too, how far the largest logit is above the second."""
        self.forget()
        row = self.append(prompt, 0)[-1]
        out, margins = [], []
        while True:
            token = int(np.argmax(row))
            second, first = np.partition(row, -2)[-2:]
            margins.append(float(first - second))
            if token in ends:
                return out, margins
            out.append(token)
            if len(out) == count:
                return out, margins
            row = self.append([token], len(prompt) + len(out) - 1)[-1]


def version():
    return {"llama-cpp-python": ll.__version__, "system": ll.llama_print_system_info().decode().strip()}
