#!/usr/bin/env bash
# make install gives a program that runs and a library that another project finds by pkg-config, shared and static.
set -euo pipefail
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
cmake --install "$SAMEPAGE_BUILD_DIR" --prefix "$prefix" >/dev/null
"$prefix/bin/samepage" --version

cat >"$prefix/use.c" <<'C'
#include <samepage/samepage.h>
#include <stdio.h>
int main(void) {
    sp_error error = {0};
    sp_region *region;
    sp_region_options options = {.size_bytes = 4096};
    if (sp_region_create(&options, &region, &error)) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    sp_region_destroy(region);
    sp_engine *engine;
    if (sp_engine_create(NULL, &engine, &error)) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    sp_engine_destroy(engine);
    puts(sp_version());
    return 0;
}
C
pc=$(find "$prefix" -name samepage.pc -printf '%h')
export PKG_CONFIG_PATH=$pc
cc -std=c17 "$prefix/use.c" $(pkg-config --cflags --libs samepage) -o "$prefix/use-shared"
"$prefix/use-shared" | grep -x >/dev/null "$(pkg-config --modversion samepage)"
libdir=$(dirname "$pc")
cc -std=c17 "$prefix/use.c" $(pkg-config --cflags samepage) "$libdir/libsamepage.a" \
    $(pkg-config --static --libs samepage | sed 's/-lsamepage//') -lpthread -lm -ldl -o "$prefix/use-static"
"$prefix/use-static" | grep -x >/dev/null "$(pkg-config --modversion samepage)"
echo "install: ok"
