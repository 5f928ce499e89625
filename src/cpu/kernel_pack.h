// Packing of every ISA: an operand's lines into panels of kP lanes, through squares that are
// transposed where the lines run along the depth.
#pragma once

#include "cpu/kernel_convert.h"
#include "cpu/kernel_pick.h"

namespace dropgemm::cpu {
namespace {

inline std::int64_t at(const std::int32_t* index, std::int64_t i) {
  return index != nullptr ? index[i] : i;
}
// Indices ascend, so a range is contiguous iff its ends are as far apart as it is long.
inline bool contiguous(const std::int32_t* index, std::int64_t begin, std::int64_t count) {
  return index == nullptr || index[begin + count - 1] - index[begin] == count - 1;
}

// `count` <= 32 bits of a row from bit i on; reads no word that has none of them.
inline std::uint32_t bits_at(const std::uint32_t* row, std::int64_t i, int count) {
  const int shift = static_cast<int>(i % 32);
  const std::uint32_t low = row[i / 32] >> shift;
  return shift + count > 32 ? low | row[i / 32 + 1] << (32 - shift) : low;
}
inline const std::uint32_t* bits_of(const LineBits& keep, std::int64_t line) {
  return keep.bits != nullptr ? keep.bits + line / keep.lines * keep.words : nullptr;
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

  // kCount elements of a line, by the widest vectors that divide them.
  template <int kCount>
  struct Gather {
    static constexpr int width() {
      int w = 1;
      while (w * 2 * static_cast<int>(sizeof(S)) <= kRegister * static_cast<int>(sizeof(P)) &&
             kCount % (w * 2) == 0) {
        w *= 2;
      }
      return w;
    }
    static constexpr int kV = width();
    Picks<S, kV> picks[kCount / kV];

    bool find(const std::int32_t* index) {
      for (int v = 0; v < kCount / kV; ++v) {
        if (!picks[v].find(index + v * kV)) return false;
      }
      return true;
    }
    void get(const S* line, S* out) const {
#pragma GCC unroll 8
      for (int v = 0; v < kCount / kV; ++v) {
        Lanes<S, kV>::put(out + v * kV, picks[v].get(line));
      }
    }
    void prefetch(const S* line) const {
      for (const Picks<S, kV>& pick : picks) {
        for (std::int64_t i = 0; i < pick.span; i += kLine) {
          __builtin_prefetch(line + pick.first + i);
        }
      }
    }
  };

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
    } else if (x.depth_stride == 1) {
      Gather<kSpan> gather;
      if (gather.find(x.depth_index + k)) {
        for (int i = 0; i < kW; ++i) {
          S line[kSpan];
          gather.get(row[i], line);
          r[i] = Words<S, P, kW>::template along<1>(line);
        }
        return;
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
      const std::uint32_t* keep[kW];
      for (int i = 0; i < kW; ++i) {
        const int last = h + i < lanes ? h + i : lanes - 1;
        row[i] = x.source + at(x.lane_index, lane + last) * x.lane_stride;
        keep[i] = bits_of(x.keep, lane + last);
      }
      for (std::int32_t s = 0; s < x.num_segments; ++s) {
        std::int64_t k = x.segments[s].begin;
        const std::int64_t end = k + x.segments[s].length;
        for (; k + kW * kDepths <= end; k += kW * kDepths) {
          P* o = out + (k - x.depth_origin) / kDepths * kP + h;
          V r[kW];
          load_square(x, row, k, r);
          if (kDepths == 1 && x.keep.bits != nullptr) {
            for (int i = 0; i < kW; ++i) r[i] = Square::keep(r[i], bits_at(keep[i], k, kW));
          }
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
            if (x.keep.bits != nullptr) o[i] = kept(o[i], bits_at(keep[i], k, 1));
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

  // Zeroes what the bits from bit p on drop of `lanes` <= kP lanes, just packed.
  static void select_lanes(const std::uint32_t* keep, std::int64_t p, int lanes, P* out) {
    constexpr int kCopy = copy_width();
    const std::uint32_t bits = bits_at(keep, p, lanes);
#pragma GCC unroll 16
    for (int j = 0; j < kP; j += kCopy) {
      typedef Lanes<P, kCopy> Part;
      Part::put(out + j, Part::keep(Part::load(out + j), bits >> j));
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

  // `lanes` <= kP lanes of a word, one by one.
  static void copy_few(const PackArgs<F>& x, const S* const* row, std::int64_t depths,
                       std::int64_t first, std::int64_t lanes, P* out) {
    for (std::int64_t i = 0; i < kP; ++i) {
      const std::int64_t offset = i < lanes ? at(x.lane_index, first + i) * x.lane_stride : 0;
      out[i] = i < lanes ? word(row, offset, depths) : P{};
    }
  }

  // The rows of a word's depths, as many as there are; `ahead` is the same some rows later.
  static void find_rows(const PackArgs<F>& x, std::int32_t s, std::int64_t k, std::int64_t distance,
                        const S** row, const S** ahead) {
    const std::int64_t left = x.segments[s].begin + x.segments[s].length - k;
    for (int d = 0; d < kDepths && d < left; ++d) {
      row[d] = x.source + at(x.depth_index, k + d) * x.depth_stride;
      ahead[d] = x.source + at(x.depth_index, later(x, s, k + d, distance)) * x.depth_stride;
    }
  }

  // Lanes that lie irregularly in their rows. What goes where is the same for all rows, so panels
  // take several of them at once.
  static void pack_listed(const PackArgs<F>& x) {
    constexpr int kRows = 8;
    const S *row[kRows][kDepths] = {}, *ahead[kRows][kDepths] = {};
    for (std::int32_t s = 0; s < x.num_segments; ++s) {
      const std::int64_t end = x.segments[s].begin + x.segments[s].length;
      for (std::int64_t k = x.segments[s].begin; k < end; k += kRows * kDepths) {
        int rows = 0;
        for (; rows < kRows && k + rows * kDepths < end; ++rows) {
          find_rows(x, s, k + rows * kDepths, kRows * kDepths, row[rows], ahead[rows]);
        }
        P* const out = x.out + (k - x.depth_origin) / kDepths * kP;
        for (std::int64_t i = 0; i < x.count; i += kP) {
          const std::int64_t lanes = x.count - i < kP ? x.count - i : kP;
          const int whole = (end - k) / kDepths < rows ? static_cast<int>((end - k) / kDepths)
                                                       : rows;  // without half a word
          const int done = lanes < kP
                               ? 0
                               : pack_words(row, ahead, whole, x.lane_index + x.lane_begin + i,
                                            out + i / kP * x.panel_stride);
          for (int r = done; r < rows; ++r) {
            copy_few(x, row[r], end - k - r * kDepths, x.lane_begin + i, lanes,
                     out + i / kP * x.panel_stride + r * kP);
          }
        }
      }
    }
  }
  // Words of kP lanes, where they lie close enough; returns how many are done.
  static int pack_words(const S* const (*row)[kDepths], const S* const (*ahead)[kDepths], int rows,
                        const std::int32_t* index, P* out) {
    if (contiguous(index, 0, kP)) {
      for (int r = 0; r < rows; ++r) {
        prefetch<1>(ahead[r], index[0]);
        copy<1>(row[r], index[0], 1, out + r * kP);
      }
      return rows;
    }
    Gather<kP> gather;
    if (!gather.find(index)) return 0;
    for (int r = 0; r < rows; ++r) {
      S lines[kDepths][kP];
      const S* line[kDepths];
      for (int d = 0; d < kDepths; ++d) {
        gather.prefetch(ahead[r][d]);
        gather.get(row[r][d], lines[d]);
        line[d] = lines[d];
      }
      copy<1>(line, 0, 1, out + r * kP);
    }
    return rows;
  }

  // Whole depth rows, all panels of a row together.
  template <int kStep>
  static void pack_along_lanes(const PackArgs<F>& x) {
    const std::int64_t step = x.lane_stride, full = x.count / kP * kP;
    for (std::int32_t s = 0; s < x.num_segments; ++s) {
      const std::int64_t end = x.segments[s].begin + x.segments[s].length;
      for (std::int64_t k = x.segments[s].begin; k < end; k += kDepths) {
        const std::int64_t depths = end - k;
        const S *row[kDepths] = {}, *next[kDepths] = {};
        find_rows(x, s, k, kPrefetchRows, row, next);
        P* const out = x.out + (k - x.depth_origin) / kDepths * kP;
        const std::uint32_t* keep = bits_of(x.keep, k);
        for (std::int64_t i = 0; i < x.count; i += kP) {
          P* o = out + i / kP * x.panel_stride;
          const std::int64_t p = x.lane_begin + i;
          if (i < full && depths >= kDepths && contiguous(x.lane_index, p, kP)) {
            const std::int64_t first = at(x.lane_index, p) * step;
            prefetch<kStep>(next, first);
            copy<kStep>(row, first, step, o);
          } else {
            copy_few(x, row, depths, p, x.count - i < kP ? x.count - i : kP, o);
          }
          if (kStep == 1 && kDepths == 1 && keep != nullptr) {
            select_lanes(keep, p, static_cast<int>(x.count - i < kP ? x.count - i : kP), o);
          }
        }
      }
    }
  }

  static void pack(const PackArgs<F>& x) {
    if (magnitude(x.lane_stride) < magnitude(x.depth_stride)) {
      const bool listed = !contiguous(x.lane_index, x.lane_begin, x.count);
      switch (x.lane_stride) {
        case 1:
          return listed ? pack_listed(x) : pack_along_lanes<1>(x);
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
