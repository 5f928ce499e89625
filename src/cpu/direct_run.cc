// Running a product over operands where they lie: sweeps of a panel of rows of the left operand
// along windows of the right one, and what becomes of their sums.
#include <algorithm>

#include "cpu/direct.h"

namespace dropgemm::cpu {
namespace {

template <class F>
class Runner {
 public:
  typedef typename F::Sum T;

  Runner(const Product<F>& p, const DirectProduct<F>& d, const Epilogue<typename F::Storage>& e,
         int thread)
      : p_(p), d_(d), e_(e), mr_(p.kernels->mr), nr_(p.kernels->nr), s_(d.scratch_of(p, thread)),
        pruned_(p.plan.path == GemmPath::kPruned), keeps_sums_(d.turned || p.k > d.k_block),
        straight_(!keeps_sums_ && is_product_only()) {}

  void pack_window(std::int64_t w) const {
    const Window& window = d_.windows[w];
    const Segment all = {0, static_cast<std::int32_t>(p_.k)};
    PackArgs<F> x = pack_args(d_.right, window.begin, window.count, &all);
    x.out = d_.packed_right + window.offset;
    (d_.packed_stride == nr_ ? p_.kernels->pack_b : p_.kernels->pack_a)(x);
  }

  void run_item(std::int64_t item) {
    cut(item);
    for (k0_ = 0; k0_ < p_.k; k0_ = k1_) {
      k1_ = std::min(p_.k, k0_ + d_.k_block);
      std::int64_t listed = -1;
      for (std::int64_t panel = panels0_; panel < panels1_; ++panel) {
        if (d_.packs_left) pack_left(panel);
        if (listed != unit_of(panel)) list_runs(unit_of(panel));
        listed = unit_of(panel);
        sweep(panel);
      }
    }
    if (d_.turned) store_turned();
  }

 private:
  // ---- a work item ------------------------------------------------------------------------------

  void cut(std::int64_t item) {
    // Columns of D that are stored together stay together.
    const std::int64_t whole = d_.streams_left && d_.turned ? d_.rows.per_unit() : 1;
    const std::int64_t streamed = d_.streams_left ? d_.rows.count() : d_.num_windows;
    const std::int64_t wholes = (streamed + whole - 1) / whole;
    const std::int64_t first = wholes * item / d_.items * whole;
    const std::int64_t last = std::min(streamed, wholes * (item + 1) / d_.items * whole);
    panels0_ = d_.streams_left ? first : 0;
    panels1_ = d_.streams_left ? last : d_.rows.count();
    windows0_ = d_.streams_left ? 0 : first;
    windows1_ = d_.streams_left ? d_.num_windows : last;
    const Axis& n = p_.axes.n;
    for (std::int64_t w = windows0_; w < windows1_; ++w) {
      const Window& window = d_.windows[w];
      const std::int64_t slot = keeps_sums_ ? w - windows0_ : w % kTilesAtOnce;
      s_.sums[w] = {window.offset, slot * mr_ * nr_};
      if (straight_) s_.places[w] = {window.offset, n.first + n.offset(window.begin)};
    }
  }

  // ---- the depth --------------------------------------------------------------------------------

  // Units of the left operand; and, of the right one, the unit of a window.
  [[nodiscard]] std::int64_t unit_of(std::int64_t panel) const {
    return pruned_ ? d_.rows.begin(panel) / d_.left.unit : 0;
  }
  [[nodiscard]] std::int64_t right_unit_of(std::int64_t w) const {
    return pruned_ ? d_.windows[w].begin / d_.right.unit : 0;
  }
  [[nodiscard]] bool kept_in_d(std::int64_t left, std::int64_t right) const {
    return !pruned_ || (d_.turned ? p_.units.d.get(right, left) : p_.units.d.get(left, right));
  }

  // Where depth `k` lies, in strides.
  [[nodiscard]] std::int32_t depth(std::int64_t k) const {
    const std::int32_t* index = p_.axes.k.index;
    return index != nullptr ? index[k] : static_cast<std::int32_t>(k);
  }

