# shaders/*.comp -> build/shaders/NAME.spv.h, a list of 32-bit words to be included in an array. A shader with a line
# "// variants: NAME=-DA=1,-DB=2 NAME2=..." is built once for each of them.
# A line "// types: NAME=-DA=1 ..." builds each for every weight type, as NAME_q4_0 and so on with -DTYPE=4: those are
# listed in build/shaders/typed_shaders.def and their words in typed_shaders.inc.
# "// fast types:" does so for all types but MLX's. Variants with -DCOOPERATIVE=1 are left to the compiler that knows
# cooperative matrices.
# Every variant has to pass spirv-val.
set(glslang_dir "${PROJECT_SOURCE_DIR}/.deps/glslang")
find_program(GLSLANG glslang PATHS "${glslang_dir}/bin" NO_DEFAULT_PATH)
find_program(SPIRV_VALIDATOR spirv-val PATHS "${glslang_dir}/bin" NO_DEFAULT_PATH)
find_program(SPIRV_OPTIMISER spirv-opt PATHS "${glslang_dir}/bin" NO_DEFAULT_PATH)
find_program(SPIRV_DISASSEMBLER spirv-dis PATHS "${glslang_dir}/bin" NO_DEFAULT_PATH)
if(NOT GLSLANG OR NOT SPIRV_VALIDATOR OR NOT SPIRV_OPTIMISER OR NOT SPIRV_DISASSEMBLER)
  message(FATAL_ERROR "glslang and SPIRV-Tools are not in ${glslang_dir}: run tools/bootstrap.sh")
endif()
set(with_glslang ${CMAKE_COMMAND} -E env "LD_LIBRARY_PATH=${glslang_dir}/lib")
file(GLOB SHADER_FILES CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/shaders/*.comp")
file(GLOB SHADER_HEADERS CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/shaders/*.glsl")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${SHADER_FILES}) # their lists of variants
set(SHADER_OUTPUTS)
# In the order of spi_vk_type.
set(SHADER_TYPES f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 iq4_nl mxfp4 q2_k q3_k q4_k q5_k q6_k iq4_xs
  affine2 affine3 affine4 affine5 affine6 affine8)
set(typed_names)
foreach(shader ${SHADER_FILES})
  get_filename_component(name ${shader} NAME_WE)
  file(STRINGS ${shader} line REGEX "^// variants:" LIMIT_COUNT 1)
  string(REGEX REPLACE "^// variants: *" "" line "${line}")
  separate_arguments(variants UNIX_COMMAND "${line}")
  file(STRINGS ${shader} line REGEX "^// types:" LIMIT_COUNT 1)
  string(REGEX REPLACE "^// types: *" "" line "${line}")
  separate_arguments(families UNIX_COMMAND "${line}")
  file(STRINGS ${shader} lines REGEX "^// fast types:")
  string(REGEX REPLACE "// fast types: *" "" lines "${lines}")
  string(REPLACE ";" " " lines "${lines}")
  separate_arguments(fast UNIX_COMMAND "${lines}")
  foreach(family ${families} ${fast})
    string(FIND "${family}" "=" equals)
    string(SUBSTRING "${family}" 0 ${equals} family_name)
    math(EXPR after "${equals} + 1")
    string(SUBSTRING "${family}" ${after} -1 defines)
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
    string(FIND "${variant}" "=" equals)
    string(SUBSTRING "${variant}" 0 ${equals} out)
    math(EXPR after "${equals} + 1")
    string(SUBSTRING "${variant}" ${after} -1 defines)
    string(REPLACE "," ";" defines "${defines}")
    set(output "${PROJECT_BINARY_DIR}/shaders/${out}.spv.h")
    set(binary "${PROJECT_BINARY_DIR}/shaders/${out}.spv")
    set(compile COMMAND ${GLSLC} -O --target-env=vulkan1.2 ${defines} -I "${PROJECT_SOURCE_DIR}/shaders" ${shader}
      -o ${binary})
    if("-DCOOPERATIVE=1" IN_LIST defines)
      # The optimiser that is linked to it would be another version's.
      set(compile
        COMMAND ${with_glslang} ${GLSLANG} --quiet -V --target-env vulkan1.2 ${defines} "-I${PROJECT_SOURCE_DIR}/shaders"
          ${shader} -o ${binary}
        COMMAND ${with_glslang} ${SPIRV_OPTIMISER} -O ${binary} -o ${binary}
        COMMAND ${with_glslang} ${CMAKE_COMMAND} -DDISASSEMBLER=${SPIRV_DISASSEMBLER} -DFROM=${binary}
          -P "${PROJECT_SOURCE_DIR}/cmake/matrices.cmake")
    endif()
    add_custom_command(OUTPUT ${output}
      COMMAND ${CMAKE_COMMAND} -E make_directory "${PROJECT_BINARY_DIR}/shaders"
      ${compile}
      COMMAND ${with_glslang} ${SPIRV_VALIDATOR} --target-env vulkan1.2 ${binary}
      COMMAND ${CMAKE_COMMAND} -DFROM=${binary} -DTO=${output} -P "${PROJECT_SOURCE_DIR}/cmake/words.cmake"
      DEPENDS ${shader} ${SHADER_HEADERS} "${PROJECT_SOURCE_DIR}/cmake/words.cmake"
        "${PROJECT_SOURCE_DIR}/cmake/matrices.cmake" VERBATIM)
    list(APPEND SHADER_OUTPUTS ${output})
  endforeach()
endforeach()
set(typed_list)
set(typed_words)
foreach(name ${typed_names})
  string(APPEND typed_list "SHADER(${name})\n")
  string(APPEND typed_words "static const uint32_t words_${name}[] = {\n#include \"${name}.spv.h\"\n};\n")
endforeach()
file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/shaders/typed_shaders.def" CONTENT "${typed_list}" @ONLY)
file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/shaders/typed_shaders.inc" CONTENT "${typed_words}" @ONLY)
add_custom_target(samepage_shaders DEPENDS ${SHADER_OUTPUTS})
