# src/device/cuda/kernels/NAME.cu -> build/cuda/NAME.fatbin, embedded as spi_cuda_image_NAME. A fatbin holds machine
# code for Ampere (8.0 and later of that generation), Hopper and consumer Blackwell, and PTX, which drivers translate
# for cards to come. nvcc is the one on PATH or that of tools/bootstrap.sh --cuda; nothing of NVIDIA's is linked.
find_program(NVCC nvcc HINTS "${PROJECT_SOURCE_DIR}/.deps/cuda/bin" ENV CUDA_HOME PATH_SUFFIXES bin)
if(NOT NVCC)
  message(FATAL_ERROR "SAMEPAGE_CUDA needs nvcc: install CUDA's toolkit, or run tools/bootstrap.sh --cuda")
endif()
execute_process(COMMAND ${NVCC} --version OUTPUT_VARIABLE nvcc_version RESULT_VARIABLE nvcc_failed)
string(REGEX MATCH "release ([0-9]+)\\.([0-9]+)" matched "${nvcc_version}")
if(nvcc_failed OR NOT matched)
  message(FATAL_ERROR "${NVCC} does not say which release it is of")
endif()
math(EXPR CUDA_VERSION "${CMAKE_MATCH_1} * 1000 + ${CMAKE_MATCH_2} * 10")
set(CUDA_ARCHITECTURES 80 90a 120) # 90a: 9.0 with what only Hopper has
if(CUDA_VERSION LESS 12080)
  list(REMOVE_ITEM CUDA_ARCHITECTURES 120)
endif()
set(SAMEPAGE_CUDA_ARCHITECTURES "${CUDA_ARCHITECTURES}" CACHE STRING "Cards to make machine code for; there is PTX, too")
option(SAMEPAGE_CUDA_MARKS "Kernels note clocks for bench_cuda --profile, which makes them a little slower" OFF)
set(CUDA_DEFINITIONS)
if(SAMEPAGE_CUDA_MARKS)
  list(APPEND CUDA_DEFINITIONS -DSPI_CU_MARKS)
endif()
set(CUDA_TARGETS -gencode=arch=compute_90,code=compute_90)
foreach(architecture ${SAMEPAGE_CUDA_ARCHITECTURES})
  list(APPEND CUDA_TARGETS -gencode=arch=compute_${architecture},code=sm_${architecture})
endforeach()

# Most of the time goes into one file, which ninja alone would leave to one processor: kernels of a file and
# architectures are compiled side by side, to the same code.
set(CUDA_PARALLEL)
if(NOT CUDA_VERSION LESS 12020)
  set(CUDA_PARALLEL --threads 0 --split-compile=0)
endif()

file(GLOB CUDA_KERNELS CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/device/cuda/kernels/*.cu")
set(CUDA_IMAGES)
foreach(kernel ${CUDA_KERNELS})
  get_filename_component(name ${kernel} NAME_WE)
  set(fatbin "${PROJECT_BINARY_DIR}/cuda/${name}.fatbin")
  set(image "${PROJECT_BINARY_DIR}/cuda/${name}.S")
  # Contraction of a * b + c is the default here and wanted; nothing else is traded for speed.
  add_custom_command(OUTPUT ${fatbin}
    COMMAND ${CMAKE_COMMAND} -E make_directory "${PROJECT_BINARY_DIR}/cuda"
    COMMAND ${NVCC} -fatbin -std=c++17 -O3 -Werror all-warnings ${CUDA_PARALLEL} ${CUDA_TARGETS} ${CUDA_DEFINITIONS}
      -I "${PROJECT_SOURCE_DIR}/src" -I "${PROJECT_SOURCE_DIR}/include"
      -MD -MF ${fatbin}.d -o ${fatbin} ${kernel}
    DEPENDS ${kernel} DEPFILE ${fatbin}.d VERBATIM)
  file(CONFIGURE OUTPUT ${image} @ONLY CONTENT [=[
    .section .rodata
    .balign 64
    .globl spi_cuda_image_@name@
    .hidden spi_cuda_image_@name@
spi_cuda_image_@name@:
    .incbin "@fatbin@"
    .section .note.GNU-stack,"",%progbits
]=])
  set_source_files_properties(${image} PROPERTIES OBJECT_DEPENDS ${fatbin})
  list(APPEND CUDA_IMAGES ${image})
endforeach()
