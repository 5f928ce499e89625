// Tensor cores as one warp sees them: matrices of 8 rows of 16 bytes from shared memory
// (ldmatrix), and 16 x 8 sums (mma.sync). Registers hold what the PTX manual says, which is all the
// emulator knows of them too.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cuda/device.h"
#include "cuda/number.h"

namespace dropgemm::cuda {

// Number of depths that one mma of E takes: 32 bytes.
template <class E>
constexpr std::int32_t kMmaDepth = 32 / static_cast<std::int32_t>(sizeof(E));

#if defined(__CUDACC__)

// Four 8 x 8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8.
// Lane i receives elements 2 * (i % 4) and the next of row i / 4, with kTransposed of column i / 4.
template <bool kTransposed>
DROPGEMM_DEVICE void load_matrices(const void* row, std::uint32_t (&r)[4]) {
  const auto from = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
  }
}

// d += a b, a 16 x kMmaDepth<E>, b kMmaDepth<E> x 8.
template <class E>
DROPGEMM_DEVICE void multiply_add(const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                                  float (&d)[4]) {
  static_assert(sizeof(E) == 2 || sizeof(E) == 4, "bfloat16, float16 or tf32");
  if constexpr (std::is_same_v<E, Float16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else if constexpr (sizeof(E) == 4) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

// The nearest number of 10 bits of precision, of a float32's bits.
DROPGEMM_DEVICE std::uint32_t rounded_to_tf32(std::uint32_t bits) {
  std::uint32_t rounded;
  asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(rounded) : "f"(__uint_as_float(bits)));
  return rounded;
}

#elif defined(DROPGEMM_CUDA_EMULATED)

template <bool kTransposed>
void load_matrices(const void* row, std::uint32_t (&r)[4]) {
  const void* const* const rows = emulator::exchange(row);
  const std::int32_t lane = emulator::lane();
  for (std::int32_t matrix = 0; matrix < 4; ++matrix) {
    std::uint16_t pair[2];
    for (std::int32_t i = 0; i < 2; ++i) {
      const std::int32_t along = 2 * (lane % 4) + i, across = lane / 4;
      const std::int32_t line = kTransposed ? along : across, at = kTransposed ? across : along;
      std::memcpy(pair + i, static_cast<const char*>(rows[8 * matrix + line]) + 2 * at, 2);
    }
    r[matrix] = pair[0] | std::uint32_t{pair[1]} << 16;
  }
}

namespace emulated {

// What a lane brings to an mma, and what it takes away.
struct MmaLane {
  std::uint32_t a[4], b[2];
  float d[4];
};

// Element `i` of those that a register holds.
template <class E>
float element_of(std::uint32_t word, std::int32_t i) {
  E element;
  std::memcpy(&element, reinterpret_cast<const char*>(&word) + i * sizeof(E), sizeof element);
  return Number<E>::load(element);
}

// By the last lane of a warp that comes, for all of them.
template <class E>
void multiply_add(MmaLane* lanes) {
  constexpr std::int32_t kDepth = kMmaDepth<E>, kPacked = 4 / sizeof(E);
  float a[16][kDepth], b[kDepth][8];
  for (std::int32_t lane = 0; lane < kWarp; ++lane) {
    const std::int32_t group = lane / 4, first = lane % 4 * kPacked;
    for (std::int32_t i = 0; i < kPacked; ++i) {
      for (std::int32_t half = 0; half < 2; ++half) {
        const std::int32_t k = half * kDepth / 2 + first + i;
        b[k][group] = element_of<E>(lanes[lane].b[half], i);
        for (std::int32_t eight = 0; eight < 2; ++eight) {
          a[8 * eight + group][k] = element_of<E>(lanes[lane].a[2 * half + eight], i);
        }
      }
    }
  }
  for (std::int32_t m = 0; m < 16; ++m) {
    float sums[8] = {};
    for (std::int32_t k = 0; k < kDepth; ++k) {
      for (std::int32_t n = 0; n < 8; ++n) sums[n] += a[m][k] * b[k][n];
    }
    for (std::int32_t n = 0; n < 8; ++n) lanes[m % 8 * 4 + n / 2].d[m / 8 * 2 + n % 2] += sums[n];
  }
}

}  // namespace emulated

template <class E>
void multiply_add(const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1, float (&d)[4]) {
  emulated::MmaLane mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}, {d[0], d[1], d[2], d[3]}};
  const auto* const all = emulator::exchange(mine, emulated::multiply_add<E>);
  std::memcpy(d, all[emulator::lane()].d, sizeof d);
}

inline std::uint32_t rounded_to_tf32(std::uint32_t bits) {
  const bool is_finite = (bits & 0x7F800000U) != 0x7F800000U;
  return is_finite ? (bits + 0x1000U) & ~0x1FFFU : bits;
}

#endif

}  // namespace dropgemm::cuda
