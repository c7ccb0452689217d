# What is not ours: found here and nowhere else. tools/bootstrap.sh installs all of it.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(SODIUM REQUIRED IMPORTED_TARGET libsodium)
pkg_check_modules(SQLITE REQUIRED IMPORTED_TARGET sqlite3)

pkg_check_modules(CJSON REQUIRED IMPORTED_TARGET libcjson)

find_library(WASMTIME_LIBRARY NAMES wasmtime PATHS "${SAMEPAGE_WASMTIME_DIR}" NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH)
if(NOT WASMTIME_LIBRARY)
  message(FATAL_ERROR "libwasmtime.so is not in ${SAMEPAGE_WASMTIME_DIR}: run tools/bootstrap.sh")
endif()
add_library(wasmtime SHARED IMPORTED)
set_target_properties(wasmtime PROPERTIES IMPORTED_LOCATION "${WASMTIME_LIBRARY}" IMPORTED_NO_SONAME TRUE)

if(SAMEPAGE_VULKAN)
  find_program(GLSLC glslc REQUIRED)
  pkg_check_modules(VULKAN REQUIRED IMPORTED_TARGET vulkan) # the headers; the loader is opened at run time
endif()

find_program(WASM_CLANG NAMES clang clang-14 REQUIRED)
