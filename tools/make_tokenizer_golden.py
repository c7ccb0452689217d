#!/usr/bin/env python3
"""Writes tests/golden/tokenizer-*: small vocabularies, and what the original implementations make of many texts.

    python tools/make_tokenizer_golden.py tests/golden          all of them, or only those named behind the folder
    needs: pip install tokenizers==0.23.3 sentencepiece==0.2.3 gguf==0.19.0 llama-cpp-python==0.3.36

The vocabularies are trained here, on the text below: byte-level BPE by Hugging Face tokenizers with the expressions
that Llama 3, GPT-2, Qwen 2 and others publish, and a SentencePiece BPE model with byte fallback. They are exported as
GGUF files without tensors, which llama.cpp reads as the second oracle. Training is deterministic.

A golden file has a line for each text: PRE ORACLE FLAGS TEXT IDS, where TEXT is hexadecimal ("-": empty), FLAGS are
those of sp_tokenizer_encode, IDS are separated by commas, and ORACLE is
    both       tokenizers (or sentencepiece) and llama.cpp agree
    original   they do not, and this is the original's; what llama.cpp says is in the next line
    differs    llama.cpp's, where it is not the original's: tests skip it
    llama.cpp  only that can be asked (invalid UTF-8, names without a published expression)
and "piece" lines: PRE piece ID TEXT, what llama.cpp writes for each token.
"""
import contextlib
import ctypes
import os
import pathlib
import sys
import tempfile

import gguf
import llama_cpp
import sentencepiece
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

CORPUS = """
The quick brown fox jumps over the lazy dog. It's a test, isn't it? We're sure they'll say that I'd've done it.
Memory that a guest owns is the memory that the device computes in: one mapping, no copy, no serialisation.
She said: "Hello, World!" and he answered, 'hello there'. You don't know what you've got until it's gone.
In 1969, 3.14159 and 2,718,281 were numbers; 100% of 42 is 42. Call 555-0123 on 2024-12-31 at 23:59:59.
int main(void) { for (size_t i = 0; i < count; i++) { sum += values[i] * 2; } return 0; }
def encode(text: str) -> list[int]:\n    return [ord(c) for c in text if c not in "\\t\\n"]\n
#include <stdio.h>\n#define MAX(a, b) ((a) > (b) ? (a) : (b))\nprintf("%d\\n", MAX(x, y));
Der schnelle braune Fuchs springt über den faulen Hund. Größe, Übermut, Ärger, Straße, naïve café, façade.
El veloz murciélago hindú comía feliz cardillo y kiwi. La cigüeña tocaba el saxofón detrás del palenque de paja.
Съешь же ещё этих мягких французских булок, да выпей чаю. Привет, мир! Широкая электрификация южных губерний.
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Γειά σου Κόσμε.
你好，世界。今天天气很好，我们去公园散步吧。中文分词是一个有趣的问题。
こんにちは世界。今日はとても良い天気です。カタカナとひらがなと漢字が混ざっています。
안녕하세요 세계. 오늘은 날씨가 정말 좋네요. 한국어 텍스트도 있습니다.
مرحبا بالعالم. هذا نص عربي للاختبار، وفيه علامات ترقيم؟ نعم.
שלום עולם. זהו טקסט בעברית לבדיקה.
नमस्ते दुनिया। यह हिन्दी में एक परीक्षण वाक्य है।
สวัสดีชาวโลก นี่คือข้อความทดสอบ
Emoji: 😀 😃 👍🏽 👨‍👩‍👧‍👦 🇩🇪🇫🇷 ❤️ ✨ 🎉🎉🎉
\t\tindented\twith\ttabs\n\n\n    and spaces    \r\n and carriage returns\r\n
"""

