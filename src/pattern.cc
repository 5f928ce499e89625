// The front end of patterns: checks every argument by name, then hands over to a backend. What of a
// draw happens on the host, its thresholds and a sample of it, is here too.
#include "dropgemm/pattern.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "dropgemm/backend.h"
#include "mask_checks.h"
#include "registry.h"

namespace dropgemm {
namespace {

constexpr std::uint64_t kAlways = std::uint64_t{1} << 32;  // a threshold above every draw
constexpr double kSumTolerance = 1e-6;

Status check_kind(PatternKind kind) {
  if (kind == PatternKind::kRow || kind == PatternKind::kTile) return {};
  return Status::invalid("kind", "row or tile", "code " + std::to_string(static_cast<int>(kind)));
}

Status check_periods(std::int64_t periods) {
  if (periods >= 1 && periods <= kMaxPeriods) return {};
  return Status::invalid("periods", "a number in [1, 2^31]", std::to_string(periods));
}

template <class T>
Status check_pointer(const char* name, const T* pointer, const std::string& what) {
  if (pointer == nullptr) return Status::invalid(name, what, "a null pointer");
  const auto past = reinterpret_cast<std::uintptr_t>(pointer) % alignof(T);
  if (past == 0) return {};
  return Status::invalid(name, "memory aligned to " + std::to_string(alignof(T)) + " bytes",
                         "a pointer " + std::to_string(past) + " past a multiple");
}

// The largest period must come round in every tile row and, in tile patterns, every tile column.
// Period 1 keeps everything, of a mask without tiles too.
Status check_fits(const char* name, PatternKind kind, std::int64_t period,
                  const MutableTileMaskView& mask) {
  const std::int64_t rows = ceil_div(mask.rows, mask.tile_rows);
  const std::int64_t columns = ceil_div(mask.cols, mask.tile_cols);
  const bool is_row = kind == PatternKind::kRow;
  if (period <= std::max<std::int64_t>(1, is_row ? columns : std::min(rows, columns))) return {};
  return Status::invalid(name,
                         is_row ? "at most the mask's " + std::to_string(columns) + " tile columns"
                                : "at most the smaller of the mask's " + std::to_string(rows) +
                                      " tile rows and " + std::to_string(columns) + " tile columns",
                         std::to_string(period));
}

// The smallest period that shares a factor with the skew is a divisor of the skew.
Status check_skew_of_draw(std::int64_t skew, std::int64_t periods) {
  if (skew == 1 || skew == -1) return {};
  for (std::int64_t period = 2; period <= periods; ++period) {
    if (skew % period == 0) {
      return Status::invalid("skew",
                             "an integer coprime to every period in 2.." + std::to_string(periods),
                             std::to_string(skew) + ", which at period " + std::to_string(period) +
                                 " keeps the same tile columns in every tile row");
    }
  }
  return {};
}

Status check_draw(const PatternDraw& draw) {
  DROPGEMM_RETURN_IF_ERROR(check_periods(draw.periods));
  DROPGEMM_RETURN_IF_ERROR(
      check_pointer("thresholds", draw.thresholds, std::to_string(draw.periods) + " thresholds"));
  DROPGEMM_RETURN_IF_ERROR(check_range("site", draw.site, kMaxSite));
  DROPGEMM_RETURN_IF_ERROR(check_step(draw.step));
  if (draw.call_device != nullptr) return {};  // the backend's to clamp
  return check_range("call", draw.call, kMaxCall);
}

Status check_args(const PatternMaskArgs& args) {
  DROPGEMM_RETURN_IF_ERROR(check_mask(args.mask));
  if (args.scale != nullptr) {
    DROPGEMM_RETURN_IF_ERROR(check_pointer("scale", args.scale, "a float"));
  }
  if (args.draw == nullptr) {
    DROPGEMM_RETURN_IF_ERROR(check_pattern(args.kind, args.pattern, args.skew, args.linear_skew));
    return check_fits("period", args.kind, args.pattern.period, args.mask);
  }
  DROPGEMM_RETURN_IF_ERROR(check_kind(args.kind));
  DROPGEMM_RETURN_IF_ERROR(check_draw(*args.draw));
  DROPGEMM_RETURN_IF_ERROR(check_fits("periods", args.kind, args.draw->periods, args.mask));
  if (args.kind == PatternKind::kRow || args.linear_skew) return {};
  return check_skew_of_draw(args.skew, args.draw->periods);
}

}  // namespace

Status check_pattern(PatternKind kind, const Pattern& pattern, std::int64_t skew,
                     bool linear_skew) {
  DROPGEMM_RETURN_IF_ERROR(check_kind(kind));
  if (pattern.period < 1) {
    return Status::invalid("period", "at least 1", std::to_string(pattern.period));
  }
  if (pattern.offset < 0 || pattern.offset >= pattern.period) {
    return Status::invalid("offset",
                           "a number in [0, " + std::to_string(pattern.period) + "), the period",
                           std::to_string(pattern.offset));
  }
  if (kind == PatternKind::kRow || linear_skew) return {};
  const std::int64_t shared = std::gcd(skew % pattern.period, pattern.period);
  if (shared == 1) return {};
  return Status::invalid("skew", "an integer coprime to period " + std::to_string(pattern.period),
                         std::to_string(skew) + ", which drops every tile column c with (c - " +
                             std::to_string(pattern.offset) + ") mod " + std::to_string(shared) +
                             " != 0 in every tile row");
}

Status pattern_mask(const Context& ctx, const PatternMaskArgs& args) {
  DROPGEMM_RETURN_IF_ERROR(check_args(args));
  if (is_empty(args.mask) && args.scale == nullptr) return {};
  const Backend* backend = nullptr;
  DROPGEMM_RETURN_IF_ERROR(resolve_backend(ctx, &backend));
  return call_backend([&](ErrorText error) { return backend->pattern_mask(&ctx, &args, error); });
}

Status pattern_thresholds(const double* probabilities, std::int64_t periods,
                          std::uint64_t* thresholds) {
  DROPGEMM_RETURN_IF_ERROR(check_periods(periods));
  const std::string count = std::to_string(periods);
  DROPGEMM_RETURN_IF_ERROR(check_pointer("probabilities", probabilities, count + " doubles"));
  DROPGEMM_RETURN_IF_ERROR(check_pointer("thresholds", thresholds, "room for " + count));
  double sum = 0;
  for (std::int64_t i = 0; i < periods; ++i) {
    if (!(probabilities[i] >= 0) || std::isinf(probabilities[i])) {
      return Status::invalid(
          "probabilities", "finite numbers of at least 0",
          std::to_string(probabilities[i]) + " for period " + std::to_string(i + 1));
    }
    sum += probabilities[i];
  }
  if (!(std::abs(sum - 1) <= kSumTolerance)) {
    return Status::invalid("probabilities", "a sum within 1e-6 of 1", std::to_string(sum));
  }
  // The same sums in the same order: the last one is `sum` itself, and its share is exactly 1 from
  // the last period on whose probability is not 0.
  double below = 0;
  for (std::int64_t i = 0; i < periods; ++i) {
    below += probabilities[i];
    thresholds[i] = static_cast<std::uint64_t>(below / sum * static_cast<double>(kAlways));
  }
  return {};
}

Status sample_pattern(const PatternDraw& draw, Pattern* pattern) {
  DROPGEMM_RETURN_IF_ERROR(check_draw(draw));
  DROPGEMM_RETURN_IF_ERROR(check_pointer("pattern", pattern, "room for a pattern"));
  std::uint64_t last = 0;
  for (std::int64_t i = 0; i < draw.periods; ++i) {
    const std::uint64_t threshold = draw.thresholds[i];
    if (threshold < last || threshold > kAlways || (i + 1 == draw.periods && threshold < kAlways)) {
      return Status::invalid("thresholds", "numbers that ascend to 2^32",
                             std::to_string(threshold) + " for period " + std::to_string(i + 1));
    }
    last = threshold;
  }
  *pattern = drawn_pattern(draw);
  return {};
}

}  // namespace dropgemm
