#!/usr/bin/env bash
# Format, arrows of the include graph, lengths of files and of lines of Markdown and comments, generated files, shell
# syntax, clang-tidy. Prints what is wrong and where. clang-tidy needs to know how files are compiled, and the generated
# ones among them: a build must have been made.
set -euo pipefail
cd "$(dirname "$0")/.."
sources=$(git ls-files '*.c' '*.h' | grep -v '^src/guest/imports_glue')
clang-format --dry-run -Werror $sources
python3 tests/lint/layers.py
python3 tests/lint/markdown.py
python3 tests/lint/comments.py
bash -n $(git ls-files '*.sh' .ci/run)
if [ -f tools/generate_imports.py ]; then
    python3 tools/generate_imports.py --check
fi
if [ ! -f build/compile_commands.json ]; then
    echo "lint: clang-tidy reads build/compile_commands.json: build first (make)" >&2
    exit 1
fi
# Files for other systems and processors are not in that list; make test-arm compiles them.
git ls-files 'src/*.c' 'apps/*.c' ':!apps/guests' ':!src/device/cuda' | while read -r file; do
    if grep >/dev/null "/$file\"" build/compile_commands.json; then echo "$file"; fi
done |
    xargs -P "$(nproc)" -n 8 clang-tidy -p build --quiet >build/clang-tidy.log 2>/dev/null || { cat build/clang-tidy.log; exit 1; }
echo "lint: ok"
