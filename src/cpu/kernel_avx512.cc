// AVX-512 (F, BW, VL, DQ) kernels: 8x32 float32, 8x16 float64.
#include "cpu/kernel_impl.h"

namespace dropgemm::cpu {

extern const Isa kIsa_avx512;
const Isa kIsa_avx512 = {"avx512", Kernel<float, 64, 8, 2>::table(),
                         Kernel<double, 64, 8, 2>::table()};

}  // namespace dropgemm::cpu
