#!/usr/bin/env bash
# Format, arrows of the include graph, file lengths, generated files, shell syntax. Prints what is wrong and where.
set -euo pipefail
cd "$(dirname "$0")/.."
sources=$(git ls-files '*.c' '*.h' | grep -v '^src/guest/imports_glue')
clang-format --dry-run -Werror $sources
python3 tests/lint/layers.py
bash -n $(git ls-files '*.sh' .ci/run)
if [ -f tools/generate_imports.py ]; then
    python3 tools/generate_imports.py --check
fi
echo "lint: ok"
