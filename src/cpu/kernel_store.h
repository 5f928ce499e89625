// The epilogue of every ISA: a tile of sums on its way to D.
#pragma once

#include <cstring>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#include "cpu/kernel_math.h"
#include "cpu/kernel_pack.h"

namespace dropgemm::cpu {
namespace {

constexpr std::int32_t kActNone = 0, kActRelu = 1, kActGeluErf = 2, kActGeluTanh = 3;

// How a tile's columns lie in D and in the arrays beside it.
enum class Columns {
  kSideBySide,
  kApart,      // e.step apart in all of them, zeros between in D and aux_out
  kAnyStride,  // anything else
};

// Tiles of kNv vectors of kLanes on their way to arrays of S.
template <class S, int kLanes, int kNv>
struct Storing {
  typedef typename SumOf<S>::Type T;
  static constexpr int kNr = kNv * kLanes;
  typedef Lanes<T, kLanes> Register;
  typedef typename Register::V Vector;
  typedef Lanes<S, kLanes> Line;

  // Zeros in the tile's span of row m of D or aux_out, but for its columns.
  static void clear_between(const Epilogue<S>& e, const TileStore<T>& t, const Plane<S>& out,
                            std::int64_t m) {
    S* row = out.data + m * out.row_stride + t.col_begin * e.step - e.before;
    for (std::int32_t j = 0, column = e.before; j < t.span; ++j) {
      if (j == column) {
        column += e.step;
      } else {
        row[j] = S{};
      }
    }
  }

  // Columns of every array of the epilogue lie e.step apart.
  static bool row_major(const Epilogue<S>& e) {
    return e.d.col_stride == e.step && (e.bias == nullptr || e.bias_stride == e.step) &&
           (e.addend.data == nullptr || e.addend.col_stride == e.step) &&
           (e.aux_out.data == nullptr || e.aux_out.col_stride == e.step) &&
           (e.grad_aux.data == nullptr || e.grad_aux.col_stride == e.step);
  }

  // Whether a tile's part of row m begins with a cache line.
  static bool in_lines(const Epilogue<S>& e, const Plane<S>& out, std::int64_t m, std::int64_t n) {
    const S* begin = out.data + m * out.row_stride + n - e.before;
    return reinterpret_cast<std::uintptr_t>(begin) % 64 == 0 && kNr * sizeof(S) % 64 == 0;
  }

  static Vector activate(std::int32_t activation, Vector z) {
    switch (activation) {
      case kActRelu:
        return z < T(0) ? Vector{} : z;
      case kActGeluErf:
        return Gelu<T, kLanes>::erf(z);
      case kActGeluTanh:
        return Gelu<T, kLanes>::tanh(z);
      default:
        return z;
    }
  }
  static Vector multiply_by_gradient(std::int32_t activation, Vector z, Vector g) {
    switch (activation) {
      case kActRelu:
        return z <= T(0) ? Vector{} : g;
      case kActGeluErf:
        return g * Gelu<T, kLanes>::erf_slope(z);
      case kActGeluTanh:
        return g * Gelu<T, kLanes>::tanh_slope(z);
      default:
        return g;
    }
  }

  // `count` lanes of a tile's row, the first of them column j of the tile, in one of the arrays;
  // column 0 is column n of the array.
  template <Columns kColumns>
  static Vector get(const Epilogue<S>& e, const TileStore<T>& t, const S* row, std::int64_t stride,
                    std::int64_t n, int j, int count) {
    return Stored<S, kLanes>::widen(line<kColumns>(e, t, row, stride, n, j, count));
  }
  template <Columns kColumns>
  static typename Line::V line(const Epilogue<S>& e, const TileStore<T>& t, const S* row,
                               std::int64_t stride, std::int64_t n, int j, int count) {
    if constexpr (kColumns == Columns::kSideBySide) {
      return count == kLanes ? Line::load(row + n + j) : Line::load_some(row + n + j, count);
    } else if constexpr (kColumns == Columns::kApart) {
      return Line::load_apart(row + (n + j) * e.step, e.step);
    } else {
      S lanes[kLanes] = {};
      for (int l = 0; l < count; ++l) lanes[l] = row[at(t.col_index, t.col_begin + j + l) * stride];
      return Line::load(lanes);
    }
  }
  template <Columns kColumns>
  static void set(const Epilogue<S>& e, const TileStore<T>& t, S* row, std::int64_t stride,
                  std::int64_t n, int j, int count, Vector z, bool around) {
    const typename Line::V line = Stored<S, kLanes>::narrow(z);
    if constexpr (kColumns == Columns::kSideBySide) {
      if (count < kLanes) return Line::put_some(row + n + j, line, count);
      Line::put(row + n + j, line, around);
    } else if constexpr (kColumns == Columns::kApart) {
      Line::put_apart(row + (n + j) * e.step - e.before, line, e.step, e.before, around);
    } else {
      S lanes[kLanes];
      Line::put(lanes, line);
      for (int l = 0; l < count; ++l) row[at(t.col_index, t.col_begin + j + l) * stride] = lanes[l];
    }
  }

