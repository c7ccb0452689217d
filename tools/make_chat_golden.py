#!/usr/bin/env python3
"""Renders public chat templates with Jinja2, for tests/unit/test_chat.c to compare with sdk/c/samepage_chat.c.

    tools/make_chat_golden.py LLAMA_CPP_FOLDER [TEMPLATE.jinja...] >tests/golden/chat.txt

The folder is a checkout of github.com/ggml-org/llama.cpp of spring 2025, which carries models' own templates in
models/templates/ and, as strings, in tests/test-chat-template.cpp. More can be given as files. The templates themselves
do not go into the golden file: only their hash, the pieces of them that name marks (what the format is found by), and
what they make of some conversations. Needs jinja2.
"""
import hashlib
import json
import pathlib
import re
import sys

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

# The formats that are expected.
FORMATS = {
    "meta-llama-Llama-3.1-8B-Instruct": "llama-3.1", "meta-llama-Llama-3.2-3B-Instruct": "llama-3.1",
    "meta-llama-Llama-3.3-70B-Instruct": "llama-3.1", "Llama-3": "llama-3",
    "Qwen-Qwen2.5-7B-Instruct": "chatml", "teknium/OpenHermes-2.5-Mistral-7B": "chatml",
    "google-gemma-2-2b-it": "gemma", "google/gemma-7b-it": "gemma",
    "microsoft-Phi-3.5-mini-instruct": "phi-3", "Phi-3-mini": "phi-3", "Phi-3-small": "phi-3",
    "Phi-3-medium": "phi-3", "Phi-3-vision": "phi-3",
    "mistralai/Mistral-7B-Instruct-v0.2 (NOTE: Old pre-v1 without a system prompt)": "mistral",
    "mistralai/Mistral-7B-Instruct-v0.2 (mistralai 'v1' template with a system prompt)": "mistral-v1",
    "Mistral-Large-Instruct-2407 (mistralai 'v3' template; modified to have system prompt at start)": "mistral-v3",
    "mistralai-Mistral-Nemo-Instruct-2407": "mistral-v3-tekken",
    "mistralai/Mistral-Large-Instruct-2411 (mistralai 'v7' template)": "mistral-v7",
    "TheBloke/FusionNet_34Bx2_MoE-AWQ": "llama-2", "meta-llama-Llama-2-7b-chat-hf": "llama-2",
    "HuggingFaceH4-zephyr-7b-beta": "zephyr", "Qwen-Qwen3-0.6B": "chatml",
    "allenai-OLMo-2-1124-7B-Instruct": "olmo-2",
    "ibm-granite/granite-3.0-8b-instruct": "granite", "ibm-granite-granite-3.3-2B-Instruct": "granite",
}
# Formats that are not known, and must not be taken for one that is.
FORMATS.update(dict.fromkeys(["CohereForAI/c4ai-command-r-plus", "OrionStarAI/Orion-14B-Chat", "ChatGLM4", "GLMEdge",
                              "DeepSeek-V2", "phi-4",
                              "ai-sage/GigaChat-20B-A3B-instruct", "Infinigence/Megrez-3B-Instruct"], "plain"))
# Known differences, each with its reason.
SYSTEM_ONLY_FIRST_TURN = {"mistral-v3", "mistral-v3-tekken"}  # it moves to the last turn there; what was said, stays
NEEDS_SYSTEM = {"TheBloke/FusionNet_34Bx2_MoE-AWQ",  # has no first mark without one
                "ibm-granite-granite-3.3-2B-Instruct"}  # writes one of its own, with a date
NO_OUTER_BLANKS = {"TheBloke/FusionNet_34Bx2_MoE-AWQ",  # does not strip, unlike the format that it is meant to be
                   "Mistral-Large-Instruct-2407 (mistralai 'v3' template; modified to have system prompt at start)"}
NO_OUTER_BLANKS_WITH_SYSTEM = {"meta-llama-Llama-2-7b-chat-hf"}  # strips the system's message and the question as one
TOKENS = {"llama-3": ("<|begin_of_text|>", "<|eot_id|>"), "llama-3.1": ("<|begin_of_text|>", "<|eot_id|>"),
          "gemma": ("<bos>", "<eos>"), "olmo-2": ("<|endoftext|>", "<|endoftext|>")}