  [[nodiscard]] DepthRun run(std::int64_t begin, std::int64_t end) const {
    const auto packed = static_cast<std::int32_t>(begin);
    const std::int64_t ahead = std::min(begin + d_.k_block, p_.k - (end - begin));
    return {d_.packs_left ? packed : depth(begin), d_.packs_right ? packed : depth(begin),
            depth(ahead), static_cast<std::int32_t>(end - begin)};
  }

  // The depth of this pass for each unit of the right operand: runs that neither operand
  // interrupts.
  void list_runs(std::int64_t left_unit) {
    if (pruned_) {
      const std::int64_t last = right_unit_of(windows1_ - 1);
      for (std::int64_t u = right_unit_of(windows0_); u <= last; ++u) list_unit(left_unit, u);
      return;
    }
    std::int32_t count = 0;
    for (std::int64_t k = k0_; k < k1_;) {
      std::int64_t end = p_.axes.k.index != nullptr ? k + 1 : k1_;
      while (end < k1_ && depth(end) == depth(end - 1) + 1) ++end;
      s_.runs[count++] = run(k, end);
      k = end;
    }
    s_.num_runs[0] = count;
  }

  void list_unit(std::int64_t left, std::int64_t right) {
    std::int32_t& count = s_.num_runs[right];
    count = 0;
    if (!kept_in_d(left, right)) return;
    count = d_.turned ? p_.units.segments(right, left, k0_, k1_, s_.segments)
                      : p_.units.segments(left, right, k0_, k1_, s_.segments);
    for (std::int32_t i = 0; i < count; ++i) {
      const std::int64_t begin = k0_ + s_.segments[i].begin;
      s_.runs[right * d_.runs_per_unit + i] = run(begin, begin + s_.segments[i].length);
    }
  }

  // ---- packing ----------------------------------------------------------------------------------

  PackArgs<F> pack_args(const typename DirectProduct<F>::Side& side, std::int64_t begin,
                        std::int64_t count, const Segment* depth) const {
    PackArgs<F> x{};
    x.source = side.source;
    x.lane_stride = side.lane_stride;
    x.depth_stride = side.depth_stride;
    x.lane_index = side.axis->index;
    x.lane_begin = begin;
    x.count = count;
    x.depth_index = p_.axes.k.index;
    x.segments = depth;
    x.num_segments = 1;
    return x;
  }

  void pack_left(std::int64_t panel) const {
    const Segment all = {0, static_cast<std::int32_t>(p_.k)};
    PackArgs<F> x = pack_args(d_.left, d_.rows.begin(panel), d_.rows.width(panel, panel + 1), &all);
    x.out = s_.packed_left;
    p_.kernels->pack_a(x);
  }

  // ---- multiplication ---------------------------------------------------------------------------

  // Sums of the panel's tile that sums[w].out counts from.
  [[nodiscard]] T* acc_of(std::int64_t panel) const {
    if (!keeps_sums_) return s_.acc;
    return s_.acc + (panel - panels0_) * (windows1_ - windows0_) * mr_ * nr_;
  }

  // Where the windows from `w` on end that one call may take.
  [[nodiscard]] std::int64_t group_end(std::int64_t w) const {
    const Window& first = d_.windows[w];
    const bool places = straight_ && first.whole;
    const std::int64_t limit = keeps_sums_ || places
                                   ? windows1_
                                   : std::min(windows1_, (w / kTilesAtOnce + 1) * kTilesAtOnce);
    std::int64_t end = w + 1;
    while (end < limit && d_.windows[end].width == first.width &&
           (!straight_ || d_.windows[end].whole == first.whole) &&
           right_unit_of(end) == right_unit_of(w)) {
      ++end;
    }
    return end;
  }

  void point_rows(std::int64_t panel, const T** rows) const {
    const std::int64_t begin = d_.rows.begin(panel), count = d_.rows.width(panel, panel + 1);
    const std::int32_t* index = d_.left.axis->index;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t at = index != nullptr ? index[begin + i] : begin + i;
      rows[i] = d_.packs_left ? s_.packed_left + i : d_.left.source + at * d_.left.lane_stride;
    }
  }

