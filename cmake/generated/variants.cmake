# What a shader's first lines say of the ways in which it is built: NAME=-DA=1,-DB=2 and so on behind "// TAG:".

# All lines with the tag, as a list.
function(read_variants shader tag out)
  file(STRINGS ${shader} lines REGEX "^// ${tag}:")
  string(REGEX REPLACE "// ${tag}: *" "" lines "${lines}")
  string(REPLACE ";" " " lines "${lines}")
  separate_arguments(variants UNIX_COMMAND "${lines}")
  set(${out} ${variants} PARENT_SCOPE)
endfunction()

# Of one of them.
function(split_variant variant name_out defines_out)
  string(FIND "${variant}" "=" equals)
  string(SUBSTRING "${variant}" 0 ${equals} name)
  math(EXPR after "${equals} + 1")
  string(SUBSTRING "${variant}" ${after} -1 defines)
  set(${name_out} ${name} PARENT_SCOPE)
  set(${defines_out} ${defines} PARENT_SCOPE)
endfunction()
