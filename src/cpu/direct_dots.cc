// Products of few rows, of operands that both lie along the depth: a forward product of a small
// batch, or of few outputs. Each element of D is the product of two rows, vector times vector.
#include <algorithm>

#include "cpu/direct.h"

namespace dropgemm::cpu {
namespace {

// More of the few rows at a time would leave too few registers to the others.
constexpr std::int64_t kDotsAtOnce = 6;

template <class F>
class Dots {
 public:
  typedef typename F::Sum T;

  Dots(const Product<F>& p, const DirectProduct<F>& d, const Epilogue<typename F::Storage>& e,
       int thread)
      : p_(p), d_(d), e_(e), nr_(p.kernels->nr), tile_(p.kernels->mr * nr_),
        many_(d.streams_left ? p.m : p.n), few_(d.streams_left ? p.n : p.m),
        s_(d.scratch_of(p, thread)) {}

  // Panels of the many rows, a block of depth after the other: there the few rows stay close.
  void run_item(std::int64_t item) const {
    const std::int64_t first = many_.count() * item / d_.items;
    const std::int64_t last = many_.count() * (item + 1) / d_.items;
    for (std::int64_t k0 = 0; k0 < p_.k; k0 += d_.k_block) {
      std::int64_t listed = -1;
      std::int32_t runs = 0;
      for (std::int64_t panel = first; panel < last; ++panel) {
        const std::int64_t unit = unit_of(panel);
        if (unit != listed) runs = list_runs(unit, k0, std::min(p_.k, k0 + d_.k_block));
        listed = unit;
        if (kept_in_d(unit)) multiply(panel, sums_of(panel - first), runs, k0 > 0);
      }
    }
    for (std::int64_t panel = first; panel < last; ++panel) store(panel, sums_of(panel - first));
  }

 private:
  // Of the many rows; the few are one unit.
  [[nodiscard]] std::int64_t unit_of(std::int64_t panel) const { return many_.unit_of(panel); }
  [[nodiscard]] std::int64_t m_of(std::int64_t unit) const { return d_.streams_left ? unit : 0; }
  [[nodiscard]] std::int64_t n_of(std::int64_t unit) const { return d_.streams_left ? 0 : unit; }
  [[nodiscard]] bool kept_in_d(std::int64_t unit) const {
    return p_.plan.path != GemmPath::kPruned || p_.units.d.get(m_of(unit), n_of(unit));
  }

  // The tiles of a panel of many rows, one for each panel of few.
  [[nodiscard]] T* sums_of(std::int64_t panel) const {
    return s_.acc + panel * few_.count() * tile_;
  }

  // What is kept of [k0, k1), where it lies.
  std::int32_t list_runs(std::int64_t unit, std::int64_t k0, std::int64_t k1) const {
    Segment* const out = s_.segments;
    std::int32_t count = 0;
    if (p_.plan.path == GemmPath::kPruned) {
      count = p_.units.segments(m_of(unit), n_of(unit), k0, k1, out);
      for (std::int32_t i = 0; i < count; ++i) out[i].begin += static_cast<std::int32_t>(k0);
      return count;
    }
    const Axis& depth = p_.axes.k;
    for (std::int64_t k = k0; k < k1;) {
      std::int64_t end = depth.index != nullptr ? k + 1 : k1;
      while (end < k1 && depth.index[end] == depth.index[end - 1] + 1) ++end;
      out[count++] = {static_cast<std::int32_t>(depth.offset(k)),
                      static_cast<std::int32_t>(end - k)};
      k = end;
    }
    return count;
  }

  // `count` rows from `begin` on; where there are no more, the last.
  static void point(const typename DirectProduct<F>::Side& side, std::int64_t size,
                    std::int64_t begin, std::int64_t count, const T** rows) {
    const std::int32_t* index = side.axis->index;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t at = std::min(begin + i, size - 1);
      rows[i] = side.source + (index != nullptr ? index[at] : at) * side.lane_stride;
    }
  }

  void multiply(std::int64_t panel, T* sums, std::int32_t runs, bool adds) const {
    constexpr std::int64_t kMost = 32;  // lanes of a panel
    const T *few[kMaxRows], *many[kMost + kDotsAhead];
    const auto& many_side = d_.streams_left ? d_.left : d_.right;
    const auto& few_side = d_.streams_left ? d_.right : d_.left;
    DotArgs<T> x{};
    x.few = few;
    x.many = many;
    x.num_many = static_cast<std::int32_t>(many_.width(panel, panel + 1));
    x.runs = s_.segments;
    x.num_runs = runs;
    x.few_stride = d_.streams_left ? 1 : nr_;
    x.many_stride = d_.streams_left ? nr_ : 1;
    x.adds = adds;
    point(many_side, many_.size, many_.begin(panel), x.num_many + kDotsAhead, many);
    for (std::int64_t other = 0; other < few_.count(); ++other) {
      const std::int64_t width = few_.width(other, other + 1);
      const std::int64_t most = std::min<std::int64_t>(p_.kernels->mr, kDotsAtOnce);
      const std::int64_t calls = (width + most - 1) / most;  // of as many rows each
      for (std::int64_t call = 0; call < calls; ++call) {
        const std::int64_t begin = width * call / calls, end = width * (call + 1) / calls;
        point(few_side, few_.size, few_.begin(other) + begin, end - begin, few);
        x.sums = sums + other * tile_ + begin * x.few_stride;
        // NOLINTNEXTLINE(clang-analyzer-security.ArrayBound): width >= calls, so a call has a row
        p_.kernels->direct.dots[end - begin - 1](x);
      }
    }
  }

  void store(std::int64_t panel, const T* sums) const {
    const bool kept = kept_in_d(unit_of(panel));
    if (!kept && p_.args->out_fill != OutFill::kZero) return;
    for (std::int64_t other = 0; other < few_.count(); ++other) {
      const std::int64_t m = d_.streams_left ? panel : other, n = d_.streams_left ? other : panel;
      if (kept) {
        store_tile(p_, e_,
                   tile_at(p_, sums + other * tile_, p_.m.begin(m), p_.m.width(m, m + 1),
                           p_.n.begin(n), p_.n.width(n, n + 1)));
      } else {
        zero_tile(p_, e_, m, n);
      }
    }
  }

  const Product<F>& p_;
  const DirectProduct<F>& d_;
  const Epilogue<typename F::Storage>& e_;
  const std::int64_t nr_, tile_;  // of a tile's elements
  const Panels &many_, &few_;
  const typename DirectProduct<F>::Scratch s_;
};

}  // namespace

template <class F>
void run_dots(const Product<F>& p, const DirectProduct<F>& d,
              const Epilogue<typename F::Storage>& epilogue, int thread) {
  if constexpr (F::kReadsInPlace) {
    const Dots<F> dots(p, d, epilogue, thread);
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t item = 0; item < d.items; ++item) dots.run_item(item);
  }
}

#define DROPGEMM_INSTANTIATE(F)                                         \
  template void run_dots<F>(const Product<F>&, const DirectProduct<F>&, \
                            const Epilogue<typename F::Storage>&, int);
DROPGEMM_FOR_EACH_FORMAT(DROPGEMM_INSTANTIATE)

}  // namespace dropgemm::cpu
