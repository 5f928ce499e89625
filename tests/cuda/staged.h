// A backend of a device's memory under suites whose arrays lie on the host: every operand is copied
// to the device, the table is called, and what it wrote is copied back. Around each copy lie guards
// that must come back untouched, and a copy lies as far past a multiple of 256 as the original.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "dropgemm/backend.h"
#include "registry.h"

namespace dropgemm::testing {

// `Where` is a device: static functions allocate(bytes), release(memory), to_device(to, from,
// bytes), to_host(to, from, bytes), synchronize() -> Status, and backend().
template <class Where>
class Staging {
 public:
  Staging() = default;
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;
  ~Staging() {
    for (const Copy& copy : copies_) Where::release(copy.memory);
  }

  template <class T>
  T* in(T* data, std::int64_t count) {
    return static_cast<T*>(add(const_cast<std::remove_const_t<T>*>(data),
                               count * static_cast<std::int64_t>(sizeof(T)), false));
  }
  template <class T>
  T* out(T* data, std::int64_t count) {
    return static_cast<T*>(add(data, count * static_cast<std::int64_t>(sizeof(T)), true));
  }
  MatrixView out(MatrixView m) {
    m.data = add_matrix(m, true);
    return m;
  }
  ConstMatrixView in(ConstMatrixView m) {
    m.data = add_matrix(m, false);
    return m;
  }
  TileMaskView in(TileMaskView mask) {
    const bool turned = mask.transposed;
    const std::int64_t words =
        turned ? mask_words(mask.cols, mask.rows, mask.tile_cols, mask.tile_rows)
               : mask_words(mask.rows, mask.cols, mask.tile_rows, mask.tile_cols);
    mask.bits = in(mask.bits, words);
    return mask;
  }
  const TileMaskView* in(const TileMaskView* mask) {
    if (mask == nullptr) return nullptr;
    masks_.push_back(in(*mask));
    return &masks_.back();
  }
  MutableTileMaskView out(MutableTileMaskView mask) {
    mask.bits = out(mask.bits, mask_words(mask.rows, mask.cols, mask.tile_rows, mask.tile_cols));
    return mask;
  }
  StepRef in(StepRef step) {
    step.device = in(step.device, 1);
    return step;
  }
  Context in(Context ctx) {
    ctx.workspace =
        out(static_cast<char*>(ctx.workspace), static_cast<std::int64_t>(ctx.workspace_bytes));
    return ctx;
  }

  // Waits for the call and brings back what it wrote.
  Status finish() {
    DROPGEMM_RETURN_IF_ERROR(Where::synchronize());
    for (const Copy& copy : copies_) {
      std::vector<char> all(copy.bytes + 2 * kGuard);
      Where::to_host(all.data(), copy.data - kGuard, all.size());
      const auto untouched = [](char c) { return c == kGuardByte; };
      if (!std::all_of(all.begin(), all.begin() + kGuard, untouched) ||
          !std::all_of(all.end() - kGuard, all.end(), untouched)) {
        return {StatusCode::kBackendError, "written outside of an operand"};
      }
      if (copy.written) {
        std::memcpy(copy.host, all.data() + kGuard, copy.bytes);
      } else if (std::memcmp(copy.host, all.data() + kGuard, copy.bytes) != 0) {
        return {StatusCode::kBackendError, "an operand that is only read has changed"};
      }
    }
    return {};
  }

 private:
  static constexpr std::size_t kGuard = 256, kAlignment = 256;
  static constexpr char kGuardByte = 0x5C;

  struct Copy {
    char* host;
    void* memory;
    char* data;
    std::size_t bytes;
    bool written;
  };

