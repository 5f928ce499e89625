// Packing of every ISA: an operand's lines into panels of kP lanes, through squares that are
// transposed where the lines run along the depth.
#pragma once

#include "cpu/kernel_convert.h"

namespace dropgemm::cpu {
namespace {

inline std::int64_t at(const std::int32_t* index, std::int64_t i) {
  return index != nullptr ? index[i] : i;
}
// Indices ascend, so a range is contiguous iff its ends are as far apart as it is long.
inline bool contiguous(const std::int32_t* index, std::int64_t begin, std::int64_t count) {
  return index == nullptr || index[begin + count - 1] - index[begin] == count - 1;
}

inline std::int64_t magnitude(std::int64_t stride) { return stride < 0 ? -stride : stride; }

// kRegister: words of a register.
template <class F, int kRegister, int kP>
struct Packing {
  typedef typename F::Storage S;
  typedef typename F::Packed P;
  static constexpr int kDepths = F::kDepths;
  static constexpr std::int64_t kPrefetchRows = 8;
  static constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(S));

  // The narrowest power of two that holds kP lanes, or a register.
  static constexpr int square_width() {
    int w = 2;
    while (w * 2 <= kRegister && w < kP) w *= 2;
    return w;
  }
  // The widest power of two that divides kP, or a register.
  static constexpr int copy_width() {
    int w = 1;
    while (w * 2 <= kRegister && kP % (w * 2) == 0) w *= 2;
    return w;
  }

  // One word: of the first `depths` rows of depths, what lies at `offset`; the rest is 0.
  static P word(const S* const* row, std::int64_t offset, std::int64_t depths) {
    S depth[kDepths] = {};
    for (int d = 0; d < kDepths && d < depths; ++d) depth[d] = row[d][offset];
    return Words<S, P, 1>::word(depth);
  }

  // ---- lines along the depth --------------------------------------------------------------

  static constexpr int kW = square_width();
  typedef Lanes<P, kW> Square;
  typedef typename Square::V V;

  template <int kStep>
  static void load_rows(const S* const* row, std::int64_t offset, V* r) {
#pragma GCC unroll 16
    for (int i = 0; i < kW; ++i) {
      r[i] = Words<S, P, kW>::template along<kStep>(row[i] + offset);
    }
  }

  // kW words of kW rows, from packed depth k on.
  static void load_square(const PackArgs<F>& x, const S* const* row, std::int64_t k, V* r) {
    static_assert(kMaxStep == 8, "one case a step");
    constexpr int kSpan = kW * kDepths;
    if (contiguous(x.depth_index, k, kSpan)) {
      const std::int64_t offset = at(x.depth_index, k) * x.depth_stride;
      switch (x.depth_stride) {
        case 1:
          return load_rows<1>(row, offset, r);
        case 2:
          return load_rows<2>(row, offset, r);
        case 3:
          return load_rows<3>(row, offset, r);
        case 4:
          return load_rows<4>(row, offset, r);
        case 5:
          return load_rows<5>(row, offset, r);
        case 6:
          return load_rows<6>(row, offset, r);
        case 7:
          return load_rows<7>(row, offset, r);
        case 8:
          return load_rows<8>(row, offset, r);
        default:
          break;
      }
    }
    std::int64_t offset[kSpan];
    for (int j = 0; j < kSpan; ++j) offset[j] = at(x.depth_index, k + j) * x.depth_stride;
    for (int i = 0; i < kW; ++i) {
      S line[kSpan];
      for (int j = 0; j < kSpan; ++j) line[j] = row[i][offset[j]];
      r[i] = Words<S, P, kW>::template along<1>(line);
    }
  }

  static void pack_along_depth(const PackArgs<F>& x, std::int64_t lane, int lanes, P* out) {
    for (int h = 0; h < kP; h += kW) {
      constexpr int kBytes = static_cast<int>(sizeof(P));
      const int width = kP - h < kW ? kP - h : kW;
      const S* row[kW];
      for (int i = 0; i < kW; ++i) {
        const int last = h + i < lanes ? h + i : lanes - 1;
        row[i] = x.source + at(x.lane_index, lane + last) * x.lane_stride;
      }
      for (std::int32_t s = 0; s < x.num_segments; ++s) {
        std::int64_t k = x.segments[s].begin;
        const std::int64_t end = k + x.segments[s].length;
        for (; k + kW * kDepths <= end; k += kW * kDepths) {
          P* o = out + (k - x.depth_origin) / kDepths * kP + h;
          V r[kW];
          load_square(x, row, k, r);
          Square::transpose(r);
          if (width == kW) {
#pragma GCC unroll 16
            for (int i = 0; i < kW; ++i) Square::put(o + i * kP, r[i]);
          } else {
            constexpr int kRest = kP % kW == 0 ? kW : kP % kW;
            for (int i = 0; i < kW; ++i) __builtin_memcpy(o + i * kP, &r[i], kRest * kBytes);
          }
        }
        for (; k < end; k += kDepths) {
          std::int64_t offset[kDepths] = {};
          for (int d = 0; d < kDepths && k + d < end; ++d) {
            offset[d] = at(x.depth_index, k + d) * x.depth_stride;
          }
          P* o = out + (k - x.depth_origin) / kDepths * kP + h;
          for (int i = 0; i < width; ++i) {
            const S* depth[kDepths];
            for (int d = 0; d < kDepths; ++d) depth[d] = row[i] + offset[d];
            o[i] = word(depth, 0, end - k);
          }
        }
      }
    }
  }

