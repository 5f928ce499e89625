// dropgemm._xla: the C++ library as XLA's typed foreign functions, which dropgemm.jax registers.
// XLA calls them from threads of its own, several at a time, without Python's lock.
//
// Built against jaxlib's headers. XLA takes handlers of headers as old as its own or older, so a
// package for others is built against the oldest jaxlib that it is to work with.
#include <string>

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "targets.h"

namespace dropgemm::python {

namespace nb = nanobind;

namespace {

nb::capsule target(XLA_FFI_Handler* handler) {
  return nb::capsule(reinterpret_cast<void*>(handler));
}

using Targets = nb::typed<nb::dict, nb::str, nb::capsule>;

Targets cpu_targets() {
  Targets targets;
  targets["matmul"] = target(dropgemm_matmul);
  targets["bernoulli_mask"] = target(dropgemm_bernoulli_mask);
  targets["gyro_mask"] = target(dropgemm_gyro_mask);
  targets["pattern_mask"] = target(dropgemm_pattern_mask);
  targets["compact"] = target(dropgemm_compact);
  targets["expand"] = target(dropgemm_expand);
  return targets;
}

}  // namespace

}  // namespace dropgemm::python

NB_MODULE(_xla, module) {
  module.doc() = "The C++ core of dropgemm for XLA; use dropgemm.jax instead.";
  module.def("cpu_targets", dropgemm::python::cpu_targets,
             "The handlers of the CPU by name, as jax.ffi.register_ffi_target takes them.");
  module.attr("API_VERSION") =
      std::to_string(XLA_FFI_API_MAJOR) + "." + std::to_string(XLA_FFI_API_MINOR);
}
