# cmake -DFOLDER=DIR -DTARGETS=A,B -P build.cmake: builds them. Two builds of a tree may come here at the same time, and
# two ninjas in one folder would be in each other's way.
file(LOCK "${FOLDER}/lock" GUARD PROCESS)
string(REPLACE "," ";" targets "${TARGETS}")
execute_process(COMMAND ${CMAKE_COMMAND} --build "${FOLDER}" --target ${targets}
  OUTPUT_VARIABLE text ERROR_VARIABLE text RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "${text}")
endif()