  void point_places(std::int64_t panel, T** out) const {
    const std::int64_t begin = d_.rows.begin(panel), count = d_.rows.width(panel, panel + 1);
    const std::int32_t* index = p_.axes.m.index;
    for (std::int64_t i = 0; i < count; ++i) {
      out[i] = e_.d.data + (index != nullptr ? index[begin + i] : begin + i) * e_.d.row_stride;
    }
  }

  // Everything of a panel's calls but what a group of windows has of its own.
  DirectArgs<T> panel_args(const T* const* rows) const {
    DirectArgs<T> x{};
    x.rows = rows;
    x.left_stride = d_.packs_left ? mr_ : d_.left.depth_stride;
    x.right = d_.packs_right ? d_.packed_right : d_.right.source;
    x.right_stride = d_.packs_right ? d_.packed_stride : d_.right.depth_stride;
    x.adds = k0_ > 0;
    x.scale = x.out_scale = T(1);
    return x;
  }

  void sweep(std::int64_t panel) {
    const T *rows[kMaxRows], *next[kMaxRows];
    T *sums[kMaxRows], *places[kMaxRows];
    const std::int64_t count = d_.rows.width(panel, panel + 1);
    point_rows(panel, rows);
    for (std::int64_t i = 0; i < count; ++i) sums[i] = acc_of(panel) + i * nr_;
    if (straight_) point_places(panel, places);
    DirectArgs<T> x = panel_args(rows);
    // The next of what is streamed is asked for while the last of the other operand meets this.
    x.looks_ahead = !d_.streams_left && panel + 1 == panels1_ && k1_ < p_.k;
    const bool asks = d_.streams_left && !d_.packs_left && panel + 1 < panels1_ &&
                      d_.rows.width(panel + 1, panel + 2) == count;
    if (asks) point_rows(panel + 1, next);
    for (std::int64_t w = windows0_; w < windows1_;) {
      const std::int64_t end = group_end(w);
      const bool places_it = straight_ && d_.windows[w].whole;
      x.next_rows = asks && end == windows1_ ? next : nullptr;
      x.out = places_it ? places : sums;
      x.tiles = (places_it ? s_.places : s_.sums) + w;
      x.scale = places_it ? e_.scale : T(1);
      x.out_scale = places_it ? e_.out_scale : T(1);
      x.around = places_it && goes_around(x, count, end - w);
      const bool kept = kept_in_d(unit_of(panel), right_unit_of(w));
      if (kept) multiply(w, end, count, x);
      if (k1_ == p_.k && !d_.turned) {
        if (!kept) clear(panel, w, end);
        if (kept && !places_it) store(panel, w, end);
      }
      w = end;
    }
  }

  void multiply(std::int64_t w, std::int64_t end, std::int64_t rows, DirectArgs<T>& x) const {
    const std::int64_t unit = right_unit_of(w);
    x.runs = s_.runs + unit * d_.runs_per_unit;
    x.num_runs = s_.num_runs[unit];
    x.num_tiles = static_cast<std::int32_t>(end - w);
    p_.kernels->direct.multiply[d_.windows[w].width][rows - 1](x);
  }

  // ---- results ----------------------------------------------------------------------------------

  // Whether the epilogue is but the factors, and D's rows are contiguous.
  [[nodiscard]] bool is_product_only() const {
    return e_.d.col_stride == 1 && !p_.axes.n.fills_between && e_.bias == nullptr &&
           e_.activation == 0 && e_.addend.data == nullptr && e_.aux_out.data == nullptr &&
           e_.grad_aux.data == nullptr &&
           (p_.plan.path != GemmPath::kSelect || p_.args->d_mask == nullptr);
  }

  [[nodiscard]] bool goes_around(const DirectArgs<T>& x, std::int64_t rows,
                                 std::int64_t tiles) const {
    const auto in_lines = [](const T* p) { return reinterpret_cast<std::uintptr_t>(p) % 64 == 0; };
    constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
    if (!e_.stream || p_.kernels->direct.width[0] % kLine != 0) return false;
    for (std::int64_t i = 0; i < rows; ++i) {
      if (!in_lines(x.out[i])) return false;
    }
    for (std::int64_t i = 0; i < tiles; ++i) {
      if (x.tiles[i].out % kLine != 0) return false;
    }
    return true;
  }