SYSTEM = "You are terse."
CONVERSATIONS = [
    [("Hello!", "Hi."), ("What is 2 + 2?\nAnd 3?", "4.\n\n5."), ("Größe? 漢字", "Ja, 字."), ("Bye", None)],
    [("  Hello, blanks! \n", "Hi."), ("\tx\n\n", "y"), (" z ", None)],
]
MARK = re.compile(r"<\|?\w+\|?>|\[/?[A-Z_]+\]|<<SYS>>|eos_token|bos_token|Cutting Knowledge Date: December 2023")


def from_cpp(path):
    """Yields (name, template) from the test's C++ strings."""
    text = path.read_text()
    for name, body in re.findall(r'/\* \.name= \*/ "(.*?)",.*?/\* \.template_str= \*/ (?:U8C\()?"((?:[^"\\]|\\.)*)"',
                                 text, re.S):
        yield name, json.loads('"' + body.replace("\\'", "'") + '"')


def hints(template):
    """The pieces between quotes and braces that hold a mark, with their quotes."""
    found = []
    for match in re.finditer(r"[^'\"{}%]+", template):
        piece = template[max(0, match.start() - 1):match.end() + 1]
        if MARK.search(piece) and piece not in found and len(piece) < 120:
            found.append(piece)
    return "\x1f".join(found)


def escape(text):
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def fail(message):
    raise jinja2.TemplateError(message)


def render(template, form, messages):
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = fail
    if form == "granite":  # evaluated where a system message is given, too, and then not used
        environment.globals["strftime_now"] = lambda form: "today"
    bos, eos = TOKENS.get(form, ("<s>", "</s>"))
    text = environment.from_string(template).render(messages=messages, bos_token=bos, eos_token=eos,
                                                    add_generation_prompt=True)
    return text[len(bos):] if text.startswith(bos) else text


def cases(name, template, form):
    for number, conversation in enumerate(CONVERSATIONS):
        if number == 1 and name in NO_OUTER_BLANKS:
            continue
        for system in (None, SYSTEM):
            if system is None and name in NEEDS_SYSTEM:
                continue
            if system and number == 1 and name in NO_OUTER_BLANKS_WITH_SYSTEM:
                continue
            for turns in range(1, len(conversation) + 1):
                if system and turns > 1 and form in SYSTEM_ONLY_FIRST_TURN:
                    continue
                messages = [{"role": "system", "content": system}] if system else []
                for i, (user, answer) in enumerate(conversation[:turns]):
                    messages.append({"role": "user", "content": user})
                    if i + 1 < turns:
                        messages.append({"role": "assistant", "content": answer})
                try:
                    text = render(template, form, messages)
                except jinja2.TemplateError:
                    continue
                if system and system not in text:
                    continue  # templates that leave it out; ours does not
                yield number, system, turns, text


def main():
    root = pathlib.Path(sys.argv[1])
    templates = [(path.stem, path.read_text()) for path in sorted((root / "models/templates").glob("*.jinja"))]
    templates += from_cpp(root / "tests/test-chat-template.cpp")
    templates += [(pathlib.Path(path).stem, pathlib.Path(path).read_text()) for path in sys.argv[2:]]
    for number, conversation in enumerate(CONVERSATIONS):
        for user, answer in conversation:
            print(f"message {number} user {escape(user)}")
            if answer is not None:
                print(f"message {number} answer {escape(answer)}")
    for name, template in templates:
        form = FORMATS.get(name)
        if not form:
            continue
        print(f"template {name}")
        print(f"sha256 {hashlib.sha256(template.encode()).hexdigest()}")
        print(f"hints {escape(hints(template))}")
        print(f"format {form}")
        for number, system, turns, text in cases(name, template, form) if form != "plain" else ():
            print(f"case {number} {'system' if system else 'none'} {turns} {escape(text)}")


if __name__ == "__main__":
    main()