TEXTS = [
    "", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\r\n\r\n", "\t", "\t\t\t", " \n", "\n ", "  \n  \n", "a", " a", "  a", "a ",
    "a  ", "Hello, World!", " Hello,  World!  ", "hello world", "HELLO WORLD", "HelloWorld helloWorld HTTPServer",
    "It's I'm you're we've they'll he'd don't", "IT'S I'M YOU'RE WE'VE THEY'LL HE'D DON'T", "It'S 'S 's 'LL'll 'Re",
    "it\u2019s we\u2019ve", "'", "''", "'''s", "s's's", "l'eau d'or qu'il", "don''t", "'\u017f 'ſ",
    "0", "12", "123", "1234", "12345", "1234567890", "3.14159", "1,234,567.89", " 42 ", "x1y22z333", "٣٤٥ ١٢٣٤", "²³½ⅷ",
    "1st 2nd 3rd", "100%", "$100 €200 £300 ¥400", "a1b2c3", "v1.2.3-rc4", "0x1F", "1e-10",
    "int main(void) { return 0; }\n", "for (size_t i = 0; i < count; i++) {\n    sum += values[i] * 2;\n}\n",
    "def f(x):\n\treturn x ** 2\n\n\nprint(f(3))", "#include <stdio.h>\n#define X(a) ((a)*2)\n", "a+b-c*d/e%f^g&h|i~j",
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "===>>><<<", "...", "…", "--", "a_b __init__ _x", "path/to/file.txt",
    "https://example.org/a?b=c&d=%20#e", "C:\\Users\\x", "{\"k\": [1, 2, null]}", "<html><body>x</body></html>",
    "// comment\n/* more */", "\\n\\t", "a/b//c\n/\n", "!!!\n\n", "?!\r\n/", ") {\n\n\n  }",
    "über Größe Straße naïve café", "cafe\u0301 nai\u0308ve", "e\u0301\u0302\u0303", "\u0301", " \u0301a", "a\u20dd",
    "Привет, мир!", "Съешь же ещё этих мягких", "Γειά σου Κόσμε", "ΣΊΣΥΦΟΣ σίσυφος", "ǅ ǆ Ǆ ʰ ª",
    "你好，世界。", "你好 世界 hello", "中文abc123中文", "今天天气很好，我们去公园散步吧。", "こんにちは世界。", "カタカナ ひらがな 漢字",
    "안녕하세요 세계.", "ㄱㄴㄷ", "مرحبا بالعالم، نعم؟", "شَكْلٌ", "שלום עולם", "שָׁלוֹם", "नमस्ते दुनिया।", "क्षत्रिय ज्ञ", "สวัสดีชาวโลก", "ಕನ್ನಡ தமிழ் తెలుగు",
    "😀", "😀😃", " 😀 ", "👍🏽", "👨‍👩‍👧‍👦", "🇩🇪🇫🇷", "❤️", "a😀b", "✨🎉", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "a\u00a0b", "\u00a0\u00a0a", "\u3000全角\u3000", "a\u2028b\u2029c", "\u200b\u200bzero", "a\u0085b", "\ufeffbom", "x\u180ey", "\u2003\u2003x",
    "\u00ad soft\u00adhyphen", "a\u0000b", "\u0001\u0002\u007f", "\ufffd", "\U0010ffff", "\ue000", "\u0378",
    "tab\tseparated\tvalues\n1\t2\t3\n", "trailing   ", "   leading", "a\n\n\nb", "a \n b", "a\r\nb\r\nc", "a\rb", "a  \n\n  b",
    "line1\n line2\n  line3\n   line4", " \t \t ", "\n\t\n\t", "x \n\n\n\n y", "    four", "a" * 300, "ab" * 200, "abc " * 50, " " * 100, "\n" * 50,
    "=" * 80, "1" * 50, "你" * 40, "😀" * 20, "supercalifragilisticexpialidocious" * 5, "aA" * 30, "AAAA", "AAAAa", "AaAaAa",
    "The quick brown fox jumps over the lazy dog.", "Memory that a guest owns is the memory", "hello\u2581world", "\u2581", "\u2581\u2581a",
    "<0x41>", "<unk>", "ĠhelloĠ", "Ċ", "Ã©", "[UNK]", "</s><s>",
]

