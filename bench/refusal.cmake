# A program refuses an argument: exit status 2, the message, and the axes it has.
execute_process(COMMAND ${PROGRAM} ${ARGUMENT} RESULT_VARIABLE status ERROR_VARIABLE text
                OUTPUT_QUIET)
if(NOT status EQUAL 2)
  message(FATAL_ERROR "expected exit status 2, got '${status}':\n${text}")
endif()
foreach(wanted "${MESSAGE}" "Axes, each --axis=value,value:")
  string(FIND "${text}" "${wanted}" position)
  if(position EQUAL -1)
    message(FATAL_ERROR "expected '${wanted}', got:\n${text}")
  endif()
endforeach()
