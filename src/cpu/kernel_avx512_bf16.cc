// Kernels of AVX-512's instructions for bfloat16 (BF16, with F, BW, VL, DQ): 8x32.
#include "cpu/kernel_impl.h"

namespace dropgemm::cpu {

extern const BFloat16Kernels kBFloat16_avx512;
const BFloat16Kernels kBFloat16_avx512 = {Kernel<BF16, 64, 8, 2>::table(),
                                          Kernel<F32AsBF16, 64, 8, 2>::table()};

}  // namespace dropgemm::cpu
