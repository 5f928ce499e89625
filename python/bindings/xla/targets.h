// The foreign functions of the extension module; module.cc gives them to Python.
#pragma once

#include "xla/ffi/api/ffi.h"

namespace dropgemm::python {

// One function, by the name that programs call it by after "dropgemm.".
struct Target {
  const char* name;
  XLA_FFI_Handler* on_cpu;
  XLA_FFI_Handler* on_cuda;
};

extern const Target kMatmul, kMatmulInWorkspace;
extern const Target kBernoulliMask, kGyroMask, kPatternMask;
extern const Target kCompact, kExpand;

}  // namespace dropgemm::python