  // What D drops of these windows.
  void clear(std::int64_t panel, std::int64_t w, std::int64_t end) const {
    if (p_.args->out_fill != OutFill::kZero) return;
    const std::int64_t m = d_.rows.begin(panel), rows = d_.rows.width(panel, panel + 1);
    const Window& last = d_.windows[end - 1];
    for (std::int64_t i = m; i < m + rows; ++i) {
      write_zeros(p_, e_, i, d_.windows[w].begin, last.begin + last.count);
    }
  }

  // What is kept of a window, side by side; returns where.
  T* bring_together(const Window& window, T* acc, std::int64_t rows) const {
    if (!window.gathers) return acc + window.lane;
    const Axis& axis = *d_.right.axis;
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < window.count; ++j) {
        acc[i * nr_ + j] = acc[i * nr_ + axis.offset(window.begin + j) - window.offset];
      }
    }
    return acc;
  }

  void store(std::int64_t panel, std::int64_t w, std::int64_t end) const {
    const std::int64_t rows = d_.rows.width(panel, panel + 1);
    for (; w < end; ++w) {
      const Window& window = d_.windows[w];
      const T* sums = bring_together(window, acc_of(panel) + s_.sums[w].out, rows);
      store_tile(p_, e_, tile_at(p_, sums, d_.rows.begin(panel), rows, window.begin, window.count));
    }
  }

  // The item's part of D: units of rows of the left operand become columns.
  void store_turned() const {
    const std::int64_t per_unit = d_.rows.per_unit();
    for (std::int64_t first = panels0_; first < panels1_; first += per_unit) {
      const std::int64_t last = std::min(first + per_unit, panels1_), n = d_.rows.begin(first);
      for (std::int64_t w = windows0_; w < windows1_; ++w) {
        const Window& window = d_.windows[w];
        std::int64_t cols = 0;
        for (std::int64_t panel = first; panel < last; ++panel) {
          const std::int64_t rows = d_.rows.width(panel, panel + 1);
          const T* sums = bring_together(window, acc_of(panel) + s_.sums[w].out, rows);
          for (std::int64_t i = 0; i < window.count; ++i) {
            for (std::int64_t j = 0; j < rows; ++j) {
              s_.turned[i * nr_ + cols + j] = sums[j * nr_ + i];
            }
          }
          cols += rows;
        }
        if (kept_in_d(unit_of(first), right_unit_of(w))) {
          store_tile(p_, e_, tile_at(p_, s_.turned, window.begin, window.count, n, cols));
        } else if (p_.args->out_fill == OutFill::kZero) {
          for (std::int64_t i = 0; i < window.count; ++i) {
            write_zeros(p_, e_, window.begin + i, n, n + cols);
          }
        }
      }
    }
  }

  const Product<F>& p_;
  const DirectProduct<F>& d_;
  const Epilogue<typename F::Storage>& e_;
  const std::int64_t mr_, nr_;
  const typename DirectProduct<F>::Scratch s_;
  const bool pruned_, keeps_sums_, straight_;
  std::int64_t panels0_ = 0, panels1_ = 0, windows0_ = 0, windows1_ = 0;  // of the work item
  std::int64_t k0_ = 0, k1_ = 0;                                          // of the pass
};

}  // namespace

template <class F>
void run_direct(const Product<F>& p, const DirectProduct<F>& d,
                const Epilogue<typename F::Storage>& epilogue, int thread) {
  if constexpr (F::kReadsInPlace) {
    if (d.dots) return run_dots(p, d, epilogue, thread);
    Runner<F> runner(p, d, epilogue, thread);
    if (d.packs_right) {
#pragma omp for schedule(dynamic, 1)
      for (std::int64_t w = 0; w < d.num_windows; ++w) runner.pack_window(w);
    }
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t item = 0; item < d.items; ++item) runner.run_item(item);
  }
}

#define DROPGEMM_INSTANTIATE(F)                                           \
  template void run_direct<F>(const Product<F>&, const DirectProduct<F>&, \
                              const Epilogue<typename F::Storage>&, int);
DROPGEMM_FOR_EACH_FORMAT(DROPGEMM_INSTANTIATE)

}  // namespace dropgemm::cpu
