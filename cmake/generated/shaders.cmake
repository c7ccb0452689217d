# shaders/*.comp -> shaders/NAME.spv.h, a list of 32-bit words to be included in an array. A shader with a line
# "// variants: NAME=-DA=1,-DB=2 NAME2=..." is built once for each of them.
# A line "// types: NAME=-DA=1 ..." builds each for every weight type, as NAME_q4_0 and so on with -DTYPE=4: those are
# listed in shaders/typed_shaders.def and their words in typed_shaders.inc.
# "// fast types:" does so for all types but MLX's. Variants with -DCOOPERATIVE=1 are left to the compiler that knows
# cooperative matrices.
# Every variant has to pass spirv-val.
set(with_glslang ${CMAKE_COMMAND} -E env "LD_LIBRARY_PATH=${GLSLANG_LIBRARIES}")
set(SHADERS_DIR "${PROJECT_BINARY_DIR}/shaders")
file(MAKE_DIRECTORY "${SHADERS_DIR}")
file(GLOB SHADER_FILES CONFIGURE_DEPENDS "${ROOT}/shaders/*.comp")
file(GLOB SHADER_HEADERS CONFIGURE_DEPENDS "${ROOT}/shaders/*.glsl")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${SHADER_FILES}) # their lists of variants
set(SHADER_OUTPUTS)
# In the order of spi_vk_type.
set(SHADER_TYPES f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 iq4_nl mxfp4 q2_k q3_k q4_k q5_k q6_k iq4_xs
  affine2 affine3 affine4 affine5 affine6 affine8)
set(typed_names)
foreach(shader ${SHADER_FILES})
  get_filename_component(name ${shader} NAME_WE)
  read_variants(${shader} variants variants)
  read_variants(${shader} types families)
  read_variants(${shader} "fast types" fast)
  foreach(family ${families} ${fast})
    split_variant("${family}" family_name defines)
    set(number 0)
    foreach(type ${SHADER_TYPES})
      if(family IN_LIST fast AND type MATCHES "^affine")
        continue()
      endif()
      list(APPEND variants "${family_name}_${type}=-DTYPE=${number},${defines}")
      list(APPEND typed_names ${family_name}_${type})
      math(EXPR number "${number} + 1")
    endforeach()
  endforeach()
  if(NOT variants)
    set(variants "${name}=")
  endif()
  foreach(variant ${variants})
    split_variant("${variant}" out defines)
    string(REPLACE "," ";" defines "${defines}")
    set(output "${SHADERS_DIR}/${out}.spv.h")
    set(binary "${SHADERS_DIR}/${out}.spv")
    set(compile COMMAND ${GLSLC} -O --target-env=vulkan1.2 ${defines} -I "${ROOT}/shaders" ${shader}
      -o ${binary})
    if("-DCOOPERATIVE=1" IN_LIST defines)
      # The optimiser that is linked to it would be another version's. Twice, since a loop around a branch is unrolled
      # behind the others only.
      set(compile
        COMMAND ${with_glslang} ${GLSLANG} --quiet -V --target-env vulkan1.2 ${defines} "-I${ROOT}/shaders"
          ${shader} -o ${binary}
        COMMAND ${with_glslang} ${SPIRV_OPT} -O -O ${binary} -o ${binary}
        COMMAND ${with_glslang} ${CMAKE_COMMAND} -DDISASSEMBLER=${SPIRV_DIS} -DFROM=${binary}
          -P "${CMAKE_CURRENT_SOURCE_DIR}/matrices.cmake")
    endif()
    add_custom_command(OUTPUT ${output}
      ${compile}
      COMMAND ${with_glslang} ${SPIRV_VAL} --target-env vulkan1.2 ${binary}
      COMMAND ${CMAKE_COMMAND} -DFROM=${binary} -DTO=${output} -P "${CMAKE_CURRENT_SOURCE_DIR}/words.cmake"
      DEPENDS ${shader} ${SHADER_HEADERS} "${CMAKE_CURRENT_SOURCE_DIR}/words.cmake"
        "${CMAKE_CURRENT_SOURCE_DIR}/matrices.cmake" VERBATIM)
    list(APPEND SHADER_OUTPUTS ${output})
  endforeach()
endforeach()
set(typed_list)
set(typed_words)
foreach(name ${typed_names})
  string(APPEND typed_list "SHADER(${name})\n")
  string(APPEND typed_words "static const uint32_t words_${name}[] = {\n#include \"${name}.spv.h\"\n};\n")
endforeach()
file(CONFIGURE OUTPUT "${SHADERS_DIR}/typed_shaders.def" CONTENT "${typed_list}" @ONLY)
file(CONFIGURE OUTPUT "${SHADERS_DIR}/typed_shaders.inc" CONTENT "${typed_words}" @ONLY)
add_custom_target(shaders DEPENDS ${SHADER_OUTPUTS})
list(JOIN SHADER_OUTPUTS "\n" text)
file(CONFIGURE OUTPUT "${SHADERS_DIR}/outputs.txt" CONTENT "${text}\n" @ONLY)
