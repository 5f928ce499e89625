# How a program ends: its exit status, and what it has to say on the way.
execute_process(COMMAND ${PROGRAM} ${ARGUMENTS} RESULT_VARIABLE status OUTPUT_VARIABLE text
                ERROR_VARIABLE text)
if(NOT status EQUAL STATUS)
  message(FATAL_ERROR "expected exit status ${STATUS}, got '${status}':\n${text}")
endif()
foreach(wanted IN LISTS MESSAGES)
  string(FIND "${text}" "${wanted}" position)
  if(position EQUAL -1)
    message(FATAL_ERROR "expected '${wanted}', got:\n${text}")
  endif()
endforeach()
