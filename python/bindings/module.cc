// dropgemm._core: the C++ library as thin functions. It links no framework; array frameworks meet
// it through DLPack, the buffer protocol, or plain addresses (array.h). The Python package checks
// what only a framework knows and allocates results.
#include "module.h"

NB_MODULE(_core, module) {
  module.doc() = "The C++ core of dropgemm; use the functions of the package instead.";
  dropgemm::python::bind_compact(module);
  dropgemm::python::bind_gemm(module);
  dropgemm::python::bind_lstm(module);
  dropgemm::python::bind_mask(module);
  dropgemm::python::bind_pattern(module);
  dropgemm::python::bind_schedule(module);
  dropgemm::python::bind_search(module);
  dropgemm::python::bind_sgd(module);
  dropgemm::python::bind_backend(module);
}
