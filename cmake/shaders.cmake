# shaders/*.comp -> build/shaders/NAME.spv.h, a list of 32-bit words to be included in an array. A shader with a line
# "// variants: NAME=-DA=1,-DB=2 NAME2=..." is built once for each of them.
# Where spirv-val is installed, every variant has to pass it.
find_program(SPIRV_VAL spirv-val)
file(GLOB SHADER_FILES CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/shaders/*.comp")
file(GLOB SHADER_HEADERS CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/shaders/*.glsl")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${SHADER_FILES}) # their lists of variants
set(SHADER_OUTPUTS)
foreach(shader ${SHADER_FILES})
  get_filename_component(name ${shader} NAME_WE)
  file(STRINGS ${shader} line REGEX "^// variants:" LIMIT_COUNT 1)
  string(REGEX REPLACE "^// variants: *" "" line "${line}")
  separate_arguments(variants UNIX_COMMAND "${line}")
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
    set(compile ${GLSLC} -O --target-env=vulkan1.2 ${defines} -I "${PROJECT_SOURCE_DIR}/shaders" ${shader})
    set(binary "${PROJECT_BINARY_DIR}/shaders/${out}.spv")
    set(validate)
    if(SPIRV_VAL)
      set(validate COMMAND ${SPIRV_VAL} --target-env vulkan1.2 ${binary})
    endif()
    add_custom_command(OUTPUT ${output}
      COMMAND ${CMAKE_COMMAND} -E make_directory "${PROJECT_BINARY_DIR}/shaders"
      COMMAND ${compile} -o ${binary}
      ${validate}
      COMMAND ${compile} -mfmt=num -o ${output}
      DEPENDS ${shader} ${SHADER_HEADERS} VERBATIM)
    list(APPEND SHADER_OUTPUTS ${output})
  endforeach()
endforeach()
add_custom_target(samepage_shaders DEPENDS ${SHADER_OUTPUTS})
