// AVX-512 (F, BW, VL, DQ) kernels: 8x32 float32, 8x16 float64.
#include "cpu/kernel_impl.h"

namespace dropgemm::cpu {

extern const Isa kIsa_avx512;
const Isa kIsa_avx512 = {"avx512", Kernel<F32, 64, 8, 2>::table(), Kernel<F64, 64, 8, 2>::table(),
                         Kernel<BF16AsF32, 64, 8, 2>::table(), nullptr};

}  // namespace dropgemm::cpu
