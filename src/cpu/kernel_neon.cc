// AArch64 NEON kernels: 8x8 float32, 8x4 float64.
#include "cpu/kernel_impl.h"

namespace dropgemm::cpu {

extern const Isa kIsa_neon;
const Isa kIsa_neon = {"neon", Kernel<F32, 16, 8, 2>::table(), Kernel<F64, 16, 8, 2>::table(),
                       Kernel<BF16AsF32, 16, 8, 2>::table(), nullptr};

}  // namespace dropgemm::cpu
