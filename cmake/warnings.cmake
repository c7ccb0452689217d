# The flags that every file of ours is built with. Contraction is off so that the plain-C reference means what it says
# on every machine; kernels name their fused multiply-adds.
add_library(samepage_flags INTERFACE)
target_compile_options(samepage_flags INTERFACE
  -Wall -Wextra -Wpedantic -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
  -fno-math-errno -ffp-contract=off -fno-omit-frame-pointer)
target_compile_definitions(samepage_flags INTERFACE _GNU_SOURCE _DARWIN_C_SOURCE)
target_include_directories(samepage_flags INTERFACE
  "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/src")
if(SAMEPAGE_SANITIZE)
  target_compile_options(samepage_flags INTERFACE -fsanitize=${SAMEPAGE_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(samepage_flags INTERFACE -fsanitize=${SAMEPAGE_SANITIZE})
endif()
if(SAMEPAGE_FUZZ)
  target_compile_options(samepage_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
