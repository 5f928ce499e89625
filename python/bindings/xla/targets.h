// The foreign functions of the extension module, one a concept; module.cc names them.
#pragma once

#include "xla/ffi/api/ffi.h"

XLA_FFI_DECLARE_HANDLER_SYMBOL(dropgemm_matmul);
XLA_FFI_DECLARE_HANDLER_SYMBOL(dropgemm_bernoulli_mask);
XLA_FFI_DECLARE_HANDLER_SYMBOL(dropgemm_gyro_mask);
XLA_FFI_DECLARE_HANDLER_SYMBOL(dropgemm_pattern_mask);
XLA_FFI_DECLARE_HANDLER_SYMBOL(dropgemm_compact);
XLA_FFI_DECLARE_HANDLER_SYMBOL(dropgemm_expand);