SPECIAL_TEXTS = [
    "<|begin_of_text|>", "a<|eot_id|>b", "<|eot_id|>", " <|eot_id|> ", "<|eot_id|><|eot_id|>", "<|eot_id", "<|eot_id|",
    "<|eot_id|>\n\nHello", "x<tool>y", "<tool><tool_call>", "a <tool_call> b", "<tool_cal", "<|end_of_text|>tail", "head<|begin_of_text|>",
    "<tool_call><|eot_id|><tool>", "ab<|x|>cd",
]

# Gemma's and Phi 3's ways.
SPACE_TEXTS = ["a  b", "a   b    c", "      x", "x\n\ny", "\n\n\nx\n\n\n\n\ny", "a \n\n b", "  a  \n\n\n  b  ", "<b>bold</b>", " <b> x",
               "<b><b>", "if x:\n    return\n\n\n        y\n"]
TURN_TEXTS = ["<|user|>\nHello<|end|>\n<|assistant|>\n", "<|user|> \n\t x<|end|>", "<|end|>\n\n", "a<|end|>", "<|end|> <|end|> b",
              "<s> a", "<s>\n<|user|>\nHi there  <|end|>\n<|assistant|>\n", "</s>  x", "<unk> x", "<|endoftext|> x", "x <|system|> y"]

INVALID = [
    b"\xff", b"\x80", b"a\xffb", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"abc\xe2\x82def", b"\xc3(", b"hello \xfe\xff world",
    b"\xf0\x9f\x98\x80\x98", b" \x80 \x80", b"\x80\x81\x82\x83", b"\xe4\xbd\xa0\xe5\xa5", b"12\xff34", b"\xff\n\xff",
]

WS = r"\s"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
UP, LOW = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED_OTHER = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def cased(suffix):
    head = r"[^\r\n\p{L}\p{N}]?"
    return f"{head}{UP}*{LOW}+{suffix}|{head}{UP}+{LOW}*{suffix}"


