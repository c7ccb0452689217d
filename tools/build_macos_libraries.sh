#!/usr/bin/env bash
# build_macos_libraries.sh ARCHIVES PREFIX: the libraries that samepage links, out of their sources, as static ones for
# macOS on Apple silicon: for tools/bootstrap_arm.sh. On a Mac itself they come from Homebrew.
set -euo pipefail
tools=$(cd "$(dirname "$0")" && pwd)
from=$(cd "$1" && pwd)
prefix=$2
rm -rf "$prefix"
mkdir -p "$prefix/lib/pkgconfig" "$prefix/include"
prefix=$(cd "$prefix" && pwd)
cd "$from"
for archive in *.orig.tar.*; do
    tar -xf "$archive"
done

library() { # library name, name for pkg-config, version, folder, flags, sources...
    local name=$1 package=$2 version=$3 folder=$4 flags=$5 objects
    shift 5
    objects=$(mktemp -d "$from/objects-XXXX")
    (cd "$folder" && for source in "$@"; do
        echo "$source"
    done | xargs -P "$(nproc)" -I{} sh -c '"$0" cc -O2 -fPIC -w '"$flags"' -c "$1" -o "$2/$(echo "$1" | tr / _).o"' \
        "$tools/zig_macos.sh" {} "$objects")
    "$tools/zig_macos.sh" ar rcs "$prefix/lib/lib$name.a" "$objects"/*.o
    printf 'prefix=%s\nName: %s\nDescription: %s\nVersion: %s\nLibs: -L${prefix}/lib -l%s\nCflags: -I${prefix}/include\n' \
        "$prefix" "$package" "$package" "$version" "$name" >"$prefix/lib/pkgconfig/$package.pc"
}

library xxhash libxxhash 0.8.1 xxHash-0.8.1 "" xxhash.c
cp xxHash-0.8.1/xxhash.h "$prefix/include"

library utf8proc libutf8proc 2.8.0 utf8proc-2.8.0 "-DUTF8PROC_STATIC" utf8proc.c
cp utf8proc-2.8.0/utf8proc.h "$prefix/include"

library cjson libcjson 1.7.15 cJSON-1.7.15 "" cJSON.c
mkdir "$prefix/include/cjson"
cp cJSON-1.7.15/cJSON.h "$prefix/include/cjson"
sed -i 's|include$|include -I${prefix}/include/cjson|' "$prefix/lib/pkgconfig/libcjson.pc"

library cmocka cmocka 1.1.5 cmocka-1.1.5 "-Iinclude -DHAVE_SIGNAL_H=1 -DHAVE_STRINGS_H=1 -DHAVE_UNISTD_H=1 \
-DHAVE_GCC_THREAD_LOCAL_STORAGE=1 -DHAVE_CLOCK_GETTIME_REALTIME=1 -DHAVE_STRUCT_TIMESPEC=1" src/cmocka.c
cp cmocka-1.1.5/include/*.h "$prefix/include"

cd pcre2-10.42/src
cp config.h.generic config.h
cp pcre2.h.generic pcre2.h
cp pcre2_chartables.c.dist pcre2_chartables.c
cd ../..
library pcre2-8 libpcre2-8 10.42 pcre2-10.42/src "-DHAVE_CONFIG_H -DPCRE2_CODE_UNIT_WIDTH=8 -DSUPPORT_UNICODE -DPCRE2_STATIC -I." \
    pcre2_{auto_possess,chartables,compile,config,context,convert,dfa_match,error,extuni,find_bracket,jit_compile,maketables,match,match_data,newline,ord2utf,pattern_info,script_run,serialize,string_utils,study,substitute,substring,tables,ucd,valid_utf,xclass}.c
cp pcre2-10.42/src/pcre2.h "$prefix/include"

# SQLite's one file is made by a script of its own.
(cd sqlite3-3.40.1 && ./configure >/dev/null 2>&1 && make sqlite3.c >/dev/null 2>&1)
library sqlite3 sqlite3 3.40.1 sqlite3-3.40.1 "-DSQLITE_THREADSAFE=1" sqlite3.c
cp sqlite3-3.40.1/sqlite3.h "$prefix/include"

include=libsodium-1.0.18/src/libsodium/include
sed -e s/@VERSION@/1.0.18/ -e s/@SODIUM_LIBRARY_VERSION_MAJOR@/10/ -e s/@SODIUM_LIBRARY_VERSION_MINOR@/3/ \
    -e s/@SODIUM_LIBRARY_MINIMAL_DEF@// $include/sodium/version.h.in >$include/sodium/version.h
library sodium libsodium 1.0.18 libsodium-1.0.18/src/libsodium "-Iinclude -Iinclude/sodium -DCONFIGURED=1 \
-DNATIVE_LITTLE_ENDIAN=1 -DHAVE_TI_MODE=1 -DHAVE_PTHREAD=1 -DHAVE_ATOMIC_OPS=1 -DHAVE_SYS_MMAN_H=1 -DHAVE_MMAP=1 -DHAVE_MLOCK=1 \
-DHAVE_MPROTECT=1 -DHAVE_ARC4RANDOM=1 -DHAVE_GETPID=1 -DHAVE_POSIX_MEMALIGN=1 -DHAVE_NANOSLEEP=1" \
    $(cd libsodium-1.0.18/src/libsodium && find . -name '*.c' -printf '%P\n')
cp -r $include/sodium.h $include/sodium "$prefix/include"