  // ---- lines along the lanes --------------------------------------------------------------

  // kP lanes that lie `step` apart, from `offset` on, of the depths of one word; kStep is step
  // where it is one that has loads of its own.
  template <int kStep>
  static void copy(const S* const* row, std::int64_t offset, std::int64_t step, P* out) {
    constexpr int kCopy = copy_width();
    if constexpr (kStep == 1 && kDepths == 1 && sizeof(S) == sizeof(P)) {
      __builtin_memcpy(out, row[0] + offset, kP * sizeof(P));
    } else if constexpr (kStep > 0 && kCopy >= 4) {
#pragma GCC unroll 16
      for (int j = 0; j < kP; j += kCopy) {
        Lanes<P, kCopy>::put(out + j,
                             Words<S, P, kCopy>::template across<kStep>(row, offset + j * kStep));
      }
    } else {
      for (int j = 0; j < kP; ++j) out[j] = word(row, offset + j * step, kDepths);
    }
  }

  // The depth that is packed about `distance` after k of segment s, in the next one maybe.
  static std::int64_t later(const PackArgs<F>& x, std::int32_t s, std::int64_t k,
                            std::int64_t distance) {
    const std::int64_t end = x.segments[s].begin + x.segments[s].length;
    const std::int64_t past = k + distance - end;
    if (past < 0) return k + distance;
    if (s + 1 == x.num_segments) return end - 1;
    const Segment& next = x.segments[s + 1];
    return next.begin + (past < next.length ? past : next.length - 1);
  }

  // Asks for kP lanes, kStep apart, of the depths of a word.
  template <int kStep>
  static void prefetch(const S* const* row, std::int64_t offset) {
    for (int d = 0; d < kDepths; ++d) {
      for (std::int64_t line = 0; line < kP * kStep; line += kLine) {
        __builtin_prefetch(row[d] + offset + line);
      }
      __builtin_prefetch(row[d] + offset + (kP - 1) * kStep);
    }
  }

  // Whole depth rows, all panels of a row together.
  template <int kStep>
  static void pack_along_lanes(const PackArgs<F>& x) {
    const std::int64_t step = x.lane_stride, full = x.count / kP * kP;
    const bool flat = contiguous(x.lane_index, x.lane_begin, x.count);
    for (std::int32_t s = 0; s < x.num_segments; ++s) {
      const std::int64_t end = x.segments[s].begin + x.segments[s].length;
      for (std::int64_t k = x.segments[s].begin; k < end; k += kDepths) {
        const std::int64_t depths = end - k;
        const S *row[kDepths] = {}, *next[kDepths] = {};
        for (int d = 0; d < kDepths && d < depths; ++d) {
          row[d] = x.source + at(x.depth_index, k + d) * x.depth_stride;
          next[d] =
              x.source + at(x.depth_index, later(x, s, k + d, kPrefetchRows)) * x.depth_stride;
        }
        for (std::int64_t i = 0; i < full; i += kP) {
          P* o = x.out + i / kP * x.panel_stride + (k - x.depth_origin) / kDepths * kP;
          const std::int64_t p = x.lane_begin + i;
          if (depths >= kDepths && (flat || contiguous(x.lane_index, p, kP))) {
            const std::int64_t first = at(x.lane_index, p) * step;
            prefetch<kStep>(next, first);
            copy<kStep>(row, first, step, o);
          } else {
            for (int j = 0; j < kP; ++j) o[j] = word(row, at(x.lane_index, p + j) * step, depths);
          }
        }
        if (full < x.count) {
          P* o = x.out + full / kP * x.panel_stride + (k - x.depth_origin) / kDepths * kP;
          for (std::int64_t j = 0; j < kP; ++j) {
            const std::int64_t p = full + j;
            o[j] = p < x.count ? word(row, at(x.lane_index, x.lane_begin + p) * step, depths) : P{};
          }
        }
      }
    }
  }

  static void pack(const PackArgs<F>& x) {
    if (magnitude(x.lane_stride) < magnitude(x.depth_stride)) {
      switch (x.lane_stride) {
        case 1:
          return pack_along_lanes<1>(x);
        case 2:
          return pack_along_lanes<2>(x);
        case 3:
          return pack_along_lanes<3>(x);
        case 4:
          return pack_along_lanes<4>(x);
        case 5:
          return pack_along_lanes<5>(x);
        case 6:
          return pack_along_lanes<6>(x);
        case 7:
          return pack_along_lanes<7>(x);
        case 8:
          return pack_along_lanes<8>(x);
        default:
          return pack_along_lanes<0>(x);
      }
    }
    for (std::int64_t i = 0; i < x.count; i += kP) {
      const int lanes = static_cast<int>(x.count - i < kP ? x.count - i : kP);
      pack_along_depth(x, x.lane_begin + i, lanes, x.out + i / kP * x.panel_stride);
    }
  }

  // Zeroes lane i of depth k where bit k of words[i] is 0.
  static void select(P* panel, const std::uint32_t* words, std::int32_t depth) {
    for (std::int32_t k = 0; k < depth; k += kDepths) {
      P* o = panel + static_cast<std::int64_t>(k) / kDepths * kP;
      for (int i = 0; i < kP; ++i) o[i] = kept(o[i], words[i] >> k);
    }
  }
};

}  // namespace
}  // namespace dropgemm::cpu
