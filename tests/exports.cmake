# cmake -DNM=nm -DLIBRARY=libdropgemm.so -DHEADERS="a.h;b.h" -P exports.cmake
# Fails unless the library exports exactly the functions that its public headers declare.
set(declared "")
foreach(header IN LISTS HEADERS)
  file(READ ${header} text)
  # A declaration starts at column 0 and is not defined there: inline, constexpr, template, using.
  string(REGEX MATCHALL "\n(\\[\\[nodiscard\\]\\] )?[A-Za-z][A-Za-z_:<>0-9 *&]* [*&]?[a-z_]+\\(" starts
         "${text}")
  # Regular expression matches are lists, and "[" would join their elements.
  string(REGEX REPLACE "\\[\\[nodiscard\\]\\] " "" starts "${starts}")
  foreach(start IN LISTS starts)
    if(NOT start MATCHES "inline |constexpr |MatrixView matrix_view|using ")
      string(REGEX REPLACE ".*[ *&]([a-z_]+)\\($" "\\1" name "${start}")
      list(APPEND declared ${name})
    endif()
  endforeach()
endforeach()
list(REMOVE_DUPLICATES declared)

execute_process(COMMAND ${NM} --dynamic --defined-only --demangle ${LIBRARY}
                OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
string(REPLACE "[abi:cxx11]" "" symbols "${symbols}")
string(REGEX MATCHALL "[^\n]+" symbols "${symbols}")
set(exported "")
foreach(symbol IN LISTS symbols)
  if(symbol MATCHES "^[0-9a-f]+ T dropgemm::([a-z_]+)\\(")
    list(APPEND exported ${CMAKE_MATCH_1})
  else()
    message(SEND_ERROR "exported, but no function of namespace dropgemm: ${symbol}")
  endif()
endforeach()
list(REMOVE_DUPLICATES exported)

set(missing ${declared})
list(REMOVE_ITEM missing ${exported})
set(extra ${exported})
list(REMOVE_ITEM extra ${declared})
if(NOT declared OR missing OR extra)
  message(FATAL_ERROR "src/exports.map against include/dropgemm: declared but not exported: "
                      "'${missing}'; exported but not declared: '${extra}'")
endif()
list(LENGTH exported count)
message(STATUS "${count} exported functions, each declared in a public header")