  void* add(void* host, std::int64_t bytes, bool written) {
    if (host == nullptr) return nullptr;
    const auto size = static_cast<std::size_t>(bytes);
    Copy copy = {static_cast<char*>(host), Where::allocate(size + 2 * kGuard + 2 * kAlignment),
                 nullptr, size, written};
    const auto begin = reinterpret_cast<std::uintptr_t>(copy.memory) + kGuard;
    const auto wanted = reinterpret_cast<std::uintptr_t>(host) % kAlignment;
    copy.data = static_cast<char*>(copy.memory) + kGuard +
                (wanted + kAlignment - begin % kAlignment) % kAlignment;
    std::vector<char> all(size + 2 * kGuard, kGuardByte);
    std::memcpy(all.data() + kGuard, host, size);
    Where::to_device(copy.data - kGuard, all.data(), all.size());
    copies_.push_back(copy);
    return copy.data;
  }

  void* add_matrix(const ConstMatrixView& m, bool written) {
    if (m.data == nullptr || m.rows <= 0 || m.cols <= 0) return const_cast<void*>(m.data);
    const auto size = static_cast<std::int64_t>(dtype_size(m.dtype));
    const std::int64_t down = (m.rows - 1) * m.row_stride, across = (m.cols - 1) * m.col_stride;
    const std::int64_t first = std::min<std::int64_t>(down, 0) + std::min<std::int64_t>(across, 0);
    const std::int64_t last = std::max<std::int64_t>(down, 0) + std::max<std::int64_t>(across, 0);
    char* const host = static_cast<char*>(const_cast<void*>(m.data)) + first * size;
    return static_cast<char*>(add(host, (last - first + 1) * size, written)) - first * size;
  }

  std::deque<Copy> copies_;
  std::deque<TileMaskView> masks_;
};

// The table that stages the calls of Where::backend()'s.
template <class Where>
class StagedBackend {
 public:
  static const Backend* table() {
    static const Backend staged = make();
    return &staged;
  }

 private:
  // Stages with `stage(staging, &args)`, calls, and finishes where the call went well.
  template <class Args, class Stage, class Call>
  static std::int32_t run(const Context* ctx, const Args* args, ErrorText error, const Stage& stage,
                          const Call& call) {
    const typename Where::Scope scope;
    Staging<Where> staging;
    const Context on_device = staging.in(*ctx);
    Args moved = *args;
    stage(staging, &moved);
    const std::int32_t code = call(&on_device, &moved);
    return code != 0 ? code : report(staging.finish(), error);
  }

  static void stage_gemm(Staging<Where>& s, GemmArgs* args) {
    const std::int64_t m = gemm_shape(*args).m, n = args->d.cols;
    const auto size = static_cast<std::int64_t>(dtype_size(args->a.dtype));
    args->a = s.in(args->a);
    args->b = s.in(args->b);
    args->addend = s.in(args->addend);
    args->grad_aux = s.in(args->grad_aux);
    args->d = s.out(args->d);
    args->aux_out = s.out(args->aux_out);
    args->a_mask = s.in(args->a_mask);
    args->b_mask = s.in(args->b_mask);
    args->d_mask = s.in(args->d_mask);
    args->scale_device = s.in(args->scale_device, 1);
    args->out_scale_device = s.in(args->out_scale_device, 1);
    args->bias = s.in(ConstMatrixView{args->bias, 1, n, 0, args->bias_stride, args->a.dtype}).data;
    args->a_sum = s.out(static_cast<char*>(args->a_sum), m * size);
  }

