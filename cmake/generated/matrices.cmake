# cmake -DDISASSEMBLER=spirv-dis -DFROM=NAME.spv -P matrices.cmake: fails if an array of cooperative matrices was left
# by the optimiser. One whose loop cannot be unrolled, which a single count that is no constant is enough for, lies in
# memory, and every product then goes through it: a kernel was slower ten times for that.
execute_process(COMMAND ${DISASSEMBLER} ${FROM} OUTPUT_VARIABLE text RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "${FROM} cannot be disassembled")
endif()
string(REGEX MATCHALL "%[A-Za-z0-9_]+ = OpTypeCooperativeMatrixKHR" types "${text}")
if(NOT types)
  message(FATAL_ERROR "${FROM} has no cooperative matrices")
endif()
foreach(type ${types})
  string(REGEX REPLACE " .*" "" type "${type}")
  if(text MATCHES "OpTypeArray ${type} ")
    message(FATAL_ERROR "${FROM}: an array of cooperative matrices is left: a loop around it is not unrolled")
  endif()
endforeach()
