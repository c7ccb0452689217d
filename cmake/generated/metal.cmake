# The kernels of src/device/metal/kernels.def, each a variant of a shader in shaders/ or shaders/metal/: GLSL -> SPIR-V
# -> the Metal Shading Language -> metal/NAME.msl.h, its bytes, and metal_kernels.inc, the table of all. A shader with a
# line "// variants: NAME=-DA=1,-DB=2 NAME2=..." gives one kernel for each of them, one without is called as its file.
# Push constants take buffer 0, and the storage buffers' bindings begin with 1: so the numbers are those of GLSL.
find_program(METAL_VALIDATOR spirv-val)
set(METAL_DIR "${PROJECT_BINARY_DIR}/metal")
file(MAKE_DIRECTORY "${METAL_DIR}")
file(STRINGS "${ROOT}/src/device/metal/kernels.def" lines REGEX "^KERNEL\\(")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${ROOT}/src/device/metal/kernels.def")
set(METAL_KERNELS)
foreach(line ${lines})
  string(REGEX REPLACE "^KERNEL\\((.*)\\)$" "\\1" name "${line}")
  list(APPEND METAL_KERNELS ${name})
endforeach()
file(GLOB METAL_SHADERS CONFIGURE_DEPENDS "${ROOT}/shaders/*.comp" "${ROOT}/shaders/metal/*.comp")
file(GLOB METAL_HEADERS CONFIGURE_DEPENDS "${ROOT}/shaders/*.glsl" "${ROOT}/shaders/metal/*.glsl")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${METAL_SHADERS}) # their lists of variants, their sizes

set(METAL_OUTPUTS)
set(METAL_TEXTS)
set(found)
foreach(shader ${METAL_SHADERS})
  get_filename_component(name ${shader} NAME_WE)
  read_variants(${shader} variants variants)
  if(NOT variants)
    set(variants "${name}=")
  endif()
  file(STRINGS ${shader} size REGEX "local_size_x = [0-9]+" LIMIT_COUNT 1)
  string(REGEX REPLACE ".*local_size_x = ([0-9]+).*" "\\1" size "${size}")
  foreach(variant ${variants})
    split_variant("${variant}" out defines)
    if(NOT out IN_LIST METAL_KERNELS)
      continue()
    endif()
    string(REPLACE "," ";" defines "${defines}")
    set(validate)
    if(METAL_VALIDATOR)
      set(validate COMMAND ${METAL_VALIDATOR} --target-env vulkan1.2 "${METAL_DIR}/${out}.spv")
    endif()
    add_custom_command(OUTPUT "${METAL_DIR}/${out}.msl.h" "${METAL_DIR}/${out}.metal"
      COMMAND ${GLSLC} -O --target-env=vulkan1.2 ${defines} -I "${ROOT}/shaders"
        -I "${ROOT}/shaders/metal" ${shader} -o "${METAL_DIR}/${out}.spv"
      ${validate}
      COMMAND ${SPIRV_CROSS} --msl --msl-version 20300 --msl-decoration-binding "${METAL_DIR}/${out}.spv"
        --output "${METAL_DIR}/${out}.metal"
      COMMAND ${CMAKE_COMMAND} "-DINPUT=${METAL_DIR}/${out}.metal" "-DOUTPUT=${METAL_DIR}/${out}.msl.h"
        -P "${CMAKE_CURRENT_SOURCE_DIR}/embed_bytes.cmake"
      DEPENDS ${shader} ${METAL_HEADERS} "${CMAKE_CURRENT_SOURCE_DIR}/embed_bytes.cmake" VERBATIM)
    list(APPEND METAL_OUTPUTS "${METAL_DIR}/${out}.msl.h")
    list(APPEND METAL_TEXTS "${METAL_DIR}/${out}.metal")
    list(APPEND found ${out})
    set(threads_${out} ${size})
  endforeach()
endforeach()

set(text)
set(table)
foreach(name ${METAL_KERNELS})
  if(NOT name IN_LIST found)
    message(FATAL_ERROR "src/device/metal/kernels.def: no shader has a variant ${name}")
  endif()
  string(APPEND text "static const char text_${name}[] = {\n#include \"${name}.msl.h\"\n};\n")
  string(APPEND table "    {\"${name}\", text_${name}, ${threads_${name}}},\n")
endforeach()
file(CONFIGURE OUTPUT "${METAL_DIR}/metal_kernels.inc"
  CONTENT "${text}const spi_mt_source spi_mt_sources[SPI_MT_KERNEL_COUNT] = {\n${table}};\n" @ONLY)
add_custom_target(metal DEPENDS ${METAL_OUTPUTS} ${METAL_TEXTS})
list(JOIN METAL_KERNELS "\n" text)
file(CONFIGURE OUTPUT "${METAL_DIR}/kernels.txt" CONTENT "${text}\n" @ONLY)
list(JOIN METAL_OUTPUTS "\n" text)
list(JOIN METAL_TEXTS "\n" more)
file(CONFIGURE OUTPUT "${METAL_DIR}/outputs.txt" CONTENT "${text}\n${more}\n" @ONLY)