  static std::int32_t gemm(const Context* ctx, const GemmArgs* args, ErrorText error) {
    return run(ctx, args, error, stage_gemm, [&](const Context* c, const GemmArgs* a) {
      return Where::backend()->gemm(c, a, error);
    });
  }
  static std::int32_t gemm_plan(const Context* ctx, const GemmArgs* args, GemmPlan* plan) {
    return run(ctx, args, {nullptr, 0}, stage_gemm, [&](const Context* c, const GemmArgs* a) {
      return Where::backend()->gemm_plan(c, a, plan);
    });
  }
  static std::int32_t gemm_workspace_bytes(const Context* ctx, const GemmArgs* args,
                                           std::size_t* bytes) {
    return run(ctx, args, {nullptr, 0}, stage_gemm, [&](const Context* c, const GemmArgs* a) {
      return Where::backend()->gemm_workspace_bytes(c, a, bytes);
    });
  }
  static std::int32_t bernoulli_mask(const Context* ctx, const BernoulliMaskArgs* args,
                                     ErrorText error) {
    const auto stage = [](Staging<Where>& s, BernoulliMaskArgs* a) {
      a->mask = s.out(a->mask);
      a->step = s.in(a->step);
      a->seed_device = s.in(a->seed_device, 1);
    };
    return run(ctx, args, error, stage, [&](const Context* c, const BernoulliMaskArgs* a) {
      return Where::backend()->bernoulli_mask(c, a, error);
    });
  }
  static std::int32_t gyro_mask(const Context* ctx, const GyroMaskArgs* args, ErrorText error) {
    const auto stage = [](Staging<Where>& s, GyroMaskArgs* a) {
      a->mask = s.out(a->mask);
      a->step = s.in(a->step);
    };
    return run(ctx, args, error, stage, [&](const Context* c, const GyroMaskArgs* a) {
      return Where::backend()->gyro_mask(c, a, error);
    });
  }
  static std::int32_t pattern_mask(const Context* ctx, const PatternMaskArgs* args,
                                   ErrorText error) {
    PatternDraw draw;
    const auto stage = [&](Staging<Where>& s, PatternMaskArgs* a) {
      a->mask = s.out(a->mask);
      a->scale = s.out(a->scale, 1);
      if (a->draw == nullptr) return;
      draw = *a->draw;
      draw.thresholds = s.in(draw.thresholds, draw.periods);
      draw.step = s.in(draw.step);
      draw.call_device = s.in(draw.call_device, 1);
      a->draw = &draw;
    };
    return run(ctx, args, error, stage, [&](const Context* c, const PatternMaskArgs* a) {
      return Where::backend()->pattern_mask(c, a, error);
    });
  }
  static std::int32_t gather(const Context* ctx, const CompactArgs* args, ErrorText error) {
    const auto stage = [](Staging<Where>& s, CompactArgs* a) {
      a->x = s.in(a->x);
      a->xc = s.out(a->xc);
      a->mask = s.in(a->mask);
    };
    return run(ctx, args, error, stage, [&](const Context* c, const CompactArgs* a) {
      return Where::backend()->gather(c, a, error);
    });
  }
  static std::int32_t scatter(const Context* ctx, const ExpandArgs* args, ErrorText error) {
    const auto stage = [](Staging<Where>& s, ExpandArgs* a) {
      a->xc = s.in(a->xc);
      a->x = s.out(a->x);
      a->mask = s.in(a->mask);
    };
    return run(ctx, args, error, stage, [&](const Context* c, const ExpandArgs* a) {
      return Where::backend()->scatter(c, a, error);
    });
  }
  static std::int32_t sgd(const Context* ctx, const SgdArgs* args, ErrorText error) {
    const auto stage = [](Staging<Where>& s, SgdArgs* a) {
      const std::int64_t bytes = a->size * static_cast<std::int64_t>(dtype_size(a->dtype));
      a->w = s.out(static_cast<char*>(a->w), bytes);
      a->g = s.in(static_cast<const char*>(a->g), bytes);
      a->v = s.out(static_cast<char*>(a->v), bytes);
    };
    return run(ctx, args, error, stage, [&](const Context* c, const SgdArgs* a) {
      return Where::backend()->sgd(c, a, error);
    });
  }

  static Backend make() {
    Backend staged = *Where::backend();
    staged.gemm_plan = gemm_plan;
    staged.gemm_workspace_bytes = gemm_workspace_bytes;
    staged.gemm = gemm;
    staged.bernoulli_mask = bernoulli_mask;
    staged.gyro_mask = gyro_mask;
    staged.pattern_mask = pattern_mask;
    staged.gather = gather;
    staged.scatter = scatter;
    staged.sgd = sgd;
    return staged;
  }
};

}  // namespace dropgemm::testing