  // Whether sums have but to be scaled: no other array, no mask, no activation, all of the width.
  static bool only_sums(const Epilogue<S>& e, const TileStore<T>& t) {
    return e.addend.data == nullptr && e.bias == nullptr && e.aux_out.data == nullptr &&
           e.grad_aux.data == nullptr && e.activation == kActNone && t.keep == nullptr &&
           !t.add_partial && t.is_final && t.cols == kNr;
  }

  // only_sums(), where nothing is to be asked again at every vector: a third of the time.
  template <Columns kColumns>
  static void store_sums(const Epilogue<S>& e, const TileStore<T>& t) {
    const std::int64_t n = at(t.col_index, t.col_begin);
    for (std::int32_t i = 0; i < t.rows; ++i) {
      const std::int64_t m = at(t.row_index, t.row_begin + i);
      const bool around = e.stream && in_lines(e, e.d, m, n * e.step);
      S* row = e.d.data + m * e.d.row_stride;
#pragma GCC unroll 8
      for (int j = 0; j < kNr; j += kLanes) {
        const Vector z = Register::load(t.acc + i * kNr + j) * e.scale * e.out_scale;
        set<kColumns>(e, t, row, e.d.col_stride, n, j, kLanes, z, around);
      }
    }
  }

  template <Columns kColumns>
  static void store_rows(const Epilogue<S>& e, const TileStore<T>& t) {
    if constexpr (kColumns != Columns::kAnyStride) {
      if (only_sums(e, t)) return store_sums<kColumns>(e, t);
    }
    const std::int64_t n = at(t.col_index, t.col_begin);
    for (std::int32_t i = 0; i < t.rows; ++i) {
      const std::int64_t m = at(t.row_index, t.row_begin + i);
      // Whole lines only: a line that is written both ways is written twice.
      const bool around = e.stream && t.cols == kNr && in_lines(e, e.d, m, n * e.step) &&
                          (e.aux_out.data == nullptr || in_lines(e, e.aux_out, m, n * e.step));
      const std::uint32_t kept = t.keep != nullptr ? t.keep[i] : ~0U;
      const auto read = [&](const Plane<const S>& from, int j, int count) {
        const S* row = from.data + m * from.row_stride;
        return get<kColumns>(e, t, row, from.col_stride, n, j, count);
      };
      const auto write = [&](const Plane<S>& to, int j, int count, Vector z) {
        S* row = to.data + m * to.row_stride;
        set<kColumns>(e, t, row, to.col_stride, n, j, count, z, around);
      };
      for (int j = 0; j < t.cols; j += kLanes) {
        const int count = t.cols - j < kLanes ? t.cols - j : kLanes;
        Vector z = Register::load(t.acc + i * kNr + j);
        if (t.add_partial) z += read({e.d.data, e.d.row_stride, e.d.col_stride}, j, count);
        if (t.is_final) {
          z *= e.scale;
          if (e.addend.data != nullptr) z += read(e.addend, j, count);
          if (e.bias != nullptr) z += read({e.bias, 0, e.bias_stride}, j, count);
          const bool selects = t.keep != nullptr;
          if (e.aux_out.data != nullptr) {
            write(e.aux_out, j, count, selects ? Register::keep(z, kept >> j) : z);
          }
          z = activate(e.activation, z) * e.out_scale;
          if (e.grad_aux.data != nullptr) {
            z = multiply_by_gradient(e.grad_activation, read(e.grad_aux, j, count), z);
          }
          if (selects) z = Register::keep(z, kept >> j);
        }
        write(e.d, j, count, z);
      }
      if (kColumns == Columns::kAnyStride && e.step > 1 && t.is_final) {
        clear_between(e, t, e.d, m);
        if (e.aux_out.data != nullptr) clear_between(e, t, e.aux_out, m);
      }
    }
  }

  static void store(const Epilogue<S>& e, const TileStore<T>& t) {
    if (!row_major(e) || !contiguous(t.col_index, t.col_begin, t.cols)) {
      store_rows<Columns::kAnyStride>(e, t);
    } else if (e.step == 1) {
      store_rows<Columns::kSideBySide>(e, t);
    } else if (t.span == kNr * e.step) {
      store_rows<Columns::kApart>(e, t);
    } else {
      store_rows<Columns::kAnyStride>(e, t);
    }
  }

  static void stream_zeros(S* out, std::int64_t count) {
    std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(S));
#if defined(__AVX__)
    if (reinterpret_cast<std::uintptr_t>(out) % 64 == 0 && bytes % 64 == 0) {
      for (char* line = reinterpret_cast<char*>(out); bytes > 0; bytes -= 64, line += 64) {
        _mm256_stream_si256(reinterpret_cast<__m256i*>(line), _mm256_setzero_si256());
        _mm256_stream_si256(reinterpret_cast<__m256i*>(line + 32), _mm256_setzero_si256());
      }
      return;
    }
#endif
    memset(out, 0, static_cast<std::size_t>(bytes));
  }
};

}  // namespace
}  // namespace dropgemm::cpu
