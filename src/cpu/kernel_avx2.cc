// AVX2 + FMA kernels: 6x16 float32, 6x8 float64.
#include "cpu/kernel_impl.h"

namespace dropgemm::cpu {

extern const Isa kIsa_avx2;
const Isa kIsa_avx2 = {"avx2", Kernel<F32, 32, 6, 2>::table(), Kernel<F64, 32, 6, 2>::table(),
                       Kernel<BF16AsF32, 32, 6, 2>::table(), nullptr};

}  // namespace dropgemm::cpu