GPT4O = cased(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?") + r"|\p{N}{1,3}|" + CASED_OTHER
TEKKEN = cased("") + r"|\p{N}|" + CASED_OTHER
DEEPSEEK3 = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
             r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK_LETTERS = (
    r"A-Za-z\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293}\x{295}-\x{2af}"
    r"\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386}\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1}"
    r"\x{3a3}-\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f}\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5}"
    r"\x{13f8}-\x{13fd}\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77}\x{1d79}-"
    r"\x{1d9a}\x{1e00}-\x{1f15}\x{1f18}-\x{1f1d}\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d}\x{1f50}-\x{1f57}"
    r"\x{1f59}\x{1f5b}\x{1f5d}\x{1f5f}-\x{1f7d}\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe}\x{1fc2}-\x{1fc4}"
    r"\x{1fc6}-\x{1fcc}\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec}\x{1ff2}-\x{1ff4}\x{1ff6}-"
    r"\x{1ffc}\x{2102}\x{2107}\x{210a}-\x{2113}\x{2115}\x{2119}-\x{211d}\x{2124}\x{2126}\x{2128}\x{212a}-"
    r"\x{212d}\x{212f}-\x{2134}\x{2139}\x{213c}-\x{213f}\x{2145}-\x{2149}\x{214e}\x{2183}\x{2184}\x{2c00}-"
    r"\x{2c7b}\x{2c7e}-\x{2ce4}\x{2ceb}-\x{2cee}\x{2cf2}\x{2cf3}\x{a640}-\x{a66d}\x{a680}-\x{a69b}"
    r"\x{a722}-\x{a76f}\x{a771}-\x{a787}\x{a78b}-\x{a78e}\x{ab70}-\x{abbf}\x{fb00}-\x{fb06}\x{fb13}-"
    r"\x{fb17}\x{ff21}-\x{ff3a}\x{ff41}-\x{ff5a}\x{10400}-\x{1044f}\x{104b0}-\x{104d3}\x{104d8}-\x{104fb}"
    r"\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2}\x{118a0}-\x{118df}\x{1e900}-\x{1e943}")

# What the published tokenizer.json of these models has. Names that are not here are compared with llama.cpp alone.
ORIGINAL = {
    "llama-bpe": [LLAMA3],
    "dbrx": [LLAMA3],
    "gpt-2": [GPT2],
    "olmo": [GPT2],
    "qwen2": [QWEN2],
    "stablelm2": [QWEN2],
    "smollm": [r"\p{N}", GPT2],
    "starcoder": [r"\p{N}", GPT2],
    "refact": [r"\p{N}", GPT2],
    "command-r": [r"\p{N}", GPT2],
    "gpt-4o": [GPT4O],
    "tekken": [TEKKEN],
    "deepseek-v3": [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK3],
    "deepseek-llm": [r"[\r\n]", rf"\s?[{DEEPSEEK_LETTERS}]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$",
                     "[一-龥ࠀ-一가-퟿]+", r"\p{N}+"],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"],
}
LLAMA_ONLY = ["falcon", "bloom", "viking", "default", "chatglm-bpe", "seed-coder", "qwen35"]
IGNORE_MERGES = {"llama-bpe", "tekken"}
CONTROL = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
USER = ["<tool>", "<tool_call>"]


def bpe_tokenizer(expressions, model, ignore_merges):
    model.ignore_merges = ignore_merges
    tokenizer = tokenizers.Tokenizer(model)
    splits = [pre_tokenizers.Split(tokenizers.Regex(e), "isolated") for e in expressions]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        splits + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def add_specials(tokenizer):
    tokenizer.add_special_tokens([tokenizers.AddedToken(t, special=True, normalized=False) for t in CONTROL])
    tokenizer.add_tokens([tokenizers.AddedToken(t, special=False, normalized=False) for t in USER])


def train_bpe(size, skip):
    """Trained on whole lines, cut nowhere: its merges cross every border that a pre-tokeniser draws, so that a border
    which is drawn in a wrong place shows."""
    tokenizer = bpe_tokenizer([], models.BPE(), False)
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False, min_frequency=1)
    texts = [t for t in TEXTS if len(t) < 100 and "\ufffd" not in t][skip::2] * 4
    tokenizer.train_from_iterator([line + "\n" for line in CORPUS.split("\n")] + texts, trainer)
    import json
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(m) for m in model["merges"]]


def write_bpe(path, pre, vocab, merges):
    tokens = [t for t, _ in sorted(vocab.items(), key=lambda item: item[1])] + CONTROL + USER
    w = gguf.GGUFWriter(str(path), "llama")
    w.add_name("samepage test vocabulary")
    w.add_context_length(128)
    w.add_vocab_size(len(tokens))
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(pre)
    w.add_token_list(tokens)
    w.add_token_types([1] * len(vocab) + [3] * len(CONTROL) + [4] * len(USER))
    w.add_token_merges([" ".join(m) for m in merges])
    w.add_bos_token_id(len(vocab))
    w.add_eos_token_id(len(vocab) + 1)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()
    return tokens


@llama_cpp.llama_log_callback
def no_log(level, text, env):
    pass


llama_cpp.llama_log_set(no_log, ctypes.c_void_p(0))


@contextlib.contextmanager
def quiet():
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


