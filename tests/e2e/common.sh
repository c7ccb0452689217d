# tests/e2e/common.sh - what the scripts share. Included, not run.
set -euo pipefail
cd "$SAMEPAGE_SOURCE_DIR"
model=models/samepage-demo-q8_0.gguf
guests=$SAMEPAGE_BUILD_DIR/guests
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# expect CODE PATTERN COMMAND...: the exit code, and one line on stderr that matches.
expect() {
    local code=$1 pattern=$2 got=0
    shift 2
    "$@" >"$work/out" 2>"$work/err" </dev/null || got=$?
    [ "$got" = "$code" ] || fail "exit code $got, not $code: $* ($(cat "$work/err"))"
    [ "$(wc -l <"$work/err")" = 1 ] || fail "not one line: $* ($(cat "$work/err"))"
    grep -Eq -e "$pattern" "$work/err" || fail "no /$pattern/ in: $(cat "$work/err")"
}

# check JSON PYTHON: the expression over `j` must be true.
check() {
    python3 -c "import json,sys; j=json.loads(sys.argv[1]); sys.exit(0 if ($2) else 1)" "$1" || fail "$2 of $1"
}

devices() {
    "$SAMEPAGE" doctor --json | python3 -c 'import json,sys; print(*[d["name"] for d in json.load(sys.stdin)["devices"]])'
}
