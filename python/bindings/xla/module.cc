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

using Targets = nb::typed<nb::dict, nb::str, nb::capsule>;

Targets targets_of(XLA_FFI_Handler* Target::* handler) {
  Targets targets;
  for (const Target* target : {&kMatmul, &kMatmulInWorkspace, &kBernoulliMask, &kGyroMask,
                               &kPatternMask, &kCompact, &kExpand}) {
    targets[target->name] = nb::capsule(reinterpret_cast<void*>(target->*handler));
  }
  return targets;
}

}  // namespace

}  // namespace dropgemm::python

NB_MODULE(_xla, module) {
  module.doc() = "The C++ core of dropgemm for XLA; use dropgemm.jax instead.";
  using dropgemm::python::Target;
  module.def(
      "cpu_targets", [] { return dropgemm::python::targets_of(&Target::on_cpu); },
      "The handlers of the CPU by name, as jax.ffi.register_ffi_target takes them.");
  module.def(
      "cuda_targets", [] { return dropgemm::python::targets_of(&Target::on_cuda); },
      "The same for CUDA: on XLA's stream, by the cuda backend, which a call looks for first.");
  module.attr("API_VERSION") =
      std::to_string(XLA_FFI_API_MAJOR) + "." + std::to_string(XLA_FFI_API_MINOR);
}