class LlamaCpp:
    def __init__(self, path):
        with quiet():
            params = llama_cpp.llama_model_default_params()
            params.vocab_only = True
            self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        assert self.model, path
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)

    def encode(self, data, flags):
        room = len(data) * 4 + 16
        out = (llama_cpp.llama_token * room)()
        n = llama_cpp.llama_tokenize(self.vocab, data, len(data), out, room, bool(flags & 1), bool(flags & 2))
        assert n >= 0
        return list(out[:n])

    def piece(self, token):
        out = ctypes.create_string_buffer(256)
        n = llama_cpp.llama_token_to_piece(self.vocab, token, out, 256, 0, True)
        assert n >= 0
        return out.raw[:n]

    def close(self):
        llama_cpp.llama_model_free(self.model)


def line(pre, oracle, flags, data, ids):
    return f"{pre} {oracle} {flags} {data.hex() or '-'} {','.join(map(str, ids)) or '-'}\n"


def invalid_bytes(data):
    """The bytes that belong to no valid sequence."""
    out, at = [], 0
    while at < len(data):
        for length in (1, 2, 3, 4):
            try:
                data[at : at + length].decode()
                if at + length <= len(data):
                    break
            except UnicodeDecodeError:
                pass
        else:
            out.append(data[at])
            length = 1
        at += length
    return out


def compare(out, pre, original, llama, texts, count, all_flags):
    for text in texts:
        data = text.encode()
        if len(data) > 200 and not all_flags:
            continue
        for flags in (0, 2, 3):
            if flags and (text not in SPECIAL_TEXTS or not all_flags) and (flags != 3 or text not in ("", "a")):
                continue
            second = llama.encode(data, flags)
            first = original(text, flags) if original else None
            if first is None:
                out.write(line(pre, "llama.cpp", flags, data, second))
                count["llama.cpp"] += 1
            elif first == second:
                out.write(line(pre, "both", flags, data, first))
                count["both"] += 1
            else:
                out.write(line(pre, "original", flags, data, first))
                out.write(line(pre, "differs", flags, data, second))
                count["original"] += 1


def compare_invalid_bpe(out, pre, llama, vocab, merges):
    """llama.cpp writes U+FFFD for each invalid byte, samepage the byte itself: the same but for the names of the bytes,
    where no merge takes one of them."""
    merged = {(vocab[a], vocab[b]) for a, b in merges}
    spell = {b: c for b, c in zip(range(256), byte_letters())}
    lost = [vocab[spell[b]] for b in b"\xef\xbf\xbd"]
    for data in INVALID:
        ids, bad = llama.encode(data, 0), invalid_bytes(data)
        restored, at = [], 0
        while at < len(ids):
            if ids[at : at + 3] == lost:
                restored.append(vocab[spell[bad.pop(0)]])
                at += 3
            else:
                restored.append(ids[at])
                at += 1
        if bad or any(pair in merged for pair in zip(restored, restored[1:])):
            continue
        out.write(line(pre, "llama.cpp", 0, data, restored))


