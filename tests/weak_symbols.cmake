# cmake -DNM=nm -DOBJECTS="a.o;b.o" -P weak_symbols.cmake
# Fails where an object defines a weak or unique symbol: a linker keeps one copy of those for the
# whole library, and a copy compiled for AVX-512 crashes on a chip without it.
set(found "")
foreach(object IN LISTS OBJECTS)
  execute_process(COMMAND ${NM} --defined-only --demangle ${object} OUTPUT_VARIABLE symbols
                  COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n]* [WVwvu] [^\n]*" weak "${symbols}")
  foreach(symbol IN LISTS weak)
    string(APPEND found "  ${object}: ${symbol}\n")
  endforeach()
endforeach()
if(found)
  message(FATAL_ERROR "expected no weak symbols in ISA objects, got\n${found}")
endif()
