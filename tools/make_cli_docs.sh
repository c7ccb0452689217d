#!/usr/bin/env bash
# docs/cli.md: what `samepage COMMAND --help` prints, and what JSON and exit codes mean.
#   tools/make_cli_docs.sh build/samepage >docs/cli.md
# tests/e2e/test_cli_options.sh compares.
set -euo pipefail
samepage=$1
cat <<'TEXT'
# The samepage program

Made by tools/make_cli_docs.sh from the program's own `--help`: change that and run it.

What is common to all commands:

- `--help` prints what is below. Long options may be cut as long as they stay unique, and `--name=value` is
  `--name value`.
- An error is one line on stderr that begins with `samepage:` and says what to do. Exit codes: 0 it worked, 1 it did
  not, 2 the command line is wrong, 130 Ctrl-C. `run` passes its guest's exit code on, and has 124 (its deadline passed)
  and 134 (it trapped or used up its fuel) beside.
- A progress line is shown while a large model loads, if stderr is a terminal and `--quiet` is not given. There are no
  colours.
- Compiled modules are kept in `$XDG_CACHE_HOME/samepage`, else `~/.cache/samepage`; the folder may be deleted.
- `-d auto`, which is meant where nothing is said, is the best hardware there is that can be opened. Which that is
  stands on stderr, if stderr is a terminal and `--quiet` is not given, or with `--verbose`; and always that a card is
  there and was not taken, with the reason. Software drivers (Mesa's llvmpipe) are used only by name.

What scripts read:

- `doctor --json`: `devices`, each with `name`, `link`, `matmul_elements`, `matmul_wrong`, `rss_delta_bytes` (what
  linking 16 MiB and computing in it added), `copied_bytes` (that the device copied explicitly),
  `copying_rss_delta_bytes` (the same with a second buffer), times in `_us`; or `error`, if it cannot be opened; and
  `troubles`, each with `name` and `reason`: hardware that is there and cannot be used. With `--full -m`, `restoring`:
  what 24 tokens cost to compute, to save, to restore and to go on from, and whether the same tokens followed.
- `bench --json`: `rows`, each with `device`, `model_type`, `test`, `threads`, `through` ("guest" or "native"),
  `tokens_per_s` (median) and its deviation, `read_gb_per_s` (of this machine's memory, measured just before; null where
  the weights are not in it) and `fraction_of_bandwidth` (null for prompts, which are bound by arithmetic); and
  `boundary`, if asked for: what a guest costs for each token.
- `complete --json`: `text`, `tokens`, `finish` ("end", "length", "context", "stop", "interrupted"), counts
  and times.
- `tokenize --json`: `tokens`, `count` and, with `--pieces`, `pieces`, where bytes that are not UTF-8 are U+FFFD.
- `actor send --json`: `message` (its number), `handled`, `reply`, `failures` (that came before), `error` if there is
  one, and figures of the commit, bytes and times in `_us`. `actor list --json`: `actors`; `actor log --json`:
  `messages`, with `text`, `reply`, `reason`; times are in milliseconds since 1970. `snapshot inspect --json`, `store
  stats --json`: what their texts say.
- `perplexity --json`: `perplexity`, `deviation` (its standard error), `chunks`, `context`, `predicted_tokens`, times.
- `quantize --json`: `tensors`, each with its type `from` and `to`; bytes before and after, `bits_per_weight`.
- `logits --json`: `file`, `tokens`, `vocab`, `type`. `model info --json`: the model's shape; numbers of metadata are
  texts, arrays are "[N values]".

TEXT
commands=$("$samepage" --help | sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
show() { printf '%s %s\n\n```\n%s\n```\n\n' "$1" "$2" "$("$samepage" $2 --help)"; }
for command in $commands; do
    show '##' "$command"
    for second in $("$samepage" "$command" --help | sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
        show '###' "$command $second"
    done
done
