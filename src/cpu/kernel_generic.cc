// Plain C++ kernels for any processor: 4x8 float32, 4x4 float64.
#include "cpu/kernel_impl.h"

namespace dropgemm::cpu {

extern const Isa kIsa_generic;
const Isa kIsa_generic = {"generic", Kernel<F32, 16, 4, 2>::table(), Kernel<F64, 16, 4, 2>::table(),
                          Kernel<BF16AsF32, 16, 4, 2>::table(), nullptr};

}  // namespace dropgemm::cpu