def byte_letters():
    keep = list(range(0x21, 0x7F)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
    extra = iter(range(256, 512))
    return [chr(b) if b in keep else chr(next(extra)) for b in range(256)]


def hf_original(tokenizer, add_bos, bos):
    def encode(text, flags):
        tokenizer.encode_special_tokens = not flags & 2
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        return ([bos] if add_bos and flags & 1 else []) + ids
    return encode


def header(out, what):
    out.write(f"# {what}\n# Made by tools/make_tokenizer_golden.py (there: the format) with tokenizers {tokenizers.__version__}, "
              f"sentencepiece {sentencepiece.__version__}, llama-cpp-python {llama_cpp.__version__}.\n")


def make_bpe(folder, name, pre, size, skip, others):
    vocab, merges = train_bpe(size, skip)
    path = folder / f"tokenizer-{name}.gguf"
    tokens = write_bpe(path, pre, vocab, merges)
    texts = TEXTS + SPECIAL_TEXTS
    with open(folder / f"tokenizer-{name}.txt", "w") as out, tempfile.TemporaryDirectory() as temporary:
        header(out, f"Byte-level BPE, the vocabulary of tokenizer-{name}.gguf; its own pre-tokeniser is {pre}.")
        for one in [pre] + others:
            count = {"both": 0, "original": 0, "llama.cpp": 0}
            one_path = pathlib.Path(temporary) / "one.gguf"
            write_bpe(one_path, one, vocab, merges)
            llama = LlamaCpp(one_path)
            original = None
            if one in ORIGINAL:
                tokenizer = bpe_tokenizer(ORIGINAL[one], models.BPE(vocab=vocab, merges=merges), one in IGNORE_MERGES)
                add_specials(tokenizer)
                original = hf_original(tokenizer, one in IGNORE_MERGES, len(vocab))
            compare(out, one, original, llama, texts, count, one == pre)
            compare_invalid_bpe(out, one, llama, vocab, merges)
            if one == pre:
                for token in range(len(tokens)):
                    out.write(f"{one} piece {token} {llama.piece(token).hex() or '-'}\n")
            llama.close()
            print(name, one, count)


def train_spm(**options):
    with tempfile.TemporaryDirectory() as temporary:
        text = pathlib.Path(temporary) / "text"
        text.write_text(CORPUS * 3)
        prefix = pathlib.Path(temporary) / "spm"
        with quiet():
            sentencepiece.SentencePieceTrainer.train(
                input=str(text), model_prefix=str(prefix), model_type="bpe", vocab_size=700, byte_fallback=True,
                character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False,
                split_digits=True, allow_whitespace_only_pieces=True, num_threads=1, **options)
        return sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")


def write_spm(path, sp, user, architecture="llama", name="samepage test vocabulary", space_prefix=True, added=()):
    """As llama.cpp's converters do: what users defined has spaces as they are; added tokens follow, all special."""
    tokens, kinds = [], []
    for i in range(sp.vocab_size()):
        piece = sp.id_to_piece(i)
        kinds.append(2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else
                     4 if piece in user else 5 if sp.is_unused(i) else 1)
        tokens.append(piece.replace("\u2581", " ") if piece in user else piece)
    w = gguf.GGUFWriter(str(path), architecture)
    w.add_name(name)
    w.add_context_length(128)
    w.add_vocab_size(len(tokens) + len(added))
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens + list(added))
    w.add_token_scores([sp.get_score(i) for i in range(sp.vocab_size())] + [-1000.0] * len(added))
    w.add_token_types(kinds + [3] * len(added))
    w.add_bos_token_id(sp.bos_id())
    w.add_eos_token_id(sp.eos_id())
    w.add_unk_token_id(sp.unk_id())
    w.add_add_space_prefix(space_prefix)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def write_golden_spm(folder, name, what, llama, original, texts, tokens):
    count = {"both": 0, "original": 0, "llama.cpp": 0}
    with open(folder / f"tokenizer-{name}.txt", "w") as out:
        header(out, f"{what}, the vocabulary of tokenizer-{name}.gguf.")
        compare(out, name, original, llama, texts, count, True)
        for data in INVALID:
            out.write(line(name, "llama.cpp", 0, data, llama.encode(data, 0)))
        for token in range(tokens):
            out.write(f"{name} piece {token} {llama.piece(token).hex() or '-'}\n")
    print(name, count)


def make_spm(folder):
    sp = train_spm(user_defined_symbols=USER)
    path = folder / "tokenizer-spm.gguf"
    write_spm(path, sp, USER)
    llama = LlamaCpp(path)

    def original(text, flags):
        if flags & 2 and ("<s>" in text or "</s>" in text or "<unk>" in text):
            return None  # SentencePiece never finds these in text
        if any(token in text for token in USER):
            return None  # it puts its space at the beginning alone; llama.cpp and tokenizers behind each such token
        return ([sp.bos_id()] if flags & 1 else []) + sp.encode(text)

    write_golden_spm(folder, "spm", "SentencePiece BPE with byte fallback", llama, original,
                     TEXTS + SPECIAL_TEXTS + ["a</s>b", "<s> x", "x <unk>y"], sp.vocab_size())
    llama.close()


def make_gemma(folder):
    """No space in front; runs of spaces and of line ends are tokens of their own, found before anything is merged."""
    user = ["\n" * n for n in range(2, 5)] + ["\u2581" * n for n in range(2, 6)] + ["<b>", "</b>"]
    sp = train_spm(user_defined_symbols=user, add_dummy_prefix=False)
    path = folder / "tokenizer-gemma.gguf"
    write_spm(path, sp, user, "gemma2", space_prefix=False)
    llama = LlamaCpp(path)

    def original(text, flags):
        if flags & 2 and any(token in text for token in ("<s>", "</s>", "<unk>")):
            return None  # SentencePiece never finds these in text
        if "\u2581" in text:
            return None  # it takes one in the text for a space in what users defined, too
        return ([sp.bos_id()] if flags & 1 else []) + sp.encode(text)

    write_golden_spm(folder, "gemma", "SentencePiece BPE as Gemma has it", llama, original,
                     TEXTS + SPACE_TEXTS + ["a</s>b", "<s> x"], sp.vocab_size())
    llama.close()


def make_phi3(folder):
    """A space in front of each part, and special tokens that take the white space behind them."""
    added = ["<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"]
    sp = train_spm()
    path = folder / "tokenizer-phi3.gguf"
    write_spm(path, sp, [], "phi3", "phi-3 test vocabulary", added=added)
    llama = LlamaCpp(path)
    # As transformers converts a SentencePiece BPE model: each way to cut a piece in two is a merge, the best score
    # first.
    vocab = {sp.id_to_piece(i): i for i in range(sp.vocab_size())}
    merges = []
    for piece, token in vocab.items():
        cuts = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in vocab and piece[i:] in vocab]
        merges += [(*cut, sp.get_score(token)) for cut in sorted(cuts, key=lambda cut: (vocab[cut[0]], vocab[cut[1]]))]
    merges.sort(key=lambda merge: (merge[2], len(merge[0]), len(merge[1])), reverse=True)
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[merge[:2] for merge in merges], unk_token="<unk>",
                                                fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = tokenizers.normalizers.Sequence([tokenizers.normalizers.Prepend("\u2581"),
                                                            tokenizers.normalizers.Replace(" ", "\u2581")])
    stays = ("<unk>", "<s>", "<|endoftext|>")
    tokenizer.add_special_tokens([tokenizers.AddedToken(token, special=True, normalized=False, rstrip=token not in stays)
                                  for token in ["<unk>", "<s>", "</s>", *added]])

    def original(text, flags):
        tokenizer.encode_special_tokens = not flags & 2
        return ([sp.bos_id()] if flags & 1 else []) + tokenizer.encode(text, add_special_tokens=False).ids

    SPECIAL_TEXTS.extend(TURN_TEXTS)  # these are parsed, too
    write_golden_spm(folder, "phi3", "SentencePiece BPE as Phi 3 has it", llama, original, TEXTS + TURN_TEXTS,
                     sp.vocab_size() + len(added))
    llama.close()


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    rest = [p for p in ORIGINAL if p not in ("llama-bpe", "gpt-2", "qwen2")] + LLAMA_ONLY
    makers = {
        "llama3": lambda: make_bpe(folder, "llama3", "llama-bpe", 2000, 0, rest),
        "gpt2": lambda: make_bpe(folder, "gpt2", "gpt-2", 1500, 1, []),
        "qwen2": lambda: make_bpe(folder, "qwen2", "qwen2", 1500, 0, []),
        "spm": lambda: make_spm(folder),
        "gemma": lambda: make_gemma(folder),
        "phi3": lambda: make_phi3(folder),
    }
    for name in sys.argv[2:] or makers:
        makers[name]()


main()
